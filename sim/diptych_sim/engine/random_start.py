# SPDX-License-Identifier: BSD-2-Clause
"""Registers and memories that begin with random values, as they do in hardware."""

import re

from .emit import Source

__all__ = ["BUILD_ARGUMENTS", "run_arguments", "without_initial_values"]

BUILD_ARGUMENTS = ("--x-assign", "unique", "--x-initial", "unique")
"""Of Verilator: what has no value gets one when the run starts."""

NARROW = 4
"""Bits of registers that might draw their reset value, and begin with its opposite instead."""

_REGISTER = re.compile(
    r"^(?P<register>  reg (?:\[\d+:\d+\] )?\S+ ?) = (?P<bits>\d+)'(?P<base>[hd])(?P<value>[0-9a-f]+);$",
    re.MULTILINE,
)
_MEMORY = re.compile(r"^  initial begin\n(?:    \S+ ?\[\d+\] = \d+'h0+;\n)+  end\n", re.MULTILINE)

_ASSERTION = re.compile(
    r"^    if \((.+)\) begin\n(?=      if \(!.+\)\n        \$write)", re.MULTILINE
)


def without_initial_values(source: Source) -> Source:
    """Return Verilog of Amaranth in which only the reset gives registers their values.

    A register of up to :data:`NARROW` bits begins with the opposite of its reset value, a wider one
    with what the simulator draws. Memories with nothing but zeros lose their contents; tables keep theirs. Assertions hold from
    the reset on.
    """
    file, text = source
    text = _MEMORY.sub("", _REGISTER.sub(_begin_otherwise, text))
    return file, _ASSERTION.sub(r"    if (!rst && (\1)) begin\n", text)


def run_arguments(seed: int) -> list[str]:
    """Return what tells a simulator to draw values, by the seed of the run."""
    return ["+verilator+rand+reset+2", f"+verilator+seed+{seed % (2**31 - 1) + 1}"]


def _begin_otherwise(found: re.Match[str]) -> str:
    bits = int(found["bits"])
    if bits > NARROW:
        return f"{found['register']};"
    opposite = (1 << bits) - 1 - int(found["value"], 16 if found["base"] == "h" else 10)
    return f"{found['register']} = {bits}'h{opposite:x};"
