# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""Memories that begin with zeros are zeroed by loops, and all others keep their words.

Faults that were planted and seen: words that are not zeros taken, too; a loop that ends a word early.
"""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import Out

from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.zeroed_memories import zeroed_by_loops


class Store(wiring.Component):
    """Writes nothing, and reads a word in each cycle."""

    word: Signal

    def __init__(self, words):
        self.words = words
        super().__init__({"word": Out(18)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = memory.Memory(shape=18, depth=300, init=self.words)
        port, reads = store.write_port(), store.read_port()
        m.d.sync += [reads.addr.eq(reads.addr + 1), port.en.eq(reads.addr[0])]
        m.d.comb += [self.word.eq(reads.data), port.data.eq(reads.data)]
        return m


def initial(words):
    ((_, before),) = emit_verilog(Store(words), "store")
    (_, after) = zeroed_by_loops(("store.v", before))
    return before, after


def test_a_loop_for_all_words():
    before, after = initial([])
    assert before.count("18'h00000;") >= 300
    assert "    for (at = 0; at < 300; at = at + 1)\n      store[at] = 18'h00000;\n" in after
    assert after.count("store[") < 10


@pytest.mark.parametrize("words", [[5], [0, 5], 299 * [0] + [5]])
def test_other_words_stay(words):
    before, after = initial(words)
    assert before == after
