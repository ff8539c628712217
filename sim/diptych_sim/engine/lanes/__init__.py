# SPDX-License-Identifier: BSD-2-Clause
"""The lane engine: a netlist compiled once, with every vector lane an instance of it."""
