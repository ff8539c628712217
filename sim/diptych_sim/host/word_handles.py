# SPDX-License-Identifier: BSD-2-Clause
"""Hardware of words as host code sees it: handles by name, as those of a simulator."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diptych_sim.engine.words.build import Watched
from diptych_sim.engine.words.machine import WordMachine

from .scheduler import Scheduler

__all__ = ["WordEngine", "scheduler_of"]


class WordEngine:
    """Runs a machine for a scheduler; use it as a context manager, so that no run goes on behind it.

    Attributes
    ----------
    scheduler : Scheduler
        The scheduler, once there is one.
    cycle : int
        Cycles that have run, without those of a run that goes on.
    runs : int
        How often it has run: what was noted before is not all any more.
    """

    scheduler: Scheduler

    def __init__(self, machine: WordMachine) -> None:
        self.machine = machine
        self.in_reset = False
        self.cycle = machine.cycle
        self.runs = 0
        self._looked_at: list[_Signal] = []
        self._pool = ThreadPoolExecutor(1)
        self._run: Future[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def run(self, cycles: int) -> None:
        self.machine.run(cycles)
        self._has_run()

    def begin(self, cycles: int) -> None:
        for signal in self._looked_at:
            signal.keep()
        self._run = self._pool.submit(self.machine.run, cycles)

    @property
    def runs_on(self) -> bool:
        return self._run is not None and not self._run.done()

    def end(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            wait([run])
            self._has_run()
            run.result()

    def _has_run(self) -> None:
        self.cycle = self.machine.cycle
        self.runs += 1

    def look_at(self, signal: _Signal) -> None:
        """Have what is noted of a signal kept, whenever more may follow, from now on."""
        if self._run is not None:
            wait([self._run])
        signal.keep()
        self._looked_at.append(signal)

    @property
    def notes(self) -> bool:
        """Whether more may be noted in this moment."""
        return self._run is not None

    def check_drives(self, name: str) -> None:
        """Refuse to drive something in a cycle that has run."""
        if self.scheduler.upcoming != self.cycle:
            raise AssertionError(f"{name} must be driven at an edge, by what does not only watch")


class _Clock:
    is_clock = True


class _Reset:
    """The reset, which has the engine reset."""

    is_clock = False

    def __init__(self, engine: WordEngine) -> None:
        self._engine = engine

    @property
    def value(self) -> int:
        return int(self._engine.in_reset)

    @value.setter
    def value(self, value: int) -> None:
        self._engine.check_drives("rst")
        self._engine.in_reset = bool(value)
        self._engine.machine.set_reset(bool(value))


class _Input:
    """An input of the top, which host code drives."""

    is_clock = False

    def __init__(self, engine: WordEngine, name: str, width: int) -> None:
        self._engine, self._name, self._width = engine, name, width
        self._value = 0

    def __len__(self) -> int:
        return self._width

    @property
    def value(self) -> int:
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        self._engine.check_drives(self._name)
        self._value = int(value)
        self._engine.machine.set(self._name, self._value)


class _Signal:
    """A signal whose changes are noted."""

    is_clock = False

    def __init__(self, engine: WordEngine, path: str, about: Watched) -> None:
        self._engine, self._path, self._about = engine, path, about
        self._scheduler = engine.scheduler
        self._name = path.rpartition(".")[2]
        self._cycles, self._values = [-1], [0]
        self._at = 0
        # Runs of the engine when all that was noted was taken, and when it was here in rows.
        self._runs = self._runs_of_rows = -1
        self._noted = 0
        self._is_kept = False
        self._kept: list[NDArray[np.uint64]] = []
        """Rows that were noted and are not taken; none of them changes any more."""
        self._rows: list[NDArray[np.uint64]] = [np.zeros((1, 1 + -(-about.width // 64)), np.uint64)]
        self._starts = [0]
        """Rows that :meth:`history` looks at, and the first cycle of each part of them."""
        self._listed = 1
        # The value that was read last, and the cycles in which it is there.
        self._from = self._until = self._value = 0

    def __len__(self) -> int:
        return self._about.width

    def keep(self) -> None:
        """Copy what was noted since, while the engine does not run."""
        rows = self._engine.machine.log(self._path, self._noted)
        self._noted += len(rows)
        self._kept.append(rows)

    def look_at(self) -> None:
        """Have what is noted kept from now on, so that it can be seen while the engine runs."""
        if not self._is_kept:
            self._is_kept = True
            self._engine.look_at(self)

    def _gather(self) -> None:
        """Have rows of all that was noted."""
        if not self._is_kept:
            self.look_at()
        elif not self._engine.notes:
            self.keep()
        self._runs_of_rows = self._engine.runs
        kept = [rows for rows in self._kept if len(rows)]
        self._rows += kept
        self._starts += [int(rows[0, 0]) for rows in kept]
        self._kept.clear()

    def _fetch(self) -> None:
        """Take what was noted since."""
        if self._runs_of_rows != self._engine.runs:
            self._gather()
        self._runs = self._engine.runs
        for rows in self._rows[self._listed :]:
            self._take(rows)
        self._listed = len(self._rows)

    def history(self, first: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Return the values of some cycles that have run: where each begins, and its words.

        The first one begins in ``first`` or earlier.
        """
        if self._runs_of_rows != self._engine.runs:
            self._gather()
        low = bisect_right(self._starts, first) - 1
        parts = self._rows[low : bisect_left(self._starts, end)]
        rows = np.concatenate(parts) if len(parts) > 1 else parts[0]
        cycles = rows[:, 0].view(np.int64)
        low = int(np.searchsorted(cycles, first, side="right")) - 1
        high = int(np.searchsorted(cycles, end))
        return cycles[low:high], rows[low:high, 1:]

    def _take(self, rows: NDArray[np.uint64]) -> None:
        self._cycles += rows[:, 0].tolist()
        if rows.shape[1] == 2:
            self._values += rows[:, 1].tolist()
        else:
            self._values += [int.from_bytes(row[1:].tobytes(), "little") for row in rows]

    def _find(self) -> int:
        """Return which of the values is there now."""
        if self._runs != self._engine.runs:
            self._fetch()
        now, cycles, at = self._scheduler.now, self._cycles, self._at
        last = len(cycles) - 1
        if cycles[at] > now:  # for another task it is earlier
            at = bisect_right(cycles, now) - 1
        while at < last and cycles[at + 1] <= now:
            at += 1
        self._at = at
        return at

    @property
    def value(self) -> int:
        now = self._scheduler.now
        if not self._from <= now < self._until:
            at = self._find()
            later = self._cycles[at + 1] if at + 1 < len(self._cycles) else self._engine.cycle
            self._from, self._until, self._value = self._cycles[at], later, self._values[at]
        return self._value

    def next_change(self) -> int | None:
        at = self._find() + 1
        return self._cycles[at] if at < len(self._cycles) else None

    def changed(self) -> bool:
        return self._cycles[self._find()] == self._scheduler.now

    def stop(self, on: bool) -> None:
        self._engine.machine.stop_at(self._path, on)


