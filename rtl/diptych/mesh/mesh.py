# SPDX-License-Identifier: BSD-2-Clause
"""Mesh of tiles."""

from functools import partial
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.config import DEFAULTS
from diptych.precompiled import Precompiled

from .fabric import LinkSignature, Port
from .tile import Tile

__all__ = ["Mesh"]


class Mesh(wiring.Component):
    """``rows`` x ``columns`` tiles, all of one module ``tile``.

    The ports are the west links of the rows.

    Parameters
    ----------
    rows, columns : :class:`int`
        Size, each 1 to 128.
    colors, sram_bytes, program_depth, positions, hop_cycles : :class:`int`
        As of :class:`.Tile`.

    Members
    -------
    west_i : :py:`In(LinkSignature(colors)).array(rows)`
        Link into the first tile of each row.
    west_o : :py:`Out(LinkSignature(colors)).array(rows)`
        Link out of the first tile of each row.

    Raises
    ------
    ValueError
        If a size is out of range.
    """

    west_i: Any
    west_o: Any

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        colors: int = DEFAULTS.colors,
        sram_bytes: int = DEFAULTS.sram_bytes,
        program_depth: int = DEFAULTS.program_depth,
        positions: int = DEFAULTS.positions,
        hop_cycles: int = DEFAULTS.hop_cycles,
    ) -> None:
        for name, size in (("Rows", rows), ("Columns", columns)):
            if size not in range(1, 129):
                raise ValueError(f"{name} of the mesh must be in range(1, 129), not {size!r}")
        self.rows = rows
        self.columns = columns
        self.colors = colors
        self._make_tile = partial(
            Tile,
            colors=colors,
            sram_bytes=sram_bytes,
            program_depth=program_depth,
            positions=positions,
            hop_cycles=hop_cycles,
        )
        self.tile = self._make_tile()
        link = LinkSignature(colors)
        super().__init__({"west_i": In(link).array(rows), "west_o": Out(link).array(rows)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        tiles: list[list[Any]] = [
            [Precompiled(self.tile, "tile", self._make_tile) for _ in range(self.columns)]
            for _ in range(self.rows)
        ]
        for r, row in enumerate(tiles):
            for c, tile in enumerate(row):
                m.submodules[f"tile_{r}_{c}"] = tile
                edge = (
                    (r == 0) << Port.NORTH.value
                    | (c == self.columns - 1) << Port.EAST.value
                    | (r == self.rows - 1) << Port.SOUTH.value
                )
                m.d.comb += tile.edge.eq(edge)
                if c + 1 < self.columns:
                    east = row[c + 1]
                    wiring.connect(m, tile.east_o, east.west_i)
                    wiring.connect(m, east.west_o, tile.east_i)
                    m.d.comb += east.x_in.eq(tile.x_out)
                if r + 1 < self.rows:
                    south = tiles[r + 1][c]
                    wiring.connect(m, tile.south_o, south.north_i)
                    wiring.connect(m, south.north_o, tile.south_i)
            wiring.connect(m, wiring.flipped(self.west_i[r]), row[0].west_i)
            wiring.connect(m, row[0].west_o, wiring.flipped(self.west_o[r]))
        return m
