# SPDX-License-Identifier: BSD-2-Clause
"""``diptych compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from diptych_sim.command.options import Refused, check_file, write_json
from diptych_sim.report.compare import compare as changes_of
from diptych_sim.report.compare import print_comparison
from diptych_sim.report.console import console
from diptych_sim.run.folder import NoRunError, read_run

__all__ = ["compare"]


def _result(folder: str) -> dict[str, Any]:
    try:
        run = read_run(Path(folder))
    except NoRunError as error:
        raise Refused(str(error)) from None
    if run.result is None:
        raise Refused(f"Run folder must hold a complete run, not {folder}: it was cut off")
    return run.result


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--json", "json_file", default=None, help="Write the changes; - for stdout.")
def compare(before: str, after: str, json_file: str | None) -> None:
    """Say what changed from run A to run B, folders that `generate --out` left: also by operation."""
    check_file("JSON file", "--json", json_file)
    changes = changes_of(_result(before), _result(after))
    print_comparison(changes, console(stderr=json_file == "-"))
    write_json(json_file, changes)
