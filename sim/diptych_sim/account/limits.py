# SPDX-License-Identifier: BSD-2-Clause
"""Limits that no measurement can pass, whatever the counters say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych_sim.account.errors import AccountError

__all__ = ["check_limits"]


def check_limits(part: str, account: Mapping[str, Any]) -> None:
    """Check an account, and every account in it.

    Parameters
    ----------
    part : str
        What was measured, in words.
    account : mapping
        Fields of a result.

    Raises
    ------
    AccountError
        If cycles are below their bound, a utilization is above 1, or a count is negative.
    """
    cycles, bound = account.get("cycles"), account.get("bound_cycles")
    if cycles is not None and bound is not None and cycles < bound:
        raise AccountError(f"Cycles of {part} must be at least the bound of {bound}, not {cycles}")
    share = account.get("mac_utilization")
    if share is not None and share > 1:
        raise AccountError(f"MAC utilization of {part} must be at most 1, not {share:.4f}")
    for name, value in account.items():
        if isinstance(value, Mapping):
            check_limits(f"{part}, {name}", value)
        elif isinstance(value, (int, float)) and value < 0:
            raise AccountError(f"{name} of {part} must not be negative, not {value}")
