# SPDX-License-Identifier: BSD-2-Clause
"""``diptych collective``."""

from __future__ import annotations

from typing import Any

import click

from diptych.mesh.fabric import Combine
from diptych_sim.account.mesh_kernels import account_collective
from diptych_sim.command.checkpoints import with_checkpoint
from diptych_sim.command.options import ENGINE, MESH, Refused, Size, check_file
from diptych_sim.command.running import close_kernel, running, size_text
from diptych_sim.command.waves import plan_waves, with_waves
from diptych_sim.compiler.collectives.compile import ALGORITHMS, Collective
from diptych_sim.compiler.collectives.plan import CollectiveError
from diptych_sim.cost.collectives import choose
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.names import Engine
from diptych_sim.run.backend import mesh_backend
from diptych_sim.run.collective import collective as run_collective
from diptych_sim.run.collective import random_vectors

__all__ = ["collective"]

COMBINES = {"add": Combine.ADD, "max": Combine.MAX, "argmax": Combine.ARGMAX}


@click.command()
@click.argument("operation", type=click.Choice(["broadcast", "reduce", "allreduce"]))
@click.option("--mesh", default="8x8", show_default=True, type=MESH)
@click.option("--words", default=64, show_default=True, type=int, help="Words of a vector.")
@click.option(
    "--algorithm",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", *ALGORITHMS]),
    help="auto: what the cost model finds fastest.",
)
@click.option(
    "--over",
    default="mesh",
    show_default=True,
    type=click.Choice(["mesh", "rows", "columns"]),
    help="Which tiles belong together.",
)
@click.option("--combine", default="add", show_default=True, type=click.Choice(list(COMBINES)))
@click.option("--hop-cycles", default=1, show_default=True, type=click.IntRange(1, 2))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**32 - 1))
@with_waves
@ENGINE
@with_checkpoint
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def collective(
    operation: Any,
    mesh: Size,
    words: int,
    algorithm: str,
    over: Any,
    combine: str,
    hop_cycles: int,
    seed: int,
    waves: str | None,
    first: int | None,
    last: int | None,
    blocks: str | None,
    engine: Engine,
    checkpoint: Checkpoint | None,
    json_file: str | None,
) -> None:
    """Broadcast, reduce or all-reduce random vectors, one in each tile of a mesh."""
    if words not in range(1, 2049):
        raise Refused(f"Words (--words) must be in range(1, 2049), not {words}")
    check_file("JSON file", "--json", json_file)
    recording = plan_waves(waves, first, last, blocks, mesh=mesh, decode_alone=True)
    with running(CollectiveError) as progress:
        c = Collective(
            operation=operation,
            algorithm="fabric" if algorithm == "auto" else algorithm,
            rows=mesh[0],
            columns=mesh[1],
            words=words,
            over=over,
            combine=COMBINES[combine],
            hop_cycles=hop_cycles,
        )
        if algorithm == "auto":
            c = choose(c)
        done = run_collective(
            c,
            random_vectors(c, seed),
            backend=mesh_backend(
                engine, waves=recording and recording.plan, seed=seed, progress=progress
            ),
            checkpoint=checkpoint,
        )
        accounts = account_collective(done)
    size = size_text(mesh)
    result: dict[str, Any] = {
        "matches_golden": done.matches_golden,
        **accounts,
        "wall_seconds": done.run.seconds,
        "config": {
            "operation": operation,
            "mesh": size,
            "words": words,
            "algorithm": c.algorithm,
            "over": over,
            "combine": combine,
            "hop_cycles": hop_cycles,
            "seed": seed,
            "engine": engine,
        },
    }
    cycles, bound, published = (
        result[name] for name in ("cycles", "bound_cycles", "published_cycles")
    )
    headline = (
        f"{operation} of {words} words on {size}, {c.algorithm}: {cycles:,} cycles; bound "
        f"{bound:,}, predicted {result['predicted_cycles']:,}"
    )
    if published is not None:
        headline += f", published formula {published:,}"
    close_kernel(result, headline, json_file, recording)
