# SPDX-License-Identifier: BSD-2-Clause
"""Testbench of the whole machine: plays the host."""

import json
import os
import random
from pathlib import Path
from typing import Any

import cocotb
from amaranth.hdl import unsigned
from cocotb.triggers import ClockCycles, RisingEdge, SimTimeoutError, with_timeout

from diptych.link.layout import Setting
from diptych.mesh.fabric import DIRECTION_NAMES
from diptych_sim.compiler.decode.program import SEQUENCE_SHIFT
from diptych_sim.host.axi_checker import AxiReadChecker, AxiWriteChecker
from diptych_sim.host.checkpoints import LOOK, kept_run, total
from diptych_sim.host.clocking import PERIOD_NS, current_cycle, start_clock_and_reset
from diptych_sim.host.command_recorder import CommandRecorder
from diptych_sim.host.decode import WIDTH, lines
from diptych_sim.host.events import report_event
from diptych_sim.host.lanes_cosim import counter_of, mesh_of
from diptych_sim.host.mesh_counters import MeshCounters
from diptych_sim.host.recorder import MeshRecorder, Recorder
from diptych_sim.host.streams import StreamDriver
from diptych_sim.host.watchdog import tile_body, watch_mesh
from diptych_sim.host.wave_marks import mark_start


async def _damage(dut: Any, probability: float) -> None:
    rng = random.Random(cocotb.RANDOM_SEED)
    edge = RisingEdge(dut.clk)
    while True:
        dut.damage.value = 1 << rng.randrange(32) if rng.random() < probability else 0
        await edge


class BeatCounter:
    """Counts transfers at an interface, independently of the hardware's counters.

    It sleeps while nothing is valid.
    """

    def __init__(self, dut: Any, valid: Any, ready: Any = None) -> None:
        self.count = 0
        self._edge = RisingEdge(dut.clk)
        self._valid, self._ready = valid, ready
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        rises = RisingEdge(self._valid)
        while True:
            await self._edge
            if not self._valid.value:
                await rises
            elif self._ready is None or self._ready.value:
                self.count += 1


WINDOW = 150
"""Cycles that a look into a memory or a tile lasts."""


class Windows:
    """Looks into the machine for some cycles at a time, and compares its counters.

    Scratchpad and accumulators while the prompt is read, a random tile's links after each token:
    what their ports show must be what their counters gained.
    """

    def __init__(self, dut: Any, mesh: Any, job: dict[str, Any]) -> None:
        self.count = 0
        self._dut, self._mesh, self._job = dut, mesh, job
        self._edge = RisingEdge(dut.clk)
        self._rng = random.Random(cocotb.RANDOM_SEED)
        panel = dut.prefill.panel
        self._scratchpad, self._accumulators = panel.scratchpad, panel.accumulators

    async def watch_prefill(self) -> None:
        """Look at random times, until cancelled."""
        line = len(self._scratchpad.read_x__data) // 8
        widths = dict.fromkeys("xvs", line) | {"w": line * self._job["weight_rows"]}
        entry = len(self._accumulators.read__data) // 8
        while True:
            await ClockCycles(self._dut.clk, self._rng.randrange(200, 3000))
            expected = self._memory_counters()
            for _ in range(WINDOW):
                moved = self._moved(widths, entry)
                expected = [a + b for a, b in zip(expected, moved, strict=True)]
                await self._edge
            self._compare("scratchpad and accumulators", self._memory_counters(), expected)

    def _memory_counters(self) -> list[int]:
        return [
            int(counter.value)
            for counter in (
                self._scratchpad.count_scratchpad_read,
                self._scratchpad.count_scratchpad_write,
                self._accumulators.count_accumulator_read,
                self._accumulators.count_accumulator_write,
            )
        ]

    def _moved(self, widths: dict[str, int], entry: int) -> list[int]:
        """Bytes that the ports move in this cycle."""

        def grants(memory: Any, port: str) -> bool:
            return bool(memory[f"{port}__en"].value) and bool(memory[f"{port}__ready"].value)

        pad, sums = self._scratchpad, self._accumulators
        reads = sum(size for user, size in widths.items() if grants(pad, f"read_{user}"))
        written = sum(
            int(pad[f"write_{user}__mask"].value).bit_count()
            for user in "vl"
            if grants(pad, f"write_{user}")
        )
        adds = bool(sums.sums__en.value)
        old = adds and int(sums.sums__start.value) != 0
        return [reads, written, entry * (old + grants(sums, "read")), entry * adds]

    async def watch_tile(self) -> None:
        """Look at the links of a random tile once."""
        rows, columns = self._job["mesh"]
        place = f"tile_{self._rng.randrange(rows)}_{self._rng.randrange(columns)}"
        router = tile_body(self._mesh[place]).router
        counters = [getattr(router, f"count_{way}") for way in DIRECTION_NAMES]
        valids = [getattr(router, f"{way}_o__valid") for way in DIRECTION_NAMES]
        expected = [int(counter.value) for counter in counters]
        for _ in range(WINDOW):
            await self._edge
            # A wavelet is on the link in the cycle in which it has been counted.
            expected = [n + int(v.value) for n, v in zip(expected, valids, strict=True)]
        self._compare(f"links of {place}", [int(counter.value) for counter in counters], expected)

    def _compare(self, what: str, counted: list[int], seen: list[int]) -> None:
        assert counted == seen, f"counters of {what} must be {seen}, not {counted}"
        self.count += 1


