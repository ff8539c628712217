# SPDX-License-Identifier: BSD-2-Clause
"""Windows: what a counter of a link must count, whatever its wavelets' way from there to the link.

Counters that count the wavelets of one link twice were seen to fail a run of ``generate``.
"""

import itertools
import random

import pytest

from diptych_sim.host.windows import LATEST, follows

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
