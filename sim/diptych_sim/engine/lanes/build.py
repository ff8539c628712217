# SPDX-License-Identifier: BSD-2-Clause
"""Compiles designs for lanes; the build cache has their sources and libraries."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from amaranth.lib import wiring

from diptych.precompiled import is_inlined
from diptych_sim.engine.compile_jobs import Progress
from diptych_sim.engine.emit import Hardware
from diptych_sim.engine.native_library import build_library, cached_translation

from .interface import Interface
from .layout import Layout
from .translate import Pairs, translate

__all__ = ["Code", "Compiled", "compile_design", "compile_driver"]

HERE = Path(__file__).parent


class Code(ctypes.Structure):
    """The driver's description of a design."""

    _fields_ = (
        ("cycle", ctypes.c_void_p),
        ("reset_block", ctypes.c_void_p),
        ("start_block", ctypes.c_void_p),
        ("touch_block", ctypes.c_void_p),
        ("mark_input", ctypes.c_void_p),
        ("settle_block", ctypes.c_void_p),
        ("scratch", ctypes.c_long),
        ("marks", ctypes.c_long),
        ("bytes", ctypes.c_long),
        ("state", ctypes.c_long),
        ("lanes", ctypes.c_long),
    )


@dataclass(frozen=True)
class Compiled:
    """A design that is loaded into this process."""

    interface: Interface
    library: ctypes.CDLL
    path: Path

    @property
    def layout(self) -> Layout:
        """Where all is in memory."""
        return self.interface.layout

    @property
    def code(self) -> Code:
        """Addresses and sizes, for the driver."""
        library = self.library
        library.scratch_bytes.restype = library.mark_words.restype = ctypes.c_long
        names = ("cycle", "reset_block", "start_block", "touch_block", "mark_input", "settle_block")
        return Code(
            *(ctypes.cast(library[name], ctypes.c_void_p) for name in names),
            library.scratch_bytes(),
            library.mark_words(),
            self.layout.bytes,
            self.layout.state_bytes,
            self.layout.lanes,
        )


def compile_design(
    hardware: Hardware,
    name: str,
    pairs: Pairs = (),
    *,
    lanes: int = 64,
    progress: Progress | None = None,
) -> Compiled:
    """Compile a component; sources are cached as :func:`.emit_verilog` does.

    Parameters
    ----------
    hardware : Hardware
        The hardware; it has one clock.
    name : str
        Its name.
    pairs : sequence of (str, str)
        Inputs, and the outputs of a neighbor that they are wired to.
    lanes : int
        Lanes of a block: 64, 128, 256 or 512.

    Raises
    ------
    NetlistError
        If lanes cannot run it.
    BuildError, ToolError
        If it cannot be compiled.
    """

    def translated(component: wiring.Component) -> tuple[str, str]:
        if progress is not None:
            progress(f"translating {name} for lanes")
        interface, source = translate(component, name, pairs, lanes)
        return interface.to_json(), source

    interface, source = cached_translation(
        "lanes", hardware, name, (tuple(pairs), lanes, is_inlined()), translated
    )
    path = build_library(name, source, progress)
    return Compiled(Interface.from_json(interface), ctypes.CDLL(str(path)), path)


def compile_driver(progress: Progress | None = None) -> ctypes.CDLL:
    """Compile what runs a mesh of compiled tiles."""
    text = (HERE / "driver.cpp").read_text()
    return ctypes.CDLL(str(build_library("driver", text, progress, "-O3")))
