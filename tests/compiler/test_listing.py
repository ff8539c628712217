# SPDX-License-Identifier: BSD-2-Clause
"""Listings of a tile's program, and the assembler's way there and back.

Mutations that were tried by hand, each seen to fail: an immediate that loses its sign; a register's
field shifted by one; a branch shown without its label.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.mesh.isa import Function, Op, Type
from diptych.systolic.isa import Causal, Flags, Modes, Queue, StoreOp, Target, VectorOp
from diptych_sim.compiler.array.commands import CommandList, Label, pack_fields
from diptych_sim.compiler.array.listing import command_listing
from diptych_sim.compiler.decode.compile import compile_decode
from diptych_sim.compiler.decode.listing import memory_listing, program_listing, tile_listing
from diptych_sim.compiler.tile.assembler import Assembler, disassemble
from support.random_model import TINY, random_model

REGISTER = st.integers(0, 15)
WORD = st.integers(0, 2**16 - 1)
FLAG = st.integers(0, 1)
VECTOR = st.fixed_dictionaries(
    dict.fromkeys(("d_reg", "a_reg", "b_reg", "dynamic", "count_reg", "inner_reg"), REGISTER)
    | dict.fromkeys(("a_base", "b_base", "d_base", "count", "inner", "stride"), WORD)
    | {name: st.sampled_from(list(Type)) for name in ("a_type", "d_type")}
    | {"color": st.integers(0, 31), "bits": st.integers(0, 63)}
    | dict.fromkeys(
        [
            "fence_pipe",
            "fence_receive",
            "to_color",
            "static_memory",
            "statistic",
            "accumulate",
            "argmax",
            "planes",
            "biased",
            "sends_statistic",
        ],
        FLAG,
    )
)
SCALAR = st.fixed_dictionaries(
    dict.fromkeys(("d", "a", "b", "dynamic"), REGISTER)
    | {"imm": st.integers(-(2**31), 2**31 - 1), "color": st.integers(0, 31)}
    | dict.fromkeys(("fence_pipe", "fence_receive"), FLAG)
)


@given(st.sampled_from([op for op in Op if op is not Op.SCALAR]), VECTOR)
def test_a_vector_instruction_comes_back_as_it_was_given(op, fields):
    program = Assembler()
    program.vector(op, **fields)
    got, _, back = disassemble(program.instructions[0])
    expected = {name: getattr(value, "value", value) for name, value in fields.items()}
    assert got is op
    assert {name: value for name, value in back.items() if value} == {
        name: value for name, value in expected.items() if value
    }


@given(st.sampled_from(list(Function)), SCALAR)
def test_a_scalar_instruction_comes_back_as_it_was_given(function, fields):
    program = Assembler()
    program.scalar(function, **fields)
    op, got, back = disassemble(program.instructions[0])
    assert (op, got) == (Op.SCALAR, function)
    assert {name: value for name, value in back.items() if value} == {
        name: value for name, value in fields.items() if value
    }


@pytest.fixture(scope="module")
def compiled():
    return compile_decode(random_model(TINY, 1), 2, 2, prompt_tokens=[5, 3], tokens=[4, 6])


def test_a_listing_names_operations_regions_colors_and_labels(compiled):
    text = program_listing(compiled)
    for line in (
        "; x = embedding[token]",
        "; sequences 0, 1",
        "; sequences 1",
        (
            "RECEIVE      x.1 (int32) += 16 of ROW_SUM * [o_scale + LAYER] * UNITY, 24 bits, "
            "with its statistic, after the receiver ; x += context Wo"
        ),
        "BRANCH       to layer if A",
        "BRANCH       to token.1 if LEFT",
    ):
        assert line in text
    assert len([line for line in text.splitlines() if line[:5].strip().isdigit()]) == len(
        compiled.program.instructions
    )


def test_a_listing_says_where_texts_end_and_how_tokens_are_drawn():
    model = random_model(TINY, 1).sampled(500.0)
    text = program_listing(
        compile_decode(model, 2, 2, prompt_tokens=5, tokens=4, stops=[2, 7], seeds=[1])
    )
    for line in (
        "; end with the text",
        "ADD          B = UNITY - 7",
        "BRANCH       to text if A",
        "12 bits, its statistic to COLUMN_ADD, after the last wavelet received ; normed = x / largest",
        f"NOISE        noise (int32) <- noise of VOCABULARY from FIRST, key B, >> {model.noise_shift}",
        "MAXIMUM <- arg-max of VOCABULARY of COLUMN_SUM * [output_scale] * A, ",
        " bits + (noise)",
    ):
        assert line in text, line


def test_a_tile_shows_its_part_its_registers_and_its_routes(compiled):
    text = tile_listing(compiled, 1, 0)
    for line in (
        "tile 1,0 of 2x2",
        " residual elements: 16 to 31",
        "            tokens: 0 to 24",
        "        VOCABULARY = 25",
        "         positions: 0, 2 ...",
        "        sequence 0: COUNT = 3, TURN = 1",
        "        sequence 1: COUNT = 2, TURN = 1",
        "        COLUMN_ADD: from north ramp to north ramp, add, as COLUMN_SUM",
    ):
        assert line in text.splitlines()


def test_a_memory_map_names_the_caches_of_each_sequence(compiled):
    text = memory_listing(compiled)
    p = compiled.placement
    assert f"{p.at('keys', 1):7} {p.layer['keys.1'].size:7}  keys.1" in text.splitlines()


def test_commands_of_the_prefill_panel_have_names():
    program = CommandList(label=Label(2, "gate and up"))
    load = program.add(Queue.LOAD, Target.GATHER, hbm=64, rows=3, ids=128)
    modes = pack_fields(Modes(), {"causal": Causal.BY_N, "planes": 1, "end_row": 8}, "modes")
    matrix = program.add(
        Queue.MATRIX, 0, after=[load], x=256, tiles=2 | 5 << 16, rows=3 | 7 << 16, modes=modes
    )
    flags = pack_fields(Flags(), {"restart": 1, "pair": 8}, "flags")
    program.add(
        Queue.VECTOR, VectorOp.GATE, after=[load, matrix], extent=3 | 5 << 16, extra=9, flags=flags
    )
    program.label = Label(None, "token")
    program.add(Queue.STORE, StoreOp.TOKEN, layer=1 << 8)
    assert [line.rstrip() for line in command_listing(program).splitlines()] == [
        "; layer 2, gate and up",
        "    0 LOAD   GATHER         hbm=64 rows=3 ids=128; signals MATRIX VECTOR",
        (
            "    1 MATRIX MULTIPLY       x=256 k_tiles=2 n_tiles=5 rows=3 x_planes=7 causal=BY_N "
            "planes=1 end_row=8; after LOAD; signals VECTOR"
        ),
        (
            "    2 VECTOR GATE           rows=3 n_tiles=5 sums2=9 restart=1 pair=8; "
            "after LOAD MATRIX"
        ),
        "; token",
        "    3 STORE  TOKEN          prompt=1",
    ]
