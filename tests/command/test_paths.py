# SPDX-License-Identifier: BSD-2-Clause
"""Paths with what shells, make, rich and URLs take apart: they work, and messages keep them whole."""

import json
import subprocess

import pytest

from support.command import DIPTYCH
from support.hf_folder import write_folder

NAMES = {
    "shell": "a 'b\" $HOME `id` #;&*?\\",
    "markup": "[red]{}%s é ",
    "newline": "-line\nbreak",
}
DECODE = (
    *("generate", "--stage", "decode", "--engine", "lanes", "--no-trace"),
    *("--mesh", "2x2", "--prompt", "the", "--tokens", "2"),
)


def ran(folder, *arguments):
    done = subprocess.run(
        [DIPTYCH, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(params=NAMES)
def odd(request, tmp_path):
    folder = tmp_path / NAMES[request.param]
    folder.mkdir()
    return folder


def test_of_a_model_and_of_results(odd, tmp_path):
    model, out = write_folder(odd / "model"), odd / "out"
    status, _, err = ran(tmp_path, *DECODE, "--model", model, "--out", str(out))
    assert status == 0, err
    result = json.loads((out / "result.json").read_text())
    assert result["matches_golden"]
    status, text, err = ran(tmp_path, "report", str(out))
    assert (status, err) == (0, "")
    assert str(out) in text
    assert {path.name for path in odd.iterdir()} == {"model", "out"}


@pytest.mark.parametrize("engine", ["verilator", "lanes"])
def test_of_the_current_folder(odd, engine):
    reduce = ("collective", "allreduce", "--mesh", "1x2", "--words", "3", "--engine", engine)
    status, _, err = ran(odd, *reduce, "--json", "result.json")
    assert status == 0, err
    assert json.loads((odd / "result.json").read_text())["matches_golden"]
    assert [path.name for path in odd.iterdir()] == ["result.json"]


def test_of_what_is_not_there(odd, tmp_path):
    file = odd / "file"
    file.touch()
    for arguments in (
        ("evaluate", "--model", str(odd / "none")),
        ("report", str(odd / "none")),
        (*DECODE, "--out", str(file / "out")),
    ):
        status, text, err = ran(tmp_path, *arguments)
        assert (status, text) == (2, "")
        lines = err.splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        # A message is one line, whatever it names.
        assert " ".join(str(odd).split()) in lines[0]
    assert list(odd.iterdir()) == [file]
