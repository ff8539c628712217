# SPDX-License-Identifier: BSD-2-Clause
"""Comparisons of `diptych bench`: one file for each, measured beside its peer or bound."""
