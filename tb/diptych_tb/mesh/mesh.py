# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the mesh: random paths through it, from row to row, with random traffic."""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.mesh.fabric import DIRECTIONS, Load, Port, header
from diptych_sim.host.clocking import current_cycle, start_clock_and_reset
from diptych_sim.host.streams import sometimes
from diptych_tb.mesh.links import LinkMonitor, LinkSource

COLORS = 10
WAVELETS = 30
Place = tuple[int, int]


def _walk(rng: random.Random, rows: int, columns: int, start: int, end: int) -> list[Place]:
    """Return a random way from the first tile of a row to that of another, never twice at one."""

    def from_here(way: list[Place]) -> list[Place] | None:
        if way[-1] == (end, 0) and (len(way) > 1 or start == end):
            return way
        steps = [port.step for port in DIRECTIONS]
        rng.shuffle(steps)
        for down, right in steps:
            place = (way[-1][0] + down, way[-1][1] + right)
            inside = place[0] in range(rows) and place[1] in range(columns)
            if inside and place not in way:
                found = from_here([*way, place])
                if found:
                    return found
        return None

    found = from_here([(start, 0)])
    assert found
    return found


def _routes(way: list[Place]) -> list[tuple[Place, Port, Port]]:
    """Return for each tile of a way where wavelets come from and where they go."""
    out = []
    source = Port.WEST
    for here, there in zip(way, [*way[1:], (way[-1][0], -1)], strict=True):
        step = (there[0] - here[0], there[1] - here[1])
        target = next(port for port in DIRECTIONS if port.step == step)
        out.append((here, source, target))
        source = target.opposite
    return out


def _packet(kind: Load, column: int, address: int, payload: list[int]) -> list[int]:
    head = header(
        kind, count=len(payload), first_column=column, last_column=column, address=address
    )
    return [*head, *payload]


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize(idle=[0.0, 0.8], stall=[0.0, 0.9], round=[0, 1])
async def paths_deliver_in_order(dut: Any, idle: float, stall: float, round: int) -> None:
    rng = random.Random(f"{cocotb.RANDOM_SEED} {idle} {stall} {round}")
    rows, columns = (int(n) for n in os.environ["DUT_SIZE"].split("x"))

    # Routes are loaded without a pause, and traffic follows them on the same links.
    sources = [
        LinkSource(dut, f"west_i__{r}", COLORS, rng, sometimes(rng, idle)) for r in range(rows)
    ]
    monitors = [
        LinkMonitor(dut, f"west_o__{r}", COLORS, sometimes(rng, stall)) for r in range(rows)
    ]
    await start_clock_and_reset(dut)
    for end in [*sources, *monitors]:
        end.start()

    ways = {}
    for color in range(1, COLORS):
        start, end = rng.randrange(rows), rng.randrange(rows)
        ways[color] = way = _walk(rng, rows, columns, start, end)
        for (row, column), source, target in _routes(way):
            route = 1 << source | 1 << target + 5 | color << 12
            words = _packet(Load.ROUTE, column, color, [route])
            sources[row].send({"data": w, "color": 0, "control": 0} for w in words)
    await ClockCycles(dut.clk, 200 + int(1000 * idle))

    # A lone wavelet takes a cycle a tile.
    if not idle and not stall:
        for color, way in ways.items():
            sources[way[0][0]].send([{"data": 7, "color": color, "control": 0}])
            await RisingEdge(getattr(dut, f"west_i__{way[0][0]}__valid"))
            await RisingEdge(dut.clk)
            sent = current_cycle()
            await ClockCycles(dut.clk, len(way) + 2)
            (got,) = monitors[way[-1][0]].wavelets[color]
            assert got["cycle"] - sent == len(way), f"color {color} over {len(way)} tiles"
            monitors[way[-1][0]].wavelets[color].clear()

    sent = {}
    for color, way in ways.items():
        words = [rng.getrandbits(32) for _ in range(WAVELETS)]
        sent[color] = words
        sources[way[0][0]].send(
            {"data": word, "color": color, "control": index & 1} for index, word in enumerate(words)
        )
    while sum(len(w) for m in monitors for w in m.wavelets) < WAVELETS * len(ways):
        await RisingEdge(dut.clk)
    await ClockCycles(dut.clk, 50)
    for row, monitor in enumerate(monitors):
        for color, way in ways.items():
            here = way[-1][0] == row
            got = [(w["data"], w["control"]) for w in monitor.wavelets[color]]
            expected = [(word, n & 1) for n, word in enumerate(sent[color])] if here else []
            assert got == expected, f"color {color} in row {row}"
