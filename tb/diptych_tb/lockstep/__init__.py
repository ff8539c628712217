# SPDX-License-Identifier: BSD-2-Clause
"""Compares the two engines: every register in every cycle."""
