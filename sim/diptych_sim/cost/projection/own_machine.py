# SPDX-License-Identifier: BSD-2-Clause
"""Our own machine at a clock: cycles of both panels in closed form, from shapes and sizes alone.

Decode: products of the fullest tile, 8 a cycle, and seven dependent reductions a layer, eight where
columns share heads, each with its way and with the steps of the vector pipe around it; norms take the
magnitudes of those before, but for the first of a token. Prefill: folds
of the array, or the bytes of HBM where those take longer. ``diptych bench closed-form`` compares both
with the cost models that read programs. Nothing is fitted to published systems.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil

from diptych.config import TILE_MACS, MachineConfig
from diptych_sim.compiler.decode.head_deal import REACHES, head_deals
from diptych_sim.cost.models.shape import ModelShape
from diptych_sim.cost.projection.job import Job, Phase
from diptych_sim.cost.projection.parameters import Parameters
from diptych_sim.cost.systems.schema import System

__all__ = [
    "DecodeCycles",
    "Sizes",
    "decode_cycles",
    "decode_pass",
    "machine_of",
    "prefill_cycles",
    "prefill_pass",
]

_COLUMN_REDUCTIONS = 4
"""Queries and keys, largest score, powers and values, gate and up."""
_ROW_REDUCTIONS = 2
"""Output, down."""
_MIDDLE = 1
"""Cycles more than a hop in the middle of a reduction, where two directions meet."""
_ENDS = 12
"""Cycles of a reduction beside its way: ramps and receiver."""
_STEPS = 8
"""Cycles of the pipe and the scalar instructions between two reductions, about."""
_TOKEN = 100
"""Cycles of a token outside of layers: embedding, last norm and choice of the token, about."""
_LAYER, _LAYER_TOKEN, _PREFILL = 440, 15, 620
"""Cycles of prefill beside folds: of a layer, of a token in a layer, and once, about."""
_GATHERED = 16
"""Tokens whose embeddings are read at once."""
_KEY_PLANES = 3
"""Products of planes in a score: keys and queries have 16 bits."""


def machine_of(system: System) -> MachineConfig:
    """Return the machine that a system of kind ``diptych`` describes.

    Raises
    ------
    ValueError
        If the machine cannot be built.
    """

    def number(field: str) -> int:
        return int(system.need(field))

    return MachineConfig(
        array=(number("array_rows"), number("array_columns")),
        weight_rows=number("weight_rows"),
        hbm_bytes_per_cycle=number("hbm_bytes_per_cycle"),
        hbm_latency=number("hbm_latency"),
        link_bytes_per_cycle=number("link_bytes_per_cycle"),
        mesh=(number("mesh_rows"), number("mesh_columns")),
        hop_cycles=number("hop_cycles"),
        sram_bytes=number("sram_bytes"),
    )


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a machine that may be larger than our hardware can be built: as :class:`MachineConfig`.

    ``tile_macs`` are products that a tile computes in a cycle.
    """

    array: tuple[int, int] = (16, 16)
    weight_rows: int = 1
    hbm_bytes_per_cycle: int = 64
    hbm_latency: int = 100
    link_bytes_per_cycle: int = 4
    mesh: tuple[int, int] = (8, 8)
    hop_cycles: int = 1
    sram_bytes: int = 24576
    tile_macs: int = TILE_MACS

    @property
    def pes(self) -> int:
        """Processing elements of the array."""
        return self.array[0] * self.array[1]

    @property
    def tiles(self) -> int:
        """Tiles of the mesh."""
        return self.mesh[0] * self.mesh[1]

    @property
    def machine(self) -> MachineConfig:
        """The machine of these sizes.

        Raises
        ------
        ValueError
            If our hardware cannot be built so.
        """
        if self.tile_macs != TILE_MACS:
            raise ValueError(f"Products of a tile must be {TILE_MACS}, not {self.tile_macs!r}")
        sizes = {each.name: getattr(self, each.name) for each in fields(self)}
        del sizes["tile_macs"]
        return MachineConfig(**sizes)

    @property
    def buildable(self) -> bool:
        """Whether our hardware can be built so."""
        try:
            return self.machine is not None
        except ValueError:
            return False


@dataclass(frozen=True, kw_only=True)
class DecodeCycles:
    """Cycles of a token on the mesh: of products, and of waiting for the next."""

    products: int
    waits: int


