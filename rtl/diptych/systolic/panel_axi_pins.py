# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel with AXI4 pins, for memories that are not ours."""

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

    Bursts are INCR, beats of 64 bytes. ``rresp`` is not looked at; ``bresp`` is as in
    :class:`.WriteResponse`.

    Members
    -------
    start, program, finished, handoff
        As of :class:`.PrefillPanel`.
    m_axi_awid, m_axi_awaddr, ... : In or Out
        Pins of the five channels, seen by the manager, with ``valid`` and ``ready`` of each.
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
            # Inside the panel these names stand for the ports of its engines.
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
