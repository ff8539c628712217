# SPDX-License-Identifier: BSD-2-Clause
"""A mesh on lanes in place of the one in a design: its west links are the design's wires."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from typing import Any, Protocol

from diptych_sim.engine.errors import EngineError

from .layout import Element
from .mesh import LaneMesh
from .ports import elements

__all__ = ["Pins", "Shell", "SimulatorShell"]


class _Pin(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_long) for name in ("bit", "lane", "offset", "size", "low", "width", "port")
    )


class Shell(Protocol):
    """What stands for a mesh in a design: its ports, and a step in each cycle."""

    def ports(self) -> str:
        """Return direction, name, first word and width of each port."""
        ...

    def attach(self, mesh: Any, pins: Any, step: Any, messages: Any) -> None:
        """Call ``step`` in each cycle; a number that it returns is that of a message."""
        ...


class SimulatorShell:
    """That of the simulator that runs this process.

    Raises
    ------
    EngineError
        If the simulator has a mesh of its own.
    """

    def __init__(self) -> None:
        self._program = ctypes.CDLL(None)
        if not hasattr(self._program, "diptych_blackbox_ports"):
            raise EngineError("The simulator must have been built without a mesh")
        self._program.diptych_blackbox_ports.restype = ctypes.c_char_p

    def ports(self) -> str:
        return self._program.diptych_blackbox_ports().decode()

    def attach(self, mesh: Any, pins: Any, step: Any, messages: Any) -> None:
        self._program.diptych_blackbox_attach(mesh, pins, step, messages)


class Pins:
    """Puts a mesh into a design.

    From the next edge of the clock on each cycle of the design is one of the mesh, but those in
    which its reset is set: the mesh has been reset already.

    Parameters
    ----------
    mesh : LaneMesh
        The mesh.
    shell : Shell
        Where it is put.

    """

    def __init__(self, mesh: LaneMesh, shell: Shell) -> None:
        self.mesh = mesh
        self._driver, self._address = mesh.native
        listed = shell.ports().split()
        ports = list(zip(*[iter(listed)] * 4, strict=True))
        words = {(way, name): int(word) for way, name, word, _ in ports}
        pins: dict[str, list[_Pin]] = {"i": [], "o": []}
        for (way, name), word in words.items():
            if name != "rst":
                pins[way] += self._pins(way, name, word)
        self._end = 32 * max(
            int(word) + -(-int(width) // 32) for way, _, word, width in ports if way == "o"
        )
        arrays = [(_Pin * len(some))(*some) for some in pins.values()]
        create = self._driver.pins_create
        create.restype = ctypes.c_void_p
        self._pins_address = ctypes.c_void_p(
            create(
                ctypes.c_void_p(self._address),
                *(part for array in arrays for part in (array, ctypes.c_long(len(array)))),
                ctypes.c_long(32 * words["i", "rst"]),
                mesh.threads,
            )
        )
        texts = [f"assertion of a tile: {text}" for text in mesh.tile.interface.asserts]
        self._messages = (ctypes.c_char_p * max(1, len(texts)))(*(t.encode() for t in texts))
        shell.attach(
            ctypes.c_void_p(self._address),
            self._pins_address,
            ctypes.cast(self._driver.pins_step, ctypes.c_void_p),
            self._messages,
        )

    def close(self) -> None:
        """End the threads, once there are no more cycles."""
        self._driver.pins_destroy(self._pins_address)

    def watch(self, name: str, row: int, column: int) -> None:
        """Let the shell show a register of a tile, of at most 32 bits and no counter, as ``watched``."""
        for place, low in self.mesh.places(name):
            lane = self.mesh.tiling.lane(row, column)
            pin = _Pin(self._end + low, lane, place.offset, place.size, 0, place.width, -1)
            self._driver.pins_watch(self._pins_address, ctypes.byref(pin))

    def _pins(self, way: str, name: str, word: int) -> Iterator[_Pin]:
        match = re.fullmatch(r"(west_[io])__(\d+)__(\w+)", name)
        if match is None:
            raise EngineError(f"A mesh must have links for ports, not {name}")
        link, row, part = match.groups()
        lane = self.mesh.tiling.lane(int(row), 0)
        tile, port = self.mesh.tile, f"{link}__{part}"
        parts: list[tuple[int, int, int, Element]]
        if way == "i":
            number = tile.interface.input_number(port)
            inputs = tile.interface.inputs[port]
            parts = [(low, 0, width, tile.layout.nodes[node]) for node, low, width in inputs]
        else:
            number = tile.interface.output_number(port)
            parts = [(low, at, width, e) for (low, at, width), e in elements(tile, port)]
        for low, at, width, element in parts:
            yield _Pin(32 * word + low, lane, element.offset, element.size, at, width, number)
