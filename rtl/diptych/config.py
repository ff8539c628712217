# SPDX-License-Identifier: BSD-2-Clause
"""The machine's parameters: one set of defaults for hardware, command and tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

__all__ = ["ACTIVATION_BITS", "DEFAULTS", "TILE_MACS", "MachineConfig"]

ACTIVATION_BITS = 12
"""Signed bits of what matrices multiply, at most."""
TILE_MACS = 8
"""Products that a tile computes in a cycle, at most."""
_ARRAY_SIDES = (4, 8, 16, 32, 64, 128)
_MESH_SIDES = range(1, 1025)


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """Sizes and speeds of a machine.

    Attributes
    ----------
    array : (int, int)
        Rows and columns of processing elements; each a power of two from 4 to 128.
    weight_rows : int
        Rows of weights that the array loads in a cycle: 1, 2 or 4, at most a quarter of the rows.
    hbm_bytes : int
        Size of the HBM; a power of two from 2**20 on. Runs enlarge it for what they put there.
    hbm_latency : int
        Cycles from a read request to its first beat; at least 4.
    hbm_bytes_per_cycle : int
        Bandwidth of the HBM: 1 to 64.
    link_latency : int
        Cycles that a word spends on the KV link; 2 to 1024.
    link_bytes_per_cycle : int
        Bandwidth of the KV link: 1 to 4.
    mesh : (int, int)
        Rows and columns of tiles, each 1 to 1024.
    colors : int
        Colors of a router, 1 to 24.
    positions : int
        Switch positions of a color, 1 to 4.
    hop_cycles : int
        Cycles from one router to the next: 1 or 2.
    sram_bytes : int
        SRAM of a tile; a multiple of 256 up to 65536.
    program_depth : int
        Instructions that a tile holds. Runs enlarge it for their programs, as they do ``colors``.

    Raises
    ------
    ValueError
        If a parameter is outside its range.
    """

    array: tuple[int, int] = (16, 16)
    weight_rows: int = 1
    hbm_bytes: int = 2**20
    hbm_latency: int = 100
    hbm_bytes_per_cycle: int = 64
    link_latency: int = 50
    link_bytes_per_cycle: int = 4
    mesh: tuple[int, int] = (8, 8)
    colors: int = 10
    positions: int = 4
    hop_cycles: int = 1
    sram_bytes: int = 24576
    program_depth: int = 256

    def __post_init__(self) -> None:
        for name, side in zip(("rows", "columns"), self.array, strict=True):
            if side not in _ARRAY_SIDES:
                raise ValueError(f"Array {name} must be one of {_ARRAY_SIDES}, not {side!r}")
        for name, side in zip(("rows", "columns"), self.mesh, strict=True):
            if side not in _MESH_SIDES:
                raise ValueError(f"Mesh {name} must be in {_MESH_SIDES}, not {side!r}")
        if self.weight_rows not in (1, 2, 4) or 4 * self.weight_rows > self.array[0]:
            allowed = " or ".join(str(n) for n in (1, 2, 4) if 4 * n <= self.array[0])
            raise ValueError(
                f"Weight rows must be {allowed} on {self.array[0]} rows, not {self.weight_rows!r}"
            )
        if self.hbm_bytes < 2**20 or self.hbm_bytes & self.hbm_bytes - 1:
            raise ValueError(
                f"HBM bytes must be a power of two from {2**20} on, not {self.hbm_bytes!r}"
            )
        if self.sram_bytes not in range(256, 65537, 256):
            raise ValueError(
                f"SRAM must be a multiple of 256 bytes up to 65536, not {self.sram_bytes!r}"
            )
        for name, value, allowed in (
            ("HBM latency", self.hbm_latency, range(4, 2**16)),
            ("HBM bytes per cycle", self.hbm_bytes_per_cycle, range(1, 65)),
            ("Link latency", self.link_latency, range(2, 1025)),
            ("Link bytes per cycle", self.link_bytes_per_cycle, range(1, 5)),
            ("Colors", self.colors, range(1, 25)),
            ("Switch positions", self.positions, range(1, 5)),
            ("Hop cycles", self.hop_cycles, range(1, 3)),
            ("Program depth", self.program_depth, range(1, 2**16 + 1)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be in {allowed}, not {value!r}")

    def with_hbm(self, size: int) -> MachineConfig:
        """Return the machine with an HBM of at least ``size`` bytes."""
        return replace(self, hbm_bytes=max(self.hbm_bytes, 1 << (size - 1).bit_length()))

    @property
    def pes(self) -> int:
        """Processing elements of the array; each computes a product in a cycle."""
        return self.array[0] * self.array[1]

    @property
    def tiles(self) -> int:
        """Tiles of the mesh; each computes :data:`TILE_MACS` products in a cycle."""
        return self.mesh[0] * self.mesh[1]

    @property
    def array_parameters(self) -> dict[str, int]:
        """Parameters of :class:`~diptych.systolic.panel_with_hbm.PrefillWithHbm` but its size."""
        return {
            "hbm_bytes": self.hbm_bytes,
            "latency": self.hbm_latency,
            "bytes_per_cycle": self.hbm_bytes_per_cycle,
            "weight_rows": self.weight_rows,
        }

    @property
    def mesh_parameters(self) -> dict[str, int]:
        """Parameters of :class:`~diptych.mesh.mesh.Mesh` but its size."""
        return {
            "colors": self.colors,
            "sram_bytes": self.sram_bytes,
            "program_depth": self.program_depth,
            "positions": self.positions,
            "hop_cycles": self.hop_cycles,
        }

    @property
    def system_parameters(self) -> dict[str, Any]:
        """Parameters of :class:`~diptych.system.System` but sizes of array and mesh."""
        return {
            "hbm_bytes": self.hbm_bytes,
            "hbm_latency": self.hbm_latency,
            "hbm_bytes_per_cycle": self.hbm_bytes_per_cycle,
            "weight_rows": self.weight_rows,
            "link_latency": self.link_latency,
            "link_bytes_per_cycle": self.link_bytes_per_cycle,
            "colors": self.colors,
            "sram_bytes": self.sram_bytes,
            "program_depth": self.program_depth,
        }


DEFAULTS = MachineConfig()
"""The machine that commands, tests and hardware build unless told otherwise."""
