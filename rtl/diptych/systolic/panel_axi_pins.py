# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel with AXI4 pins, for memories of others."""

from typing import Any

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.memory.axi import BEAT_BYTES

from .panel import PrefillPanel, connect_program_ports, program_ports

__all__ = ["PrefillWithPins"]

_WIDTHS = {
    "aw": {"id": 2, "addr": 32, "len": 8, "size": 3, "burst": 2},
    "w": {"data": 8 * BEAT_BYTES, "strb": BEAT_BYTES, "last": 1},
    "b": {"id": 2, "resp": 2},
    "ar": {"id": 2, "addr": 32, "len": 8, "size": 3, "burst": 2},
    "r": {"id": 2, "data": 8 * BEAT_BYTES, "resp": 2, "last": 1},
}
_SIZE = (BEAT_BYTES - 1).bit_length()
_INCR = 1


class PrefillWithPins(wiring.Component):
    """A :class:`.PrefillPanel` whose HBM port has the pins of the AXI4 specification.

    Bursts are INCR, beats of 64 bytes. ``rresp`` is ignored; ``bresp`` is as in
    :class:`.WriteResponse`.

    Members
    -------
    start, program, finished : :py:`In(1)`, :py:`In(Program())`, :py:`Out(1)`
        As of :class:`.PrefillPanel`.
    handoff : :py:`Out(stream.Signature(Handoff()))`
        As of :class:`.PrefillPanel`.
    m_axi_awvalid, m_axi_wvalid, m_axi_arvalid : :py:`Out(1)`
        AW, W and AR: an address or beat is offered.
    m_axi_awready, m_axi_wready, m_axi_arready : :py:`In(1)`
        AW, W and AR: it is accepted.
    m_axi_awid, m_axi_awaddr, m_axi_awlen : :py:`Out(2)`, :py:`Out(32)`, :py:`Out(8)`
        AW: a burst of writes.
    m_axi_awsize, m_axi_awburst : :py:`Out(3)`, :py:`Out(2)`
        AW: constant, 64 bytes and INCR.
    m_axi_wdata, m_axi_wstrb, m_axi_wlast : :py:`Out(512)`, :py:`Out(64)`, :py:`Out(1)`
        W: a beat.
    m_axi_bvalid, m_axi_bready : :py:`In(1)`, :py:`Out(1)`
        B: a response is offered; it is accepted.
    m_axi_bid, m_axi_bresp : :py:`In(2)`
        B: a response.
    m_axi_arid, m_axi_araddr, m_axi_arlen : :py:`Out(2)`, :py:`Out(32)`, :py:`Out(8)`
        AR: a burst of reads.
    m_axi_arsize, m_axi_arburst : :py:`Out(3)`, :py:`Out(2)`
        AR: constant, 64 bytes and INCR.
    m_axi_rvalid, m_axi_rready : :py:`In(1)`, :py:`Out(1)`
        R: a beat is offered; it is accepted.
    m_axi_rid, m_axi_rdata : :py:`In(2)`, :py:`In(512)`
        R: a beat.
    m_axi_rresp, m_axi_rlast : :py:`In(2)`, :py:`In(1)`
        R: its response, ignored; last of its burst.
    """

    start: Signal
    program: Signal
    finished: Signal
    handoff: stream.Interface

    def __init__(self, rows: int, columns: int) -> None:
        self.panel = PrefillPanel(rows, columns)
        pins: dict[str, Any] = {}
        for channel, widths in _WIDTHS.items():
            flow, back = (In, Out) if channel in "br" else (Out, In)
            pins |= {f"m_axi_{channel}{name}": flow(width) for name, width in widths.items()}
            pins |= {f"m_axi_{channel}valid": flow(1), f"m_axi_{channel}ready": back(1)}
        super().__init__(
            {
                **program_ports(),
                **pins,
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.panel = panel = self.panel
        connect_program_ports(m, panel, self)
        fixed = {"size": Const(_SIZE, 3), "burst": Const(_INCR, 2)}
        for channel, widths in _WIDTHS.items():
            port = getattr(panel.axi, channel)
            # Signals of the HBM port under names of their own, for waves.
            for part in ("valid", "ready", "payload"):
                value = getattr(port, part)
                seen = Signal.like(value, name=f"hbm__{channel}__{part}")
                m.d.comb += seen.eq(value)
            pin = {
                name: getattr(self, f"m_axi_{channel}{name}")
                for name in (*widths, "valid", "ready")
            }
            known = {name for name, _ in port.payload.shape()}
            if channel in "br":
                m.d.comb += [port.valid.eq(pin["valid"]), pin["ready"].eq(port.ready)]
                m.d.comb += [port.payload[name].eq(pin[name]) for name in widths if name in known]
            else:
                m.d.comb += [pin["valid"].eq(port.valid), port.ready.eq(pin["ready"])]
                m.d.comb += [
                    pin[name].eq(port.payload[name] if name in known else fixed[name])
                    for name in widths
                ]
        return m
