# SPDX-License-Identifier: BSD-2-Clause
"""Where the ports of compiled designs are, and what carries an output of one to an input of another."""

from __future__ import annotations

from collections.abc import Iterator

from diptych.mesh.fabric import DIRECTIONS
from diptych_sim.engine.errors import EngineError

from .build import Compiled
from .layout import Element
from .native import Link

__all__ = ["FORWARD", "between", "elements", "links", "neighbors"]

FORWARD = ("announced", "announced_control", "valid", "wavelet")
"""Members of a link that its sender drives."""


def neighbors() -> list[tuple[str, str]]:
    """Return the tile's inputs with the outputs of its neighbors that drive them."""
    out = [("x_in", "x_out")]
    for port in DIRECTIONS:
        way, other = port.label, port.opposite.label
        out += [(f"{way}_i__{part}", f"{other}_o__{part}") for part in FORWARD]
        out.append((f"{way}_o__credit", f"{other}_i__credit"))
    return out


def elements(design: Compiled, output: str) -> list[tuple[tuple[int, int, int], Element]]:
    """Return the parts of an output, (first bit in it, in its node, width), and where they are."""
    out: list[tuple[tuple[int, int, int], Element]] = []
    for node, at, width, low in design.interface.outputs[output]:
        out.append(((low, at, width), design.layout.nodes[node]))
    return out


def between(
    source: Compiled, output: str, target: Compiled, name: str
) -> list[tuple[int, int, int]]:
    """Return (from, to, size) of the parts of an output and of the input that it drives."""
    ends = elements(source, output)
    starts = target.interface.inputs[name]
    if [(low, 0, width) for _, low, width in starts] != [part for part, _ in ends]:
        raise EngineError(f"Lanes need {output} and {name} in equal parts")
    return [
        (place.offset, target.layout.nodes[node].offset, place.size)
        for (_, place), (node, _, _) in zip(ends, starts, strict=True)
    ]


def links(source: Compiled, output: str, target: Compiled, name: str) -> Iterator[Link]:
    """Yield what carries an output to an input that may be split differently."""
    numbers = source.interface.output_number(output), target.interface.input_number(name)
    for (low, at, width), place in elements(source, output):
        for node, start, size in target.interface.inputs[name]:
            first, stop = max(low, start), min(low + width, start + size)
            if first < stop:
                to = target.layout.nodes[node]
                yield Link(
                    *(place.offset, place.size, at + first - low),
                    *(to.offset, to.size, first - start, stop - first, *numbers),
                )
