# SPDX-License-Identifier: BSD-2-Clause
"""An engine and signals of which everything is known, for a scheduler of host code."""

import numpy as np


class Engine:
    """Signals of which all is known as soon as it has run."""

    runs_on = False

    def __init__(self):
        self.cycle = 0

    def run(self, cycles):
        self.cycle += cycles

    begin = run

    def end(self):
        pass


class Clock:
    """The clock."""

    is_clock = True


class Signal:
    """A signal whose value in each cycle is given."""

    is_clock = False

    def __init__(self, scheduler, width, values):
        self.scheduler, self.values = scheduler, values
        self.words = -(-width // 64)
        before = [None, *values]
        self.changes = [n for n, value in enumerate(values) if value != before[n]]

    @property
    def value(self):
        return self.values[self.scheduler.now]

    def changed(self):
        return self.scheduler.now in self.changes

    def next_change(self):
        return next((n for n in self.changes if n > self.scheduler.now), None)

    def stop(self, on):
        pass

    def history(self, first, end):
        assert end <= self.scheduler.engine.cycle
        begins = [n for n in self.changes if n < end]
        begins = [max([n for n in begins if n <= first]), *(n for n in begins if n > first)]
        content = b"".join(self.values[n].to_bytes(8 * self.words, "little") for n in begins)
        return np.array(begins), np.frombuffer(content, np.uint64).reshape(-1, self.words)
