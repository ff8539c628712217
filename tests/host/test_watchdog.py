# SPDX-License-Identifier: BSD-2-Clause
"""How long a mesh may run that makes progress.

Fault that was planted, and seen to fail: a limit of 10 million cycles for every run, behind which a
long prompt ended with an error.
"""

import pytest

from diptych_sim.host import watchdog
from diptych_sim.host.hang import PATIENCE
from diptych_sim.host.watchdog import MeshHangs, Watchdog


class Progress:
    """Counters of a mesh that always makes progress."""

    def __init__(self):
        self.looks = 0

    def progress(self):
        self.looks += 1
        return self.looks

    def busy(self):
        return True


class Passes:
    """Stands for a wait."""

    def __init__(self, _clk, _cycles):
        pass

    def __await__(self):
        yield


@pytest.fixture
def progress(monkeypatch):
    monkeypatch.setattr(watchdog, "ClockCycles", Passes)
    monkeypatch.setattr(watchdog, "hang_message", lambda _tiles, reason, **_about: reason)
    monkeypatch.setattr(watchdog, "report_event", lambda **_event: None)
    return Progress()


def watched(progress, limit, waits):
    task = Watchdog(None, {}, progress, lines=[], colors={}).watch(limit)
    for _ in range(waits):
        task.send(None)
    task.close()


def test_a_run_whose_tokens_come_has_no_limit(progress):
    watched(progress, None, 100_000_000 // PATIENCE)
    assert progress.looks == 100_000_000 // PATIENCE


def test_a_limit_stops_a_program_that_loops(progress):
    watched(progress, 20 * PATIENCE, 20)
    with pytest.raises(MeshHangs, match="has not ended after"):
        watched(progress, 20 * PATIENCE, 21)


def test_a_mesh_without_progress_is_stopped(progress):
    progress.progress = lambda: 0
    with pytest.raises(MeshHangs, match="no tile made progress"):
        watched(progress, None, 2)
