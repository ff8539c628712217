# SPDX-License-Identifier: BSD-2-Clause
"""A mesh of bare routers, random routes for it, and what they must deliver."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.mesh.fabric import (
    COLOR_BITS,
    DIRECTIONS,
    POSITION_BITS,
    Combine,
    LinkSignature,
    Port,
    Route,
)
from diptych.mesh.router import Router
from diptych.precompiled import Precompiled
from diptych_sim.compiler.collectives.plan import Place
from diptych_sim.compiler.tile.routes import RouteEntry, check_routes
from diptych_sim.golden import fabric

__all__ = ["Network", "RouterMesh", "random_tables"]

Wavelet = tuple[int, int]
"""Data and control bit."""


class RouterMesh(wiring.Component):
    """Routers that are wired to each other, without cores; nothing is around them.

    Parameters
    ----------
    rows, columns, colors, hop_cycles : :class:`int`
        Sizes, and as of :class:`.Router`.

    Members
    -------
    ramp_i, ramp_o : :py:`LinkSignature(colors)`, arrays of rows * columns
        Instead of the cores.
    write : :py:`In(1).array(rows * columns)`
        Writes a route into that router: ``color``, ``position``, ``route``.
    """

    ramp_i: Any
    ramp_o: Any
    write: Any
    color: Signal
    position: Signal
    route: Any

    def __init__(self, rows: int, columns: int, *, colors: int, hop_cycles: int) -> None:
        self.rows, self.columns = rows, columns
        self.router = Router(colors=colors, hop_cycles=hop_cycles)
        count = rows * columns
        link = LinkSignature(colors)
        super().__init__(
            {
                "ramp_i": In(link).array(count),
                "ramp_o": Out(link).array(count),
                "write": In(1).array(count),
                "color": In(COLOR_BITS),
                "position": In(POSITION_BITS),
                "route": In(Route()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        places = [(r, c) for r in range(self.rows) for c in range(self.columns)]
        routers: dict[Place, Any] = {p: Precompiled(self.router, "router") for p in places}
        for index, place in enumerate(places):
            router = routers[place]
            m.submodules[f"router_{place[0]}_{place[1]}"] = router
            wiring.connect(m, wiring.flipped(self.ramp_i[index]), router.ramp_i)
            wiring.connect(m, wiring.flipped(self.ramp_o[index]), router.ramp_o)
            m.d.comb += [
                router.route_write.valid.eq(self.write[index]),
                router.route_write.color.eq(self.color),
                router.route_write.position.eq(self.position),
                router.route_write.route.eq(self.route),
            ]
            edge = 0
            for port in DIRECTIONS:
                there = (place[0] + port.step[0], place[1] + port.step[1])
                if there in routers:
                    name, other = port.label, port.opposite.label
                    sends = getattr(router, f"{name}_o")
                    wiring.connect(m, sends, getattr(routers[there], f"{other}_i"))
                else:
                    edge |= 1 << port.value
            m.d.comb += router.edge.eq(edge)
        return m


class Network:
    """Deliveries of routes: each color of a router takes what its route says, in order.

    What arrives where, and in which order, does not depend on time.

    Parameters
    ----------
    tables : sequence
        Routes, ``[row][column][color]``.
    """

    def __init__(self, tables: Sequence[Sequence[Sequence[RouteEntry]]]) -> None:
        self._entries = {
            ((r, c), k): entry.positions()
            for r, line in enumerate(tables)
            for c, table in enumerate(line)
            for k, entry in enumerate(table)
        }
        self._position = dict.fromkeys(self._entries, 0)
        self._keys: dict[tuple[Place, int], list[int]] = {}
        self._waiting: dict[tuple[Place, int, Port], deque[Wavelet]] = {}

    def deliver(
        self, sent: Mapping[tuple[Place, int], Sequence[Wavelet]]
    ) -> dict[tuple[Place, int], list[Wavelet]]:
        """Return what comes out of each ramp by color, for what goes into each by color."""
        for (place, color), wavelets in sent.items():
            self._queue(place, color, Port.RAMP).extend(wavelets)
        out: dict[tuple[Place, int], list[Wavelet]] = {}
        todo = set(self._entries)
        while todo:
            node = todo.pop()
            while self._fire(node, out, todo):
                pass
        return out

    def _queue(self, place: Place, color: int, port: Port) -> deque[Wavelet]:
        return self._waiting.setdefault((place, color, port), deque())

    def _fire(self, node: tuple[Place, int], out: Any, todo: set[tuple[Place, int]]) -> bool:
        place, color = node
        entry = self._entries[node][self._position[node]]
        queues = [self._queue(place, color, port) for port in entry.sources]
        if not queues or not all(queues):
            return False
        wavelets = [queue.popleft() for queue in queues]
        control = max(c for _, c in wavelets)
        result = (self._combine(node, entry.combine, [d for d, _ in wavelets]), control)
        for port in entry.targets:
            if port is Port.RAMP:
                out.setdefault((place, entry.color), []).append(result)
            else:
                there = (place[0] + port.step[0], place[1] + port.step[1])
                self._queue(there, entry.color, port.opposite).append(result)
                todo.add((there, entry.color))
        if control and entry.next is not None:
            self._position[node] = entry.next
            self._keys.pop(node, None)
        return True

    def _combine(self, node: tuple[Place, int], combine: Combine, words: list[int]) -> int:
        if combine is Combine.MAX:
            return fabric.maximum(words)
        if combine is not Combine.ARGMAX:
            return fabric.add(words)
        keys = self._keys.pop(node, None)
        if keys is None:
            self._keys[node] = words
            return fabric.maximum(words)
        return fabric.arg_max(zip(keys, words, strict=True))[1]


@dataclass
class _Names:
    """Colors that are taken: of routers, and of what comes out of ramps."""

    colors: int
    inside: set[tuple[Place, int]]
    outside: set[tuple[Place, int]]

    def choose(self, rng: random.Random, inside: list[Place], outside: list[Place]) -> int | None:
        """Return a color that none of these tiles knows, and take it."""
        free = [
            k
            for k in range(self.colors)
            if not any((p, k) in self.inside for p in inside)
            and not any((p, k) in self.outside for p in outside)
        ]
        if not free:
            return None
        color = rng.choice(free)
        self.inside |= {(p, color) for p in inside}
        self.outside |= {(p, color) for p in outside}
        return color


@dataclass
class _Tree:
    """A random tree: parents and the ports to them, and the tiles by depth."""

    up: dict[Place, tuple[Place, Port] | None]
    levels: list[list[Place]]

    def children(self, place: Place) -> list[Port]:
        return [link[1].opposite for link in self.up.values() if link and link[0] == place]


def _tree(rng: random.Random, rows: int, columns: int) -> _Tree:
    root = (rng.randrange(rows), rng.randrange(columns))
    up: dict[Place, tuple[Place, Port] | None] = {root: None}
    depth = {root: 0}
    for _ in range(rng.randint(1, 3 * rows * columns)):
        place, port = rng.choice(sorted(up)), rng.choice(DIRECTIONS)
        there = (place[0] + port.step[0], place[1] + port.step[1])
        if there not in up and there[0] in range(rows) and there[1] in range(columns):
            up[there] = (place, port.opposite)
            depth[there] = depth[place] + 1
    last = max(depth.values())
    return _Tree(up, [[p for p in up if depth[p] == d] for d in range(last + 1)])


def _some(rng: random.Random, ports: Sequence[Port], least: int = 1) -> frozenset[Port]:
    return frozenset(rng.sample(list(ports), rng.randint(least, len(ports))))


def _switch(rng: random.Random, entries: list[RouteEntry]) -> RouteEntry:
    """Make positions of routes: a ring, or any successors."""
    count = len(entries)
    ring = rng.random() < 0.5
    after = [(n + 1) % count if ring else rng.choice([None, *range(count)]) for n in range(count)]
    entries = [replace(e, next=n) for e, n in zip(entries, after, strict=True)]
    return replace(entries[0], then=tuple(entries[1:]))


def random_tables(
    rng: random.Random, rows: int, columns: int, colors: int
) -> list[list[list[RouteEntry]]]:
    """Return routes that pass the checker: trees with forks, or with combines, and switches.

    At each level of a tree its color has another number. Down a tree each router passes to some
    of its children and the ramp, up a tree it combines some of them, at each switch position.
    """
    tables = [[[RouteEntry()] * colors for _ in range(columns)] for _ in range(rows)]
    names = _Names(colors, set(), set())
    for _ in range(colors):
        tree, down = _tree(rng, rows, columns), rng.random() < 0.5
        numbers: list[int | None] = []
        for level, places in enumerate(tree.levels):
            # Down a tree what comes out of a ramp has the number of the next level.
            above = tree.levels[level - 1] if down and level else []
            numbers.append(names.choose(rng, places, above))
        root = tree.levels[0][0]
        end = names.choose(rng, [], tree.levels[-1] if down else [root])
        if end is None or None in numbers:
            continue
        for level, places in enumerate(tree.levels):
            for place in places:
                link, children = tree.up[place], tree.children(place)
                parent = [link[1]] if link else []
                color = numbers[level]
                assert color is not None
                if down:
                    after = numbers[level + 1] if level + 1 < len(numbers) else end
                    ends, others, combines = parent or [Port.RAMP], children, [Combine.FORWARD]
                else:
                    after = numbers[level - 1] if level else end
                    ends, others = parent or [Port.RAMP], children
                    combines = [Combine.ADD, Combine.MAX, Combine.ARGMAX]
                assert after is not None
                entries = []
                for position in range(rng.choice([1, 1, 2, 3, 4])):
                    # At the first position all are in, so that none waits for ever.
                    least = 1 if position else len(others) + 1
                    some = _some(rng, [*others, Port.RAMP], least)
                    sides = (frozenset(ends), some) if down else (some, frozenset(ends))
                    entries.append(RouteEntry(*sides, rng.choice(combines), after))
                tables[place[0]][place[1]][color] = _switch(rng, entries)
    check_routes(tables)
    return tables
