# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the router: random routes and traffic, switches, rate, latency, blocked colors.

``$DUT_COLORS``, ``$DUT_POSITIONS`` and ``$DUT_HOP`` are its parameters.
"""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.mesh.fabric import LOAD_COLOR, PORT_NAMES, Combine, Port, Route, buffer_depth
from diptych_sim.golden import fabric
from diptych_sim.host.clocking import current_cycle, start_clock_and_reset
from diptych_sim.host.fields import Fields
from diptych_sim.host.streams import sometimes
from diptych_tb.mesh.links import LinkMonitor, LinkSource
from diptych_tb.mesh.router_observer import Path, RouterObserver

COLORS, POSITIONS, HOP = (int(os.environ[f"DUT_{name}"]) for name in ("COLORS", "POSITIONS", "HOP"))
WAVELETS = 40
Wavelets = list[dict[str, int]]


def _random_paths(rng: random.Random, names: int) -> list[list[Path]]:
    """Routes of colors, at each position; what leaves as one color comes from one color.

    A color may leave as any of ``names`` colors of its own.
    """
    sent_as = rng.sample(range(COLORS), COLORS)
    switches = []
    for color in rng.sample(range(COLORS), COLORS // names):
        own = [sent_as.pop() for _ in range(names)]
        paths = []
        count = rng.randint(1, POSITIONS)
        for position in range(count):
            combine = rng.choice(list(Combine))
            number = 1 if combine is Combine.FORWARD else rng.randint(1, 5)
            sources = tuple(rng.sample(range(5), number))
            targets = tuple(rng.sample(range(5), rng.randint(0 if rng.random() < 0.1 else 1, 5)))
            after = rng.choice([None, *range(count)])
            path = Path(color, sources, targets, combine, rng.choice(own), position, after)
            paths.append(path)
        switches.append(paths)
    return switches


class _Switch:
    """Words of a color at each port, and their results."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.sent: dict[int, Wavelets] = {}
        self.expected: dict[tuple[int, int], Wavelets] = {}
        self._position = 0
        self._keys: list[int] | None = None

    def fire(self, rng: random.Random, edge: int) -> None:
        """Draw a wavelet for each source, and combine them."""
        path = self.paths[self._position]
        wavelets = [_draw(rng, path.color) for _ in path.sources]
        for port, wavelet in zip(path.sources, wavelets, strict=True):
            self.sent.setdefault(port, []).append(wavelet)
        data = self._combine(path.combine, [w["data"] for w in wavelets])
        control = max(w["control"] for w in wavelets)
        for port in path.targets:
            if port == Port.RAMP or not edge >> port & 1:
                out = {"data": data, "color": path.sent_as, "control": control}
                self.expected.setdefault((port, path.sent_as), []).append(out)
        if control and path.next is not None:
            self._position, self._keys = path.next, None

    def _combine(self, combine: Combine, words: list[int]) -> int:
        if combine is Combine.MAX:
            return fabric.maximum(words)
        if combine is not Combine.ARGMAX:
            return fabric.add(words)
        if self._keys is None:
            self._keys = words
            return fabric.maximum(words)
        pairs = zip(self._keys, words, strict=True)
        self._keys = None
        return fabric.arg_max(pairs)[1]


def _draw(rng: random.Random, color: int) -> dict[str, int]:
    data = rng.choice(
        [rng.getrandbits(32), rng.randrange(4), 2**32 - rng.randint(1, 3), 2**31 - rng.randrange(2)]
    )
    return {"data": data, "color": color, "control": int(rng.random() < 0.3)}


def _depth(port: str) -> int:
    return buffer_depth(1 if port == Port.RAMP.label else HOP)


