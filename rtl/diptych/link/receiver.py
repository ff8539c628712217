# SPDX-License-Identifier: BSD-2-Clause
"""The decode panel's end of the KV link."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .frames import (
    SEQUENCE_BITS,
    SLOT_WORDS,
    SLOTS,
    Answer,
    FrameHead,
    LinkWord,
    add_frame_memories,
)
from .transmitter import CRC

__all__ = ["LinkReceiver"]


class LinkReceiver(wiring.Component):
    """Checks frames, and buffers those that are intact and in order until they are delivered.

    Members
    -------
    i : :py:`In(LinkWord())`
        Word on the forward wires.
    answer : :py:`Out(Answer())`
        Acknowledgment to the transmitter; a register, valid in the cycle after a change.
    valid, head : :py:`Out(1)`, :py:`Out(FrameHead())`
        The oldest frame that is not delivered.
    address, data : :py:`In(ceil_log2(SLOT_WORDS))`, :py:`Out(32)`
        Reads a payload word of it; the word follows a cycle later.
    delivered : :py:`In(1)`
        The frame is delivered; its buffer is free from the next cycle on.
    """

    i: Any
    answer: Any
    valid: Signal
    head: Any
    address: Signal
    data: Signal
    delivered: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(LinkWord()),
                "answer": Out(Answer()),
                "valid": Out(1),
                "head": Out(FrameHead()),
                "address": In(ceil_log2(SLOT_WORDS)),
                "data": Out(32),
                "delivered": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        slot_bits = ceil_log2(SLOTS)
        write, read, head_write, head_read = add_frame_memories(m)
        expected = Signal(SEQUENCE_BITS)
        oldest = Signal(SEQUENCE_BITS)
        m.d.comb += [
            self.valid.eq(expected != oldest),
            head_read.addr.eq(oldest[:slot_bits]),
            self.head.eq(head_read.data),
            read.addr.eq(Cat(self.address, oldest[:slot_bits])),
            self.data.eq(read.data),
        ]

        # The CRC runs a cycle behind the wires, because its start takes one.
        m.submodules.crc = check = CRC(data_width=32).create()
        word = Signal(LinkWord())
        m.d.sync += word.eq(self.i)
        m.d.comb += [
            check.start.eq(self.i.valid & self.i.first),
            check.data.eq(word.data),
        ]
        head = Signal(FrameHead())
        index = Signal(16)
        accepts, refuses = Signal(), Signal()
        m.d.comb += [
            write.addr.eq(Cat(index[: ceil_log2(SLOT_WORDS)], expected[:slot_bits])),
            write.data.eq(word.data),
            head_write.addr.eq(expected[:slot_bits]),
            head_write.data.eq(head),
            head_write.en.eq(accepts),
        ]
        state = Signal(2)
        idle, second, payload, last = range(4)
        with m.If(word.valid & word.first):
            # A frame that starts inside another one: the other one is damaged.
            m.d.comb += [check.valid.eq(1), refuses.eq(state != idle)]
            m.d.sync += [head.as_value()[:32].eq(word.data), state.eq(second)]
        with m.Elif(word.valid & (state == second)):
            m.d.comb += check.valid.eq(1)
            m.d.sync += [head.as_value()[32:].eq(word.data), index.eq(0), state.eq(payload)]
        with m.Elif(word.valid & (state == payload)):
            # A damaged frame may occupy the buffer; the repeated frame overwrites it.
            m.d.comb += [check.valid.eq(1), write.en.eq(head.sequence == expected)]
            m.d.sync += index.eq(index + 1)
            with m.If(index == head.count - 1):
                m.d.sync += state.eq(last)
        with m.Elif(word.valid & (state == last)):
            m.d.comb += [
                accepts.eq((check.crc == word.data) & (head.sequence == expected)),
                refuses.eq(~accepts),
            ]
            m.d.sync += state.eq(idle)
        with m.If(accepts):
            m.d.sync += expected.eq(expected + 1)
        with m.If(self.delivered):
            m.d.sync += oldest.eq(oldest + 1)
        changed = Signal()
        refused = Signal()
        m.d.sync += [changed.eq(accepts | self.delivered | refuses), refused.eq(refuses)]
        m.d.sync += [
            self.answer.valid.eq(changed),
            self.answer.refused.eq(refused),
            self.answer.expected.eq(expected),
            self.answer.delivered.eq(oldest),
        ]
        return m
