# SPDX-License-Identifier: BSD-2-Clause
"""``diptych gemm --mesh``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych_sim.account.mesh_kernels import account_kernel
from diptych_sim.command.options import Refused, Size
from diptych_sim.command.running import close_kernel, running, size_text
from diptych_sim.compiler.tile.kernel import KernelError
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.names import Engine
from diptych_sim.run.backend import mesh_backend
from diptych_sim.run.mesh_gemm import mesh_gemm

__all__ = ["gemm_on_mesh", "random_activations"]


def random_activations(
    rng: np.random.Generator, shape: tuple[int, int], bits: int
) -> NDArray[np.int8] | NDArray[np.int16]:
    """Return numbers of 8 or 12 bits."""
    drawn = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
    return drawn.astype(np.int8) if bits == 8 else drawn.astype(np.int16)


def gemm_on_mesh(
    m: int,
    k: int,
    n: int,
    *,
    mesh: Size,
    algorithm: str,
    activation_bits: int,
    seed: int,
    engine: Engine,
    checkpoint: Checkpoint | None,
    json_file: str | None,
) -> None:
    """Multiply random matrices on the decode panel, from tiles to tiles."""
    if m * k + k * n > 2**24:
        raise Refused(f"Operands must fit into {2**24} bytes, not {m * k + k * n}")
    rng = np.random.default_rng(seed)
    x = random_activations(rng, (m, k), activation_bits)
    w = rng.integers(-128, 128, (k, n)).astype(np.int8)
    with running(KernelError) as progress:
        done = mesh_gemm(
            x,
            w,
            mesh=mesh,
            algorithm=algorithm,
            backend=mesh_backend(engine, seed=seed, progress=progress),
            checkpoint=checkpoint,
        )
        accounts = account_kernel(done.kernel)
    size = size_text(mesh)
    rate = accounts["macs"] / (accounts["cycles"] * mesh[0] * mesh[1])
    block = "x".join(map(str, done.block))
    result = {
        "matches_golden": done.matches_golden,
        **accounts,
        "macs_per_cycle_and_tile": rate,
        "wall_seconds": done.kernel.run.seconds,
        "config": {
            "m": m,
            "k": k,
            "n": n,
            "mesh": size,
            "algorithm": algorithm,
            "activation_bits": activation_bits,
            "block": block,
            "sram_bytes": done.sram_bytes,
            "seed": seed,
            "engine": engine,
        },
    }
    headline = (
        f"{m}x{k}x{n} on {size}, {algorithm}, blocks of {block}: {result['cycles']:,} cycles, "
        f"bound {result['bound_cycles']:,}; {rate:.2f} MAC per cycle and tile, "
        f"{result['mac_utilization']:.1%} of peak"
    )
    close_kernel(result, headline, json_file)
