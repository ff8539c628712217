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
DEFINITIONS = {"axi", "fabric", "frames", "isa", "operation", "vector_decode", "waits"}
"""Files of rtl/ with layouts, encodings and functions only."""


def test_names_are_unique():
    names = Counter(blocks.names())
    assert [name for name, count in names.items() if count > 1] == []


def test_each_file_of_rtl_has_a_name():
    names = set(blocks.names()) | DEFINITIONS
    files = [path for path in RTL.rglob("*.py") if path.stem != "__init__"]
    stems = Counter(path.stem for path in files)
    for path in files:
        # Rooms are told apart where two have a file of one name.
        room = {"systolic": "prefill", "mesh": "decode"}.get(path.parent.name, path.parent.name)
        alone = stems[path.stem] == 1 or path.stem in ("receiver", "transmitter")
        assert (path.stem if alone else f"{room}_{path.stem}") in names or path.stem == "isa", path
    assert stems.keys() >= DEFINITIONS


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
