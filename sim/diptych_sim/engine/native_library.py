# SPDX-License-Identifier: BSD-2-Clause
"""Compiles C++ that was made of hardware, or that runs it, into libraries of this process."""

from __future__ import annotations

import errno
import os
import platform
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from diptych_sim.cache.fingerprint import fingerprint
from diptych_sim.cache.store import cache_root, cached_text, digest, locked, temporary_folder
from diptych_sim.settings import march, refused

from .compile_jobs import Progress, in_recipe
from .emit import Hardware, collection_paused
from .environment import tool_environment
from .errors import BuildError
from .tool_output import run_logged
from .toolchain import find_compiler

__all__ = ["SEPARATOR", "build_library", "cached_translation", "long_vectors"]

SEPARATOR = "// ---"
"""Line between parts of a source that are compiled apart."""
HEADERS = Path(__file__).parent / "lanes"
"""Folder of the headers that a source may include."""
PACKAGES = ("diptych", "diptych_sim.engine")
"""Packages that the C++ of a class depends on, beside its parameters and versions."""
_BYTES_A_SECOND = 150_000
"""What a core compiles of a source, about; parts are compiled at once."""
_LONG = ("avx512bw", "avx512dq", "avx512vl")
"""What ``lanes.h`` asks of a processor for vectors of 64 bytes."""
FLAGS = ("-std=gnu++17", "-fPIC", "-shared", "-fno-strict-aliasing", "-w", "-pthread")


def cached_translation(
    room: str,
    hardware: Hardware,
    name: str,
    inputs: tuple[Any, ...],
    translate: Callable[[wiring.Component], tuple[str, str]],
) -> tuple[str, str]:
    """Return what is said of hardware, in one line, and its C++; kept as :func:`.emit_verilog` does.

    Parameters
    ----------
    room : str
        Folder of the cache.
    hardware, name, inputs
        What the translation depends on.
    translate : callable
        Makes both.
    """

    def translated() -> str:
        with collection_paused():
            component = hardware if isinstance(hardware, wiring.Component) else hardware()
            return "\n".join(translate(component))

    key = fingerprint(hardware, name, *inputs, packages=PACKAGES)
    if key is None:
        text = translated()
    else:
        text = cached_text(cache_root() / room / f"{name}-{key}.txt", translated)
    about, _, source = text.partition("\n")
    return about, source


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


def long_vectors() -> bool:
    """Return whether the processor that is compiled for has vectors of 64 bytes."""
    _, target = _version_and_target(find_compiler(), *_march())
    return all(re.search(rf"-m{name}\s+\[enabled\]", target) for name in _LONG)


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
                    cores = min(os.cpu_count() or 1, source.count(SEPARATOR) + 1)
                    seconds = len(source) // (_BYTES_A_SECOND * cores) + 1
                    progress(f"compiling {name} for lanes, about {seconds} s")
                _compile([*cxx, *flags], source, path)
    except OSError as error:
        raise BuildError(f"Cannot build {name} for lanes: {_reason(error)}") from None
    return path


def _headers(source: str) -> list[str]:
    """Return the headers of ours that a text includes, in any depth."""
    texts = [
        (HEADERS / name).read_text()
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
            f"%.o: %.cpp\n\t{in_recipe(*command, '-c', f'-I{HEADERS}')} $< -o $@\n"
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
