# SPDX-License-Identifier: BSD-2-Clause
"""Pages of the projection: what they say that a command prints is what it prints.

``python tests/docs/test_projection_pages.py`` writes what the commands print into the pages.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from diptych_sim.cost.systems.schema import FIELDS
from support.page_examples import ROOT

PAGES = ("why-split",)
SHOWN = re.compile(
    r"^```console\n\$ (diptych [^\n]*)\n```\n\n```text\n(.*?)```$", re.MULTILINE | re.DOTALL
)


def path_of(page):
    return ROOT / "docs" / f"{page}.md"


def printed(line):
    """Return what a command prints, on a terminal of 80 columns."""
    command = [str(Path(sys.executable).with_name("diptych")), *line.split()[1:]]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"COLUMNS": "80", "PATH": ""}
    )
    return "".join(f"{row.rstrip()}\n" for row in done.stdout.splitlines())


SHOWN_ON_PAGES = [
    (page, line, text)
    for page in PAGES
    for line, text in SHOWN.findall(path_of(page).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(
    ("page", "line", "text"),
    SHOWN_ON_PAGES,
    ids=[f"{p}-{n}" for n, (p, _, _) in enumerate(SHOWN_ON_PAGES)],
)
def test_commands_print_what_the_page_says(page, line, text):
    assert printed(line) == text


def test_the_page_has_every_field():
    text = path_of("projection").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(FIELDS) <= named


if __name__ == "__main__":
    for page in PAGES:
        text = path_of(page).read_text(encoding="utf-8")
        path_of(page).write_text(
            SHOWN.sub(
                lambda found: f"```console\n$ {found[1]}\n```\n\n```text\n{printed(found[1])}```",
                text,
            ),
            encoding="utf-8",
        )
