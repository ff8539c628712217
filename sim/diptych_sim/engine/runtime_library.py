# SPDX-License-Identifier: BSD-2-Clause
"""What all simulators have in common, compiled once: Verilator's runtime library and its headers.

A simulator of a small block is compiled in 1 s with them, and in 5 to 10 s with headers of its own.
"""

import re
import shutil
from pathlib import Path

from diptych_sim.cache.store import cache_root, digest

from .compile_jobs import Progress, Workplace, keep, make_command
from .toolchain import Toolchain, has_header

__all__ = ["make_simulator_command", "take_runtime"]

_FOLDER = "runtime"  # in the directory of Verilator's output
_HEADER = "pch.h"
_HEADERS = ("verilated.h", "verilated_dpi.h", "verilated_vpi.h")
_FAST, _SLOW = f"{_HEADER}.fast", f"{_HEADER}.slow"  # Verilator's names

# Whatever of Verilator's output decides how its runtime library is compiled, and what is in it.
_SWITCHES = re.compile(r"^VM_(?!PARALLEL)\w+ = .*\n", re.MULTILINE)
_OBJECTS = re.compile(r"^  (verilated\w*) \\$", re.MULTILINE)
_USUAL = {"verilated", "verilated_dpi", "verilated_threads", "verilated_vpi"}


def make_simulator_command(
    tools: Toolchain, prefix: str, optimize: str, *arguments: str
) -> list[str]:
    """Return the arguments of make, for a workplace that has taken the runtime.

    Parameters
    ----------
    optimize : str
        What the C++ compiler is told for the model itself.
    """
    return [
        *make_command(tools, f"{prefix}.mk", optimize),
        # Any file may begin with these headers, and with no others a compiler reads them compiled.
        f"OPT_FAST={optimize} -include {_FOLDER}/{_FAST}",
        f"OPT_SLOW=-O0 -include {_FOLDER}/{_SLOW}",
        f"VK_PCH_H={_FOLDER}/{_HEADER}",
        "VK_PCH_I_FAST=",
        "VK_PCH_I_SLOW=",
        *arguments,
    ]


def take_runtime(
    work: Workplace, prefix: str, *, tools: Toolchain, optimize: str, progress: Progress
) -> None:
    """Put into a workplace, after Verilator has run, what :func:`make_simulator_command` needs.

    The objects of the runtime library and the compiled headers are made at the first use.
    """
    lists = (work.path / f"{prefix}_classes.mk").read_text()
    listed = set(_OBJECTS.findall(lists))
    # All that most builds need, so that builds that need less share it.
    names = sorted(_USUAL | listed)
    makefile = (
        f"VM_PREFIX = runtime\nVM_SC = 0\n{''.join(_SWITCHES.findall(lists))}"
        f"VM_GLOBAL_FAST = {' '.join(names)}\n"
        "include $(VERILATOR_ROOT)/include/verilated.mk\n"
        f"runtime: $(VK_GLOBAL_OBJS) {_FAST}.gch {_SLOW}.gch\n"
    )
    header = "".join(f'#include "{name}"\n' for name in _HEADERS)
    guarded = f"#ifndef DIPTYCH_RUNTIME\n#define DIPTYCH_RUNTIME\n{header}#endif\n"
    make = make_command(tools, "runtime.mk", optimize, "runtime")
    key = digest([tools.verilator_version, tools.cxx_version, makefile, guarded, *make])
    # A compiler that does not accept the compiled headers reads the text.
    texts = {"runtime.mk": makefile, **dict.fromkeys((_HEADER, _FAST, _SLOW), guarded)}

    def produce(runtime: Workplace) -> None:
        for file, text in texts.items():
            (runtime.path / file).write_text(text)
        if not has_header(tools.cxx, "lz4.h"):
            # For waveforms: an encoder of ours in a header.
            shutil.copy(Path(__file__).with_name("lz4.h"), runtime.path)
        runtime.make(make)

    folder = cache_root() / f"runtime-{key}"
    keep(
        folder,
        tools=tools,
        label="Verilator's runtime",
        progress=progress,
        # In the order of their making: make compares times.
        files=[*texts, f"{_FAST}.gch", f"{_SLOW}.gch", *(f"{name}.o" for name in names)],
        produce=produce,
    )
    (work.path / _FOLDER).symlink_to(folder.absolute())
    for name in listed:
        # Not its old time: make compares it with the makefile that was just written.
        shutil.copyfile(folder / f"{name}.o", work.path / f"{name}.o")
