# SPDX-License-Identifier: BSD-2-Clause
"""Delays at the edges of the array: from rows of elements to diagonals, and back."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value

__all__ = ["deskew", "skew"]


def skew(m: Module, name: str, vector: Value, width: int) -> list[Value]:
    """Split a vector into elements of ``width`` bits; element ``n`` comes ``n`` cycles later.

    The delays are one register per cycle of delay, as wide as what has still to be delayed: few
    wide copies are cheap to simulate.
    """
    elements: list[Value] = [vector[:width]]
    for n in range(1, len(vector) // width):
        stage = Signal(len(vector) - width, name=f"{name}_{n}", reset_less=True)
        m.d.sync += stage.eq(vector[width:])
        elements.append(stage[:width])
        vector = stage
    return elements


def deskew(m: Module, name: str, elements: Sequence[Value]) -> Value:
    """Join elements, each of which comes a cycle after the one before it, into a vector."""
    vector = elements[0][:0]
    for n, element in enumerate(elements[:-1]):
        stage = Signal(len(vector) + len(element), name=f"{name}_{n}", reset_less=True)
        m.d.sync += stage.eq(Cat(vector, element))
        vector = stage
    return Cat(vector, elements[-1])
