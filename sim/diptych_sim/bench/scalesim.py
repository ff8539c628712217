# SPDX-License-Identifier: BSD-2-Clause
"""Matrix products on the prefill panel, beside SCALE-Sim 3.0.0 and what others published.

SCALE-Sim counts the cycles of an array that never waits for its memories; ours come from RTL, from
HBM to HBM. It needs NumPy below 2.4, so it lives in a virtual environment of its own in the cache.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from diptych_sim.account.array_gemm import account_array_gemm
from diptych_sim.bench.products import Shape, name_of, product
from diptych_sim.cache.store import cache_root, locked
from diptych_sim.report.progress import ProgressLine

__all__ = ["SHAPES", "measure", "scalesim_cycles"]

ARRAY = (16, 16)
SHAPES: tuple[Shape, ...] = (
    (64, 64, 64),
    (128, 64, 192),
    (128, 256, 256),
    (256, 256, 256),
    (16, 256, 256),
    (1, 256, 256),
    (100, 100, 100),
    (512, 64, 64),
)
"""M, K, N."""
GEMMINI = {(128, 256, 256): 39_815, (64, 64, 64): 2_597}
"""Published cycles of Gemmini, 16x16, with DMA and bias (OpenASDx logs)."""
PUBLISHED = {
    "O-POPE": "99.97 %",
    "RedMulE": "98.8 %",
    "OpenGeMM": "82 to 99 %",
    "AIE-ML, GAMA": "85 %",
    "TPU v1, CNN0": "78 %",
}
"""Best utilization that papers report for their arrays."""
DATAFLOWS = {"ws": "weight", "os": "output", "is": "input"}
REQUIREMENTS = ("scalesim==3.0.0", "numpy<2.4")
_CONFIG = """
[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""
_RUN = """
import sys
from scalesim.scale_sim import scalesim
config, topology, out = sys.argv[1:]
scalesim(save_disk_space=True, verbose=False, config=config, topology=topology, layout=topology,
         input_type_gemm=True).run_scale(top_path=out)
"""


def _run(what: str, *command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise click.ClickException(f"{what}: {last}")


def _python(progress: ProgressLine) -> Path:
    """Return the interpreter that has SCALE-Sim; install it if it is not there yet."""
    folder = cache_root() / "scalesim-3.0.0"
    python, ready = folder / "bin" / "python", folder / "ready"
    with locked(cache_root() / "scalesim.lock"):
        if not ready.exists():
            progress("installing SCALE-Sim from the registry")
            _run("Creating an environment for SCALE-Sim", sys.executable, "-m", "venv", folder)
            pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            _run("Installing SCALE-Sim", *pip, *REQUIREMENTS)
            ready.touch()
    return python


def scalesim_cycles(
    shapes: Sequence[Shape], array: tuple[int, int], dataflow: str, progress: ProgressLine
) -> list[int]:
    """Return SCALE-Sim's total cycles (without prefetch) of products [M, K] x [K, N].

    Raises
    ------
    ClickException
        If it cannot be installed, or does not run.
    """
    python = _python(progress)
    progress(f"SCALE-Sim, {DATAFLOWS[dataflow]}-stationary")
    with tempfile.TemporaryDirectory(prefix="diptych-") as name:
        folder = Path(name)
        config, topology, out = folder / "scale.cfg", folder / "shapes.csv", folder / "out"
        config.write_text(_CONFIG.format(rows=array[0], columns=array[1], dataflow=dataflow))
        lines = [f"s{index},{m},{n},{k}," for index, (m, k, n) in enumerate(shapes)]
        topology.write_text("\n".join(["Layer,M,N,K,", *lines]) + "\n")
        out.mkdir()
        _run("Running SCALE-Sim", python, "-c", _RUN, config, topology, out)
        with (out / "run" / "COMPUTE_REPORT.csv").open(newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    return [int(row["Total Cycles"]) for row in rows]


def measure(console: Console, runs: int) -> None:
    """Print tables of products: ours beside the bound and SCALE-Sim, then beside what is published.

    Cycles do not vary, so each shape runs once, whatever ``runs`` is.
    """
    del runs
    progress = ProgressLine()
    try:
        peers = {name: scalesim_cycles(SHAPES, ARRAY, name, progress) for name in DATAFLOWS}
        ours = {shape: account_array_gemm(product(shape, ARRAY, progress)) for shape in SHAPES}
        # Gemmini's rows are with a bias.
        biased = {
            shape: account_array_gemm(product(shape, ARRAY, progress, bias=True))
            for shape in GEMMINI
        }
    finally:
        progress.stop()
    size = f"{ARRAY[0]}x{ARRAY[1]}"
    table = _table(
        f"Cycles of M x K x N on {size}: ours from HBM to HBM, SCALE-Sim's array alone",
        ("shape", "ours", "bound", "of bound", *DATAFLOWS.values(), "best / ours"),
    )
    for index, (shape, done) in enumerate(ours.items()):
        cycles, bound = done["cycles"], done["bound_cycles"]
        each = [peers[name][index] for name in DATAFLOWS]
        counts = [f"{count:,}" for count in each]
        ratio = f"{min(each) / cycles:.2f}"
        table.add_row(
            name_of(shape), f"{cycles:,}", f"{bound:,}", f"{bound / cycles:.1%}", *counts, ratio
        )
    console.print(table)
    table = _table(
        f"With a bias, beside Gemmini {size}", ("shape", "ours", "Gemmini", "Gemmini / ours")
    )
    for shape, cycles in GEMMINI.items():
        mine = biased[shape]["cycles"]
        table.add_row(name_of(shape), f"{mine:,}", f"{cycles:,}", f"{cycles / mine:.2f}")
    console.print(table)
    best = max(ours, key=lambda shape: ours[shape]["mac_utilization"])
    table = _table("Best utilization of the multipliers", ("array", "of peak"))
    table.add_row(f"ours, {name_of(best)}", f"{100 * ours[best]['mac_utilization']:.1f} %")
    for name, share in PUBLISHED.items():
        table.add_row(name, share)
    console.print(table)


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=heading == "shape")
    return table
