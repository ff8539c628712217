# SPDX-License-Identifier: BSD-2-Clause
"""Compiles designs for lanes; the build cache has their sources and libraries."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from amaranth.lib import wiring

from diptych.precompiled import is_inlined
from diptych_sim.cache.fingerprint import fingerprint
from diptych_sim.cache.store import cache_root, cached_text, digest, locked, temporary_folder
from diptych_sim.engine.compile_jobs import Progress, in_recipe
from diptych_sim.engine.emit import Hardware
from diptych_sim.engine.environment import tool_environment
from diptych_sim.engine.errors import BuildError
from diptych_sim.engine.tool_output import run_logged
from diptych_sim.engine.toolchain import find_compiler
from diptych_sim.settings import march, refused

from .emit import SEPARATOR
from .interface import Interface
from .layout import Layout
from .translate import Pairs, translate

__all__ = ["Code", "Compiled", "compile_design", "compile_driver"]

HERE = Path(__file__).parent
PACKAGES = ("diptych", "diptych_sim.engine")
"""Packages that the C++ of a class depends on, beside its parameters and versions."""
_BYTES_A_SECOND = 80_000
"""What a core compiles of a source, about."""
FLAGS = ("-std=gnu++17", "-fPIC", "-shared", "-fno-strict-aliasing", "-w", "-pthread")


class Code(ctypes.Structure):
    """The driver's description of a design."""

    _fields_ = (
        ("cycle", ctypes.c_void_p),
        ("reset_block", ctypes.c_void_p),
        ("start_block", ctypes.c_void_p),
        ("touch_block", ctypes.c_void_p),
        ("mark_input", ctypes.c_void_p),
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
        names = ("cycle", "reset_block", "start_block", "touch_block", "mark_input")
        return Code(
            *(ctypes.cast(library[name], ctypes.c_void_p) for name in names),
            library.scratch_bytes(),
            library.mark_words(),
            self.layout.bytes,
            self.layout.state_bytes,
            self.layout.lanes,
        )


@cache
def _version_and_target(cxx: tuple[str, ...], *options: str) -> tuple[str, str]:
    """Return the compiler's version, and what it makes of this processor with some options."""
    version, target = (
        subprocess.run(
            [*cxx, *arguments], capture_output=True, text=True, check=False, env=tool_environment()
        )
        for arguments in (["--version"], [*options, "-Q", "--help=target"])
    )
    return version.stdout, target.stdout if target.returncode == 0 else platform.machine()


@cache
def _processor(cxx: tuple[str, ...], chosen: str | None) -> str:
    """Return the processor to compile for, once the compiler has said that it knows it."""
    if chosen is None:
        return "native"
    command = [*cxx, f"-march={chosen}", "-x", "c++", "-fsyntax-only", "-"]
    done = subprocess.run(
        command, input="", capture_output=True, text=True, check=False, env=tool_environment()
    )
    if done.returncode:
        raise refused("Processor", "DIPTYCH_MARCH", "one that the C++ compiler knows", repr(chosen))
    return chosen


def _march() -> list[str]:
    """Return the compiler's options for the processor at hand, or for ``$DIPTYCH_MARCH``."""
    options = [f"-march={_processor(find_compiler(), march())}"]
    if platform.machine() == "x86_64":
        options.append("-mprefer-vector-width=512")
    return options


def build_library(
    name: str, source: str, progress: Progress | None = None, optimize: str = "-O1"
) -> Path:
    """Compile C++ into a shared library, or find the one that was compiled from it before.

    Raises
    ------
    BuildError
        If the compiler refuses, or the disk is full.
    """
    cxx = find_compiler()
    headers = _headers(source)
    flags = [optimize, *FLAGS, *_march()]
    key = digest([source, *headers, *cxx[1:], *flags, *_version_and_target(cxx, *_march())])
    try:
        path = cache_root() / f"lanes-{name}-{key}.so"
        if path.is_file():
            return path
        with locked(path.with_suffix(".lock")):
            if not path.is_file():
                if progress is not None:
                    seconds = len(source) // _BYTES_A_SECOND + 1
                    progress(f"compiling {name} for lanes, about {seconds} s")
                _compile([*cxx, *flags], source, path)
    except OSError as error:
        raise BuildError(f"Cannot build {name} for lanes: {_reason(error)}") from None
    return path


def _headers(source: str) -> list[str]:
    """Return the headers of ours that a text includes, in any depth."""
    texts = [
        (HERE / name).read_text()
        for name in re.findall(r'^#include "(\w+\.h)"', source, re.MULTILINE)
    ]
    return texts + [inner for text in texts for inner in _headers(text)]


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}"


def _compile(command: list[str], source: str, path: Path) -> None:
    """Compile the parts of a source at once, and link them."""
    with temporary_folder(path) as folder:
        parts = source.split(f"{SEPARATOR}\n")
        for number, part in enumerate(parts):
            (folder / f"design{number}.cpp").write_text(part)
        objects = " ".join(f"design{number}.o" for number in range(len(parts)))
        # One process to end, whatever it has started.
        (folder / "Makefile").write_text(
            f"design.so: {objects}\n\t{in_recipe(*command)} {objects} -o $@\n"
            f"%.o: %.cpp\n\t{in_recipe(*command, '-c', f'-I{HERE}')} $< -o $@\n"
        )
        _step(["make", "-s", f"-j{os.cpu_count() or 1}", "design.so"], path, folder)
        (folder / "design.so").rename(path)


def _step(command: list[str], path: Path, folder: Path) -> None:
    """Run the compiler in a folder, for a library at a path."""
    lines: list[str] = []
    with (folder / f"{command[-1]}.log").open("w") as log:
        status = run_logged(
            command,
            cwd=folder,
            env=tool_environment(TMPDIR=str(folder)),
            log=log,
            on_line=lines.append,
        )
    if status:
        for number in (errno.ENOSPC, errno.EFBIG):
            if any(os.strerror(number) in line for line in lines):
                raise OSError(number, os.strerror(number), str(path.parent))
        lines = [line.rstrip() for line in lines]
        first = next((line for line in lines if "error" in line), "".join(lines[-1:]))
        raise BuildError(f"The C++ compiler refused {path.stem}: {first}")


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

    def translated() -> str:
        if progress is not None:
            progress(f"translating {name} for lanes")
        component = hardware if isinstance(hardware, wiring.Component) else hardware()
        interface, source = translate(component, name, pairs, lanes)
        return f"{interface.to_json()}\n{source}"

    inputs = (hardware, name, tuple(pairs), lanes, is_inlined())
    key = fingerprint(*inputs, packages=PACKAGES)
    if key is None:
        text = translated()
    else:
        text = cached_text(cache_root() / "lanes" / f"{name}-{key}.txt", translated)
    interface, _, source = text.partition("\n")
    path = build_library(name, source, progress)
    return Compiled(Interface.from_json(interface), ctypes.CDLL(str(path)), path)


def compile_driver(progress: Progress | None = None) -> ctypes.CDLL:
    """Compile what runs a mesh of compiled tiles."""
    text = (HERE / "driver.cpp").read_text()
    return ctypes.CDLL(str(build_library("driver", text, progress, "-O3")))
