# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the task scheduler: everything in every order and at once, against a task table."""

import os
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from diptych.mesh.isa import TASKS
from diptych_sim.host.clocking import start_clock_and_reset

COLORS = int(os.environ["DUT_COLORS"])
CYCLES = 3000
COVERS = (
    "activated by an instruction as it starts",
    "activated by the loader as it starts",
    "activated by both",
    "written as it starts",
    "written as it is activated",
    "blocked as it is unblocked",
    "blocked as it starts",
    "started by data",
    "started by a control wavelet",
    "blocked while called",
)


@dataclass
class _Task:
    pc: int = 0
    active: bool = False
    blocked: bool = False
    bound: bool = False
    color: int = 0
    by_control: bool = False
    called: bool = False
    """A wavelet of its color waited in the cycle before."""


class _Table:
    """What the scheduler holds, and what it must offer."""

    def __init__(self) -> None:
        self.tasks = [_Task() for _ in range(TASKS)]

    def call(self, waiting: int, controls: int) -> None:
        """Note what waits in this cycle."""
        for task in self.tasks:
            here = waiting >> task.color & 1
            by_kind = (controls >> task.color & 1) == task.by_control
            task.called = task.bound and bool(here and by_kind)

    def ready(self) -> int | None:
        """Return the lowest-numbered task that is ready."""
        for number, task in enumerate(self.tasks):
            if (task.active or task.called) and not task.blocked:
                return number
        return None


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(busy=[0.1, 0.6])
async def starts_what_is_ready_and_forgets_nothing(dut: Any, busy: float) -> None:
    """Ports prefer the task that starts; ``busy`` is how often a ready task has to wait."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {busy}")
    ports = ("load_activation", "activate", "block", "unblock")
    for port in (*ports, "write"):
        getattr(dut, f"{port}__valid").value = 0
    dut.start.value = dut.waiting.value = dut.controls.value = 0
    await start_clock_and_reset(dut)
    table, covers = _Table(), Counter[str]()
    for _ in range(CYCLES):
        waiting = rng.getrandbits(COLORS) & rng.getrandbits(COLORS) & rng.getrandbits(COLORS)
        controls = rng.getrandbits(COLORS)
        dut.waiting.value, dut.controls.value = waiting, controls
        number = table.ready()
        starts = number is not None and rng.random() >= busy
        dut.start.value = starts

        aimed: dict[str, int] = {}
        for port in (*ports, "write"):
            if rng.random() < (0.05 if port == "write" else 0.25):
                near = number if number is not None and rng.random() < 0.6 else rng.randrange(TASKS)
                aimed[port] = near
        entry = rng.getrandbits(16) | rng.getrandbits(2) << 16 | rng.getrandbits(1) << 23
        entry |= rng.randrange(COLORS) << 18
        for port in ports:
            getattr(dut, f"{port}__valid").value = port in aimed
            getattr(dut, f"{port}__task").value = aimed.get(port, 0)
        dut.write__valid.value = "write" in aimed
        dut.write__address.value, dut.write__data.value = aimed.get("write", 0), entry
        await RisingEdge(dut.clk)
        assert bool(dut.ready.value) == (number is not None)
        if number is not None:
            assert (int(dut.task.value), int(dut.pc.value)) == (number, table.tasks[number].pc)

        _cover(covers, table, aimed, number if starts else None)
        if starts and number is not None:
            table.tasks[number].active = False
        table.call(waiting, controls)
        _carry_out(table, aimed, entry)
    missing = [name for name in COVERS if covers[name] < 10]
    assert not missing, f"the stimulus reached {missing} too rarely: {covers}"


def _carry_out(table: _Table, aimed: dict[str, int], entry: int) -> None:
    """Do what the ports say: an activation survives a start, UNBLOCK wins, and so does a write."""
    tasks = table.tasks
    for port in ("load_activation", "activate"):
        if port in aimed:
            tasks[aimed[port]].active = True
    if "block" in aimed:
        tasks[aimed["block"]].blocked = True
    if "unblock" in aimed:
        tasks[aimed["unblock"]].blocked = False
    if "write" in aimed:
        tasks[aimed["write"]] = _Task(
            pc=entry & 0xFFFF,
            blocked=bool(entry >> 16 & 1),
            bound=bool(entry >> 17 & 1),
            color=entry >> 18 & 31,
            by_control=bool(entry >> 23 & 1),
        )


def _cover(
    covers: Counter[str],
    table: _Table,
    aimed: dict[str, int],
    started: int | None,
) -> None:
    """Count what this cycle reaches."""
    written, by_load, by_core = (aimed.get(p) for p in ("write", "load_activation", "activate"))
    for number, task in enumerate(table.tasks):
        called = task.called
        starts = number == started
        reached = {
            "activated by an instruction as it starts": starts and by_core == number != written,
            "activated by the loader as it starts": starts and by_load == number != written,
            "activated by both": by_load == by_core == number != written,
            "written as it starts": starts and written == number,
            "written as it is activated": written == number and number in (by_load, by_core),
            "blocked as it is unblocked": aimed.get("block") == aimed.get("unblock") == number,
            "blocked as it starts": starts and aimed.get("block") == number,
            "started by data": starts and called and not task.active and not task.by_control,
            "started by a control wavelet": starts
            and called
            and not task.active
            and task.by_control,
            "blocked while called": called and task.blocked,
        }
        covers.update(name for name, here in reached.items() if here)
