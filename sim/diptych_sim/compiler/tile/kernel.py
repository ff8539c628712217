# SPDX-License-Identifier: BSD-2-Clause
"""Parts of a kernel on the mesh: packets that load it, start it, and read its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.config import DEFAULTS
from diptych.mesh.fabric import LOAD_COLOR, Load, Port, header
from diptych.mesh.isa import Function, Op, Type
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.routes import RouteEntry, check_routes

__all__ = [
    "KernelError",
    "MeshKernel",
    "Readback",
    "choose_sram",
    "load_route",
    "packet",
    "read_back",
    "read_task",
    "receive_words",
    "send_words",
    "words_of",
]

SRAM_SIZES = (DEFAULTS.sram_bytes, 32768, 49152, 65536)
"""Sizes of a tile's SRAM that are chosen from, the smallest that fits; few, as each is a build."""
_ADDRESS, _COUNT = 13, 14


class KernelError(ValueError):
    """A product does not fit into a mesh, or not this mesh."""


@dataclass(frozen=True, kw_only=True)
class Readback:
    """One turn of reading results: packets for each row, and how many words each row sends."""

    packets: list[list[int]]
    words: int


@dataclass(frozen=True, kw_only=True)
class MeshKernel:
    """A program for a mesh, with everything that enters it at its west edge.

    Attributes
    ----------
    rows, columns, colors, sram_bytes : int
        The mesh that it is for.
    program : Assembler
        What every tile runs.
    load, start : list of list of int
        Words of load packets, for each row: everything but the start, and the start.
    readbacks : list of Readback
        Turns in which the results leave the mesh to the west.
    color_names : dict
        Names of colors by number.
    """

    rows: int
    columns: int
    colors: int
    sram_bytes: int
    program: Assembler
    load: list[list[int]]
    start: list[list[int]]
    readbacks: list[Readback]
    color_names: dict[int, str]


def packet(
    kind: Load, address: int, payload: Sequence[int], first: int, last: int | None = None
) -> list[int]:
    """Return a load packet for columns ``first`` to ``last``."""
    head = header(
        kind,
        count=len(payload),
        first_column=first,
        last_column=first if last is None else last,
        address=address,
    )
    return [*head, *payload]


def load_route(column: int, columns: int) -> RouteEntry:
    """Return the route of load packets."""
    east = {Port.EAST} if column + 1 < columns else set()
    return RouteEntry(
        sources=frozenset([Port.WEST]),
        targets=frozenset({Port.RAMP, *east}),
        color=LOAD_COLOR,
    )


def words_of(values: NDArray[Any]) -> list[int]:
    """Return bytes as 32-bit words, the first byte in the low bits; their number is padded."""
    raw = np.ascontiguousarray(values).tobytes()
    return np.frombuffer(raw + bytes(-len(raw) % 4), "<u4").tolist()


def choose_sram(needed: int, given: int | None) -> int | None:
    """Return the size of the SRAM: what is given, or the smallest that fits; None if it does not."""
    sizes = SRAM_SIZES if given is None else (given,)
    return next((size for size in sizes if needed <= size), None)


def send_words(program: Assembler, color: int, address: int, count: int, **fields: Any) -> None:
    """Append: send ``count`` words of the SRAM, one after the other."""
    program.vector(
        Op.MOVE,
        a_base=address,
        a_type=Type.INT32,
        d_type=Type.NONE,
        count=count,
        to_color=1,
        color=color,
        **fields,
    )


def receive_words(program: Assembler, color: int, count: int, **fields: Any) -> None:
    """Append: keep ``count`` words of a color in the SRAM as they are; ``fields`` say where."""
    program.vector(Op.RECEIVE, color=color, count=count, d_type=Type.INT32, stride=4, **fields)


def read_task(program: Assembler, color: int) -> None:
    """Append, at label ``read``, a task that sends words of the SRAM to the west."""
    program.label("read")
    program.vector(
        Op.TRANSMIT, a_reg=_ADDRESS, count_reg=_COUNT, color=color, comment="results, to the host"
    )
    program.scalar(Function.END)


def read_back(rows: int, column: int, address: int, words: int, task: int, color: int) -> Readback:
    """Return the turn in which the tiles of a column send words of their SRAM to the west.

    The columns west of it pass them on; ``task`` is where :func:`read_task` begins.
    """
    out: list[int] = []
    passes = RouteEntry(frozenset([Port.EAST]), frozenset([Port.WEST]), color=color)
    sends = RouteEntry(frozenset([Port.RAMP]), frozenset([Port.WEST]), color=color)
    # All rows do the same, and the product's colors are at rest.
    unused = [RouteEntry()] * color
    check_routes([[[*unused, entry] for entry in [passes] * column + [sends]]])
    if column:
        out += packet(Load.ROUTE, color, [passes.word()], 0, column - 1)
    out += packet(Load.ROUTE, color, [sends.word()], column)
    out += packet(Load.REGISTER, _ADDRESS, [address, words], column)
    out += packet(Load.ACTIVATE, task, [], column)
    return Readback(packets=[out] * rows, words=words)
