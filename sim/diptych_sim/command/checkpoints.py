# SPDX-License-Identifier: BSD-2-Clause
"""Options of checkpoints: where a run is saved, and whether to go on from there."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from diptych_sim.command.options import Refused, check_file
from diptych_sim.engine.lanes.checkpoint import Checkpoint

__all__ = ["with_checkpoint"]

EVERY = 100_000
_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--checkpoint",
        "checkpoint_file",
        help="File that the run is saved in, with --engine lanes.",
    ),
    click.option(
        "--checkpoint-every",
        type=click.IntRange(1),
        help=f"Cycles from one checkpoint to the next.  [default: {EVERY}]",
    ),
    click.option("--resume", is_flag=True, help="Go on from the checkpoint of the same run."),
]


def with_checkpoint(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of checkpoints; the command gets ``checkpoint``, a Checkpoint or None.

    The command has options ``engine`` and ``json_file``; it may have ``waves`` and ``stage``.
    """

    @wraps(command)
    def planned(
        checkpoint_file: str | None, checkpoint_every: int | None, resume: bool, **options: Any
    ) -> Any:
        checkpoint = _plan(checkpoint_file, checkpoint_every, resume, options)
        return command(checkpoint=checkpoint, **options)

    for option in reversed(_OPTIONS):
        planned = option(planned)
    return planned


def _plan(
    file: str | None, every: int | None, resume: bool, options: dict[str, Any]
) -> Checkpoint | None:
    if file is None:
        for option, given in (("--checkpoint-every", every is not None), ("--resume", resume)):
            if given:
                raise Refused(f"{option} requires a file (--checkpoint)")
        return None
    what = "Checkpoint (--checkpoint)"
    if options["engine"] != "lanes":
        raise Refused(f"{what} requires --engine lanes, not {options['engine']}")
    if options.get("stage") == "prefill":
        raise Refused(f"{what} requires a stage that runs the mesh, not prefill")
    if options.get("waves") is not None:
        raise Refused(f"{what} excludes --waves, not {options['waves']}")
    check_file("Checkpoint", "--checkpoint", file)
    if file == "-" or (Path(file).exists() and not Path(file).is_file()):
        raise Refused(f"{what} must be a file that can be replaced, not {file}")
    if options["json_file"] not in (None, "-") and Path(options["json_file"]) == Path(file):
        raise Refused(f"{what} must not be the JSON file (--json), {file}")
    if resume and not Path(file).is_file():
        raise Refused(f"{what} must be there to resume from, not {file}")
    return Checkpoint(file=file, every=every or EVERY, resume=resume)
