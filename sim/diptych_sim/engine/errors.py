# SPDX-License-Identifier: BSD-2-Clause
"""Errors of building and running the hardware."""

__all__ = [
    "BuildError",
    "CheckpointError",
    "EngineError",
    "HangError",
    "SimulationError",
    "ToolError",
]


class EngineError(Exception):
    """The hardware could not be built or run; the message is for a person."""


class ToolError(EngineError):
    """A tool that the machine should have is missing or too old; the message is one line."""


class BuildError(EngineError):
    """Verilator or the C++ compiler refused; the message ends with their last lines."""


class SimulationError(EngineError, AssertionError):
    """A simulation failed; the message ends with the last lines of its log."""


class HangError(SimulationError):
    """A watchdog stopped the hardware; the message is one line that says where it waits."""


class CheckpointError(EngineError):
    """A checkpoint that cannot be read, or is another run's; the message is one line."""
