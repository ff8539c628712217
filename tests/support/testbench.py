# SPDX-License-Identifier: BSD-2-Clause
"""Checks of what a testbench ran."""

from diptych_sim.engine.simulate import Run

__all__ = ["assert_ran"]


def assert_ran(ran: Run, *names: str) -> None:
    """Check that cocotb tests ran, each with some parameters or none."""
    missing = set(names) - {name.partition("/")[0] for name in ran.names}
    assert not missing, f"{sorted(missing)} not among {ran.names}"
