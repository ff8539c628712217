# SPDX-License-Identifier: BSD-2-Clause
"""Timing diagrams as text, from a simulation by Amaranth: what the documentation shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.lib import wiring
from amaranth.sim import Simulator

from diptych.precompiled import inlined

__all__ = ["diagram"]

_HIGH, _LOW, _UNSEEN = "▔", "▁", "·"


def diagram(
    dut: wiring.Component,
    drive: Mapping[str, Sequence[int]],
    show: Sequence[str],
    *,
    cycles: int,
    first: int = 0,
) -> str:
    """Simulate a component after reset, and return what its ports were in each cycle.

    Parameters
    ----------
    dut : wiring.Component
        Is elaborated.
    drive : mapping
        Values of inputs, one for each cycle from 0; the last one stays. Other inputs are at their
        reset values.
    show : sequence of str
        Ports, fields and elements, ``i.payload.addr`` or ``sums.0``; bits are drawn, numbers
        written. ``A if B``: A in cycles in which B is not 0. ``A = name``: under another name.
    cycles : int
        How many to simulate.
    first : int
        The first to show.
    """
    rows: dict[str, list[tuple[int, bool] | None]] = {}
    parsed = []
    for text in show:
        match = re.fullmatch(r"(\S+?)(?: if (\S+))?(?: = (.+))?", text)
        assert match is not None, text
        parsed.append((match[3] or match[1], match[1], match[2]))
        rows[parsed[-1][0]] = []

    async def bench(ctx: Any) -> None:
        for cycle in range(cycles):
            for name, values in drive.items():
                ctx.set(_find(dut, name), values[min(cycle, len(values) - 1)])
            for label, name, condition in parsed:
                seen = condition is None or ctx.get(_find(dut, condition))
                signal = _find(dut, name)
                rows[label].append((_number(ctx.get(signal)), _bits(signal) == 1) if seen else None)
            await ctx.tick()

    with inlined():
        simulator = Simulator(dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
    shown = {label: values[first:] for label, values in rows.items()}
    texts = [str(v[0]) for values in shown.values() for v in values if v is not None and not v[1]]
    width = 1 + max(map(len, [*texts, str(cycles - 1)]))
    left = max(map(len, [*shown, "cycle"])) + 1
    lines = ["cycle".ljust(left) + "".join(str(n).rjust(width) for n in range(first, cycles))]
    for label, values in shown.items():
        lines.append(label.ljust(left) + "".join(_cell(value, width) for value in values))
    return "\n".join(line.rstrip() for line in lines)


def _find(dut: Any, name: str) -> Any:
    for part in name.split("."):
        dut = dut[int(part)] if part.isdigit() else getattr(dut, part)
    return dut


def _bits(signal: Any) -> int:
    return len(signal) if hasattr(signal, "__len__") else len(signal.as_value())


def _number(value: Any) -> int:
    return int(getattr(value, "value", value))


def _cell(value: tuple[int, bool] | None, width: int) -> str:
    if value is None:
        return _UNSEEN.rjust(width)
    number, drawn = value
    return (_HIGH if number else _LOW) * width if drawn else str(number).rjust(width)
