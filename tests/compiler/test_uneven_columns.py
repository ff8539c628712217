# SPDX-License-Identifier: BSD-2-Clause
"""Columns without heads have more of the rest, where a model fits only so.

Mutations that were tried by hand, each seen to fail: columns without heads that begin a token, or a
hidden element, too early; tokens that no column has; tokens dealt alike.
"""

from bisect import bisect_left
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from diptych_sim.compiler.decode.compile import compile_decode
from diptych_sim.compiler.decode.place import place, placed_or_smallest
from diptych_sim.compiler.decode.placement import MeshTooSmallError
from diptych_sim.cost.mesh_choice import choose_mesh
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.fit import fit

SMOLLM2 = ModelConfig(
    dim=576, hidden=1536, layers=30, heads=9, kv_heads=3, vocab=49152, context=8192
)


def least_bytes(config, rows, columns, positions):
    """Return the SRAM of the smallest tile that holds a model, and how it lies there."""
    sizes = range(256, 65537, 256)

    def placed(size):
        return placed_or_smallest(config, rows, columns, positions=positions, sram_bytes=size)

    fitting = bisect_left(sizes, True, key=lambda size: placed(size).tile_bytes <= size)
    size = sizes[min(fitting, len(sizes) - 1)]
    return size, placed(size)


@st.composite
def tight(draw):
    """A config with fewer heads than columns, and its placement in the smallest tiles."""
    kv_heads = draw(st.sampled_from([1, 2]))
    heads = kv_heads * draw(st.sampled_from([1, 3]))
    config = ModelConfig(
        dim=draw(st.integers(2, 20)) * heads,
        hidden=draw(st.integers(1, 200)),
        layers=draw(st.integers(1, 3)),
        heads=heads,
        kv_heads=kv_heads,
        vocab=draw(st.integers(2, 300)),
        context=64,
        head_width=draw(st.sampled_from([8, 16])),
    )
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 23))
    size, found = least_bytes(config, rows, columns, draw(st.integers(1, 64)))
    if found.headless is None or found.tile_bytes > size:
        reject()
    return config, found


@settings(deadline=None, max_examples=60)
@given(tight())
def test_everything_has_one_tile(case):
    config, p = case
    spans = [column for kind in p.kinds for column in kind.span]
    assert spans == list(range(p.columns))
    tokens = Counter(t for c in spans for t in p.tokens(c, config.vocab))
    assert tokens == Counter(range(config.vocab))
    first = 0
    for kind in p.kinds:
        assert kind.first_hidden == first
        first += len(kind.span) * kind.hidden
    assert first >= config.hidden
    assert p.heads * len(p.span) // p.split >= config.heads
    assert all(kind.heads == 0 for kind in p.others)
    behind = p.columns - p.span.stop
    assert 0 <= behind - p.span.start <= 1, "heads are in the middle"
    assert p.column_reach == max(abs(column - p.columns // 2) for column in p.span)
    for kind in p.kinds:
        regions = [(r.address, r.address + r.size) for r in kind.fixed.values()]
        for index in range(config.layers):
            shift = index * kind.layer_bytes
            regions += [
                (r.address + shift, r.address + shift + r.size) for r in kind.layer.values()
            ]
        regions.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(regions))
        assert regions[-1][1] <= kind.used_bytes <= p.tile_bytes <= p.sram_bytes


def test_each_weight_is_in_one_tile():
    config = ModelConfig(
        dim=24, hidden=70, layers=1, heads=3, kv_heads=1, vocab=90, context=16, tied=False
    )
    sram, _ = least_bytes(config, 3, 7, 9)
    model = random_integers(config, 1)
    program = compile_decode(model, 3, 7, prompt_tokens=4, tokens=6, sram_bytes=sram)
    p = program.placement
    assert p.headless is not None
    cells = program.images.view(np.uint8).view(np.int8)

    def sums(name, size):
        """Sum of what all tiles have of a matrix."""
        return sum(
            int(
                cells[:, kind.span.start : kind.span.stop, kind.at(name) :][
                    :, :, : size(kind)
                ].sum()
            )
            for kind in p.kinds
        )

    w = model.layers[0]
    assert sums("output", lambda k: k.vocabulary * k.chunk) == int(model.output.sum())
    assert sums("embedding", lambda k: k.vocabulary * k.chunk) == int(model.embedding.sum())
    gates = int(w.w_gate.sum()) + int(w.w_up.sum())
    assert sums("w_gate_up", lambda k: 2 * k.hidden * k.chunk) == gates
    assert sums("w_down", lambda k: k.hidden_bytes * k.chunk) == int(w.w_down.sum())


def test_a_mesh_without_room_to_deal_is_placed_alike():
    config = ModelConfig(dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=50, context=64)
    assert place(config, 4, 4, positions=20, sram_bytes=49152).headless is None
    # Each column has a head.
    assert least_bytes(config, 3, 4, 20)[1].headless is None


def test_smollm2_fits_4608_tiles_of_48_kib():
    found = fit(SMOLLM2, (72, 64), (32, 32), positions=1024, sram_bytes=49152)
    assert found.tile_bytes <= 49152
    assert found.longest_context >= 1024
    assert sum(found.tile_parts.values()) == found.tile_bytes
    choice = choose_mesh(SMOLLM2, positions=1024, sram_bytes=49152, max_tiles=4608)
    assert choice.mesh == (72, 64)
    assert choice.placement.tile_bytes == found.tile_bytes


def test_tokens_fill_the_tiles_of_both_kinds():
    config = replace(SMOLLM2, tied=False)
    p = placed_or_smallest(config, 72, 64, positions=64, sram_bytes=49152)
    assert p.headless is not None
    assert p.headless.vocabulary > 3 * p.vocabulary > 0
    assert abs(p.used_bytes - p.headless.used_bytes) < 256


def test_a_message_counts_the_bytes_of_the_fullest_tile():
    config = ModelConfig(dim=24, hidden=70, layers=1, heads=3, kv_heads=1, vocab=90, context=16)
    sram, way = least_bytes(config, 3, 7, 9)
    missing = placed_or_smallest(config, 3, 7, positions=9, sram_bytes=256).tile_bytes - 256
    assert way.tile_bytes <= sram
    with pytest.raises(MeshTooSmallError, match=f" need {missing} more; "):
        place(config, 3, 7, positions=9, sram_bytes=256)
