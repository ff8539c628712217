# SPDX-License-Identifier: BSD-2-Clause
"""The decode panel: the mesh and its host ports."""

from functools import partial
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.config import DEFAULTS
from diptych.precompiled import Precompiled

from .fabric import DATA_BITS
from .host_port import HostLine, HostPort
from .mesh import Mesh

__all__ = ["DecodePanel"]


class DecodePanel(wiring.Component):
    """A mesh with a host port on the west link of each row.

    Load packets enter there, and results leave; tokens leave row 0.

    Parameters
    ----------
    rows, columns, colors, sram_bytes, program_depth, positions, hop_cycles : :class:`int`
        As of :class:`.Mesh`.
    mesh_as_blackbox : :class:`bool`
        Whether the mesh is emitted as a module ``mesh`` of its own, which a co-simulated model
        can replace.

    Members
    -------
    i : :py:`In(stream.Signature(HostLine())).array(rows)`
        Load packets of each row, from the host.
    words : :py:`In(stream.Signature(32)).array(rows)`
        Load packets of each row, from the KV link.
    token, token_valid : :py:`Out(32)`, :py:`Out(1)`
        Word that leaves row 0, for one cycle without backpressure: a token (bits 23 to 0) of a
        sequence (bits 31 to 24).
    results, results_valid : :py:`Out(32).array(rows)`, :py:`Out(1).array(rows)`
        Word that leaves each row, as ``token``.
    """

    i: Any
    words: Any
    token: Signal
    token_valid: Signal
    results: Any
    results_valid: Any

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        colors: int = DEFAULTS.colors,
        sram_bytes: int = DEFAULTS.sram_bytes,
        program_depth: int = DEFAULTS.program_depth,
        positions: int = DEFAULTS.positions,
        hop_cycles: int = DEFAULTS.hop_cycles,
        mesh_as_blackbox: bool = False,
    ) -> None:
        self.mesh_as_blackbox = mesh_as_blackbox
        self._make_mesh = partial(
            Mesh,
            rows,
            columns,
            colors=colors,
            sram_bytes=sram_bytes,
            program_depth=program_depth,
            positions=positions,
            hop_cycles=hop_cycles,
        )
        self.mesh = self._make_mesh()
        super().__init__(
            {
                "i": In(stream.Signature(HostLine())).array(rows),
                "words": In(stream.Signature(DATA_BITS)).array(rows),
                "token": Out(DATA_BITS),
                "token_valid": Out(1),
                "results": Out(DATA_BITS).array(rows),
                "results_valid": Out(1).array(rows),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        mesh: Any = self.mesh
        if self.mesh_as_blackbox:
            mesh = Precompiled(self.mesh, "mesh", self._make_mesh)
        m.submodules.mesh = mesh
        for r in range(self.mesh.rows):
            m.submodules[f"host_port_{r}"] = port = HostPort(colors=self.mesh.colors)
            wiring.connect(m, wiring.flipped(self.i[r]), port.i)
            wiring.connect(m, wiring.flipped(self.words[r]), port.words)
            wiring.connect(m, port.link, mesh.west_i[r])
            wiring.connect(m, mesh.west_o[r], port.back)
            m.d.comb += [
                self.results_valid[r].eq(mesh.west_o[r].valid),
                self.results[r].eq(mesh.west_o[r].wavelet.data),
            ]
        m.d.comb += [
            self.token_valid.eq(mesh.west_o[0].valid),
            self.token.eq(mesh.west_o[0].wavelet.data),
        ]
        return m
