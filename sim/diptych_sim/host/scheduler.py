# SPDX-License-Identifier: BSD-2-Clause
"""Runs host code on an engine in this process, as cocotb does on a simulator.

A cycle has two moments: its middle, in which its values are there and :class:`ValueChange` wakes,
and the edge that ends it, at which values are still those of the cycle. The engine runs ahead to the
first moment at which a task could drive something. What only watches sees the cycles in between
afterwards, from what the engine has noted: one task after the other, each on its own, many cycles at
once. While the engine runs for long, it sees those of earlier runs. Before a task that drives reads what
one that watches has found, it calls :func:`catch_up`.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NamedTuple, Protocol

from .waits import ClockCycles, First, Moment, RisingEdge, Stretch, Trigger, ValueChange

__all__ = [
    "EngineInProcess",
    "Queue",
    "Scheduler",
    "SimTimeoutError",
    "Task",
    "at_end",
    "catch_up",
    "clock_of_top",
    "edges_before",
    "random_seed",
    "start_clock",
    "start_soon",
    "start_watching",
    "with_timeout",
]

AHEAD = 1 << 13
"""Cycles that the engine runs at once, at most."""
LONG = 1 << 11
"""Cycles of a run beside which what only watches may go on, and of what it then sees at once."""
LATE = 1 << 11
"""Cycles that what only watches has not seen yet, at most, when something can be driven."""


class SimTimeoutError(Exception):
    """What was waited for has not come."""


class EngineInProcess(Protocol):
    """An engine whose cycles are run from here."""

    @property
    def cycle(self) -> int:
        """Cycles that it has run."""
        ...

    def run(self, cycles: int) -> None:
        """Run so many cycles, or fewer, if it is to stop; then changes are known."""
        ...

    def begin(self, cycles: int) -> None:
        """Do so beside what only watches; until :meth:`end` nothing more is known."""
        ...

    @property
    def runs_on(self) -> bool:
        """Whether what has begun goes on."""
        ...

    def end(self) -> None:
        """Wait until it is over."""
        ...


class _Signal(Trigger):
    """Wakes all that wait, in the same moment."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Task, int, Trigger]] = []

    def arm(self, scheduler: Scheduler, task: Task, source: Trigger) -> None:
        self._waiting.append((task, task.waits, source))

    def set(self) -> None:
        waiting, self._waiting = self._waiting, []
        for task, waits, source in waiting:
            running().wake(task, waits, source)


class Task:
    """A coroutine that runs.

    Parameters
    ----------
    coroutine : coroutine
        What runs.
    watches : bool
        Whether it drives no signal, and wakes nothing that does.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], watches: bool) -> None:
        self._coroutine, self.watches = coroutine, watches
        self.waits = 0
        """How often it has waited; what woke it before does not wake it again."""
        self._over = False
        self._result: Any = None
        self._ends = _Signal()

    def __await__(self) -> Generator[Trigger, Any, Any]:
        if not self._over:
            yield self._ends
        return self._result

    def done(self) -> bool:
        """Return whether it has ended."""
        return self._over

    def cancel(self) -> None:
        """End it; what only watches sees all until now before."""
        if self.watches:
            running().catch_up()
        if not self._over:
            self.waits += 1
            self._over = True
            self._coroutine.close()
            self._ends.set()

    def step(self, source: Trigger | None) -> Trigger | None:
        """Go on until it waits again; return what it waits for."""
        self.waits += 1
        try:
            return self._coroutine.send(source)
        except StopIteration as stop:
            self._over, self._result = True, stop.value
            self._ends.set()
            return None


class Queue:
    """What one task puts in, another one takes out, in order."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._filled = _Signal()

    def __class_getitem__(cls, item: Any) -> type[Queue]:
        return cls

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)

    def put_nowait(self, item: Any) -> None:
        self._items.append(item)
        self._filled.set()

    def get_nowait(self) -> Any:
        return self._items.popleft()

    async def get(self) -> Any:
        while not self._items:
            await self._filled
        return self._items.popleft()


class _Watcher(NamedTuple):
    """A task that only watches, what it waits for, and the moment in which it began to."""

    task: Task
    trigger: Trigger
    waits: int
    now: int
    upcoming: int


