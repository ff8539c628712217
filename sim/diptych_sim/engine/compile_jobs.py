# SPDX-License-Identifier: BSD-2-Clause
"""Runs Verilator and the C++ compiler, and keeps what comes out."""

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cocotb_tools.config

from diptych_sim.cache.store import locked, temporary_folder
from diptych_sim.settings import refused

from .environment import tool_environment
from .errors import BuildError
from .tool_output import run_logged
from .toolchain import Toolchain

__all__ = [
    "OPTIMIZE",
    "Progress",
    "Workplace",
    "in_recipe",
    "keep",
    "make_command",
    "verilator_command",
]

Progress = Callable[[str], None]
"""Is told, in a few words, what is being done."""

OPTIMIZE = "-O1 -fstore-merging"
"""What the C++ compiler is told for models: more takes longer, and they run no faster."""
_SYNTHESIZES = (5, 48)
"""The oldest Verilator that is known to make logic of all blocks, which is optimized further."""

# Provoked by Yosys's way of writing sound hardware; everything else stays an error.
_WAIVED = ("WIDTHEXPAND", "WIDTHTRUNC", "CASEINCOMPLETE", "CASEOVERLAP", "CMPCONST", "UNSIGNED")


def verilator_command(tools: Toolchain, top: str, prefix: str, *arguments: str) -> list[str]:
    """Return Verilator's arguments, for the directory of the files."""
    return [
        # Dependency files would name paths, and spaces in them stop make.
        *("-cc", "--no-timing", "--no-MMD", "-Mdir", "."),
        *("--prefix", prefix, "--top-module", top),
        *("--timescale", "1ns/1ns", "--x-assign", "fast", "--x-initial", "fast"),
        *(f"-Wno-{rule}" for rule in _WAIVED),
        *(["-fdfg-synthesize-all"] if tools.verilator_number >= _SYNTHESIZES else []),
        *arguments,
    ]


def make_command(tools: Toolchain, makefile: str, optimize: str, *arguments: str) -> list[str]:
    """Return the arguments of make, for the directory of Verilator's output.

    ``optimize`` is what the C++ compiler is told for the model itself.

    They name nothing of the environment that runs this, so that checkouts may share what is built.
    """
    compiler = in_recipe(*tools.cxx)
    return [
        *("-f", makefile),
        f"CXX={compiler}",
        f"LINK={compiler}",
        "PYTHON3=./python3",
        f"OBJCACHE={in_recipe(str(tools.ccache)) if tools.ccache else ''}",
        # The wheel leaves this empty, and precompiled headers then fail.
        "CFG_CXXFLAGS_PCH_I=-include",
        "OPT_SLOW=-O0",
        "OPT_GLOBAL=-O1",
        f"OPT_FAST={optimize}",
        *arguments,
    ]


def in_recipe(*words: str) -> str:
    """Return a command as a variable of make in which make and the shell find the words again."""
    return shlex.join(words).replace("$", "$$")


class Workplace:
    """A temporary directory to compile in.

    Attributes
    ----------
    path : Path
        The directory.
    log : Path
        What the tools said.
    """

    def __init__(self, path: Path, tools: Toolchain, label: str, progress: Progress) -> None:
        self.path = path
        self.log = path / "build.log"
        self._tools = tools
        self._label = label
        self._progress = progress
        (path / _ROOT).symlink_to(tools.root)
        (path / "python3").symlink_to(sys.executable)
        (path / "cocotb_libs").symlink_to(cocotb_tools.config.libs_dir)
        # Verilator's makefile names its root, and in a path of ours make and the shell might find
        # spaces, quotes and dollar signs.
        self._env = tool_environment(VERILATOR_ROOT=_ROOT, TMPDIR=str(path))

    def verilate(self, arguments: Sequence[str]) -> None:
        """Turn Verilog into C++."""
        self._progress(f"{self._label}: Verilog to C++")
        self._call([str(self._tools.verilator), *arguments])

    def make(self, arguments: Sequence[str]) -> None:
        """Compile."""
        total = len(list(self.path.glob("*.cpp")))
        compiled = 0

        def count(line: str) -> None:
            nonlocal compiled
            if " -c " in line:
                compiled += 1
                self._progress(f"{self._label}: compiling, {min(compiled, total)} of {total}")

        self._progress(f"{self._label}: compiling, {total} files")
        self._call(["make", f"-j{os.cpu_count() or 1}", *arguments], count)

    def archive(self, name: str, base: str, extra: Sequence[str]) -> None:
        """Make an archive of another one and further objects."""
        shutil.copyfile(self.path / base, self.path / name)
        self._call(["ar", "rs", name, *extra])

    def compile(self, command: Sequence[str]) -> None:
        """Run a compiler."""
        self._call(command)

    def _call(
        self, command: Sequence[str], on_line: Callable[[str], None] = lambda _line: None
    ) -> None:
        lines: list[str] = []

        def note(line: str) -> None:
            lines.append(line)
            on_line(line)

        with self.log.open("a") as log:
            status = run_logged(command, cwd=self.path, env=self._env, log=log, on_line=note)
        if status != 0:
            telling = re.compile(r"%Error|%Warning|error:|undefined|Error ")
            wanted = [line for line in lines if telling.search(line)]
            tail = "".join((wanted or lines)[:20])
            raise BuildError(f"Building {self._label} failed:\n{tail}".rstrip())


_ROOT = "verilator_root"


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """Make the directory to compile in: beside ``folder``, unless make cannot work there."""
    if len(str(folder).split()) == 1:
        with temporary_folder(folder) as path:
            yield path
        return
    place = tempfile.gettempdir()
    if len(place.split()) != 1:
        raise refused(
            "Build cache", "DIPTYCH_CACHE", "a path without spaces, or TMPDIR", folder.parent
        )
    with tempfile.TemporaryDirectory(prefix="diptych-", dir=place) as path:
        yield Path(path)


def keep(
    folder: Path,
    *,
    tools: Toolchain,
    label: str,
    progress: Progress,
    files: Sequence[str],
    produce: Callable[[Workplace], None],
) -> bool:
    """Make a directory of built files, unless it is there, and return whether it was.

    The directory appears complete or not at all, also when several processes ask for it at once
    and when one of them is killed.

    Parameters
    ----------
    folder : Path
        The directory, in :func:`cache_root`.
    files : sequence of str
        What to keep of the workplace; the first tells that the directory is complete.
    produce : callable
        Makes the files.
    """
    if (folder / files[0]).is_file():
        return True
    root = folder.parent
    with locked(root / f"{folder.name}.lock"):
        if (folder / files[0]).is_file():
            return True
        with _workplace(folder) as working, temporary_folder(folder) as staging:
            work = Workplace(working, tools, label, progress)
            try:
                produce(work)
            except BuildError:
                shutil.copy(work.log, root / f"{label}-failed.log")
                raise
            complete = staging / folder.name
            complete.mkdir()
            for file in [*files, work.log.name]:
                shutil.copy(work.path / file, complete / file)
            if folder.exists():  # another process removed a part of it
                shutil.rmtree(folder)
            complete.rename(folder)
    return False
