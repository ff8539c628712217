# SPDX-License-Identifier: BSD-2-Clause
"""Checkers that see many cycles at once say the same as those that look at each.

Mutations that were tried by hand, each seen to fail: what waited at the end of a stretch is forgotten;
transfers behind a broken rule are taken; a change in the first cycle of a stretch is none; beats that
break any one of their rules are taken at once; the last burst of a stretch is answered whole.
"""

import random
import re
from collections import deque

import numpy as np
import pytest

from diptych_sim.host import axi_checker, windows
from diptych_sim.host.scheduler import Scheduler
from diptych_sim.host.stretches import bits, ones
from diptych_sim.host.triggers import ClockCycles, catch_up
from diptych_tb.memory.axi_checker_faults import CHANNELS, FAULTS, IDLE, READS, TOGETHER, WRITES
from support.known_signals import Clock, Engine, Signal


class Design:
    """The wires of a port."""

    def __init__(self, scheduler, cycles):
        payloads = dict.fromkeys(CHANNELS, 0)
        values = {name: [] for channel in CHANNELS for name in self.names(channel)}
        for cycle in cycles:
            for channel, fields in CHANNELS.items():
                if channel in cycle:
                    payloads[channel] = fields.pack(cycle[channel])
                pins = (channel in cycle, channel not in cycle.get("wait", ()), payloads[channel])
                for name, value in zip(self.names(channel), map(int, pins), strict=True):
                    values[name].append(value)
        self.clk = scheduler.clock
        self.members = {
            name: Signal(scheduler, CHANNELS[name.split("__")[1]].width, found)
            for name, found in values.items()
        }

    @staticmethod
    def names(channel):
        return [f"axi__{channel}__{pin}" for pin in ("valid", "ready", "payload")]

    def __getitem__(self, name):
        return self.members[name]


def verdict(monkeypatch, cycles, steps, *, stretches):
    """Return what is wrong, and what was counted, if checkers look every so many cycles."""
    with monkeypatch.context() as patched:
        if not stretches:
            patched.setattr(axi_checker, "Stretch", None)
            patched.setattr(windows, "Stretch", None)
        scheduler = Scheduler(Engine(), Clock(), 1)
        cycles = [*cycles, IDLE, IDLE]
        counts = []

        async def main():
            dut = Design(scheduler, cycles)
            reads = axi_checker.AxiReadChecker(dut, "axi")
            writes = axi_checker.AxiWriteChecker(dut, "axi")
            beats = windows.TransferCounter(dut, dut["axi__r__valid"], dut["axi__r__ready"])
            valid = windows.TransferCounter(dut, dut["axi__r__valid"])

            def count():
                both = [reads.bursts, reads.beats, writes.bursts, writes.beats, writes.responses]
                counts.append([*both, beats.count, valid.count])

            left = len(cycles)
            for step in steps:
                await ClockCycles(dut.clk, min(step, left))
                catch_up()
                count()
                left -= min(step, left)
                if not left:
                    break
            reads.check_finished()
            writes.check_finished()

        try:
            scheduler.run(main())
        except AssertionError as error:
            return str(error), counts
        return None, counts


STEPS = ([1] * 100, [2] * 50, [3, 1] * 25, [100])


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("cycles", [READS, WRITES, TOGETHER, READS + WRITES + READS])
def test_good_traffic_passes(monkeypatch, cycles, steps):
    found, counts = verdict(monkeypatch, cycles, steps, stretches=True)
    assert found is None
    assert counts == verdict(monkeypatch, cycles, steps, stretches=False)[1]
    assert sum(counts[-1]) > 0


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", FAULTS)
def test_each_planted_fault_is_seen(monkeypatch, name, steps):
    cycles, message = FAULTS[name]
    found, counts = verdict(monkeypatch, cycles, steps, stretches=True)
    assert re.search(re.escape(message), str(found))
    assert (found, counts) == verdict(monkeypatch, cycles, steps, stretches=False)


def traffic(rng):
    """Return reads of a memory that answers later, with pauses on both channels."""
    cycles = []
    asked = deque()
    left, at, held = 12, 0, {}
    while left or asked or held:
        cycle, waits = dict(held), []
        if "ar" not in cycle and left and rng.random() < 0.3:
            left -= 1
            cycle["ar"] = {"addr": 64 * rng.randrange(64), "len": rng.randrange(5), "id": at % 4}
            cycle["ar"]["addr"] = min(cycle["ar"]["addr"], 4096 - 64 * (cycle["ar"]["len"] + 1))
            at += 1
        if "r" not in cycle and asked and rng.random() < 0.8:
            identity, count = asked[0]
            cycle["r"] = {"data": rng.getrandbits(512), "last": int(count == 1), "id": identity}
        waits += [channel for channel in ("ar", "r") if rng.random() < 0.3]
        held = {name: cycle[name] for name in cycle if name in waits}
        if "r" in cycle and "r" not in waits:
            identity, count = asked.popleft()
            if count > 1:
                asked.appendleft((identity, count - 1))
        if "ar" in cycle and "ar" not in waits:
            asked.append((cycle["ar"]["id"], cycle["ar"]["len"] + 1))
        cycles.append(cycle | {"wait": tuple(waits)})
    return cycles


def damaged(rng, cycles):
    """Return traffic with another field, or without a channel, or with it ready, in one cycle."""
    cycles = list(cycles)
    at = rng.choice([n for n, cycle in enumerate(cycles) if len(cycle) > 1])
    cycle = dict(cycles[at])
    channel = rng.choice([name for name in cycle if name != "wait"])
    kind = rng.randrange(3)
    if kind == 0:
        del cycle[channel]
    elif kind == 1:
        cycle["wait"] = tuple({channel} ^ set(cycle["wait"]))
    else:
        fields = dict(cycle[channel])
        name = rng.choice([name for name in fields if name != "addr"])
        fields[name] ^= 1
        cycle[channel] = fields
    cycles[at] = cycle
    return cycles


def test_damage_is_seen_as_cycle_by_cycle(monkeypatch):
    rng = random.Random(1)
    messages = set()
    for _ in range(150):
        cycles = traffic(rng)
        steps = [rng.choice((1, 7, 40)) for _ in cycles]
        found, counts = verdict(monkeypatch, cycles, steps, stretches=True)
        assert found is None
        assert counts == verdict(monkeypatch, cycles, steps, stretches=False)[1]
        cycles = damaged(rng, cycles)
        found, counts = verdict(monkeypatch, cycles, steps, stretches=True)
        assert (found, counts) == verdict(monkeypatch, cycles, steps, stretches=False)
        messages.add(re.sub(r"0x[0-9a-f]+|\d+", "N", str(found)))
    assert len(messages) > 8, messages


def test_bits_of_values():
    rng = random.Random(2)
    for _ in range(200):
        low = rng.randrange(190)
        width = rng.randrange(1, min(64, 192 - low) + 1)
        numbers = [rng.getrandbits(192) for _ in range(3)]
        content = b"".join(number.to_bytes(24, "little") for number in numbers)
        found = bits(np.frombuffer(content, np.uint64).reshape(3, 3), low, width)
        assert found.tolist() == [number >> low & (1 << width) - 1 for number in numbers]


def test_bits_that_are_set():
    scheduler = Scheduler(Engine(), Clock(), 1)
    scheduler.engine.run(6)
    signal = Signal(scheduler, 100, [0, 7, 7, 2**99 + 1, 0, 2**64])
    assert ones(signal, 0, 6).tolist() == [0, 3, 3, 2, 0, 1]
    assert ones(signal, 2, 5).tolist() == [3, 2, 0]
