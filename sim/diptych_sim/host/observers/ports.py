# SPDX-License-Identifier: BSD-2-Clause
"""Handles of the ports that observers look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["CommandPorts", "stream_handles"]


def stream_handles(dut: Any, prefix: str) -> tuple[Any, Any, Any]:
    """Return handles of a stream's ``valid``, ``ready`` and ``payload``."""
    valid, ready, payload = (dut[f"{prefix}__{part}"] for part in ("valid", "ready", "payload"))
    return valid, ready, payload


@dataclass(frozen=True)
class CommandPorts:
    """The stream of an engine's commands, and its ``done``."""

    valid: Any
    ready: Any
    payload: Any
    done: Any

    @classmethod
    def of_engine(cls, dut: Any) -> CommandPorts:
        """Return the ports of an engine that is the top of a simulation."""
        return cls(*stream_handles(dut, "i"), dut["done"])

    @classmethod
    def of_panel(cls, panel: Any, engine: str) -> CommandPorts:
        """Return them as the panel connects them with its queues.

        There the names are unambiguous: inside an engine, a port of a submodule may have the
        engine's name of it.
        """
        return cls(*stream_handles(panel, engine), panel[f"{engine}_done"])
