# SPDX-License-Identifier: BSD-2-Clause
"""Error of the cost models against the RTL, over random shapes, machines, prompts and batches.

The machines, the models and the requests are drawn by a seed. Many programs run in one simulation
of a panel, and each mesh is built once, so that 200 runs take minutes. What a mesh or a panel
cannot hold is drawn again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from diptych.config import MachineConfig
from diptych_sim.account.requests import account_mesh_request
from diptych_sim.bench.random_cases import Case, random_case
from diptych_sim.compiler.array.commands import PrefillProgram
from diptych_sim.compiler.array.hbm_layout import HbmImage, PrefillError
from diptych_sim.compiler.array_decode.compile import compile_array
from diptych_sim.compiler.decode.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.cost.requests import panel_cost
from diptych_sim.golden.random_weights import random_model
from diptych_sim.host.jobs import ArrayRequestJob, ArrayRequestResult
from diptych_sim.report.progress import ProgressLine
from diptych_sim.run.mesh_request import mesh_request
from diptych_sim.run.panel import run_panel
from diptych_sim.settings import bench_runs
from diptych_sim.settings import seed as set_seed

__all__ = ["KINDS", "Error", "array_errors", "measure", "mesh_errors", "run", "summary"]

KINDS = ("prefill on the array", "decode on the array", "prefill on the mesh", "decode on the mesh")
_ARRAYS = ((8, 8), (8, 16), (16, 16), (16, 32), (16, 8), (4, 8))
_MESHES = ((2, 3), (3, 3), (4, 4), (4, 6), (8, 8))
_MACHINES = 3
"""Machines of each panel that are drawn: each is built."""
_SRAM, _DEPTH = 65536, 2048
_HBM = 2**22
_WORST = 5


@dataclass(frozen=True, kw_only=True)
class Error:
    """One run: what was predicted, and what was measured.

    ``bytes_exact``: HBM bytes read and written by the array; on the mesh, MACs of every tile.
    """

    kind: str
    machine: str
    words: str
    predicted: int
    measured: int
    bytes_exact: bool

    @property
    def error(self) -> float:
        """Relative to what was measured."""
        return self.predicted / self.measured - 1


def array_errors(
    machine: MachineConfig, cases: list[Case], seed: int, progress: ProgressLine | None = None
) -> Iterator[Error]:
    """Yield prefill and the last token of each request on a panel, all in one simulation."""
    image = HbmImage()
    programs: list[tuple[str, Case, PrefillProgram]] = []
    for number, case in enumerate(cases):
        model = random_model(case.config, seed + number)
        prompts = [[1] * case.prompt] * case.batch
        compiled = compile_array(model, *machine.array, prompts, case.tokens, behind=image)
        programs += [(KINDS[0], case, compiled.prefill), (KINDS[1], case, compiled.steps[-1])]
    machine = machine.with_hbm(max(_HBM, len(image.data)))
    job = ArrayRequestJob(
        hbm="hbm.bin",
        written="written.bin",
        programs=[program.program_address for _, _, program in programs],
        ids=[None] * len(programs),
        arrivals=[0] * len(programs),
        sequences=[case.batch for _, case, _ in programs],
        watched=False,
        array=machine.array,
        weight_rows=machine.weight_rows,
        limit=2_000_000,
    )
    measured: ArrayRequestResult = run_panel(job, image.data, machine, progress=progress).result
    words = "array {}x{}, {} weight rows, HBM {} bytes a cycle, {} cycles".format(
        *machine.array, machine.weight_rows, machine.hbm_bytes_per_cycle, machine.hbm_latency
    )
    before = {"hbm_read": 0, "hbm_write": 0}
    for number, (kind, case, program) in enumerate(programs):
        cost = panel_cost(program, machine)
        now = measured.parts[number]["hbm"]
        moved = [now[name] - before[name] for name in before]
        before = now
        expected = [cost.predicted_hbm_read, cost.predicted_hbm_write]
        yield Error(
            kind=kind,
            machine=words,
            words=case.words,
            predicted=cost.predicted_cycles,
            measured=measured.ends[number] - measured.starts[number],
            bytes_exact=moved == expected,
        )


def mesh_errors(
    machine: MachineConfig, case: Case, seed: int, progress: ProgressLine | None = None
) -> Iterator[Error]:
    """Yield prefill and decode of a request on a mesh, on lanes."""
    model = random_model(case.config, seed)
    prompts = [[(n + 1) % case.config.vocab] * case.prompt for n in range(case.batch)]
    done = mesh_request(
        model, prompts, case.tokens, machine=machine, engine="lanes", progress=progress
    )
    account = account_mesh_request(done)  # which compares the MACs of every tile
    words = "mesh {}x{}".format(*machine.mesh)
    for kind, name in zip(KINDS[2:], ("prefill", "decode"), strict=True):
        part = account[name]
        yield Error(
            kind=kind,
            machine=words,
            words=case.words,
            predicted=part["predicted_cycles"],
            measured=part["cycles"],
            bytes_exact=True,
        )


def _array_machine(rng: random.Random) -> MachineConfig:
    array = rng.choice(_ARRAYS)
    most = [rows for rows in (1, 2, 4) if 4 * rows <= array[0]]
    return MachineConfig(
        array=array,
        weight_rows=rng.choice(most),
        hbm_bytes_per_cycle=rng.choice((16, 32, 64)),
        hbm_latency=rng.randint(40, 160),
    )


def _drawn(rng: random.Random, holds: Callable[[Case], None]) -> Case:
    """Draw a case that a machine holds."""
    while True:
        case = random_case(rng)
        try:
            holds(case)
        except (PrefillError, MeshTooSmallError, UnsupportedModelError):
            continue
        return case


def run(
    seed: int, count: int, progress: ProgressLine | None = None, machines: int = _MACHINES
) -> list[Error]:
    """Return the errors of about ``count`` runs, a quarter of each kind."""
    rng = random.Random(seed)
    each = -(-count // 4 // machines)
    found: list[Error] = []
    for _ in range(machines):
        machine = _array_machine(rng)

        def on_array(case: Case, machine: MachineConfig = machine) -> None:
            prompts = [[1] * case.prompt] * case.batch
            compile_array(random_model(case.config, 0), *machine.array, prompts, case.tokens)

        cases = [_drawn(rng, on_array) for _ in range(each)]
        found += array_errors(machine, cases, seed, progress)
    for mesh in rng.sample(_MESHES, machines):
        machine = MachineConfig(mesh=mesh, sram_bytes=_SRAM, program_depth=_DEPTH)
        for number in range(each):
            while True:
                case = random_case(rng)
                case = replace(case, prompt=min(case.prompt, 12))
                try:
                    found += mesh_errors(machine, case, seed + number, progress)
                except (MeshTooSmallError, UnsupportedModelError):
                    continue
                break
    return found


def summary(errors: list[Error]) -> list[dict[str, Any]]:
    """Return a row for each kind, and one for all."""
    rows = []
    for kind in (*KINDS, "all"):
        own = [error for error in errors if kind in (error.kind, "all")]
        if not own:
            continue
        sizes = sorted(abs(error.error) for error in own)
        rows.append(
            {
                "kind": kind,
                "runs": len(own),
                "median": median(sizes),
                "percentile_95": sizes[min(len(sizes) - 1, int(0.95 * len(sizes)))],
                "worst": sizes[-1],
                "bytes_exact": sum(error.bytes_exact for error in own),
            }
        )
    return rows


def measure(console: Console, _runs: int) -> None:
    """Print the errors by kind, and the worst cases."""
    seed, count = set_seed(), bench_runs()
    progress = ProgressLine()
    try:
        errors = run(seed, count, progress)
    finally:
        progress.stop()
    table = Table(
        title=f"Predicted cycles beside the RTL, seed {seed} (DIPTYCH_SEED)", title_justify="left"
    )
    table.add_column("kind")
    for name in ("runs", "median", "95 %", "worst", "bytes or MACs exact"):
        table.add_column(name, justify="right")
    for row in summary(errors):
        table.add_row(
            row["kind"],
            f"{row['runs']}",
            *(f"{row[name]:.2%}" for name in ("median", "percentile_95", "worst")),
            f"{row['bytes_exact']}",
        )
    console.print(table)
    for error in sorted(errors, key=lambda error: -abs(error.error))[:_WORST]:
        console.print(
            f"{error.error:+.1%} ({error.predicted:,} for {error.measured:,}): {error.kind}, "
            f"{error.machine}; {error.words}",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
