# SPDX-License-Identifier: BSD-2-Clause
"""The router of a tile."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, Signature

from .color_buffers import ColorBuffers
from .credits import Credits
from .fabric import (
    COLOR_BITS,
    DATA_BITS,
    LOAD_COLOR,
    MAX_COLORS,
    Combine,
    LinkSignature,
    Port,
    Route,
    Wavelet,
)

__all__ = ["DIRECTIONS", "PORTS", "RouteWrite", "Router"]

PORTS = tuple(port.name.lower() for port in Port)
"""Names of a router's ports, by number."""
DIRECTIONS = PORTS[:4]
"""Names of the ports that lead to neighbours."""


class RouteWrite(Signature):
    """Writes the route of a color; takes effect in the next cycle."""

    def __init__(self) -> None:
        super().__init__({"valid": Out(1), "color": Out(COLOR_BITS), "route": Out(Route())})


class Router(wiring.Component):
    """Moves wavelets between five ports along routes that are fixed by color.

    A color fires when each source of its route has a wavelet, each target has a credit and no
    target's port is taken in this cycle: the wavelets are combined into one, which goes to all
    targets at once. Colors that compete for a port take turns; a color that waits never blocks
    another one.

    The latency is 1 cycle from link to link. The throughput is a wavelet per cycle on every link,
    also where wavelets fork or combine.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors, 1 to 24.

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
        If the number of colors is out of range.
    """

    edge: Signal
    route_write: Any
    count_blocked: Signal

    def __init__(self, *, colors: int = 10) -> None:
        if colors not in range(1, MAX_COLORS + 1):
            raise ValueError(
                f"Number of colors must be in range(1, {MAX_COLORS + 1}), not {colors!r}"
            )
        self.colors = colors
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
        maximum = Signal(colors)
        sent_as = [Signal(COLOR_BITS, name=f"sent_as_{k}", init=k) for k in range(colors)]
        write = self.route_write
        with m.If(write.valid):
            written = Signal(colors)
            m.d.comb += written.eq(1 << write.color)
            for p in ports:
                for stored, new in (
                    (source[p], write.route.sources[p]),
                    (stored_target[p], write.route.targets[p]),
                ):
                    m.d.sync += stored.eq(Mux(new, stored | written, stored & ~written))
            is_maximum = write.route.combine == Combine.MAX
            m.d.sync += maximum.eq(Mux(is_maximum, maximum | written, maximum & ~written))
            with m.Switch(write.color):
                for k in range(colors):
                    with m.Case(k):
                        m.d.sync += sent_as[k].eq(write.route.color)
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
            wiring.connect(m, buffer.link, wiring.flipped(getattr(self, f"{PORTS[p]}_i")))
            buffers.append(buffer)
            m.submodules[f"credits_{PORTS[p]}"] = credit = Credits(colors=colors)
            m.d.comb += credit.credit.eq(getattr(self, f"{PORTS[p]}_o").credit)
            credits.append(credit)

        # --- which colors fire ---
        complete = Signal(colors)
        routed = source[0] | source[1] | source[2] | source[3] | source[4]
        met = ~Const(0, colors)
        for p in ports:
            met &= buffers[p].waiting | ~source[p]
        m.d.comb += complete.eq(routed & met)
        wanted = Signal(colors)
        targets = []
        for k in range(colors):
            wants = Signal(5, name=f"targets_{k}")
            free = Signal(5, name=f"free_{k}")
            m.d.comb += wants.eq(Cat(target[p][k] for p in ports))
            with m.If(complete[k]):
                for p in ports:
                    m.d.comb += free[p].eq(credits[p].available.bit_select(sent_as[k], 1))
                m.d.comb += wanted[k].eq(~(wants & ~free).any())
            targets.append(wants)

        # Colors that had their turn come after the others, until the others want nothing.
        turn = Signal(colors, init=2**colors - 1)
        fire = Signal(colors)
        with m.If(wanted.any()):
            taken = Const(0, 5)
            fires = [[], []]
            for late in (0, 1):
                for k in range(colors):
                    fires_now = Signal(name=f"fires_{late}_{k}")
                    taken_now = Signal(5, name=f"taken_{late}_{k}")
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
        leaving = [Signal(Wavelet(), name=f"leaving_{PORTS[p]}") for p in ports]
        sends = [Signal(name=f"sends_{PORTS[p]}") for p in ports]
        for k in range(colors):
            total = Signal(DATA_BITS, name=f"total_{k}")
            control = Signal(name=f"control_{k}")
            with m.If(fire[k]):
                heads = [getattr(buffers[p], f"head_{k}") for p in ports]
                with m.If(maximum[k]):
                    largest = Const(-(2**31), signed(32))
                    for p in ports:
                        larger = Signal(signed(32), name=f"larger_{k}_{p}")
                        value = heads[p].data.as_signed()
                        m.d.comb += larger.eq(Mux(source[p][k] & (value > largest), value, largest))
                        largest = larger
                    m.d.comb += total.eq(largest)
                with m.Else():
                    m.d.comb += total.eq(
                        sum((Mux(source[p][k], heads[p].data, 0) for p in ports), Const(0, 1))
                    )
                m.d.comb += control.eq(
                    Const(0, 1)
                    | (source[0][k] & heads[0].control)
                    | (source[1][k] & heads[1].control)
                    | (source[2][k] & heads[2].control)
                    | (source[3][k] & heads[3].control)
                    | (source[4][k] & heads[4].control)
                )
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
            m.d.sync += link.valid.eq(sends[p])
            with m.If(sends[p]):
                m.d.comb += credits[p].send.eq(1 << leaving[p].color)
                m.d.sync += [link.wavelet.eq(leaving[p]), count.eq(count + 1)]
        with m.If(complete.any() & ~fire.any()):
            m.d.sync += self.count_blocked.eq(self.count_blocked + 1)
        return m