def decode_cycles(
    model: ModelShape, machine: MachineConfig | Sizes, position: float
) -> DecodeCycles:
    """Return the cycles of a token at ``position``, of one sequence."""
    rows, columns = machine.mesh
    macs = machine.tile_macs if isinstance(machine, Sizes) else TILE_MACS

    def product(inputs: int, outputs: int) -> int:
        return outputs * ceil(inputs / macs)

    def way(side: int) -> int:
        hops = max(side // 2, side - 1 - side // 2)
        return 2 * hops * machine.hop_cycles + _MIDDLE + _ENDS

    dim, hidden = ceil(model.dim / rows), ceil(model.hidden / columns)
    seen = ceil(model.seen(position) / model.layers)
    deal = head_deals(model, rows, columns, positions=seen)[0]
    local = deal.positions.held(rows // 2, seen)
    heads, width = deal.heads, model.head_dim // deal.split
    queries, keys = heads * width, deal.kv_heads * width
    used = model.experts_per_token
    layer = product(dim, queries + 2 * keys) + product(queries, dim)
    layer += used * (product(dim, 2 * hidden) + product(hidden, dim))
    scores = heads * local * ceil(width / macs) * _KEY_PLANES
    layer += scores + queries * ceil(local / macs)
    waits = _COLUMN_REDUCTIONS * (way(rows) + _STEPS) + _ROW_REDUCTIONS * (way(columns) + _STEPS)
    # Attention goes no farther along columns than to the rows that hold positions, and along rows contexts come
    # from columns with heads, which need the residual stream first.
    spared = REACHES * (rows // 2 - deal.positions.reach(seen))
    with_heads = deal.split * ceil(model.heads / heads)
    spared += _ROW_REDUCTIONS * max(0, columns // 2 - (with_heads + 1) // 2)
    # Two norms scale rows between reductions, each while the row is written.
    waits += _STEPS - spared * machine.hop_cycles
    if deal.split > 1:
        waits += way(deal.split) + _STEPS + heads * local
    # Elements beside products: of the norm, rotations of 2 cycles, gates, and powers.
    waits += dim + 2 * queries + keys + hidden * used + heads * local
    head = product(dim, ceil(model.vocab / columns))
    return DecodeCycles(
        products=model.layers * layer + head,
        waits=model.layers * waits + 2 * way(rows) + way(columns) + _TOKEN,
    )


def prefill_cycles(
    model: ModelShape, machine: MachineConfig | Sizes, tokens: int
) -> tuple[int, int]:
    """Return the cycles of the array and of HBM for a prompt; the longer one counts.

    Array: each fold as long as its rows or its weights take, causal attention without the folds
    behind the diagonal, the last layer beyond keys and values for the last token only; and what the
    vector unit and waits add.
    """
    rows, columns = machine.array
    experts = ceil(model.experts_used(tokens))
    array = (model.layers - 1) * _layer_cycles(model, machine, tokens, tokens)
    array += _layer_cycles(model, machine, tokens, 1)
    array += ceil(model.dim / rows) * ceil(model.vocab / columns) * ceil(rows / machine.weight_rows)
    waits = _LAYER + _LAYER_TOKEN * tokens + 2 * model.heads * (rows + columns)
    array += model.layers * waits + _PREFILL
    # Embeddings are read by token numbers, which are read before: 16 at once.
    array += (ceil(tokens / _GATHERED) - 1) * (2 * machine.hbm_latency + 2 * _GATHERED)
    read = model.layers * (
        model.attention_weights + model.router_weights + experts * model.expert_weights
    )
    hbm = ceil((read + model.head_weights) / machine.hbm_bytes_per_cycle) + machine.hbm_latency
    return array, hbm


def _layer_cycles(
    model: ModelShape, machine: MachineConfig | Sizes, tokens: int, onward: int
) -> int:
    """Return the folds of a layer for ``tokens`` tokens, of which ``onward``, all or one, go on."""
    rows, columns = machine.array
    loads = ceil(rows / machine.weight_rows)

    def folds(count: int, inputs: int, outputs: int) -> int:
        return ceil(inputs / rows) * ceil(outputs / columns) * max(count, loads)

    def causal(step: int, least: int) -> int:
        """Folds every ``step`` positions, each of the tokens from there on."""
        number = ceil(tokens / step)
        if onward < tokens:
            return number * max(onward, least)
        longer = min(number, max(0, (tokens - least - 1) // step + 1)) if tokens > least else 0
        return longer * tokens - step * longer * (longer - 1) // 2 + (number - longer) * least

    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    cycles = folds(onward, model.dim, queries) + 2 * folds(tokens, model.dim, keys)
    cycles += folds(onward, queries, model.dim)
    experts = ceil(model.experts_used(onward))
    routed = ceil(onward * model.experts_per_token / experts)
    cycles += experts * 2 * folds(routed, model.dim, model.hidden)
    cycles += experts * folds(routed, model.hidden, model.dim)
    lanes = min(model.head_dim, rows)
    # Planes of two heads lie side by side where both fit into the rows.
    planes = [lanes, 2 * lanes] if 2 * model.head_dim <= rows else [lanes] * _KEY_PLANES
    scores = sum(causal(columns, ceil(lane / machine.weight_rows)) for lane in planes)
    head = max(1, model.head_dim // rows) * scores
    head += max(1, model.head_dim // columns) * causal(rows, loads)
    return cycles + model.heads * head


def decode_pass(system: System, job: Job, _chips: int, _p: Parameters, position: float) -> Phase:
    """Return a round: a token of every request, one sequence after the other."""
    cycles = decode_cycles(job.model, machine_of(system), position)
    read = job.model.weight_bytes(job.form, job.batch)
    read += job.batch * job.model.kv_bytes(job.form, position)
    flops = 2 * job.batch * (job.model.token_macs + job.model.attention_macs(position))
    second = 1e6 * system.need("clock_mhz")
    return Phase(
        bandwidth=0.0,
        arithmetic=job.batch * cycles.products / second,
        latency=job.batch * cycles.waits / second,
        bytes=read,
        flops=flops,
        cycles=job.batch * (cycles.products + cycles.waits),
    )


def prefill_pass(system: System, job: Job, _chips: int, _p: Parameters) -> Phase:
    """Return the prompts, one after the other."""
    model, prompt = job.model, job.prompt_tokens
    array, hbm = prefill_cycles(model, machine_of(system), prompt)
    second = 1e6 * system.need("clock_mhz")
    keys = 2 * model.dim * model.kv_heads * model.head_dim
    macs = prompt * ((model.layers - 1) * model.layer_macs + keys) + model.layer_macs - keys
    macs += model.head_weights
    macs += model.prefill_attention_macs(prompt) * (model.layers - 1) / model.layers
    # What overlaps counts once: the time beyond the products is that of the bytes.
    return Phase(
        bandwidth=job.batch * max(0, hbm - array) / second,
        arithmetic=job.batch * array / second,
        latency=0.0,
        bytes=job.batch * model.weight_bytes(job.form, prompt),
        flops=2 * job.batch * macs,
        cycles=job.batch * max(array, hbm),
    )