PREFILL_PARTS = (
    ("prefill", "panel", "scratchpad"),
    ("prefill", "panel", "accumulators"),
    ("prefill", "hbm"),
    ("prefill", "panel"),
    ("prefill", "panel", "matrix"),
    ("prefill", "panel", "vector"),
    ("prefill", "panel", "load"),
    ("prefill", "panel", "store"),
    ("prefill", "panel", "queues"),
    ("link",),
    ("link", "transmitter"),
)


def _counters(dut: Any) -> dict[str, dict[str, Any]]:
    """Return handles of the counters of the prefill panel and of the link, by part and name."""
    parts = {}
    for path in PREFILL_PARTS:
        part = dut
        for name in path:
            part = part[name]
        parts[".".join(path)] = {
            item._name.removeprefix("count_"): item
            for item in part
            if item._name.startswith("count_") and not item._name.endswith("_now")
        }
    return parts


@cocotb.test()
async def writes_text(dut: Any) -> None:
    """Run the job in ``$DIPTYCH_JOB``, and report each token with its cycle.

    A JSON file with ``hbm`` (a binary file beside it), ``program``, ``rows`` (words of load
    packets), ``settings`` (address, data), ``tokens`` (how many in all), ``sequences`` (of how
    many), ``limit`` (cycles that a token may take), ``damage`` (probability that a word on the link
    is damaged), ``layers`` (as :class:`.CommandRecorder` wants them), ``trace`` (None, or the plan
    of :class:`.MeshRecorder`, which then writes into ``$DIPTYCH_TRACE``) and ``ends`` (of rounds);
    and what :func:`.mesh_of`, :func:`.watch_mesh` and :func:`.kept_run` ask for. Counters are read
    when every sequence has its first token, and at the end.
    """
    path = Path(os.environ["DIPTYCH_JOB"])
    job = json.loads(path.read_text())
    hbm = (path.parent / job["hbm"]).read_bytes()
    host = _Host(dut, job, hbm)
    mesh = mesh_of(dut.decode.mesh, job)
    kept = kept_run(mesh, job, hbm)
    before = kept.notes if kept is not None else None
    await start_clock_and_reset(dut)
    watchdog = watch_mesh(dut, mesh, job)
    if before is None:
        await host.load()
    measured = _Measured(dut, Windows(dut, mesh, job), before and before["measured"])
    AxiReadChecker(dut.prefill.hbm, "axi")
    AxiWriteChecker(dut.prefill.hbm, "axi")
    if job["damage"]:
        cocotb.start_soon(_damage(dut, job["damage"]))
    counters = MeshCounters(watchdog.tiles)
    recorder = _recorder(dut, mesh, counters, measured, job) if job["trace"] else None
    windows = measured.windows
    if before is None:
        first = 0
        commands = CommandRecorder(dut.prefill.panel, job["layers"])
        await host.start()
        report_event(kind="started", cycle=current_cycle())
        mark_start()
        if recorder is not None:
            recorder.start()
        prefill = cocotb.start_soon(_prefill_end(dut, commands))
        watching = cocotb.start_soon(windows.watch_prefill())
    else:
        first = before["tokens"]
        prefill = watching = None
        if kept is not None and recorder is not None:
            recorder.resume(before["recorder"], kept.files)
    out = first
    last = 0

    def alone() -> bool:
        read = prefill is None or prefill.done()
        looking = watching is not None and not watching.done()
        since = current_cycle() - last
        return (
            out >= job["sequences"]
            and read
            and not looking
            and since > LOOK
            and not dut.link_busy.value
        )

    if kept is not None:
        kept.start(
            dut,
            alone,
            lambda: {
                "tokens": out,
                "measured": measured.read(),
                "recorder": recorder and recorder.state(),
            },
            lambda: recorder.files() if recorder is not None else {},
        )
    edge = RisingEdge(dut.clk)
    rises = RisingEdge(dut.token_valid)
    for index in range(first, job["tokens"]):
        try:
            await with_timeout(rises, job["limit"] * PERIOD_NS, "ns")
        except SimTimeoutError:
            watchdog.stop(f"token {index} has not come within {job['limit']} cycles")
        await edge
        sequence, token = divmod(int(dut.token.value), 1 << SEQUENCE_SHIFT)
        cycle = last = current_cycle()
        report_event(kind="token", index=index, sequence=sequence, token=token, cycle=cycle)
        out = index + 1
        if watching is not None:
            watching.cancel()
        if recorder is not None:
            recorder.token(index, cycle)
        if index in (job["sequences"] - 1, job["tokens"] - 1):
            report_event(
                kind="counters",
                index=index,
                cycle=cycle,
                tiles=counters.read_tiles(),
                **measured.read(),
            )
        if out < job["tokens"]:
            watching = cocotb.start_soon(windows.watch_tile())


