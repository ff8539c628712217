# SPDX-License-Identifier: BSD-2-Clause
"""Compiles hardware to words; the build cache has sources and libraries."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from diptych_sim.engine.compile_jobs import Progress
from diptych_sim.engine.emit import Hardware
from diptych_sim.engine.native_library import SEPARATOR, build_library, cached_translation

from .cells import Cell, Nets, Words
from .clusters import plan
from .emit import emit
from .netlist import read_words

__all__ = ["CompiledWords", "Place", "Watched", "compile_words"]

HERE = Path(__file__).parent
Public = Sequence[tuple[str, str]]
"""Modules and variables that are watched, with wildcards."""


@dataclass(frozen=True)
class Watched:
    """A signal whose changes are noted: its number, its width, and whether it only counts."""

    number: int
    width: int
    counts: bool


@dataclass(frozen=True)
class Place:
    """A register or a memory: its number among the places, its width, its words, and their bytes.

    A register of an instance in a group is so many bytes (``at``) behind.
    """

    number: int
    width: int
    depth: int
    size: int
    at: int = 0


@dataclass(frozen=True)
class CompiledWords:
    """Hardware that is loaded into this process.

    Attributes
    ----------
    library : CDLL
        The functions of ``run.h``.
    inputs : dict of str to (int, int)
        Inputs of the top: number and width.
    watched : dict of str to Watched
        What is noted, by path.
    places : dict of str to Place
        Registers and memories, by path.
    asserts : dict of int to str
        Messages.
    """

    library: ctypes.CDLL
    inputs: dict[str, tuple[int, int]]
    watched: dict[str, Watched]
    places: dict[str, Place]
    asserts: dict[int, str]


def compile_words(
    hardware: Hardware,
    name: str,
    public: Public,
    *,
    outside: str | None = None,
    progress: Progress | None = None,
) -> CompiledWords:
    """Compile a component.

    Parameters
    ----------
    hardware : Hardware
        The hardware; it has one clock.
    name : str
        Its name, with which paths in ``public`` begin.
    public : sequence of (str, str)
        Modules, and variables in them, that are watched, with wildcards; as of :func:`.simulate`.
    outside : str, optional
        Module that something else computes.
    progress : callable, optional
        Is told what is done.

    Raises
    ------
    WordsError
        If words cannot run it.
    BuildError, ToolError
        If it cannot be compiled.
    """

    def translated(component: wiring.Component) -> tuple[str, str]:
        if progress is not None:
            progress(f"{name}: Amaranth to C++")
        return _translate(component, name, public, outside)

    about, source = cached_translation(
        "words", hardware, name, (tuple(public), outside), translated
    )
    path = build_library(name, source, progress, "-O2")  # -O1 makes slower code
    found: dict[str, Any] = json.loads(about)
    return CompiledWords(
        library=ctypes.CDLL(str(path)),
        inputs={port: (cell, width) for port, (cell, width) in found["inputs"].items()},
        watched={path: Watched(**fields) for path, fields in found["watched"].items()},
        places={path: Place(**fields) for path, fields in found["places"].items()},
        asserts={int(cell): message for cell, message in found["asserts"].items()},
    )


def _translate(
    component: wiring.Component, name: str, public: Public, outside: str | None
) -> tuple[str, str]:
    whole = read_words(component, name, outside)
    watched = _watch(whole, name, public)
    parts = plan(whole)
    members, places = _places(whole)
    texts = emit(
        whole,
        parts,
        members,
        header="".join((HERE / file).read_text() for file in ("words.h", "main.h")),
        footer=(HERE / "run.h").read_text(),
    )
    about = {
        "inputs": {
            cell.text.partition("[")[0]: (index, cell.width)
            for index, cell in enumerate(whole.cells)
            if cell.kind == "input" and not cell.flag
        },
        "watched": {path: asdict(each) for path, each in watched.items()},
        "places": {path: asdict(place) for path, place in places.items()},
        "asserts": {n: cell.text for n, cell in enumerate(whole.cells) if cell.kind == "assert"},
    }
    return json.dumps(about), f"{SEPARATOR}\n".join(texts)


def _watch(whole: Words, name: str, public: Public) -> dict[str, Watched]:
    """Add cells that note changes of public signals, and of the outputs."""
    wanted: dict[str, Nets] = dict(whole.outputs)
    for path, nets in whole.signals.items():
        module, _, variable = f"{name}.{path}".rpartition(".")
        if path.endswith(".watched"):  # of the module that something else computes
            wanted[path] = nets
        if (
            nets
            and variable not in ("clk", "rst")
            and any(
                fnmatchcase(module, where) and fnmatchcase(variable, what) for where, what in public
            )
        ):
            wanted[path] = nets
    out: dict[str, Watched] = {}
    known: dict[Nets, Watched] = {}
    for path, nets in wanted.items():
        if nets not in known:
            number = len(known)
            counts = path.rpartition(".")[2].startswith("count_")
            known[nets] = Watched(number, len(nets), counts)
            cell = Cell("watch", 0, [nets], stride=number, flag=counts, text=path)
            whole.cells.append(cell)
        out[path] = known[nets]
    return out


def _bytes(width: int) -> int:
    return 4 if width <= 32 else 8 * -(-width // 64)


def _places(whole: Words) -> tuple[list[str], dict[str, Place]]:
    """Return members of the state, and which of them registers and memories are, by path."""
    members: list[str] = []
    numbers: dict[str, int] = {}
    out: dict[str, Place] = {}

    def place(path: str, cell: Cell, member: str, at: int = 0) -> None:
        number = numbers.setdefault(member, len(members))
        if number == len(members):
            members.append(member)
        depth = cell.depth if cell.kind == "memory" else 1
        out[path] = Place(number, cell.width, depth, _bytes(cell.width), at)

    def registers(within: Words) -> list[tuple[str, int]]:
        found = []
        for path, nets in within.signals.items():
            index = nets[0] >> 16 if nets else 0
            cell = within.cells[index]
            exact = nets == tuple(index << 16 | bit for bit in range(len(nets)))
            if cell.kind in ("ff", "sread") and exact and cell.width == len(nets):
                found.append((path, index))
        return found

    for path, index in registers(whole):
        place(path, whole.cells[index], f"f{index}")
    for index, cell in enumerate(whole.cells):
        if cell.kind == "memory":
            place(cell.text, cell, f"m{index}")
    for number, group in enumerate(whole.groups):
        for path, index in registers(group.body):
            cell = group.body.cells[index]
            for lane, instance in enumerate(group.paths):
                at = lane * _bytes(cell.width)
                place(f"{instance}.{path}", cell, f"g{number}.f{index}", at)
    return members, out
