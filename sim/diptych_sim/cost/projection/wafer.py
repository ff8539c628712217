# SPDX-License-Identifier: BSD-2-Clause
"""Wafers: a layer waits for reductions over its mesh, so its size counts and not the bandwidth."""

from __future__ import annotations

import math

from diptych_sim.cost.models.shape import ModelShape
from diptych_sim.cost.projection.job import Job, Phase
from diptych_sim.cost.projection.parameters import Parameters
from diptych_sim.cost.systems.schema import System

__all__ = ["REDUCTIONS", "decode_pass", "layer_reductions", "least_wafers", "prefill_pass"]

REDUCTIONS = 9
"""Dependent reductions of a layer, where every norm waits for its own row: norm, queries and keys,
largest score, powers and values, output, norm, gate and up, largest of the gated, down."""
_ENDS = 10
"""Cycles of a reduction beside its way: ramps and the receiver, as of our cost model."""


def reduction_cycles(side: float, hop: float) -> float:
    """Cycles of a reduction over a line of our mesh: to its middle, and back to all tiles."""
    return 2 * (side // 2) * hop + _ENDS


def layer_reductions(model: ModelShape, side: float, hop: float) -> float:
    """Cycles of a layer's reductions on our mesh; each also takes a cycle for each of its words."""
    return REDUCTIONS * reduction_cycles(side, hop) + model.layer_outputs / side


def least_wafers(system: System, job: Job) -> int:
    """Return the least number of wafers that hold weights and KV cache."""
    return max(1, -int(-job.resident_bytes // (1e9 * system.need("memory_gb"))))


def _side(system: System, job: Job) -> float:
    """Side of the mesh of a layer: tiles are dealt to layers, unless all layers have the same.

    Those are the tiles of as many wafers as the job takes; further ones would only make ways longer.
    """
    tiles = system.get("layer_tiles")
    if tiles is None:
        tiles = system.need("tiles") * least_wafers(system, job) / job.model.layers
    return math.sqrt(tiles)


def _token_cycles(system: System, job: Job, p: Parameters, position: float) -> tuple[float, float]:
    """Return cycles of a token: of products, and of waiting."""
    model = job.model
    side = _side(system, job)
    rate = side * side * system.need("tile_macs") * p.of(system.id, "tile_share")
    products = model.token_macs / rate
    merges = layer_reductions(model, side, system.need("hop_cycles"))
    waits = model.layers * merges * p.of(system.id, "merge_factor")
    seen = model.seen(position) / side * p.of(system.id, "position_cycles")
    return products, waits + seen


def decode_pass(system: System, job: Job, _wafers: int, p: Parameters, position: float) -> Phase:
    """Return the pass that makes a token of every request.

    Where layers have tiles of their own, requests are in different layers at once, and a batch up
    to the number of layers takes no longer; else one request follows the other.
    """
    model = job.model
    products, waits = _token_cycles(system, job, p, position)
    turns = job.batch if system.get("layer_tiles") else max(1.0, job.batch / model.layers)
    read = model.weight_bytes(job.form, job.batch) + job.batch * model.kv_bytes(job.form, position)
    flops = 2 * job.batch * (model.token_macs + model.attention_macs(position))
    return _phase(system, turns * products, turns * waits, read, flops)


def _phase(system: System, products: float, waits: float, read: float, flops: float) -> Phase:
    second = 1e6 * system.need("clock_mhz")
    return Phase(
        bandwidth=0.0,
        arithmetic=products / second,
        latency=waits / second,
        bytes=read,
        flops=flops,
        cycles=products + waits,
    )


def prefill_pass(system: System, job: Job, _wafers: int, p: Parameters) -> Phase:
    """Return the pass over all prompts.

    With ``prefill_stages`` tokens follow each other through that many stages, by the kernels of
    decode; else products reach a share of the peak as on accelerators.
    """
    model, prompt = job.model, job.prompt_tokens
    tokens = job.batch * prompt
    read = model.weight_bytes(job.form, tokens) + job.batch * model.kv_bytes(job.form, prompt)
    macs = tokens * model.layers * model.layer_macs + job.batch * model.head_weights
    macs += job.batch * model.prefill_attention_macs(prompt)
    stages = system.get("prefill_stages")
    if stages is not None:
        products, waits = _token_cycles(system, job, p, prompt)
        turns = (tokens + stages - 1) / stages
        return _phase(system, turns * products, turns * waits, read, 2 * macs)
    side = _side(system, job)
    rate = side * side * system.need("tile_macs") * p.of(system.id, "tile_share")
    _, waits = _token_cycles(system, job, p, prompt)
    return _phase(system, macs / rate, waits, read, 2 * macs)
