# SPDX-License-Identifier: BSD-2-Clause
"""``diptych quadrants``: mistakes in one line, before anything is built."""

import re

import pytest

from support.command import command

MISTAKES = [
    (
        ["--mesh", "3x3"],
        "Mesh must have as many MACs as an array of powers of two .*, not 72 of .*",
    ),
    (
        ["--mesh", "5x5", "--array", "8x8"],
        "Array and mesh must have equal MACs: 8x8 has 64, 5x5 tiles have 200",
    ),
    (
        ["--prompt-tokens", "300", "--tokens", "300"],
        r"Prompt \(--prompt-tokens\) and answer .* must fit into .* 512, not 300 and 300 tokens",
    ),
    (["--batch", "9"], ".*--batch.*"),
    (["--tokens", "0"], ".*--tokens.*"),
    (["--clock-mhz", "nan"], ".*--clock-mhz.*must be a number, not nan"),
    (["--link-bytes-per-cycle", "5"], ".*--link-bytes-per-cycle.*"),
    (["--model", "llama-3.1-8b"], "Model llama-3.1-8b must be .*, not missing"),
    (["--out", ""], r"Result folder \(--out\) must be a folder, not ''"),
    (["--json", "/nowhere/x"], r"JSON file \(--json\) must be in a folder that exists, .*"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_refuses(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(capsys, monkeypatch, "quadrants", *arguments)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {message}\n", err), err
    assert not list(tmp_path.iterdir())
