# SPDX-License-Identifier: BSD-2-Clause
"""Runs the tests of one block: ``python tests/support/blocks.py NAME [pytest options]``.

A name is that of a test file without ``test_``, or of a block of rtl/ that is tested with others.
"""

import subprocess
import sys
from pathlib import Path

__all__ = ["names", "targets"]

TESTS = Path(__file__).resolve().parents[1]
TILE = "mesh/test_tile.py::test_programs[{}]"
ARITH = "arith/test_arith.py::test_matches_the_golden_model[{}]"
ROUTER = ("color_arbiter", "combiner", "combiner_tree", "input_port", "route_table")
"""Parts of the router."""
TESTED_WITH = {
    # arith
    "carry_save": [TILE.format("core"), TILE.format("operand_sequencer"), "mesh/test_router.py"],
    "dot": [ARITH.format(f"dot8_of_{lanes}") for lanes in (1, 5, 8)],
    "exponential": [ARITH.format("exponential")],
    "functions": [ARITH.format("scale_function")],
    "noise": [ARITH.format("noise")],
    "one_hot": [ARITH.format("scale_function"), "mesh/test_router.py"],
    "requantize": [ARITH.format("requantizer")],
    "rope": [ARITH.format("rotate"), ARITH.format("planes")],
    "scale": ["arith/test_arith.py"],
    "silu": [ARITH.format("gate")],
    "square": [ARITH.format("square")],
    # link; two rooms have a receiver and a transmitter, and two a panel
    "channel": ["link/test_link.py"],
    "link_receiver": ["link/test_link.py"],
    "link_transmitter": ["link/test_link.py"],
    # memory
    "banked": [
        "memory/test_hbm.py",
        "systolic/test_accumulator.py",
        "systolic/test_scratchpad.py",
    ],
    # mesh
    **{name: ["mesh/test_router.py"] for name in ROUTER},
    "core": [TILE.format("core")],
    "core_monitor": [TILE.format("core_monitor")],
    "core_signals": ["mesh/test_tile.py"],
    "decode_panel": ["run/test_decode.py"],
    "element": [TILE.format("receiver"), TILE.format("vector_pipe")],
    "host_port": ["run/test_decode.py"],
    "instruction_queue": [TILE.format("overlap"), TILE.format("vector_pipe")],
    "operand_sequencer": [TILE.format("operand_sequencer")],
    "operation": ["mesh/test_tile.py"],
    "receiver": [TILE.format("receiver"), TILE.format("overlap")],
    "register_file": [TILE.format("core")],
    "scalar_instructions": [TILE.format("core"), TILE.format("overlap")],
    "tasks": [TILE.format("tasks"), "mesh/test_task_scheduler.py"],
    "transmitter": [TILE.format("transmitter")],
    "statistic": [TILE.format("vector_pipe")],
    "vector_pipe": [TILE.format("vector_pipe")],
    "vector_pipe_signals": [TILE.format("vector_pipe")],
    "word_queue": [TILE.format("receiver"), TILE.format("vector_pipe")],
    # systolic
    "dma_bursts": ["systolic/test_dma_load.py", "systolic/test_dma_store.py"],
    "dma_pieces": ["systolic/test_dma_load.py"],
    "dma_write": ["systolic/test_dma_store.py"],
    "matrix_fetch": ["systolic/test_matrix.py"],
    "matrix_tiles": ["systolic/test_matrix.py"],
    "memory_ports": ["systolic/test_vector.py"],
    "panel_with_hbm": ["systolic/test_prefill_panel.py"],
    "pe": ["systolic/test_array.py"],
    "row_statistics": ["systolic/test_vector.py"],
    "skew": ["systolic/test_matrix.py"],
    "vector_control": ["systolic/test_vector.py"],
    "vector_decode": ["systolic/test_vector.py"],
    "vector_lanes": ["systolic/test_vector.py"],
    "vector_reduce": ["systolic/test_vector.py"],
    # both panels
    "precompiled": ["engine/test_engine.py"],
    "system": ["run/test_generate.py"],
}
"""Tests of blocks that have no test file of their own, as pytest wants them."""

NO_TESTS = 5
"""Exit status of pytest if it selects none."""


def names() -> list[str]:
    """Return the names of all blocks."""
    return sorted([*TESTED_WITH, *(path.stem.removeprefix("test_") for path in _files())])


def targets(name: str) -> list[str] | None:
    """Return the tests of a block, as pytest wants them; ``None`` if there is no such block."""
    found = [str(path) for path in _files() if path.stem == f"test_{name}"]
    return found or [str(TESTS / test) for test in TESTED_WITH.get(name, ())] or None


def _files() -> list[Path]:
    return sorted(TESTS.rglob("test_*.py"))


def main(name: str, *options: str) -> int:
    """Run the tests of a block; return the exit status."""
    selected = targets(name)
    if selected is None:
        print(f"error: BLOCK must be one of {' '.join(names())}, not {name!r}", file=sys.stderr)
        return 2
    status = subprocess.call([sys.executable, "-m", "pytest", *options, *selected])
    if status == NO_TESTS:
        print(f"error: All tests of {name} are slow: add SLOW=1", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or [""])))
