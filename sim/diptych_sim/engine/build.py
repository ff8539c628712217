# SPDX-License-Identifier: BSD-2-Clause
"""Builds a simulator from Verilog, or finds the one that was built from it before."""

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cocotb
import cocotb_tools.config

from diptych_sim.cache.store import cache_root, digest

from .assertions import with_assertions_inside
from .blackbox import replace_by_shell
from .compile_jobs import OPTIMIZE, Progress, Workplace, keep, verilator_command
from .edge_resets import with_resets_at_edges
from .emit import Source
from .errors import ToolError
from .hbm_storage import hbm_sources
from .random_start import BUILD_ARGUMENTS, without_initial_values
from .runtime_library import make_simulator_command, take_runtime
from .shared_modules import SharedModule, split
from .toolchain import Toolchain, find_toolchain, has_header
from .waves import readable, recording_main, single_out
from .zeroed_memories import zeroed_by_loops

__all__ = ["Build", "BuildOptions", "Progress", "Public", "build", "control_file"]

Public = tuple[str, str]
"""A module and a variable in it; both may hold the wildcards ``*`` and ``?``."""

_WAVES_HEADER = Path(__file__).with_name("waves.h")
_LAYOUT = "3"  # changes when a build directory means something else


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Options of a build.

    Attributes
    ----------
    public : tuple of Public
        What a testbench reads besides the ports of the top.
    writable : tuple of Public
        What a testbench also writes; keeps the compiler from optimizing it.
    shared : tuple of str
        Modules that are compiled once for all their instances: with many big instances it builds
        and runs several times faster. Each output of such a module must be a register. What is
        public in it is found under ``shared_<module>.body`` of the instance.
    blackbox : str or None
        A module that the testbench computes otherwise (:mod:`.blackbox`); it must have registers
        for outputs.
    waves : "fst", "vcd" or None
        The format in which the simulator can record waveforms; it runs slower for it.
    optimize : str
        What the C++ compiler is told for the model itself. More than the default took longer to
        compile and ran no faster.
    random_start : bool
        Whether registers and memories begin with random values, others with each seed, so that a
        register that the reset leaves out is seen.
    arguments : tuple of str
        Further arguments of Verilator.
    """

    public: tuple[Public, ...] = ()
    writable: tuple[Public, ...] = ()
    shared: tuple[str, ...] = ()
    blackbox: str | None = None
    waves: Literal["fst", "vcd"] | None = None
    optimize: str = OPTIMIZE
    random_start: bool = False
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
    random_start : bool
        Whether registers and memories begin with random values.
    """

    top: str
    folder: Path
    waves: Literal["fst", "vcd"] | None
    cached: bool
    random_start: bool = False


