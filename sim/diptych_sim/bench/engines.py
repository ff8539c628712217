# SPDX-License-Identifier: BSD-2-Clause
"""Engines that run a mesh, on the same decode: lanes, Verilator flat and shared, its tile class.

Seconds are those that a process computed, the best of a few runs: what else the machine does counts
as little as can be. Engines run one thread.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import resource
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from diptych.config import MachineConfig
from diptych.mesh.host_port import HostPort
from diptych.mesh.tile import Tile
from diptych_sim.cache.store import cache_root, digest
from diptych_sim.compiler.mesh_kernels.gemv import compile_gemv
from diptych_sim.cost.decode import decode_macs
from diptych_sim.engine.assertions import with_assertions_inside
from diptych_sim.engine.compile_jobs import (
    OPTIMIZE,
    Workplace,
    keep,
    make_command,
    verilator_command,
)
from diptych_sim.engine.edge_resets import with_resets_at_edges
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.lanes.distributed import open_mesh
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.processes import is_first, processes
from diptych_sim.engine.shared_modules import clock_falls
from diptych_sim.engine.toolchain import find_toolchain
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.host.jobs import KernelJob
from diptych_sim.host.lanes_host import LanesHost, completed
from diptych_sim.llm.load import load_model
from diptych_sim.run.backend import VerilatorMesh
from diptych_sim.run.kernel import kernel_job
from diptych_sim.run.programs import Programs, compile_programs
from diptych_sim.settings import flat_size, growing_sizes, sizes, threads

__all__ = ["measure", "two_phase"]

SHARED = 256
"""Tiles of the largest mesh that cocotb runs with shared tiles; one run takes minutes then."""
SLOW = 64
"""Tiles of the largest mesh that Verilator runs more than once."""
ENOUGH = 25_000_000
"""Tile-cycles after which a run ends, complete or not."""
TOKENS = 4
Load = list[list[int]]


def sram_bytes(tiles: int) -> int:
    """Return the SRAM of a tile: the bundled model does not fit into 16 tiles otherwise."""
    return 32768 if tiles < 25 else 24576


@dataclass(frozen=True)
class Speed:
    """Cost of an engine: seconds to build, bytes a tile, tile-cycles a second, cycles run."""

    build: float
    memory: float
    speed: float
    cycles: int


def _best(speeds: list[Speed]) -> Speed:
    return max(speeds, key=lambda speed: speed.speed)


def two_phase(size: int) -> Path:
    """Return the program of the two-phase loop, for an SRAM size; it is built at first use."""
    tools = find_toolchain()
    main = Path(__file__).with_name("two_phase.cpp").read_text()
    main = re.sub(r"(?<=[a-z#])__(?=[a-z])", "___05F", main)  # Verilator's spelling
    tile, port = functools.partial(Tile, sram_bytes=size), functools.partial(HostPort, colors=10)
    emitted = [*emit_verilog(tile, "tile"), *emit_verilog(port, "host_port")]
    sources = [(file, with_assertions_inside(with_resets_at_edges(text))) for file, text in emitted]
    key = digest([main, OPTIMIZE, tools.verilator_version, tools.cxx_version, *sum(sources, ())])

    def produce(work: Workplace) -> None:
        for file, text in sources:
            (work.path / file).write_text(text)
        (work.path / "main.cpp").write_text(main)
        falls = ""
        for top in ("host_port", "tile"):
            work.verilate(verilator_command(tools, top, f"V{top}", f"{top}.v"))
            header = (work.path / f"V{top}___024root.h").read_text()
            falls += f"static void fall(V{top}* m) {{ {clock_falls(header)} }}\n"
            work.make(make_command(tools, f"V{top}.mk", OPTIMIZE))
        (work.path / "fall.h").write_text(falls)
        include = tools.root / "include"
        archives = [f"libV{top}.a" for top in ("tile", "host_port")]
        command = [
            *tools.cxx,
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
    program: Path, load: Load, mesh: tuple[int, int], tokens: int, limit: int = 10_000_000
) -> tuple[int, int, float, int]:
    """Run a decode in the two-phase loop.

    Returns the cycles, the last word that left row 0, the seconds that the process computed and
    its memory in bytes.
    """
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        for words in load:
            file.write(struct.pack(f"<I{len(words)}I", len(words), *words))
        file.flush()
        command = [str(program), file.name, *map(str, (*mesh, tokens, limit))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            output = running.stdout.read() if running.stdout else ""
            _, status, use = os.wait4(running.pid, 0)
            running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise AssertionError(f"the two-phase loop ended with status {running.returncode}")
    cycles, last, memory = map(int, output.split())
    return cycles, last, use.ru_utime + use.ru_stime, memory


@dataclass(frozen=True)
class _Job:
    """A decode on a mesh: what enters it, what must come out, its products, and how often to run."""

    mesh: tuple[int, int]
    load: Load
    expected: list[int]
    macs: int
    runs: int

    @property
    def tiles(self) -> int:
        return self.mesh[0] * self.mesh[1]

    @property
    def limit(self) -> int:
        return ENOUGH // self.tiles

    def check(self, engine: str, cycles: int, words: list[int]) -> None:
        """Compare what came out, as far as the run went."""
        want = self.expected if cycles < self.limit else self.expected[: len(words)]
        if words != want:
            raise AssertionError(f"{engine} must give {want} as the golden model does, not {words}")


def _lanes(job: _Job, skips: bool = True) -> Speed:
    size = sram_bytes(job.tiles)
    start = time.perf_counter()
    LaneMesh(*job.mesh, sram_bytes=size).close()
    build = time.perf_counter() - start
    out = []
    for _ in range(job.runs):
        with LaneMesh(*job.mesh, sram_bytes=size) as lanes:
            lanes.skip(skips)
            lanes.reset()
            lanes.feed(job.load)
            start = time.process_time()
            lanes.run(job.limit, words=len(job.expected))
            seconds = time.process_time() - start
            job.check("lanes", lanes.cycle, [word.data for word in lanes.words()])
            memory = lanes.tile.layout.bytes / lanes.tile.layout.lanes
            out.append(Speed(build, memory, job.tiles * lanes.cycle / seconds, lanes.cycle))
    return _best(out)


def _two_phases(job: _Job) -> Speed:
    start = time.perf_counter()
    program = two_phase(sram_bytes(job.tiles))
    build = time.perf_counter() - start
    *_, empty = run_two_phase(program, [[]], (1, 1), 1, 1)
    out = []
    for _ in range(job.runs if job.tiles <= SLOW else 1):
        cycles, last, seconds, memory = run_two_phase(
            program, job.load, job.mesh, len(job.expected), job.limit
        )
        if cycles < job.limit:
            job.check("the two-phase loop", cycles, [*job.expected[:-1], last])
        each = (memory - empty) / job.tiles
        out.append(Speed(build, each, job.tiles * cycles / seconds, cycles))
    return _best(out)


@functools.cache
def _model() -> tuple[QuantizedModel, list[int]]:
    loaded = load_model("builtin")
    return quantize_loaded(loaded), loaded.tokenizer.encode("In the beginning")


def _programs(mesh: tuple[int, int]) -> Programs:
    model, ids = _model()
    machine = MachineConfig(mesh=mesh, sram_bytes=sram_bytes(mesh[0] * mesh[1]))
    return compile_programs(model, [ids], [TOKENS], machine=machine, stage="decode")


def _decode(mesh: tuple[int, int], inlined: bool) -> tuple[int, list[int], float, int]:
    """Decode through cocotb; returns cycles, tokens, and seconds and memory of the simulators."""
    memory: list[int] = []
    tokens: list[dict[str, Any]] = []

    def listen(event: dict[str, Any]) -> None:
        memory.append(_resident())
        if event["kind"] == "token":
            tokens.append(event)

    VerilatorMesh(inlined=inlined).run(_programs(mesh).decode_job(), listen)
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [event["token"] for event in tokens[1:]]
    return tokens[-1]["cycle"], words, use.ru_utime + use.ru_stime, max(memory)


def _resident() -> int:
    """Return the memory of this process's largest child, in bytes."""
    files = Path("/proc/self/task").glob("*/children")
    children = [child for file in files for child in file.read_text().split()]
    pages = [int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children]
    return max(pages, default=0) * resource.getpagesize()


