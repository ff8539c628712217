# SPDX-License-Identifier: BSD-2-Clause
"""Signals of tiles on lanes for the waveform of the simulator around them.

Names, fields and enumerations are those of the tile's Verilog: all that is a register, an input
from a neighbor, or a part of one. What the hardware computes between registers is not kept on lanes.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from diptych.mesh.tile import Tile
from diptych_sim.engine.emit import emit_verilog

from .layout import Element
from .mesh import LaneMesh
from .ports import FORWARD

__all__ = ["Enumeration", "Signal", "record_tiles", "tile_signals"]

_NAME = r"(\\\S+ |\w+)"
_MODULE = re.compile(rf"^module {_NAME}")
_DECLARED = re.compile(rf"^  (?:wire|reg) (?:\[(\d+):0\] )?{_NAME}(?:;| = )")
_SAME = re.compile(rf"^  assign {_NAME} = {_NAME}(?:\[(\d+)(?::(\d+))?\])?;$")
_TYPE = re.compile(r'^  \(\* enum_base_type = "([^"]*)" \*\)$')
_FROM_WEST = (*(f"west_i__{part}" for part in FORWARD), "west_o__credit")
_ITEM = re.compile(r'^  \(\* enum_value_([01]+) = "([^"]*)" \*\)$')


@dataclass(frozen=True)
class Enumeration:
    """Names of values; values are binary."""

    name: str
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Bits ``low`` to ``low + width - 1`` of a register of the tile."""

    scope: str
    """Modules in the tile, with dots."""
    name: str
    register: str
    low: int
    width: int
    enumeration: Enumeration | None


@dataclass
class _Module:
    path: str
    declared: dict[str, tuple[int, Enumeration | None]] = field(default_factory=dict)
    same: dict[str, tuple[str, int]] = field(default_factory=dict)


def _modules(text: str) -> Iterator[_Module]:
    module, kind, items = _Module(""), "", []
    for line in text.splitlines():
        if match := _MODULE.match(line):
            _, _, path = _plain(match[1]).partition(".")
            module = _Module(path)
        elif match := _TYPE.match(line):
            kind, items = match[1], []
        elif match := _ITEM.match(line):
            items.append((match[2], match[1]))
        elif match := _DECLARED.match(line):
            enumeration = Enumeration(kind, tuple(items)) if kind else None
            module.declared[_plain(match[2])] = int(match[1] or 0) + 1, enumeration
            kind, items = "", []
        elif match := _SAME.match(line):
            module.same[_plain(match[1])] = _plain(match[2]), int(match[4] or match[3] or 0)
        elif line == "endmodule":
            yield module


def _plain(identifier: str) -> str:
    return identifier.removeprefix("\\").removesuffix(" ")


def tile_signals(mesh: LaneMesh, verilog: str) -> list[Signal]:
    """Return what can be shown of a tile, module by module."""
    out = []
    for module in _modules(verilog):
        for name, (width, enumeration) in module.declared.items():
            base, low = name, 0
            before = f"{module.path}." if module.path else ""
            while not _recorded(mesh, before + base) and base in module.same:
                base, more = module.same[base]
                low += more
            full = before + base
            if not name.startswith("$") and _recorded(mesh, full):
                out.append(
                    Signal(
                        scope=module.path,
                        name=name,
                        register=full,
                        low=low,
                        width=width,
                        enumeration=enumeration,
                    )
                )
    return out


def _recorded(mesh: LaneMesh, name: str) -> bool:
    return mesh.has(name) or name in mesh.tile.interface.inputs


def _places(mesh: LaneMesh, name: str) -> list[tuple[Element, int]]:
    if mesh.has(name):
        return mesh.places(name)
    layout = mesh.tile.layout
    return [(layout.nodes[node], low) for node, low, _ in mesh.tile.interface.inputs[name]]


class _Piece(ctypes.Structure):
    _fields_ = (
        ("at", ctypes.c_void_p),
        *((name, ctypes.c_long) for name in ("size", "right", "low", "width")),
    )


class _Signal(ctypes.Structure):
    _fields_ = (
        ("scope", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        *((name, ctypes.c_long) for name in ("width", "enumeration", "count")),
        ("pieces", ctypes.POINTER(_Piece)),
    )


class _Enumeration(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("width", ctypes.c_long),
        ("count", ctypes.c_long),
        ("names", ctypes.POINTER(ctypes.c_char_p)),
        ("values", ctypes.POINTER(ctypes.c_char_p)),
    )


def _chosen(path: str) -> bool:
    """Return whether the waveform is to show an instance, as ``waves.h`` decides it."""
    words = os.environ.get("DIPTYCH_WAVES_SCOPES", "").split()
    scopes = list(zip(map(int, words[::2]), words[1::2], strict=True))
    inside = (
        f"{path}.".startswith(f"{scope}.") and path[len(scope) :].count(".") < depth
        for depth, scope in scopes
    )
    return not scopes or any(inside)


def record_tiles(mesh: LaneMesh, path: str) -> None:
    """Let the simulator record the tiles that its waveform is to show, if it records one.

    ``path`` is that of the mesh, which must be there as long as the simulator runs.
    """
    program = ctypes.CDLL(None)
    if not hasattr(program, "diptych_blackbox_record"):
        return
    places = [(r, c) for r in range(mesh.rows) for c in range(mesh.columns)]
    places = [(r, c) for r, c in places if _chosen(f"{path}.tile_{r}_{c}")]
    if not places:
        return
    verilog = "".join(text for _, text in emit_verilog(partial(Tile, **mesh.parameters), "tile"))
    signals = tile_signals(mesh, verilog)
    enumerations = list(dict.fromkeys(s.enumeration for s in signals if s.enumeration))
    numbers = {enumeration: n + 1 for n, enumeration in enumerate(enumerations)}
    types = (_Enumeration * len(enumerations))(*map(_enumeration, enumerations))
    for row, column in places:
        table = []
        for signal in signals:
            # The simulator's wires reach the lanes at the next edge only.
            if column == 0 and signal.register in _FROM_WEST:
                continue
            pieces = list(_pieces(mesh, signal, row, column))
            number = numbers[signal.enumeration] if signal.enumeration else 0
            table.append(
                _Signal(
                    signal.scope.encode(),
                    signal.name.encode(),
                    signal.width,
                    number,
                    len(pieces),
                    (_Piece * len(pieces))(*pieces),
                )
            )
        array = (_Signal * len(table))(*table)
        program.diptych_blackbox_record(
            f"{path}.tile_{row}_{column}".encode(),
            array,
            ctypes.c_long(len(table)),
            types,
            ctypes.c_long(len(enumerations)),
        )


def _enumeration(enumeration: Enumeration) -> _Enumeration:
    names, values = (
        [text.encode() for text in part] for part in zip(*enumeration.items, strict=True)
    )
    count = len(names)
    strings = ctypes.c_char_p * count
    width = len(values[0])
    return _Enumeration(enumeration.name.encode(), width, count, strings(*names), strings(*values))


def _pieces(mesh: LaneMesh, signal: Signal, row: int, column: int) -> Iterator[_Piece]:
    for place, first in _places(mesh, signal.register):
        start = max(signal.low, first)
        stop = min(signal.low + signal.width, first + place.width)
        if start < stop:
            at, bit = mesh.address(place, row, column)
            yield _Piece(
                at, max(place.size, 1), bit + start - first, start - signal.low, stop - start
            )
