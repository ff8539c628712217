# SPDX-License-Identifier: BSD-2-Clause
"""The router of a tile."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out, Signature

from diptych.config import DEFAULTS

from .color_buffers import ColorBuffers
from .credits import Credits
from .fabric import (
    COLOR_BITS,
    DATA_BITS,
    LOAD_COLOR,
    MAX_COLORS,
    PORT_NAMES,
    POSITION_BITS,
    POSITIONS,
    Combine,
    LinkSignature,
    Port,
    Route,
    Wavelet,
)

__all__ = ["ROUTER_COUNTERS", "RouteWrite", "Router"]

ROUTER_COUNTERS = (*PORT_NAMES, "blocked")
"""Names of the router's counters, each a register ``count_<name>``."""

TURN_AROUND = 2**31 - 1
"""All but the sign bit."""


class RouteWrite(Signature):
    """Writes the route of a color at a switch position.

    A write of position 0 also sets the position of the color, in the next cycle.

    Members
    -------
    valid, color, position : :py:`Out(1)`, :py:`Out(5)`, :py:`Out(2)`
        Color and switch position.
    route : :py:`Out(Route())`
        The route.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "color": Out(COLOR_BITS),
                "position": Out(POSITION_BITS),
                "route": Out(Route()),
            }
        )


class _Signals:
    """Routes, buffers and arbitration of a :class:`Router`; vectors have a bit per color."""

    def __init__(self, router: "Router") -> None:
        colors = router.colors
        # Current route of each color.
        self.source = [
            Signal(
                colors,
                name=f"source_{p.label}",
                init=1 << LOAD_COLOR if p is Port.WEST else 0,
            )
            for p in Port
        ]
        self.compares = Signal(colors)
        self.pairs = Signal(colors)
        self.sent_as = [Signal(COLOR_BITS, name=f"sent_as_{k}", init=k) for k in range(colors)]
        self.moving = Signal(colors)
        self.turned = Signal(colors)
        # Colors that get a new route in this cycle.
        self.changes = Signal(colors)
        self.second = Signal(colors)
        self.target = [Signal(colors, name=f"target_{p.label}") for p in Port]
        # Of each port.
        self.buffers = [ColorBuffers(colors=colors) for _ in Port]
        self.credits = [Credits(colors=colors) for _ in Port]
        # Colors whose wavelets are all there; targets of each color; colors that fire.
        self.complete = Signal(colors)
        self.targets: list[Signal] = []
        self.fire = Signal(colors)


class Router(wiring.Component):
    """Routes wavelets between five ports, by color.

    A color fires when each source of its route has a wavelet, each target has a credit and no
    target's port is in use in this cycle: the wavelets are combined into one, which is sent to all
    targets at once. Colors that compete for a port take turns; a color that waits never blocks
    another one.

    The latency is ``hop_cycles`` from link to link, and 1 to the ramp. The throughput is a wavelet
    per cycle on every link, also where wavelets fork or combine; colors that compare (MAX and
    ARGMAX) share one comparator, and a wavelet per cycle between them.

    A color may have several switch positions, each a route of its own. When a wavelet with the
    control bit has passed, the color moves to the position that its route names as the next one,
    and passes nothing in the cycle after that. Colors that move at the same time do so one after
    the other.

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
        Wavelets sent.
    count_blocked : :py:`Out(32)`
        Cycles in which a color had all its wavelets, and no color fired.

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
        self._store_routes(m, s)
        self._connect_links(m, s)
        self._arbitrate(m, s)
        self._send(m, s)
        return m

    def _store_routes(self, m: Module, s: _Signals) -> None:
        """Keep the current route of each color, as a vector over the colors for each port."""
        stored_target = [
            Signal(
                self.colors,
                name=f"stored_target_{p.label}",
                init=1 << LOAD_COLOR if p in (Port.EAST, Port.RAMP) else 0,
            )
            for p in Port
        ]
        route = self._switch(m, s)
        with m.If(s.changes.any()):
            for stored, new in (
                *((s.source[p], route.sources[p]) for p in Port),
                *((stored_target[p], route.targets[p]) for p in Port),
                (
                    s.compares,
                    (route.combine == Combine.MAX) | (route.combine == Combine.ARGMAX),
                ),
                (s.pairs, route.combine == Combine.ARGMAX),
            ):
                m.d.sync += stored.eq(Mux(new, stored | s.changes, stored & ~s.changes))
            for k in range(self.colors):
                with m.If(s.changes[k]):
                    m.d.sync += s.sent_as[k].eq(route.color)
        for p in Port:
            there = stored_target[p] if p is Port.RAMP else Mux(self.edge[p], 0, stored_target[p])
            m.d.comb += s.target[p].eq(there)

    def _connect_links(self, m: Module, s: _Signals) -> None:
        """Connect the buffers and credit counters of the links."""
        for p in Port:
            buffer, credit = s.buffers[p], s.credits[p]
            m.submodules[f"buffers_{p.label}"] = buffer
            m.submodules[f"credits_{p.label}"] = credit
            arriving, leaving = getattr(self, f"{p.label}_i"), getattr(self, f"{p.label}_o")
            if self.hop_cycles == 1 or p is Port.RAMP:
                wiring.connect(m, buffer.link, wiring.flipped(arriving))
            else:
                m.d.comb += [
                    buffer.link.valid.eq(arriving.valid),
                    buffer.link.wavelet.eq(arriving.wavelet),
                ]
                m.d.sync += arriving.credit.eq(buffer.link.credit)
            m.d.comb += credit.credit.eq(leaving.credit)

    def _arbitrate(self, m: Module, s: _Signals) -> None:
        """Choose the colors that fire; those that compete for a port take turns."""
        routed = s.source[0] | s.source[1] | s.source[2] | s.source[3] | s.source[4]
        met = ~Const(0, self.colors)
        for p in Port:
            met &= s.buffers[p].waiting | ~s.source[p]
        m.d.comb += s.complete.eq(routed & met & ~s.moving)
        wanted = Signal(self.colors)
        for k in range(self.colors):
            # The last bit is the comparator.
            wants = Signal(6, name=f"targets_{k}")
            free = Signal(5, name=f"free_{k}")
            m.d.comb += wants.eq(Cat(*(s.target[p][k] for p in Port), s.compares[k]))
            with m.If(s.complete[k]):
                for p in Port:
                    m.d.comb += free[p].eq(s.credits[p].available.bit_select(s.sent_as[k], 1))
                m.d.comb += wanted[k].eq(~(wants[:5] & ~free).any())
            s.targets.append(wants)

        # Colors that had their turn come after the others, until the others want nothing.
        turn = Signal(self.colors, init=2**self.colors - 1)
        with m.If(wanted.any()):
            taken = Const(0, 6)
            fires = [[], []]
            for late in (0, 1):
                for k in range(self.colors):
                    fires_now = Signal(name=f"fires_{late}_{k}")
                    taken_now = Signal(6, name=f"taken_{late}_{k}")
                    asks = wanted[k] & (~turn[k] if late else turn[k])
                    m.d.comb += [
                        fires_now.eq(asks & ~(s.targets[k] & taken).any()),
                        taken_now.eq(taken | Mux(fires_now, s.targets[k], 0)),
                    ]
                    taken = taken_now
                    fires[late].append(fires_now)
            for k in range(self.colors):
                m.d.comb += s.fire[k].eq(fires[0][k] | fires[1][k])
            left = Signal(self.colors)
            m.d.comb += left.eq(turn & ~s.fire)
            m.d.sync += turn.eq(Mux((left & wanted).any(), left, 2**self.colors - 1))
        for p in Port:
            m.d.comb += s.buffers[p].pop.eq(s.fire & s.source[p])

    def _send(self, m: Module, s: _Signals) -> None:
        """Combine the wavelets of each color that fires, and send the result."""
        heads = [[getattr(buffer, f"head_{k}") for buffer in s.buffers] for k in range(self.colors)]
        compared = Signal(DATA_BITS)
        comparing = Signal(self.colors)
        m.d.comb += comparing.eq(s.fire & s.compares)
        with m.If(comparing.any()):
            self._compare(m, comparing, s.source, s.pairs, s.second, heads, compared)
        toggles = Signal(self.colors)
        m.d.comb += toggles.eq(comparing & s.pairs)
        with m.If((toggles | s.changes).any()):
            m.d.sync += s.second.eq((s.second ^ toggles) & ~s.changes)
        leaving = [Signal(Wavelet(), name=f"leaving_{p.label}") for p in Port]
        sends = [Signal(name=f"sends_{p.label}") for p in Port]
        for k in range(self.colors):
            total = Signal(DATA_BITS, name=f"total_{k}")
            control = Signal(name=f"control_{k}")
            with m.If(s.fire[k]):
                with m.If(s.compares[k]):
                    m.d.comb += total.eq(compared)
                with m.Else():
                    m.d.comb += total.eq(
                        sum(
                            (Mux(s.source[p][k], heads[k][p].data, 0) for p in Port),
                            Const(0, 1),
                        )
                    )
                m.d.comb += [
                    control.eq(Cat(s.source[p][k] & heads[k][p].control for p in Port).any()),
                    s.turned[k].eq(control),
                ]
                for p in Port:
                    with m.If(s.targets[k][p]):
                        m.d.comb += [
                            sends[p].eq(1),
                            leaving[p].data.eq(total),
                            leaving[p].color.eq(s.sent_as[k]),
                            leaving[p].control.eq(control),
                        ]
        for p in Port:
            link = getattr(self, f"{p.label}_o")
            count = getattr(self, f"count_{p.label}")
            valid, wavelet = link.valid, link.wavelet
            if self.hop_cycles == 2 and p is not Port.RAMP:
                valid = Signal(name=f"valid_{p.label}")
                wavelet = Signal(Wavelet(), name=f"wavelet_{p.label}", reset_less=True)
                m.d.sync += link.valid.eq(valid)
                with m.If(valid):
                    m.d.sync += link.wavelet.eq(wavelet)
            m.d.sync += valid.eq(sends[p])
            with m.If(sends[p]):
                m.d.comb += s.credits[p].send.eq(1 << leaving[p].color)
                m.d.sync += [wavelet.eq(leaving[p]), count.eq(count + 1)]
        with m.If(s.complete.any() & ~s.fire.any()):
            m.d.sync += self.count_blocked.eq(self.count_blocked + 1)

    def _switch(self, m: Module, s: _Signals) -> Any:
        """Choose the colors that get a new route, at most one per cycle; return the route."""
        colors = self.colors
        write = self.route_write
        changes, moving = s.changes, s.moving
        route = Signal(Route())
        written = Signal(colors)
        m.d.comb += route.eq(write.route)
        with m.If(write.valid):
            m.d.comb += written.eq(1 << write.color)
            with m.If(write.position == 0):
                m.d.comb += changes.eq(written)
        if self.positions == 1:
            return route

        bits = (colors - 1).bit_length()
        m.submodules.routes = routes = memory.Memory(
            shape=unsigned(Route().size), depth=POSITIONS << bits, init=[]
        )
        store = routes.write_port()
        load = routes.read_port(domain="comb")
        m.d.comb += [
            store.en.eq(write.valid),
            store.addr.eq(Cat(write.color[:bits], write.position)),
            store.data.eq(write.route.as_value()),
        ]
        advances = Signal(colors)
        following = [Signal(colors, name=f"following_{bit}") for bit in range(POSITION_BITS)]
        with m.If(changes.any()):
            for stored, new in (
                (advances, route.advances),
                *((following[bit], route.next[bit]) for bit in range(POSITION_BITS)),
            ):
                m.d.sync += stored.eq(Mux(new, stored | changes, stored & ~changes))
        with m.If(moving.any() & ~write.valid):
            for k in reversed(range(colors)):
                with m.If(moving[k]):
                    m.d.comb += [
                        load.addr.eq(Cat(Const(k, bits), *(bit[k] for bit in following))),
                        changes.eq(1 << k),
                    ]
            m.d.comb += route.eq(load.data)
        m.d.sync += moving.eq((moving & ~changes) | (s.turned & advances))
        return route

    def _compare(
        self,
        m: Module,
        now: Signal,
        source: list[Signal],
        pairs: Signal,
        second: Signal,
        heads: list[list[Any]],
        compared: Signal,
    ) -> None:
        """The largest of a color's wavelets; of second ones of pairs, the least that still wins."""
        operands = [Signal(signed(DATA_BITS), name=f"operand_{p.label}") for p in Port]
        won = [Signal(self.colors, name=f"won_{p.label}", reset_less=True) for p in Port]
        takes = Signal(len(Port))
        is_index = Signal()
        for k, head in enumerate(heads):
            with m.If(now[k]):
                m.d.comb += is_index.eq(pairs[k] & second[k])
                for p in Port:
                    m.d.comb += [
                        takes[p].eq(source[p][k] & (~is_index | won[p][k])),
                        # Turned around: the smallest unsigned number becomes the largest signed.
                        operands[p].eq(head[p].data ^ Mux(is_index, TURN_AROUND, 0)),
                    ]
        largest = Const(-(2**31), signed(DATA_BITS))
        for p in Port:
            larger = Signal(signed(DATA_BITS), name=f"larger_{p.label}")
            m.d.comb += larger.eq(Mux(takes[p] & (operands[p] > largest), operands[p], largest))
            largest = larger
        m.d.comb += compared.eq(largest ^ Mux(is_index, TURN_AROUND, 0))
        with m.If((now & pairs).any() & ~is_index):
            for p in Port:
                wins = takes[p] & (operands[p] == largest)
                m.d.sync += won[p].eq(Mux(wins, won[p] | now, won[p] & ~now))
