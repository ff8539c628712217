# SPDX-License-Identifier: BSD-2-Clause
"""Blocks of the machine that waveforms can show, and the signals of each to look at first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from diptych.mesh.fabric import PORT_NAMES

__all__ = ["BLOCKS", "DEFAULT_BLOCKS", "Block", "WaveBlockError", "choose_blocks"]

Group = tuple[str, tuple[str, ...]]
"""A title, and full names of signals, which may hold ``*``."""


class WaveBlockError(Exception):
    """A block that is not there."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of the design.

    Attributes
    ----------
    name : str
        What the user calls it.
    scopes : tuple of (int, str)
        How many levels of which instances it is.
    groups : tuple of Group
        What to look at first.
    """

    name: str
    scopes: tuple[tuple[int, str], ...]
    groups: tuple[Group, ...] = ()


def _stream(name: str, *fields: str, payload: str = "payload") -> list[str]:
    ready = [f"{name}__ready"] if payload == "payload" else []
    return [f"{name}__valid", *ready, *(f"{name}__{payload}.{field}" for field in fields)]


def _group(title: str, scope: str, names: Sequence[str]) -> Group:
    return title, tuple(f"{scope}.{name}" for name in names)


_DEEP = 99
_PREFILL = "system.prefill"
_PANEL = f"{_PREFILL}.panel"
_ENGINES = {
    "queues": ["queues.fsm_state", "queues.pc", "queues.now.queue", "queues.available"],
    "load": [*_stream("load", "target", "rows", "bytes", "hbm"), "load.target", "load.ask_target"],
    "matrix": [*_stream("matrix", "rows", "tiles", "w", "x", "sums"), "matrix.enters"],
    "vector": [
        *_stream("vector", "extent", "vector", "target"),
        *("vector.sequencer.fsm_state", "vector.kind", "vector.function", "vector.purpose"),
    ],
    "store": [
        *_stream("store", "rows", "bytes", "layer"),
        *("store.op", "store.fsm_state", "store.writer.fsm_state"),
    ],
}
_MEMORIES = {
    "scratchpad": f"{_PANEL}.scratchpad",
    "accumulators": f"{_PANEL}.accumulators",
    "hbm": f"{_PREFILL}.hbm",
}
_HBM_PORT = [
    *_stream("axi__ar", "addr", "len", "id"),
    *_stream("axi__r", "id", "last", "data"),
    *_stream("axi__aw", "addr", "len"),
    *_stream("axi__w", "last", "data"),
]
_LINK = (
    _group("link: in", "system.link", _stream("i", "kind", "layer", "position", "data")),
    _group(
        "link",
        "system.link",
        ["transmitter.fsm_state", "layout.fsm_state", "on_wires", "busy", "damage"],
    ),
    _group("link: out", "system.link", ["o__*__valid", "o__*__ready", "token_valid", "token"]),
)
_TILE = {
    "": [
        *("core.running", "core.pc", "core.instruction.op", "core.instruction.function"),
        *("core.pipe.busy", "core.pipe.operation.op", "core.pipe.blocked"),
        *("core.receiver.busy", "core.receiver.now.op", "core.receiver.color"),
        "core.waiting",
    ],
    **{
        f" {way} {words}": _stream(f"{way}_{end}", "color", "control", "data", payload="wavelet")
        for way in PORT_NAMES
        for words, end in (("in", "i"), ("out", "o"))
    },
}


def _host(top: str) -> Block:
    names = ["clk", "start", "program", "finished", "link_busy", "token_valid", "token"]
    return Block(name="host", scopes=((1, top),), groups=(_group("host", top, names),))


def _prefill() -> list[Block]:
    engines = [
        Block(
            name=name,
            scopes=((1, _PANEL), (_DEEP, f"{_PANEL}.{name}")),
            groups=(_group(name, _PANEL, signals),),
        )
        for name, signals in _ENGINES.items()
    ]
    handoff = _group("hand-off", _PREFILL, _stream("handoff", "kind", "layer", "position", "data"))
    port = _group("HBM port", _PREFILL, _HBM_PORT)
    return [
        Block(
            name="prefill",
            scopes=((_DEEP, _PREFILL),),
            groups=(*(group for engine in engines for group in engine.groups), port, handoff),
        ),
        *engines,
        *(Block(name=name, scopes=((_DEEP, scope),)) for name, scope in _MEMORIES.items()),
        Block(name="link", scopes=((_DEEP, "system.link"),), groups=_LINK),
    ]


def _tile(mesh: str, row: int, column: int) -> Block:
    place = f"{mesh}.tile_{row}_{column}"
    groups = (_group(f"tile ({row}, {column}){t}", place, names) for t, names in _TILE.items())
    return Block(name=f"tile_{row}_{column}", scopes=((_DEEP, place),), groups=tuple(groups))


BLOCKS = ("all", "host", *(block.name for block in _prefill()), "decode", "tiles")
"""Names of blocks; besides, ``tile_R_C`` is the tile in row R and column C."""

DEFAULT_BLOCKS = ("host", "prefill", "link", "tile_0_0")


def choose_blocks(
    names: Sequence[str], *, mesh: tuple[int, int], decode_alone: bool = False
) -> list[Block]:
    """Return the blocks of given names.

    Parameters
    ----------
    names : sequence of str
        At least one, of ``BLOCKS`` or a tile; twice is as good as once.
    mesh : tuple of int
        Rows and columns of the mesh.
    decode_alone : bool
        The design is the decode panel, not the whole machine.

    Raises
    ------
    WaveBlockError
        If there is no such block.
    """
    top = "decode_panel" if decode_alone else "system"
    panel = top if decode_alone else "system.decode"
    tiles = [_tile(f"{panel}.mesh", r, c) for r in range(mesh[0]) for c in range(mesh[1])]
    known = {block.name: block for block in tiles}
    known["host"] = _host(top)
    if not decode_alone:
        known |= {block.name: block for block in _prefill()}
    everything = tuple(group for block in known.values() for group in block.groups)
    known["all"] = Block(name="all", scopes=((_DEEP, top),), groups=everything)
    known["decode"] = Block(name="decode", scopes=((2, panel),))
    in_tiles = tuple(group for block in tiles for group in block.groups)
    known["tiles"] = Block(name="tiles", scopes=((_DEEP, panel),), groups=in_tiles)
    for name in names:
        if name not in known:
            size = f"{mesh[0]}x{mesh[1]}"
            if re.fullmatch(r"tile_\d{1,3}_\d{1,3}", name):
                raise WaveBlockError(f"tile_R_C with R and C in the mesh of {size}, not {name}")
            allowed = ", ".join(block for block in BLOCKS if block in known)
            raise WaveBlockError(f"{allowed} or tile_R_C, not {name!r:.60}")
    return [known[name] for name in dict.fromkeys(names)]
