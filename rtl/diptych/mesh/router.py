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
        colors = self.colors
        ports = range(len(PORTS))

        # --- routes, a vector over the colors for each port ---
        first = 1 << LOAD_COLOR
        source = [
            Signal(colors, name=f"source_{PORTS[p]}", init=first if p == Port.WEST.value else 0)
            for p in ports
        ]
        stored_target = [
            Signal(
                colors,
                name=f"stored_target_{PORTS[p]}",
                init=first if p in (Port.EAST.value, Port.RAMP.value) else 0,
            )
            for p in ports
        ]
        compares = Signal(colors)
        pairs = Signal(colors)
        sent_as = [Signal(COLOR_BITS, name=f"sent_as_{k}", init=k) for k in range(colors)]
        moving = Signal(colors)
        turned = Signal(colors)
        changes, route = self._switch(m, moving, turned)
        second = Signal(colors)
        with m.If(changes.any()):
            for stored, new in (
                *((source[p], route.sources[p]) for p in ports),
                *((stored_target[p], route.targets[p]) for p in ports),
                (compares, (route.combine == Combine.MAX) | (route.combine == Combine.ARGMAX)),
                (pairs, route.combine == Combine.ARGMAX),
            ):
                m.d.sync += stored.eq(Mux(new, stored | changes, stored & ~changes))
            for k in range(colors):
                with m.If(changes[k]):
                    m.d.sync += sent_as[k].eq(route.color)
        target = [Signal(colors, name=f"target_{PORTS[p]}") for p in ports]
        for p in ports:
            there = (
                stored_target[p] if p == Port.RAMP.value else Mux(self.edge[p], 0, stored_target[p])
            )
            m.d.comb += target[p].eq(there)

        # --- links ---
        buffers = []
        credits = []
        for p in ports:
            m.submodules[f"buffers_{PORTS[p]}"] = buffer = ColorBuffers(colors=colors)
            m.submodules[f"credits_{PORTS[p]}"] = credit = Credits(colors=colors)
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
            buffers.append(buffer)
            credits.append(credit)

        # --- which colors fire ---
        complete = Signal(colors)
        routed = source[0] | source[1] | source[2] | source[3] | source[4]
        met = ~Const(0, colors)
        for p in ports:
            met &= buffers[p].waiting | ~source[p]
        m.d.comb += complete.eq(routed & met & ~moving)
        wanted = Signal(colors)
        targets = []
        for k in range(colors):
            # The last bit stands for the comparator.
            wants = Signal(6, name=f"targets_{k}")
            free = Signal(5, name=f"free_{k}")
            m.d.comb += wants.eq(Cat(*(target[p][k] for p in ports), compares[k]))
            with m.If(complete[k]):
                for p in ports:
                    m.d.comb += free[p].eq(credits[p].available.bit_select(sent_as[k], 1))
                m.d.comb += wanted[k].eq(~(wants[:5] & ~free).any())
            targets.append(wants)

        # Colors that had their turn come after the others, until the others want nothing.
        turn = Signal(colors, init=2**colors - 1)
        fire = Signal(colors)
        with m.If(wanted.any()):
            taken = Const(0, 6)
            fires = [[], []]
            for late in (0, 1):
                for k in range(colors):
                    fires_now = Signal(name=f"fires_{late}_{k}")
                    taken_now = Signal(6, name=f"taken_{late}_{k}")
                    asks = wanted[k] & (~turn[k] if late else turn[k])
                    m.d.comb += [
                        fires_now.eq(asks & ~(targets[k] & taken).any()),
                        taken_now.eq(taken | Mux(fires_now, targets[k], 0)),
                    ]
                    taken = taken_now
                    fires[late].append(fires_now)
            for k in range(colors):
                m.d.comb += fire[k].eq(fires[0][k] | fires[1][k])
            left = Signal(colors)
            m.d.comb += left.eq(turn & ~fire)
            m.d.sync += turn.eq(Mux((left & wanted).any(), left, 2**colors - 1))
        for p in ports:
            m.d.comb += buffers[p].pop.eq(fire & source[p])

        # --- what they send ---
        heads = [[getattr(buffer, f"head_{k}") for buffer in buffers] for k in range(colors)]
        compared = Signal(DATA_BITS)
        comparing = Signal(colors)
        m.d.comb += comparing.eq(fire & compares)
        with m.If(comparing.any()):
            self._compare(m, comparing, source, pairs, second, heads, compared)
        toggles = Signal(colors)
        m.d.comb += toggles.eq(comparing & pairs)
        with m.If((toggles | changes).any()):
            m.d.sync += second.eq((second ^ toggles) & ~changes)
        leaving = [Signal(Wavelet(), name=f"leaving_{PORTS[p]}") for p in ports]
        sends = [Signal(name=f"sends_{PORTS[p]}") for p in ports]
        for k in range(colors):
            total = Signal(DATA_BITS, name=f"total_{k}")
            control = Signal(name=f"control_{k}")
            with m.If(fire[k]):
                with m.If(compares[k]):
                    m.d.comb += total.eq(compared)
                with m.Else():
                    m.d.comb += total.eq(
                        sum((Mux(source[p][k], heads[k][p].data, 0) for p in ports), Const(0, 1))
                    )
                m.d.comb += [
                    control.eq(Cat(source[p][k] & heads[k][p].control for p in ports).any()),
                    turned[k].eq(control),
                ]
                for p in ports:
                    with m.If(targets[k][p]):
                        m.d.comb += [
                            sends[p].eq(1),
                            leaving[p].data.eq(total),
                            leaving[p].color.eq(sent_as[k]),
                            leaving[p].control.eq(control),
                        ]
        for p in ports:
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
                m.d.comb += credits[p].send.eq(1 << leaving[p].color)
                m.d.sync += [wavelet.eq(leaving[p]), count.eq(count + 1)]
        with m.If(complete.any() & ~fire.any()):
            m.d.sync += self.count_blocked.eq(self.count_blocked + 1)
        return m

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
