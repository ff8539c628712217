# SPDX-License-Identifier: BSD-2-Clause
"""How a model lies in a mesh: placement, KV layout, routes, and the assembler.

Mutations that were tried by hand, each seen to fail: the slot of a position by columns; heads that
share their keys; caches of two sequences that overlap; a root that does not pass its result on; a branch to the instruction behind its
label.
"""

import re
from bisect import bisect
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from diptych.mesh.fabric import Port
from diptych.mesh.isa import INSTRUCTION_WORDS, Function, Instruction, Op
from diptych_sim.compiler.array.commands import field_of
from diptych_sim.compiler.decode.kv_layout import kv_layout
from diptych_sim.compiler.decode.place import place
from diptych_sim.compiler.decode.placement import MeshTooSmallError
from diptych_sim.compiler.decode.position_deal import PositionDeal
from diptych_sim.compiler.decode.routes import Color, route_tables
from diptych_sim.compiler.tile.assembler import Assembler, AssemblerError
from diptych_sim.llm.model import ModelConfig

CONFIG = ModelConfig(dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=50, context=64)
STORIES = ModelConfig(dim=64, hidden=172, layers=5, heads=8, kv_heads=4, vocab=512, context=512)
"""The shape of the bundled model and of stories260K."""
SRAM = 49152
"""Bytes of a tile's SRAM, as on the WSE."""


@st.composite
def placed(draw):
    """A config, a mesh that it fits, and its placement."""
    kv_heads = draw(st.sampled_from([1, 2, 4]))
    heads = kv_heads * draw(st.sampled_from([1, 2, 4]))
    head_dim = draw(st.sampled_from([8, 16, 32]))
    config = ModelConfig(
        dim=heads * head_dim,
        hidden=draw(st.integers(8, 200)),
        layers=draw(st.integers(1, 3)),
        heads=heads,
        kv_heads=kv_heads,
        vocab=draw(st.integers(10, 300)),
        context=64,
    )
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 20))
    positions = draw(st.lists(st.integers(1, 64), min_size=1, max_size=3))
    try:
        found = place(config, rows, columns, positions=positions, sram_bytes=65536)
    except MeshTooSmallError:
        reject()
    return config, positions, found


def fits(draw_from):
    def decorate(test):
        return settings(deadline=None, max_examples=60)(given(draw_from)(test))

    return decorate


@fits(placed())
def test_regions_do_not_overlap_and_fit(case):
    config, _, p = case
    regions = [(r.address, r.address + r.size) for r in p.fixed.values()]
    for index in range(config.layers):
        shift = index * p.layer_bytes
        regions += [(r.address + shift, r.address + shift + r.size) for r in p.layer.values()]
    regions.sort()
    assert all(a[1] <= b[0] for a, b in pairwise(regions))
    assert regions[-1][1] <= p.used_bytes <= 65536


