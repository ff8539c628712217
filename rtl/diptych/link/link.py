# SPDX-License-Identifier: BSD-2-Clause
"""The KV link, from the prefill panel's handoff to the rows of the mesh."""

from typing import Any

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.config import DEFAULTS
from diptych.systolic.isa import Handoff

from .channel import Delay
from .frames import Answer, LinkWord
from .layout import LayoutChange, Setting
from .receiver import LinkReceiver
from .transmitter import LinkTransmitter

__all__ = ["LINK_CAUSES", "KvLink"]

LINK_CAUSES = ("sending", "waiting", "idle")


class KvLink(wiring.Component):
    """Transmitter, wires, receiver and layout change.

    Parameters
    ----------
    rows : :class:`int`
        Rows of the mesh.
    latency : :class:`int`
        Cycles in each direction, 2 to 1024.
    bytes_per_cycle : :class:`int`
        1 to 4.

    Members
    -------
    i : :py:`In(stream.Signature(Handoff()))`
        From the prefill panel.
    settings : :py:`In(stream.Signature(Setting()))`
        Registers of the layout change.
    damage : :py:`In(32)`
        Bits to flip of the word on the wires; for tests.
    o : :py:`Out(stream.Signature(32)).array(rows)`
        Load packets for each row.
    token, token_valid : :py:`Out(32)`, :py:`Out(1)`
        The first token.
    busy : :py:`Out(1)`
        Words that were handed off are not delivered yet.
    on_wires : :py:`Out(1)`
        A word is on the forward wires.
    count_link_sending, count_link_waiting, count_link_idle : :py:`Out(32)`
        Cycles, each counted once: a word is on the wires; words are not delivered yet; idle.
    """

    i: stream.Interface
    settings: stream.Interface
    damage: Signal
    o: Any
    token: Signal
    token_valid: Signal
    busy: Signal
    on_wires: Signal

    def __init__(
        self,
        rows: int,
        *,
        latency: int = DEFAULTS.link_latency,
        bytes_per_cycle: int = DEFAULTS.link_bytes_per_cycle,
    ) -> None:
        self.rows = rows
        self.transmitter = LinkTransmitter(bytes_per_cycle=bytes_per_cycle)
        self.latency = latency
        super().__init__(
            {
                "i": In(stream.Signature(Handoff())),
                "settings": In(stream.Signature(Setting())),
                "damage": In(32),
                "o": Out(stream.Signature(32)).array(rows),
                "token": Out(32),
                "token_valid": Out(1),
                "busy": Out(1),
                "on_wires": Out(1),
                **{f"count_link_{cause}": Out(32) for cause in LINK_CAUSES},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.transmitter = transmitter = self.transmitter
        m.submodules.forward = forward = Delay(LinkWord(), latency=self.latency)
        m.submodules.back = back = Delay(Answer(), latency=self.latency)
        m.submodules.receiver = receiver = LinkReceiver()
        m.submodules.layout = layout = LayoutChange()
        wiring.connect(m, wiring.flipped(self.i), transmitter.i)
        wiring.connect(m, wiring.flipped(self.settings), layout.settings)
        m.d.comb += [
            forward.i.valid.eq(transmitter.o.valid),
            forward.i.first.eq(transmitter.o.first),
            forward.i.data.eq(transmitter.o.data ^ self.damage),
            receiver.i.eq(forward.o),
            back.i.eq(receiver.answer),
            transmitter.answer.eq(back.o),
            layout.valid.eq(receiver.valid),
            layout.head.eq(receiver.head),
            layout.data.eq(receiver.data),
            receiver.address.eq(layout.address),
            receiver.delivered.eq(layout.delivered),
            self.token.eq(layout.token),
            self.token_valid.eq(layout.token_valid),
            self.on_wires.eq(transmitter.o.valid),
            self.busy.eq(~transmitter.empty | self.i.valid),
        ]
        with m.Switch(layout.row):
            for row in range(self.rows):
                with m.Case(row):
                    m.d.comb += [
                        self.o[row].valid.eq(layout.o.valid),
                        layout.o.ready.eq(self.o[row].ready),
                    ]
        for row in range(self.rows):
            m.d.comb += self.o[row].payload.eq(layout.o.payload)
        blamed = m.If
        for cause, holds in zip(LINK_CAUSES, (self.on_wires, self.busy, Const(1)), strict=True):
            counter = getattr(self, f"count_link_{cause}")
            with blamed(holds):
                m.d.sync += counter.eq(counter + 1)
            blamed = m.Elif
        return m