def control_file(options: BuildOptions, top: str | None = None) -> str:
    """Return the Verilator control file that publishes what is looked at, and nothing else."""
    # cocotb's own runner passes --public-flat-rw, which keeps every signal alive and costs about
    # 3x in speed; hence our own build.
    lines = ["`verilator_config"]
    if top is not None:
        lines += [f'public_flat_rw -module "{top}" -port "*"']
    lines += [f'public_flat_rd -module "{m}" -var "{v}"' for m, v in options.public]
    lines += [f'public_flat_rw -module "{m}" -var "{v}"' for m, v in options.writable]
    return "\n".join(lines) + "\n"


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
    if options.waves == "fst" and not has_header(tools.cxx, "zlib.h"):
        raise ToolError("zlib.h not found, needed for FST (Debian: apt install zlib1g-dev)")
    recording = options.waves is not None
    modules: dict[str, SharedModule] = {}
    if recording:
        design = [readable(*source) for source in sources]
    else:
        design = [(file, with_resets_at_edges(text)) for file, text in sources]
    if options.random_start:
        design = [without_initial_values(source) for source in design]
        options = replace(options, arguments=(*BUILD_ARGUMENTS, *options.arguments))
    design = [zeroed_by_loops((file, with_assertions_inside(text))) for file, text in design]
    cells, shells = hbm_sources(design)
    design += cells
    if options.blackbox is not None:
        design, module = replace_by_shell(design, name, options.blackbox)
        shells.append(module.glue())
    if options.shared:
        design, modules = split(design, name, options.shared, waves=recording)
    libraries = [_library(module, tools, options, progress) for module in modules.values()]

    # Control files come first: they apply to what is read after them.
    design.insert(0, (f"{name}.vlt", _shell_control(control_file(options, name), modules, options)))
    if options.blackbox is not None:
        public = f'public_flat_rd -module "{options.blackbox}" -var "watched"\n'
        design[0] = (design[0][0], design[0][1] + public)
    verilate = verilator_command(
        tools,
        name,
        "Vtop",
        *("--exe", "--vpi", "-o", name),
        *_trace_arguments(options),
        *options.arguments,
        "cocotb_main.cpp",
        *(file for file, _ in [*shells, *design]),
    )
    # The testbench calls a function of the main program by name.
    exported = ["-rdynamic"] if recording or shells else []
    archives = [f"lib{module.top}.a" for module in modules.values()]
    make = make_simulator_command(
        tools,
        "Vtop",
        options.optimize,
        f"VM_TRACE={int(recording)}",
        f"USER_LDFLAGS={shlex.join(['-Lcocotb_libs', '-L.', *exported])}",
        f"USER_LDLIBS={shlex.join([*archives, '-lcocotbvpi_verilator'])}",
    )
    main = (cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp").read_text()
    key = digest(
        [*_versions(tools), cocotb.__version__, *verilate, *make]
        + [library.name for library in libraries]
        + [item for source in [*shells, *design] for item in source]
        + ([_WAVES_HEADER.read_text(), recording_main(main)] if recording else [])
    )

    def produce(work: Workplace) -> None:
        for file, text in [*shells, *design]:
            (work.path / file).write_text(text)
        (work.path / "cocotb_main.cpp").write_text(recording_main(main) if recording else main)
        if recording:
            shutil.copy(_WAVES_HEADER, work.path)
        for archive, library in zip(archives, libraries, strict=True):
            shutil.copy(library / archive, work.path / archive)
        if options.waves == "fst" and not has_header(tools.cxx, "lz4.h"):
            # The runtime has an encoder of ours, and there is nothing to link.
            (work.path / "liblz4.a").write_bytes(b"!<arch>\n")
        work.verilate(verilate)
        take_runtime(work, "Vtop", tools=tools, optimize=options.optimize, progress=progress)
        work.make(make)

    folder = cache_root() / f"{name}-{key}"
    files = [name, *(file for file, _ in [*shells, *design])]
    cached = keep(folder, tools=tools, label=name, progress=progress, files=files, produce=produce)
    return Build(
        top=name,
        folder=folder,
        waves=options.waves,
        cached=cached,
        random_start=options.random_start,
    )


def _versions(tools: Toolchain) -> list[str]:
    return [_LAYOUT, tools.verilator_version, tools.cxx_version]


def _trace_arguments(options: BuildOptions) -> list[str]:
    # Yosys writes numbers where `readable` has put enumerations.
    return [f"--trace-{options.waves}", "-Wno-ENUMVALUE"] if options.waves else []


def _shell_control(text: str, modules: dict[str, SharedModule], options: BuildOptions) -> str:
    if options.waves:
        # What the shells hold is recorded with the instances.
        text += "".join(f'tracing_off -file "{module}.sv"\n' for module in modules)
    if not (options.public or options.writable):
        return text
    # Something public in a shell is what lets the simulator's interface find its instance.
    return text + "".join(
        f'public_flat_rd -module "{module}" -var "shared_outputs"\n' for module in modules
    )


def _library(
    module: SharedModule, tools: Toolchain, options: BuildOptions, progress: Progress
) -> Path:
    """Return the directory with the archive of a shared module."""
    control = (f"{module.top}.vlt", control_file(options))
    design = [control, module.wrapper(), *module.sources]
    looked_at = bool(options.public or options.writable)
    verilate = verilator_command(
        tools,
        module.top,
        module.prefix,
        *(["--vpi"] if looked_at else []),
        *(_trace_arguments(options) if module.waves else []),
        *options.arguments,
        *(file for file, _ in design),
    )
    archive = f"lib{module.top}.a"
    glue = module.glue("")[0].removesuffix(".cpp")
    make = make_simulator_command(
        tools,
        module.prefix,
        options.optimize,
        f"{module.prefix}__ALL.a",
        f"{glue}.o",
    )
    key = digest(
        [*_versions(tools), *verilate, *make]
        + [item for source in [*design, module.glue("")] for item in source]
        + ([_WAVES_HEADER.read_text()] if module.waves else [])
    )

    def produce(work: Workplace) -> None:
        for file, text in design:
            (work.path / file).write_text(text)
        work.verilate(verilate)
        take_runtime(work, module.prefix, tools=tools, optimize=options.optimize, progress=progress)
        if module.waves:
            shutil.copy(_WAVES_HEADER, work.path)
            single_out(work.path, module.prefix, module.top)
        header = (work.path / f"{module.prefix}___024root.h").read_text()
        file, text = module.glue(header)
        (work.path / file).write_text(text)
        work.make(make)
        work.archive(archive, f"{module.prefix}__ALL.a", [f"{glue}.o"])

    folder = cache_root() / f"{module.top}-{key}"
    keep(
        folder,
        tools=tools,
        label=module.name,
        progress=progress,
        files=[archive, *(file for file, _ in design)],
        produce=produce,
    )
    return folder
