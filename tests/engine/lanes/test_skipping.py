# SPDX-License-Identifier: BSD-2-Clause
"""What nothing has changed for is not evaluated: every register in every cycle is as without that."""

import itertools
import random
import re

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych_sim.engine.errors import SimulationError
from diptych_sim.engine.lanes.clusters import plan
from diptych_sim.engine.lanes.digest import MeshDigest
from diptych_sim.engine.lanes.emit import emit
from diptych_sim.engine.lanes.layout import PART
from diptych_sim.engine.lanes.lower import lower
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.lanes.netlist import read_netlist
from diptych_sim.engine.lanes.partition import partition
from support.mesh_jobs import decode_job, random_job
from support.planted_tile import translate_with

WIDE = 13, 10
"""A mesh of which a block has three parts."""
WAITS = 50
"""Cycles before words are fed."""


def _digests(monkeypatch, skips, mesh, load, cycles, steps=(1,)):
    """Return digests of all tiles, and the memories at the end; ``steps``: cycles between digests.

    At first the tiles wait.
    """
    monkeypatch.setenv("DIPTYCH_SKIP", str(skips))
    with LaneMesh(*mesh) as lanes:
        digest = MeshDigest(lanes, sorted(lanes.registers()))
        lanes.reset()
        out, waits = [], True
        for step in itertools.cycle(steps):
            if lanes.cycle >= cycles:
                break
            if waits and lanes.cycle > WAITS:
                lanes.feed(load)
                waits = False
            lanes.run(step)
            out.append(digest.tiles())
        memories = {name: words.tolist() for name, words in lanes.memories().items()}
    return np.array(out), memories


@pytest.mark.parametrize(
    ("mesh", "seed", "cycles"),
    [((2, 2), None, 6000), ((3, 5), 1, 1500), pytest.param(WIDE, 2, 600, marks=pytest.mark.slow)],
)
def test_skipping_changes_nothing(monkeypatch, mesh, seed, cycles):
    load = decode_job(mesh)[0] if seed is None else random_job(mesh, seed)
    (all_, words), (skipped, same) = (
        _digests(monkeypatch, skips, mesh, load, cycles) for skips in (0, 1)
    )
    assert len({digest.tobytes() for digest in all_}) > cycles // 4  # much happens
    assert (all_ == skipped).all()
    assert words == same


@pytest.mark.parametrize(("mesh", "seed", "cycles"), [((2, 2), None, 13000), (WIDE, 5, 1500)])
def test_counters_of_blocks_that_rest_are_made_up_for(monkeypatch, mesh, seed, cycles):
    # The registers are looked at after many cycles, and (decoding) after all tiles have ended.
    rng = random.Random(cycles)
    steps = [rng.choice((1, 2, 7, 60, 400)) for _ in range(50)]
    load = decode_job(mesh)[0] if seed is None else random_job(mesh, seed)
    (all_, _), (skipped, _) = (
        _digests(monkeypatch, skips, mesh, load, cycles, steps) for skips in (0, 1)
    )
    assert (all_ == skipped).all()


class _Counting(wiring.Component):
    """Counters, and registers that are like them but for one thing."""

    step: Signal
    seen: Signal

    def __init__(self):
        super().__init__({"step": In(4), "seen": Out(8)})

    def elaborate(self, platform):
        m = Module()
        counts, sums, seen, compared, doubled, fast = (
            Signal(8, name=name)
            for name in ("counts", "sums", "seen", "compared", "doubled", "fast")
        )
        with m.If(self.step[0]):
            m.d.sync += counts.eq(counts + 1)
        m.d.sync += [
            sums.eq(sums + self.step),
            seen.eq(seen + 1),
            compared.eq(compared + 1),
            doubled.eq(doubled + doubled),
        ]
        with m.If(compared > 9):
            m.d.sync += fast.eq(fast + self.step)
        m.d.comb += self.seen.eq(seen)
        return m


