# SPDX-License-Identifier: BSD-2-Clause
"""Packs a tile program of one's own, with the contents of each tile, into a kernel for the mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from diptych.config import DEFAULTS
from diptych.mesh.fabric import Load
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.kernel import (
    KernelError,
    MeshKernel,
    load_route,
    packet,
    read_back,
    read_task,
)
from diptych_sim.compiler.tile.routes import RouteEntry, check_routes

__all__ = ["READ_COLOR", "TileContents", "compile_program"]

READ_COLOR = 9
"""Color by which results leave; programs use colors 1 to 8, and color 0 carries load packets."""
_COLORS = READ_COLOR + 1
_START_TASK, _READ_TASK = 0, 1


@dataclass(frozen=True, kw_only=True)
class TileContents:
    """Contents of one tile before its program starts.

    Attributes
    ----------
    registers : mapping of int to int
        Values of registers, 0 where not given.
    memory : mapping of int to sequence of int
        32-bit words by the SRAM address (bytes, a multiple of 4) of the first of them.
    routes : mapping of int to RouteEntry
        Routes of colors 1 to 8, of one switch position; a color without one is not used in this
        tile.
    """

    registers: Mapping[int, int] = field(default_factory=dict)
    memory: Mapping[int, Sequence[int]] = field(default_factory=dict)
    routes: Mapping[int, RouteEntry] = field(default_factory=dict)


def compile_program(
    program: Assembler,
    tiles: Sequence[Sequence[TileContents]],
    *,
    result_address: int,
    result_words: int,
    sram_bytes: int = DEFAULTS.sram_bytes,
) -> MeshKernel:
    """Return a kernel in which every tile runs ``program`` once, from its first instruction.

    Turn ``c`` of its readbacks gives ``result_words`` words at SRAM address ``result_address`` of
    the tiles of column ``c``. The program is not changed.

    Parameters
    ----------
    program : Assembler
        Ends with END.
    tiles : sequence of sequence of TileContents
        Contents by row and column.
    result_address, result_words : int
        Where the result lies in each tile: bytes, a multiple of 4, and words, at least 1.
    sram_bytes : int
        Size of a tile's SRAM.

    Raises
    ------
    KernelError
        If the rows differ in length, a route has a reserved color or several positions,
        or the result lies outside the SRAM.
    RouteError
        If the routes contradict each other.
    ValueError
        If a field of a load packet does not fit its bits.
    """
    rows, columns = len(tiles), len(tiles[0]) if tiles else 0
    if not columns or any(len(row) != columns for row in tiles):
        raise KernelError(
            f"Rows of tiles must have one length, at least 1, not {[len(row) for row in tiles]}"
        )
    end = result_address + 4 * result_words
    if result_address % 4 or result_address < 0 or result_words < 1 or end > sram_bytes:
        raise KernelError(
            f"Result must be at least one word at a multiple of 4 in range({sram_bytes}), "
            f"not {result_words} words at {result_address}"
        )
    tables = [
        [_routes(tile, (r, c), columns) for c, tile in enumerate(row)]
        for r, row in enumerate(tiles)
    ]
    check_routes(tables)
    whole = deepcopy(program)
    read_task(whole, READ_COLOR)
    words, read_at = whole.words(), whole.place("read")
    load = []
    for row, routes in zip(tiles, tables, strict=True):
        line = packet(Load.PROGRAM, 0, words, 0, columns - 1)
        line += packet(Load.TASK, _START_TASK, [0, read_at], 0, columns - 1)
        for c, tile in enumerate(row):
            line += packet(Load.ROUTE, 0, [route.word() for route in routes[c]], c)
            for register, value in tile.registers.items():
                line += packet(Load.REGISTER, register, [value % 2**32], c)
            for address, values in tile.memory.items():
                line += packet(Load.WORDS, address, [value % 2**32 for value in values], c)
        load.append(line)
    return MeshKernel(
        rows=rows,
        columns=columns,
        colors=_COLORS,
        sram_bytes=sram_bytes,
        program=whole,
        load=load,
        start=[packet(Load.ACTIVATE, _START_TASK, [], 0, columns - 1)] * rows,
        readbacks=[
            read_back(rows, c, result_address, result_words, _READ_TASK, READ_COLOR)
            for c in range(columns)
        ],
        color_names={},
    )


def _routes(tile: TileContents, place: tuple[int, int], columns: int) -> list[RouteEntry]:
    """Return the routes of a tile by color."""
    for color, route in tile.routes.items():
        if color not in range(1, READ_COLOR):
            raise KernelError(
                f"Color of a route of tile {place} must be in range(1, {READ_COLOR}), not {color!r}"
            )
        if len(route.positions()) > 1:
            raise KernelError(f"Color {color} of tile {place} must have one switch position")
    return [
        load_route(place[1], columns),
        *(tile.routes.get(color, RouteEntry()) for color in range(1, READ_COLOR)),
    ]
