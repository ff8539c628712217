# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""Combinational loops are found as Amaranth finds them, in fewer steps."""

import re

import pytest
from amaranth.hdl import Cat, Fragment, Module, Mux, Signal
from amaranth.hdl import _ir as ir
from amaranth.hdl import _nir as nir
from hypothesis import example, given
from hypothesis import strategies as st

from diptych.link.transmitter import LinkTransmitter
from diptych_sim.engine import loops
from diptych_sim.engine.loops import loops_by_cells
from diptych_sim.engine.words.netlist import read_words

WIDTH = 3
DRIVEN = 3 * WIDTH


def loop(operations):
    """Build vectors whose bits are made of bits of vectors and registers; return what is wrong."""
    m = Module()
    vectors = [Signal(WIDTH, name=f"v{n}") for n in range(3)]
    held = [Signal(WIDTH, name=f"r{n}") for n in range(2)]
    every = Cat(*vectors, *held)
    m.d.sync += [register.eq(vector) for register, vector in zip(held, vectors, strict=False)]
    for target, (kind, a, b) in enumerate(operations):
        one, other = every[a], every[b]
        value = [one & other, Mux(one, other, 0), (one + other)[0], one][kind]
        m.d.comb += vectors[target // WIDTH][target % WIDTH].eq(value)
    ports = [(v.name, v, ir.PortDirection.Output) for v in (*vectors, *held)]
    try:
        ir.build_netlist(Fragment.get(m, None), ports=ports, name="top")
    except nir.CombinationalCycle as error:
        return re.sub(r"\S+:\d+: ", "", str(error))
    return None


BITS = st.one_of(st.integers(0, DRIVEN - 1), st.integers(DRIVEN, DRIVEN + 2 * WIDTH - 1))
OPERATIONS = st.lists(st.tuples(st.integers(0, 3), BITS, BITS), min_size=DRIVEN, max_size=DRIVEN)
REGISTER = DRIVEN
CHAIN = [(3, n - 1 if n else REGISTER, 0) for n in range(DRIVEN)]
"""Bits of a vector that depend on each other, in no loop."""


@given(OPERATIONS)
@example(CHAIN)
@example([(3, DRIVEN - 1, 0), *CHAIN[1:]])
def test_loops_are_those_of_amaranth(operations):
    expected = loop(operations)
    with loops_by_cells():
        assert loop(operations) == expected


def test_examples_have_a_loop_or_none():
    assert loop(CHAIN) is None
    assert "signal v0 bit 0" in str(loop([(3, DRIVEN - 1, 0), *CHAIN[1:]]))


def test_bits_are_not_followed_without_a_loop_of_cells(monkeypatch):
    def search(netlist):
        raise AssertionError("Amaranth searches")

    monkeypatch.setattr(loops, "_SEARCH", search)
    read_words(LinkTransmitter(), "transmitter")
    with pytest.raises(AssertionError, match="Amaranth searches"), loops_by_cells():
        loop([(3, 0, 0)] * DRIVEN)
