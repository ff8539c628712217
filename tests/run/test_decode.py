# SPDX-License-Identifier: BSD-2-Clause
"""The decode panel against the golden model: every token, on meshes of several shapes.

Mutations that were seen to fail: a loader that forgets the address of a packet; shared norms of
heads with an epsilon in each column, with that of another layer, or with the gains of another part;
16 wavelets in the fabric that nobody takes.
"""

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.compiler.decode.place import place
from diptych_sim.compiler.decode.placement import MeshTooSmallError
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model
from support.tile_sizes import LARGE_TILE


@pytest.mark.parametrize(
    ("mesh", "engine"),
    [
        ((2, 2), "verilator"),
        ((3, 2), "verilator"),
        ((2, 5), "verilator"),
        pytest.param((6, 9), "verilator", marks=pytest.mark.slow),
        pytest.param((16, 16), "lanes", marks=pytest.mark.slow),
    ],
)
def test_tokens_equal_the_golden_model(mesh, engine):
    prompt = np.random.default_rng(1).integers(0, TINY.vocab, 5).tolist()
    done = generate(
        random_model(TINY, 1),
        [prompt],
        [6],
        machine=MachineConfig(mesh=mesh),
        stage="decode",
        engine=engine,
    )
    assert done.matches_golden
    # Activations and weights share banks in the first row of some products.
    assert all(tile["bank_conflict"] < tile["computing"] / 20 for tile in done.tiles)


SHARED = ModelConfig(dim=96, hidden=40, layers=2, heads=6, kv_heads=2, vocab=50, context=64)


@pytest.mark.parametrize(
    ("mesh", "split", "engine"),
    [
        pytest.param((2, 4), 2, "verilator", marks=pytest.mark.slow),
        ((3, 4), 2, "lanes"),
        pytest.param((7, 13), 1, "lanes", marks=pytest.mark.slow),
        pytest.param((1, 64), 1, "lanes", marks=pytest.mark.slow),
        pytest.param((64, 1), 1, "lanes", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("preloaded", [False, True])
def test_columns_that_share_heads(mesh, split, engine, preloaded):
    if preloaded and engine == "verilator":
        pytest.skip("weights are preloaded on lanes only")
    rng = np.random.default_rng(2)
    # More positions of a row than the fabric holds scores, too.
    for lengths in ([50], [45, 1]):
        prompts = [rng.integers(0, SHARED.vocab, n).tolist() for n in lengths]
        done = generate(
            random_model(SHARED, 1),
            prompts,
            [5] * len(prompts),
            machine=MachineConfig(mesh=mesh, **LARGE_TILE),
            stage="decode",
            engine=engine,
            preloaded=preloaded,
        )
        assert done.decode.placement.split == split
        assert done.matches_golden, done.difference


def test_columns_that_share_heads_normalize_them_together():
    config = ModelConfig(
        dim=96,
        hidden=40,
        layers=2,
        heads=9,
        kv_heads=1,
        vocab=50,
        context=64,
        head_width=32,
        qk_norm=True,
    )
    rng = np.random.default_rng(2)
    for lengths in ([20], [13, 2]):
        prompts = [rng.integers(0, config.vocab, n).tolist() for n in lengths]
        done = generate(
            random_integers(config, 1),
            prompts,
            [4] * len(prompts),
            machine=MachineConfig(mesh=(3, 4), **LARGE_TILE),
            stage="decode",
            engine="lanes",
        )
        assert done.decode.placement.split == 4
        assert done.decode.colors == 14
        assert done.matches_golden, done.difference


LONG = ModelConfig(dim=32, hidden=32, layers=1, heads=4, kv_heads=2, vocab=32, context=512)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "longest"), [(2, 38), (4, 160), (8, 320)])
def test_the_longest_context_of_a_layout_runs_with_balanced_rows(rows, longest):
    """The last position that fits is written and attended to; every tile has its share of it.

    What a tile multiplies beside attention is the same in all of them, and attention costs three
    products of a head's dimension for each entry, and one for each of its values, 8 at a time.
    """
    rounds, columns, sram_bytes = 2, 2, 4096
    with pytest.raises(MeshTooSmallError):
        place(LONG, rows, columns, positions=longest + 1, sram_bytes=sram_bytes)
    prompt = np.random.default_rng(1).integers(0, LONG.vocab, longest - rounds).tolist()
    done = generate(
        random_model(LONG, 1),
        [prompt],
        [rounds + 1],
        machine=MachineConfig(mesh=(rows, columns), sram_bytes=sram_bytes),
        stage="decode",
    )
    assert done.matches_golden
    heads, width = LONG.heads // columns, LONG.head_dim
    deal = done.decode.placement.positions
    others = set()
    for index, tile in enumerate(done.tiles):
        row = index // columns
        held = [deal.held(row, positions + 1) for positions in range(longest - rounds, longest)]
        entries = sum(3 * count + 8 * -(-count // 8) for count in held)
        others.add(tile["macs"] - heads * width * entries)
    assert len(others) == 1


@pytest.mark.parametrize(
    ("mesh", "lengths", "tokens", "engine"),
    [
        ((2, 2), (5, 1, 7), (6, 4, 9), "lanes"),
        pytest.param(
            (4, 4),
            (9, 2, 4, 1, 30, 5, 6, 3),
            (5, 9, 5, 2, 1, 9, 3, 7),
            "lanes",
            marks=pytest.mark.slow,
        ),
        pytest.param((2, 5), (3, 8), (9, 9), "lanes", marks=pytest.mark.slow),
        pytest.param((2, 2), (5, 1, 7), (6, 4, 9), "verilator", marks=pytest.mark.slow),
    ],
)
def test_several_sequences_end_each_at_its_own_length(mesh, lengths, tokens, engine):
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, TINY.vocab, length).tolist() for length in lengths]
    model = random_model(TINY, 1)
    done = generate(
        model,
        prompts,
        tokens,
        machine=MachineConfig(mesh=mesh, **LARGE_TILE),
        stage="decode",
        engine=engine,
    )
    assert done.matches_golden
    assert [len(each.tokens) for each in done.sequences] == list(tokens)
