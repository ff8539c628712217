# SPDX-License-Identifier: BSD-2-Clause
"""The documentation is true: examples print what it says, commands and links exist, causes are all.

A wrong value in a timing diagram, an option that is gone and a cause that is missing were each put
in by hand and seen to fail.
"""

import os
import re
import shlex
import subprocess
import sys

import click
import pytest

from diptych.link.link import LINK_CAUSES
from diptych.mesh.core import CAUSES
from diptych_sim import cli
from diptych_sim.account.generation import ENGINE_CAUSES
from support.blocks import targets
from support.page_examples import ROOT, commands, examples, pages, run

PAGES = pages()
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_examples_print_what_the_page_says(path):
    names = {}
    for example in examples(path.read_text(encoding="utf-8")):
        printed = run(example, path, names)
        if example.printed is not None:
            assert printed == example.printed, f"{path.name}, line {example.line}"


def _check_command(words):
    if words[0] == "make":
        done = subprocess.run(
            ["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return
    if words[0] == "mpirun":
        words = words[words.index("diptych") :]
    assert words[0] in {"diptych", ".venv/bin/diptych", "gtkwave", "surfer", "pip"}, words
    if words[0].endswith("diptych"):
        if words[1] in ("--processes", "--threads"):
            words = [words[0], *words[3:]]
        command = cli.cli.get_command(click.Context(cli.cli), words[1])
        assert command is not None, words
        if "--help" not in words:
            # Parses every option and value, and runs nothing.
            command.make_context(words[1], words[2:])


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_commands_exist(path):
    for line in commands(path.read_text(encoding="utf-8")):
        _check_command(shlex.split(line, comments=True))


COMMANDS = [
    (path.name, line)
    for path in PAGES
    for line in commands(path.read_text(encoding="utf-8"))
    if line.startswith("diptych ") and "--processes" not in line  # which needs an MPI
]


NOT_OURS = "--model stories260K.bin --tokenizer tok512.bin "
"""A model that is not ours to ship: the bundled one, of the same size, stands for it."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "line"), COMMANDS)
def test_commands_run(name, line, tmp_path):
    words = shlex.split(line.replace(NOT_OURS, ""), comments=True)
    command = [sys.executable, "-c", "from diptych_sim.cli import main; main()", *words[1:]]
    few = os.environ | {"DIPTYCH_RUNS": "12"}  # of bench cost, a twentieth
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=few, check=False
    )
    assert done.returncode == 0, f"{name}: {done.stderr}"
    for option in ("--out", "--waves"):
        if option in words:
            assert (tmp_path / words[words.index(option) + 1]).exists()


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_links_and_testbenches_exist(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)|src=\"([^\"]+)\"", text):
        target = target[0] or target[1]
        if not target.startswith("https://"):
            assert (path.parent / target).exists(), target
    for name in re.findall(r"`make tb BLOCK=(\w+)`", text):
        assert targets(name), name


def test_the_index_leads_to_every_page():
    seen = set()
    waiting = [ROOT / "docs" / "index.md"]
    while waiting:
        path = waiting.pop().resolve()
        if path in seen:
            continue
        seen.add(path)
        targets = re.findall(r"\]\(([^)#:]+\.md)", path.read_text(encoding="utf-8"))
        waiting += [path.parent / target for target in targets]
    assert {path for path in PAGES if path.name != "README.md"} <= seen


@pytest.mark.parametrize(
    ("page", "causes"),
    [
        ("matrix", ENGINE_CAUSES["matrix"]),
        ("vector", ENGINE_CAUSES["vector"]),
        ("load-store", (*ENGINE_CAUSES["load"], *ENGINE_CAUSES["store"])),
        ("link", LINK_CAUSES),
        ("tile", CAUSES),
    ],
)
def test_pages_have_every_cause(page, causes):
    text = (ROOT / "docs" / "blocks" / f"{page}.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == sorted(causes)
