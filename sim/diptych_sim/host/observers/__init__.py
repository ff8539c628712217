# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of counters, from interfaces: in testbenches of blocks and in every run."""
