# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel with its HBM."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

from diptych.config import DEFAULTS
from diptych.memory.hbm import Hbm

from .panel import PrefillPanel, connect_program_ports, program_ports

__all__ = ["PrefillWithHbm"]


class PrefillWithHbm(wiring.Component):
    """A :class:`.PrefillPanel` on an :class:`.Hbm`.

    Members
    -------
    host : :py:`In(stream.Signature(...))`
        Fills the HBM, as :attr:`.Hbm.host`.
    start, program, finished : :py:`In(1)`, :py:`In(Program())`, :py:`Out(1)`
        As of :class:`.PrefillPanel`.
    handoff : :py:`Out(stream.Signature(Handoff()))`
        As of :class:`.PrefillPanel`.
    """

    host: stream.Interface
    start: Signal
    program: Signal
    finished: Signal
    handoff: stream.Interface

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        hbm_bytes: int | None = DEFAULTS.hbm_bytes,
        latency: int = DEFAULTS.hbm_latency,
        bytes_per_cycle: int = DEFAULTS.hbm_bytes_per_cycle,
        weight_rows: int = DEFAULTS.weight_rows,
    ) -> None:
        self.panel = PrefillPanel(rows, columns, weight_rows=weight_rows)
        self.hbm = Hbm(size=hbm_bytes, latency=latency, bytes_per_cycle=bytes_per_cycle)
        super().__init__(
            {
                "host": In(stream.Signature(self.hbm.host_shape)),
                **program_ports(),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.panel = panel = self.panel
        m.submodules.hbm = hbm = self.hbm
        wiring.connect(m, panel.axi, hbm.axi)
        wiring.connect(m, wiring.flipped(self.host), hbm.host)
        connect_program_ports(m, panel, self)
        return m
