# SPDX-License-Identifier: BSD-2-Clause
"""Options of checkpoints: where a run is kept, and whether to go on from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from diptych_sim.command.options import Refused, check_file
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.processes import processes

__all__ = ["plan_checkpoint", "with_checkpoint"]

EVERY = 100_000
_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--checkpoint", help="File that keeps the run, with --engine lanes."),
    click.option(
        "--checkpoint-every",
        type=click.IntRange(1),
        help=f"Cycles from one checkpoint to the next.  [default: {EVERY}]",
    ),
    click.option("--resume", is_flag=True, help="Go on from the checkpoint of the same run."),
]


def with_checkpoint(command: Any) -> Any:
    """Add the options of checkpoints."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def plan_checkpoint(
    file: str | None,
    every: int | None,
    *,
    resume: bool,
    engine: str,
    stage: str,
    waves: str | None,
) -> Checkpoint | None:
    """Return what the options ask for, None for no checkpoint.

    Raises
    ------
    Refused
        If they contradict each other or the run.
    """
    if file is None:
        for option, given in (("--checkpoint-every", every is not None), ("--resume", resume)):
            if given:
                raise Refused(f"{option} must come with a file (--checkpoint)")
        return None
    if engine != "lanes" or stage != "decode":
        raise Refused(
            f"Checkpoint (--checkpoint) must come with --engine lanes and --stage decode, "
            f"not {engine} and {stage}"
        )
    if waves is not None:
        raise Refused(f"Checkpoint (--checkpoint) must come without --waves, not with {waves}")
    if processes() > 1:
        raise Refused(f"Checkpoint (--checkpoint) must come with one process, not {processes()}")
    check_file("Checkpoint", "--checkpoint", file)
    if resume and not Path(file).is_file():
        raise Refused(f"Checkpoint (--checkpoint) must be there to resume from, not {file}")
    return Checkpoint(file=Path(file), every=every or EVERY, resume=resume)
