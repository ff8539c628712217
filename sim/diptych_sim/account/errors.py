# SPDX-License-Identifier: BSD-2-Clause
"""What accounts raise."""

__all__ = ["AccountError"]


class AccountError(Exception):
    """Counters contradict each other."""
