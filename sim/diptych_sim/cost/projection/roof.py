# SPDX-License-Identifier: BSD-2-Clause
"""Roofline of a phase: what products and bytes allow, and what is reached of it."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.config import TILE_MACS
from diptych_sim.cost.projection.accelerator import peak
from diptych_sim.cost.projection.job import Job, Phase
from diptych_sim.cost.projection.own_machine import machine_of
from diptych_sim.cost.systems.schema import System

__all__ = ["PhaseRoof", "phase_roof"]

_TILE_BYTES = 8
"""Bytes of weights that a tile of ours reads in a cycle."""


@dataclass(frozen=True, kw_only=True)
class PhaseRoof:
    """Peaks of all chips, and where a phase lies under them."""

    peak_flops: float
    """FLOP/s."""
    peak_bytes: float | None
    """Bytes a second; None where nobody publishes them."""
    intensity: float
    """FLOP for each byte of weights and KV cache."""
    reached_flops: float

    @property
    def roof_flops(self) -> float:
        """FLOP/s that the lower roof allows."""
        if self.peak_bytes is None:
            return self.peak_flops
        return min(self.peak_flops, self.peak_bytes * self.intensity)


def phase_roof(system: System, job: Job, chips: int, phase: Phase, *, decode: bool) -> PhaseRoof:
    """Return the roofline of a phase."""
    memory = system.get("memory_tbps")
    bandwidth = None if memory is None else 1e12 * memory
    if system.kind == "diptych":
        machine = machine_of(system)
        second = 1e6 * system.need("clock_mhz")
        macs = machine.tiles * TILE_MACS if decode else machine.pes
        moved = machine.tiles * _TILE_BYTES if decode else machine.hbm_bytes_per_cycle
        flops, bandwidth = 2 * macs * second, moved * second
    elif system.kind == "wafer":
        macs = system.need("tiles") * system.need("tile_macs")
        flops = 2e6 * macs * system.need("clock_mhz")
    else:
        flops, _ = peak(system, job.form.arithmetic)
    return PhaseRoof(
        peak_flops=chips * flops,
        peak_bytes=None if bandwidth is None else chips * bandwidth,
        intensity=phase.flops / phase.bytes,
        reached_flops=phase.flops / phase.seconds,
    )
