# SPDX-License-Identifier: BSD-2-Clause
"""Errors of accounts."""

__all__ = ["AccountError"]


class AccountError(Exception):
    """Counters contradict each other."""
