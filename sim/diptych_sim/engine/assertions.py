# SPDX-License-Identifier: BSD-2-Clause
"""Looks at an assertion's statement only if its condition does not hold, for Verilator.

Yosys writes a message and an assertion after each other, and Verilator's code asks for each
assertion in each cycle whether assertions are on.
"""

from __future__ import annotations

import re

__all__ = ["with_assertions_inside"]

_ASSERTION = re.compile(
    r"(?P<if>      if \(!(?P<holds>.+)\))\n"
    r"(?P<message>        \$write\(.*\);\n)"
    r"      (?P<assert>assert \((?P=holds)\);\n)"
)


def with_assertions_inside(verilog: str) -> str:
    """Return Verilog of Yosys that means the same: text of any other form stays as it is."""
    return _ASSERTION.sub(r"\g<if> begin\n\g<message>        \g<assert>      end\n", verilog)
