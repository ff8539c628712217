# SPDX-License-Identifier: BSD-2-Clause
"""Commands that run the mesh give the same on lanes as in Verilator."""

import sys
from pathlib import Path

import numpy as np
import pytest

from diptych_sim.decode_only import decode_only
from diptych_sim.engine.kind import ENGINES
from diptych_sim.gemv import gemv

sys.path.insert(0, str(Path(__file__).parent))
from jobs import TINY, random_model


def product(engine):
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, 50).astype(np.int8)
    w = rng.integers(-128, 128, (40, 50)).astype(np.int8)
    return gemv(x, w, mesh=(2, 2), engine=engine, sram_bytes=16384)


def decode(engine):
    prompt = np.random.default_rng(1).integers(0, TINY.vocab, 5).tolist()
    return decode_only(random_model(TINY, 1), [prompt], [6], mesh=(2, 2), engine=engine)


def test_lanes_equal_the_golden_models():
    assert product("lanes").matches_golden
    assert decode("lanes").matches_golden


@pytest.mark.slow
def test_engines_agree():
    products = [product(engine) for engine in ENGINES]
    assert products[0].accounts == products[1].accounts
    seen = []
    for engine in ENGINES:
        events = decode(engine).events
        seen.append([{k: v for k, v in event.items() if k != "wall"} for event in events])
    # Also the counters of all tiles, when decoding starts and at the end.
    assert seen[0] == seen[1]