@fits(placed())
def test_everything_has_a_tile(case):
    config, positions, p = case
    assert p.chunk * p.rows >= config.dim
    assert p.width * p.split == config.head_dim
    assert p.heads * (p.columns // p.split) >= config.heads
    assert sum(kind.hidden * len(kind.span) for kind in p.kinds) >= config.hidden
    assert sum(kind.vocabulary * len(kind.span) for kind in p.kinds) >= config.vocab
    held = Counter(p.positions.row(position) for position in range(max(positions)))
    assert max(held.values()) == p.slots


@fits(placed())
def test_each_key_and_value_has_a_place_of_its_own(case):
    config, positions, p = case
    layout = kv_layout(config, p)
    rng = np.random.default_rng(1)
    shape = (config.kv_heads, config.head_dim)
    cells: set[tuple[int, int, int]] = set()
    for layer, prompt in product(range(config.layers), range(len(positions))):
        for position in range(positions[prompt]):
            keys, values = rng.integers(-99, 99, shape), rng.integers(-99, 99, shape)
            rows = [
                row
                for row in range(p.rows)
                if layout.packets(row, layer, position, keys, values, prompt=prompt)
            ]
            assert rows == [p.positions.row(position)]
            words = layout.packets(rows[0], layer, position, keys, values, prompt=prompt)
            at = 0
            while at < len(words):
                kind, step, count = words[at] & 15, words[at] >> 4 & 0xFFF, words[at] >> 16
                first, last = words[at + 1] & 0xFFFF, words[at + 1] >> 16
                step = step if kind == 2 else 1
                for column in range(first, last + 1):
                    for n in range(4 * count):
                        cell = (rows[0], column, words[at + 2] + n * step)
                        assert cell not in cells
                        assert cell[2] < p.used_bytes
                        cells.add(cell)
                at += 3 + count


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
@settings(deadline=None)
def test_reductions_reach_every_tile_of_their_line_once(rows, columns, split):
    tables = route_tables(rows, columns, split)
    down = [[(row, column) for row in range(rows)] for column in range(columns)]
    along = [[(row, column) for column in range(columns)] for row in range(rows)]
    groups = [line[at : at + split] for line in along for at in range(0, columns, split)]
    for color, lines in (
        (Color.COLUMN_ADD, down),
        (Color.COLUMN_MAX, down),
        (Color.ROW_ADD, along),
        (Color.ROW_MAX, along),
        *([(Color.GROUP_ADD, groups), (Color.GROUP_MAX, groups)] if split > 1 else []),
    ):
        for places in lines:
            count = len(places)
            # Follow every tile's contribution to the root, and the result back.
            roots = set()
            for place_ in places:
                here, came = place_, Port.RAMP
                for _ in range(count + 1):
                    route = tables[here[0]][here[1]][color]
                    assert came in route.sources, f"{color.name} is not taken at {here}"
                    if route.color != color:
                        roots.add(here)
                        break
                    (target,) = route.targets
                    step = target.step
                    here, came = (here[0] + step[0], here[1] + step[1]), target.opposite
                    assert here in places
                else:
                    raise AssertionError("a wavelet never arrives")
            (root,) = roots
            reached = Counter()
            waiting = [(root, tables[root[0]][root[1]][color].targets)]
            while waiting:
                here, targets = waiting.pop()
                for target in targets:
                    if target is Port.RAMP:
                        reached[here] += 1
                        continue
                    step = target.step
                    there = (here[0] + step[0], here[1] + step[1])
                    assert there in places
                    route = tables[there[0]][there[1]][color + 1]
                    assert route.sources == {target.opposite}
                    waiting.append((there, route.targets))
            assert reached == Counter(places)


@given(st.integers(1, 9), st.sampled_from([1, 2, 4, 8]), st.integers(0, 150))
def test_rows_are_given_blocks_of_positions_from_the_middle_on(rows, block, count):
    deal = PositionDeal(rows, block)
    held: list[list[int]] = [[] for _ in range(rows)]
    for position in range(count):
        held[deal.row(position)].append(position)
        assert deal.slot(position) == len(held[deal.row(position)]) - 1
    lengths = list(map(len, held))
    assert lengths == [deal.held(row, count) for row in range(rows)]
    assert max(lengths) - min(lengths) <= block
    # Some rows are ahead of the others, next to each other around the middle one.
    apart = [abs(row - rows // 2) for row in range(rows) if held[row]]
    assert max(apart, default=0) == deal.reach(count)
    for row in range(rows):
        due = deal.due(row, count)
        assert deal.row(count + due) == row
        assert all(deal.row(count + n) != row for n in range(due))
        assert all(n % block == k % block for k, n in enumerate(held[row]))
    positions = np.arange(count)
    assert deal.row(positions).tolist() == [deal.row(n) for n in range(count)]
    assert deal.slot(positions).tolist() == [deal.slot(n) for n in range(count)]


def test_rows_of_a_deal_in_order():
    assert [PositionDeal(6).row(n) for n in range(7)] == [3, 2, 4, 1, 5, 0, 3]
    assert [PositionDeal(3, 2).row(n) for n in range(8)] == [1, 1, 0, 0, 2, 2, 1, 1]
    assert [PositionDeal(3, 2).slot(n) for n in range(8)] == [0, 1, 0, 1, 0, 1, 2, 3]


def longest(rows: int, sequences: int = 1) -> int:
    """Most positions of each sequence that rows of 8 tiles hold."""

    def refuses(positions: int) -> bool:
        try:
            place(STORIES, rows, 8, positions=[positions] * sequences, sram_bytes=SRAM)
        except MeshTooSmallError:
            return True
        return False

    return bisect(range(1, 10_000), False, key=refuses)


def test_the_longest_context_grows_faster_than_the_rows():
    # Weights take less of each tile, too.
    assert [longest(rows) for rows in (2, 4, 8)] == [338, 988, 2296]


def test_several_sequences_hold_nearly_as_many_positions_as_one():
    alone = longest(8)
    assert all(0.9 * alone < n * longest(8, n) < 1.1 * alone for n in (2, 4, 8))


def test_sequences_that_do_not_fit_are_refused_with_a_mesh_that_would_do():
    message = (
        r"Mesh 4x4 has 24576 bytes of SRAM in a tile, and 8 sequences of 100 positions of this "
        r"model need \d+ more; (\d+)x\1 would do"
    )
    with pytest.raises(MeshTooSmallError, match=f"^{message}$") as caught:
        place(STORIES, 4, 4, positions=[100, 50] * 4, sram_bytes=24576)
    size = int(re.findall(r"(\d+)x\d+ would do", str(caught.value))[0])
    place(STORIES, size, size, positions=[100, 50] * 4, sram_bytes=24576)
    with pytest.raises(MeshTooSmallError):
        place(STORIES, size - 1, size - 1, positions=[100, 50] * 4, sram_bytes=24576)


def test_a_mesh_that_is_too_small_is_told_with_one_that_would_do():
    config = ModelConfig(dim=64, hidden=172, layers=5, heads=8, kv_heads=4, vocab=512, context=512)
    message = (
        r"Mesh 2x2 has 16384 bytes of SRAM in a tile, and 100 positions of this model need \d+ "
        r"more; \d+x\d+ would do"
    )
    with pytest.raises(MeshTooSmallError, match=f"^{message}$") as caught:
        place(config, 2, 2, positions=100, sram_bytes=16384)
    rows, columns = map(int, re.findall(r"(\d+)x(\d+) would do", str(caught.value))[0])
    place(config, rows, columns, positions=100, sram_bytes=16384)


# --- assembler -----------------------------------------------------------------------------------
@given(
    st.sampled_from([op for op in Op if op is not Op.SCALAR]),
    st.integers(0, 15),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**16 - 1),
)
def test_fields_are_where_the_isa_says(op, register, base, count):
    program = Assembler()
    program.vector(op, a_reg=register, a_base=base, count=count, color=register)
    words = program.words()
    assert len(words) == INSTRUCTION_WORDS
    fields = field_of(Instruction(), sum(w << 32 * n for n, w in enumerate(words)))
    assert (fields["op"], fields["a_reg"], fields["a_base"]) == (op.value, register, base)
    assert fields["count"] == count
    assert fields["tail"] & 31 == register


def test_branches_go_to_their_labels():
    program = Assembler()
    program.scalar(Function.ADD, d=1)
    program.label("here")
    program.scalar(Function.ADD, d=2)
    program.branch(3, "there")
    program.branch(3, "here")
    program.label("there")
    program.scalar(Function.END)
    tails = program.words()[INSTRUCTION_WORDS - 1 :: INSTRUCTION_WORDS]
    assert tails[2:4] == [4, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"a_reg": 16}, "Instruction 0 (GATE): a_reg must be in range(16), not 16"),
        ({"count": -1}, "Instruction 0 (GATE): count must be in range(65536), not -1"),
        ({"color": 32}, "Instruction 0 (GATE): color must be in range(32), not 32"),
    ],
)
def test_a_field_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(AssemblerError, match=f"^{re.escape(message)}$"):
        Assembler().vector(Op.GATE, **fields)


def test_labels_must_be_placed_once():
    program = Assembler()
    program.branch(1, "nowhere")
    with pytest.raises(AssemblerError, match=r"^Label 'nowhere' must be placed$"):
        program.words()
    program.label("twice")
    with pytest.raises(AssemblerError, match=r"^Label 'twice' must be placed once$"):
        program.label("twice")
