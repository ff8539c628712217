# SPDX-License-Identifier: BSD-2-Clause
"""The frames of the KV link, each with the cycles of its way."""

from __future__ import annotations

from typing import Any

from diptych_sim.run.folder import RunFolder

__all__ = ["link_frames"]


def link_frames(run: RunFolder) -> list[dict[str, Any]]:
    """Return the frames that a run sent, in order.

    Each is its event ``frame_sent`` (the first, if it was sent again) with ``number``, counted from
    1, and the cycles ``queued``, ``accepted`` and ``delivered``, None for what was not seen.
    """
    sent: dict[tuple[Any, ...], dict[str, Any]] = {}
    for event in run.all("frame_sent"):
        key = tuple(event[name] for name in ("what", "layer", "position", "prompt"))
        sent.setdefault(key, {**event, "number": len(sent) + 1})
    milestones = {
        step: _cycles(run, f"frame_{step}") for step in ("queued", "accepted", "delivered")
    }
    return [
        frame | {step: cycles.get(frame["number"]) for step, cycles in milestones.items()}
        for frame in sent.values()
    ]


def _cycles(run: RunFolder, kind: str) -> dict[int, int]:
    """Return when each frame, by number, came to a step; several may do so in a cycle."""
    cycles: dict[int, int] = {}
    for event in run.all(kind):
        for number in range(len(cycles) + 1, event["count"] + 1):
            cycles[number] = event["cycle"]
    return cycles
