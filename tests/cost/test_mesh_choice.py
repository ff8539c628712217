# SPDX-License-Identifier: BSD-2-Clause
"""The mesh that is chosen for a model, beside all others.

Mutations that were tried by hand, each seen to fail: the slowest mesh; a mesh of more tiles; weights
that take a quarter more than they do; columns that are left out with a tenth of their room free.
"""

import random

import pytest

from diptych.config import MachineConfig
from diptych_sim.compiler.decode.place import placed_or_smallest, try_place
from diptych_sim.compiler.decode.placement import MeshTooSmallError
from diptych_sim.cost.mesh_choice import choose_mesh
from diptych_sim.cost.models.shape import shape_of
from diptych_sim.cost.projection.own_machine import decode_cycles
from diptych_sim.llm.model import ModelConfig

MODELS = [
    ModelConfig(dim=64, hidden=172, layers=5, heads=8, kv_heads=4, vocab=512, context=512),
    ModelConfig(dim=96, hidden=40, layers=2, heads=3, kv_heads=1, vocab=300, context=64),
]


@pytest.mark.parametrize("config", MODELS)
@pytest.mark.parametrize("tiles", [32, 60, 100])
def test_no_mesh_is_faster(config, tiles):
    sram_bytes = 16384
    found = choose_mesh(config, positions=40, sram_bytes=sram_bytes, max_tiles=tiles)
    best = None
    sides = range(1, tiles + 1)
    for mesh in [(rows, columns) for rows in sides for columns in sides if rows * columns <= tiles]:
        if try_place(config, *mesh, positions=40, sram_bytes=sram_bytes) is None:
            continue
        cycles = decode_cycles(shape_of(config, "model"), MachineConfig(mesh=mesh), 40)
        best = min(filter(None, (best, cycles.products + cycles.waits)))
    assert found.cycles == best


def test_a_model_that_fits_no_mesh_is_refused():
    message = "No mesh of at most 4 tiles with 1024 bytes of SRAM each holds 40 positions"
    with pytest.raises(MeshTooSmallError, match=message):
        choose_mesh(MODELS[0], positions=40, sram_bytes=1024, max_tiles=4)


def test_what_fits_is_tried():
    """What is passed over unseen is nothing that would have been taken."""
    rng = random.Random(5)
    kinds = set()
    for _ in range(300):
        kv_heads = rng.choice([1, 2, 3])
        config = ModelConfig(
            dim=rng.choice([64, 96, 200]),
            hidden=rng.randrange(8, 600),
            layers=rng.randrange(1, 4),
            heads=kv_heads * rng.choice([1, 2, 3]),
            kv_heads=kv_heads,
            vocab=rng.randrange(4, 3000),
            context=512,
            head_width=rng.choice([8, 16, 32]),
            qk_norm=rng.random() < 0.3,
            qkv_bias=rng.random() < 0.3,
        )
        mesh = rng.randrange(1, 14), rng.randrange(1, 14)
        task = {"positions": rng.randrange(1, 100), "sampled": rng.random() < 0.5}
        smallest = placed_or_smallest(config, *mesh, sram_bytes=1, **task).tile_bytes
        for room in (smallest - 1, smallest, rng.randrange(smallest, 2 * smallest)):
            first = placed_or_smallest(config, *mesh, sram_bytes=room, **task)
            found = try_place(config, *mesh, sram_bytes=room, **task)
            assert found == (first if first.tile_bytes <= room else None)
            kinds.add(found and found.headless is not None)
    assert kinds == {None, False, True}
