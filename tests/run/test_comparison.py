# SPDX-License-Identifier: BSD-2-Clause
"""Contents of the tiles after a generation, compared with the golden model.

With one wrong entry in the exponent table of the hardware, every token of a run of 3 tokens still
equals the golden model's; the KV cache at the end was seen to differ.
"""

from dataclasses import replace

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.host.jobs import Inspected
from diptych_sim.run.comparison import compare, inspection
from diptych_sim.run.generate import generate
from support.random_model import TINY, random_model
from support.tile_sizes import LARGE_TILE


@pytest.fixture(scope="module")
def done():
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, TINY.vocab, length).tolist() for length in (5, 3)]
    return generate(
        random_model(TINY, 1),
        prompts,
        [4, 3],
        machine=MachineConfig(mesh=(2, 3), **LARGE_TILE),
        stage="decode",
        engine="lanes",
    )


def test_all_of_the_cache_and_every_norm_is_compared(done):
    compared = done.comparison.compared
    cells = 3 * TINY.kv_dim * TINY.layers  # bytes of a position in a row; columns may share heads
    assert done.matches_golden
    assert compared["final_norms"] == 5
    assert compared["kv_handoff"]["bytes"] >= cells * (5 + 3)
    assert compared["kv_end"]["bytes"] >= cells * (5 + 3 + 5)
    assert compared["kv_end"]["tiles"] == 6


def test_a_difference_in_any_place_is_named(done):
    """Flip one bit of what was read: the KV cache after the hand-off, at the end, and a norm."""
    spec = inspection(done.decode)
    inspected = done.inspected

    def verdict(**changed: list[bytes]) -> str | None:
        parts: Inspected = replace(inspected, **changed)
        return compare(done.decode, done.golden, done.mesh_sequences, parts).difference

    assert verdict() is None

    def flipped(parts, index, byte):
        copy = [bytearray(part) for part in parts]
        copy[index][byte] ^= 1
        return [bytes(part) for part in copy]

    rng = np.random.default_rng(2)
    seen = {"KV cache after the hand-off": 0, "KV cache at the end": 0}
    for name, words in (("handoff", "after the hand-off"), ("end", "at the end")):
        parts = getattr(inspected, name)
        for _ in range(40):
            index = int(rng.integers(len(spec.tiles)))
            found = verdict(**{name: flipped(parts, index, int(rng.integers(len(parts[index]))))})
            if found is not None:  # slots that hold no position are not compared
                assert found.startswith(f"KV cache {words} differs from the golden model's: tile (")
                seen[f"KV cache {words}"] += 1
    assert min(seen.values()) > 5
    found = verdict(norms=flipped(inspected.norms, 2, 0))
    assert found is not None
    assert found.startswith("Final norm of token ")
