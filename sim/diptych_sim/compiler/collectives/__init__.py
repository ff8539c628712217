# SPDX-License-Identifier: BSD-2-Clause
"""Collectives on the mesh: broadcast, reduce, all-reduce."""
