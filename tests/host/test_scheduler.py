# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""What only watches sees the same, whether the engine runs on meanwhile or not.

Mutations tried by hand and seen to fail: notes are not kept before a run, or looked at during one;
cycles are known when they begin; the last row of a counter is not read again; a run is not ended.
"""

import time

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych_sim.engine.errors import SimulationError
from diptych_sim.engine.words.build import compile_words
from diptych_sim.engine.words.machine import WordMachine
from diptych_sim.host import scheduler as scheduling
from diptych_sim.host.clocking import current_cycle
from diptych_sim.host.events import listening, report_event, reported_events
from diptych_sim.host.in_process import _Ordered
from diptych_sim.host.triggers import (
    ClockCycles,
    First,
    RisingEdge,
    Stretch,
    ValueChange,
    catch_up,
    start_watching,
)
from diptych_sim.host.word_handles import WordEngine, scheduler_of
from support.known_signals import Clock, Engine


class Design(wiring.Component):
    """Random numbers, a counter of those of a kind, and an end; ``i`` changes the numbers."""

    i: Signal
    number: Signal
    count_even: Signal
    rare: Signal
    slow: Signal
    odd: Signal
    over: Signal

    def __init__(self):
        ports = {"number": 32, "count_even": 32, "rare": 1, "slow": 1, "odd": 1, "over": 1}
        super().__init__({"i": In(8), **{name: Out(width) for name, width in ports.items()}})

    def elaborate(self, platform):
        m = Module()
        cycle = Signal(32)
        m.d.sync += [
            cycle.eq(cycle + 1),
            self.number.eq(self.number * 1_664_525 + 1_013_904_223 + self.i),
            self.count_even.eq(self.count_even + (self.number[16:18] != 0)),
            self.rare.eq(self.number[20:28] == 7),
            self.slow.eq(cycle[5]),
            self.odd.eq(self.number[17]),
            self.over.eq(cycle[:13].all()),
        ]
        return m


class Slow(WordMachine):
    """Takes its time, so that watchers have some; nobody may look at its notes meanwhile."""

    busy = False

    def run(self, cycles):
        self.busy = True
        time.sleep(0.003)
        done = super().run(cycles)
        self.busy = False
        return done

    def log(self, name, start=0):
        assert not self.busy
        return super().log(name, start)


WATCHED = ("edges", "changes", "first", "late", "stretches", "timed", "either")


def seen(monkeypatch, long, machine=WordMachine):
    """Return what watchers and a driver see, and how often the engine ran beside the first."""
    monkeypatch.setattr(scheduling, "LONG", long)
    monkeypatch.setattr(scheduling, "AHEAD", 1000)
    begun = []
    begin = WordEngine.begin
    monkeypatch.setattr(
        WordEngine, "begin", lambda self, cycles: begun.append(cycles) or begin(self, cycles)
    )
    found = {name: [] for name in (*WATCHED, "driver")}
    public = tuple(
        ("top", name) for name in ("number", "count_even", "rare", "slow", "odd", "over")
    )
    with (
        machine(compile_words(Design(), "top", public)) as hardware,
        WordEngine(hardware) as engine,
    ):
        scheduler, dut = scheduler_of(engine, 1)

        def note(who, *values):
            found[who].append((current_cycle(), *values))

        async def edges():
            while True:
                await RisingEdge(dut.clk)
                note("edges", dut.number.value, dut.count_even.value, dut.odd.value)

        async def changes():
            while True:
                await ValueChange(dut.rare)
                note("changes", dut.rare.value, dut.count_even.value)

        async def first():
            while True:
                over = RisingEdge(dut.over)
                which = await First(RisingEdge(dut.rare), over)
                note("first", which is over)
                await ClockCycles(dut.clk, 5)

        async def late():
            # Looks at something for the first time when much has been noted.
            await ClockCycles(dut.clk, 12_000)
            for _ in range(100):
                note("late", dut.over.value, dut.number.value)
                await RisingEdge(dut.clk)

        async def stretches():
            # Both an element that one task follows by its value, and one that only has a history.
            stretch = Stretch()
            while True:
                await stretch
                cycles = range(stretch.first, stretch.end)
                each = []
                for signal in (dut.number, dut.odd):
                    begins, words = signal.history(stretch.first, stretch.end)
                    assert begins[0] <= stretch.first
                    assert begins[-1] < stretch.end
                    ends = [stretch.first, *begins[1:], stretch.end]
                    each.append(np.repeat(words[:, 0], np.diff(ends)))
                found["stretches"] += zip(cycles, *(part.tolist() for part in each), strict=True)

        async def timed():
            while True:
                await ClockCycles(dut.clk, 7)
                note("timed", dut.number.value)

        async def either():
            while True:
                began = current_cycle()
                await First(RisingEdge(dut.rare), ClockCycles(dut.clk, 100))
                note("either", current_cycle() - began)
                await RisingEdge(dut.clk)
                # It falls on the way, half of 64 cycles after it has risen.
                began = current_cycle()
                await First(RisingEdge(dut.slow), ClockCycles(dut.clk, 50))
                note("either", current_cycle() - began)

        async def drive():
            for watcher in (edges, changes, first, late, stretches, timed, either):
                start_watching(watcher())
            dut.i.value = 3
            for value in (5, 9, 2):
                await RisingEdge(dut.over)
                catch_up()
                note("driver", dut.number.value, len(found["edges"]))
                await RisingEdge(dut.clk)
                dut.i.value = value
            await ClockCycles(dut.clk, 100)

        scheduler.run(drive())
    return found, begun


def test_watchers_see_the_same_beside_the_engine(monkeypatch):
    alone, none = seen(monkeypatch, 1 << 30)
    assert not none
    assert len(alone["edges"]) > 3 * 8192
    assert all(len(alone[name]) > 50 for name in ("changes", "first", "late"))
    whole = [(cycle, number, odd) for cycle, number, _, odd in alone["edges"]]
    assert alone["stretches"] == whole
    waited = [cycles for _, cycles in alone["either"]]
    assert max(waited) == 100
    assert max(waited[1::2]) == 50
    assert alone["timed"] == [edge[:2] for edge in alone["edges"][6::7]]
    for machine in (WordMachine, Slow):
        beside, begun = seen(monkeypatch, 16, machine)
        assert len(begun) > 20
        assert beside == alone


def test_a_watcher_that_fails_ends_the_run_beside_the_engine(monkeypatch):
    monkeypatch.setattr(scheduling, "LONG", 16)
    words = compile_words(Design(), "top", (("top", "number"),))
    with Slow(words) as hardware, WordEngine(hardware) as engine:
        scheduler, dut = scheduler_of(engine, 1)

        async def watch():
            await ClockCycles(dut.clk, 5000)
            raise AssertionError("seen")

        async def drive():
            start_watching(watch())
            await ClockCycles(dut.clk, 1 << 20)

        with pytest.raises(AssertionError, match=r"^seen$"):
            scheduler.run(drive())
        assert hardware.cycle < 1 << 18
        assert not engine.runs_on


def test_an_engine_that_fails_ends_the_run(monkeypatch):
    monkeypatch.setattr(scheduling, "LONG", 16)

    class Fails(WordMachine):
        def run(self, cycles):
            if self.cycle > 3000:
                raise SimulationError("failed")
            return super().run(cycles)

    words = compile_words(Design(), "top", (("top", "number"),))
    with Fails(words) as hardware, WordEngine(hardware) as engine:
        scheduler, dut = scheduler_of(engine, 1)

        async def drive():
            await ClockCycles(dut.clk, 1 << 20)

        with pytest.raises(SimulationError, match=r"^failed$"):
            scheduler.run(drive())


def test_watchers_see_many_cycles_at_once_beside_a_driver(monkeypatch):
    calls = []
    watch = scheduling.Scheduler._watch
    monkeypatch.setattr(
        scheduling.Scheduler,
        "_watch",
        lambda self, until: calls.append(until) or watch(self, until),
    )
    scheduler = scheduling.Scheduler(Engine(), Clock(), 1)
    seen = {"all": 0, "until cancelled": 0}

    async def count(who):
        while True:
            await RisingEdge(scheduler.clock)
            seen[who] += 1

    async def drive():
        cancelled = start_watching(count("until cancelled"))
        start_watching(count("all"))
        for edge in range(1, 3 * scheduling.LATE):
            await RisingEdge(scheduler.clock)
            if edge == 100:
                cancelled.cancel()
            if edge == 2000:
                assert seen["all"] < edge
                catch_up()
                assert seen["all"] == edge

    scheduler.run(drive())
    assert seen == {"all": 3 * scheduling.LATE - 1, "until cancelled": 100}
    assert len(calls) < 10


def test_what_a_watcher_sees_is_told_first():
    scheduler = scheduling.Scheduler(Engine(), Clock(), 1)

    async def watch():
        await ClockCycles(scheduler.clock, 10)
        raise AssertionError("seen in cycle 10")

    async def drive():
        start_watching(watch())
        await ClockCycles(scheduler.clock, 20)
        raise AssertionError("nothing came")

    with pytest.raises(AssertionError, match="seen in cycle 10"):
        scheduler.run(drive())


def test_events_are_in_order_whoever_reports_them():
    scheduler = scheduling.Scheduler(Engine(), Clock(), 1)
    told = []

    async def watch():
        await ClockCycles(scheduler.clock, 10)
        report_event(kind="watched")

    async def drive():
        start_watching(watch())
        await ClockCycles(scheduler.clock, 20)
        report_event(kind="driven")
        assert [event["kind"] for event in reported_events()] == ["watched", "driven"]

    with listening(_Ordered(scheduler, told.append)):
        scheduler.run(drive())
    assert [event["kind"] for event in told] == ["watched", "driven"]
