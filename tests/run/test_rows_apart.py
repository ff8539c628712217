# SPDX-License-Identifier: BSD-2-Clause
"""Rows without positions, and layers that are wide, in RTL: every token equals the golden model's.

Mutations that were tried by hand, each seen to fail: a row without positions that sends a wavelet too few
(the mesh hangs), or a high score; RoPE factors of positions dealt in turn; a row that is due too late for its second
block; groups, or the KV cache, from column 0 on; a wide layer that adds the sums it should drop, that keeps the
floor's scale, or that is not wide; work aside that is not counted; ways to all rows in the cost model.
"""

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.account.generation import account
from diptych_sim.cost.decode import decode_cost
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.generate import generate
from diptych_sim.run.mesh_request import mesh_request
from support.tile_sizes import LARGE_TILE

SHAPES = {
    "more heads than are on their way at once": ModelConfig(
        dim=24, hidden=40, layers=3, heads=6, kv_heads=6, vocab=40, context=64, head_width=8
    ),
    "normalized heads that columns share": ModelConfig(
        dim=40,
        hidden=70,
        layers=3,
        heads=2,
        kv_heads=1,
        vocab=40,
        context=64,
        head_width=32,
        qk_norm=True,
    ),
}


def machine(rows, columns):
    return MachineConfig(mesh=(rows, columns), **LARGE_TILE)


@pytest.mark.parametrize(
    ("name", "mesh", "prompt", "tokens"),
    [
        ("more heads than are on their way at once", (7, 1), 1, 12),
        ("more heads than are on their way at once", (12, 2), 3, 12),
        ("normalized heads that columns share", (6, 8), 2, 30),
    ],
)
def test_rows_are_given_their_first_positions_while_they_run(
    name, mesh, prompt, tokens, monkeypatch
):
    shared = "share" in name
    if shared:
        # The smallest block is the fastest for so many positions that a row has two.
        monkeypatch.setattr("diptych_sim.compiler.decode.head_deal._BLOCKS", (4,))
    model = random_integers(SHAPES[name], 3)
    done = generate(
        model,
        [np.random.default_rng(5).integers(0, model.config.vocab, prompt).tolist()],
        [tokens],
        machine=machine(*mesh),
        stage="decode",
        engine="lanes",
        preloaded=True,
    )
    assert done.matches_golden, done.difference
    program = done.decode
    place = program.placement
    assert (place.split > 1) == shared
    assert not shared or place.span.start % place.split, "groups must not begin at column 0"
    deal = place.positions
    held = [deal.held(row, prompt) for row in range(mesh[0])]
    assert 0 in held
    last = [deal.held(row, prompt + tokens - 1) for row in range(mesh[0])]
    assert held != last
    assert not shared or (deal.block > 1 and max(last) > deal.block), "a row must have two blocks"
    layers = model.config.layers
    assert set(program.wide) & set(range(1, layers)), "some layers must be wide, and some not"
    # It compares what tiles count with their programs, of wide layers, too.
    found = account(done)["decode"]
    assert found["cycles"] >= found["bound_cycles"]
    assert decode_cost(program) == pytest.approx(found["cycles"], rel=0.03)


def test_a_mesh_that_reads_the_prompt_begins_without_positions():
    model = random_integers(SHAPES["normalized heads that columns share"], 4)
    done = mesh_request(model, [[3, 1, 2, 7]], 5, machine=machine(6, 4), engine="lanes")
    assert done.matches_golden, done.difference
    assert len(done.program.wide) == 4 - 1 + 5


def test_a_mesh_of_which_few_rows_hold_positions_is_faster(monkeypatch):
    model = random_integers(SHAPES["normalized heads that columns share"], 3, steady=True)

    def cycles():
        done = generate(
            model,
            [[5, 6]],
            [4],
            machine=machine(24, 4),
            stage="decode",
            engine="lanes",
            preloaded=True,
        )
        assert done.matches_golden, done.difference
        cycles = account(done)["decode"]["cycles"]
        # Ways to all rows would be 4 % more.
        assert decode_cost(done.decode) == pytest.approx(cycles, rel=0.02)
        return cycles

    apart = cycles()
    place = "diptych_sim.compiler.decode.placement.Placement.rows_apart"
    monkeypatch.setattr(place, property(lambda self: False))
    # Four ways of three reductions end at rows near the middle. Rows without positions have less to do, which
    # makes up for a part of theirs.
    assert cycles() - apart >= 3 * model.config.layers * 4 * (12 - 3) / 3
