# SPDX-License-Identifier: BSD-2-Clause
"""What tasks of a :class:`.Scheduler` wait for."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .scheduler import Scheduler, Task

__all__ = [
    "NEVER",
    "ClockCycles",
    "First",
    "Moment",
    "Noted",
    "RisingEdge",
    "Stretch",
    "Trigger",
    "ValueChange",
]

Moment = tuple[int, bool]
"""A cycle, and whether it is its edge."""
NEVER: Moment = (1 << 62, True)


class Noted(Protocol):
    """A signal whose changes an engine notes."""

    is_clock: bool

    @property
    def value(self) -> int:
        """The value in the cycle in which the scheduler is."""
        ...

    def next_change(self) -> int | None:
        """Return the first later cycle with another value, if it is known."""
        ...

    def changed(self) -> bool:
        """Return whether it has another value than in the cycle before."""
        ...

    def stop(self, on: bool) -> None:
        """Have the engine stop after a cycle with another value."""
        ...


class Trigger:
    """Something that a task waits for."""

    def __await__(self) -> Generator[Trigger, Any, Any]:
        return (yield self)

    def arm(self, scheduler: Scheduler, task: Task, source: Trigger) -> None:
        """Have a task woken, with ``source`` as what it waited for."""
        raise NotImplementedError

    def moment(self, scheduler: Scheduler) -> Moment | None:
        """Return when it comes, if that depends on the engine alone; later than all if not known."""
        return None

    def source(self, scheduler: Scheduler) -> Trigger | None:
        """Return what has come at its moment, which is now; None if it is not there yet."""
        return self


class ValueChange(Trigger):
    """A signal changes."""

    def __init__(self, signal: Any) -> None:
        self.signal = signal

    def arm(self, scheduler: Scheduler, task: Task, source: Trigger) -> None:
        scheduler.wait_for(self, task, source)

    def fires(self) -> bool:
        """Return whether the change of this cycle is one."""
        return True

    def came(self, scheduler: Scheduler) -> bool:
        """Return whether it comes in this moment."""
        return self.signal.changed() and self.fires()

    def source(self, scheduler: Scheduler) -> Trigger | None:
        return self if self.fires() else None

    def moment(self, scheduler: Scheduler) -> Moment | None:
        cycle = self.signal.next_change()
        return (cycle, False) if cycle is not None else NEVER


class RisingEdge(ValueChange):
    """A signal rises; or the clock does, which ends the cycle."""

    def arm(self, scheduler: Scheduler, task: Task, source: Trigger) -> None:
        if self.signal.is_clock:
            scheduler.edge_waits.append((task, task.waits, source))
        else:
            scheduler.wait_for(self, task, source)

    def fires(self) -> bool:
        return self.signal.is_clock or bool(self.signal.value)

    def came(self, scheduler: Scheduler) -> bool:
        if self.signal.is_clock:
            return scheduler.upcoming > scheduler.now
        return super().came(scheduler)

    def moment(self, scheduler: Scheduler) -> Moment | None:
        if self.signal.is_clock:
            return scheduler.upcoming, True
        return super().moment(scheduler)


class ClockCycles(Trigger):
    """So many rising edges of the clock."""

    def __init__(self, clk: Any, cycles: int) -> None:
        del clk
        self.cycles = cycles

    def arm(self, scheduler: Scheduler, task: Task, source: Trigger) -> None:
        scheduler.wait_until(scheduler.upcoming + self.cycles - 1, task, source)

    def moment(self, scheduler: Scheduler) -> Moment | None:
        return scheduler.upcoming + self.cycles - 1, True


class Stretch(Trigger):
    """The edges that have come since: for what only watches, which sees many cycles at once.

    Attributes
    ----------
    first, end : int
        The first cycle of them, and the one after the last, whose edge it is.
    """

    first = end = 0

    def moment(self, scheduler: Scheduler) -> Moment | None:
        return scheduler.upcoming, True


class First(Trigger):
    """The first of some triggers, which is what awaiting it returns."""

    def __init__(self, *triggers: Trigger) -> None:
        self.triggers = triggers
        self._ends: dict[Trigger, Moment] = {}

    def __await__(self) -> Generator[Trigger, Any, Any]:
        self._ends.clear()
        return (yield self)

    def arm(self, scheduler: Scheduler, task: Task, source: Trigger) -> None:
        for trigger in self.triggers:
            trigger.arm(scheduler, task, trigger)

    def moment(self, scheduler: Scheduler) -> Moment | None:
        found = []
        for trigger in self.triggers:
            moment = self._ends.get(trigger) or trigger.moment(scheduler)
            if moment is None:
                return None
            if isinstance(trigger, ClockCycles):
                # Edges count from the beginning, not from where another trigger was looked at.
                self._ends[trigger] = moment
            found.append(moment)
        return min(found)

    def source(self, scheduler: Scheduler) -> Trigger | None:
        now = scheduler.now, scheduler.upcoming > scheduler.now
        for trigger in self.triggers:
            # Of a signal that has not changed, the next change would be later.
            if isinstance(trigger, ValueChange) and trigger.came(scheduler):
                return trigger
            if self._ends.get(trigger) == now:
                return trigger
        return None
