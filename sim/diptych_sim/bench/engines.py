# SPDX-License-Identifier: BSD-2-Clause
"""Engines that run a mesh, on the same decode: lanes, Verilator's tile class, cocotb."""

from __future__ import annotations

import os
import re
import resource
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from diptych.mesh.host_port import HostPort
from diptych.mesh.tile import Tile
from diptych_sim.decode_only import decode_load, decode_only
from diptych_sim.engine.cache import cache_root, digest
from diptych_sim.engine.compiling import Workplace, keep, make_command, verilator_command
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.toolchain import find_toolchain
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.llm.load import load_model

__all__ = ["measure", "two_phase"]

SIZES = os.environ.get("DIPTYCH_SIZES", "8x8 16x16")
"""Meshes to measure, each as 16x16; all hold the bundled model from 8x8 on."""
TOKENS = 4
SRAM_BYTES = 24576
Load = list[list[int]]


def _busy() -> float:
    """Return the seconds that this process, its threads and its children have computed."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, kinds))


def two_phase() -> Path:
    """Return the program of the two-phase loop; it is built at first use."""
    tools = find_toolchain()
    main = Path(__file__).with_name("two_phase.cpp").read_text()
    main = re.sub(r"(?<=[a-z])__(?=[a-z])", "___05F", main)  # Verilator's spelling
    tile, port = Tile(sram_bytes=SRAM_BYTES), HostPort(colors=10)
    sources = [*emit_verilog(tile, "tile"), *emit_verilog(port, "host_port")]
    key = digest([main, tools.verilator_version, tools.cxx_version, *sum(sources, ())])

    def produce(work: Workplace) -> None:
        for file, text in sources:
            (work.path / file).write_text(text)
        (work.path / "main.cpp").write_text(main)
        for top in ("host_port", "tile"):
            work.verilate(verilator_command(top, f"V{top}", f"{top}.v"))
            work.make(make_command(tools, f"V{top}", "OPT_FAST=-O1"))
        include = tools.root / "include"
        archives = [f"libV{top}.a" for top in ("tile", "host_port")]
        command = [
            str(tools.cxx),
            "-O2",
            "-std=c++17",
            f"-I{include}",
            f"-I{include}/vltstd",
            "-I.",
        ]
        command += [
            "main.cpp",
            *archives,
            "libverilated.a",
            "-pthread",
            "-latomic",
            "-o",
            "two_phase",
        ]
        work.compile(command)

    folder = cache_root() / f"two_phase-{key}"
    keep(
        folder,
        tools=tools,
        label="two_phase",
        progress=lambda _step: None,
        files=["two_phase"],
        produce=produce,
    )
    return folder / "two_phase"


def run_two_phase(
    program: Path, load: Load, mesh: tuple[int, int], tokens: int
) -> tuple[int, float, int]:
    """Return the cycles, seconds and last token of a decode in the two-phase loop."""
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        for words in load:
            file.write(struct.pack(f"<I{len(words)}I", len(words), *words))
        file.flush()
        command = [program, file.name, *map(str, mesh), str(tokens)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    cycles, seconds, last = done.stdout.split()
    return int(cycles), float(seconds), int(last)


def _lanes(load: Load, mesh: tuple[int, int], expected: list[int], runs: int) -> tuple[float, ...]:
    """Return build seconds, bytes a tile, tile-cycles a second, and the last cycle."""
    start = time.perf_counter()
    LaneMesh(*mesh, sram_bytes=SRAM_BYTES).close()
    build = time.perf_counter() - start
    speeds, ended, size = [], 0, 0.0
    for _ in range(runs):
        with LaneMesh(*mesh, sram_bytes=SRAM_BYTES) as lanes:
            lanes.reset()
            lanes.feed(load)
            start = _busy()
            lanes.run(10_000_000, words=len(expected))
            speeds.append(mesh[0] * mesh[1] * lanes.cycle / (_busy() - start))
            ended = lanes.cycle
            size = lanes.tile.layout.bytes / lanes.tile.layout.lanes
            if [word.data for word in lanes.words()] != expected:
                raise AssertionError("lanes differ from the golden model")
    return build, size, statistics.median(speeds), ended


def _two_phases(
    load: Load, mesh: tuple[int, int], expected: list[int], runs: int
) -> tuple[float, float]:
    """Return build seconds and tile-cycles a second."""
    start = time.perf_counter()
    program = two_phase()
    build = time.perf_counter() - start
    speeds = []
    for _ in range(runs):
        start = _busy()
        cycles, _, last = run_two_phase(program, load, mesh, len(expected))
        speeds.append(mesh[0] * mesh[1] * cycles / (_busy() - start))
        if last != expected[-1]:
            raise AssertionError("the two-phase loop differs from the golden model")
    return build, statistics.median(speeds)


def measure(console: Console, runs: int) -> None:
    """Print tile-cycles a second of each engine: loading and decoding of the bundled model.

    Seconds are those that the process computed, medians of ``runs``, so that what else the
    machine does counts less. What is built already takes no time to build.
    """
    loaded = load_model("builtin")
    model = quantize_loaded(loaded)
    ids = loaded.tokenizer.encode("In the beginning")
    table = Table("mesh", "engine", "build s", "bytes/tile", "M tile-cycles/s", "lanes / this")
    for size in SIZES.split():
        rows, columns = map(int, size.split("x"))
        mesh = (rows, columns)
        load, expected, _ = decode_load(model, [ids], [TOKENS], mesh=mesh, sram_bytes=SRAM_BYTES)
        build, memory, best, ended = _lanes(load, mesh, expected[0][1:], runs)
        table.add_row(size, "lanes", f"{build:.1f}", f"{memory:,.0f}", f"{best / 1e6:.3f}", "1")
        build, speed = _two_phases(load, mesh, expected[0][1:], runs)
        ratio = f"{best / speed:.1f}"
        table.add_row(
            size, "tile class, two phases", f"{build:.1f}", "", f"{speed / 1e6:.3f}", ratio
        )
        start = time.perf_counter()
        decode_only(model, [ids], [2], mesh=mesh, sram_bytes=SRAM_BYTES)
        build = time.perf_counter() - start
        start = _busy()
        done = decode_only(model, [ids], [TOKENS], mesh=mesh, sram_bytes=SRAM_BYTES)
        speed = rows * columns * done.cycles[0][-1] / (_busy() - start)
        ratio = f"{best / speed:.1f}"
        table.add_row(size, "cocotb, shared tile", f"{build:.1f}", "", f"{speed / 1e6:.3f}", ratio)
        if done.cycles[0][-1] != ended:
            raise AssertionError(f"lanes end in cycle {ended}, Verilator in {done.cycles[0][-1]}")
    console.print(table)
