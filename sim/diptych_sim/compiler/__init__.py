# SPDX-License-Identifier: BSD-2-Clause
"""Compilers from a model to array commands and to tile programs."""
