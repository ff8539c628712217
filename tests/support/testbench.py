# SPDX-License-Identifier: BSD-2-Clause
"""How testbenches of blocks are built, and checks of what they ran."""

from diptych_sim.engine.build import BuildOptions
from diptych_sim.engine.simulate import Run

__all__ = ["RANDOM_START", "assert_ran"]

RANDOM_START = BuildOptions(random_start=True)
"""Registers that the reset leaves out have another value in each test run."""


def assert_ran(ran: Run, *names: str) -> None:
    """Check that cocotb tests ran, each with some parameters or none."""
    missing = set(names) - {name.partition("/")[0] for name in ran.names}
    assert not missing, f"{sorted(missing)} not among {ran.names}"
