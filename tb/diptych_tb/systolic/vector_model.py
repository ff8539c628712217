# SPDX-License-Identifier: BSD-2-Clause
"""The vector unit in NumPy, with the golden model's numbers, and random commands for it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diptych.systolic.isa import EPSILON_BITS, VectorOp
from diptych.systolic.vector_control import VectorSizes
from diptych_sim.golden import numbers
from diptych_sim.golden.numbers import Ints

TWO_PHASES = (VectorOp.ROTATE, VectorOp.ROTATE_AGAIN, VectorOp.GATE)
MEASURED = (VectorOp.ADD, VectorOp.GATE, VectorOp.EMBED, VectorOp.VALUES)
"""Ops with a statistic."""
ROPE_ENTRIES = 32
"""Entries at the end of the vector memory that hold factors, and are not written."""


def sizes_of_environment() -> VectorSizes:
    """Sizes of the unit under test: small memories, ``$DUT_LANES`` and ``$DUT_LINE``."""
    return VectorSizes(
        lanes=int(os.environ["DUT_LANES"]),
        line=int(os.environ["DUT_LINE"]),
        scratchpad=8192,
        accumulators=256,
        vectors=128,
        parameters=64,
        rows=8,
        biases=64,
    )


@dataclass
class Command:
    """A VECTOR command; ``extra`` and ``scale`` as in the instruction set."""

    op: VectorOp
    rows: int = 1
    tiles: int = 1
    sums: int = 0
    sums_n: int = 0
    parameters: int = 0
    target: int = 0
    target_row: int = 0
    target_n: int = 0
    vector: int = 0
    vector_row: int = 0
    extra: int = 0
    scale: int = 0
    first: int = 0
    flags: dict[str, int] = field(default_factory=dict)

    def beat(self) -> dict[str, Any]:
        """Return the command as fields of the stream's payload."""
        f = self.flags
        bits = f["first_lane"] | f["end_lane"] << 8 | f["dynamic"] << 16 | f["restart"] << 17
        bits |= f["square_shift"] << 18 | f.get("pair", 0) << 23 | f.get("low_first", 0) << 30
        bits |= f.get("biased", 0) << 31
        return {
            "head": {"queue": 2, "op": self.op.value, "end": 0, "spare": 0},
            "sums": self.sums,
            "sums_n": self.sums_n,
            "extent": self.rows | self.tiles << 16,
            "parameters": self.parameters,
            "target": self.target,
            "target_row": self.target_row,
            "target_n": self.target_n,
            "vector": self.vector,
            "vector_row": self.vector_row,
            "extra": self.extra,
            "flags": bits,
            "scale": self.scale,
            "first": self.first,
            "wait": 0,
            "signal": 0,
        }


