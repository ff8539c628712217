# SPDX-License-Identifier: BSD-2-Clause
"""The whole machine: prefill panel with HBM, KV link, decode panel, and the host's ports."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.config import DEFAULTS
from diptych.link.layout import Setting
from diptych.link.link import KvLink
from diptych.mesh.host_port import HostLine
from diptych.mesh.panel import DecodePanel
from diptych.systolic.isa import Program
from diptych.systolic.panel_with_hbm import PrefillWithHbm

__all__ = ["System"]


class System(wiring.Component):
    """Both panels and the link.

    The host fills the HBM, loads the rows of the mesh, writes the link's settings, starts the
    prefill program, and then reads tokens: the first from the link, the others from the mesh.

    Parameters
    ----------
    array_rows, array_columns : :class:`int`
        Size of the array; powers of two from 4 to 128.
    mesh_rows, mesh_columns : :class:`int`
        Size of the mesh.
    hbm_bytes, hbm_latency, hbm_bytes_per_cycle : :class:`int`
        As of :class:`.Hbm`.
    weight_rows : :class:`int`
        As of :class:`.MatrixEngine`.
    link_latency, link_bytes_per_cycle : :class:`int`
        As of :class:`.KvLink`.
    colors : :class:`int`
        Colors of a router.
    sram_bytes : :class:`int`
        SRAM of a tile.
    program_depth : :class:`int`
        Instructions that the program memory of a tile holds.
    mesh_as_blackbox : :class:`bool`
        As of :class:`.DecodePanel`.

    Members
    -------
    hbm : :py:`In(stream.Signature(...))`
        As ``host`` of :class:`.Hbm`.
    rows : :py:`In(stream.Signature(HostLine())).array(mesh_rows)`
        Load packets of each row.
    settings : :py:`In(stream.Signature(Setting()))`
        Settings of the link.
    damage : :py:`In(32)`
        Bits to flip on the link; for tests.
    start, program : :py:`In(1)`, :py:`In(32)`
        Starts the prefill program at an HBM address.
    finished : :py:`Out(1)`
        The prefill program has ended.
    link_busy : :py:`Out(1)`
        The link has words to deliver.
    link_word : :py:`Out(1)`
        A word is on the link's forward wires.
    token, token_valid : :py:`Out(32)`, :py:`Out(1)`
        A token (bits 23 to 0) of a sequence (bits 31 to 24), for one cycle.
    """

    hbm: stream.Interface
    rows: Any
    settings: stream.Interface
    damage: Signal
    start: Signal
    program: Signal
    finished: Signal
    link_busy: Signal
    link_word: Signal
    token: Signal
    token_valid: Signal

    def __init__(
        self,
        array_rows: int,
        array_columns: int,
        mesh_rows: int,
        mesh_columns: int,
        *,
        hbm_bytes: int | None = DEFAULTS.hbm_bytes,
        hbm_latency: int = DEFAULTS.hbm_latency,
        hbm_bytes_per_cycle: int = DEFAULTS.hbm_bytes_per_cycle,
        weight_rows: int = DEFAULTS.weight_rows,
        link_latency: int = DEFAULTS.link_latency,
        link_bytes_per_cycle: int = DEFAULTS.link_bytes_per_cycle,
        colors: int = DEFAULTS.colors,
        sram_bytes: int = DEFAULTS.sram_bytes,
        program_depth: int = DEFAULTS.program_depth,
        mesh_as_blackbox: bool = False,
    ) -> None:
        self.prefill = PrefillWithHbm(
            array_rows,
            array_columns,
            hbm_bytes=hbm_bytes,
            latency=hbm_latency,
            bytes_per_cycle=hbm_bytes_per_cycle,
            weight_rows=weight_rows,
        )
        self.link = KvLink(mesh_rows, latency=link_latency, bytes_per_cycle=link_bytes_per_cycle)
        self.decode = DecodePanel(
            mesh_rows,
            mesh_columns,
            colors=colors,
            sram_bytes=sram_bytes,
            program_depth=program_depth,
            mesh_as_blackbox=mesh_as_blackbox,
        )
        super().__init__(
            {
                "hbm": In(stream.Signature(self.prefill.hbm.host_shape)),
                "rows": In(stream.Signature(HostLine())).array(mesh_rows),
                "settings": In(stream.Signature(Setting())),
                "damage": In(32),
                "start": In(1),
                "program": In(Program()),
                "finished": Out(1),
                "link_busy": Out(1),
                "link_word": Out(1),
                "token": Out(32),
                "token_valid": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.prefill = prefill = self.prefill
        m.submodules.link = link = self.link
        m.submodules.decode = decode = self.decode
        wiring.connect(m, wiring.flipped(self.hbm), prefill.host)
        wiring.connect(m, prefill.handoff, link.i)
        wiring.connect(m, wiring.flipped(self.settings), link.settings)
        for row in range(decode.mesh.rows):
            wiring.connect(m, wiring.flipped(self.rows[row]), decode.i[row])
            wiring.connect(m, link.o[row], decode.words[row])
        m.d.comb += [
            prefill.start.eq(self.start),
            prefill.program.eq(self.program),
            self.finished.eq(prefill.finished),
            link.damage.eq(self.damage),
            self.link_busy.eq(link.busy),
            self.link_word.eq(link.on_wires),
            self.token_valid.eq(link.token_valid | decode.token_valid),
            self.token.eq(decode.token),
        ]
        with m.If(link.token_valid):
            m.d.comb += self.token.eq(link.token)
        return m
