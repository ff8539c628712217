# SPDX-License-Identifier: BSD-2-Clause
"""Helpers of the tests: models, jobs, runs, readers, and programs that tests start."""
