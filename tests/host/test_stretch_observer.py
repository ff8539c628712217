# SPDX-License-Identifier: BSD-2-Clause
"""Observers of many cycles at once find and compare what those of a simulator do, cycle by cycle."""

import random

import numpy as np
import pytest
from amaranth.lib.data import StructLayout

from diptych_sim.host.observers import stretch
from diptych_sim.host.observers.ports import CommandPorts
from diptych_sim.host.observers.stretch import MOVES, WAITS, Judged, StretchObserver
from diptych_sim.host.scheduler import Scheduler
from diptych_sim.host.triggers import ClockCycles
from support.known_signals import Clock, Engine, Signal

CYCLES = 4000
NAMES = ("idle", "waiting", "moving", "taking")


class Counter(Signal):
    """A signal whose value in any cycle is told."""

    def value_in(self, cycle):
        return self.values[cycle]


class Observer(StretchObserver):
    """Cause 3 with a command, else what a stream does; the command is an amount."""

    causes = NAMES

    def judge(self, seen):
        causes = np.array(seen.ports["out"], np.int64)
        amounts = np.zeros(seen.cycles, np.int64)
        for cycle, command in seen.commands.items():
            causes[cycle], amounts[cycle] = 3, command["amount"]
        self.kept = [np.append(a, b) for a, b in zip(self.kept, (causes, amounts), strict=True)]
        known = max(len(self.kept[0]) - self._late, 0)
        judged = Judged(self.kept[0][:known], {"amount": self.kept[1][:known]})
        self.kept = [each[known:] for each in self.kept]
        return judged


def observed(monkeypatch, *, stretches, late=0, limit=None, wrong_from=CYCLES, steps=(700, 1500)):
    """Return what an observer of random traffic has found after some cycles, and at the end."""
    rng = random.Random(3)
    bits = {name: [rng.randrange(2) for _ in range(CYCLES)] for name in ("v", "r", "cv", "cr")}
    command = [rng.randrange(16) for _ in range(CYCLES)]
    counts = {name: [0] for name in (*NAMES, "amount")}
    for cycle in range(CYCLES):
        v, r, taken = bits["v"][cycle], bits["r"][cycle], bits["cv"][cycle] & bits["cr"][cycle]
        cause = 3 if taken else v * (MOVES if r else WAITS)
        for number, name in enumerate(NAMES):
            counts[name].append(counts[name][-1] + (number == cause))
        counts["amount"].append(counts["amount"][-1] + taken * command[cycle])
    counts["moving"] = [n + (cycle >= wrong_from) for cycle, n in enumerate(counts["moving"])]
    with monkeypatch.context() as patched:
        if not stretches:
            patched.setattr(stretch, "Stretch", None)
        scheduler = Scheduler(Engine(), Clock(), 1)
        signals = {name: Signal(scheduler, 1, each) for name, each in bits.items()}
        commands = CommandPorts(signals["cv"], signals["cr"], Signal(scheduler, 4, command), None)
        counters = {name: Counter(scheduler, 32, each) for name, each in counts.items()}
        out = {"out": (signals["v"], signals["r"])}
        observer = Observer(
            scheduler.clock,
            counters,
            out,
            commands,
            StructLayout({"amount": 4}),
            late=late,
            name="it",
            limit=limit,
        )
        observer.kept = [np.zeros(0, np.int64)] * 2
        found = []

        async def main():
            observer.start()
            for step in steps:
                await ClockCycles(scheduler.clock, step)
                observer.see()
                found.append((observer.cycle, observer.found))
            found.append((await observer.end(), observer.cycle))
            await ClockCycles(scheduler.clock, 5)

        scheduler.run(main())
    return found, counts


@pytest.mark.parametrize("late", [0, 1, 70])
@pytest.mark.parametrize("limit", [None, 1000, 1024])
def test_both_ways_find_the_same(monkeypatch, late, limit):
    here, counts = observed(monkeypatch, stretches=True, late=late, limit=limit)
    assert here == observed(monkeypatch, stretches=False, late=late, limit=limit)[0]
    end, cycles = here[-1]
    assert cycles == (limit or cycles) > 900
    if limit:
        assert end == {name: each[limit] for name, each in counts.items()}
    assert sum(end[name] for name in NAMES) >= (limit or 2200)


@pytest.mark.parametrize("stretches", [True, False])
@pytest.mark.parametrize("late", [0, 70])
@pytest.mark.parametrize("wrong_from", [1, 640, 1500, 2199])
def test_a_wrong_counter_is_seen(monkeypatch, stretches, late, wrong_from):
    with pytest.raises(AssertionError, match="counters of it at its cycle"):
        observed(monkeypatch, stretches=stretches, late=late, wrong_from=wrong_from)


@pytest.mark.parametrize("stretches", [True, False])
def test_the_last_cycle_before_the_limit_is_compared(monkeypatch, stretches):
    observed(monkeypatch, stretches=stretches, limit=1000, wrong_from=1001)
    with pytest.raises(AssertionError, match="counters of it at its cycle 1000"):
        observed(monkeypatch, stretches=stretches, limit=1000, wrong_from=1000)


def test_both_ways_name_the_same_window(monkeypatch):
    for stretches in (True, False):
        with pytest.raises(AssertionError, match="counters of it at its cycle 320 "):
            observed(monkeypatch, stretches=stretches, wrong_from=300)
