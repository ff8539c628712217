# SPDX-License-Identifier: BSD-2-Clause
"""Diptych: the hardware, as Amaranth components."""