def _cocotb(job: _Job, *, inlined: bool) -> Speed:
    context = multiprocessing.get_context("spawn")

    def run() -> tuple[int, list[int], float, int]:
        # In a process of its own, whose only child is the simulator.
        with context.Pool(1) as pool:
            return pool.apply(_decode, (job.mesh, inlined))

    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    out = []
    for _ in range(job.runs if job.tiles <= SLOW else 1):
        start = time.perf_counter()
        cycles, tokens, seconds, memory = run()
        build = max(first - (time.perf_counter() - start), 0)
        job.check("cocotb", cycles, tokens)
        out.append(Speed(build, memory / job.tiles, job.tiles * cycles / seconds, cycles))
    return _best(out)


def _engines(job: _Job) -> Iterator[tuple[str, Speed | str]]:
    """Yield names of engines and their speeds, or why there is none."""
    rows, columns = map(int, flat_size().split("x"))
    yield "lanes", _lanes(job)
    yield "lanes, nothing skipped", _lanes(job, skips=False)
    yield "tile class, two phases", _two_phases(job)
    if job.tiles <= SHARED:
        yield "cocotb, shared tile", _cocotb(job, inlined=False)
    else:
        yield "cocotb, shared tile", "a run takes too long"
    if job.tiles <= rows * columns:
        yield "cocotb, flat", _cocotb(job, inlined=True)
    else:
        yield "cocotb, flat", f"not built above {flat_size()}: it takes too long"


