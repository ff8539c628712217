# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of a prefill panel on a memory that we did not write: AxiRam of cocotbext-axi.

cocotbext-axi 0.1.28 runs with cocotb 2.1, but calls what is deprecated there; only its warnings are
let through. AxiRam answers a burst after the one before, in order, and takes any number of bursts.
"""

import json
import os
import random
import warnings
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, with_timeout

from diptych.systolic.isa import Handoff
from diptych_sim.host.axi_checker import AxiReadChecker, AxiWriteChecker
from diptych_sim.host.clocking import PERIOD_NS, start_clock_and_reset
from diptych_sim.host.streams import StreamMonitor

warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"cocotbext\.|cocotb_bus\.")

from cocotbext.axi import AxiBus, AxiRam

PAUSES = (0.0, 0.3)


def _pauses(probability: float) -> Any:
    rng = random.Random(cocotb.RANDOM_SEED)
    while True:
        yield rng.random() < probability


@cocotb.test()
@cocotb.parametrize(pause=PAUSES)
async def runs_a_program(dut: Any, pause: float) -> None:
    """Run the job in ``$DIPTYCH_FOREIGN``.

    A JSON file with ``hbm`` (hexadecimal), ``program``, ``limit`` (cycles), ``handoff`` (kind, layer,
    position, words; as of the panel's testbench) and ``memory``: addresses with the bytes
    (hexadecimal) that stand there in the end.
    """
    job = json.loads(Path(os.environ["DIPTYCH_FOREIGN"]).read_text())
    contents = bytes.fromhex(job["hbm"])
    dut.start.value = 0
    dut.program.value = job["program"]
    ram: Any = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=2**20)
    ram.write(0, contents)
    await start_clock_and_reset(dut)
    if pause:
        for channel in (
            ram.read_if.ar_channel,
            ram.read_if.r_channel,
            ram.write_if.aw_channel,
            ram.write_if.w_channel,
            ram.write_if.b_channel,
        ):
            channel.set_pause_generator(_pauses(pause))
    checkers = [AxiReadChecker(dut, "hbm"), AxiWriteChecker(dut, "hbm")]
    monitor = StreamMonitor(dut, "handoff", Handoff())
    dut.start.value = 1
    await RisingEdge(dut.clk)
    dut.start.value = 0
    await with_timeout(RisingEdge(dut.finished), job["limit"] * PERIOD_NS, "ns")
    await RisingEdge(dut.clk)
    for checker in checkers:
        checker.check_finished()
    for kind, layer, prompt, position, words in job["handoff"]:
        for index, expected in enumerate(words):
            beat = await with_timeout(monitor.beats.get(), 1000 * PERIOD_NS, "ns")
            got = tuple(beat[name] for name in ("kind", "layer", "prompt", "position", "data"))
            want = (kind, layer, prompt, position, expected)
            assert got == want, f"word {index} must not be {got}"
    for address, expected in job["memory"]:
        want = bytes.fromhex(expected)
        got = bytes(ram.read(address, len(want)))
        assert got == want, f"memory at {address:#x} must hold {want.hex()}, not {got.hex()}"
