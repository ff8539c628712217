# SPDX-License-Identifier: BSD-2-Clause
"""The comparison of engines on a product."""

import re
from dataclasses import replace

import pytest
from rich.console import Console

from diptych_sim.bench import array
from diptych_sim.bench.products import product


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(array, "SHAPE", (8, 8, 4))
    monkeypatch.setattr(array, "SMALL", (4, 4, 4))
    monkeypatch.setattr(array, "ARRAYS", ((4, 4),))


def timed(monkeypatch, seconds, more=0):
    """Have engines take seconds of our choice in turns, and Verilator more cycles."""
    calls = []

    def in_turn(shape, size, progress, *, engine):
        calls.append(engine)
        done = product(shape, size, progress, engine="lanes")
        if shape == array.SMALL:
            return done
        measured = replace(done.measured, cycles=done.measured.cycles + more * (engine != "lanes"))
        run = replace(done.run, seconds=seconds[engine].pop(0))
        return replace(done, measured=measured, run=run)

    monkeypatch.setattr(array, "product", in_turn)
    return calls


def test_ratios_are_medians_of_runs_in_turns(monkeypatch):
    seconds = {"verilator": [30.0, 8.0, 50.0], "lanes": [1.0, 4.0, 2.0]}
    calls = timed(monkeypatch, seconds)
    console = Console(record=True, width=120)
    array.measure(console, 3)
    assert calls == ["verilator", "lanes"] * 4
    rows = [re.findall(r"[\w.,]+", line) for line in console.export_text().splitlines()]
    found = {row[1]: row for row in rows if row[:1] == ["4x4"]}
    assert (found["verilator"][2], found["verilator"][-1]) == ("30.00", "25.0")
    assert (found["lanes"][2], found["lanes"][-1]) == ("2.00", "1.0")


def test_engines_that_need_other_cycles_are_refused(monkeypatch):
    timed(monkeypatch, {"verilator": [1.0], "lanes": [1.0]}, more=1)
    with pytest.raises(AssertionError, match="engines must need as many cycles"):
        array.measure(Console(quiet=True), 1)
