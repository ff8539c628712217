# SPDX-License-Identifier: BSD-2-Clause
"""Windows: what a counter of a link must count, whatever its wavelets' way from there to the link.

Counters that count the wavelets of one link twice were seen to fail a run of ``generate``. Mutations of
what is found at once, each seen to fail: a reader, a writer, the mask, or the old sums left out; a
window that begins a cycle later.
"""

import itertools
import random

import pytest

from diptych_sim.host.scheduler import Scheduler
from diptych_sim.host.triggers import ClockCycles
from diptych_sim.host.windows import LATEST, WINDOW, Windows, follows
from support.known_signals import Clock, Engine, Signal

VALID = random.Random(1).choices((0, 1), k=60)


def counts(valid, late):
    """Return a counter that counts each wavelet some cycles before it is on its link."""
    return list(itertools.accumulate([*valid[late:], *([0] * (late - 1))], initial=7))[: len(valid)]


@pytest.mark.parametrize("late", range(1, LATEST + 1))
def test_a_counter_may_be_early(late):
    assert follows(VALID, counts(VALID, late))


@pytest.mark.parametrize("late", [1, 2])
def test_any_other_count_is_seen(late):
    good = counts(VALID, late)
    for at in range(1, len(VALID) - LATEST - 1):
        wrong = [*good[:at], *(count + 1 for count in good[at:])]
        assert not follows(VALID, wrong)
    assert not follows(VALID, [good[0]] * len(VALID))
    assert not follows(VALID, [2 * count for count in good])


def test_nothing_may_come():
    assert follows([0] * 20, [5] * 20)


class Memory(dict):
    """Interfaces of a memory; a clock that members have, too."""

    __getattr__ = dict.__getitem__


def test_a_window_at_once_is_one_cycle_by_cycle():
    """Of random traffic at the scratchpad and the accumulators."""
    rng = random.Random(3)
    scheduler = Scheduler(Engine(), Clock(), 1)
    last = 3 + 2 * WINDOW

    def member(width):
        return Signal(scheduler, width, [rng.getrandbits(width) for _ in range(last)])

    pad = {f"read_{user}__{pin}": member(1) for user in "xvsw" for pin in ("en", "ready")}
    pad |= {f"write_{user}__{pin}": member(1) for user in "vl" for pin in ("en", "ready")}
    pad |= {f"write_{user}__mask": member(96) for user in "vl"}
    sums = {"sums__en": member(1), "sums__start": member(2)}
    sums |= {"read__en": member(1), "read__ready": member(1)}
    panel = Memory(scratchpad=Memory(pad), accumulators=Memory(sums))
    dut = Memory(clk=scheduler.clock, prefill=Memory(panel=panel))
    widths, entry = {"x": 24, "v": 24, "s": 16, "w": 32}, 64
    found = []

    async def main():
        windows = Windows(dut, None, size=(1, 1), weight_rows=1)
        await ClockCycles(dut.clk, 3)
        for _ in range(2):
            expected = [0] * 4
            for _ in range(WINDOW):
                moved = windows._moved(widths, entry)
                expected = [a + b for a, b in zip(expected, moved, strict=True)]
                await ClockCycles(dut.clk, 1)
            found.append((expected, windows._all_moved(widths, entry, scheduler.now)))

    scheduler.run(main())
    (first, at_once), (second, again) = found
    assert at_once == first
    assert again == second != first
