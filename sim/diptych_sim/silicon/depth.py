# SPDX-License-Identifier: BSD-2-Clause
"""The depth of a block's logic, without placement and routing."""

from __future__ import annotations

import re

from diptych_sim.cache.store import cached_text, digest, temporary_folder
from diptych_sim.engine.emit import Source, emit_verilog

from .blocks import Block
from .measure import Progress, silicon_folder
from .tools import YOSYS, run_tool, versions

__all__ = ["depth", "depth_input"]

_STEP = re.compile(r"^ *\d+: \\?(\S+)")


def depth_input(block: Block, progress: Progress) -> str:
    """Return a digest of all that :func:`depth` depends on: Verilog, passes and Yosys' version."""
    return _task(block, progress)[2]


def depth(block: Block, progress: Progress) -> list[str]:
    """Return the nets of the longest path between registers, ports and synchronous memories.

    Its length is the number of levels: of LUTs with 4 inputs, each a level; a multiplier is one.
    Adders are made of LUTs, so that they count for more than their carries would.

    Raises
    ------
    ToolError
        If Yosys is not installed.
    BuildError
        If it fails.
    """
    sources, script, key = _task(block, progress)

    def find() -> str:
        progress(f"{block.name}: depth of logic")
        with temporary_folder(silicon_folder() / f"{block.name}-{key}") as work:
            for file, text in sources:
                (work / file).write_text(text)
            run_tool(YOSYS, ["-p", script], work, lambda _line: None)
            return (work / "depth.txt").read_text()

    text = cached_text(silicon_folder() / f"{block.name}-{key}.txt", find)
    steps = [match[1] for match in map(_STEP.match, text.splitlines()) if match]
    return steps[1:]  # without the start


def _task(block: Block, progress: Progress) -> tuple[list[Source], str, str]:
    """Return the sources, what Yosys is to do, and the digest of both and its version."""
    sources = emit_verilog(block.make, block.name, progress)
    script = "; ".join(
        [
            *(f"read_verilog -sv {file}" for file, _ in sources),
            "chformal -remove; delete t:$print",
            f"hierarchy -top {block.name}; proc; flatten; opt -fast; memory -nomap; opt -fast",
            "alumacc t:$mul %n; opt -fast; techmap t:$mul %n; opt -fast; abc -lut 4",
            "tee -o depth.txt ltp -noff",
        ]
    )
    texts = (part for source in sources for part in source)
    return sources, script, digest([versions(YOSYS)[YOSYS], script, *texts])
