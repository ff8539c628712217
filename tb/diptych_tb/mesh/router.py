# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the router: random routes and traffic, rate, latency, and blocked colors."""

import random
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotb.utils import get_sim_time

from diptych.mesh.fabric import Combine, Port, Route
from diptych.mesh.router import PORTS
from diptych_tb.clocking import PERIOD_NS, start_clock_and_reset
from diptych_tb.fields import Fields
from diptych_tb.mesh.links import LinkMonitor, LinkSource

COLORS = 10
WAVELETS = 40


@dataclass(frozen=True)
class _Path:
    """A color's route."""

    color: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    combine: Combine
    sent_as: int


def _random_paths(rng: random.Random) -> list[_Path]:
    """Routes for all colors; what leaves a port as one color comes from one color."""
    sent_as = rng.sample(range(COLORS), COLORS)
    paths = []
    for color in range(COLORS):
        combine = rng.choice(list(Combine))
        count = 1 if combine is Combine.FORWARD else rng.randint(1, 5)
        sources = tuple(rng.sample(range(5), count))
        targets = tuple(rng.sample(range(5), rng.randint(0 if rng.random() < 0.1 else 1, 5)))
        paths.append(_Path(color, sources, targets, combine, sent_as[color]))
    return paths


def _signed(value: int) -> int:
    return (value ^ 2**31) - 2**31


def _combined(path: _Path, wavelets: list[dict[str, int]]) -> dict[str, int]:
    values = [_signed(w["data"]) for w in wavelets]
    value = max(values) if path.combine is Combine.MAX else sum(values)
    control = max(w["control"] for w in wavelets)
    return {"data": value % 2**32, "color": path.sent_as, "control": control}


def _draw(rng: random.Random, color: int) -> dict[str, int]:
    data = rng.choice([rng.getrandbits(32), rng.randrange(8), 2**32 - rng.randint(1, 8)])
    return {"data": data, "color": color, "control": rng.randrange(2)}


class _Bench:
    def __init__(self, dut: Any, rng: random.Random, idle: float, stall: float) -> None:
        def pause(share: float) -> Any:
            return (lambda: rng.random() < share) if share else None

        self.dut = dut
        self.sources = [LinkSource(dut, f"{p}_i", COLORS, rng, pause(idle)) for p in PORTS]
        self.monitors = [LinkMonitor(dut, f"{p}_o", COLORS, pause(stall)) for p in PORTS]
        dut.edge.value = 0
        dut.route_write__valid.value = 0

    async def start(self, paths: list[_Path]) -> None:
        dut = self.dut
        await start_clock_and_reset(dut)
        pack = Fields(Route()).pack
        for path in paths:
            route = {
                "sources": sum(1 << p for p in path.sources),
                "targets": sum(1 << p for p in path.targets),
                "combine": path.combine.value,
                "color": path.sent_as,
            }
            dut.route_write__color.value = path.color
            dut.route_write__route.value = pack(route)
            dut.route_write__valid.value = 1
            await RisingEdge(dut.clk)
        dut.route_write__valid.value = 0
        await RisingEdge(dut.clk)
        for end in [*self.sources, *self.monitors]:
            end.start()

    def got(self, port: int, color: int) -> list[dict[str, int]]:
        return [
            {k: v for k, v in w.items() if k != "cycle"}
            for w in self.monitors[port].wavelets[color]
        ]

    def counters(self) -> list[int]:
        return [int(getattr(self.dut, f"count_{p}").value) for p in PORTS]


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(idle=[0.0, 0.7], stall=[0.0, 0.95], round=list(range(4)))
async def delivers_everything_once_and_in_order(
    dut: Any, idle: float, stall: float, round: int
) -> None:
    rng = random.Random(f"{cocotb.RANDOM_SEED} {idle} {stall} {round}")
    bench = _Bench(dut, rng, idle, stall)
    edge = rng.getrandbits(4) if round else 0
    dut.edge.value = edge
    paths = _random_paths(rng)
    await bench.start(paths)
    expected: dict[tuple[int, int], list[dict[str, int]]] = {}
    for path in paths:
        sent = [[_draw(rng, path.color) for _ in range(WAVELETS)] for _ in path.sources]
        for port, wavelets in zip(path.sources, sent, strict=True):
            bench.sources[port].send(wavelets)
        results = [_combined(path, list(group)) for group in zip(*sent, strict=True)]
        for port in path.targets:
            if port == Port.RAMP or not edge >> port & 1:
                expected[port, path.sent_as] = results
    wanted = sum(map(len, expected.values()))
    while sum(len(w) for m in bench.monitors for w in m.wavelets) < wanted:
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, 30)
    for port in range(5):
        for color in range(COLORS):
            assert bench.got(port, color) == expected.get((port, color), []), (
                f"{PORTS[port]}, color {color}"
            )
    seen = [sum(map(len, monitor.wavelets)) for monitor in bench.monitors]
    assert bench.counters() == seen


