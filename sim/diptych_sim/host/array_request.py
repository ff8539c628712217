# SPDX-License-Identifier: BSD-2-Clause
"""Requests on the prefill panel alone: the host starts a program for each token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diptych.systolic.isa import Handoff, HandoffKind

from .axi_checker import AxiReadChecker, AxiWriteChecker
from .clocking import current_cycle, start_clock_and_reset
from .command_recorder import CommandRecorder
from .events import report_event
from .jobs import ArrayRequestJob, ArrayRequestResult
from .observers.machine import PanelObservers
from .panel_memory import PanelMemory, panel_counters
from .streams import StreamMonitor
from .triggers import RisingEdge, catch_up, with_timeout

__all__ = ["answer"]


async def answer(dut: Any, job: ArrayRequestJob, folder: Path) -> ArrayRequestResult:
    """Run the programs, each when it has arrived and the one before has ended.

    One with ``ids`` gets the tokens of the one before. What reaches the HBM goes into a file, if it
    is watched.
    """
    memory = PanelMemory(dut, (folder / job.hbm).read_bytes())
    dut.start.value = 0
    await start_clock_and_reset(dut)
    handoff = StreamMonitor(dut, "handoff", Handoff())
    watch = _Watch(dut, job, memory) if job.watched else None
    recorder = CommandRecorder(dut.panel) if job.recorded else None
    result = ArrayRequestResult(
        starts=[], ends=[], tokens=[], token_cycles=[], parts=[], beats=[], observed={}
    )
    for number, program in enumerate(job.programs):
        ids = job.ids[number]
        if ids is not None:
            words = b"".join(token.to_bytes(4, "little") for token in result.tokens[-1])
            await memory.write(ids, words)
        while result.starts and current_cycle() < result.starts[0] + job.arrivals[number]:
            await RisingEdge(dut.clk)
        dut.program.value = program
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        result.starts.append(current_cycle())
        left = job.sequences[number]
        tokens, cycles = [0] * left, [0] * left
        while left:
            beat = await with_timeout(handoff.beats.get(), job.limit)
            if beat["kind"] == HandoffKind.TOKEN.value:
                tokens[beat["prompt"]], cycles[beat["prompt"]] = beat["data"], current_cycle()
                left -= 1
        result.tokens.append(tokens)
        result.token_cycles.append(cycles)
        if not dut.finished.value:
            await with_timeout(RisingEdge(dut.finished), job.limit)
        result.ends.append(current_cycle())
        result.parts.append(panel_counters(dut))
        if watch is not None:
            catch_up()
            result.beats.append((watch.reads.beats, watch.writes.beats))
        report_event(kind="tokens", number=number, tokens=tokens, cycle=result.ends[-1])
        await RisingEdge(dut.clk)
    catch_up()
    if recorder is not None:
        report_event(kind="commands", cycles=recorder.cycles, entered=recorder.entered)
    if watch is not None:
        await watch.check()
        (folder / job.written).write_bytes(memory.written())
        result.observed.update(watch.observers.counts())
    return result


class _Watch:
    """What checks a run from outside: the HBM's channels, and observers of the engines."""

    def __init__(self, dut: Any, job: ArrayRequestJob, memory: PanelMemory) -> None:
        self.reads, self.writes = AxiReadChecker(dut.hbm, "axi"), AxiWriteChecker(dut.hbm, "axi")
        memory.watch()
        self.observers = PanelObservers(
            dut.panel, dut.clk, array=job.array, weight_rows=job.weight_rows
        )
        self.observers.start()

    async def check(self) -> None:
        """Compare all that was seen."""
        self.reads.check_finished()
        self.writes.check_finished()
        await self.observers.check()