async def _launch(host: LanesHost, job: KernelJob) -> None:
    await host.send(job.load)
    await host.settle()
    host.feed(job.start)
    await host.until_busy()
    await host.until_idle(job.limit)


def _product(mesh: tuple[int, int], runs: int) -> Speed:
    """Load and multiply a block of 4x8 in each tile, on lanes; seconds are those of the clock."""
    rows, columns = mesh
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, 8 * columns).astype(np.int8)
    w = rng.integers(-128, 128, (4 * rows, 8 * columns)).astype(np.int8)
    kernel = compile_gemv(x, w, rows=rows, columns=columns).kernel
    job = kernel_job(kernel, limit=ENOUGH)
    start = time.perf_counter()
    open_mesh(*mesh, **job.parameters).close()
    build = time.perf_counter() - start
    out = []
    for _ in range(runs):
        with open_mesh(*mesh, **job.parameters) as lanes:
            host = LanesHost(lanes, job)
            start, first = time.perf_counter(), lanes.cycle
            completed(_launch(host, job))
            seconds, cycles = time.perf_counter() - start, lanes.cycle - first
            memory = lanes.tile.layout.bytes / lanes.tile.layout.lanes
            out.append(Speed(build, memory, rows * columns * cycles / seconds, cycles))
    return _best(out)


def _measure_growing(console: Console, runs: int) -> None:
    title = (
        f"lanes alone: processes {processes()}, threads in each {threads() or 'as its size asks'}"
    )
    table = Table(
        "mesh", "cycles", "build s", "bytes/tile", "M tile-cycles/s", "of the first", title=title
    )
    first: Speed | None = None
    for size in growing_sizes():
        rows, columns = map(int, size.split("x"))
        found = _product((rows, columns), runs)
        first = first or found
        table.add_row(
            size,
            f"{found.cycles:,}",
            f"{found.build:.1f}",
            f"{found.memory:,.0f}",
            f"{found.speed / 1e6:.3f}",
            f"{found.speed / first.speed:.0%}",
        )
    if is_first():
        console.print(table)


def _tile_cells(mesh: tuple[int, int]) -> int:
    """Return the cells of a tile's netlist."""
    with LaneMesh(*mesh, sram_bytes=sram_bytes(mesh[0] * mesh[1])) as lanes:
        return lanes.tile.interface.cells


def _useful(job: _Job, found: Speed) -> str:
    """Return a run's products a second, in millions; nothing if it ended before it was complete."""
    if found.cycles >= job.limit:
        return ""
    return f"{job.macs * found.speed / (job.tiles * found.cycles) / 1e6:.2f}"


def measure(console: Console, runs: int) -> None:
    """Print the speed of each engine: loading and decoding of the bundled model.

    In cycles of the mesh, in tile-cycles, in gate-cycles (cells of the tile's netlist times
    tile-cycles), and in products of the model, all a second on one core.

    Then those of lanes on growing meshes, with as much for each tile to do, on all processes and
    threads that there are; ``DIPTYCH_SIZES=`` leaves only these.

    What is built already takes no time to build; memory of cocotb's simulators is all of theirs.
    """
    names = "cycles/s", "M tile-cycles/s", "G gate-cycles/s", "M MACs/s", "lanes / this"
    table = Table("mesh", "engine", "build s", "bytes/tile", *names)
    for size in sizes():
        rows, columns = map(int, size.split("x"))
        programs = _programs((rows, columns))
        macs = sum(decode_macs(programs.decode))
        expected = programs.expected[0][1:]
        job = _Job((rows, columns), programs.decode_job().load, expected, macs, runs)
        cells = _tile_cells(job.mesh)
        lanes: Speed | None = None
        for name, found in _engines(job):
            if isinstance(found, str):
                table.add_row(size, name, "", "", found, "", "", "", "")
                continue
            lanes = lanes or found
            # cocotb counts from the reset's end, and Verilator's loop from its beginning.
            if abs(found.cycles - lanes.cycles) > 2:
                raise AssertionError(f"lanes end in cycle {lanes.cycles}, {name} in {found.cycles}")
            table.add_row(
                size,
                name,
                f"{found.build:.1f}",
                f"{found.memory:,.0f}",
                f"{found.speed / job.tiles:,.0f}",
                f"{found.speed / 1e6:.3f}",
                f"{found.speed * cells / 1e9:.2f}",
                _useful(job, found),
                f"{lanes.speed / found.speed:.1f}",
            )
    if table.row_count:
        console.print(table)
    _measure_growing(console, runs)
