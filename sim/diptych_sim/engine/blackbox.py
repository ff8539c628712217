# SPDX-License-Identifier: BSD-2-Clause
"""Leaves a module out of a simulator: something else computes it, as lanes do a mesh.

In the design a shell stands for the module. At each rising edge of the clock it hands the inputs
to a function that the testbench has attached, and takes the outputs from it: exact, cycle for
cycle, as each output of the module is a register.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .emit import Source
from .errors import BuildError
from .shared_modules import SharedModule, escaped, reachable, total_words

__all__ = ["BlackboxModule", "replace_by_shell"]

GLUE = (Path(__file__).with_name("lanes") / "blackbox.cpp").read_text()


class BlackboxModule(SharedModule):
    """The files that leave a module out: as of :class:`.SharedModule`, but without a model.

    Besides the module's outputs the shell takes a word, ``watched``, that a testbench can wait for.
    """

    def shell(self) -> Source:
        """Return what stands for the module in the design."""
        inputs, outputs = total_words(self._inputs), total_words(self._outputs)
        packed = ", ".join(
            f"{32 * p.words}'({escaped(p.name)})" if p.width % 32 else escaped(p.name)
            for p in reversed(self._inputs)
        )
        outputs_taken = [
            f"    {escaped(p.name)}<= _taken[{32 * p.word}+:{p.width}];" for p in self._outputs
        ]
        lines = [f"module {escaped(self.name)}(", "  input clk,"]
        lines += [f"  input [{p.width - 1}:0] {escaped(p.name)}," for p in self._inputs]
        lines += [f"  output reg [{p.width - 1}:0] {escaped(p.name)}," for p in self._outputs]
        lines[-1] = lines[-1].rstrip(",")
        lines += [
            ");",
            '  import "DPI-C" function void diptych_blackbox_step(',
            f"    input bit [{32 * inputs - 1}:0] i, output bit [{32 * outputs + 31}:0] o);",
            f"  bit [{32 * outputs + 31}:0] _taken;",
            "  reg [31:0] watched;",
            "  always @(posedge clk) begin",
            f"    diptych_blackbox_step({{{packed}}}, _taken);",
            f"    watched <= _taken[{32 * outputs}+:32];",
            *outputs_taken,
            "  end",
            "endmodule",
            "",
        ]
        return f"{self.name}.sv", "\n".join(lines)

    def glue(self, root_header: str = "") -> Source:
        """Return the C++ between the shell and what computes the module."""
        del root_header
        ports = [("i", port) for port in self._inputs] + [("o", port) for port in self._outputs]
        listed = " ".join(f"{way} {p.name} {p.word} {p.width}" for way, p in ports)
        head = f'#define PORTS "{listed}"\n#define WORDS {total_words(self._outputs) + 1}\n'
        return "blackbox.cpp", head + GLUE


def replace_by_shell(
    sources: Sequence[Source], top: str, name: str
) -> tuple[list[Source], BlackboxModule]:
    """Return the sources of a design with a shell for a module, and the module.

    Raises
    ------
    BuildError
        If it is not there.
    """
    module = BlackboxModule(sources, name)
    text = re.compile(rf"^module \\?{re.escape(name)} ?\(.*?^endmodule\n", re.MULTILINE | re.DOTALL)
    rest = [(file, text.sub("", code)) for file, code in sources]
    if rest == list(sources):
        raise BuildError(f"Module {name!r} must be in the sources")
    return [module.shell(), *reachable(rest, top, cut=[name])], module
