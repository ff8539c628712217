# SPDX-License-Identifier: BSD-2-Clause
"""The router of a tile."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.one_hot import encode, select
from diptych.config import DEFAULTS

from .color_arbiter import ColorArbiter
from .combiner_tree import CombinerTree
from .credits import Credits
from .fabric import (
    COLOR_BITS,
    DATA_BITS,
    MAX_COLORS,
    PORT_NAMES,
    POSITIONS,
    LinkSignature,
    Port,
    buffer_depth,
)
from .input_port import InputPort
from .route_table import RouteTable, RouteWrite

__all__ = ["ROUTER_COUNTERS", "Router"]

ROUTER_COUNTERS = (*PORT_NAMES, "blocked")
"""Names of the router's counters, each a register ``count_<name>``."""


class _Signals:
    """Blocks of a :class:`Router`, and signals between them; vectors have a bit per color."""

    def __init__(self, router: "Router") -> None:
        colors = router.colors
        self.table: Any = RouteTable(colors=colors, positions=router.positions)
        self.arbiter: Any = ColorArbiter(colors=colors)
        self.combiner: Any = CombinerTree(colors=colors)
        self.depth = {p: buffer_depth(1 if p is Port.RAMP else router.hop_cycles) for p in Port}
        self.inputs = [InputPort(colors=colors, depth=self.depth[p]) for p in Port]
        self.leaving = [_Leaving(p, colors) for p in Port]
        # Of each color, in the cycle of the choice: control bit of what would leave.
        self.controls = Signal(colors)
        # Color that was chosen in the cycle before, and combines; the same, if it leaves a cycle
        # later; its targets.
        self.combining = Signal(colors)
        self.delaying = Signal(colors)
        self.combined = Signal(len(Port))
        self.delayed = Signal(len(Port))


class _Leaving:
    """Registers of what leaves through a port; vectors have a bit per color."""

    def __init__(self, port: Port, colors: int) -> None:
        name = port.label
        # Next on the link.
        self.announced = Signal(colors, name=f"announced_{name}")
        self.announced_control = Signal(colors, name=f"announced_control_{name}")
        # In the cycle behind that: whether it passes the crossbar; its color.
        self.passes = Signal(name=f"passes_{name}")
        self.color = Signal(COLOR_BITS, name=f"color_{name}")