class _Bench:
    def __init__(self, dut: Any, rng: random.Random, idle: float, stall: float) -> None:
        self.dut = dut
        self.sources = [
            LinkSource(dut, f"{p}_i", COLORS, rng, sometimes(rng, idle), _depth(p))
            for p in PORT_NAMES
        ]
        self.monitors = [
            LinkMonitor(dut, f"{p}_o", COLORS, sometimes(rng, stall), _depth(p)) for p in PORT_NAMES
        ]
        dut.edge.value = 0
        dut.route_write__valid.value = 0

    async def start(self, paths: list[Path], *, written: bool = True) -> None:
        """Begin with some routes, which are written unless a reset sets them."""
        dut = self.dut
        await start_clock_and_reset(dut)
        pack = Fields(Route()).pack
        for path in paths if written else ():
            route = {
                "sources": sum(1 << p for p in path.sources),
                "targets": sum(1 << p for p in path.targets),
                "combine": path.combine.value,
                "color": path.sent_as,
                "next": path.next or 0,
                "advances": int(path.next is not None),
            }
            dut.route_write__color.value = path.color
            dut.route_write__position.value = path.position
            dut.route_write__route.value = pack(route)
            dut.route_write__valid.value = 1
            await RisingEdge(dut.clk)
        dut.route_write__valid.value = 0
        await RisingEdge(dut.clk)
        self.observer = RouterObserver(
            dut, colors=COLORS, hop=HOP, edge=int(dut.edge.value), paths=paths
        )
        self.observer.start()
        for end in [*self.sources, *self.monitors]:
            end.start()

    def got(self, port: int, color: int) -> list[dict[str, int]]:
        return [
            {k: v for k, v in w.items() if k != "cycle"}
            for w in self.monitors[port].wavelets[color]
        ]

    def counters(self) -> list[int]:
        return [int(getattr(self.dut, f"count_{p}").value) for p in PORT_NAMES]


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(idle=[0.0, 0.7], stall=[0.0, 0.95], round=list(range(4)))
async def delivers_everything_once_and_in_order(
    dut: Any, idle: float, stall: float, round: int
) -> None:
    rng = random.Random(f"{cocotb.RANDOM_SEED} {idle} {stall} {round}")
    bench = _Bench(dut, rng, idle, stall)
    edge = rng.getrandbits(4) if round else 0
    dut.edge.value = edge
    switches = [_Switch(paths) for paths in _random_paths(rng, 1 + round % 2)]
    await bench.start([path for switch in switches for path in switch.paths])
    expected: dict[tuple[int, int], Wavelets] = {}
    for switch in switches:
        for _ in range(WAVELETS):
            switch.fire(rng, edge)
        expected |= switch.expected
        for port, wavelets in switch.sent.items():
            bench.sources[port].send(wavelets)
    wanted = sum(map(len, expected.values()))
    while sum(len(w) for m in bench.monitors for w in m.wavelets) < wanted:
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, 30)
    for port in range(5):
        for color in range(COLORS):
            assert bench.got(port, color) == expected.get((port, color), []), (
                f"{PORT_NAMES[port]}, color {color}"
            )
    seen = [sum(map(len, monitor.wavelets)) for monitor in bench.monitors]
    assert bench.counters() == seen
    await bench.observer.check()
    if stall:
        assert bench.observer.covers["short of credits"] > 20, bench.observer.covers


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(targets=[(1,), (0, 1, 2, 4), (3,)], combine=list(Combine), sent_as=[5, 7])
async def a_hop_takes_its_cycles_at_full_rate(
    dut: Any, targets: tuple[int, ...], combine: Combine, sent_as: int
) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = _Bench(dut, rng, 0, 0)
    sources = (3,) if combine is Combine.FORWARD else (3, 4)
    path = Path(5, sources, targets, combine, sent_as)
    await bench.start([path])
    for port in sources:
        bench.sources[port].send(_draw(rng, 5) | {"control": 0} for _ in range(WAVELETS))
    await RisingEdge(dut.west_i__valid)
    start = await _cycle(dut)
    await ClockCycles(dut.clk, WAVELETS + 5)
    for port in targets:
        cycles = [w["cycle"] for w in bench.monitors[port].wavelets[sent_as]]
        # From when a wavelet is on a link to when it is on the next one.
        hop = (1 if port == Port.RAMP else HOP) + path.delayed
        assert cycles == list(range(start + hop, start + hop + WAVELETS))
    assert dut.count_blocked.value == 0
    await bench.observer.check()


