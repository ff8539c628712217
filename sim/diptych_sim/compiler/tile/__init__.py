# SPDX-License-Identifier: BSD-2-Clause
"""Programs of tiles: assembler, registers, routes."""
