# SPDX-License-Identifier: BSD-2-Clause
"""Moves resets from the logic in front of registers to their clock edges, for Verilator.

Yosys writes a register's reset as the last condition of the logic that computes its next value. So
all of that logic depends on an input of the design, and Verilator evaluates it once more in every
call, for a change of inputs.
"""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["with_resets_at_edges"]

_NAME = r"(?:\\\S+ |[A-Za-z_]\w*)"
_NEXT = re.compile(
    rf"    if \(rst\) begin\n      (?P<next>{_NAME}) = (?P<init>\d+'[bdh][0-9a-f]+);\n    end\n  end\n"
)
_EDGE = re.compile(rf"  always @\(posedge clk\)\n    (?P<register>{_NAME}) <= (?P<next>{_NAME});\n")
_MODULE = re.compile(r"^module .*?^endmodule", re.MULTILINE | re.DOTALL)
_ASSIGNED = re.compile(r"^ *(\\\S+|[A-Za-z_]\w*) *(?:\[[^\]]*\])? += ", re.MULTILINE)
_WORD = re.compile(r"\\\S+|[A-Za-z_]\w*")


def with_resets_at_edges(verilog: str) -> str:
    """Return Verilog of Yosys that means the same.

    A reset is moved if it is all that its condition does, and if what it sets is used by one register
    alone. Others, and text of any other form, stay as they are.
    """
    return _MODULE.sub(lambda module: _moved(module[0]), verilog)


def _moved(module: str) -> str:
    inits = {match["next"].strip(): match["init"] for match in _NEXT.finditer(module)}
    if not inits:
        return module
    edges = [match["next"].strip() for match in _EDGE.finditer(module)]
    # Beside what assigns it a name may stand in its declaration and at the edge.
    uses = Counter(word for word in _WORD.findall(module) if word in inits)
    uses.subtract(word for word in _ASSIGNED.findall(module) if word in inits)
    single = {name for name in edges if uses[name] == 2 and edges.count(name) == 1}

    def without(match: re.Match[str]) -> str:
        return "  end\n" if match["next"].strip() in single else match[0]

    def at_edge(match: re.Match[str]) -> str:
        name = match["next"].strip()
        if name not in single:
            return match[0]
        register, following = match["register"], match["next"]
        return (
            f"  always @(posedge clk)\n    if (rst) {register} <= {inits[name]};\n"
            f"    else {register} <= {following};\n"
        )

    return _EDGE.sub(at_edge, _NEXT.sub(without, module))
