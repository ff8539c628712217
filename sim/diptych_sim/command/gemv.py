# SPDX-License-Identifier: BSD-2-Clause
"""``diptych gemv``."""

from __future__ import annotations

import click
import numpy as np

from diptych_sim.account.mesh_kernels import account_kernel
from diptych_sim.command.checkpoints import with_checkpoint
from diptych_sim.command.options import (
    ENGINE,
    MESH,
    Refused,
    Size,
    check_file,
)
from diptych_sim.command.running import close_kernel, running, size_text
from diptych_sim.command.waves import plan_waves, with_waves
from diptych_sim.compiler.tile.kernel import KernelError
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.names import Engine
from diptych_sim.run.backend import mesh_backend
from diptych_sim.run.mesh_gemv import gemv as run_gemv

__all__ = ["gemv"]

LARGEST = 2**16


@click.command()
@click.argument("k", type=int)
@click.argument("n", type=int)
@click.option("--mesh", default="8x8", show_default=True, type=MESH, help="Decode panel.")
@click.option(
    "--sram-bytes", default=None, type=int, help="SRAM of a tile.  [default: what is needed]"
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**32 - 1))
@with_waves
@ENGINE
@with_checkpoint
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def gemv(
    k: int,
    n: int,
    mesh: Size,
    sram_bytes: int | None,
    seed: int,
    waves: str | None,
    first: int | None,
    last: int | None,
    blocks: str | None,
    engine: Engine,
    checkpoint: Checkpoint | None,
    json_file: str | None,
) -> None:
    """Multiply a random int8 matrix [N, K] by a vector [K] on the decode panel.

    The vector is in the tiles, split along the columns of the mesh; the int32 result stays in
    them, split along the rows.
    """
    for name, size in (("K", k), ("N", n)):
        if size not in range(1, LARGEST + 1):
            raise Refused(f"{name} must be in range(1, {LARGEST + 1}), not {size}")
    if k * n > 2**26:
        raise Refused(f"K times N must be at most {2**26}, not {k * n}")
    if sram_bytes is not None and sram_bytes not in range(256, 65537, 256):
        raise Refused(f"SRAM must be a multiple of 256 bytes up to 65536, not {sram_bytes}")
    check_file("JSON file", "--json", json_file)
    recording = plan_waves(waves, first, last, blocks, mesh=mesh, decode_alone=True)
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, k).astype(np.int8)
    w = rng.integers(-128, 128, (n, k)).astype(np.int8)
    with running(KernelError) as progress:
        done = run_gemv(
            x,
            w,
            mesh=mesh,
            sram_bytes=sram_bytes,
            backend=mesh_backend(
                engine, waves=recording and recording.plan, seed=seed, progress=progress
            ),
            checkpoint=checkpoint,
        )
        accounts = account_kernel(done.kernel)
    size = size_text(mesh)
    result = {
        "matches_golden": done.matches_golden,
        **accounts,
        "wall_seconds": done.kernel.run.seconds,
        "config": {
            "k": k,
            "n": n,
            "mesh": size,
            "sram_bytes": done.sram_bytes,
            "seed": seed,
            "engine": engine,
        },
    }
    headline = (
        f"{n}x{k} by {k} on {size}: {result['cycles']:,} cycles, bound "
        f"{result['bound_cycles']:,}; {result['mac_utilization']:.1%} of peak"
    )
    close_kernel(result, headline, json_file, recording)
