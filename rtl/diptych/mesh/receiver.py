# SPDX-License-Identifier: BSD-2-Clause
"""Receiver of a tile: executes RECEIVE in the background."""

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.requantize import Requantizer
from diptych.arith.scale import ScaleWord

from .element import write_element
from .isa import Type
from .operation import ADDRESS_BITS, VectorOperation
from .sram import ReadPort, WritePort
from .word_queue import WordQueue

__all__ = ["Receiver"]


class Tag(data.StructLayout):
    """Control of an element in a stage of the receiver."""

    def __init__(self) -> None:
        super().__init__(
            {
                "valid": 1,
                "last": 1,
                "first": 1,
                "address": ADDRESS_BITS,
                "type": Type,
                "adds": 1,
                "statistic": 1,
                "argmax": 1,
                "kept": 1,
                "stored": 1,
                "shift": 5,
                "offset": signed(32),
            }
        )


class Scales(data.StructLayout):
    """Scales of an element, and the bits of its result."""

    def __init__(self) -> None:
        super().__init__({"word": ScaleWord, "dynamic": ScaleWord, "bits": 6})


class _Signals:
    """Blocks of a :class:`Receiver`, and the signals between its parts."""

    def __init__(self) -> None:
        self.requantizer = Requantizer()
        # The current instruction, its remaining elements, and the next address.
        self.now = Signal(VectorOperation())
        self.active = Signal()
        self.queued = Signal()
        self.left = Signal(16)
        self.address = Signal(ADDRESS_BITS)
        self.index = Signal(16)
        # A wavelet is taken.
        self.takes = Signal()
        # ``coming`` becomes the current instruction.
        self.load = Signal()
        self.coming = Signal(VectorOperation())
        # Elements that wavelets are added to: read ahead, their number, the next read.
        self.ahead = [Signal(32, name=f"ahead_{n}", reset_less=True) for n in range(3)]
        self.partners = Signal(2)
        self.partner_address = Signal(ADDRESS_BITS)
        # Reads that are asked for, of scale words first: found in the cycle before.
        self.asks_words, self.asks_partner = (
            Signal(name=f"asks_{name}") for name in ("words", "partner")
        )
        self.words_granted, self.partner_granted = (
            Signal(name=f"{name}_granted") for name in ("words", "partner")
        )
        # The instruction goes on in the next cycle.
        self.stays_active = Signal()
        # The scale word of the element, and what stands behind it.
        self.word, self.bias = Signal(32), Signal(32)
        # Elements that are stored unchanged skip the stages, but overtake no earlier element.
        self.keeps = Signal()
        self.overtakes = Signal()
        # An unchanged element waits for another writer; no wavelet is taken meanwhile.
        self.stays = Signal()
        # Elements in the stages; ``final`` is the value to be stored.
        self.tags = [Signal(Tag(), name=f"tag_{n}") for n in range(5)]
        self.under_way = Signal()
        # The instruction has no elements, and those before it are in memory: it ends.
        self.skips = Signal()
        self.final = Signal(signed(32), reset_less=True)


