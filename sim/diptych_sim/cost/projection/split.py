# SPDX-License-Identifier: BSD-2-Clause
"""Prefill on one system, decode on another, the KV cache over a link between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych_sim.cost.projection.job import Job, ProjectionError
from diptych_sim.cost.projection.parameters import Parameters
from diptych_sim.cost.projection.project import Projection, memory_bytes, project
from diptych_sim.cost.systems.schema import System

__all__ = ["LINK_SHARE", "Split", "link_of", "link_share", "split"]

LINK_SHARE = 0.49
"""Share of a network that a hand-off reaches: 146 MB in 1.50 ms over 8 x 200 Gb/s (Mooncake with
vLLM, Qwen3-8B, 1,024 tokens)."""
OWN_LINK_SHARE = 0.8
"""The same of our KV link: 2,404 bytes of KV and 612 of framing, as measured."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """A batch whose prompts one system reads and whose answers another writes."""

    prefill: Projection
    decode: Projection
    link_gbps: float
    kv_bytes: float
    """Of the prompts of a batch, handed over once."""

    @property
    def fits(self) -> bool:
        """Whether one side holds weights and prompts, and the other what a whole request takes.

        The HBM of our prefill panel is as large as a run needs it.
        """
        first = self.prefill
        prompts = replace(first.job, tokens=0).resident_bytes
        holds = prompts <= first.chips * memory_bytes(first.system)
        return (holds or first.system.kind == "diptych") and self.decode.fits

    @property
    def transfer(self) -> float:
        """Seconds of the whole KV cache on the link."""
        return self.kv_bytes / (self.link_gbps / 8 * 1e9 * link_share(self.prefill.system))

    @property
    def serial(self) -> float:
        """Seconds from the first token to the start of decode, all handed over after prefill."""
        return self.transfer

    @property
    def layer_wise(self) -> float:
        """The same where a layer crosses while the next is computed: what prefill does not hide."""
        layers = self.decode.job.model.layers
        hidden = self.prefill.ttft * (layers - 1) / layers
        return max(self.transfer / layers, self.transfer - hidden)

    def request(self, wait: float) -> float:
        """Seconds of a whole request that waits so long for its KV cache."""
        return self.prefill.ttft + wait + max(0, self.decode.job.tokens - 1) * self.decode.tpot

    @property
    def prefill_per_decode(self) -> float:
        """Prefill systems that keep one decode system busy."""
        answer = max(1, self.decode.job.tokens - 1) * self.decode.tpot
        return self.prefill.ttft / answer


def link_share(prefill: System) -> float:
    """Return the share of its link that a system reaches."""
    return OWN_LINK_SHARE if prefill.kind == "diptych" else LINK_SHARE


def link_of(prefill: System, chips: int, gbps: float | None) -> float:
    """Return the link in Gbit/s: as given, or the network of all chips of the prefill system.

    That of our machine is its KV link.

    Raises
    ------
    ProjectionError
        If it is not given, and nobody publishes the network.
    """
    if gbps is not None:
        return gbps
    if prefill.kind == "diptych":
        return 8e-3 * prefill.need("link_bytes_per_cycle") * prefill.need("clock_mhz")
    out = prefill.get("scale_out_gbps")
    if out is None:
        raise ProjectionError(
            f"Link (--link-gbps) must be given: nobody publishes scale_out_gbps of {prefill.id}"
        )
    return 8 * out * chips


def split(
    prefill: System,
    decode: System,
    job: Job,
    p: Parameters,
    *,
    prefill_chips: int | None = None,
    decode_chips: int | None = None,
    link_gbps: float | None = None,
) -> Split:
    """Project a job on two systems, each on the least number of chips unless it is given.

    Raises
    ------
    ProjectionError
        If nobody publishes what it takes.
    """
    first = project(prefill, job, p, prefill_chips)
    second = project(decode, job, p, decode_chips)
    return Split(
        prefill=first,
        decode=second,
        link_gbps=link_of(prefill, first.chips, link_gbps),
        kv_bytes=job.batch * job.model.kv_bytes(first.job.form, job.prompt_tokens),
    )
