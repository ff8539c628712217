# SPDX-License-Identifier: BSD-2-Clause
"""``diptych gemm``."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from diptych.config import MachineConfig
from diptych_sim.account.array_gemm import account_array_gemm
from diptych_sim.command.checkpoints import with_checkpoint
from diptych_sim.command.mesh_gemm import gemm_on_mesh, random_activations
from diptych_sim.command.options import (
    ARRAY,
    ENGINE,
    MESH,
    WEIGHT_ROWS,
    Refused,
    Size,
    check_file,
    check_weight_rows,
    given,
)
from diptych_sim.command.running import close_kernel, running, size_text
from diptych_sim.compiler.array_gemm.compile import GemmError
from diptych_sim.compiler.mesh_kernels.gemm import ALGORITHMS
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.names import Engine
from diptych_sim.run.array_gemm import gemm as run_gemm

__all__ = ["gemm"]

LARGEST = 2**16
ARRAY_ONLY = ("array", "hbm_bytes_per_cycle", "hbm_latency", "weight_rows", "bias")
MESH_ONLY = ("algorithm",)
"""Options that only one of the panels has."""


def _check_panel(mesh: Size | None) -> None:
    """Refuse options that the panel does not have."""
    others, verb = (MESH_ONLY, "requires") if mesh is None else (ARRAY_ONLY, "excludes")
    for flag in given(others):
        raise Refused(f"{flag} {verb} a mesh (--mesh)")


@click.command()
@click.argument("m", type=int)
@click.argument("k", type=int)
@click.argument("n", type=int)
@click.option("--array", default="16x16", show_default=True, type=ARRAY, help="Prefill panel.")
@click.option("--mesh", default=None, type=MESH, help="Decode panel, instead of the prefill panel.")
@click.option(
    "--algorithm",
    default="shift",
    show_default=True,
    type=click.Choice(ALGORITHMS),
    help="On a mesh.",
)
@click.option(
    "--activation-bits",
    default="8",
    show_default=True,
    type=click.Choice(["8", "12"]),
    help="Of X; of 12 bits the prefill panel reads two bytes each.",
)
@click.option("--hbm-bytes-per-cycle", default=64, show_default=True, type=int)
@click.option("--hbm-latency", default=100, show_default=True, type=int)
@WEIGHT_ROWS
@ENGINE
@with_checkpoint
@click.option("--bias", is_flag=True, help="Add an int32 to each column.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**32 - 1))
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def gemm(
    m: int,
    k: int,
    n: int,
    array: Size,
    mesh: Size | None,
    algorithm: str,
    activation_bits: str,
    hbm_bytes_per_cycle: int,
    hbm_latency: int,
    weight_rows: int,
    engine: Engine,
    checkpoint: Checkpoint | None,
    bias: bool,
    seed: int,
    json_file: str | None,
) -> None:
    """Multiply random matrices X [M, K] and int8 [K, N] on the prefill panel, from HBM to HBM."""
    _check_panel(mesh)
    for name, size in (("M", m), ("K", k), ("N", n)):
        if size not in range(1, LARGEST + 1):
            raise Refused(f"{name} must be in range(1, {LARGEST + 1}), not {size}")
    if hbm_bytes_per_cycle not in range(1, 65):
        raise Refused(
            f"Bandwidth (--hbm-bytes-per-cycle) must be 1 to 64, not {hbm_bytes_per_cycle}"
        )
    if hbm_latency not in range(4, 10001):
        raise Refused(f"Latency (--hbm-latency) must be 4 to 10000 cycles, not {hbm_latency}")
    check_weight_rows(weight_rows, array)
    check_file("JSON file", "--json", json_file)
    if mesh is not None:
        gemm_on_mesh(
            m,
            k,
            n,
            mesh=mesh,
            algorithm=algorithm,
            activation_bits=int(activation_bits),
            seed=seed,
            engine=engine,
            checkpoint=checkpoint,
            json_file=json_file,
        )
        return
    if checkpoint is not None:
        raise Refused("Checkpoint (--checkpoint) requires a mesh (--mesh)")
    rng = np.random.default_rng(seed)
    if m * k + k * n > 2**24:
        raise Refused(f"Operands must fit into {2**24} bytes of HBM, not {m * k + k * n}")
    x = random_activations(rng, (m, k), int(activation_bits))
    w = rng.integers(-128, 128, (k, n)).astype(np.int8)
    biases = rng.integers(-(2**31), 2**31, n).astype(np.int32) if bias else None
    with running(GemmError) as progress:
        done = run_gemm(
            x,
            w,
            biases,
            machine=MachineConfig(
                array=array,
                hbm_bytes_per_cycle=hbm_bytes_per_cycle,
                hbm_latency=hbm_latency,
                weight_rows=weight_rows,
            ),
            engine=engine,
            seed=seed,
            progress=progress,
        )
        accounts = account_array_gemm(done)
    size = size_text(array)
    result: dict[str, Any] = {
        "matches_golden": done.matches_golden,
        **accounts,
        "wall_seconds": done.run.seconds,
        "config": {
            "m": m,
            "k": k,
            "n": n,
            "array": size,
            "hbm_bytes_per_cycle": hbm_bytes_per_cycle,
            "hbm_latency": hbm_latency,
            "weight_rows": weight_rows,
            "activation_bits": int(activation_bits),
            "bias": bias,
            "seed": seed,
        },
    }
    headline = (
        f"{m}x{k}x{n} on {size}: {result['cycles']:,} cycles, bound {result['bound_cycles']:,} "
        f"({result['bound_cycles'] / result['cycles']:.1%}), cost model "
        f"{result['predicted_cycles']:,}; {result['mac_utilization']:.1%} of peak"
    )
    read, program = result["bytes"]["hbm_read"], result["program_bytes"]
    moved = (
        f"HBM reads {read - program:,} bytes of operands, "
        f"{(read - program) / result['operand_bytes']:.2f} times their size, and {program:,} of "
        f"the program; writes {result['bytes']['hbm_write']:,}"
    )
    close_kernel(result, headline, json_file, cycles_of="array", details=moved)
