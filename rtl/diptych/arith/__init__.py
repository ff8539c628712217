# SPDX-License-Identifier: BSD-2-Clause
"""Arithmetic that both panels share."""
