# SPDX-License-Identifier: BSD-2-Clause
"""What parts of the prefill panel take, beside their RTL or by hand.

Pieces that take a cycle for each beat, bursts without a limit, and sums that are read while the array
adds to them were each put in by hand and seen to fail.
"""

import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.systolic.dma_pieces import PieceWriter
from diptych.systolic.isa import Modes, Start, Target
from diptych_sim.compiler.array.commands import pack_fields
from diptych_sim.cost.panel_parts import Hbm, Loads, MatrixTile, Sums, load_work, matrix_tiles


def written(size: int, rows: int, pitch: int, *, dense: bool, wide: bool) -> int:
    """Cycles from the start to the end of pieces whose beats are always there."""
    writer = PieceWriter(line=8, size=65536)
    cycles = 0

    async def bench(ctx):
        nonlocal cycles
        ctx.set(writer.port.ready, 1)
        ctx.set(writer.beats.valid, 1)
        for name, value in (
            ("bytes", size),
            ("rows", rows),
            ("target", 0),
            ("target_pitch", pitch),
            ("dense", int(dense)),
            ("wide", int(wide)),
        ):
            ctx.set(writer.pieces[name], value)
        ctx.set(writer.start, 1)
        await ctx.tick()
        ctx.set(writer.start, 0)
        while not ctx.get(writer.done):
            await ctx.tick()
            cycles += 1

    simulator = Simulator(writer)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return cycles


@pytest.mark.parametrize("target", [Target.GATHER, Target.DENSE, Target.DENSE_WIDE])
@pytest.mark.parametrize(
    ("size", "pitch"), [(88, 88), (88, 128), (40, 40), (128, 136), (64, 64), (24, 24), (72, 200)]
)
def test_pieces_take_what_their_writer_takes(size, pitch, target):
    rows = 16
    dense, wide = target is not Target.GATHER, target is Target.DENSE_WIDE
    fields = {"rows": rows, "bytes": size, "hbm": 0, "target": 0}
    # A command counts elements, the writer bytes.
    fields["target_pitch"] = pitch // 2 if wide else pitch
    fields["total"] = size * rows if dense else 0
    work = load_work(target, fields, 8)
    # The first write is two cycles behind the start.
    took = written(size, rows, pitch, dense=dense, wide=wide) - 1
    assert max(work.writing, sum(work.bursts)) == took


def test_bursts_wait_for_those_before():
    hbm = Hbm(100, 64)
    loads = Loads(hbm)
    rows = {"rows": 20, "bytes": 64, "hbm": 0, "target": 0, "target_pitch": 64}
    done, free = loads.run(10, load_work(Target.SCRATCHPAD, rows, 8))
    # Sixteen bursts in as many cycles; the four others when some have been read, and then they come.
    assert free == pytest.approx(10 + 102 + 4, abs=2)
    assert done == pytest.approx(free + 102, abs=8)


def test_gathers_ask_for_rows_when_they_know_them():
    fields = {"rows": 3, "bytes": 64, "hbm": 0, "target": 0, "target_pitch": 64}
    took = {
        target: Loads(Hbm(100, 64)).run(10, load_work(target, fields, 8))[0]
        for target in (Target.SCRATCHPAD, Target.GATHER)
    }
    assert took[Target.GATHER] - took[Target.SCRATCHPAD] == pytest.approx(105, abs=2)


def test_sums_are_read_when_the_array_does_not_add():
    sums = Sums(64, 10)
    sums.add(0, MatrixTile(rows=5, counted=4, entry=0, adds=False), 5)
    sums.add(5, MatrixTile(rows=5, counted=4, entry=0, adds=True), 5)
    sums.add(10, MatrixTile(rows=5, counted=4, entry=32, adds=True), 5)
    # Entries 0 to 31 are taken in cycles 15 to 19, the others from 20 to 24.
    assert sums.read(12, 6, lambda: iter([0] * 6)) == 12 + 6 + 5
    sums = Sums(64, 10)
    sums.add(5, MatrixTile(rows=5, counted=4, entry=30, adds=True), 5)
    assert sums.read(14, 4, lambda: iter([0, None, 1, 1])) == 14 + 4 + 3
    assert sums.read(100, 4, lambda: iter([0] * 4)) == 104


@settings(deadline=None)
@given(
    rows=st.integers(1, 40),
    load=st.integers(1, 16),
    entry=st.integers(0, 63),
    repeat=st.integers(1, 5),
    halves=st.lists(st.sampled_from([0, 1, None]), min_size=1, max_size=40),
    now=st.integers(0, 200),
)
def test_tiles_that_are_alike_take_what_each_of_them_takes(rows, load, entry, repeat, halves, now):
    period = max(rows, load)
    tile = MatrixTile(rows, 4, entry, adds=True)
    together, alone = Sums(64, 10), Sums(64, 10)
    together.add(3, tile._replace(repeat=repeat), period)
    for n in range(repeat):
        alone.add(3 + n * period, tile, period)
    ends = [sums.read(now, len(halves), lambda: iter(halves)) for sums in (together, alone)]
    assert ends[0] == ends[1]


def test_tiles_of_planes_add_but_for_the_first():
    modes = {"planes": 1, "end_row": 8, "start": Start.OVERWRITE}
    fields = {
        "modes": pack_fields(Modes(), modes, "modes"),
        "tiles": 2 | 1 << 16,
        "rows": 5,
        "sums": 7,
    }
    tiles = list(matrix_tiles(fields, 8, 8))
    adds = [adds for tile in tiles for adds in [tile.adds] * tile.repeat]
    assert adds == [False, True, True, True, True, True]
    assert {tile.entry for tile in tiles} == {7}
