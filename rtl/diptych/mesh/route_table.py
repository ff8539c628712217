# SPDX-License-Identifier: BSD-2-Clause
"""Routes of a router, and the switching of its colors."""

from itertools import combinations
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out, Signature

from diptych.arith.one_hot import encode
from diptych.config import DEFAULTS

from .fabric import (
    COLOR_BITS,
    DIRECTIONS,
    LOAD_COLOR,
    POSITION_BITS,
    POSITIONS,
    Combine,
    Port,
    Route,
)

__all__ = ["RouteTable", "RouteWrite"]


class RouteWrite(Signature):
    """Writes the route of a color at a switch position.

    A write of position 0 also moves the color to it, 2 cycles later. No wavelet of the color may
    be on its way through the router meanwhile.

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


class RouteTable(wiring.Component):
    """Keeps the current route of each color, as a vector over the colors for each port.

    A color that turns stops in the next cycle. One color after the other moves on: one cycle to
    read its new route, one to take it; it may pass wavelets in the third cycle after the turn.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.
    positions : :class:`int`
        Switch positions of a color; others must not be written.

    Members
    -------
    edge : :py:`In(4)`
        A bit per direction: the tile has no neighbor there, and routes do not lead there.
    write : :py:`In(RouteWrite())`
        Changes a route. After reset only :data:`.LOAD_COLOR` has one: from west to ramp and east.
    turned : :py:`In(colors)`
        A bit per color: a control wavelet has been chosen in this cycle.
    source_north, source_east, source_south, source_west, source_ramp : :py:`Out(colors)`
        A bit per color: it comes from there.
    target_north, target_east, target_south, target_west, target_ramp : :py:`Out(colors)`
        A bit per color: it goes there.
    sent_as_<n> : :py:`Out(colors)`
        The color that leaves when color ``n`` does, as one bit.
    combines, compares, pairs, delays : :py:`Out(colors)`
        A bit per color: its wavelets pass the combiners, because they are added or compared or leave
        as another color; they are compared; they are pairs (ARGMAX); they leave a cycle later than
        others, because they do so as another color, or come from several directions.
    routed : :py:`Out(colors)`
        A bit per color: it has sources.
    conflicting : :py:`Out(colors)`
        A bit per color: it shares a port or the combiner with the route that ``changes`` take.
    stopped : :py:`Out(colors)`
        A bit per color: it waits for its new route, or until its control wavelet is announced.
    changes : :py:`Out(colors)`
        A bit per color: it gets a new route in this cycle.
    """

    edge: Signal
    write: Any
    turned: Signal
    combines: Signal
    compares: Signal
    pairs: Signal
    delays: Signal
    routed: Signal
    conflicting: Signal
    stopped: Signal
    changes: Signal

    def __init__(self, *, colors: int, positions: int = DEFAULTS.positions) -> None:
        self.colors = colors
        self.positions = positions
        loads = 1 << LOAD_COLOR
        output: Any = Out  # the stubs know of no initial values
        super().__init__(
            {
                "edge": In(4),
                "write": In(RouteWrite()),
                "turned": In(colors),
                **{
                    f"source_{p.label}": output(colors, init=loads * (p is Port.WEST)) for p in Port
                },
                **{
                    f"target_{p.label}": output(colors, init=loads * (p in (Port.EAST, Port.RAMP)))
                    for p in Port
                },
                **{f"sent_as_{k}": output(colors, init=1 << k) for k in range(colors)},
                "routed": output(colors, init=loads),
                **{name: Out(colors) for name in ("combines", "compares", "pairs", "delays")},
                "conflicting": Out(colors),
                "stopped": Out(colors),
                "changes": Out(colors),
            }
        )

    @property
    def source(self) -> list[Signal]:
        """Members ``source_<port>``, by port."""
        return [getattr(self, f"source_{p.label}") for p in Port]

    @property
    def target(self) -> list[Signal]:
        """Members ``target_<port>``, by port."""
        return [getattr(self, f"target_{p.label}") for p in Port]

    @property
    def sent_as(self) -> list[Signal]:
        """Members ``sent_as_<n>``, by color."""
        return [getattr(self, f"sent_as_{k}") for k in range(self.colors)]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        route = Signal(Route())
        self._choose(m, route)
        self._store(m, route)
        self._find_conflicts(m, route)
        return m

    def _choose(self, m: Module, route: Any) -> None:
        """Choose the color that gets a new route in the next cycle, and read that."""
        colors, write, changes = self.colors, self.write, self.changes
        m.d.sync += [route.eq(write.route), changes.eq(0)]
        with m.If(write.valid & (write.position == 0)):
            m.d.sync += changes.eq(1 << write.color)
        announcing = Signal(colors)
        holds = Signal(colors)
        m.d.sync += announcing.eq(self.turned)
        m.d.comb += holds.eq(self.turned | (announcing & self.delays))
        if self.positions == 1:
            m.d.sync += self.stopped.eq(holds)
            return

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
        moving = Signal(colors)
        waiting = Signal(colors)
        first = Signal(colors)
        m.d.comb += [
            waiting.eq(moving & ~changes),
            first.eq(waiting & (~waiting + 1)),
            load.addr.eq(Cat(encode(first), *((bit & first).any() for bit in following))),
        ]
        with m.If(waiting.any() & ~write.valid):
            m.d.sync += [changes.eq(first), route.eq(load.data)]
        m.d.sync += [
            moving.eq(waiting | (self.turned & advances)),
            self.stopped.eq(waiting | holds),
        ]

    def _store(self, m: Module, route: Any) -> None:
        """Take the route that has been read."""
        changes = self.changes
        compares = Signal()
        several = Signal()
        m.d.comb += several.eq(
            Cat(route.sources[a] & route.sources[b] for a, b in combinations(DIRECTIONS, 2)).any()
        )
        m.d.comb += compares.eq((route.combine == Combine.MAX) | (route.combine == Combine.ARGMAX))
        targets = self._targets(route)
        # The first route, which a reset sets, knows nothing of the edge.
        for p in DIRECTIONS:
            with m.If(self.edge[p]):
                m.d.sync += self.target[p].eq(0)
        for stored, new in (
            *((self.source[p], route.sources[p]) for p in Port),
            *((self.target[p], targets[p]) for p in Port),
            (self.routed, route.sources.any()),
            (self.combines, self._combines(route)),
            (self.compares, compares),
            (self.pairs, route.combine == Combine.ARGMAX),
            (self.delays, self._renames(route) | several),
        ):
            with m.If(changes.any()):
                m.d.sync += stored.eq(Mux(new, stored | changes, stored & ~changes))
        for k, sent_as in enumerate(self.sent_as):
            with m.If(changes[k]):
                m.d.sync += sent_as.eq(1 << route.color)

    def _targets(self, route: Any) -> list[Value]:
        """Targets of a route, without the mesh's edge."""
        return [
            route.targets[p] if p is Port.RAMP else route.targets[p] & ~self.edge[p] for p in Port
        ]

    def _combines(self, route: Any) -> Value:
        return (route.combine != Combine.FORWARD) | self._renames(route)

    def _renames(self, route: Any) -> Value:
        return (self.changes & (1 << route.color)) == 0

    def _find_conflicts(self, m: Module, route: Any) -> None:
        """Compare the route that has been read with those of all colors."""
        targets = self._targets(route)
        shared: Any = Mux(self._combines(route), self.combines, 0)
        for p in Port:
            shared = shared | Mux(route.sources[p], self.source[p], 0)
            shared = shared | Mux(targets[p], self.target[p], 0)
        m.d.comb += self.conflicting.eq(shared)
