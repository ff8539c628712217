# SPDX-License-Identifier: BSD-2-Clause
"""The router of a tile."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out, Signature

from .color_buffers import ColorBuffers
from .credits import Credits
from .fabric import (
    COLOR_BITS,
    DATA_BITS,
    LOAD_COLOR,
    MAX_COLORS,
    POSITION_BITS,
    POSITIONS,
    Combine,
    LinkSignature,
    Port,
    Route,
    Wavelet,
)

__all__ = ["DIRECTIONS", "PORTS", "RouteWrite", "Router"]

TURN_AROUND = 2**31 - 1
"""All but the sign bit."""

PORTS = tuple(port.name.lower() for port in Port)
"""Names of a router's ports, by number."""
DIRECTIONS = PORTS[:4]
"""Names of the ports that lead to neighbours."""


class RouteWrite(Signature):
    """Writes the route of a color at a switch position.

    Position 0 becomes the color's position and takes effect in the next cycle.
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
    """Blocks and signals that the parts of the elaboration share."""

    def __init__(self, unit: Any) -> None:
        # store_routes
        self.source = [
            Signal(
                unit.colors,
                name=f"source_{PORTS[p]}",
                init=1 << LOAD_COLOR if p == Port.WEST.value else 0,
            )
            for p in range(len(PORTS))
        ]
        self.compares = Signal(unit.colors)
        self.pairs = Signal(unit.colors)
        self.sent_as = [Signal(COLOR_BITS, name=f"sent_as_{k}", init=k) for k in range(unit.colors)]
        self.moving = Signal(unit.colors)
        self.turned = Signal(unit.colors)
        self.changes: Signal
        self.route: Any
        self.second = Signal(unit.colors)
        self.target = [Signal(unit.colors, name=f"target_{PORTS[p]}") for p in range(len(PORTS))]
        # connect_links
        self.buffers = []
        self.credits = []
        # arbitrate
        self.complete = Signal(unit.colors)
        self.targets = []
        self.fire = Signal(unit.colors)


class Router(wiring.Component):
    """Moves wavelets between five ports along routes that are fixed by color.

    A color fires when each source of its route has a wavelet, each target has a credit and no
    target's port is taken in this cycle: the wavelets are combined into one, which goes to all
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
        A bit per direction: nothing is there, and routes do not lead there.
    route_write : :py:`In(RouteWrite())`
        Changes a route. After reset only :data:`.LOAD_COLOR` has one: from west to ramp and east.
    count_north, count_east, count_south, count_west, count_ramp : :py:`Out(32)`
        Wavelets sent.
    count_blocked : :py:`Out(32)`
        Cycles in which a color had all its wavelets and none fired.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    edge: Signal
    route_write: Any
    count_blocked: Signal

    def __init__(
        self, *, colors: int = 10, positions: int = POSITIONS, hop_cycles: int = 1
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
                **{f"{port}_i": In(LinkSignature(colors)) for port in PORTS},
                **{f"{port}_o": Out(LinkSignature(colors)) for port in PORTS},
                "edge": In(4),
                "route_write": In(RouteWrite()),
                **{f"count_{port}": Out(32) for port in PORTS},
                "count_blocked": Out(32),
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
                name=f"stored_target_{PORTS[p]}",
                init=1 << LOAD_COLOR if p in (Port.EAST.value, Port.RAMP.value) else 0,
            )
            for p in range(len(PORTS))
        ]
        s.changes, s.route = self._switch(m, s.moving, s.turned)
        with m.If(s.changes.any()):
            for stored, new in (
                *((s.source[p], s.route.sources[p]) for p in range(len(PORTS))),
                *((stored_target[p], s.route.targets[p]) for p in range(len(PORTS))),
                (
                    s.compares,
                    (s.route.combine == Combine.MAX) | (s.route.combine == Combine.ARGMAX),
                ),
                (s.pairs, s.route.combine == Combine.ARGMAX),
            ):
                m.d.sync += stored.eq(Mux(new, stored | s.changes, stored & ~s.changes))
            for k in range(self.colors):
                with m.If(s.changes[k]):
                    m.d.sync += s.sent_as[k].eq(s.route.color)
        for p in range(len(PORTS)):
            there = (
                stored_target[p] if p == Port.RAMP.value else Mux(self.edge[p], 0, stored_target[p])
            )
            m.d.comb += s.target[p].eq(there)

    def _connect_links(self, m: Module, s: _Signals) -> None:
        """Connect the buffers and credit counters of the links."""
        for p in range(len(PORTS)):
            m.submodules[f"buffers_{PORTS[p]}"] = buffer = ColorBuffers(colors=self.colors)
            m.submodules[f"credits_{PORTS[p]}"] = credit = Credits(colors=self.colors)
            arriving, leaving = getattr(self, f"{PORTS[p]}_i"), getattr(self, f"{PORTS[p]}_o")
            if self.hop_cycles == 1 or p == Port.RAMP.value:
                wiring.connect(m, buffer.link, wiring.flipped(arriving))
            else:
                m.d.comb += [
                    buffer.link.valid.eq(arriving.valid),
                    buffer.link.wavelet.eq(arriving.wavelet),
                ]
                m.d.sync += arriving.credit.eq(buffer.link.credit)
            m.d.comb += credit.credit.eq(leaving.credit)
            s.buffers.append(buffer)
            s.credits.append(credit)

    def _arbitrate(self, m: Module, s: _Signals) -> None:
        """Choose the colors that fire; those that compete for a port take turns."""
        routed = s.source[0] | s.source[1] | s.source[2] | s.source[3] | s.source[4]
        met = ~Const(0, self.colors)
        for p in range(len(PORTS)):
            met &= s.buffers[p].waiting | ~s.source[p]
        m.d.comb += s.complete.eq(routed & met & ~s.moving)
        wanted = Signal(self.colors)
        for k in range(self.colors):
            # The last bit stands for the comparator.
            wants = Signal(6, name=f"targets_{k}")
            free = Signal(5, name=f"free_{k}")
            m.d.comb += wants.eq(Cat(*(s.target[p][k] for p in range(len(PORTS))), s.compares[k]))
            with m.If(s.complete[k]):
                for p in range(len(PORTS)):
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
        for p in range(len(PORTS)):
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
        leaving = [Signal(Wavelet(), name=f"leaving_{PORTS[p]}") for p in range(len(PORTS))]
        sends = [Signal(name=f"sends_{PORTS[p]}") for p in range(len(PORTS))]
        for k in range(self.colors):
            total = Signal(DATA_BITS, name=f"total_{k}")
            control = Signal(name=f"control_{k}")
            with m.If(s.fire[k]):
                with m.If(s.compares[k]):
                    m.d.comb += total.eq(compared)
                with m.Else():
                    m.d.comb += total.eq(
                        sum(
                            (Mux(s.source[p][k], heads[k][p].data, 0) for p in range(len(PORTS))),
                            Const(0, 1),
                        )
                    )
                m.d.comb += [
                    control.eq(
                        Cat(s.source[p][k] & heads[k][p].control for p in range(len(PORTS))).any()
                    ),
                    s.turned[k].eq(control),
                ]
                for p in range(len(PORTS)):
                    with m.If(s.targets[k][p]):
                        m.d.comb += [
                            sends[p].eq(1),
                            leaving[p].data.eq(total),
                            leaving[p].color.eq(s.sent_as[k]),
                            leaving[p].control.eq(control),
                        ]
        for p in range(len(PORTS)):
            link = getattr(self, f"{PORTS[p]}_o")
            count = getattr(self, f"count_{PORTS[p]}")
            valid, wavelet = link.valid, link.wavelet
            if self.hop_cycles == 2 and p != Port.RAMP.value:
                valid = Signal(name=f"valid_{PORTS[p]}")
                wavelet = Signal(Wavelet(), name=f"wavelet_{PORTS[p]}", reset_less=True)
                m.d.sync += link.valid.eq(valid)
                with m.If(valid):
                    m.d.sync += link.wavelet.eq(wavelet)
            m.d.sync += valid.eq(sends[p])
            with m.If(sends[p]):
                m.d.comb += s.credits[p].send.eq(1 << leaving[p].color)
                m.d.sync += [wavelet.eq(leaving[p]), count.eq(count + 1)]
        with m.If(s.complete.any() & ~s.fire.any()):
            m.d.sync += self.count_blocked.eq(self.count_blocked + 1)

    def _switch(self, m: Module, moving: Signal, turned: Signal) -> tuple[Signal, Any]:
        """Return which colors get a new route, at most one of them, and the route."""
        colors = self.colors
        write = self.route_write
        changes = Signal(colors)
        route = Signal(Route())
        written = Signal(colors)
        m.d.comb += route.eq(write.route)
        with m.If(write.valid):
            m.d.comb += written.eq(1 << write.color)
            with m.If(write.position == 0):
                m.d.comb += changes.eq(written)
        if self.positions == 1:
            return changes, route

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
        m.d.sync += moving.eq((moving & ~changes) | (turned & advances))
        return changes, route

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
        ports = range(len(PORTS))
        operands = [Signal(signed(DATA_BITS), name=f"operand_{PORTS[p]}") for p in ports]
        won = [Signal(self.colors, name=f"won_{PORTS[p]}", reset_less=True) for p in ports]
        takes = Signal(len(PORTS))
        is_index = Signal()
        for k, head in enumerate(heads):
            with m.If(now[k]):
                m.d.comb += is_index.eq(pairs[k] & second[k])
                for p in ports:
                    m.d.comb += [
                        takes[p].eq(source[p][k] & (~is_index | won[p][k])),
                        # Turned around: the smallest unsigned number becomes the largest signed.
                        operands[p].eq(head[p].data ^ Mux(is_index, TURN_AROUND, 0)),
                    ]
        largest = Const(-(2**31), signed(DATA_BITS))
        for p in ports:
            larger = Signal(signed(DATA_BITS), name=f"larger_{PORTS[p]}")
            m.d.comb += larger.eq(Mux(takes[p] & (operands[p] > largest), operands[p], largest))
            largest = larger
        m.d.comb += compared.eq(largest ^ Mux(is_index, TURN_AROUND, 0))
        with m.If((now & pairs).any() & ~is_index):
            for p in ports:
                wins = takes[p] & (operands[p] == largest)
                m.d.sync += won[p].eq(Mux(wins, won[p] | now, won[p] & ~now))
