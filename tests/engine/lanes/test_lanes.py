# SPDX-License-Identifier: BSD-2-Clause
"""The lane engine: the golden model's tokens, and Verilator's state."""

import re
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest

from diptych.mesh.fabric import Port
from diptych.mesh.sram import BANKS
from diptych_sim.engine.lanes import mesh as lane_mesh
from diptych_sim.engine.lanes.clusters import plan
from diptych_sim.engine.lanes.emit import emit
from diptych_sim.engine.lanes.mesh import LaneMesh, Part
from diptych_sim.engine.lanes.tiling import tile_in_parts
from diptych_tb.lockstep.compare import compare
from support.mesh_jobs import decode_job, random_job
from support.planted_tile import translate_with


@pytest.mark.parametrize("mesh", [(2, 2), (3, 5)])
def test_tokens_equal_the_golden_model(mesh):
    load, expected = decode_job(mesh)
    with LaneMesh(*mesh) as lanes:
        lanes.reset()
        lanes.feed(load)
        lanes.run(200_000, words=len(expected))
        assert [word.data for word in lanes.words()] == expected


@pytest.mark.parametrize(
    ("part", "chosen", "threads"),
    [((0, 0, 32, 63), "", 1), ((0, 0, 32, 64), "", 2), ((0, 0, 72, 64), "", 3), ((0, 0, 2, 2), "5", 5)],
)  # fmt: skip
def test_large_meshes_take_threads(monkeypatch, part, chosen, threads):
    monkeypatch.setenv("DIPTYCH_THREADS", chosen)
    monkeypatch.setattr("os.sched_getaffinity", lambda _process: range(3))
    mesh = SimpleNamespace(part=Part(*part))
    assert LaneMesh.threads.func(mesh) == threads


CHECKPOINTS = [0, 1, 2, 16, 499, 999, 1499, 1999, 2999, 3999, 4999, 5499, 5999, 7000]
MESHES = {(2, 2): (None, 1, 2), (3, 5): (None, 1, 2)}
"""Seeds of random loads on each mesh; None: a decode."""


# Larger meshes cost more a cycle, and have no tile that smaller ones have not.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "seed"), [(mesh, seed) for mesh, seeds in MESHES.items() for seed in seeds]
)
def test_state_equals_verilator(mesh, seed):
    load = decode_job(mesh)[0] if seed is None else random_job(mesh, seed)
    done = compare(mesh, load, CHECKPOINTS)
    assert str(done.first) == "None"
    assert done.registers + done.memories > 240
    assert done.memories > 2


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [64, 256])
def test_state_equals_verilator_in_several_parts(monkeypatch, lanes):
    """In parts that are blocks of their own, and in parts of one block."""
    monkeypatch.setenv("DIPTYCH_LANES", str(lanes))
    mesh = (5, 13)
    assert tile_in_parts(*mesh).parts == 2
    assert str(compare(mesh, random_job(mesh, 1), [100, 600]).first) == "None"


def _emitted(change):
    """Plant a fault in the C++ of the tile."""
    return lambda monkeypatch: translate_with(
        monkeypatch, "emit", lambda *args: change(emit(*args))
    )


def _all_in_place(monkeypatch):
    def wrong(low):
        found = plan(low)
        counters = {node for k in found.counting for node in found.clusters[k].changes}
        registers = {node for cluster in found.clusters for node in cluster.changes}
        return replace(found, in_place=registers - counters)

    translate_with(monkeypatch, "plan", wrong)


def _other_bank(text):
    pattern = r"look_up\(m, \(const uint64_t\*\)\(s \+ (\d+)\) \+ j \* PART, (\d+)"
    memories = defaultdict(list)
    for place, depth in re.findall(pattern, text):
        memories[depth] += [place] * (place not in memories[depth])
    banks = next((places for places in memories.values() if len(places) == BANKS), None)
    if banks is None:
        return text  # of a host port
    reads = [f"look_up(m, (const uint64_t*)(s + {bank})" for bank in banks]
    return text.replace(reads[0], reads[1])


FAULTS = {
    "a difference is a sum": _emitted(lambda text: text.replace("sub(", "add(")),
    "signed is unsigned": _emitted(lambda text: text.replace("less(", "below(")),
    "writes go to the next lane": _emitted(
        lambda text: text.replace("j * PART + k]", "j * PART + (k ^ 1)]")
    ),
    "a port reads another bank": _emitted(_other_bank),
    "registers change before all have read them": _all_in_place,
    "a neighbor is another one": lambda monkeypatch: monkeypatch.setattr(
        lane_mesh,
        "DIRECTIONS",
        [
            *(port for port in Port if port not in (Port.SOUTH, Port.RAMP)),
            SimpleNamespace(label="south", opposite=Port.NORTH, step=(-1, 0)),
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(monkeypatch, fault):
    FAULTS[fault](monkeypatch)
    # Random routes seldom lead to a neighbor; a decode needs all of them.
    decodes = fault == "a neighbor is another one"
    load = decode_job((2, 2))[0] if decodes else random_job((2, 2), 1)
    done = compare((2, 2), load, [0, 5200 if decodes else 1500])
    assert re.match(r"cycle \d+, tile [01],[01]: \S+ is 0x\w+ on lanes and 0x", str(done.first))


def test_a_closed_mesh_refuses():
    lanes = LaneMesh(1, 2)
    lanes.close()
    lanes.close()
    with pytest.raises(ValueError, match="Mesh must not be closed yet"):
        _ = lanes.cycle
    with pytest.raises(ValueError, match="Mesh must not be closed yet"):
        lanes.run(1)