class _Counter(_Signal):
    """A signal that counts: differences are noted, and for how many cycles they are the same."""

    def __init__(self, engine: WordEngine, path: str, about: Watched) -> None:
        super().__init__(engine, path, about)
        self._cycles, self._values = [], []  # values before the first cycle of each row
        self._steps: list[int] = []
        self._lengths: list[int] = []

    def keep(self) -> None:
        self._noted = max(self._noted - 1, 0)  # the last may have become longer
        super().keep()

    def _fetch(self) -> None:
        super()._fetch()
        del self._rows[1:], self._starts[1:]  # a counter has no history
        self._listed = 1

    def _take(self, rows: NDArray[np.uint64]) -> None:
        before = 0
        if self._cycles:  # the last row comes again
            before = self._values.pop()
            for part in (self._cycles, self._steps, self._lengths):
                part.pop()
        cycles, steps, lengths = rows.T
        mask = np.uint64((1 << self._about.width) - 1)
        ends = (np.cumsum(steps * lengths, dtype=np.uint64) + np.uint64(before)) & mask
        self._values += [before, *ends[:-1].tolist()]
        for part, column in (
            (self._cycles, cycles),
            (self._steps, steps),
            (self._lengths, lengths),
        ):
            part += column.tolist()

    def _find(self) -> int:
        return self._find_in(self._scheduler.now)

    def _find_in(self, cycle: int) -> int:
        if self._runs != self._engine.runs:
            self._fetch()
        return bisect_right(self._cycles, cycle) - 1

    @property
    def value(self) -> int:
        return self.value_in(self._scheduler.now)

    def value_in(self, cycle: int) -> int:
        """Return the value in a cycle that has run."""
        at = self._find_in(cycle)
        if at < 0:
            return 0
        steps = min(cycle - self._cycles[at] + 1, self._lengths[at])
        return (self._values[at] + self._steps[at] * steps) & ((1 << self._about.width) - 1)

    def next_change(self) -> int | None:
        at = self._find()
        following = self._scheduler.now + 1
        if at >= 0 and following < self._cycles[at] + self._lengths[at]:
            return following
        return self._cycles[at + 1] if at + 1 < len(self._cycles) else None

    def changed(self) -> bool:
        at, now = self._find(), self._scheduler.now
        return at >= 0 and now < self._cycles[at] + self._lengths[at]


class _Module:
    """A part of the hardware; its members are found by name."""

    def __init__(self, clock: Any) -> None:
        self._members: dict[str, Any] = {"clk": clock}

    def __getitem__(self, name: str) -> Any:
        member = self._members[name]
        if isinstance(member, _Signal):
            member.look_at()
        return member

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __iter__(self) -> Iterator[Any]:
        return (each for each in self._members.values() if isinstance(each, _Signal))


def _top(engine: WordEngine, clock: Any) -> Any:
    """Return the top of a machine, as host code sees it."""
    compiled = engine.machine.compiled
    top = _Module(clock)
    top._members["rst"] = _Reset(engine)
    for name, (_, width) in compiled.inputs.items():
        top._members[name] = _Input(engine, name, width)
    for path, about in compiled.watched.items():
        *modules, name = path.split(".")
        module = top
        for part in modules:
            module = module._members.setdefault(part, _Module(clock))
        kind = _Counter if about.counts else _Signal
        module._members[name] = kind(engine, path, about)
        if name == "watched":  # what stands for the module that something else computes
            module._members |= {"outside": _Outside(engine.machine), "_path": ""}
    return top


class _Outside:
    """Where a mesh is put that something else computes."""

    def __init__(self, machine: WordMachine) -> None:
        self._machine = machine

    def ports(self) -> str:
        return self._machine.outside

    def attach(self, mesh: Any, pins: Any, step: Any, messages: Any) -> None:
        self._machine.attach(mesh, pins, step, list(messages))


def scheduler_of(engine: WordEngine, seed: int) -> tuple[Scheduler, Any]:
    """Return a scheduler that runs an engine, and the top of its machine."""
    clock = _Clock()
    engine.scheduler = scheduler = Scheduler(engine, clock, seed)
    return scheduler, _top(engine, clock)
