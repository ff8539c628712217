# SPDX-License-Identifier: BSD-2-Clause
"""Drives the simulated machine in every run: loading, reading, recording, monitoring."""
