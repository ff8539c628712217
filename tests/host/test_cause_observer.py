# SPDX-License-Identifier: BSD-2-Clause
"""Observers that know the cause of a cycle long after it."""

import pytest

from diptych_sim.host.observers.cause import WINDOW, CauseObserver
from diptych_sim.host.scheduler import Scheduler
from diptych_sim.host.triggers import ClockCycles


class _Engine:
    cycle = 0
    runs_on = False

    def run(self, cycles):
        self.cycle += cycles

    begin = run

    def end(self):
        pass


class _Clock:
    is_clock = True


class _Counter:
    """Counts all cycles, and one more from some cycle on."""

    def __init__(self, scheduler, wrong_from):
        self._scheduler, self._wrong_from = scheduler, wrong_from

    @property
    def value(self):
        now = self._scheduler.now
        return now + (now >= self._wrong_from)


class _Late(CauseObserver):
    """Blames a cycle after as many others."""

    def __init__(self, clk, counters, late):
        super().__init__(clk, counters)
        self._late = late

    def observe(self):
        if self.cycle >= self._late:
            self.blame("idle")


def _check(late, cycles, wrong_from=1 << 30):
    """Return the cycles that were compared, if they are those of the counter."""
    scheduler = Scheduler(_Engine(), _Clock(), 1)
    observer = _Late(scheduler.clock, {"idle": _Counter(scheduler, wrong_from)}, late)

    async def run():
        observer.start()
        await ClockCycles(scheduler.clock, cycles)
        return (await observer.check())["idle"]

    return scheduler.run(run())


@pytest.mark.parametrize("late", [0, WINDOW - 1, WINDOW + 1, 3 * WINDOW])
def test_check_waits_for_causes_that_come_late(late):
    assert _check(late, 500) >= 500


@pytest.mark.parametrize("late", [0, 3 * WINDOW])
def test_the_last_cycles_are_compared(late):
    with pytest.raises(AssertionError, match="counters of the block"):
        _check(late, 500, wrong_from=490)