class Receiver(wiring.Component):
    """Executes RECEIVE (:class:`.Op`), with a queue of two instructions.

    A wavelet per cycle, with a bias three in four cycles, unless the read of its scale word or of its
    addend waits for the SRAM; both are read ahead, addends when the elements of the instruction before are in memory. An
    element is in memory 7 cycles after its wavelet was taken, or 4 if it is stored unchanged;
    the statistic of the instruction is valid 2 cycles later. An unchanged element waits while
    the vector pipe writes.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.

    Members
    -------
    i : :py:`In(stream.Signature(VectorOperation()))`
        Instructions.
    waiting : :py:`In(colors)`
        A bit per color: a wavelet may be taken.
    color, color_bit : :py:`Out(5)`, :py:`Out(colors)`
        Color of the instruction, and its bit.
    value : :py:`In(signed(32))`
        The wavelet that was taken three cycles ago.
    pop : :py:`Out(colors)`
        A bit per color: the wavelet is taken.
    read, write : :py:`Out(ReadPort())`, :py:`Out(WritePort())`
        Ports of the SRAM; the write port is always ready.
    write_waits : :py:`In(1)`
        The vector pipe has a write; it has priority over unchanged elements.
    busy : :py:`Out(1)`
        An instruction is active or queued, or its results are not in memory yet.
    unfinished : :py:`Out(4)`
        Instructions whose elements are not all in memory.
    finishes : :py:`Out(1)`
        There is one less from the next cycle on.
    untaken, takes_last : :py:`Out(4)`, :py:`Out(1)`
        Instructions whose last wavelet has not been taken; there is one less from the next cycle on.
    done : :py:`Out(1)`
        The statistic of an instruction is valid.
    maximum : :py:`Out(32)`
        The largest magnitude, of unchanged elements the signed maximum, or the arg-max.
    """

    i: stream.Interface
    waiting: Signal
    color: Signal
    color_bit: Signal
    value: Signal
    pop: Signal
    read: Any
    write: Any
    write_waits: Signal
    busy: Signal
    unfinished: Signal
    finishes: Signal
    untaken: Signal
    takes_last: Signal
    done: Signal
    maximum: Signal

    def __init__(self, *, colors: int) -> None:
        self.colors = colors
        super().__init__(
            {
                "i": In(stream.Signature(VectorOperation())),
                "waiting": In(colors),
                "color": Out(5),
                "color_bit": Out(colors),
                "value": In(signed(32)),
                "pop": Out(colors),
                "read": Out(ReadPort()),
                "write": Out(WritePort()),
                "write_waits": In(1),
                "busy": Out(1),
                "unfinished": Out(4),
                "finishes": Out(1),
                "untaken": Out(4),
                "takes_last": Out(1),
                "done": Out(1),
                "maximum": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = _Signals()
        self._queue(m, s)
        self._fetch(m, s)
        self._requantize(m, s)
        self._write_back(m, s)
        self._measure(m, s)
        return m

    def _queue(self, m: Module, s: _Signals) -> None:
        """Queue two instructions, and count the elements of the first."""
        m.submodules.requantizer = s.requantizer

        # --- two instructions ---
        after = Signal(VectorOperation())
        ends = Signal()
        m.d.comb += [
            self.i.ready.eq(~s.queued),
            ends.eq(s.skips | (s.takes & (s.left == 1))),
            self.color.eq(s.now.tail.color),
        ]
        m.d.comb += [
            s.load.eq((~s.active | ends) & (s.queued | self.i.valid)),
            s.stays_active.eq(s.active & ~ends),
        ]
        m.d.comb += s.coming.eq(Mux(s.queued, after, self.i.payload))
        m.d.comb += self.takes_last.eq(ends)
        for waiting, over in ((self.unfinished, self.finishes), (self.untaken, self.takes_last)):
            m.d.sync += waiting.eq(waiting + (self.i.valid & self.i.ready) - over)
        with m.If(ends):
            m.d.sync += s.active.eq(0)
        with m.If(s.load):
            m.d.sync += [
                s.now.eq(s.coming),
                self.color_bit.eq(1 << s.coming.tail.color),
                s.active.eq(1),
                s.queued.eq(0),
            ]
        with m.Elif(self.i.valid & self.i.ready):
            m.d.sync += [after.eq(self.i.payload), s.queued.eq(1)]

    def _fetch(self, m: Module, s: _Signals) -> None:
        """Fetch scale words, two per read; take a wavelet once its operands are there."""
        pairs = [Signal(64, name=f"pair_{n}", reset_less=True) for n in range(2)]
        held = Signal(range(3))
        half = Signal()
        fetching = Signal()
        next_pair = Signal(ADDRESS_BITS - 3)
        with_words, biased = Signal(), Signal()
        m.d.comb += [
            with_words.eq(s.now.tail.static_memory),
            biased.eq(s.now.tail.biased),
            s.bias.eq(pairs[0][32:]),
        ]
        has_word = Signal()
        used_pair = Signal()
        m.d.comb += [
            s.word.eq(Mux(with_words, Mux(half, pairs[0][32:], pairs[0][:32]), s.now.scalar)),
            has_word.eq(~with_words | (held != 0)),
            used_pair.eq(s.takes & with_words & (half | biased)),
        ]
        take = Signal()
        # Pairs that are held or come, and one more.
        some, both = Signal(), Signal()
        m.d.comb += [
            s.keeps.eq(s.now.tail.bits == 0),
            take.eq(
                ~s.overtakes
                & ~s.stays
                & s.active
                & (s.left != 0)
                & (self.waiting & self.color_bit).any()
                & has_word
            ),
            self.read.valid.eq(s.asks_words | s.asks_partner),
            self.read.address.eq(Mux(s.asks_words, next_pair, s.partner_address[3:])),
            s.words_granted.eq(s.asks_words & self.read.ready),
            s.partner_granted.eq(s.asks_partner & ~s.asks_words & self.read.ready),
            some.eq(held[0] | fetching),
            both.eq(held[1] | (held[0] & fetching)),
            s.takes.eq(take & (~s.now.tail.accumulate | (s.partners != 0))),
            self.pop.eq(Mux(s.takes, self.color_bit, 0)),
        ]
        m.d.sync += [
            fetching.eq(s.words_granted),
            # Fewer than two are held or come in the next cycle.
            s.asks_words.eq(
                s.stays_active
                & with_words
                & Mux(both, used_pair & ~s.words_granted, ~some | used_pair | ~s.words_granted)
            ),
        ]
        with m.If(s.words_granted):
            m.d.sync += next_pair.eq(next_pair + 1)
        with m.If(fetching):
            with m.If((held == 0) | ((held == 1) & used_pair)):
                m.d.sync += pairs[0].eq(self.read.data)
            with m.Else():
                m.d.sync += pairs[1].eq(self.read.data)
        with m.If(used_pair & (held == 2)):
            m.d.sync += pairs[0].eq(pairs[1])
        m.d.sync += held.eq(held + fetching - used_pair)
        with m.If(s.takes):
            m.d.sync += [
                half.eq(~half & ~biased),
                s.left.eq(s.left - 1),
                s.index.eq(s.index + 1),
                s.address.eq(s.address + s.now.stride),
            ]
        with m.If(s.load):
            m.d.sync += [
                held.eq(0),
                fetching.eq(0),
                s.asks_words.eq(s.coming.tail.static_memory),
                half.eq(s.coming.b[2]),
                next_pair.eq(s.coming.b[3:]),
                s.address.eq(s.coming.d),
                s.left.eq(s.coming.count),
                s.index.eq(0),
            ]
        self._fetch_partners(m, s)

    def _fetch_partners(self, m: Module, s: _Signals) -> None:
        """Read the elements that wavelets are added to, a few ahead."""
        left = Signal(16, name="partners_left")
        settled, comes, more = Signal(), Signal(name="partner_comes"), Signal()
        # The instruction is new: its elements have not been counted.
        begins = Signal(name="partners_begin")
        place = Signal(name="partner_place")
        more_next, full, nearly_full = (
            Signal(name=f"partners_{name}") for name in ("more_next", "full", "nearly_full")
        )
        taken = s.takes & s.now.tail.accumulate
        m.d.comb += [
            full.eq(s.partners + comes == len(s.ahead)),
            nearly_full.eq(s.partners + comes == len(s.ahead) - 1),
            more_next.eq(Mux(begins, left != 0, Mux(s.partner_granted, left != 1, more))),
        ]
        m.d.sync += [
            # There is room in the next cycle.
            s.asks_partner.eq(
                s.stays_active
                & s.now.tail.accumulate
                & (settled | ~s.under_way)
                & more_next
                & ~(full & ~(s.takes & ~s.partner_granted))
                & ~(nearly_full & s.partner_granted & ~s.takes)
            ),
            more.eq(more_next),
            comes.eq(s.partner_granted),
            s.partners.eq(s.partners + comes - taken),
            # Elements of the instruction before are in memory.
            settled.eq(settled | ~s.under_way),
            begins.eq(s.load),
        ]
        partner = self.read.data.word_select(place, 32)
        for n, word in enumerate(s.ahead):
            behind = s.ahead[n + 1] if n + 1 < len(s.ahead) else partner
            with m.If(s.takes):
                m.d.sync += word.eq(Mux(s.partners > n + 1, behind, partner))
            with m.Elif(s.partners <= n):
                m.d.sync += word.eq(partner)
        with m.If(s.partner_granted):
            m.d.sync += [
                place.eq(s.partner_address[2]),
                s.partner_address.eq(s.partner_address + s.now.stride),
                left.eq(left - 1),
            ]
        with m.If(s.load):
            m.d.sync += [
                s.asks_partner.eq(0),
                more.eq(0),
                settled.eq(~s.under_way & ~s.takes),
                comes.eq(0),
                s.partners.eq(0),
                s.partner_address.eq(s.coming.d),
                left.eq(s.coming.count),
            ]

    def _requantize(self, m: Module, s: _Signals) -> None:
        """Take an element through its stages: requantize it, add its partner from memory."""
        adds = s.now.tail.accumulate | s.now.tail.biased
        # --- an element on its way: taken, combined, multiplied, rounded, added, measured ---
        taken = Signal(Tag())
        coming = [Signal(Tag(), name=f"coming_{n}") for n in range(2)]
        scales = [Signal(Scales(), name=f"scales_{n}", reset_less=True) for n in range(3)]
        # Of the element in each of these stages, and in the three behind them.
        partner = [Signal(signed(32), name=f"partner_{n}", reset_less=True) for n in range(6)]
        bits = [Signal(6, name=f"bits_{n}", reset_less=True) for n in range(5)]
        # Bits of the result that are its sign.
        beyond = Signal(32, reset_less=True)
        now = s.now
        m.submodules.values = values = WordQueue()
        m.d.comb += [
            s.overtakes.eq(
                s.keeps & Cat(tag.valid & ~tag.kept for tag in (*coming, s.tags[0])).any()
            ),
            s.stays.eq(s.tags[4].valid & s.tags[4].kept & self.write_waits),
            taken.valid.eq(s.takes),
            taken.kept.eq(s.keeps),
            taken.last.eq(s.left == 1),
            taken.first.eq(s.index == 0),
            taken.address.eq(s.address),
            taken.type.eq(s.now.tail.d_type),
            taken.adds.eq(adds),
            taken.stored.eq(~s.now.tail.argmax & (s.now.tail.d_type != Type.NONE)),
            taken.statistic.eq(s.now.tail.statistic),
            taken.argmax.eq(s.now.tail.argmax),
            taken.shift.eq(s.now.inner),
            taken.offset.eq(s.now.offset - s.index),
        ]
        stages = (taken, *coming, *s.tags)
        m.d.sync += s.skips.eq(
            s.active & (s.left == 0) & ~Cat(tag.valid for tag in stages[1:]).any() & ~s.skips
        )
        with m.If(~s.stays):
            m.d.sync += [
                s.under_way.eq(Cat(tag.valid for tag in stages[:-1]).any()),
                *(behind.eq(before) for before, behind in pairwise(stages)),
                scales[0].eq(Cat(s.word[:22], now.dynamic, Mux(adds, 32, now.tail.bits))),
                *(behind.eq(before) for before, behind in pairwise(scales)),
                partner[0].eq(Mux(now.tail.biased, s.bias, s.ahead[0])),
                *(behind.eq(before) for before, behind in pairwise(partner)),
                bits[0].eq(now.tail.bits),
                *(behind.eq(before) for before, behind in pairwise(bits)),
            ]
            with m.If(s.tags[0].kept):
                m.d.sync += s.tags[1].valid.eq(0)
        # The wavelet waits while the element does.
        value = values.oldest.as_signed()
        m.d.comb += [
            values.popped.eq(s.takes),
            values.word.eq(self.value),
            values.take.eq(s.tags[0].valid & ~s.stays),
            s.requantizer.enable.eq(Cat(tag.valid for tag in s.tags[:3]).any() & ~s.stays),
            s.requantizer.value.eq(value),
            s.requantizer.word.eq(scales[2].word),
            s.requantizer.dynamic.eq(scales[2].dynamic),
            s.requantizer.bits.eq(scales[2].bits),
        ]

        done_tag, result = s.tags[3], s.requantizer.result
        total = Signal(signed(33))
        distance = Signal(32)  # from 0, or from -1 down
        clamped = Signal()
        stored = Signal(signed(32))
        m.d.comb += [
            total.eq(result + Mux(done_tag.adds, partner[5], 0)),
            distance.eq(Mux(total[-1], ~total, total)),
            clamped.eq(done_tag.adds & ((distance & beyond).any() | (distance | beyond).all())),
            stored.eq(Mux(clamped, Mux(total[-1], beyond | 1, ~beyond), total[:32])),
        ]
        with m.If(~s.stays):
            m.d.sync += beyond.eq(~(Const(2**31 - 1, 32) >> (32 - bits[4])[:5]))
        with m.If(done_tag.valid):
            m.d.sync += s.final.eq(stored)
        with m.If(s.tags[0].valid & s.tags[0].kept & ~s.stays):
            m.d.sync += [s.final.eq(value), s.tags[4].eq(s.tags[0])]

    def _write_back(self, m: Module, s: _Signals) -> None:
        """Write the element to the SRAM."""
        write = s.tags[4]
        m.d.comb += [
            self.write.valid.eq(write.valid & ~s.stays & write.stored),
            self.finishes.eq((write.valid & ~s.stays & write.last) | s.skips),
        ]
        write_element(m, self.write, s.final, s.final[:16], write.type, write.address)

    def _measure(self, m: Module, s: _Signals) -> None:
        """Find the largest of the elements of an instruction."""
        write = s.tags[4]
        measured = Signal(Tag())
        code = Signal(signed(32), reset_less=True)
        with m.If(write.valid | measured.valid):
            m.d.sync += [measured.eq(write), measured.valid.eq(write.valid & ~s.stays)]
        with m.If(write.valid):
            m.d.sync += code.eq(
                Mux(
                    write.argmax,
                    (s.final << write.shift) + write.offset,
                    Mux(s.final[-1] & ~write.kept, -s.final, s.final),
                )
            )
        maximum = Signal(signed(32), reset_less=True)
        maximum_now = Signal(signed(32))
        # Not "code > maximum": synthesis would ask whether they are equal, too.
        m.d.comb += maximum_now.eq(Mux(measured.first | (maximum < code), code, maximum))
        with m.If(measured.valid):
            m.d.sync += maximum.eq(maximum_now)
        m.d.comb += [
            self.done.eq(measured.valid & measured.last & (measured.statistic | measured.argmax)),
            self.maximum.eq(maximum_now),
            self.busy.eq(s.active | s.queued | s.under_way | measured.valid),
        ]
