# SPDX-License-Identifier: BSD-2-Clause
"""Synthesizes a block, routes it, and reads clock, area and critical path."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych_sim.cache.store import cache_root, cached_text, digest, temporary_folder
from diptych_sim.engine.emit import Source, emit_verilog

from .blocks import Block
from .paths import critical_path
from .tools import NEXTPNR, YOSYS, run_tool, versions

__all__ = ["TARGETS", "Progress", "measure", "measured_input", "silicon_folder"]

TARGETS = {"ecp5": "Lattice ECP5-85, speed grade 6", "xc7": "Xilinx 7 series, not routed"}
"""What a block can be synthesized for."""
_LAYOUT = "1"
"""Changes when the cached files mean something else."""
_SYNTHESIS = {"ecp5": "synth_ecp5", "xc7": "synth_xilinx -family xc7 -noiopad -flatten"}
# Nothing is constrained but the clock, and its value changes little: slack is relative.
_ROUTING = ("--85k", "--package", "CABGA381", "--out-of-context", "--placer", "heap")
_LUTS = {
    "xc7": {f"LUT{n}": 1 for n in range(1, 7)} | {"RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2},
}

Progress = Callable[[str], None]
Result = dict[str, Any]


def measure(block: Block, target: str, seed: int, progress: Progress) -> Result:
    """Return clock and area of a block.

    Parameters
    ----------
    block : Block
        What to measure. Its ports have no registers and no constraints: the clock is that of the
        slowest path from a register to a register.
    target : str
        One of :data:`TARGETS`.
    seed : int
        Seed of placement; without effect on a target that is not routed.
    progress : callable
        Is told what is done.

    Returns
    -------
    dict
        ``block``, ``target``, ``seed``, ``clock_mhz`` (None if not routed, or without registers),
        ``luts``, ``flip_flops``, ``block_rams`` (ECP5: 18 kbit; xc7: 36 kbit), ``dsps`` (18x18 and
        25x18), ``critical_path`` (:data:`.Step`), ``tools`` (versions), ``input`` (a digest of the
        Verilog, the tools' options and the seed) and ``note``.

    Raises
    ------
    ToolError
        If a tool is not installed.
    BuildError
        If a tool fails, as on a block that does not fit.
    """
    tools = versions(YOSYS, NEXTPNR) if target == "ecp5" else versions(YOSYS)
    sources = emit_verilog(block.make, block.name, progress)
    synthesis = _synthesis(block, target)
    netlist = _netlist(block.name, sources, target, synthesis, tools[YOSYS], progress)
    found = _routed(block.name, netlist, seed, tools, progress) if target == "ecp5" else None
    area = _area_xc7(netlist) if found is None else _area_ecp5(found["utilization"])
    path = [] if found is None else critical_path(found, netlist["types"])
    clock = None if not path else round(1e3 / sum(step["ns"] for step in path), 2)
    return {
        "block": block.name,
        "target": target,
        "seed": seed,
        "clock_mhz": clock,
        **area,
        "critical_path": path,
        "tools": tools,
        "input": _input(sources, synthesis, seed),
        "note": block.note,
    }


def measured_input(block: Block, progress: Progress) -> str:
    """Return a digest of all that a result for the ECP5 depends on but the tools: its ``input``."""
    sources = emit_verilog(block.make, block.name, progress)
    return _input(sources, _synthesis(block, "ecp5"), block.seed)


def _input(sources: Sequence[Source], synthesis: str, seed: int) -> str:
    parts = (part for source in sources for part in source)
    return digest([_LAYOUT, synthesis, *_ROUTING, str(seed), *parts])


def _synthesis(block: Block, target: str) -> str:
    """Return Yosys' command."""
    options = "" if block.wide_luts or target != "ecp5" else " -nowidelut"
    synthesis = f"{_SYNTHESIS[target]}{options} -top {block.name}"
    if block.split_nets and target == "ecp5":
        synthesis = f"{synthesis} -run begin:map_luts; splitnets; {synthesis} -run map_luts:"
    return synthesis


def _netlist(
    name: str,
    sources: Sequence[Source],
    target: str,
    synthesis: str,
    version: str,
    progress: Progress,
) -> dict[str, Any]:
    """Return the netlist's ``text`` (of Yosys, JSON) and the ``types`` of its cells."""
    script = [
        *(f"read_verilog -sv {file}" for file, _ in sources),
        "chformal -remove",
        "delete t:$print",
        f"{synthesis} -json netlist.json",
    ]
    key = digest([_LAYOUT, version, *script, *(part for source in sources for part in source)])

    def synthesize() -> str:
        progress(f"{name}: synthesis for {target}")
        with temporary_folder(silicon_folder() / f"{name}-{key}") as work:
            for file, text in sources:
                (work / file).write_text(text)
            run_tool(YOSYS, ["-p", "; ".join(script)], work, lambda _line: None)
            return (work / "netlist.json").read_text()

    text = cached_text(silicon_folder() / f"{name}-{key}.json", synthesize)
    cells = json.loads(text)["modules"][name]["cells"]
    return {"text": text, "key": key, "types": {n: cell["type"] for n, cell in cells.items()}}


def _routed(
    name: str, netlist: Mapping[str, Any], seed: int, tools: dict[str, str], progress: Progress
) -> dict[str, Any]:
    """Return what nextpnr reports of a netlist."""
    options = [*_ROUTING, "--seed", str(seed)]
    key = digest([_LAYOUT, netlist["key"], tools[NEXTPNR], *options])

    def route() -> str:
        progress(f"{name}: placement and routing, seed {seed}")
        with temporary_folder(silicon_folder() / f"{name}-{key}") as work:
            (work / "netlist.json").write_text(netlist["text"])
            files = ["--json", "netlist.json", "--report", "report.json"]
            run_tool(NEXTPNR, [*options, *files], work, lambda _line: None)
            return (work / "report.json").read_text()

    return json.loads(cached_text(silicon_folder() / f"{name}-{key}.json", route))


def silicon_folder() -> Path:
    """Return the folder of the build cache for what the tools made."""
    folder = cache_root() / "silicon"
    folder.mkdir(exist_ok=True)
    return folder


def _area_ecp5(used: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    def count(*kinds: str) -> int:
        return sum(used.get(kind, {}).get("used", 0) for kind in kinds)

    return {
        # LUTs, those of carries and of LUT RAM, and those that only pass a signal on.
        "luts": count("TRELLIS_COMB"),
        "flip_flops": count("TRELLIS_FF"),
        "block_rams": count("DP16KD"),
        "dsps": count("MULT18X18D"),
    }


def _area_xc7(netlist: Mapping[str, Any]) -> dict[str, Any]:
    kinds = list(netlist["types"].values())
    halves = kinds.count("RAMB18E1")
    return {
        "luts": sum(_LUTS["xc7"].get(kind, 0) for kind in kinds),
        "flip_flops": sum(kind in ("FDRE", "FDSE", "FDCE", "FDPE") for kind in kinds),
        "block_rams": kinds.count("RAMB36E1") + halves / 2,
        "dsps": kinds.count("DSP48E1"),
    }
