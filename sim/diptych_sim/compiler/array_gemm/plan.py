# SPDX-License-Identifier: BSD-2-Clause
"""How a matrix product is cut: blocks that fit the memories, and chunks that are loaded in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise, product

from diptych.config import MachineConfig
from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.panel import panel_sizes
from diptych_sim.compiler.array.hbm_layout import round_up

__all__ = ["Chunk", "Load", "Tiling", "plans", "streamed", "tilings"]

_ROW_BLOCKS = (32, 64, 128, 256)
"""Rows of a block, beside as many as the accumulators hold."""
_TAILS = 3
"""Parts into which the last rows may be cut."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Blocks of a product [M, K] x [K, N] on an array of ``rows`` x ``columns``.

    An activation has ``activation_bytes`` in HBM. ``row_blocks`` and ``depths`` are (start, count) of
    blocks of M and parts of K. ``resident``:
    both operands fit the scratchpad together, so that each is read once.
    """

    m: int
    k: int
    n: int
    rows: int
    columns: int
    weight_rows: int
    activation_bytes: int
    line: int
    scratchpad: int
    accumulators: int
    biases: int
    packed: int
    row_blocks: list[tuple[int, int]]
    depths: list[tuple[int, int]]
    resident: bool

    @property
    def column_tiles(self) -> int:
        """Number of column tiles."""
        return -(-self.n // self.columns)

    @property
    def step(self) -> int:
        """Column tiles whose part of a row of the result is whole beats."""
        return max(1, 16 // self.columns)

    @property
    def most_biases(self) -> int:
        """Column tiles whose biases fit: all, or two groups in turn."""
        return self.biases if self.column_tiles <= self.biases else self.biases // 2

    def k_tiles(self, d: int) -> int:
        """Row tiles of a part of K."""
        return -(-self.depths[d][1] // self.rows)

    def x_k(self, r: int) -> int:
        """Bytes from a panel of activations to the next one in the scratchpad."""
        return round_up(self.row_blocks[r][1] * self.rows, self.line)

    def w_n(self, d: int) -> int:
        """Bytes from a panel of weights to the next one in the scratchpad."""
        return round_up(self.depths[d][1] * self.columns, self.line * self.weight_rows)

    def x_bytes(self, r: int, d: int) -> int:
        """Bytes of a block of activations in the scratchpad."""
        return self.k_tiles(d) * self.x_k(r) + self.line

    def tile_cycles(self, count: int) -> int:
        """Cycles of a tile that ``count`` rows pass."""
        shift = self.rows // self.weight_rows if self.packed else self.rows
        return max(count, shift)


@dataclass(frozen=True, kw_only=True)
class Load:
    """Panels to load: of activations, or row tiles ``k`` of column panels of weights."""

    activations: bool
    row_block: int
    depth: int
    k: tuple[int, int]
    columns: tuple[int, int]
    base: int


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Tiles that one command multiplies, and what must be loaded for it.

    ``rows`` of the row block, all if None. ``group``: column tiles that are stored together;
    ``stores``: this chunk completes these rows of them. ``tail``: number of a part of the last rows
    that is multiplied on its own, 0 for others.
    """

    row_block: int
    depth: int
    columns: tuple[int, int]
    k: tuple[int, int]
    group: tuple[int, int]
    x_base: int
    w_base: int
    rows: tuple[int, int] | None = None
    stores: bool = False
    tail: int = 0
    loads: list[Load] = field(default_factory=list)


