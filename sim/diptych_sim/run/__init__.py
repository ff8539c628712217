# SPDX-License-Identifier: BSD-2-Clause
"""Runs things on the simulated machine: a module for each kind of run."""
