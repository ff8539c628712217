# SPDX-License-Identifier: BSD-2-Clause
"""Base of observers that judge many cycles at once, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from amaranth.hdl import ShapeLike
from numpy.typing import NDArray

from diptych_sim.host.fields import Fields
from diptych_sim.host.stretches import levels, moved, values
from diptych_sim.host.triggers import ClockCycles, Stretch, catch_up

from .cause import WINDOW, CauseObserver
from .ports import CommandPorts

__all__ = ["MOVES", "WAITS", "Judged", "Seen", "StretchObserver"]


AT_ONCE = 16 * WINDOW
"""Cycles that are judged at once in a simulator, unless asked."""
WAITS, MOVES = 1, 2
"""What a stream does in a cycle with ``valid``: it waits for ``ready``, or moves."""


def _sample(port: Any) -> int:
    if not isinstance(port, tuple):
        return int(port.value)
    valid, ready = port
    return 0 if not valid.value else MOVES if ready.value else WAITS


def _values(port: Any, first: int, end: int) -> NDArray[np.uint64]:
    if not isinstance(port, tuple):
        return values(port, first, end)
    valid, ready = (levels(each, first, end).astype(np.uint64) for each in port)
    return valid * (WAITS + (MOVES - WAITS) * ready)


class Seen(NamedTuple):
    """What the ports showed in some cycles, in order.

    Attributes
    ----------
    cycles : int
        How many.
    ports : dict of str to array
        The value of each port in each cycle.
    commands : dict of int to dict
        Commands that were taken, by cycle; the first of these cycles is 0.
    """

    cycles: int
    ports: dict[str, NDArray[np.uint64]]
    commands: dict[int, dict[str, Any]]


class Judged(NamedTuple):
    """Causes of the next cycles, as numbers in ``causes`` of the observer, and amounts in each."""

    causes: NDArray[np.int64]
    amounts: dict[str, NDArray[np.int64]]


class StretchObserver(CauseObserver):
    """Finds the causes of as many cycles as there are; in a simulator, of some windows.

    An observer implements :meth:`judge`.

    Attributes
    ----------
    causes : tuple of str
        The causes of a cycle.

    Parameters
    ----------
    clk, counters, name, limit
        As of :class:`.CauseObserver`.
    ports : mapping of str to handle, or to (handle, handle)
        What is looked at in each cycle, 64 bits at most; of a ``valid`` and its ``ready`` it is
        :data:`WAITS` or :data:`MOVES`, or 0 without ``valid``.
    commands : CommandPorts
        Where the block's commands are seen.
    shape : ShapeLike
        Shape of a command.
    late : int
        Cycles that follow a cycle before its cause is known.
    """

    causes: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        clk: Any,
        counters: Mapping[str, Any],
        ports: Mapping[str, Any | tuple[Any, Any]],
        commands: CommandPorts,
        shape: ShapeLike,
        *,
        late: int,
        name: str,
        limit: int | None = None,
    ) -> None:
        super().__init__(clk, counters, name=name, limit=limit)
        self._clk, self._late = clk, late
        self._handles, self._commands = dict(ports), commands
        self._unpack = Fields(shape).unpack
        self._sampled: dict[str, list[int]] = {port: [] for port in ports}
        self._taken: dict[int, dict[str, Any]] = {}

    def judge(self, seen: Seen) -> Judged:
        """Return the causes of the next cycles, as many as are known, with further ones seen."""
        raise NotImplementedError

    def see(self) -> None:
        catch_up()
        if Stretch is None:
            self._judge_sampled()

    async def check(self) -> dict[str, int]:
        self.see()
        until = self.cycle
        self._asked = True
        await ClockCycles(self._clk, self._late + 2)
        self.see()
        self._asked = False
        if not self.ended and self._blamed < until:
            raise AssertionError(f"the observer of {self._name} did not find all causes")
        return self.found

    async def end(self) -> dict[str, int]:
        found = await self.check()
        self.ended = True
        return found

    async def _run(self) -> None:
        await (self._run_cycles() if Stretch is None else self._run_stretches())

    async def _run_cycles(self) -> None:
        """Look at each cycle, and judge when there are many, or when asked."""
        await self._edge
        self._first = self._read()
        while not self.ended:
            if (
                self._asked
                or self.cycle == self._to_look_at
                or (self.cycle and not self.cycle % WINDOW)
            ):
                self._snapshots.append((self.cycle, self._read()))
            commands = self._commands
            if commands.valid.value and commands.ready.value:
                self._taken[self._samples] = self._unpack(int(commands.payload.value))
            for port, handle in self._handles.items():
                self._sampled[port].append(_sample(handle))
            self.cycle += 1
            if not self.cycle % AT_ONCE:
                self._judge_sampled()
            await self._edge

    @property
    def _samples(self) -> int:
        """Cycles that were sampled since the last ones were judged."""
        return len(next(iter(self._sampled.values())))

    def _judge_sampled(self) -> None:
        ports = {port: np.array(each, np.uint64) for port, each in self._sampled.items()}
        seen = Seen(self._samples, ports, self._taken)
        self._sampled = {port: [] for port in ports}
        self._taken = {}
        if seen.cycles and not self.ended:
            self._blame_all(self.judge(seen))

    async def _run_stretches(self) -> None:
        """Look at stretches of cycles, and compare as often as in a simulator, and at the end."""
        stretch = Stretch()
        await stretch
        began = stretch.first
        self._first = self._read_in(began)
        while not self.ended:
            first, end = stretch.first, stretch.end
            self.cycle = end - began
            ports = {port: _values(each, first, end) for port, each in self._handles.items()}
            judged = self.judge(Seen(end - first, ports, self._commands_in(first, end)))
            last = min(self._blamed + len(judged.causes), self.cycle - 1)
            last = last if self._to_look_at is None else min(last, self._to_look_at)
            windows = range(self._blamed - self._blamed % WINDOW + WINDOW, last, WINDOW)
            self._snapshots += [(at, self._read_in(began + at)) for at in (*windows, last)]
            self._blame_all(judged)
            await stretch

    def _commands_in(self, first: int, end: int) -> dict[int, dict[str, Any]]:
        ports = self._commands.valid, self._commands.ready, self._commands.payload
        return {
            cycle - first: self._unpack(payload) for cycle, payload in moved(*ports, first, end)
        }

    def _read_in(self, cycle: int) -> dict[str, int]:
        return {name: counter.value_in(cycle) for name, counter in self._counters.items()}

    def _blame_all(self, judged: Judged) -> None:
        """Blame cycles, and compare at those of which the counters are known."""
        left = len(judged.causes)
        if self._to_look_at is not None:
            left = min(left, self._to_look_at - self._blamed)
        at = 0
        self._compare()
        while at < left:
            end = left
            if self._snapshots:
                end = min(left, at + self._snapshots[0][0] - self._blamed)
            for number, cycles in enumerate(np.bincount(judged.causes[at:end])):
                self._found[self.causes[number]] += int(cycles)
            for name, amounts in judged.amounts.items():
                self._found[name] += int(amounts[at:end].sum())
            self._blamed += end - at
            at = end
            self._compare()
        if self._blamed == self._to_look_at:
            self.cycle = self._blamed
            self.ended = True
