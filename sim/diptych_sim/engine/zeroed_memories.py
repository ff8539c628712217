# SPDX-License-Identifier: BSD-2-Clause
"""Memories that begin with zeros, in few words.

Amaranth writes a statement for each word, and of each Verilator makes some lines of C++: for a panel
with its HBM that was half of what the C++ compiler had to read.
"""

import itertools
import re

from .emit import Source

__all__ = ["zeroed_by_loops"]

_MEMORY = re.compile(
    r"^  initial begin\n"
    r"    (?P<name>\S+ ?)\[0\] = (?P<zero>\d+'[hd]0+);\n"
    r"(?P<others>(?:    (?P=name)\[\d+\] = (?P=zero);\n)+)"
    r"  end\n",
    re.MULTILINE,
)


def zeroed_by_loops(source: Source) -> Source:
    """Return Verilog of Amaranth in which a loop zeroes each memory that begins with zeros."""
    file, text = source
    numbers = itertools.count()

    def loop(found: re.Match[str]) -> str:
        depth = 1 + found["others"].count("\n")
        return (
            f"  initial begin : zeroed_{next(numbers)}\n"
            "    integer at;\n"
            f"    for (at = 0; at < {depth}; at = at + 1)\n"
            f"      {found['name']}[at] = {found['zero']};\n"
            "  end\n"
        )

    return file, _MEMORY.sub(loop, text)
