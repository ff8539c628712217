# SPDX-License-Identifier: BSD-2-Clause
"""The layout change: KV vectors become load packets for the rows of the mesh."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.mesh.fabric import Load
from diptych.systolic.isa import HandoffKind

from .frames import SLOT_WORDS, FrameHead

__all__ = ["HEADS", "LayoutChange", "Setting", "Settings"]

HEADS = 128
"""KV heads at most; where columns share a head, each part of it counts."""


class Settings:
    """Addresses of the registers of the layout change; those of a head are contiguous."""

    ROWS = 0
    LAST_COLUMN = 1
    LAYER_STRIDE = 2
    VALUE_STRIDE = 3
    HEAD_WORDS = 4
    HEAD_COUNT = 5
    ACTIVATES = 6
    """Whether the last prompt's token starts the decode panel."""
    PROMPT_STRIDE = 7
    """Distance from a prompt's KV cache to the next one's."""
    LAST_PROMPT = 8
    """Number of prompts, less one."""
    TOKENS = 9
    """SRAM address of the token of prompt 0; that of each next prompt is 4 bytes higher."""
    BLOCK = 10
    """Logarithm of the number of neighboring positions of a row, 0 to 4."""
    HEAD = 4 * HEADS
    """``first_column | last_column << 16``; then the address of keys, then that of values."""
    HEAD_STEP = 4


class Setting(data.StructLayout):
    """A write into a register."""

    def __init__(self) -> None:
        super().__init__({"address": ceil_log2(8 * HEADS), "data": 32})


