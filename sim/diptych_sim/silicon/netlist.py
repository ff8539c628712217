# SPDX-License-Identifier: BSD-2-Clause
"""Gates in place of a module, to run the testbenches of its source with."""

from __future__ import annotations

from collections.abc import Sequence

from diptych_sim.cache.store import cached_text, digest, temporary_folder
from diptych_sim.engine.emit import Source

from .measure import Progress, silicon_folder
from .tools import YOSYS, run_tool, versions

__all__ = ["with_netlist"]


def with_netlist(sources: Sequence[Source], module: str, progress: Progress) -> list[Source]:
    """Return a design in which a module, that of a file of its own, is gates and registers.

    Its hierarchy is flat and its logic is that of Yosys and ABC; memories stay memories.

    Parameters
    ----------
    sources : sequence of Source
        The design, as :func:`.emit_verilog` returns it.
    module : str
        The module; ``<module>.v`` is among the files.
    progress : callable
        Is told what is done.

    Raises
    ------
    ToolError
        If Yosys is not installed.
    BuildError
        If it fails.
    """
    script = "; ".join(
        [
            *(f"read_verilog -sv {file}" for file, _ in sources),
            "chformal -remove; delete t:$print",
            f"synth -flatten -top {module} -run begin:fine",
            "opt -fast -full; techmap; opt -fast; abc -g AND,OR,XOR,MUX; opt_clean",
            "write_verilog -noattr netlist.v",
        ]
    )
    key = digest([versions(YOSYS)[YOSYS], script, *(part for source in sources for part in source)])

    def synthesize() -> str:
        progress(f"{module}: netlist")
        with temporary_folder(silicon_folder() / f"{module}-{key}") as work:
            for file, text in sources:
                (work / file).write_text(text)
            run_tool(YOSYS, ["-p", script], work, lambda _line: None)
            return (work / "netlist.v").read_text()

    netlist = cached_text(silicon_folder() / f"{module}-{key}.v", synthesize)
    return [(file, netlist if file == f"{module}.v" else text) for file, text in sources]