@cocotb.test(timeout_time=100, timeout_unit="us")
@cocotb.parametrize(targets=[(1,), (0, 1, 2, 4), (3,)], combine=[False, True])
async def a_hop_takes_one_cycle_at_full_rate(
    dut: Any, targets: tuple[int, ...], combine: bool
) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = _Bench(dut, rng, 0, 0)
    sources = (3, 4) if combine else (3,)
    path = _Path(5, sources, targets, Combine.ADD if combine else Combine.FORWARD, 7)
    await bench.start([path])
    for port in sources:
        bench.sources[port].send(_draw(rng, 5) for _ in range(WAVELETS))
    await RisingEdge(dut.west_i__valid)
    start = await _cycle(dut)
    await ClockCycles(dut.clk, WAVELETS + 5)
    for port in targets:
        cycles = [w["cycle"] for w in bench.monitors[port].wavelets[7]]
        # A wavelet that is on the link in one cycle is on the next link one cycle later.
        assert cycles == list(range(start + 1, start + 1 + WAVELETS))
    assert dut.count_blocked.value == 0


async def _cycle(dut: Any) -> int:
    """Return the cycle in which what is on the links now is seen by monitors."""
    await RisingEdge(dut.clk)
    return round(get_sim_time("ns")) // PERIOD_NS


@cocotb.test(timeout_time=100, timeout_unit="us")
async def a_blocked_color_blocks_no_other(dut: Any) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = _Bench(dut, rng, 0, 0)
    bench.monitors[Port.EAST].blocked = {3}
    forward = Combine.FORWARD
    await bench.start([_Path(1, (3,), (1,), forward, 3), _Path(2, (3,), (1, 0), forward, 2)])
    for color in (1, 2):
        bench.sources[Port.WEST].send(_draw(rng, color) for _ in range(WAVELETS))
    await ClockCycles(dut.clk, 2 * WAVELETS)
    assert len(bench.got(Port.EAST, 3)) == 4, "no more than the buffer behind holds"
    assert len(bench.got(Port.EAST, 2)) == WAVELETS
    assert len(bench.got(Port.NORTH, 2)) == WAVELETS
    assert int(dut.count_blocked.value) > 0
    bench.monitors[Port.EAST].blocked = set()
    await ClockCycles(dut.clk, 2 * WAVELETS)
    assert len(bench.got(Port.EAST, 3)) == WAVELETS


@cocotb.test(timeout_time=100, timeout_unit="us")
async def colors_take_turns(dut: Any) -> None:
    """Four sources want one port: none waits for more than one turn of the others."""
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = _Bench(dut, rng, 0, 0)
    places = (Port.NORTH, Port.SOUTH, Port.WEST, Port.RAMP)
    paths = [
        _Path(color, (port,), (Port.EAST,), Combine.FORWARD, color)
        for color, port in enumerate(places, 1)
    ]
    await bench.start(paths)
    for path in paths:
        bench.sources[path.sources[0]].send(_draw(rng, path.color) for _ in range(WAVELETS))
    await ClockCycles(dut.clk, 4 * WAVELETS + 10)
    arrivals = sorted(
        (w["cycle"], w["color"]) for color in bench.monitors[Port.EAST].wavelets for w in color
    )
    assert len(arrivals) == 4 * WAVELETS
    assert arrivals[-1][0] - arrivals[0][0] == 4 * WAVELETS - 1, "the port must never be idle"
    for at in range(0, len(arrivals), 4):
        assert {color for _, color in arrivals[at : at + 4]} == {1, 2, 3, 4}
