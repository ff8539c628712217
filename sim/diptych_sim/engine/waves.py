# SPDX-License-Identifier: BSD-2-Clause
"""Waveforms: which cycles and scopes to record, and names that people can read."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .emit import Source
from .errors import ToolError

__all__ = ["WavePlan", "readable", "recording_main", "single_out"]

# Wires that Yosys had to name are of no interest to anybody.
_UNNAMED = re.compile(r"\\\$(?=\S+ )")
_ENUM = re.compile(
    r'^ {2}\(\* enum_base_type = "(?P<type>[^"]*)" \*\)\n'
    r'(?P<items>(?: {2}\(\* enum_value_[01]+ = "[^"]*" \*\)\n)+)'
    r"(?P<other>(?: {2}\(\* [^\n]* \*\)\n)*)"
    r"  (?P<kind>wire|reg) (?:\[(?P<high>\d+):0\] )?(?P<rest>[^\n]*;)$",
    re.MULTILINE,
)
_ITEM = re.compile(r'enum_value_([01]+) = "([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class WavePlan:
    """Plan of a recording.

    Attributes
    ----------
    file : Path
        The file: FST, or VCD if it is called ``*.vcd``.
    first, last : int
        The first cycle, and the last or None for the end of the run; nanoseconds if not
        ``marked``.
    marked : bool
        Whether time starts when the testbench says so (:func:`diptych_sim.host.wave_marks.mark_start`)
        rather than with the simulation.
    scopes : tuple of (int, str)
        How many levels of which instances, as Verilog's ``$dumpvars``; none for everything.
    """

    file: Path
    first: int = 0
    last: int | None = None
    marked: bool = False
    scopes: tuple[tuple[int, str], ...] = ()

    @property
    def form(self) -> Literal["fst", "vcd"]:
        """The format, by the name of the file."""
        return "vcd" if self.file.suffix == ".vcd" else "fst"

    def environment(self) -> dict[str, str]:
        """Return what the simulator reads of it."""
        env = {
            "DIPTYCH_WAVES_FIRST": str(self.first),
            "DIPTYCH_WAVES_MARKED": str(int(self.marked)),
        }
        if self.last is not None:
            env["DIPTYCH_WAVES_LAST"] = str(self.last)
        if self.scopes:
            env["DIPTYCH_WAVES_SCOPES"] = " ".join(f"{n} {scope}" for n, scope in self.scopes)
        return env


def readable(file: str, text: str) -> Source:
    """Return a Verilog file whose waveforms show enumerations by name, and no unnamed wires.

    Amaranth writes the names of an enumeration as attributes; as types of SystemVerilog they
    reach the waveform.
    """
    # Verilator does not record names with an underscore in front.
    text = _UNNAMED.sub(r"\\_", text)
    stem = file.partition(".")[0]
    packages: dict[tuple[str, int, str], str] = {}

    def retype(match: re.Match[str]) -> str:
        width = int(match["high"] or 0) + 1
        key = (match["type"], width, match["items"])
        package = packages.setdefault(key, f"{stem}_enum_{len(packages)}")
        return f"{match['other']}  {package}::{match['type']} {match['rest']}"

    text = _ENUM.sub(retype, text)
    header = ""
    for (name, width, items), package in packages.items():
        listed = ", ".join(f"\\{n} = {width}'b{v}" for v, n in _ITEM.findall(items))
        header += (
            f"package {package};\n  typedef enum logic [{width - 1}:0] {{{listed} }} {name};\n"
        )
        header += "endpackage\n"
    return file, header + text


def recording_main(text: str) -> str:
    """Return cocotb's main program for Verilator, recording by way of ``waves.h``.

    Raises
    ------
    ToolError
        If the program is not the one that this was written for.
    """
    changed, count = re.subn(
        r"^using verilated_trace_t = Verilated(Fst|Vcd)C;$",
        '#include "waves.h"\nusing verilated_trace_t = Waves;\n'
        'extern "C" void diptych_waves_mark(unsigned period) { waves_period() = period; }',
        text,
        flags=re.MULTILINE,
    )
    if count != 2:
        raise ToolError("cocotb's main program for Verilator must have two trace types to replace")
    return changed


def single_out(folder: Path, prefix: str, wrapper: str) -> None:
    """Edit what Verilator wrote for a shared module, so that an instance is recorded alone.

    Verilator records all models or none, and each in a scope of its own; here a model may be
    recorded by itself, and its scopes lie where its instance stands.

    Parameters
    ----------
    folder : Path
        Directory of the C++ files.
    prefix : str
        Name of the model's class.
    wrapper : str
        Name of the model's top.
    """
    model = folder / f"{prefix}.cpp"
    text = model.read_text()
    text = text.replace(
        "tracep->pushPrefix(vlSymsp->name(), VerilatedTracePrefixType::SCOPE_MODULE);",
        "waves_push_path(tracep, vlSymsp->name());",
    ).replace("tracep->popPrefix();", "waves_pop_path(tracep, vlSymsp->name());")
    model.write_text('#include "waves.h"\n' + text)
    header = folder / f"{prefix}.h"
    text = header.read_text()
    header.write_text(
        text.replace("    void traceBaseModel(", "  public:\n    void traceBaseModel(")
    )
    for path in folder.glob(f"{prefix}__Trace__*__Slow.cpp"):
        text = path.read_text()
        for scope in (wrapper, "body"):
            # A scope without a name is none.
            text = text.replace(f'PUSH_PREFIX(tracep, "{scope}",', 'PUSH_PREFIX(tracep, "",', 1)
        path.write_text(text)