def test_counters_are_found():
    design = read_netlist(_Counting(), "counting")
    low = lower(design, partition(design, []))
    made = plan(low)
    names = {register.node: register.name for register in low.registers}
    found = {names[node] for n in made.counting for node in made.clusters[n].changes}
    assert found == {"counts", "sums", "fast"}


def test_a_run_that_is_restored_goes_on_as_before():
    # What clusters keep for one another is not saved: all is evaluated after a restoration.
    mesh = (3, 5)
    load = random_job(mesh, 1)
    with LaneMesh(*mesh) as lanes:
        lanes.reset()
        lanes.feed(load)
        lanes.run(900)
        cycle, saved, fed = lanes.cycle, lanes.saved(), lanes.fed()
        lanes.run(300)
        after = {name: values.tolist() for name, values in lanes.registers().items()}
        lanes.feed([words[count:] for words, count in zip(load, fed, strict=True)])
        lanes.restore(cycle, saved)
        lanes.run(300)
        assert {n: values.tolist() for n, values in lanes.registers().items()} == after


def _marks_of(row, text):
    """Return calls that mark clusters in a row of marks: of this cycle (0) or of the next (1)."""
    words = int(re.findall(r"WORDS = (\d+)", text)[0])
    parts = int(re.findall(r"LANES (\d+)", text)[0]) // PART
    return [f"mark(d + {(row * words + word) * parts}, " for word in range(words)]


def _without(row):
    def change(text):
        for mark in _marks_of(row, text):
            text = text.replace(mark, "(void)(")
        return text

    return change


def _late(text):
    for now, following in zip(_marks_of(0, text), _marks_of(1, text), strict=True):
        text = text.replace(now, following)
    return text


def _but_the_second(text):
    for mark in _marks_of(0, text) + _marks_of(1, text):
        text = text.replace(mark, f"{mark}~2u & ")
    return text


SMALL, LARGE = ((2, 2), 3000), (WIDE, 600)
"""Meshes and cycles: one part, and three in a block."""
FAULTS = {
    "changes of values are not passed on": (_without(0), SMALL),
    "changes of registers are not passed on": (_without(1), SMALL),
    "clusters wake a cycle late": (_late, SMALL),
    "writes wake no reader": (
        lambda text: re.sub(r"(HIDDEN void e\d+\([^)]*\) \{\n)[^\n]*", r"\1", text),
        SMALL,
    ),
    "inputs wake nothing": (
        lambda text: re.sub(r"^\{(\d+ull, )*\d+ull\},$", "{0},", text, flags=re.MULTILINE),
        SMALL,
    ),
    "changes in the second part are not passed on": (_but_the_second, LARGE),
    "blocks rest though they do more than count": (
        lambda text: re.sub(r"(counting\[\] = \{)[^}]*", r"\1" + 50 * "~0ull, ", text),
        SMALL,
    ),
    "counters of a block that rests lose bits": (
        lambda text: re.sub(r"^(\{\d+, 4, )32\}", r"\g<1>5}", text, flags=re.MULTILINE),
        SMALL,
    ),
    "bits of all parts are replaced": (
        lambda text: re.sub(r"keep\((.*), parts, ", r"keep(\1, EVERY, ", text),
        LARGE,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(monkeypatch, fault):
    change, (mesh, cycles) = FAULTS[fault]
    changed = []

    def wrong(*args):
        right = emit(*args)
        text = change(right)
        changed.append(text != right)
        return text

    translate_with(monkeypatch, "emit", wrong)
    load = decode_job(mesh)[0] if mesh == (2, 2) else random_job(mesh, 2)
    all_, _ = _digests(monkeypatch, 0, mesh, load, cycles)
    assert any(changed)  # a host port has no memory that is written
    try:
        skipped, _ = _digests(monkeypatch, 1, mesh, load, cycles)
    except SimulationError:
        return  # an assertion of the hardware saw it
    assert (all_ != skipped).any()