class _Host:
    """Loads and starts the machine."""

    def __init__(self, dut: Any, job: dict[str, Any], hbm: bytes) -> None:
        self._dut, self._job = dut, job
        self._hbm = hbm + bytes(-len(hbm) % 64)
        self._rows = [
            StreamDriver(dut, f"rows__{r}", unsigned(WIDTH)) for r in range(len(job["rows"]))
        ]
        self._memory = StreamDriver(dut, "hbm", unsigned(len(dut.hbm__payload)))
        self._settings = StreamDriver(dut, "settings", Setting())
        dut.start.value = 0
        dut.damage.value = 0
        dut.program.value = job["program"]

    async def load(self) -> None:
        """Fill the HBM, the tiles and the link's settings."""
        loading = [
            cocotb.start_soon(driver.send(lines(words)))
            for driver, words in zip(self._rows, self._job["rows"], strict=True)
        ]
        await self._settings.send({"address": a, "data": d} for a, d in self._job["settings"])
        await self._memory.send(
            int.from_bytes(self._hbm[at : at + 64], "little") | at // 64 << 512
            for at in range(0, len(self._hbm), 64)
        )
        for task in loading:
            await task

    async def start(self) -> None:
        """Start the prefill program."""
        self._dut.start.value = 1
        await RisingEdge(self._dut.clk)
        self._dut.start.value = 0


class _Measured:
    """What counts around the mesh: monitors, windows, and the hardware's counters.

    ``before`` is what :meth:`read` gave in the run that this one goes on from, or None.
    """

    def __init__(self, dut: Any, windows: Windows, before: dict[str, Any] | None) -> None:
        port = dut.prefill.hbm
        self.windows, self.parts, self._before = windows, _counters(dut), before
        self._monitors = {
            "hbm_beats": BeatCounter(dut, port.axi__r__valid, port.axi__r__ready),
            "hbm_written_beats": BeatCounter(dut, port.axi__w__valid, port.axi__w__ready),
            "link_words": BeatCounter(dut, dut.link_word),
        }

    def read(self) -> dict[str, Any]:
        """Return all counts, as the event ``counters`` has them."""
        now = {
            "monitors": {name: monitor.count for name, monitor in self._monitors.items()},
            "windows": self.windows.count,
            "parts": {
                part: {name: int(handle.value) for name, handle in names.items()}
                for part, names in self.parts.items()
            },
        }
        return total(now, self._before)


def _recorder(
    dut: Any, mesh: Any, counters: MeshCounters, measured: _Measured, job: dict[str, Any]
) -> Recorder:
    folder = Path(os.environ["DIPTYCH_TRACE"])
    handles = {
        f"{part}.{name}": handle
        for part, names in measured.parts.items()
        for name, handle in names.items()
    }
    pc = counter_of(mesh, counters, job)
    tiles = MeshRecorder(counters, pc, folder, job["trace"], job["ends"])
    return Recorder(dut, tiles, handles, folder, job["ends"])


async def _prefill_end(dut: Any, commands: CommandRecorder) -> None:
    await RisingEdge(dut.finished)
    report_event(kind="prefill", cycle=current_cycle())
    await RisingEdge(dut.clk)  # the recorder sees the last command in the same cycle
    report_event(kind="commands", cycles=commands.cycles, entered=commands.entered)
