# SPDX-License-Identifier: BSD-2-Clause
"""A tile of the mesh."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.config import DEFAULTS

from .core import CORE_COUNTERS, Core
from .fabric import DIRECTION_NAMES, LinkSignature
from .router import ROUTER_COUNTERS, Router

__all__ = ["CORE_COUNTERS", "ROUTER_COUNTERS", "Tile"]


class Tile(wiring.Component):
    """A router and a core.

    Every output is a register, so that no path crosses a tile. All tiles of a mesh are the same
    module: a tile learns its column from its west neighbor, and the rest through the fabric.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors, 1 to 24.
    sram_bytes : :class:`int`
        Size of the SRAM.
    program_depth : :class:`int`
        Size of the program memory in instructions.
    positions, hop_cycles : :class:`int`
        As of :class:`.Router`.

    Members
    -------
    north_i, east_i, south_i, west_i : :py:`In(LinkSignature(colors))`
        Links from the neighbors.
    north_o, east_o, south_o, west_o : :py:`Out(LinkSignature(colors))`
        Links to the neighbors.
    x_in, x_out : :py:`In(16)`, :py:`Out(16)`
        Column of the tile, and of its east neighbor.
    edge : :py:`In(4)`
        A bit per direction: the tile has no neighbor there.
    """

    x_in: Signal
    x_out: Signal
    edge: Signal

    def __init__(
        self,
        *,
        colors: int = DEFAULTS.colors,
        sram_bytes: int = DEFAULTS.sram_bytes,
        program_depth: int = DEFAULTS.program_depth,
        positions: int = DEFAULTS.positions,
        hop_cycles: int = DEFAULTS.hop_cycles,
    ) -> None:
        self.colors = colors
        self.positions = positions
        self.hop_cycles = hop_cycles
        self.sram_bytes = sram_bytes
        self.program_depth = program_depth
        super().__init__(
            {
                **{f"{way}_i": In(LinkSignature(colors)) for way in DIRECTION_NAMES},
                **{f"{way}_o": Out(LinkSignature(colors)) for way in DIRECTION_NAMES},
                "x_in": In(16),
                "x_out": Out(16),
                "edge": In(4),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        router: Any = Router(
            colors=self.colors, positions=self.positions, hop_cycles=self.hop_cycles
        )
        m.submodules.router = router
        m.submodules.core = core = Core(
            colors=self.colors, sram_bytes=self.sram_bytes, program_depth=self.program_depth
        )
        for way in DIRECTION_NAMES:
            for link in (f"{way}_i", f"{way}_o"):
                wiring.connect(m, wiring.flipped(getattr(self, link)), getattr(router, link))
        wiring.connect(m, core.ramp_o, router.ramp_i)
        wiring.connect(m, router.ramp_o, core.ramp_i)
        wiring.connect(m, core.route_write, router.route_write)
        m.d.comb += [core.column.eq(self.x_in), router.edge.eq(self.edge)]
        m.d.sync += self.x_out.eq(self.x_in + 1)
        return m
