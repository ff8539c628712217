# SPDX-License-Identifier: BSD-2-Clause
"""Every command of examples/README.md prints the text below it.

Faults that were planted and seen to fail: a changed number of a tile, a block that does not clear its total after the last
element of a row, another mesh in the sweep.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from diptych_sim.compiler.mesh_kernels.custom_program import TileContents, compile_program
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.kernel import KernelError
from diptych_sim.compiler.tile.routes import RouteEntry

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(
    r"^```console\n\$ \.venv/bin/python (.*?)\n```\n\n```text\n(.*?)^```$",
    (ROOT / "examples" / "README.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize(("command", "printed"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_prints_the_text_of_the_page(command, printed):
    # Under pytest a simulation writes its log to the standard output.
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    done = subprocess.run(
        [sys.executable, *shlex.split(command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed


def test_every_script_is_on_the_page():
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*.py")}
    assert scripts <= {shlex.split(command)[0] for command, _ in EXAMPLES}


@pytest.mark.parametrize(
    ("tiles", "result", "message"),
    [
        ([], (0, 1), "Rows of tiles must have one length, at least 1, not []"),
        (
            [[TileContents()], []],
            (0, 1),
            "Rows of tiles must have one length, at least 1, not [1, 0]",
        ),
        (
            [[TileContents()]],
            (24572, 2),
            (
                "Result must be at least one word at a multiple of 4 in range(24576), "
                "not 2 words at 24572"
            ),
        ),
        (
            [[TileContents(routes={9: RouteEntry()})]],
            (0, 1),
            "Color of a route of tile (0, 0) must be in range(1, 9), not 9",
        ),
        (
            [[TileContents(routes={1: RouteEntry(then=(RouteEntry(),))})]],
            (0, 1),
            "Color 1 of tile (0, 0) must have one switch position",
        ),
    ],
)
def test_refuses_contents_that_do_not_fit(tiles, result, message):
    address, words = result
    with pytest.raises(KernelError, match=f"^{re.escape(message)}$"):
        compile_program(Assembler(), tiles, result_address=address, result_words=words)
