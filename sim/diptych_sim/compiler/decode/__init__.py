# SPDX-License-Identifier: BSD-2-Clause
"""Decoding on the mesh: placement, routes, tile program, KV layout."""
