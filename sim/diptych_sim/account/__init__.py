# SPDX-License-Identifier: BSD-2-Clause
"""Counters, cost model and projection."""
