# SPDX-License-Identifier: BSD-2-Clause
"""Products on the mesh, from operands in tiles to results in tiles."""
