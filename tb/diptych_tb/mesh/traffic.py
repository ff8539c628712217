# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a mesh of routers: random routes, random traffic, random stalls.

``$DUT_SIZE`` is rows and columns, ``$DUT_COLORS`` the number of colors.
"""

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from diptych.mesh.fabric import COLOR_BITS, Port
from diptych_sim.host.clocking import start_clock_and_reset
from diptych_sim.host.streams import sometimes
from diptych_tb.mesh.links import LinkMonitor, LinkSource
from diptych_tb.mesh.network import Network, random_tables

WAVELETS = 30


def _draw(rng: random.Random) -> tuple[int, int]:
    data = rng.choice([rng.getrandbits(32), rng.randrange(4), 2**32 - rng.randint(1, 3)])
    return data, int(rng.random() < 0.2)


async def _load(dut: Any, tables: Any) -> None:
    index = 0
    for line in tables:
        for table in line:
            dut[f"write__{index}"].value = 1
            for color, entry in enumerate(table):
                for address, word in entry.words(color):
                    dut.color.value = address % 2**COLOR_BITS
                    dut.position.value = address >> COLOR_BITS
                    dut.route.value = word
                    await RisingEdge(dut.clk)
            dut[f"write__{index}"].value = 0
            index += 1
    await RisingEdge(dut.clk)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(idle=[0.0, 0.7], stall=[0.0, 0.9], round=list(range(3)))
async def nothing_is_lost_doubled_reordered_or_misled(
    dut: Any, idle: float, stall: float, round: int
) -> None:
    rng = random.Random(f"{cocotb.RANDOM_SEED} {idle} {stall} {round}")
    rows, columns = (int(n) for n in os.environ["DUT_SIZE"].split("x"))
    colors = int(os.environ["DUT_COLORS"])
    places = [(r, c) for r in range(rows) for c in range(columns)]

    sources = [
        LinkSource(dut, f"ramp_i__{n}", colors, rng, sometimes(rng, idle))
        for n in range(len(places))
    ]
    monitors = [
        LinkMonitor(dut, f"ramp_o__{n}", colors, sometimes(rng, stall)) for n in range(len(places))
    ]
    for n in range(len(places)):
        dut[f"write__{n}"].value = 0
    tables = random_tables(rng, rows, columns, colors)
    await start_clock_and_reset(dut)
    await _load(dut, tables)
    for end in [*sources, *monitors]:
        end.start()
    sent = {
        ((r, c), k): [_draw(rng) for _ in range(WAVELETS)]
        for r, c in places
        for k, entry in enumerate(tables[r][c])
        if any(Port.RAMP in position.sources for position in entry.positions())
    }
    expected = Network(tables).deliver(sent)
    for n, place in enumerate(places):
        for color in range(colors):
            sources[n].send(
                {"data": data, "color": color, "control": control}
                for data, control in sent.get((place, color), ())
            )
    wanted = sum(map(len, expected.values()))
    assert wanted > WAVELETS
    still = 0
    before = 0
    while before < wanted and still < 2000:
        await RisingEdge(dut.clk)
        now = sum(len(w) for monitor in monitors for w in monitor.wavelets)
        still = still + 1 if now == before else 0
        before = now
    await ClockCycles(dut.clk, 100)
    for n, place in enumerate(places):
        for color in range(colors):
            got = [(w["data"], w["control"]) for w in monitors[n].wavelets[color]]
            assert got == expected.get((place, color), []), f"color {color} at {place}"
