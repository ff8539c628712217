# SPDX-License-Identifier: BSD-2-Clause
"""Host of a mesh in a simulator: the mesh is there, or on lanes behind a shell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import unsigned

from diptych.mesh.host_port import LINE_WORDS, HostLine
from diptych.mesh.sram import BANKS
from diptych_sim.engine.lanes.sram import read_sram

from .clocking import current_cycle, start_clock_and_reset
from .cosimulated_mesh import CosimulatedMesh
from .fields import Fields
from .hang import PATIENCE, STILL_BUSY
from .jobs import Counters, GenerateJob, MeshJob, Words
from .mesh_counters import LaneCounters, MeshCounters
from .mesh_host import MeshHost
from .resumable import ResumableRun, resumable_run
from .streams import StreamDriver
from .triggers import ClockCycles, RisingEdge, SimTimeoutError, at_end, start_soon, with_timeout
from .watchdog import Watchdog, tile_bodies
from .wave_marks import mark_start

__all__ = ["HOST_LINE_BITS", "SimulatorHost", "host_lines"]

HOST_LINE_BITS = Fields(HostLine()).width


def host_lines(words: list[int]) -> list[int]:
    """Pack words into host lines, payloads of :class:`.HostLine`."""
    out = []
    for start in range(0, len(words), LINE_WORDS):
        part = words[start : start + LINE_WORDS]
        bits = int.from_bytes(b"".join(word.to_bytes(4, "little") for word in part), "little")
        out.append(bits | len(part) << 32 * LINE_WORDS)
    return out


class SimulatorHost(MeshHost):
    """Drives the rows' host ports of a design, and sees what leaves them.

    Attributes
    ----------
    mesh : handle or CosimulatedMesh
        The mesh.
    run : ResumableRun or None
        The run that is saved, if the job asks for that.
    tiles : MeshCounters
        Counters of the tiles.
    watchdog : Watchdog
        Of the mesh.

    Parameters
    ----------
    dut : handle
        The design.
    job : MeshJob
        What runs.
    shell : handle
        The mesh in it, or what stands for one on lanes.
    rows : str
        Name of the ports of the rows.
    """

    mesh: Any
    run: ResumableRun | None
    tiles: MeshCounters
    watchdog: Watchdog

    def __init__(self, dut: Any, job: MeshJob, *, shell: Any, rows: str = "i") -> None:
        super().__init__(job)
        self._dut, self._shell = dut, shell
        self._edge = RisingEdge(dut.clk)
        self._drivers = [
            StreamDriver(dut, f"{rows}__{r}", unsigned(HOST_LINE_BITS)) for r in range(job.mesh[0])
        ]
        self._sending: list[Any] = []
        self._collected: list[list[int]] = []
        self._collecting: Any = None
        self._silent = 0

    async def reset(self) -> None:
        """Reset the design; the insides of its tiles can be seen only from then on.

        Raises
        ------
        CheckpointError
            If there is none to resume from.
        """
        job = self.job
        self.mesh = self._shell
        if job.cosimulated:
            image = job.read_image()
            # A checkpoint is one of tiles that are near.
            in_rows = isinstance(job, GenerateJob) and job.checkpoint is None
            self.mesh = CosimulatedMesh(
                self._shell, *job.mesh, image=image, in_rows=in_rows, **job.parameters
            )
            at_end(self.mesh.close)
        self.run = resumable_run(self.mesh, job)
        await start_clock_and_reset(self._dut)
        bodies = tile_bodies(self.mesh, *job.mesh)
        self.tiles = LaneCounters(self.mesh.mesh) if job.cosimulated else MeshCounters(bodies)
        self._busy = [tile.core.watch_busy for tile in bodies.values()]
        self.watchdog = Watchdog(
            self._dut.clk, bodies, self.tiles, lines=job.lines, colors=job.colors
        )

    def cycle(self) -> int:
        return current_cycle()

    def handed_off(self) -> None:
        """Say that the mesh has all keys and values, and goes on by itself."""
        if self.job.cosimulated:
            self.mesh.keep_near()

    def counters(self) -> Counters:
        return self.tiles.read_tiles()

    def read_sram(self, tiles: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[bytes]:
        if self.job.cosimulated:
            return read_sram(self.mesh.mesh, tiles, spans)
        contents = []
        for tile in tiles:
            sram = self.tiles.bodies[tile].core.sram
            banks = [getattr(sram, f"bank_{bank}") for bank in range(BANKS)]
            words = [
                int(banks[word % BANKS][word // BANKS].value)
                for address, size in spans
                for word in range(address // 8, (address + size) // 8)
            ]
            contents.append(b"".join(word.to_bytes(8, "little") for word in words))
        return contents

    def mark_start(self) -> None:
        mark_start()

    def register_of(self, index: int, name: str) -> Any:
        """Return a handle that follows a register of the core of a tile; lanes have one such."""
        if self.job.cosimulated:
            return self.mesh.signal(f"core.{name}", *divmod(index, self.job.mesh[1]))
        return getattr(self.tiles.bodies[index].core, name)

    def feed(self, words: Words) -> None:
        self._sending = [
            start_soon(driver.send(host_lines(row)))
            for driver, row in zip(self._drivers, words, strict=True)
        ]

    async def finish_sending(self) -> None:
        sending, self._sending = self._sending, []
        for task in sending:
            await task
        await self._edge  # now the last line is in the mesh

    async def settle(self, more: int = 0) -> None:
        await ClockCycles(self._dut.clk, self.settle_cycles + more)

    async def until_busy(self) -> None:
        for _ in range(self.settle_cycles):
            if self.tiles.busy():
                return
            await self._edge
        self.watchdog.stop("no task has started")

    async def until_idle(self, limit: int) -> None:
        watching = self.watchdog.start(limit)
        while working := [busy for busy in self._busy if busy.value]:
            while working[0].value:
                await self._edge
        watching.cancel()

    async def until_rest(self, more: int) -> None:
        await self.settle(more)
        if self.tiles.busy():
            self.watchdog.stop(STILL_BUSY)

    async def until_written(
        self, waited: list[int], written: list[int], limit: int
    ) -> tuple[list[int], Counters, Counters, int]:
        cores = [body.core for body in self.tiles.bodies]
        issued = [core.count_instructions for core in cores]
        writes = [core.count_sram_write for core in cores]
        firsts = [int(n.value) + more for n, more in zip(issued, waited, strict=True)]
        goals = [int(n.value) + more for n, more in zip(writes, written, strict=True)]
        starts = [0] * len(cores)
        waiting, writing = set(range(len(cores))), {n for n, more in enumerate(written) if more}
        before: Counters = []
        for _ in range(limit):
            await self._edge
            now = current_cycle()
            for n in list(waiting):
                # The last of the instructions that wait has issued; now the first move issues.
                if int(issued[n].value) == firsts[n]:
                    starts[n] = now
                    waiting.discard(n)
                    if not before:
                        mark_start()
                        before = self.counters()
            for n in list(writing):
                if int(writes[n].value) == goals[n]:
                    writing.discard(n)
            if not waiting and not writing:
                # The last word was written in the cycle before, if any was.
                return starts, before, self.counters(), now
        place = divmod(min(writing or waiting), self.job.mesh[1])
        self.watchdog.stop(f"tile {place} has not ended its collective after {limit} cycles")

    async def until_token(self, index: int, limit: int) -> tuple[int, int]:
        try:
            await with_timeout(RisingEdge(self._dut.token_valid), limit)
        except SimTimeoutError:
            self.watchdog.stop(f"token {index} has not come within {limit} cycles")
        await self._edge
        return current_cycle(), int(self._dut.token.value)

    def collect(self) -> None:
        self._collected = [[] for _ in self._drivers]
        self._silent = 0
        self._collecting = start_soon(self._collect())

    async def _collect(self) -> None:
        ports = [
            (self._dut[f"results_valid__{r}"], self._dut[f"results__{r}"])
            for r in range(len(self._drivers))
        ]
        while True:
            await self._edge
            self._silent += 1
            for row, (valid, data) in zip(self._collected, ports, strict=True):
                if valid.value:
                    row.append(int(data.value))
                    self._silent = 0

    async def read(self, words: int) -> Words:
        while any(len(row) < words for row in self._collected):
            await self._edge
            if self._silent > PATIENCE:
                done = min(map(len, self._collected))
                self.watchdog.stop(f"results stopped after {done} of {words} words")
        self._collecting.cancel()
        return [row[:words] for row in self._collected]
