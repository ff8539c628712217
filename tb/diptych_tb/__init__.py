# SPDX-License-Identifier: BSD-2-Clause
"""Testbenches, and the agents that they share."""
