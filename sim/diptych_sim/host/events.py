# SPDX-License-Identifier: BSD-2-Clause
"""Events that a testbench reports to the program that runs it."""

import json
from typing import Any

__all__ = ["report_event", "reported_events"]

_reported: list[dict[str, Any]] = []


def report_event(**fields: Any) -> None:
    """Hand an event to the ``on_event`` of :func:`diptych_sim.engine.simulate.run`."""
    _reported.append(fields)
    print(f"@diptych {json.dumps(fields)}", flush=True)


def reported_events() -> list[dict[str, Any]]:
    """Return all that was reported so far."""
    return _reported