def _even(total: int, most: int) -> list[tuple[int, int]]:
    """Split into equal parts of at most ``most``."""
    parts = -(-total // most)
    ends = [total * n // parts for n in range(parts + 1)]
    return [(a, b - a) for a, b in pairwise(ends)]


def _split(total: int, most: int) -> list[tuple[int, int]]:
    return [(start, min(most, total - start)) for start in range(0, total, most)]


def tilings(
    shape: tuple[int, int, int], machine: MachineConfig, *, activation_bytes: int = 1
) -> Iterator[Tiling]:
    """Yield ways to cut a product into blocks: what is computed waits for and is stored in these."""
    m = shape[0]
    whole = _tiling(shape, machine, activation_bytes, m)
    yield whole
    if whole.resident:
        for count in _ROW_BLOCKS:
            if m <= 32 * count and count < whole.row_blocks[0][1]:
                yield _tiling(shape, machine, activation_bytes, count)


def _tiling(
    shape: tuple[int, int, int], machine: MachineConfig, activation_bytes: int, most_rows: int
) -> Tiling:
    m, k, n = shape
    rows, columns = machine.array
    weight_rows = machine.weight_rows
    sizes = panel_sizes(rows, columns)
    half = sizes.accumulators // 2
    step = max(1, 16 // columns)
    packed = int(weight_rows > 1 and columns >= rows)
    base = Tiling(
        m=m,
        k=k,
        n=n,
        rows=rows,
        columns=columns,
        weight_rows=weight_rows,
        activation_bytes=activation_bytes,
        line=sizes.line,
        scratchpad=sizes.scratchpad,
        accumulators=sizes.accumulators,
        biases=sizes.biases,
        packed=packed,
        row_blocks=_even(m, min(most_rows, half // min(step, -(-n // columns)))),
        depths=[(0, k)],
        resident=True,
    )
    weights = base.column_tiles * base.w_n(0) + base.line
    if sum(base.x_bytes(r, 0) for r in range(len(base.row_blocks))) + weights <= sizes.scratchpad:
        return base
    # One operand streams past a block of the other; a block of 64 rows at least.
    share = sizes.scratchpad // 2 - base.line
    most = min(m, half // step // 2)
    depth = min(k, max(rows, share // (2 * round_up(min(most, 64), 1)) // rows * rows))
    depth = min(depth, sizes.scratchpad // 8 // (step * columns) // rows * rows)
    depths = _split(k, depth)
    held = share // (len(depths) * round_up(depth, rows))
    count = max(1, min(most, held if held >= 64 else share // (2 * round_up(depth, rows))))
    return replace(base, row_blocks=_even(m, count), depths=depths, resident=False)


def streamed(t: Tiling) -> list[Chunk]:
    """Return the chunks of a product whose operands do not fit the scratchpad together."""
    half_bytes = t.scratchpad // 2
    most = max(count for _, count in t.row_blocks)
    deepest = max(range(len(t.depths)), key=lambda d: t.depths[d][1])
    x_slot = max(t.x_bytes(r, d) for r in range(len(t.row_blocks)) for d in range(len(t.depths)))
    # Some groups of columns wait while one is multiplied.
    room = half_bytes // 4 // t.w_n(deepest) // t.step * t.step
    sums = t.accumulators // 2 // most // t.step * t.step
    size = max(t.step, min(room, sums, t.most_biases, round_up(t.column_tiles, t.step)))
    groups = [(at, min(at + size, t.column_tiles)) for at in range(0, t.column_tiles, size)]
    w_slot = size * t.w_n(deepest) + t.line
    slots = {"x": half_bytes // x_slot, "w": half_bytes // w_slot}
    begin = {"x": 0, "w": half_bytes}
    bytes_of = {"x": x_slot, "w": w_slot}
    holds: dict[tuple[str, int], tuple[int, ...]] = {}
    turn = {"x": 0, "w": 0}
    chunks = []

    def place(kind: str, what: tuple[int, ...]) -> tuple[int, bool]:
        """Return where a block is or goes, and whether it must be loaded."""
        for slot in range(slots[kind]):
            if holds.get((kind, slot)) == what:
                return begin[kind] + slot * bytes_of[kind], False
        slot = turn[kind]
        turn[kind] = (slot + 1) % slots[kind]
        holds[kind, slot] = what
        return begin[kind] + slot * bytes_of[kind], True

    for r in range(len(t.row_blocks)):
        for group in groups:
            for d in range(len(t.depths)):
                k = (0, t.k_tiles(d))
                x_base, x_new = place("x", (r, d))
                w_base, w_new = place("w", (*group, d))
                # A panel's base counts from column tile 0.
                w_base -= group[0] * t.w_n(d)
                load = Load(activations=True, row_block=r, depth=d, k=k, columns=group, base=x_base)
                loads = [load] if x_new else []
                if w_new:
                    loads.append(replace(load, activations=False, base=w_base))
                chunks.append(
                    Chunk(
                        row_block=r,
                        depth=d,
                        columns=group,
                        k=k,
                        group=group,
                        x_base=x_base,
                        w_base=w_base,
                        stores=d == len(t.depths) - 1,
                        loads=loads,
                    )
                )
    return chunks


def _groups(t: Tiling, count: int, tails: int, rate: int) -> list[tuple[int, int]]:
    """Split column tiles into groups that are stored together.

    Where last rows are cut into ``tails`` parts, the last groups are small.
    """
    # Cycles of a column tile in the array, and on its way to HBM.
    computing = t.k_tiles(0) * t.tile_cycles(count)
    storing = count * _storing(t, rate)
    remaining = -(-t.column_tiles // t.step)
    most = max(1, min(t.most_biases, t.accumulators // 2 // count) // t.step)
    sizes: list[int] = []
    size = 1 if tails else most
    # The first of the parts is in other accumulators than what is stored meanwhile.
    hiding = t.k_tiles(0) * t.tile_cycles(count - sum(_tails(t, count, tails, rate)))
    while remaining:
        sizes.append(min(remaining, size, most))
        remaining -= sizes[-1]
        # A group is stored while the next one is computed.
        size = max(1, int(size * hiding / storing))
        hiding = computing
    ends = [0]
    for size in reversed(sizes):
        ends.append(min(ends[-1] + size * t.step, t.column_tiles))
    return list(pairwise(ends))


def _cuts(total: int, sizes: Iterator[int], unit: int) -> list[int]:
    """Return where a run of ``total`` steps of ``unit`` bytes is cut: never into nothing."""
    ends = [0]
    while ends[-1] < total:
        ends.append(min(total, ends[-1] + max(1, next(sizes) // unit)))
    return ends


def _sizes(first: int, growth: int, most: int) -> Iterator[int]:
    size = first
    while True:
        yield min(size, most)
        size = min(size * growth, most)


def plans(t: Tiling, bytes_per_cycle: int) -> Iterator[list[Chunk]]:
    """Yield ways to cut a product whose operands fit the scratchpad together.

    The first chunk is small, so that the array starts soon; later ones grow, so that there are
    few commands. Of what is stored together, ``bytes_per_cycle`` says how much hides behind the
    array.
    """
    total = t.m * t.k * t.activation_bytes + t.k * t.n
    panel = t.row_blocks[0][1] * t.rows * t.activation_bytes + t.rows * t.columns
    seen = set()
    for tail, whole, first, growth, parts in product(
        (1, _TAILS, 0), (False, True), (1, 4, 2**20), (2, 4), (1, 6, 16, 32)
    ):
        if whole and t.row_blocks[0][1] * t.k * t.activation_bytes > total // 4:
            continue
        most = max(panel, total // parts)
        chunks = _chunks(t, tail, whole, first * panel, growth, most, bytes_per_cycle)
        key = tuple((c.row_block, c.columns, c.k, c.rows, len(c.loads)) for c in chunks)
        if key not in seen and len(chunks) <= 200:
            seen.add(key)
            yield chunks


def _chunks(
    t: Tiling, tail: int, whole: bool, first: int, growth: int, most: int, rate: int
) -> list[Chunk]:
    """Cut a product; ``tail``: the end into so many small parts; ``whole``: load activations at once."""
    sizes = _sizes(first, growth, most)
    k_tiles = t.k_tiles(0)
    w_tile = t.rows * t.columns
    chunks: list[Chunk] = []
    bases = [0]
    for r in range(len(t.row_blocks)):
        bases.append(bases[-1] + t.x_bytes(r, 0))
    # Addresses wrap, and small negative ones are short.
    w_base = -round_up(t.column_tiles * t.w_n(0) + t.line, t.line * t.weight_rows)
    for r, (_, count) in enumerate(t.row_blocks):
        last_block = r == len(t.row_blocks) - 1
        groups = _groups(t, count, tail if last_block else 0, rate)
        for g, group in enumerate(groups):
            final = last_block and g == len(groups) - 1

            def chunk(
                columns: tuple[int, int],
                k: tuple[int, int],
                r: int = r,
                group: tuple[int, int] = group,
            ) -> Chunk:
                x_load = Load(
                    activations=True, row_block=r, depth=0, k=k, columns=columns, base=bases[r]
                )
                w_load = replace(x_load, activations=False, base=w_base)
                loads = [w_load] if r == 0 else []
                if columns[0] == 0 and whole and k[0] == 0:
                    loads.append(replace(x_load, k=(0, k_tiles)))
                elif columns[0] == 0 and not whole:
                    loads.append(x_load)
                return Chunk(
                    row_block=r,
                    depth=0,
                    columns=columns,
                    k=k,
                    group=group,
                    x_base=bases[r],
                    w_base=w_base,
                    loads=loads,
                    stores=columns[1] == group[1] and k[1] == k_tiles,
                )

            at = group[0]
            while at < group[1]:
                column = w_tile * k_tiles
                if r == 0 and (at == 0 or most < column or (final and at == group[1] - 1)):
                    unit = w_tile + (count * t.rows * t.activation_bytes if at == 0 else 0)
                    ends = _cuts(k_tiles, sizes, unit)
                    if final and at == group[1] - 1 and tail:
                        ends = _shrinking(ends, k_tiles, at == 0)
                    for a, b in pairwise(ends):
                        chunks.append(chunk((at, at + 1), (a, b)))
                    at += 1
                else:
                    end = group[1] - (final and r == 0 and group[1] - at > 1)
                    if r == 0:
                        end = min(end, at + max(1, next(sizes) // column))
                    chunks.append(chunk((at, end), (0, k_tiles)))
                    at = end
    return _with_tail(t, chunks, tail, rate) if tail else chunks


def _shrinking(ends: list[int], k_tiles: int, only: bool) -> list[int]:
    """Cut the last column so that its last part is small: what comes last is multiplied last."""
    if only or k_tiles < 4:
        return ends
    return sorted({0, k_tiles // 2, k_tiles - max(1, k_tiles // 8), k_tiles})


def _tails(t: Tiling, count: int, most: int, rate: int) -> list[int]:
    """Rows of the last parts of a column tile: while one is multiplied, the one before is stored."""
    shift = t.tile_cycles(1)
    if most == 0 or count < 3 * shift:
        return []
    hidden = t.k_tiles(0) / _storing(t, rate)
    sizes = [max(shift, 4)]
    while hidden > 1 and len(sizes) < most:
        size = int(sizes[-1] * hidden)
        if count - sum(sizes) <= size:
            break
        sizes.append(size)
    return sizes[::-1]


def _with_tail(t: Tiling, chunks: list[Chunk], most: int, rate: int) -> list[Chunk]:
    """Multiply the last rows of the last column tiles in ``most`` parts of their own at most."""
    group = chunks[-1].group
    r = chunks[-1].row_block
    count = t.row_blocks[r][1]
    sizes = _tails(t, count, most, rate)
    if not sizes or group[1] - group[0] > t.step:
        return chunks
    mine = [c for c in chunks if c.row_block == r and c.group == group]
    first = count - sum(sizes)
    parts = [replace(c, rows=(0, first)) for c in mine]
    for number, size in enumerate(sizes, 1):
        whole = replace(
            mine[0],
            columns=group,
            k=(0, t.k_tiles(0)),
            rows=(first, first + size),
            loads=[],
            stores=True,
            tail=number,
        )
        parts.append(whole)
        first += size
    return [*(c for c in chunks if c not in mine), *parts]


def _storing(t: Tiling, rate: int) -> float:
    """Cycles of a row of a column tile on its way to HBM."""
    return max(1.0, 4 * t.columns / min(rate, BEAT_BYTES))