class LayoutChange(wiring.Component):
    """Turns frames into load packets, as :mod:`diptych_sim.compiler.decode.kv_layout` specifies.

    Positions are dealt to rows in blocks, from the middle row on
    (:class:`diptych_sim.compiler.decode.position_deal.PositionDeal`). Position 0, and one behind that of the
    frame before, take no time for it, others 17 cycles. A token becomes a WORDS packet into every
    row; that of the last prompt an ACTIVATE packet, which starts the tiles. A header word takes a
    cycle, a payload word 2.

    Members
    -------
    settings : :py:`In(stream.Signature(Setting()))`
        Writes registers; always ready.
    valid, head : :py:`In(1)`, :py:`In(FrameHead())`
        The oldest frame that is not delivered, from :class:`.LinkReceiver`.
    address, data : :py:`Out(ceil_log2(SLOT_WORDS))`, :py:`In(32)`
        Reads a payload word of it; the word follows a cycle later.
    delivered : :py:`Out(1)`
        The frame is delivered, for one cycle.
    o : :py:`Out(stream.Signature(32))`
        Words of load packets.
    row : :py:`Out(8)`
        Row of the mesh that the words go to.
    token, token_valid : :py:`Out(32)`, :py:`Out(1)`
        The token (bits 23 to 0) of a prompt (bits 31 to 24), for one cycle.
    """

    settings: stream.Interface
    valid: Signal
    head: Any
    address: Signal
    data: Signal
    delivered: Signal
    o: stream.Interface
    row: Signal
    token: Signal
    token_valid: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "settings": In(stream.Signature(Setting())),
                "valid": In(1),
                "head": In(FrameHead()),
                "address": Out(ceil_log2(SLOT_WORDS)),
                "data": In(32),
                "delivered": Out(1),
                "o": Out(stream.Signature(32)),
                "row": Out(8),
                "token": Out(32),
                "token_valid": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        general, heads_memory = self._write_registers(m)
        rows, last_column, layer_stride, value_stride, words, heads, activates = general[:7]
        prompt_stride, last_prompt, tokens, block = general[7:]

        row, slot = Signal(8), Signal(16)
        # Among the positions that rows hold in a round, and the number of the round.
        place, round_ = Signal(12), Signal(16)
        following = Signal(16)  # the position that they are of; 0: of none
        kv_head, index, at_head, count = Signal(8), Signal(16), Signal(16), Signal(16)
        keys, is_token, starts = Signal(), Signal(), Signal()
        bits = Signal(range(len(round_) + 1))
        turns = Signal(12, reset_less=True)
        m.d.sync += turns.eq(rows[:8] << block[:3])
        divided = self._divided(m, place, round_, turns)
        middle = rows[1:8]
        self._deal(m, row, slot, place, round_, middle, block[:3], holds=~is_token)
        # The memory shows what belongs to ``kv_head``: it is read with what that becomes.
        next_head = Signal.like(kv_head)
        m.d.comb += [next_head.eq(kv_head), heads_memory.addr.eq(next_head)]
        m.d.sync += kv_head.eq(next_head)
        columns, key_place, value_place = (heads_memory.data.word_select(n, 32) for n in range(3))
        m.d.comb += [
            keys.eq(self.head.kind == HandoffKind.KEYS),
            is_token.eq(self.head.kind == HandoffKind.TOKEN),
            starts.eq(self.head.prompt == last_prompt[:8]),
            count.eq(Mux(is_token, 1, Mux(keys, words << 1, words))),
            self.row.eq(row),
        ]
        of_slot = Mux(keys, (slot << 3) * words[:8], slot)
        at_layer, at_prompt = layer_stride[:16], prompt_stride[:16]
        base = self._base(m, at_layer, at_prompt, of_slot, Mux(keys, key_place, value_place))
        # The word that is read next. Low planes of all heads follow the high planes of all heads.
        word, at_low = Signal.like(self.address), Signal.like(self.address, reset_less=True)
        m.d.sync += at_low.eq(at_head + words * heads[:8])
        m.d.comb += self.address.eq(word)

        with m.FSM():
            with m.State("idle"), m.If(self.valid):
                m.d.comb += next_head.eq(0)
                m.d.sync += [at_head.eq(0), index.eq(0), word.eq(0)]
                with m.If(is_token):
                    m.d.sync += [row.eq(0), following.eq(0)]
                    m.next = "read"
                with m.Else():
                    m.next = "kind"
                    with m.If(self.head.position == 0):
                        m.d.sync += [place.eq(0), round_.eq(0), row.eq(middle), slot.eq(0)]
                    with m.Elif(self.head.position != following):
                        m.d.sync += [place.eq(0), round_.eq(self.head.position), bits.eq(0)]
                        m.next = "divide"
            with m.State("divide"):
                m.d.sync += bits.eq(bits + 1)
                with m.If(bits == len(round_)):
                    m.next = "kind"  # row and slot follow the quotient by a cycle
                with m.Else():
                    m.d.sync += divided
            self._tell_token(m, activates)
            with m.State("kind"):
                kind = Mux(
                    is_token,
                    Mux(starts, Load.ACTIVATE.value, Load.WORDS.value),
                    Mux(keys, Load.WORDS.value, Load.BYTES.value),
                )
                step = Mux(keys | is_token, 0, value_stride[:12])
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(kind | step << 4 | count << 16),
                ]
                with m.If(self.o.ready):
                    m.next = "columns"
            with m.State("columns"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(Mux(is_token, last_column << 16, columns)),
                ]
                with m.If(self.o.ready):
                    m.next = "address"
            with m.State("address"):
                at = Mux(starts, 0, tokens + (self.head.prompt << 2))
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(Mux(is_token, at, base))]
                with m.If(self.o.ready):
                    m.next = "fetch"
            with m.State("fetch"):
                m.next = "payload"
            with m.State("payload"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(self.data)]
                with m.If(self.o.ready):
                    m.d.sync += [
                        index.eq(index + 1),
                        word.eq(Mux(index + 1 == words[:16], at_low, word + 1)),
                    ]
                    m.next = "fetch"
                    with m.If(index == count - 1):
                        m.d.comb += next_head.eq(kv_head + 1)
                        m.d.sync += [
                            index.eq(0),
                            at_head.eq(at_head + words),
                            word.eq(at_head + words),
                        ]
                        m.next = "kind"
                        with m.If(is_token):
                            m.d.comb += next_head.eq(0)
                            m.d.sync += [row.eq(row + 1), at_head.eq(0), word.eq(0)]
                            with m.If(row == rows - 1):
                                m.d.comb += self.delivered.eq(1)
                                m.next = "next"
                        with m.Elif(kv_head == heads - 1):
                            m.d.comb += self.delivered.eq(1)
                            m.d.sync += [
                                place.eq(place + 1),
                                following.eq(self.head.position + 1),
                            ]
                            with m.If(place == turns - 1):
                                m.d.sync += [place.eq(0), round_.eq(round_ + 1)]
                            m.next = "next"
            with m.State("next"):
                m.next = "idle"
        return m

    def _tell_token(self, m: Module, activates: Value) -> None:
        """Read a token and tell it; then come its packets, if it starts the decode panel."""
        with m.State("read"):
            m.next = "token"
        with m.State("token"):
            m.d.comb += [
                self.token_valid.eq(1),
                self.token.eq(Cat(self.data[:24], self.head.prompt)),
            ]
            m.next = "kind"
            with m.If(~activates.any()):
                m.d.comb += self.delivered.eq(1)
                m.next = "next"

    def _divided(self, m: Module, place: Signal, round_: Signal, turns: Value) -> list[Any]:
        """Return assignments of a bit of a division: the position in ``round_`` becomes its quotient.

        A bit of the quotient enters where a bit of the position leaves; what remains is in ``place``.
        """
        left, goes = Signal(13), Signal()
        m.d.comb += [left.eq(Cat(round_[-1], place)), goes.eq(left >= turns)]
        return [place.eq(Mux(goes, left - turns, left)), round_.eq(Cat(goes, round_[:-1]))]

    def _deal(
        self,
        m: Module,
        row: Signal,
        slot: Signal,
        place: Value,
        round_: Value,
        middle: Value,
        block: Value,
        *,
        holds: Value,
    ) -> None:
        """Give row and slot what follows from a place in a round, a cycle later; the row if it ``holds``.

        Of the turns of a round the first is the middle row's, then come the row before, the one behind.
        """
        turn, inside = Signal(8), Signal(4)
        m.d.comb += [turn.eq(place >> block), inside.eq(place & ((1 << block) - 1))]
        m.d.sync += slot.eq((round_ << block) | inside)
        with m.If(holds):
            m.d.sync += row.eq(middle + Mux(turn[0], -(turn[1:] + 1), turn[1:]))

    def _base(
        self, m: Module, layer_stride: Value, prompt_stride: Value, slot_bytes: Value, at: Value
    ) -> Signal:
        """Return the address of a head's elements in a slot, 2 cycles after what it depends on.

        Two header words go out between a change of the head or the slot and its use.
        """
        of_layer, of_prompt, of_slot, place, base = (
            Signal(32, name=name, reset_less=True)
            for name in ("of_layer", "of_prompt", "of_slot", "place", "base")
        )
        m.d.sync += [
            of_layer.eq(self.head.layer * layer_stride),
            of_prompt.eq(self.head.prompt * prompt_stride),
            of_slot.eq(slot_bytes),
            place.eq(at),
            base.eq((of_layer + of_prompt) + (place + of_slot)),
        ]
        return base

    def _write_registers(self, m: Module) -> tuple[list[Signal], Any]:
        """Write the registers of :class:`Settings`; return general ones, and the heads' port."""
        general = [Signal(32, name=f"setting_{n}") for n in range(11)]
        m.submodules.heads = heads = memory.Memory(shape=96, depth=HEADS, init=[])
        write = heads.write_port(granularity=32)
        number, of_head = self.settings.payload.address[:-1], self.settings.payload.address[-1]
        m.d.comb += [
            self.settings.ready.eq(1),
            write.addr.eq(number[2:]),
            write.data.eq(self.settings.payload.data.replicate(3)),
        ]
        with m.If(self.settings.valid & of_head):
            m.d.comb += write.en.eq(1 << number[:2])
        with m.Elif(self.settings.valid), m.Switch(number):
            for n, register in enumerate(general):
                with m.Case(n):
                    m.d.sync += register.eq(self.settings.payload.data)
        return general, heads.read_port()
