# SPDX-License-Identifier: BSD-2-Clause
"""Events that a testbench reports to the program that runs it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["listening", "report_event", "reported_events"]

_reported: list[dict[str, Any]] = []
_listeners: list[Callable[[dict[str, Any]], None]] = []


def report_event(**fields: Any) -> None:
    """Hand an event to the ``on_event`` of :func:`diptych_sim.engine.simulate.run`."""
    if _listeners:
        _listeners[-1](fields)
    else:
        print(f"@diptych {json.dumps(fields)}", flush=True)
    _reported.append(fields)  # behind what the listener has had reported before


@contextmanager
def listening(listener: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Hand events that are reported in this process to a listener instead."""
    before = _reported[:]
    _reported.clear()
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.pop()
        _reported[:] = before


def reported_events() -> list[dict[str, Any]]:
    """Return all that was reported so far."""
    return _reported