class Router(wiring.Component):
    """Routes wavelets between five ports, by color.

    A color is chosen when each source of its route has a wavelet or an announcement of one, each
    target has credits, and none of its ports is in use: the wavelets are combined into one, which
    is sent to all targets at once. Colors that compete for a port take turns; a color that waits
    never blocks another one.

    The work of a wavelet takes four stages. The choice, from registered counts, routes and
    credits, runs three cycles ahead of the data (:class:`.LinkSignature`). In the next cycle the
    router announces the wavelet to its targets and addresses its buffer; the buffer's data pass a
    register, then the crossbar, or an adder and a comparator. Wavelets from several directions are
    combined in two steps, and are delayed by a cycle, as is one that leaves as another color, because
    that must be read before it is announced.

    So the latency from link to link is ``hop_cycles``, and one cycle more where wavelets are
    delayed. The throughput is a wavelet per cycle on every link, also where wavelets fork or
    combine. A router combines one color at a time, and a change of colors passes the combiners, too;
    these, and the ports that delayed wavelets have used, are free for others one cycle later.

    A color may have several switch positions, each a route of its own. When a wavelet with the
    control bit has passed, the color moves to the position that its route names as the next one,
    and passes nothing in the 3 cycles after that. Colors that move at the same time do so one
    after the other. Behind each control wavelet its color waits until that has left the next
    buffer.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors, 1 to 24.
    positions : :class:`int`
        Switch positions of a color, 1 to 4; others must not be written.
    hop_cycles : :class:`int`
        Cycles from link to link: 2 puts a register into each link, in both directions.

    Members
    -------
    north_i, east_i, south_i, west_i, ramp_i : :py:`In(LinkSignature(colors))`
        Links that arrive.
    north_o, east_o, south_o, west_o, ramp_o : :py:`Out(LinkSignature(colors))`
        Links that leave.
    edge : :py:`In(4)`
        A bit per direction: the tile has no neighbor there, and routes do not lead there.
    route_write : :py:`In(RouteWrite())`
        Changes a route. After reset only :data:`.LOAD_COLOR` has one: from west to ramp and east.
    count_north, count_east, count_south, count_west, count_ramp : :py:`Out(32)`
        Wavelets announced, as of the cycle before.
    count_blocked : :py:`Out(32)`
        Cycles in which a color had all its wavelets, and no color was chosen.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    edge: Signal
    route_write: Any
    count_blocked: Signal

    def __init__(
        self,
        *,
        colors: int = DEFAULTS.colors,
        positions: int = DEFAULTS.positions,
        hop_cycles: int = DEFAULTS.hop_cycles,
    ) -> None:
        for words, number, limit in (
            ("Number of colors", colors, MAX_COLORS),
            ("Number of switch positions", positions, POSITIONS),
            ("Cycles of a hop", hop_cycles, 2),
        ):
            if number not in range(1, limit + 1):
                raise ValueError(f"{words} must be in range(1, {limit + 1}), not {number!r}")
        self.colors = colors
        self.positions = positions
        self.hop_cycles = hop_cycles
        super().__init__(
            {
                **{f"{port}_i": In(LinkSignature(colors)) for port in PORT_NAMES},
                **{f"{port}_o": Out(LinkSignature(colors)) for port in PORT_NAMES},
                "edge": In(4),
                "route_write": In(RouteWrite()),
                **{f"count_{name}": Out(32) for name in ROUTER_COUNTERS},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = _Signals(self)
        m.submodules.table = s.table
        m.submodules.arbiter = s.arbiter
        m.submodules.combiner = s.combiner
        wiring.connect(m, s.table.write, wiring.flipped(self.route_write))
        m.d.comb += s.table.edge.eq(self.edge)
        self._connect_inputs(m, s)
        self._choose(m, s)
        self._announce(m, s)
        self._transfer(m, s)
        return m

    def _connect_inputs(self, m: Module, s: _Signals) -> None:
        """Connect the buffers of the links that arrive."""
        for p in Port:
            port, arriving = s.inputs[p], getattr(self, f"{p.label}_i")
            m.submodules[f"input_{p.label}"] = port
            if not self._has_registers(p):
                wiring.connect(m, port.link, wiring.flipped(arriving))
            else:
                m.d.comb += [
                    port.link.announced.eq(arriving.announced),
                    port.link.announced_control.eq(arriving.announced_control),
                    port.link.valid.eq(arriving.valid),
                    port.link.wavelet.eq(arriving.wavelet),
                ]
                m.d.sync += arriving.credit.eq(port.link.credit)

    def _choose(self, m: Module, s: _Signals) -> None:
        """Choose the colors whose wavelets go on."""
        table, arbiter = s.table, s.arbiter
        # Credits for all targets, of the color that leaves: a cycle ahead, for the next choice.
        credited = Signal(self.colors)
        short: Any = 0
        for p in Port:
            m.submodules[f"credits_{p.label}"] = credits = Credits(
                colors=self.colors, depth=s.depth[p]
            )
            m.d.comb += [
                credits.send.eq(s.leaving[p].announced),
                credits.control.eq(s.leaving[p].announced_control),
                credits.credit.eq(getattr(self, f"{p.label}_o").credit),
            ]
            lacking = Cat((sent_as & ~credits.three).any() for sent_as in table.sent_as)
            lacks = (table.delays & lacking) | (~table.delays & ~credits.two)
            short = short | (table.target[p] & lacks)
        m.d.sync += credited.eq(table.routed & ~short & ~table.changes)

        # All sources have a wavelet: known from the cycle before, whether it was chosen then or not.
        # It may not be chosen in the first cycle of a new route.
        complete = Signal(self.colors)
        present: Any = ~0
        left: Any = ~0
        announced: Any = 0
        controls: Any = 0
        waits: Any = Mux(s.delaying.any(), table.combines & ~table.delays, 0)
        for p in Port:
            m.d.comb += [
                s.combined[p].eq((s.combining & table.target[p]).any()),
                s.delayed[p].eq((s.delaying & table.target[p]).any()),
            ]
            waits = waits | Mux(s.delayed[p], table.target[p] & ~table.delays, 0)
            port, source = s.inputs[p], table.source[p]
            comes = port.link.announced
            present = present & (port.held | comes | ~source)
            left = left & ((port.held & (comes | ~port.single)) | ~source)
            announced = announced | comes
            controls = controls | (source & port.controls)
            m.d.comb += port.pop[0].eq(arbiter.chosen & source)
        m.d.sync += complete.eq((arbiter.chosen & left) | (~arbiter.chosen & present))
        met = Signal(self.colors)
        m.d.comb += [
            met.eq(present & table.routed & ~table.stopped),
            arbiter.early.eq(complete & credited & ~table.stopped),
            arbiter.late.eq(met & credited),
            arbiter.announced.eq(announced),
            arbiter.waits.eq(waits),
            arbiter.changes.eq(table.changes),
            arbiter.conflicting.eq(table.conflicting),
            table.turned.eq(arbiter.chosen & controls),
            s.controls.eq(controls),
        ]
        blocked = Signal()
        m.d.sync += blocked.eq(met.any() & ~arbiter.chosen.any())
        with m.If(blocked):
            m.d.sync += self.count_blocked.eq(self.count_blocked + 1)

    def _announce(self, m: Module, s: _Signals) -> None:
        """Announce what was chosen: in the next cycle, or in that behind it."""
        table, chosen = s.table, s.arbiter.chosen
        m.d.sync += [
            s.combining.eq(chosen & table.combines),
            s.delaying.eq(chosen & table.delays),
        ]
        # One color at most is delayed: what it leaves as, and its control bit.
        sent_as, sent_control = Signal(self.colors), Signal(self.colors)
        control = Signal(self.colors)
        m.d.comb += [
            sent_as.eq(select(s.delaying, table.sent_as)),
            sent_control.eq(Mux(control.any(), sent_as, 0)),
        ]
        m.d.sync += control.eq(chosen & table.delays & s.controls)
        for p in Port:
            out, link = s.leaving[p], getattr(self, f"{p.label}_o")
            count = getattr(self, f"count_{p.label}")
            passes = Signal(self.colors, name=f"passes_{p.label}")
            delayed = s.delayed[p]
            m.d.comb += passes.eq(chosen & table.target[p] & ~table.delays)
            m.d.sync += [
                out.announced.eq(passes | Mux(delayed, sent_as, 0)),
                out.announced_control.eq((passes & s.controls) | Mux(delayed, sent_control, 0)),
            ]
            with m.If(out.announced.any()):
                m.d.sync += count.eq(count + 1)
            # Of those that were announced last; the last one is bit 0.
            count_before = 3 if self._has_registers(p) else 2
            comes, control_bits = (
                Signal(count_before, name=f"{name}_{p.label}") for name in ("comes", "control_bits")
            )
            color: Any = out.color
            m.d.sync += [
                comes.eq(Cat(out.announced.any(), comes)),
                control_bits.eq(Cat(out.announced_control.any(), control_bits)),
                color.eq(encode(out.announced)),
                link.valid.eq(comes[-1]),
                link.wavelet.control.eq(control_bits[-1]),
            ]
            for before in range(1, count_before):
                color_before = Signal(COLOR_BITS, name=f"color_{p.label}_{before}")
                m.d.sync += color_before.eq(color)
                color = color_before
            m.d.sync += link.wavelet.color.eq(color)
            announcement = [
                (link.announced, out.announced),
                (link.announced_control, out.announced_control),
            ]
            for there, here in announcement:
                if self._has_registers(p):
                    m.d.sync += there.eq(here)
                else:
                    m.d.comb += there.eq(here)

    def _transfer(self, m: Module, s: _Signals) -> None:
        """Send what was chosen three cycles ago, combined where its route says so."""
        table, combiner, combining = s.table, s.combiner, s.combining
        heads = [s.inputs[p].head[0] for p in Port]
        m.d.sync += [
            combiner.next.eq(combining),
            combiner.delayed.eq(s.delaying.any()),
            combiner.takes.eq(Cat((s.inputs[p].popped[0] & combining).any() for p in Port)),
            combiner.restart.eq(table.changes),
        ]
        m.d.comb += [combiner.compares.eq(table.compares), combiner.pairs.eq(table.pairs)]
        # Of what was read in the cycle before: whether there is something; its color.
        comes = Signal(len(Port))
        colors = [Signal(COLOR_BITS, name=f"color_from_{p.label}") for p in Port]
        for p in Port:
            popped = s.inputs[p].popped[0]
            m.d.comb += combiner.head[p].eq(heads[p])
            m.d.sync += [comes[p].eq(popped.any()), colors[p].eq(encode(popped))]
        for q in Port:
            out, link = s.leaving[q], getattr(self, f"{q.label}_o")
            data = Signal(DATA_BITS, name=f"data_{q.label}")
            from_ports = Signal(len(Port), name=f"from_ports_{q.label}")
            results = s.combined[q] & ~s.delayed[q]
            late, next_result, takes_result = (
                Signal(name=f"{name}_result_{q.label}") for name in ("late", "next", "takes")
            )
            m.d.sync += [
                out.passes.eq(out.announced.any() & ~results & ~late),
                from_ports.eq(Cat(out.passes & comes[p] & (colors[p] == out.color) for p in Port)),
                late.eq(s.delayed[q]),
                next_result.eq(results | late),
                takes_result.eq(next_result),
            ]
            m.d.comb += data.eq(select(from_ports, heads) | Mux(takes_result, combiner.result, 0))
            if self._has_registers(q):
                late = Signal(DATA_BITS, name=f"data_late_{q.label}")
                m.d.sync += late.eq(data)
                data = late
            m.d.sync += link.wavelet.data.eq(data)

    def _has_registers(self, port: Port) -> bool:
        return self.hop_cycles == 2 and port is not Port.RAMP
