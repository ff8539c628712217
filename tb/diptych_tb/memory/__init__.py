# SPDX-License-Identifier: BSD-2-Clause
"""Testbenches of the memory outside the panels, and agents for AXI4."""