class Scheduler:
    """Runs tasks, and an engine as far as they need it.

    Attributes
    ----------
    now : int
        The cycle whose values are seen.
    upcoming : int
        The cycle that the next edge ends.
    edge_waits : list
        What waits for the next edge.
    on_its_own : bool
        Whether a task that only watches is told what there was.
    ends : list of callable
        Are called when the run is over.
    on_caught_up : callable
        Is called when all of them have been.

    Parameters
    ----------
    engine : EngineInProcess
        The engine.
    clock : Noted
        Its clock.
    seed : int
        Seed of random draws.
    """

    def __init__(self, engine: EngineInProcess, clock: Any, seed: int) -> None:
        self.engine, self.clock, self.seed = engine, clock, seed
        self.now = self.upcoming = 0
        self.edge_waits: list[tuple[Task, int, Trigger]] = []
        self._moments: list[tuple[int, bool, int, Task, int, Trigger, Trigger]] = []
        self._unknown: list[tuple[Task, int, Trigger, ValueChange]] = []
        self._ready: deque[tuple[Task, Trigger | None]] = deque()
        self._numbers = itertools.count()
        self._task: Task | None = None
        self._watchers: list[_Watcher] = []
        self._seen = 0
        """The cycle that all of them have seen."""
        self._ahead = LONG
        self._stopped_early = False
        self.on_its_own = False
        self.ends: list[Callable[[], None]] = []
        self.on_caught_up: Callable[[], None] = lambda: None

    @property
    def edges_before(self) -> int:
        """Edges before this one, or before the middle of the cycle."""
        return self.now if self.upcoming > self.now else max(self.now - 1, 0)

    def start(self, coroutine: Coroutine[Any, Any, Any], watches: bool) -> Task:
        """Start a task; one that something which only watches starts only watches, too."""
        task = Task(coroutine, watches or bool(self._task and self._task.watches))
        self._ready.append((task, None))
        return task

    def wake(self, task: Task, waits: int, source: Trigger) -> None:
        """Let a task go on, if it still waits."""
        if task.waits == waits:
            task.waits += 1
            self._ready.append((task, source))

    def wait_until(self, cycle: int, task: Task, source: Trigger) -> None:
        """Have a task woken at the edge that ends a cycle."""
        item = (cycle, True, next(self._numbers), task, task.waits, source, source)
        heapq.heappush(self._moments, item)

    def wait_for(self, change: ValueChange, task: Task, source: Trigger) -> None:
        """Have a task woken by a change, once it is known when."""
        cycle = change.signal.next_change()
        if cycle is None:
            self._unknown.append((task, task.waits, source, change))
        else:
            item = (cycle, False, next(self._numbers), task, task.waits, source, change)
            heapq.heappush(self._moments, item)

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run until a coroutine ends, and return its result."""
        global _running
        before, _running = _running, self
        try:
            task = self.start(main, watches=False)
            try:
                while not task.done():
                    self._go_on()
                    if not task.done():
                        self._next_moment()
            finally:
                self.catch_up()  # what watches may know better what is wrong
            return task._result
        finally:
            _running = before
            for end in self.ends:
                end()

    def catch_up(self) -> None:
        """Let what only watches see all until this moment, if it does not do so already."""
        if not self.on_its_own:
            self._watch((self.now, self.upcoming > self.now))

    def _go_on(self) -> None:
        while self._ready:
            task, source = self._ready.popleft()
            if task.done():
                continue
            self._task = task
            trigger = task.step(source)
            self._task = None
            if trigger is not None:
                self._wait(task, trigger)

    def _wait(self, task: Task, trigger: Trigger) -> None:
        """Have a task wait: with others, or on its own."""
        if task.watches and trigger.moment(self) is not None:
            self._watchers.append(_Watcher(task, trigger, task.waits, self.now, self.upcoming))
        else:
            trigger.arm(self, task, trigger)

    def _watch(self, until: Moment) -> None:
        """Let each task that only watches see what there was, up to a moment."""
        here = self.now, self.upcoming
        watchers, self._watchers = self._watchers, []
        task = self._task
        self.on_its_own = True
        for watcher in watchers:
            self.now, self.upcoming = watcher.now, watcher.upcoming
            self._watch_alone(watcher, until)
        self.on_its_own = False
        self._task = task
        self.now, self.upcoming = here
        self._seen = until[0]
        self.on_caught_up()

    def _watch_alone(self, watcher: _Watcher, until: Moment) -> None:
        task, trigger, last = watcher.task, watcher.trigger, self.engine.cycle
        if task.waits != watcher.waits:
            return
        self._task = task
        end = min(last, until[0] + until[1])  # the first edge that is too late
        while trigger is not None:
            if isinstance(trigger, RisingEdge) and trigger.signal.is_clock and self.upcoming < end:
                self.now = self.upcoming
                self.upcoming += 1
                trigger = task.step(trigger)
                continue
            if isinstance(trigger, Stretch) and self.upcoming < end:
                trigger.first, trigger.end = self.upcoming, end
                self.now, self.upcoming = end - 1, end
                trigger = task.step(trigger)
                continue
            due = trigger.moment(self)
            if due is None:
                self._wait(task, trigger)
                break
            if due > until or due[0] >= last:
                self._watchers.append(_Watcher(task, trigger, task.waits, self.now, self.upcoming))
                break
            self.now, self.upcoming = due[0], due[0] + due[1]
            source = trigger.source(self)
            if source is not None:
                trigger = task.step(source)
        self._task = None

    def _next_moment(self) -> None:
        moments = self._moments
        while moments and moments[0][3].waits != moments[0][4]:
            heapq.heappop(moments)
        cycle, edge = (moments[0][0], moments[0][1]) if moments else (1 << 62, True)
        if self.edge_waits and (self.upcoming, True) < (cycle, edge):
            cycle, edge = self.upcoming, True
        if cycle >= self.engine.cycle:
            self._run_ahead()
            return
        if cycle - self._seen >= LATE:
            self._watch((cycle, edge))
        self.now = cycle
        self.upcoming = cycle + 1 if edge else cycle
        while moments and moments[0][:2] == (cycle, edge):
            _, _, _, task, waits, source, trigger = heapq.heappop(moments)
            if task.waits != waits:
                continue
            if isinstance(trigger, ValueChange) and not trigger.fires():
                self.wait_for(trigger, task, source)
            else:
                self.wake(task, waits, source)
        if edge:
            waiting, self.edge_waits = self.edge_waits, []
            for task, waits, source in waiting:
                self.wake(task, waits, source)

    def _run_ahead(self) -> None:
        """Run the engine to the first moment at which a task could drive something."""
        engine = self.engine
        # Short at first, so that there is soon something to see.
        limit = self._ahead = min(2 * self._ahead, AHEAD)
        if any(not task.watches and task.waits == waits for task, waits, _ in self.edge_waits):
            limit = self.upcoming + 1 - engine.cycle
        for cycle, _, _, task, waits, _, _ in self._moments:
            if not task.watches and task.waits == waits:
                limit = min(limit, cycle + 1 - engine.cycle)
        self._unknown = [each for each in self._unknown if each[0].waits == each[1]]
        stops = [change.signal for task, _, _, change in self._unknown if not task.watches]
        for signal in stops:
            signal.stop(True)
        began = engine.cycle
        if limit < LONG or self._stopped_early:
            engine.run(max(1, limit))
        else:
            engine.begin(limit)
            try:
                while engine.runs_on and self._seen + LONG < began:
                    self._watch((self._seen + LONG, False))
            finally:
                engine.end()
        self._stopped_early = engine.cycle - began < min(limit, LONG)
        for signal in stops:
            signal.stop(False)
        unknown, self._unknown = self._unknown, []
        for task, _, source, change in unknown:
            self.wait_for(change, task, source)


_running: Scheduler | None = None


def running() -> Scheduler:
    """Return the scheduler that runs."""
    assert _running is not None, "host code must run in a simulator or on a scheduler"
    return _running


def start_soon(coroutine: Coroutine[Any, Any, Any]) -> Task:
    """Start a coroutine."""
    return running().start(coroutine, watches=False)


def start_watching(coroutine: Coroutine[Any, Any, Any]) -> Task:
    """Start what drives no signal, and wakes nothing that does.

    It lags behind: :func:`catch_up` comes before what it has found is read.
    """
    return running().start(coroutine, watches=True)


def at_end(call: Callable[[], None]) -> None:
    """Have something called when the run is over."""
    running().ends.append(call)


def catch_up() -> None:
    """Let what only watches see all until now, before something reads what it has found."""
    running().catch_up()


def clock_of_top() -> Any:
    """Return the clock."""
    return running().clock


def start_clock(dut: Any) -> None:
    """Do nothing: the clock runs."""
    del dut


def edges_before() -> int:
    """Return the edges of the clock before this one, or before now."""
    return running().edges_before


async def with_timeout(trigger: Any, cycles: int) -> Any:
    """Wait for a trigger, a task or a coroutine, for so many cycles at most.

    Raises
    ------
    SimTimeoutError
        If they are over.
    """
    timer = ClockCycles(None, cycles)
    if isinstance(trigger, Trigger):
        if await First(trigger, timer) is timer:
            raise SimTimeoutError
        return trigger
    task = trigger if isinstance(trigger, Task) else start_soon(trigger)
    if not task.done() and await First(task._ends, timer) is timer:
        task.cancel()
        raise SimTimeoutError
    return await task


def random_seed() -> int:
    """Return the seed of the run."""
    return running().seed
