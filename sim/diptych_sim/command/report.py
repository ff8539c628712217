# SPDX-License-Identifier: BSD-2-Clause
"""``diptych report``."""

from __future__ import annotations

import json
from pathlib import Path

import click
import jinja2

from diptych_sim.command.options import Refused, check_file, check_folder
from diptych_sim.report.derived import DERIVED, REPORT, write_derived
from diptych_sim.report.whole_file import write_whole
from diptych_sim.run.folder import QUADRANTS, NoRunError, read_run

__all__ = ["report"]


@click.command()
@click.argument("folder", metavar="DIR")
@click.option(
    "--html", "target", default=None, help="File to write; DIR/report.html unless it is given."
)
def report(folder: str, target: str | None) -> None:
    """Write the report of a run that `generate --out DIR` left, as one HTML file.

    Timeline and tables in DIR are written anew, too. What `quadrants --out DIR` left is drawn, too.
    """
    if (Path(folder) / QUADRANTS).is_file():
        _draw_quadrants(Path(folder), target)
        return
    # Not above: what draws takes a second to import, which other commands need not wait for.
    from diptych_sim.report.html import html_report

    try:
        run = read_run(Path(folder))
    except NoRunError as error:
        raise Refused(str(error)) from None
    check_folder("Run folder", "DIR", folder, DERIVED)
    path = Path(target) if target is not None else Path(folder) / REPORT
    check_file("Report", "--html", str(path))
    write_whole(path, html_report(run))
    others = ", ".join(file.name for file in write_derived(run))
    partial = "; partial, as the run was cut off" if run.result is None else ""
    click.echo(f"Report {path}{partial}; with it {others}")


def _draw_quadrants(folder: Path, target: str | None) -> None:
    from diptych_sim.report.quadrants_page import quadrants_page

    path = Path(target) if target is not None else folder / REPORT
    check_file("Report", "--html", str(path))
    try:
        page = quadrants_page(json.loads((folder / QUADRANTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, jinja2.UndefinedError) as error:
        raise Refused(
            f"Run folder must hold a whole result of quadrants, not {folder}: {QUADRANTS}: {error!r:.80}"
        ) from None
    write_whole(path, page)
    click.echo(f"Report {path}")