async def _cycle(dut: Any) -> int:
    """Return the cycle in which what is on the links now is seen by monitors."""
    await RisingEdge(dut.clk)
    return current_cycle()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def a_blocked_color_blocks_no_other(dut: Any) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = _Bench(dut, rng, 0, 0)
    bench.monitors[Port.EAST].blocked = {3}
    forward = Combine.FORWARD
    await bench.start([Path(1, (3,), (1,), forward, 3), Path(2, (3,), (1, 0), forward, 2)])
    for color in (1, 2):
        bench.sources[Port.WEST].send(_draw(rng, color) | {"control": 0} for _ in range(WAVELETS))
    await ClockCycles(dut.clk, 2 * WAVELETS)
    depth = buffer_depth(HOP)
    # Two entries are for choices that may be on their way.
    assert len(bench.got(Port.EAST, 3)) in range(depth - 2, depth + 1)
    assert len(bench.got(Port.EAST, 2)) == WAVELETS
    assert len(bench.got(Port.NORTH, 2)) == WAVELETS
    assert int(dut.count_blocked.value) > 0
    bench.monitors[Port.EAST].blocked = set()
    await ClockCycles(dut.clk, 2 * WAVELETS)
    assert len(bench.got(Port.EAST, 3)) == WAVELETS
    found = await bench.observer.check()
    assert found["blocked"]


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(swapped=[False, True])
async def colors_that_leave_as_one_need_their_own_credits(dut: Any, swapped: bool) -> None:
    """Two colors leave as a third one, through different ports, of which one is blocked."""
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = _Bench(dut, rng, 0, 0)
    blocked = Port.NORTH if swapped else Port.EAST
    bench.monitors[blocked].blocked = {3}
    forward = Combine.FORWARD
    await bench.start(
        [Path(1, (Port.WEST,), (Port.EAST,), forward, 3), Path(2, (4,), (Port.NORTH,), forward, 3)]
    )
    for color, port in ((1, Port.WEST), (2, Port.RAMP)):
        bench.sources[port].send(_draw(rng, color) | {"control": 0} for _ in range(WAVELETS))
    await ClockCycles(dut.clk, 2 * WAVELETS)
    for port in (Port.EAST, Port.NORTH):
        count = len(bench.got(port, 3))
        assert count <= buffer_depth(HOP) if port is blocked else count == WAVELETS, port
    bench.monitors[blocked].blocked = set()
    await ClockCycles(dut.clk, 2 * WAVELETS)
    assert len(bench.got(blocked, 3)) == WAVELETS
    await bench.observer.check()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def colors_take_turns(dut: Any) -> None:
    """Four sources want one port: none waits for more than one turn of the others."""
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = _Bench(dut, rng, 0, 0)
    places = (Port.NORTH, Port.SOUTH, Port.WEST, Port.RAMP)
    paths = [
        Path(color, (port,), (Port.EAST,), Combine.FORWARD, color)
        for color, port in enumerate(places, 1)
    ]
    await bench.start(paths)
    for path in paths:
        bench.sources[path.sources[0]].send(
            _draw(rng, path.color) | {"control": 0} for _ in range(WAVELETS)
        )
    await ClockCycles(dut.clk, 4 * WAVELETS + 10)
    arrivals = sorted(
        (w["cycle"], w["color"]) for color in bench.monitors[Port.EAST].wavelets for w in color
    )
    assert len(arrivals) == 4 * WAVELETS
    assert arrivals[-1][0] - arrivals[0][0] == 4 * WAVELETS - 1, "the port must never be idle"
    for at in range(0, len(arrivals), 4):
        assert {color for _, color in arrivals[at : at + 4]} == {1, 2, 3, 4}
    await bench.observer.check()
    assert bench.observer.covers["contention"], "the first wavelets come at once"


@cocotb.test(timeout_time=100, timeout_unit="us")
async def switches_take_turns_at_full_rate(dut: Any) -> None:
    """A ring of positions gathers from each side in turn; a control wavelet costs 2 cycles and a hop."""
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = _Bench(dut, rng, 0, 0)
    ring = [Port.WEST, Port.NORTH, Port.SOUTH, Port.RAMP][:POSITIONS]
    await bench.start(
        [
            Path(3, (port,), (Port.EAST,), Combine.FORWARD, 4, n, (n + 1) % len(ring))
            for n, port in enumerate(ring)
        ]
    )
    length, rounds = 3, 4
    for n, port in enumerate(ring):
        bench.sources[port].send(
            {"data": 100 * turn + 10 * n + at, "color": 3, "control": int(at == length - 1)}
            for turn in range(rounds)
            for at in range(length)
        )
    total = length * rounds * len(ring)
    await ClockCycles(dut.clk, 3 * total + 30)
    arrivals = bench.monitors[Port.EAST].wavelets[4]
    order = [(t, n, at) for t in range(rounds) for n in range(len(ring)) for at in range(length)]
    assert [w["data"] for w in arrivals] == [100 * t + 10 * n + at for t, n, at in order]
    if POSITIONS > 1:
        cycles = [w["cycle"] - arrivals[0]["cycle"] for w in arrivals]
        # The credits of the last wavelet are back by then, or, from two cycles away, one later.
        assert cycles == [at + (2 + HOP) * (at // length) for at in range(total)]
    await bench.observer.check()


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(edge=[0, 1 << Port.EAST.value])
async def a_reset_routes_the_color_of_loading(dut: Any, edge: int) -> None:
    """From west to ramp and east, and no other color anywhere; the tests before had other routes."""
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = _Bench(dut, rng, 0, 0)
    dut.edge.value = edge
    targets = (Port.EAST.value, Port.RAMP.value)
    loads = Path(LOAD_COLOR, (Port.WEST.value,), targets, Combine.FORWARD, LOAD_COLOR)
    await bench.start([loads], written=False)
    sent = [_draw(rng, LOAD_COLOR) | {"control": 0} for _ in range(WAVELETS)]
    bench.sources[Port.WEST].send(sent)
    for port, source in enumerate(bench.sources):
        others = [color for color in range(COLORS) if (port, color) != (Port.WEST, LOAD_COLOR)]
        source.send(_draw(rng, color) | {"control": 0} for color in others)
    await ClockCycles(dut.clk, 4 * WAVELETS + 40)
    for port in range(len(PORT_NAMES)):
        for color in range(COLORS):
            arrives = color == LOAD_COLOR and port in targets and not edge >> port & 1
            assert bench.got(port, color) == (sent if arrives else []), (port, color)
    await bench.observer.check()
