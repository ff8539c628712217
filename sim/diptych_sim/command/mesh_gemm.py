# SPDX-License-Identifier: BSD-2-Clause
"""``diptych gemm --mesh``."""

from __future__ import annotations

import sys

import click
import numpy as np
from rich.console import Console

from diptych_sim.account.accounts import AccountError
from diptych_sim.command.options import Refused, Size, write_json
from diptych_sim.compiler.mesh_kernel import KernelError
from diptych_sim.engine.errors import BuildError, SimulationError, ToolError
from diptych_sim.mesh_gemm import mesh_gemm
from diptych_sim.report.progress import Steps

__all__ = ["gemm_on_mesh"]


def gemm_on_mesh(
    m: int, k: int, n: int, *, mesh: Size, algorithm: str, seed: int, json_file: str | None
) -> None:
    """Multiply random int8 matrices on the decode panel, from tiles to tiles."""
    if m * k + k * n > 2**24:
        raise Refused(f"Operands must fit into {2**24} bytes, not {m * k + k * n}")
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, (m, k)).astype(np.int8)
    w = rng.integers(-128, 128, (k, n)).astype(np.int8)
    tell = Steps()
    try:
        done = mesh_gemm(x, w, mesh=mesh, algorithm=algorithm, seed=seed, progress=tell)
    except KernelError as error:
        raise Refused(str(error)) from None
    except (BuildError, ToolError, SimulationError, AccountError) as error:
        raise click.ClickException(str(error)) from None
    finally:
        tell.stop()
    size = f"{mesh[0]}x{mesh[1]}"
    rate = done.accounts["macs"] / (done.accounts["cycles"] * mesh[0] * mesh[1])
    result = {
        "matches_golden": done.matches_golden,
        **done.accounts,
        "macs_per_cycle_and_tile": rate,
        "wall_seconds": done.run.seconds,
        "config": {
            "m": m,
            "k": k,
            "n": n,
            "mesh": size,
            "algorithm": algorithm,
            "block": "x".join(map(str, done.block)),
            "sram_bytes": done.sram_bytes,
            "seed": seed,
        },
    }
    terminal = Console(stderr=json_file == "-", highlight=False)
    terminal.print(
        f"{m}x{k}x{n} on {size}, {algorithm}, blocks of {result['config']['block']}: "
        f"{result['cycles']:,} cycles, bound {result['bound_cycles']:,}; {rate:.2f} MAC per cycle "
        f"and tile, {result['mac_utilization']:.1%} of peak; "
        f"{'equal to' if done.matches_golden else 'DIFFERENT FROM'} NumPy",
        soft_wrap=True,
    )
    causes = result["cycles_by_cause"]
    shown = ", ".join(f"{name} {count:,}" for name, count in causes.items() if count)
    terminal.print(f"tile cycles: {shown}", soft_wrap=True)
    write_json(json_file, result)
    if not done.matches_golden:
        click.echo("error: the result differs from NumPy's", err=True)
        sys.exit(1)
