# SPDX-License-Identifier: BSD-2-Clause
"""A mesh of tiles on lanes, with a host port at the west end of each row."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, Self, TypeVar

import numpy as np

from diptych.mesh.fabric import DIRECTIONS, Port
from diptych.mesh.host_port import HostPort
from diptych.mesh.tile import Tile
from diptych_sim.engine.compile_jobs import Progress
from diptych_sim.engine.errors import BuildError, SimulationError
from diptych_sim.engine.processes import processes
from diptych_sim.settings import skips, threads

from .build import Compiled, compile_design, compile_driver
from .layout import Element
from .moving import move_tiles
from .native import Closed, Field, with_prototypes
from .ports import FORWARD, between, elements, links, neighbors
from .tiling import Tiling, block_lanes, tile_in_parts

__all__ = ["Failure", "LaneMesh", "Part", "State", "Word"]

T = TypeVar("T")

TILES_A_THREAD = 1024
"""Tiles for each thread, if nothing says how many threads."""

TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class Word(NamedTuple):
    """A wavelet that left the mesh in a row."""

    cycle: int
    row: int
    color: int
    data: int
    control: int


class State(NamedTuple):
    """All that is kept in the tiles and host ports of a part of a mesh."""

    tiles: bytes
    ports: bytes


class Part(NamedTuple):
    """The tiles of a mesh that are here: a rectangle."""

    row: int
    column: int
    rows: int
    columns: int


class Failure(NamedTuple):
    """An assertion that failed, in a tile of the whole mesh or in the host port of a row."""

    cycle: int
    port: bool
    row: int
    column: int
    number: int


class LaneMesh:
    """Tiles and host ports, reset; after :meth:`run` their state can be read.

    Parameters
    ----------
    rows, columns : int
        Size of the mesh.
    part : Part or None
        The tiles that are here; others are elsewhere, and what crosses the border is up to a
        subclass. All, by default.
    tiling : Tiling, optional
        In which lanes tiles are; without it, as :func:`.tile_in_parts` says.
    **parameters : int
        Those of :class:`diptych.mesh.tile.Tile`.

    Raises
    ------
    BuildError, ToolError
        If it cannot be built, or there is too little memory.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        progress: Progress | None = None,
        part: Part | None = None,
        tiling: Tiling | None = None,
        **parameters: int,
    ) -> None:
        self.rows, self.columns, self.parameters = rows, columns, parameters
        self.part = part or Part(0, 0, rows, columns)
        count = self.part.rows * self.part.columns
        self.tile = compile_design(
            partial(Tile, **parameters),
            "tile",
            neighbors(),
            lanes=block_lanes(count),
            progress=progress,
        )
        credit = self.tile.interface.inputs["west_o__credit"]  # a wire for each color
        self.port = compile_design(
            partial(HostPort, colors=sum(segment.width for segment in credit)),
            "host_port",
            [(f"back__{part}", f"link__{part}") for part in FORWARD],
            progress=progress,
        )
        self._driver: Any = with_prototypes(compile_driver(progress))
        self._buffers: list[Any] = []
        self._mesh: Any = None
        self._begin(tiling or tile_in_parts(self.part.rows, self.part.columns))

    def _begin(self, tiling: Tiling) -> None:
        """Make the mesh in memory."""
        self.tiling = tiling
        codes = [self.tile.code, self.port.code]
        self._mesh = self._driver.mesh_create(*tiling, *map(ctypes.byref, codes))
        if not self._mesh:
            size = self.tile.layout.bytes * self._blocks
            raise BuildError(
                f"A mesh of {self.part.rows}x{self.part.columns} needs {size >> 20} MiB of memory"
            )
        self._connect()
        self.skip(skips())

    def lay_out(self, tiling: Tiling) -> None:
        """Lay the tiles out in other lanes; :attr:`native` and each :meth:`address` are others then."""
        before, cycle, lanes = self._mesh, self.cycle, self._lanes
        tiles, ports = self.memory, self.port_memory
        for name in ("_lanes", "_memory", "port_memory"):
            del self.__dict__[name]
        self._begin(tiling)
        move_tiles(self.tile.interface, tiles, lanes, self._memory, self._lanes)
        self.port_memory[:] = ports
        self._driver.mesh_resume(self._mesh, cycle)
        self._driver.mesh_destroy(before)

    # --- wiring ---

    def _connect(self) -> None:
        driver, mesh = self._driver, self._mesh
        for direction in DIRECTIONS:
            way, other = direction.label, direction.opposite.label
            down, right = direction.step
            for name in FORWARD:
                self._wire(f"{way}_o__{name}", f"{other}_i__{name}", down, right)
            self._wire(f"{way}_i__credit", f"{other}_o__credit", down, right)
        self._wire("x_out", "x_in", 0, 1)
        tile, port = self.tile, self.port
        for name in FORWARD:
            for link in links(port, f"link__{name}", tile, f"west_i__{name}"):
                driver.mesh_link(mesh, 0, link)
            for link in links(tile, f"west_o__{name}", port, f"back__{name}"):
                driver.mesh_link(mesh, 1, link)
        for link in links(port, "back__credit", tile, "west_o__credit"):
            driver.mesh_link(mesh, 0, link)
        for link in links(tile, "west_i__credit", port, "link__credit"):
            driver.mesh_link(mesh, 1, link)
        payload = [
            Field(port.layout.nodes[node].offset, port.layout.nodes[node].size, low, width)
            for node, low, width in port.interface.inputs["i__payload"]
        ]
        out = []
        for (low, _, width), place in elements(tile, "west_o__wavelet"):
            part, first = (0, 0) if low < 32 else (1, 32) if low < 37 else (2, 37)
            out.append(Field(place.offset, place.size, part << 8 | low - first, width))
        valid = port.layout.nodes[port.interface.inputs["i__valid"][0][0]]
        (_, ready), *_ = elements(port, "i__ready")
        (_, leaves), *_ = elements(tile, "west_o__valid")
        driver.mesh_host(
            mesh,
            valid.offset,
            ready.offset,
            *map(port.interface.input_number, ("i__valid", "i__payload")),
            (Field * len(payload))(*payload),
            len(payload),
            leaves.offset,
            (Field * len(out))(*out),
            len(out),
        )
        edges = [
            Field(place.offset, place.size, 0, 1)
            for place in (tile.layout.nodes[node] for node, _, _ in tile.interface.inputs["edge"])
        ]
        bits = (Field * 4)(*edges)
        first, left, rows, columns = self.part
        for row in range(first, first + rows):
            for column in range(left, left + columns):
                edge = (
                    (row == 0) << Port.NORTH.value
                    | (column == self.columns - 1) << Port.EAST.value
                    | (row == self.rows - 1) << Port.SOUTH.value
                )
                if edge:
                    driver.mesh_edge(mesh, row - first, column - left, edge, bits)

    def _wire(self, output: str, target: str, down: int, right: int) -> None:
        """Wire an output of each tile to an input of a neighbor."""
        interface = self.tile.interface
        numbers = interface.output_number(output), interface.input_number(target)
        for f, t, size in between(self.tile, output, self.tile, target):
            self._driver.mesh_wire(self._mesh, f, t, size, down, right, *numbers)

    # --- running ---

    def skip(self, skips: bool) -> None:
        """Say whether to skip what nothing has changed for: the results are the same."""
        self._driver.mesh_skip(self._mesh, skips)

    def reset(self, cycles: int = 2) -> None:
        """Hold the reset for some cycles."""
        self._driver.mesh_reset(self._mesh, cycles)

    def feed(self, rows: Sequence[Sequence[int]]) -> None:
        """Let the host send words into the rows, from now on."""
        for row, words in enumerate(self._fed(rows)):
            data = np.asarray(words, dtype=np.uint32)
            self._buffers.append(data)
            pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32))
            self._driver.mesh_feed(self._mesh, row, pointer, len(data))

    def _fed(self, rows: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
        """Return those whose host ports are here."""
        here = slice(self.part.row, self.part.row + self.part.rows)
        return rows[here] if self.part.column == 0 else []

    @cached_property
    def threads(self) -> int:
        """Threads to run the mesh with.

        As many as the settings say; otherwise one for each :data:`TILES_A_THREAD` tiles, at most one
        for each processor, and only one if there are several processes.
        """
        chosen = threads()
        if chosen is None:
            free = len(os.sched_getaffinity(0)) if processes() == 1 else 1
            chosen = max(1, min(free, self.part.rows * self.part.columns // TILES_A_THREAD))
        return chosen

    @property
    def cycle(self) -> int:
        """Cycles since the beginning, with those of reset."""
        return self._driver.mesh_cycle(self._mesh)

    def run(
        self,
        cycles: int,
        *,
        words: int = 0,
        until: Literal["sent", "any", "none"] | None = None,
        watch: str = "core.watch_busy",
        threads: int = 1,
    ) -> None:
        """Run for some cycles, or until something happens.

        Parameters
        ----------
        cycles : int
            At most so many.
        words : int
            Stop when so many more words have left row 0.
        until : "sent", "any", "none" or None
            Stop when the ports have taken all that was fed, or ``watch``, a register of a bit, is
            set in any tile or in none; at once if that is so.
        threads : int
            How many to use.

        Raises
        ------
        SimulationError
            If an assertion of the hardware fails.
        """
        kind = {None: 0, "sent": 1, "any": 2, "none": 3}[until]
        place = self._places[watch][0][0].offset if kind > 1 else 0
        self._driver.mesh_run(self._mesh, cycles, words, kind, place, threads)
        failure = self._first(self._failure())
        if failure is not None:
            design = self.port if failure.port else self.tile
            place = f"tile {failure.row},{failure.column}"
            if failure.port:
                place = f"host port {failure.row}"
            message = design.interface.asserts[failure.number]
            raise SimulationError(f"cycle {failure.cycle}, {place}: {message}")

    def _failure(self) -> Failure | None:
        """Return the assertion that failed here."""
        cycle, instance, port = ctypes.c_long(), ctypes.c_long(), ctypes.c_long()
        number = self._driver.mesh_failed(self._mesh, *map(ctypes.byref, (cycle, instance, port)))
        if number < 0:
            return None
        columns = 1 if port.value else self.part.columns
        row, column = divmod(instance.value, columns)
        place = (self.part.row + row, self.part.column + column)
        return Failure(cycle.value + 1, bool(port.value), *place, number)

    # --- what is elsewhere ---

    def _first(self, failure: Failure | None) -> Failure | None:
        """Return the first failure of all that happened anywhere."""
        return failure

    def whole(self, part: np.ndarray) -> np.ndarray:
        """Return an array of the whole mesh, given those of the tiles here (rows, columns, ...)."""
        return part

    # --- checkpoints ---

    def fed(self) -> list[int]:
        """Return how many words the host port of each row has taken of those it was fed with."""
        rows = self.part.rows if self.part.column == 0 else 0
        return [self._driver.mesh_fed(self._mesh, row) for row in range(rows)]

    def cut(self) -> list[Part]:
        """Return the parts of the mesh, in the order of the processes that hold them."""
        return [self.part]

    def saved(self) -> list[State]:
        """Return the state of every part of the mesh; the first process gets it, others nothing."""
        return [State(bytes(self.memory), bytes(self.port_memory))]

    def restore(self, cycle: int, parts: Sequence[State]) -> None:
        """Go on in a cycle, with the state of every part of the mesh then."""
        (state,) = parts
        self.memory[:], self.port_memory[:] = state
        self._driver.mesh_resume(self._mesh, cycle)

    def first_does(self, step: Callable[[], T]) -> T:
        """Do something in the first process, and return what it gives, or raise its error, in all."""
        return step()

    # --- results ---

    def words(self) -> list[Word]:
        """Return what left the mesh to the west."""
        count = self._driver.mesh_arrived(self._mesh)
        array = self._driver.mesh_words(self._mesh)
        return [
            Word(w.cycle, self.part.row + w.row, w.color, w.data, w.control)
            for w in (array[n] for n in range(count))
        ]

    def forget(self) -> None:
        """Forget the words that have left the mesh so far."""
        self._driver.mesh_forget(self._mesh)

    # --- state ---

    @cached_property
    def _places(self) -> dict[str, list[tuple[Element, int]]]:
        """Where the parts of each register are, with their first bits."""
        out: dict[str, list[tuple[Element, int]]] = {}
        interface = self.tile.interface
        for name, part in [*interface.registers, *interface.reads]:
            out.setdefault(name, []).append((interface.layout.nodes[part.node], part.low))
        return out

    def places(self, name: str) -> list[tuple[Element, int]]:
        """Return where the parts of a register are, with their first bits.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        return self._places[self.tile.interface.aliases.get(name, name)]

    def value(self, name: str, row: int, column: int) -> int:
        """Return a register of a tile: faster than :meth:`register` for one."""
        if self.part != (0, 0, self.rows, self.columns):
            return int(self.register(name)[row, column])
        value = 0
        for place, low in self.places(name):
            at, bit = self._at(place, row, column)
            word = int.from_bytes(self.memory[at : at + max(place.size, 1)], "little") >> bit
            value |= (word if place.size else word & 1) << low
        return value

    def _at(self, place: Element, row: int, column: int) -> tuple[int, int]:
        """Return the byte of an element of a tile, and the bit in it."""
        layout = self.tile.layout
        block, lane = divmod(self.tiling.lane(row, column), layout.lanes)
        base = block * layout.bytes + place.offset
        return (base + lane * place.size, 0) if place.size else (base + lane // 8, lane % 8)

    @cached_property
    def _lanes(self) -> np.ndarray:
        """Lanes of the tiles here, row by row."""
        return self.tiling.all()

    @property
    def _blocks(self) -> int:
        return -(-self.tiling.lanes // self.tile.layout.lanes)

    def address(self, place: Element, row: int, column: int) -> tuple[int, int]:
        """Return where an element of a tile is in memory, and the bit in its first byte.

        From now on it is up to date in each cycle.
        """
        self._driver.mesh_stir(self._mesh)
        at, bit = self._at(place, row, column)
        return self._driver.mesh_tiles(self._mesh) + at, bit

    def has(self, name: str) -> bool:
        """Return whether there is a register of that name."""
        return self.tile.interface.aliases.get(name, name) in self._places

    @property
    def memory(self) -> memoryview:
        """All state of the tiles here; to be looked at until the mesh runs again."""
        self._driver.mesh_settle(self._mesh)
        return self._memory

    @cached_property
    def _memory(self) -> memoryview:
        return _view(self._driver.mesh_tiles(self._mesh), self.tile, self.tiling.lanes)

    @cached_property
    def port_memory(self) -> memoryview:
        """All state of the host ports here."""
        return _view(self._driver.mesh_ports(self._mesh), self.port, self.part.rows)

    @property
    def native(self) -> tuple[ctypes.CDLL, Any]:
        """The library that runs the mesh, and the address of the mesh."""
        return self._driver, self._mesh

    def register(self, name: str) -> np.ndarray:
        """Return a register of every tile: integers, or objects if it is wider than 64 bits.

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        places = self.places(name)
        wide = max(low + place.width for place, low in places) > 64
        kind = object if wide else np.uint64
        value = np.zeros(self.part.rows * self.part.columns, dtype=kind)
        for place, low in places:
            value |= self.element(place).astype(kind) << (low if wide else np.uint64(low))
        return self.whole(value.reshape(self.part.rows, self.part.columns))

    def registers(self) -> dict[str, np.ndarray]:
        """Return every register of every tile, by name."""
        return {name: self.register(name) for name in self._places}

    def element(self, place: Element, row: int = 0) -> np.ndarray:
        """Return an element of all tiles here, row by row."""
        step = self.tile.layout.step(place.size)
        data = np.frombuffer(self.memory, dtype=np.uint8).reshape(-1, self.tile.layout.bytes)
        start = place.offset + row * step
        part = np.ascontiguousarray(data[:, start : start + step])
        if place.size == 0:
            return np.unpackbits(part, axis=1, bitorder="little").reshape(-1)[self._lanes]
        return part.view(TYPES[place.size]).reshape(-1)[self._lanes]

    def memories(self) -> dict[str, np.ndarray]:
        """Return every memory of every tile: tiles by words, as objects."""
        out = {}
        for index, places in self.tile.layout.memories.items():
            memory = self.tile.interface.memories[index]
            shape = (self.part.rows, self.part.columns, memory.depth)
            words = np.zeros((shape[0] * shape[1], memory.depth), dtype=object)
            for place, low in zip(places, memory.lows, strict=True):
                for row in range(memory.depth):
                    words[:, row] |= self.element(place, row).astype(object) << low
            out[memory.name] = self.whole(words.reshape(shape))
        return out

    def close(self) -> None:
        """Free the memory; what asks the mesh then, raises :class:`ValueError`."""
        if self._mesh:
            self._driver.mesh_destroy(self._mesh)
            self._mesh, self._driver = None, Closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _view(address: int, design: Compiled, count: int) -> memoryview:
    size = -(-count // design.layout.lanes) * design.layout.bytes
    return memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
