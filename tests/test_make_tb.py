# SPDX-License-Identifier: BSD-2-Clause
"""``make tb BLOCK=name``: a name for each block of rtl/, and tests for each name."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import diptych
from support import blocks

RTL = Path(diptych.__path__[0])
RENAMED = {
    ("link", "receiver"): "link_receiver",
    ("link", "transmitter"): "link_transmitter",
    ("mesh", "panel"): "decode_panel",
    ("systolic", "panel"): "prefill_panel",
}
"""Names of blocks whose files are named as others in another room."""


def test_names_are_unique():
    names = Counter(blocks.names())
    assert [name for name, count in names.items() if count > 1] == []


def test_each_component_of_rtl_has_a_name():
    names = set(blocks.names())
    found = 0
    for path in RTL.rglob("*.py"):
        if "(wiring.Component)" in path.read_text(encoding="utf-8"):
            assert RENAMED.get((path.parent.name, path.stem), path.stem) in names, path
            found += 1
    assert found > 40


def test_each_name_has_tests():
    every = sorted({test for name in blocks.TESTED_WITH for test in blocks.targets(name) or ()})
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", *every]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_an_unknown_name_gives_one_line(capsys):
    assert blocks.main("nothing") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: BLOCK must be one of .* router .*, not 'nothing'\n", err)
