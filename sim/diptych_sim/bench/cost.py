# SPDX-License-Identifier: BSD-2-Clause
"""Error of the cost models against the RTL, over random shapes, machines, prompts and batches.

The machines, the models and the requests are drawn by a seed, the machines of a few, so that their
simulators can be kept. Many programs run in one simulation of a panel. What a mesh or a panel
cannot hold is drawn again, and what would take long.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
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
_PANELS = tuple(
    MachineConfig(array=array, weight_rows=rows, hbm_bytes_per_cycle=rate, hbm_latency=latency)
    for array, rows, rate, latency in (
        ((4, 8), 1, 16, 60),
        ((8, 8), 1, 64, 100),
        ((8, 16), 2, 64, 160),
        ((16, 8), 2, 32, 140),
        ((16, 16), 4, 64, 100),
        ((16, 32), 4, 48, 80),
    )
)
_MESHES = ((2, 3), (3, 3), (4, 4), (4, 6), (8, 8))
_MACHINES = 3
"""Machines of each panel that are drawn, of those above: each is built once for all runs."""
_MOST_CYCLES = 25_000
"""Cycles of the array alone that a prompt may take: what takes more is drawn again."""
_MESH_PROMPT = 12
"""Tokens of a prompt of the mesh at most: it reads them one by one."""
_SRAM, _DEPTH = 65536, 2048
_HBM = 2**22
_WORST = 5
_HELD_BYTES = 68
"""Bytes of a color between a tile and the next, at most: eight words in a buffer, as many credits for
those on the way, and one at the sender."""


@dataclass(frozen=True, kw_only=True)
class Error:
    """One run: what was predicted, and what was measured.

    ``bytes_exact``: HBM bytes read and written by the array; on the mesh, bytes times hops on its
    links, and MACs of every tile.
    """

    kind: str
    machine: str
    words: str
    predicted: int
    measured: int
    bytes_exact: bool

    @property
    def where(self) -> str:
        """The run in one line."""
        return f"{self.kind}, {self.machine}; {self.words}"

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
        programs=[program.start for _, _, program in programs],
        ids=[None] * len(programs),
        arrivals=[0] * len(programs),
        sequences=[case.batch for _, case, _ in programs],
        watched=False,
        array=machine.array,
        weight_rows=machine.weight_rows,
        limit=2_000_000,
    )
    words = "array {}x{}, {} weight rows, HBM {} bytes a cycle, {} cycles".format(
        *machine.array, machine.weight_rows, machine.hbm_bytes_per_cycle, machine.hbm_latency
    )

    def tell(event: dict[str, Any]) -> None:
        if progress is not None and event["kind"] == "tokens":
            progress(f"{words}: program {event['number'] + 1} of {len(programs)}")

    measured: ArrayRequestResult = run_panel(
        job, image.data, machine, progress=progress, on_event=tell
    ).result
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


def mesh_errors(machine: MachineConfig, case: Case, seed: int) -> Iterator[Error]:
    """Yield prefill and decode of a request on a mesh, on lanes."""
    model = random_model(case.config, seed)
    prompts = [[(n + 1) % case.config.vocab] * case.prompt for n in range(case.batch)]
    done = mesh_request(model, prompts, case.tokens, machine=machine, engine="lanes")
    account = account_mesh_request(done)  # which compares the MACs of every tile
    rows, columns = machine.mesh
    # When a prompt begins, the last words of the load may be on their way to the last column.
    loading = rows * _HELD_BYTES * columns * (columns - 1) // 2
    words = "mesh {}x{}".format(*machine.mesh)
    for kind, name in zip(KINDS[2:], ("prefill", "decode"), strict=True):
        part = account[name]
        more = part["bytes"]["fabric_hops"] - part["predicted_fabric_hops"]
        yield Error(
            kind=kind,
            machine=words,
            words=case.words,
            predicted=part["predicted_cycles"],
            measured=part["cycles"],
            bytes_exact=0 <= more <= loading if name == "prefill" else more == 0,
        )


def _drawn(rng: random.Random, fits: Callable[[Case], bool]) -> Case:
    """Draw a case that fits."""
    while True:
        case = random_case(rng)
        try:
            if fits(case):
                return case
        except PrefillError:
            continue


def _fits_array(case: Case, machine: MachineConfig) -> bool:
    """Tell whether a panel holds a case, and reads its prompts soon enough."""
    prompts = [[1] * case.prompt] * case.batch
    compiled = compile_array(random_model(case.config, 0), *machine.array, prompts, case.tokens)
    return panel_cost(compiled.prefill, machine).bound_cycles <= _MOST_CYCLES


def run(
    seed: int, count: int, progress: ProgressLine | None = None, machines: int = _MACHINES
) -> list[Error]:
    """Return the errors of about ``count`` runs, a quarter of each kind."""
    rng = random.Random(seed)
    each = -(-count // 4 // machines)
    found: list[Error] = []
    panels, meshes = rng.sample(_PANELS, machines), rng.sample(_MESHES, machines)
    for machine in panels:
        cases = [_drawn(rng, partial(_fits_array, machine=machine)) for _ in range(each)]
        found += array_errors(machine, cases, seed, progress)
    for mesh in meshes:
        machine = MachineConfig(mesh=mesh, sram_bytes=_SRAM, program_depth=_DEPTH)
        ran = 0
        while ran < each:
            case = random_case(rng)
            case = replace(case, prompt=min(case.prompt, _MESH_PROMPT))
            if progress is not None:
                progress(f"mesh {mesh[0]}x{mesh[1]}, request {ran + 1} of {each}")
            try:
                found += mesh_errors(machine, case, seed + ran)
            except (MeshTooSmallError, UnsupportedModelError):
                continue
            ran += 1
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


def measure(console: Console, _runs: int) -> dict[str, Any]:
    """Print the errors by kind, and the worst cases; return all of them."""
    seed, count = set_seed(), bench_runs()
    progress = ProgressLine()
    try:
        errors = run(seed, count, progress)
    finally:
        progress.stop()
    rows = summary(errors)
    table = Table(
        title=f"Predicted cycles beside the RTL, seed {seed} (DIPTYCH_SEED)", title_justify="left"
    )
    table.add_column("kind")
    for name in ("runs", "median", "95 %", "worst", "bytes exact"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["kind"],
            f"{row['runs']}",
            *(f"{row[name]:.2%}" for name in ("median", "percentile_95", "worst")),
            f"{row['bytes_exact']}",
        )
    console.print(table)
    errors.sort(key=lambda error: -abs(error.error))
    lines = [
        f"{e.error:+.1%} ({e.predicted:,} for {e.measured:,}): {e.where}" for e in errors[:_WORST]
    ]
    lines += [f"bytes differ: {error.where}" for error in errors if not error.bytes_exact]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    return {"seed": seed, "kinds": rows, "runs": [asdict(e) | {"error": e.error} for e in errors]}
