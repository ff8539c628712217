# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel's end of the KV link."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import (
    crc,  # pyright: ignore[reportAttributeAccessIssue]
    stream,
    wiring,
)
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from diptych.config import DEFAULTS
from diptych.systolic.isa import Handoff

from .frames import (
    SEQUENCE_BITS,
    SLOT_WORDS,
    SLOTS,
    Answer,
    FrameHead,
    LinkWord,
    add_frame_memories,
)

__all__ = ["CRC", "LinkTransmitter"]

CRC = crc.catalog.CRC32_ETHERNET
WORD_BYTES = 4


class _Signals:
    """Sequence numbers of frames, and the signals between the parts of the transmitter."""

    def __init__(self) -> None:
        self.slot_bits = ceil_log2(SLOTS)
        self.filled, self.sent, self.expected, self.delivered = (
            Signal(SEQUENCE_BITS, name=name) for name in ("filled", "sent", "expected", "delivered")
        )
        self.head = Signal(FrameHead())
        self.go_back = Signal()


class LinkTransmitter(wiring.Component):
    """Frames the words of each position, and sends each frame until it is acknowledged.

    Frames are numbered. Up to :data:`.SLOTS` are in flight, until the receiver has delivered them.
    When the receiver refuses a frame, or no answer arrives for ``timeout`` cycles while frames are
    not acknowledged, all frames from the first missing one on are sent again (go-back).

    Parameters
    ----------
    bytes_per_cycle : :class:`int`
        Bandwidth, 1 to 4.
    timeout : :class:`int`
        Cycles.

    Members
    -------
    i : :py:`In(stream.Signature(Handoff()))`
        Words of the prefill panel.
    o : :py:`Out(LinkWord())`
        Word on the forward wires; a register.
    answer : :py:`In(Answer())`
        Acknowledgment of the receiver.
    empty : :py:`Out(1)`
        All words that were handed off have been delivered.
    count_link_payload, count_link_framing : :py:`Out(32)`
        Bytes sent, repeated ones included.
    count_link_frames, count_link_retries : :py:`Out(32)`
        Frames sent, and go-backs.
    """

    i: stream.Interface
    o: Any
    answer: Any
    empty: Signal
    count_link_payload: Signal
    count_link_framing: Signal
    count_link_frames: Signal
    count_link_retries: Signal

    def __init__(
        self, *, bytes_per_cycle: int = DEFAULTS.link_bytes_per_cycle, timeout: int = 4096
    ) -> None:
        if bytes_per_cycle not in range(1, WORD_BYTES + 1):
            raise ValueError(
                f"Link bandwidth must be 1 to 4 bytes per cycle, not {bytes_per_cycle!r}"
            )
        self.bytes_per_cycle = bytes_per_cycle
        self.timeout = timeout
        names = ("payload", "framing", "frames", "retries")
        super().__init__(
            {
                "i": In(stream.Signature(Handoff())),
                "o": Out(LinkWord()),
                "answer": In(Answer()),
                "empty": Out(1),
                **{f"count_link_{name}": Out(32) for name in names},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = _Signals()
        write, read, head_write, head_read = add_frame_memories(m)
        self._gather(m, s, write, head_write)
        self._listen(m, s)
        self._send(m, s, read, head_read)
        return m

    def _gather(self, m: Module, s: _Signals, write: Any, head_write: Any) -> None:
        """Gather the words of a position into a frame."""
        # --- gather the words of a frame ---
        count = Signal(16)
        room = Signal()
        beat = self.i.payload
        m.d.comb += [
            room.eq((s.filled - s.delivered)[:SEQUENCE_BITS] < SLOTS),
            self.i.ready.eq(room),
            write.addr.eq(Cat(count[: ceil_log2(SLOT_WORDS)], s.filled[: s.slot_bits])),
            write.data.eq(beat.data),
            write.en.eq(self.i.valid & room),
            s.head.sequence.eq(s.filled),
            s.head.kind.eq(beat.kind),
            s.head.count.eq(count + 1),
            s.head.layer.eq(beat.layer),
            s.head.position.eq(beat.position),
            s.head.prompt.eq(beat.prompt),
            head_write.addr.eq(s.filled[: s.slot_bits]),
            head_write.data.eq(s.head),
            head_write.en.eq(write.en & beat.last),
            self.empty.eq((s.filled == s.delivered) & (count == 0)),
        ]
        with m.If(write.en):
            m.d.sync += count.eq(Mux(beat.last, 0, count + 1))
            with m.If(beat.last):
                m.d.sync += s.filled.eq(s.filled + 1)

    def _listen(self, m: Module, s: _Signals) -> None:
        """Follow the answers of the receiver; go back on a refusal or a timeout."""
        silence = Signal(range(self.timeout + 1))
        m.d.sync += silence.eq(silence + 1)
        with m.If(self.answer.valid):
            m.d.sync += [
                s.expected.eq(self.answer.expected),
                s.delivered.eq(self.answer.delivered),
                silence.eq(0),
            ]
            with m.If(self.answer.refused):
                m.d.sync += s.go_back.eq(1)
        with m.If(s.sent == s.expected):
            m.d.sync += silence.eq(0)
        with m.Elif(silence == self.timeout):
            m.d.sync += [s.go_back.eq(1), silence.eq(0)]

    def _send(self, m: Module, s: _Signals, read: Any, head_read: Any) -> None:
        """Send the frames that are filled, at the bandwidth of the link."""
        m.submodules.crc = check = CRC(data_width=32).create()
        credit = Signal(range(2 * WORD_BYTES + 1))
        may = Signal()
        following = Signal(FrameHead())
        now = Signal(FrameHead())  # of the frame being sent, whose buffer may be reused
        # Words are read two ahead: one is in a register, before the CRC, the next one behind it.
        index, place = Signal(16), Signal(ceil_log2(SLOT_WORDS))
        payload = Signal(32, reset_less=True)
        reads = Signal()
        word = Signal(32)
        checked = Signal(32)
        goes = Signal()
        m.d.comb += [
            head_read.addr.eq(s.sent[: s.slot_bits]),
            following.eq(head_read.data),
            read.addr.eq(Cat(place, s.sent[: s.slot_bits])),
            read.en.eq(reads),
            may.eq(credit >= WORD_BYTES),
            check.data.eq(checked),
        ]
        behind = Signal()
        ahead = Signal(SEQUENCE_BITS)
        m.d.comb += [
            ahead.eq(s.expected - s.sent),
            behind.eq(ahead.any() & (ahead <= SLOTS)),
        ]
        more = Mux(goes, credit - WORD_BYTES, credit) + self.bytes_per_cycle
        m.d.sync += [
            credit.eq(Mux(more > 2 * WORD_BYTES, 2 * WORD_BYTES, more)),
            self.o.valid.eq(goes),
            self.o.first.eq(0),
            self.o.data.eq(word),
        ]
        with m.If(reads):
            m.d.sync += [place.eq(place + 1), payload.eq(read.data)]
        with m.FSM():
            with m.State("idle"):
                m.d.sync += place.eq(0)
                with m.If(s.go_back):
                    m.d.sync += [
                        s.go_back.eq(0),
                        s.sent.eq(s.expected),
                        self.count_link_retries.eq(self.count_link_retries + 1),
                    ]
                with m.Elif(behind):
                    # The missing frames were acknowledged during the go-back.
                    m.d.sync += s.sent.eq(s.expected)
                with m.Elif((s.sent != s.filled) & may):
                    m.d.comb += [
                        goes.eq(1),
                        word.eq(following.as_value()[:32]),
                        check.start.eq(1),
                    ]
                    m.d.sync += [self.o.first.eq(1), now.eq(following)]
                    m.next = "feed"
            with m.State("feed"):
                # The CRC takes the word a cycle later, because its start takes a cycle.
                m.d.comb += [
                    checked.eq(now.as_value()[:32]),
                    check.valid.eq(1),
                    reads.eq(1),
                ]
                m.d.sync += index.eq(0)
                m.next = "head"
            with m.State("head"):
                m.d.comb += [word.eq(now.as_value()[32:]), checked.eq(now.as_value()[32:])]
                with m.If(may):
                    m.d.comb += [goes.eq(1), check.valid.eq(1)]
                    m.d.sync += self.count_link_framing.eq(self.count_link_framing + 12)
                    m.next = "fetch"
            with m.State("fetch"):
                m.d.comb += reads.eq(1)
                m.next = "payload"
            with m.State("payload"):
                m.d.comb += [word.eq(payload), checked.eq(payload)]
                with m.If(may):
                    m.d.comb += [goes.eq(1), check.valid.eq(1), reads.eq(1)]
                    m.d.sync += [
                        index.eq(index + 1),
                        self.count_link_payload.eq(self.count_link_payload + 4),
                    ]
                    with m.If(index == now.count - 1):
                        m.next = "check"
            with m.State("check"):
                m.d.comb += word.eq(check.crc)
                with m.If(may):
                    m.d.comb += goes.eq(1)
                    m.d.sync += [
                        s.sent.eq(s.sent + 1),
                        self.count_link_frames.eq(self.count_link_frames + 1),
                    ]
                    m.next = "idle"
