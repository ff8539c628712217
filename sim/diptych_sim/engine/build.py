# SPDX-License-Identifier: BSD-2-Clause
"""Builds a simulator from Verilog, or finds the one that was built from it before."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cocotb
import cocotb_tools.config

from .cache import cache_root, digest, locked
from .emit import Source
from .errors import BuildError, ToolError
from .toolchain import Toolchain, find_toolchain, has_header

__all__ = ["Build", "BuildOptions", "Progress", "build", "make_command", "verilator_command"]

Progress = Callable[[str], None]
"""Is told, in a few words, what is being done."""

Public = tuple[str, str]
"""A module and a variable in it; both may hold the wildcards ``*`` and ``?``."""

_LAYOUT = "1"  # changes when a build directory means something else

# Provoked by Yosys's way of writing sound hardware; everything else stays an error.
_WAIVED = ("WIDTHEXPAND", "WIDTHTRUNC", "CASEINCOMPLETE", "CASEOVERLAP", "CMPCONST", "UNSIGNED")

_ENV_DROPPED = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "GNUMAKEFLAGS")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to build besides the hardware itself.

    Attributes
    ----------
    public : tuple of Public
        What a testbench reads besides the ports of the top.
    writable : tuple of Public
        What a testbench also writes; keeps the compiler from optimizing it.
    no_inline : tuple of str
        Modules whose code all their instances share. Worth it for what is instantiated often:
        it builds much faster.
    waves : "fst", "vcd" or None
        The format in which the simulator can record waveforms; it runs slower for it.
    optimize : str
        What the C++ compiler is told for the model itself.
    arguments : tuple of str
        Further arguments of Verilator.
    """

    public: tuple[Public, ...] = ()
    writable: tuple[Public, ...] = ()
    no_inline: tuple[str, ...] = ()
    waves: Literal["fst", "vcd"] | None = None
    optimize: str = "-O1"
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Build:
    """A simulator.

    Attributes
    ----------
    top : str
        Name of its top module, and of its executable.
    folder : Path
        Where the executable, the sources and ``build.log`` are. Shared, so not to be written to.
    waves : "fst", "vcd" or None
        The waveform format that it can record.
    cached : bool
        Whether it was there before.
    """

    top: str
    folder: Path
    waves: Literal["fst", "vcd"] | None
    cached: bool


def control_file(top: str, options: BuildOptions) -> str:
    """Return the Verilator control file that publishes what is looked at, and nothing else."""
    lines = ["`verilator_config", f'public_flat_rw -module "{top}" -port "*"']
    lines += [f'public_flat_rd -module "{m}" -var "{v}"' for m, v in options.public]
    lines += [f'public_flat_rw -module "{m}" -var "{v}"' for m, v in options.writable]
    lines += [f'no_inline -module "{module}"' for module in options.no_inline]
    return "\n".join(lines) + "\n"


def verilator_command(
    tools: Toolchain, top: str, options: BuildOptions, files: Sequence[str]
) -> list[str]:
    """Return the command that writes the C++, to be run in the directory of the files."""
    # cocotb's own runner passes --public-flat-rw, which keeps every signal alive and costs about
    # 3x in speed; hence this command of ours.
    return [
        str(tools.verilator),
        *("-cc", "--exe", "--vpi", "--no-timing", "-Mdir", ".", "--prefix", "Vtop"),
        *("--top-module", top, "-o", top, "--timescale", "1ns/1ns"),
        *("--x-assign", "fast", "--x-initial", "fast"),
        *(f"-Wno-{rule}" for rule in _WAIVED),
        *([f"--trace-{options.waves}"] if options.waves else []),
        *options.arguments,
        *files,
    ]


def make_command(tools: Toolchain, options: BuildOptions, work: Path) -> list[str]:
    """Return the command that compiles the C++ in ``work``."""
    libs = str(cocotb_tools.config.libs_dir)
    search = [f"-Wl,-rpath,{libs}", f"-L{libs}", "-L."]
    return [
        "make",
        *("-C", str(work), "-f", "Vtop.mk", f"-j{os.cpu_count() or 1}"),
        f"CXX={shlex.quote(str(tools.cxx))}",
        f"LINK={shlex.quote(str(tools.cxx))}",
        f"PYTHON3={shlex.quote(sys.executable)}",
        f"OBJCACHE={shlex.quote(str(tools.ccache)) if tools.ccache else ''}",
        # The wheel leaves this empty, and precompiled headers then fail.
        "CFG_CXXFLAGS_PCH_I=-include",
        f"OPT_FAST={options.optimize}",
        "OPT_SLOW=-O0",
        "OPT_GLOBAL=-O2",
        f"VM_TRACE={int(options.waves is not None)}",
        f"USER_LDFLAGS={shlex.join(search)}",
        "USER_LDLIBS=-lcocotbvpi_verilator",
    ]


