# SPDX-License-Identifier: BSD-2-Clause
"""Accelerators with memory beside the chip: bytes, products, and latency by layer."""

from __future__ import annotations

import math

from diptych_sim.cost.projection.job import Job, Phase
from diptych_sim.cost.projection.parameters import Parameters
from diptych_sim.cost.systems.schema import System

__all__ = ["decode_pass", "least_chips", "peak", "prefill_pass"]

_LEAST_DOMAIN = 8
"""Chips that share a layer where nothing is published."""
_WIDER = {"fp4": ("fp4_tflops", "fp8_tflops", "bf16_tflops"), "fp8": ("fp8_tflops", "bf16_tflops")}
_REACHED = {"fp8_tflops": "matmul_share_fp8"}
_DEFAULT_REACHED = 0.8
"""Share of a peak that products reach where nobody measured it: about the mean of the others."""
_ACTIVATION_BYTES = 2


def peak(system: System, arithmetic: str) -> tuple[float, float]:
    """Return the dense peak of a chip in FLOP/s, and the share of it that plain products reach.

    A format without a published peak computes in the next wider one.
    """
    names = _WIDER.get(arithmetic, ("bf16_tflops",))
    name = next(name for name in names if system.get(name) is not None)
    reached = system.get(_REACHED.get(name, "matmul_share")) or system.get("matmul_share")
    return 1e12 * system.need(name), reached or _DEFAULT_REACHED


def _chips_of_a_layer(system: System, chips: int) -> int:
    """Chips that share a layer; more chips hold other layers, and a token passes one after another."""
    return min(chips, int(system.get("domain_chips") or _LEAST_DOMAIN))


def _pass(
    system: System,
    job: Job,
    chips: int,
    p: Parameters,
    *,
    tokens: int,
    read: float,
    macs: float,
) -> Phase:
    """Return a pass of ``tokens`` tokens that reads ``read`` bytes and computes ``macs`` products."""
    model, form = job.model, job.form
    shared = _chips_of_a_layer(system, chips)
    share = p.of(system.id, "bandwidth_share")
    if form.weight_only:
        share *= p.of(system.id, "weight_only_share")
    bandwidth = read / (shared * 1e12 * system.need("memory_tbps") * share)
    top, reached = peak(system, form.arithmetic)
    arithmetic = 2 * macs / (shared * top * reached * p.of(system.id, "prefill_share"))
    layer = p.of(system.id, "layer_us")
    links = 0.0
    if shared > 1:
        layer += 2 * p.of(system.id, "all_reduce_us")
        # A ring sends 2 (n - 1) / n of the rows over each chip's links, half of which go out.
        sent = 2 * (shared - 1) / shared * tokens * model.dim * _ACTIVATION_BYTES
        out = system.get("scale_up_gbps")
        if out is not None:
            links = 2 * model.layers * sent / (out / 2 * 1e9 * share)
    latency = 1e-6 * (model.layers * layer + p.of(system.id, "step_us")) + links
    clock = system.get("clock_mhz")
    return Phase(
        bandwidth=bandwidth,
        arithmetic=arithmetic,
        latency=latency,
        bytes=read,
        flops=2 * macs,
        cycles=None if clock is None else 1e6 * clock * (bandwidth + arithmetic + latency),
    )


def decode_pass(system: System, job: Job, chips: int, p: Parameters, position: float) -> Phase:
    """Return the pass that makes a token of every request, each at ``position``."""
    model = job.model
    read = model.weight_bytes(job.form, job.batch) + job.batch * model.kv_bytes(job.form, position)
    macs = job.batch * (model.token_macs + model.attention_macs(position))
    return _pass(system, job, chips, p, tokens=job.batch, read=read, macs=macs)


def prefill_pass(system: System, job: Job, chips: int, p: Parameters) -> Phase:
    """Return the pass over all prompts: products with weights, and causal attention."""
    model, prompt = job.model, job.prompt_tokens
    tokens = job.batch * prompt
    read = model.weight_bytes(job.form, tokens) + job.batch * model.kv_bytes(job.form, prompt)
    macs = tokens * model.layers * model.layer_macs + job.batch * model.head_weights
    macs += job.batch * model.prefill_attention_macs(prompt)
    return _pass(system, job, chips, p, tokens=tokens, read=read, macs=macs)


def least_chips(system: System, job: Job) -> int:
    """Return the least power of two of chips whose memory holds weights and KV cache."""
    needed = job.resident_bytes / (1e9 * system.need("memory_gb"))
    return 1 << max(0, math.ceil(math.log2(needed))) if needed > 1 else 1
