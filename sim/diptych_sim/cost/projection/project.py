# SPDX-License-Identifier: BSD-2-Clause
"""Both phases of a job on a system, with what follows: TTFT, TPOT, rates, energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from diptych_sim.cost.projection import accelerator, own_machine, wafer
from diptych_sim.cost.projection.job import Job, Phase, ProjectionError
from diptych_sim.cost.projection.parameters import Parameters
from diptych_sim.cost.systems.schema import System

__all__ = [
    "METRICS",
    "Projection",
    "decode_pass",
    "least_chips",
    "memory_bytes",
    "metric",
    "prefill_pass",
    "prepared",
    "project",
]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A job on a number of chips of a system."""

    system: System
    job: Job
    chips: int
    fits: bool
    """Whether the memory of the chips holds weights and KV cache."""
    prefill: Phase
    decode: Phase
    """A token of every request, at the mean position of the answer."""

    @property
    def ttft(self) -> float:
        """Seconds to the first token."""
        return self.prefill.seconds

    @property
    def tpot(self) -> float:
        """Seconds of each following token."""
        return self.decode.seconds

    @property
    def user_rate(self) -> float:
        """Tokens a second of one request, after the first."""
        return 1 / self.tpot

    @property
    def total_rate(self) -> float:
        """Tokens a second of all requests, prompts included in the time."""
        count = max(1, self.job.tokens)
        return self.job.batch * count / (self.ttft + (count - 1) * self.tpot)

    @property
    def joules(self) -> float | None:
        """Joules a token of the answer in decode, at the published power; None without one."""
        watts = self.system.get("watts")
        return None if watts is None else watts * self.chips * self.tpot / self.job.batch


def prepared(system: System, job: Job) -> Job:
    """Return the job as a system runs it: our machine has a number format of its own.

    Raises
    ------
    ProjectionError
        That names the figures that nobody publishes, or what our machine cannot be.
    """
    if system.kind == "unpublished" or system.missing:
        what = ", ".join(system.missing) or "anything"
        raise ProjectionError(f"{system.name} ({system.id}): nobody publishes {what}")
    if system.kind != "diptych":
        return job
    try:
        own_machine.machine_of(system)
    except ValueError as error:
        raise ProjectionError(f"{system.name} ({system.id}): {error}") from None
    return replace(job, dtype="own")


_ROOMS = {"accelerator": accelerator, "wafer": wafer, "diptych": own_machine}


def memory_bytes(system: System) -> float:
    """Return the bytes of a chip for weights and KV cache."""
    if system.kind == "diptych":
        machine = own_machine.machine_of(system)
        return machine.tiles * machine.sram_bytes
    return 1e9 * system.need("memory_gb")


def least_chips(system: System, job: Job) -> int:
    """Return the least number of chips that hold a job: a power of two, any of wafers, one of ours."""
    if system.kind == "diptych":
        return 1
    if system.kind == "wafer":
        return wafer.least_wafers(system, job)
    return accelerator.least_chips(system, job)


def decode_pass(system: System, job: Job, chips: int, p: Parameters, position: float) -> Phase:
    """Return the pass that makes a token of every request at ``position``."""
    return _ROOMS[system.kind].decode_pass(system, job, chips, p, position)


def prefill_pass(system: System, job: Job, chips: int, p: Parameters) -> Phase:
    """Return the pass over all prompts."""
    return _ROOMS[system.kind].prefill_pass(system, job, chips, p)


def project(system: System, job: Job, p: Parameters, chips: int | None = None) -> Projection:
    """Project a job; without ``chips`` on the least number that holds it.

    Raises
    ------
    ProjectionError
        If nobody publishes what it takes.
    """
    job = prepared(system, job)
    count = chips if chips is not None else least_chips(system, job)
    return Projection(
        system=system,
        job=job,
        chips=count,
        fits=job.resident_bytes <= count * memory_bytes(system),
        prefill=prefill_pass(system, job, count, p),
        decode=decode_pass(system, job, count, p, job.mean_position),
    )


def metric(projection: Projection, name: str) -> float:
    """Return a metric as it is published.

    ``tokens_per_second`` of one request is the rate of decode; of a batch, all tokens over the
    whole time, prompts included. Without tokens of an answer it is the rate of the prompt, and
    ``cycles_per_token`` those of a token of the prompt.

    Raises
    ------
    ProjectionError
        If the system has no clock to count cycles by.
    """
    job = projection.job
    if name == "tpot_ms":
        return 1e3 * projection.tpot
    if name == "ttft_ms":
        return 1e3 * projection.ttft
    if name == "tokens_per_second" and not job.tokens:
        return job.batch * job.prompt_tokens / projection.ttft
    if name == "tokens_per_second":
        return projection.user_rate if job.batch == 1 else projection.total_rate
    phase = projection.decode if job.tokens else projection.prefill
    if phase.cycles is None:
        raise ProjectionError(
            f"cycles_per_token of {projection.system.id}: nobody publishes a clock"
        )
    return phase.cycles / (job.batch * (1 if job.tokens else job.prompt_tokens))


METRICS: Mapping[str, str] = {
    "tokens_per_second": "tokens a second: of one request in decode, of a batch over the whole time",
    "tpot_ms": "milliseconds of a token after the first",
    "ttft_ms": "milliseconds to the first token",
    "cycles_per_token": "cycles of a token; of the prompt, where output_tokens is 0",
}
"""Metrics of published rows."""