def build(
    sources: Sequence[Source],
    *,
    name: str,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Build:
    """Return a simulator of Verilog sources.

    Simulators are kept by the content of everything that they depend on, so a second call
    returns at once. Any number of processes may ask for the same one: the first builds it, the
    others wait.

    Parameters
    ----------
    sources : sequence of Source
        File names and texts.
    name : str
        The top module.
    options : BuildOptions, optional
        What else to build.
    progress : Progress, optional
        Is called at each step, unless the simulator was there before.

    Raises
    ------
    BuildError
        If a tool refuses the sources.
    ToolError
        If a tool is missing.
    """
    options = options or BuildOptions()
    progress = progress or (lambda _step: None)
    tools = find_toolchain()
    texts = dict(sources)
    texts[f"{name}.vlt"] = control_file(name, options)
    # Control files come first: they apply to what is read after them.
    files = [f"{name}.vlt", *(file for file, _ in sources)]
    command = verilator_command(tools, name, options, ["cocotb_main.cpp", *files])
    command[0] = tools.verilator_version
    make = make_command(tools, options, Path("."))
    key = digest(
        [_LAYOUT, tools.cxx_version, cocotb.__version__, *command, *make]
        + [item for file in files for item in (file, texts[file])]
    )
    root = cache_root()
    folder = root / f"{name}-{key}"
    found = Build(top=name, folder=folder, waves=options.waves, cached=True)
    if (folder / name).is_file():
        return found
    with locked(root / f"{folder.name}.lock"):
        if (folder / name).is_file():
            return found
        _Job(tools, name, options, texts, files, progress).run(folder)
    return Build(top=name, folder=folder, waves=options.waves, cached=False)


class _Job:
    """One build, in a temporary directory that only a complete build leaves."""

    def __init__(
        self,
        tools: Toolchain,
        top: str,
        options: BuildOptions,
        texts: dict[str, str],
        files: list[str],
        progress: Progress,
    ) -> None:
        self.tools = tools
        self.top = top
        self.options = options
        self.texts = texts
        self.files = files
        self.progress = progress

    def run(self, folder: Path) -> None:
        root = folder.parent
        # make cannot work in a path with spaces.
        parent = None if " " in str(root) else root
        with tempfile.TemporaryDirectory(prefix=f".{self.top}-", dir=parent) as temporary:
            work = Path(temporary)
            log = work / "build.log"
            try:
                self._compile(work, log)
            except BuildError:
                shutil.copy(log, root / f"{self.top}-failed.log")
                raise
            with tempfile.TemporaryDirectory(prefix=f".{self.top}-", dir=root) as staging:
                complete = Path(staging) / folder.name
                complete.mkdir()
                for file in [self.top, "build.log", *self.files]:
                    shutil.copy(work / file, complete / file)
                if folder.exists():  # left by a build of which somebody removed a part
                    shutil.rmtree(folder)
                complete.rename(folder)

    def _compile(self, work: Path, log: Path) -> None:
        for file, text in self.texts.items():
            (work / file).write_text(text)
        share = Path(cocotb_tools.config.share_dir)
        shutil.copy(share / "lib" / "verilator" / "verilator.cpp", work / "cocotb_main.cpp")
        # Verilator's own makefile names this path, which may hold spaces.
        root = work / "verilator_root"
        root.symlink_to(self.tools.root)
        env = {k: v for k, v in os.environ.items() if k not in _ENV_DROPPED}
        env["VERILATOR_ROOT"] = str(root)
        if self.options.waves == "fst":
            self._provide_lz4(work)

        self.progress(f"{self.top}: Verilog to C++")
        files = ["cocotb_main.cpp", *self.files]
        command = verilator_command(self.tools, self.top, self.options, files)
        self._call(command, work, env, log)

        restore_runtime = _Runtime(self.tools, self.options, work)
        restore_runtime.load()
        total = len(list(work.glob("*.cpp")))
        compiled = 0

        def count(line: str) -> None:
            nonlocal compiled
            if " -c " in line:
                compiled += 1
                self.progress(f"{self.top}: compiling, {min(compiled, total)} of {total}")

        self.progress(f"{self.top}: compiling, {total} files")
        self._call(make_command(self.tools, self.options, work), work, env, log, count)
        restore_runtime.save()

    def _provide_lz4(self, work: Path) -> None:
        if not has_header(self.tools.cxx, "zlib.h"):
            raise ToolError("zlib.h not found, needed for FST (Debian: apt install zlib1g-dev)")
        if not has_header(self.tools.cxx, "lz4.h"):
            # An encoder of ours in a header, and nothing to link.
            shutil.copy(Path(__file__).with_name("lz4.h"), work / "lz4.h")
            (work / "liblz4.a").write_bytes(b"!<arch>\n")

    def _call(
        self,
        command: Sequence[str],
        work: Path,
        env: dict[str, str],
        log: Path,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        lines: list[str] = []
        with log.open("a") as file:
            file.write(shlex.join(command) + "\n")
            process = subprocess.Popen(
                command,
                cwd=work,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            assert process.stdout is not None
            with process:
                for line in process.stdout:
                    file.write(line)
                    lines.append(line)
                    if on_line is not None:
                        on_line(line)
        if process.returncode != 0:
            wanted = [
                line
                for line in lines
                if re.search(r"%Error|%Warning|error:|undefined|Error ", line)
            ]
            tail = "".join((wanted or lines)[:20])
            raise BuildError(f"Building {self.top} failed:\n{tail}".rstrip())


class _Runtime:
    """Verilator's runtime library as objects, which depend on few of the options."""

    def __init__(self, tools: Toolchain, options: BuildOptions, work: Path) -> None:
        self._work = work
        settings = [
            argument for argument in make_command(tools, options, Path(".")) if "=" in argument
        ]
        versions = [_LAYOUT, tools.verilator_version, tools.cxx_version]
        key = digest([*versions, str(options.waves), *settings, *options.arguments])
        self._folder = cache_root() / f"runtime-{key}"

    def load(self) -> None:
        if self._folder.is_dir():
            for path in self._folder.glob("*.o"):
                # Not its old time: make compares it with the makefile that was just written.
                shutil.copyfile(path, self._work / path.name)

    def save(self) -> None:
        if self._folder.is_dir():
            return
        with tempfile.TemporaryDirectory(prefix=".runtime-", dir=self._folder.parent) as staging:
            complete = Path(staging) / "complete"
            complete.mkdir()
            for path in self._work.glob("verilated*.o"):
                shutil.copyfile(path, complete / path.name)
            # Another process may have been first; then this one is not needed.
            try:
                complete.rename(self._folder)
            except OSError:
                return