class VectorModel:
    """Memories and row states, and what each op makes of them."""

    def __init__(self, sizes: VectorSizes, rng: np.random.Generator) -> None:
        self.sizes = sizes
        self.rng = rng
        lanes = sizes.lanes
        self.accumulators = self._wild(sizes.accumulators, lanes, 31)
        # Rows whose largest is as small as what masked lanes have, and the largest distances.
        for first, choices in ((0, [0, 1, 2, 3]), (3, [0, 1, 2**31, 2**31 + 1])):
            entries = self.accumulators[first::7]
            entries[:] = rng.choice(np.array(choices) - 2**31, entries.shape)
        self.scratchpad = rng.integers(-2047, 2048, sizes.scratchpad)
        self.vectors = self._wild(sizes.vectors, lanes, 31)
        factors = rng.integers(-(2**14), 2**14 + 1, (ROPE_ENTRIES, lanes))
        self.vectors[-ROPE_ENTRIES:] = factors
        self.parameters = self.words((sizes.parameters, lanes), 17, 31)
        self.biases = self._wild(sizes.biases, lanes, 15)
        self.dynamic = self.words(sizes.rows, 14, 18)
        self.inverse = np.zeros(sizes.rows, np.int64)
        self.top = np.zeros(sizes.rows, np.int64)
        self.largest = np.zeros(sizes.rows, np.int64)
        self.best, self.token = 0, 0

    def _wild(self, entries: int, lanes: int, bits: int) -> Ints:
        """Numbers of all magnitudes, most of them in the middle."""
        scale = 2.0 ** np.clip(self.rng.normal(bits * 0.5, bits * 0.2, (entries, 1)), 1, bits)
        uniform = self.rng.uniform(-1, 1, (entries, lanes))
        return numbers.clamp(np.round(uniform * scale), bits + 1)

    def words(self, shape: Any, low: int, high: int) -> Ints:
        """Random scale words with shifts from ``low`` to below ``high``."""
        mantissa = self.rng.integers(2**15, 2**16, shape)
        return mantissa | self.rng.integers(low, high, shape) << 16

    # --- the ops -------------------------------------------------------------------------------
    def run(self, c: Command) -> None:
        """Do what a command asks for."""
        lanes = slice(c.flags["first_lane"], c.flags["end_lane"])
        if c.op is VectorOp.ARGMAX:
            self._argmax(c)
        elif c.op is VectorOp.TOP:
            for m in range(c.rows):
                scores = self._sums(c, m)[: c.first + m + 1]
                self.top[m] = scores.max()
        elif c.op is VectorOp.EXPONENTIAL:
            for m in range(c.rows):
                self._exponential(c, m, lanes)
        else:
            action: Callable[[Command, int, int, slice], Ints | None] = getattr(
                self, f"_{c.op.name.lower()}"
            )
            for m in range(c.rows):
                if c.op is VectorOp.NORM:
                    self._norm(c, m, lanes)
                    continue
                if c.flags["restart"] and c.op in MEASURED:
                    self.largest[m] = c.target if c.op is VectorOp.GATE else 0
                for j in range(c.tiles):
                    values = action(c, m, j, lanes)
                    if values is not None:
                        self.largest[m] = max(self.largest[m], *np.abs(values[lanes]), 0)
                if c.op in MEASURED and c.tiles:
                    self.inverse[m] = numbers.reciprocal(self.largest[m])
                    if c.op is VectorOp.GATE and c.flags.get("low_first"):
                        self.dynamic[m] = numbers.to_scale(self.largest[m])

    def _sums(self, c: Command, m: int) -> Ints:
        return np.concatenate(
            [self.accumulators[c.sums + j * c.sums_n + m] for j in range(c.tiles)]
        )

    def _requantized(self, c: Command, m: int, j: int, bits: int, second: bool = False) -> Ints:
        sums = c.extra & 0xFFFF if second else c.sums
        parameters = c.extra >> 16 if second else c.parameters
        dynamic = self.dynamic[m] if c.flags["dynamic"] else numbers.UNITY
        return numbers.requantize(
            self.accumulators[sums + j * c.sums_n + m],
            self.parameters[parameters + j],
            bits,
            dynamic,
        )

    def _put(self, c: Command, m: int, j: int, lanes: slice, values: Ints, offset: int = 0) -> None:
        at = c.target + m * c.target_row + j * c.target_n + offset
        self.scratchpad[at : at + self.sizes.lanes][lanes] = values[lanes]

    def _requantize(self, c: Command, m: int, j: int, lanes: slice) -> None:
        self._put(c, m, j, lanes, self._biased(c, m, j, c.extra >> 16))

    def _biased(self, c: Command, m: int, j: int, bits: int) -> Ints:
        bias = self.biases[c.scale + j] if c.flags.get("biased") else 0
        return numbers.clamp(bias + self._requantized(c, m, j, 32), bits)

    def _values(self, c: Command, m: int, j: int, lanes: slice) -> Ints:
        values = self._requantized(c, m, j, c.extra >> 16)
        self.vectors[c.vector + m * c.vector_row + j][lanes] = values[lanes]
        return values

    def _rotate(self, c: Command, m: int, j: int, lanes: slice) -> None:
        self._rotated(c, m, j, lanes, self._biased(c, m, j, 16))

    def _rotate_again(self, c: Command, m: int, j: int, lanes: slice) -> None:
        at = c.target + m * c.target_row + j * c.target_n
        cells = self.scratchpad[at : at + self.sizes.lanes]
        dynamic = self.dynamic[m] if c.flags["dynamic"] else numbers.UNITY
        word = self.parameters[c.parameters + j]
        self._rotated(c, m, j, lanes, numbers.requantize(cells, word, 16, dynamic))

    def _rotated(self, c: Command, m: int, j: int, lanes: slice, values: Ints) -> None:
        factors = self.vectors[c.vector + m * c.vector_row + j % c.vector_row]
        rotated = np.empty_like(values)
        rotated[0::2], rotated[1::2] = numbers.rotate(
            values[0::2], values[1::2], factors[0::2], factors[1::2]
        )
        own, other = numbers.planes(rotated)
        if c.flags.get("low_first"):
            own, other = other, own
        lines = own, other
        if pair := c.flags.get("pair"):
            index = np.arange(self.sizes.lanes)
            odd, moved = index & pair != 0, other[index ^ pair]
            lines = np.where(odd, moved, own), np.where(odd, own, moved)
        self._put(c, m, j, lanes, lines[0])
        self._put(c, m, j, lanes, lines[1], c.extra)

    def _add(self, c: Command, m: int, j: int, lanes: slice) -> Ints:
        entry = self.vectors[c.vector + m * c.vector_row + j]
        values = numbers.clamp(entry + self._requantized(c, m, j, 32), c.extra >> 16)
        entry[lanes] = values[lanes]
        return values

    def _gate(self, c: Command, m: int, j: int, lanes: slice) -> Ints:
        gates = self._requantized(c, m, j, 16)
        ups = self._requantized(c, m, j, 16, second=True)
        values = numbers.gate(gates, ups, numbers.GATE_FRACTION - c.scale)
        self.vectors[c.vector + m * c.vector_row + j][lanes] = values[lanes]
        return values

    def _embed(self, c: Command, m: int, j: int, lanes: slice) -> Ints:
        at = c.target + m * c.target_row + j * c.target_n
        values = numbers.requantize(
            self.scratchpad[at : at + self.sizes.lanes],
            numbers.UNITY,
            c.extra >> 16,
            self.dynamic[m],
        )
        self.vectors[c.vector + m * c.vector_row + j][lanes] = values[lanes]
        return values

    def _quantize(self, c: Command, m: int, j: int, lanes: slice) -> None:
        entry = self.vectors[c.vector + m * c.vector_row + j]
        values = numbers.requantize(entry, c.scale, c.extra >> 16, self.inverse[m])
        self._put(c, m, j, lanes, values)

    def _norm(self, c: Command, m: int, lanes: slice) -> None:
        total = 0
        for j in range(c.tiles):
            entry = self.vectors[c.vector + m * c.vector_row + j]
            values = numbers.requantize(entry, c.scale, c.extra >> 16, self.inverse[m])
            self._put(c, m, j, lanes, values)
            total += int(numbers.sum_of_squares(values[lanes], c.flags["square_shift"]))
        epsilon = numbers.requantize(
            (c.sums + 2**31) % 2**32 - 2**31, c.scale, EPSILON_BITS, self.inverse[m]
        )
        total += int(epsilon) ** 2 >> c.flags["square_shift"]
        if c.tiles:
            row = m ^ self.sizes.rows // 2 if c.flags["dynamic"] else m
            self.dynamic[row] = numbers.rsqrt(total % 2**32)

    def _exponential(self, c: Command, m: int, lanes: slice) -> None:
        width = self.sizes.lanes
        end = -(-(c.first + m + 1) // self.sizes.line) * self.sizes.line
        total = 0
        for j in range(min(c.tiles, -(-end // width))):
            live = j * width + np.arange(width) <= c.first + m
            sums = self.accumulators[c.sums + j * c.sums_n + m]
            distance = np.where(live, self.top[m] - sums, 0)
            most = 255 if c.extra >> 16 == 8 else 2047
            powers = np.where(live, numbers.exponential(distance, c.scale, most), 0)
            self._put(c, m, j, lanes, powers)
            total += int(powers[lanes].sum())
        self.dynamic[m] = numbers.reciprocal(total)

    def _argmax(self, c: Command) -> None:
        width = self.sizes.lanes
        limit, bits = c.extra & 0xFFFF, c.extra >> 16
        rows = [self._biased(c, 0, j, bits) for j in range(c.tiles)]
        values = np.concatenate(rows)[: min(limit, c.tiles * width)]
        place = int(np.argmax(values))
        if c.vector == 0 or values[place] > self.best:
            self.best, self.token = values[place], c.vector * width + place


def random_commands(rng: random.Random, model: VectorModel, op: VectorOp) -> list[Command]:
    """Draw a command that stays inside the memories, after what it builds upon."""
    sizes = model.sizes
    width, line = sizes.lanes, sizes.line
    rows = rng.randint(1, sizes.rows)
    tiles = rng.randint(1, 6)
    first_lane, end_lane = 0, width
    if rng.random() < 0.4:
        first_lane = rng.randrange(width)
        end_lane = rng.randint(first_lane + 1, width)
    flags = {
        "first_lane": first_lane,
        "end_lane": end_lane,
        "dynamic": rng.randrange(2),
        "restart": rng.randrange(2),
        "square_shift": rng.randrange(12),
        "pair": 0,
        "low_first": 0,
    }
    block = 6 * line
    c = Command(
        op,
        rows=rows,
        tiles=tiles,
        sums=rng.randrange(64),
        sums_n=rng.randint(8, 16),
        parameters=rng.randrange(24),
        target=rng.randrange(4) * line,
        target_row=rng.choice([block, block + line]),
        target_n=width,
        vector=rng.randrange(16),
        vector_row=rng.randint(tiles, 8),
        scale=int(model.words((), 17, 27)),
        first=rng.choice([0, rng.randrange(8), rng.randrange(5 * width)]),
        flags=flags,
    )
    if op in (VectorOp.ROTATE, VectorOp.REQUANTIZE, VectorOp.ARGMAX) and rng.random() < 0.5:
        flags["biased"] = 1
        c.scale = rng.randrange(sizes.biases - tiles)
    if op in (VectorOp.ROTATE, VectorOp.ROTATE_AGAIN):
        c.vector_row = rng.randint(1, 3)
        c.vector = sizes.vectors - ROPE_ENTRIES + rng.randrange(8)
        c.extra = sizes.scratchpad // 2
        if rng.random() < 0.5:
            flags["pair"] = 2 ** rng.randrange(1, width.bit_length() - 1)
            flags["low_first"] = rng.randrange(2)
    elif op is VectorOp.GATE:
        c.target = rng.choice([0, 2 ** rng.randrange(31)])
        c.extra = rng.randrange(128, 140) | rng.randrange(24, 48) << 16
        c.scale = rng.randrange(12)
        flags["low_first"] = rng.randrange(2)
    elif op is VectorOp.NORM:
        c.sums = rng.choice([rng.randrange(2**31), rng.randrange(2**12), 0])
        c.extra = rng.choice([8, 12]) << 16
    elif op in (VectorOp.ADD, VectorOp.EMBED, VectorOp.VALUES):
        c.extra = rng.choice([16, 24, rng.randint(10, 31)]) << 16
    elif op in (VectorOp.REQUANTIZE, VectorOp.QUANTIZE):
        c.extra = rng.choice([8, 12]) << 16
    elif op is VectorOp.TOP:
        # The first row sees at least one position, the last one not more than there are.
        c.first = min(c.first, tiles * width - 1)
    elif op is VectorOp.ARGMAX:
        bits = rng.randint(12, 24) << 16
        parts = [rng.randint(1, tiles) for _ in range(rng.randint(1, 3))]
        firsts = [0, *np.cumsum(parts).tolist()]
        if rng.random() < 0.5:
            firsts[1:] = [rng.randrange(1, 2**16 - 6) for _ in parts]
        return [
            replace(
                c,
                tiles=part,
                vector=first,
                sums=rng.randrange(64),
                parameters=rng.randrange(24),
                extra=rng.randint(1, part * width) | bits,
            )
            for first, part in zip(firsts, parts, strict=False)
        ]
    elif op is VectorOp.EXPONENTIAL:
        c.extra = rng.choice([8, 12]) << 16
        c.target_row = block
        c.first = min(c.first, tiles * width - 1)
        # A distance is not negative: the row's largest must be that of the same scores, also when
        # something else runs in between.
        others = [other for other in VectorOp if other not in (VectorOp.TOP, op)]
        between = rng.random() < 0.5 and random_commands(rng, model, rng.choice(others))
        return [replace(c, op=VectorOp.TOP), *(between or ()), c]
    return [c]
