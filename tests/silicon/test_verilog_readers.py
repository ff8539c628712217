# SPDX-License-Identifier: BSD-2-Clause
"""Other tools read the Verilog: Verilator's lint but for the rules in docs/silicon.md, Yosys, Icarus.

An instance of a module that is in none of the files was seen to fail Verilator's lint and Icarus.
"""

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from diptych.config import MachineConfig
from diptych.system import System
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.environment import tool_environment
from diptych_sim.engine.toolchain import find_toolchain
from diptych_sim.silicon.blocks import BLOCKS
from diptych_sim.silicon.tools import YOSYS, run_tool

PAGE = Path(__file__).parents[2] / "docs" / "silicon.md"
ICARUS = shutil.which("iverilog")
RULES = re.findall(r"^\| `([A-Z]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)


def _lint(folder, top, files, rules):
    tools = find_toolchain()
    command = [tools.verilator, "--lint-only", "-Wall", "--top-module", top]
    done = subprocess.run(
        [*command, *(f"-Wno-{rule}" for rule in rules), *files],
        cwd=folder,
        env=tool_environment(VERILATOR_ROOT=str(tools.root)),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, set(re.findall(r"^%Warning-([A-Z]+)", done.stderr, re.MULTILINE))


def _compile_with_icarus(folder, top, files):
    """Return the exit status and all that is printed."""
    done = subprocess.run(
        [str(ICARUS), "-g2012", "-Wall", "-s", top, "-o", "netlist.vvp", *files],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _write(folder, sources):
    for file, text in sources:
        (folder / file).write_text(text)
    return [file for file, _ in sources]


@pytest.mark.parametrize("name", ["stream_buffer", "pe", "queues", "link"])
def test_tools_read_a_block(name, tmp_path):
    files = _write(tmp_path, emit_verilog(BLOCKS[name].make, name))
    assert _lint(tmp_path, name, files, RULES) == (0, set())
    script = [*(f"read_verilog -sv {file}" for file in files), f"hierarchy -check -top {name}"]
    run_tool(YOSYS, ["-p", "; ".join(script)], tmp_path, lambda _line: None)


@pytest.mark.slow
def test_tools_read_the_machine(tmp_path):
    machine = MachineConfig(array=(4, 4), mesh=(2, 2))
    sources = emit_verilog(partial(System, 4, 4, 2, 2, **machine.system_parameters), "system")
    files = _write(tmp_path, sources)
    assert _lint(tmp_path, "system", files, RULES) == (0, set())
    assert _lint(tmp_path, "system", files, ())[1] == set(RULES)  # none is needless
    script = [*(f"read_verilog -sv {file}" for file in files), "hierarchy -check -top system"]
    run_tool(YOSYS, ["-p", "; ".join(script)], tmp_path, lambda _line: None)


@pytest.mark.skipif(ICARUS is None, reason="Icarus is not there (Debian: apt install iverilog)")
@pytest.mark.parametrize("name", ["stream_buffer", "pe", "vector", "dma_load", "link", "router"])
def test_icarus_reads_a_block(name, tmp_path):
    files = _write(tmp_path, emit_verilog(BLOCKS[name].make, name))
    assert _compile_with_icarus(tmp_path, name, files) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(ICARUS is None, reason="Icarus is not there (Debian: apt install iverilog)")
def test_icarus_reads_the_machine(tmp_path):
    machine = MachineConfig(array=(4, 4), mesh=(2, 2))
    sources = emit_verilog(partial(System, 4, 4, 2, 2, **machine.system_parameters), "system")
    files = _write(tmp_path, sources)
    assert _compile_with_icarus(tmp_path, "system", files) == (0, "")
