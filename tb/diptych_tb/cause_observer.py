# SPDX-License-Identifier: BSD-2-Clause
"""The base of observers, for those of the mesh's blocks, which only testbenches have yet."""

from diptych_sim.host.observers.cause import CauseObserver

__all__ = ["CauseObserver"]
