# SPDX-License-Identifier: BSD-2-Clause
"""Workloads of a mesh, the same on each engine: kernels, collectives, decode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diptych_sim.compiler.decode.program import SEQUENCE_SHIFT

from .jobs import (
    CollectiveJob,
    CollectiveResult,
    DecodeJob,
    GenerateJob,
    Inspected,
    KernelJob,
    KernelResult,
    Words,
)
from .mesh_host import MeshHost

__all__ = ["TokenReporter", "collective", "decode_tokens", "kernel", "load_decode"]

Report = Callable[..., None]
"""Takes an event: its ``kind``, and further fields."""
_COMPARISON = 2
"""Cycles in which a tile compares a token with one of those that end a text."""


async def kernel(host: MeshHost, job: KernelJob) -> KernelResult:
    """Load a kernel, start it, watch it until no tile is busy, and read its results."""
    await host.send(job.load)
    await host.settle()
    host.feed(job.start)
    await host.until_busy()
    host.mark_start()
    start, before = host.cycle(), host.counters()
    await host.until_idle(job.limit)
    cycles, after = host.cycle() - start, host.counters()
    await host.finish_sending()
    readbacks: list[Words] = []
    for readback in job.readbacks:
        host.collect()
        await host.send(readback.packets)
        readbacks.append(await host.read(readback.words))
    return KernelResult(cycles=cycles, before=before, after=after, readbacks=readbacks)


async def collective(host: MeshHost, job: CollectiveJob) -> CollectiveResult:
    """Load vectors, start, find the first and the last cycle, and read the results."""
    await host.send(job.load)
    await host.settle()
    host.feed(job.start)
    starts, before, after, end = await host.until_written(job.waited, job.written, job.limit)
    await host.finish_sending()
    host.collect()
    await host.send(job.gather)
    words = await host.read(job.results)
    return CollectiveResult(starts=starts, end=end, before=before, after=after, words=words)


class TokenReporter:
    """Reports each token, and counters when each sequence has its first one and at the end.

    A sequence is over with a token that ends its text, or when it has as many as asked for.

    Attributes
    ----------
    count : int
        Tokens so far.
    sequences : int
        Sequences.
    left : list of int
        Tokens that each may still have.
    last : int
        Cycle of the last one.
    handoff, norms : list of bytes
        As of :class:`.Inspected`, so far.

    Parameters
    ----------
    host : MeshHost
        Whose counters.
    job : DecodeJob or GenerateJob
        How many sequences and tokens, and what to inspect.
    report : callable
        Takes the events.
    """

    def __init__(self, host: MeshHost, job: DecodeJob | GenerateJob, report: Report) -> None:
        self.count, self.last = 0, 0
        self.left, self.sequences = list(job.counts), len(job.counts)
        self.handoff: list[bytes] = []
        self.norms: list[bytes] = []
        self._host, self._report, self._job = host, report, job
        self._counted = {self.sequences - 1, *job.counted}

    def __call__(self, sequence: int, token: int, cycle: int) -> None:
        """Take a token."""
        index, self.last = self.count, cycle
        self.count += 1
        self.left[sequence] = 0 if token in self._job.stops else self.left[sequence] - 1
        # Sequences write in the order of their numbers.
        ends = all(left <= 0 for left in self.left[sequence + 1 :])
        self._report(
            kind="token", index=index, sequence=sequence, token=token, cycle=cycle, ends=ends
        )
        self.reported(index, cycle, ends=ends)
        if index >= self.sequences:
            self._inspect(sequence)
        if index in self._counted or self.over:
            tiles = self._host.counters()
            self._report(
                kind="counters", index=index, cycle=cycle, tiles=tiles, **self.other_counters()
            )

    @property
    def over(self) -> bool:
        """Whether all sequences are over."""
        return all(left <= 0 for left in self.left)

    def _inspect(self, sequence: int) -> None:
        """Read the norm that a token came from, and with the first token of the mesh the KV cache."""
        rows, columns = self._job.mesh
        column = range(0, rows * columns, columns)
        norm = self._host.read_sram(column, [self._job.inspection.norms[sequence]])
        self.norms.append(b"".join(norm))
        if not self.handoff:
            self.handoff = self.read_kv()

    def read_kv(self) -> list[bytes]:
        """Return the KV cache, as :class:`.Inspected` has it."""
        return self._host.read_sram(self._job.inspection.tiles, self._job.inspection.kv)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`resume` takes; JSON can hold it."""
        handoff, norms = ([part.hex() for part in parts] for parts in (self.handoff, self.norms))
        return {"count": self.count, "left": self.left, "handoff": handoff, "norms": norms}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue where another one was."""
        self.count, self.left = state["count"], state["left"]
        self.handoff = [bytes.fromhex(part) for part in state["handoff"]]
        self.norms = [bytes.fromhex(part) for part in state["norms"]]

    async def handoff_over(self) -> None:
        """Return when the KV cache is in the tiles, after the last of the first tokens."""
        await self._host.settle()

    def reported(self, index: int, cycle: int, *, ends: bool) -> None:
        """Do what else a token asks for; ``ends``: a round."""

    def other_counters(self) -> dict[str, Any]:
        """Return what the event ``counters`` has besides those of tiles."""
        return {}


async def load_decode(host: MeshHost, job: DecodeJob, out: TokenReporter, report: Report) -> None:
    """Load a mesh with program, KV cache and first tokens, and report these.

    Decode starts, as far as accounts go, when the mesh has taken all that it is loaded with; the
    first tokens are those of that cycle.
    """
    await host.send(job.load)
    started = host.cycle()
    report(kind="started", cycle=started)
    for sequence, token in enumerate(job.first):
        out(sequence, token, started)


async def decode_tokens(
    host: MeshHost, job: DecodeJob | GenerateJob, out: TokenReporter
) -> Inspected:
    """Take the tokens that are still to come, and return what they leave behind.

    Then the mesh must come to rest.
    """
    while not out.over:
        cycle, word = await host.until_token(out.count, job.limit)
        sequence, token = divmod(word, 1 << SEQUENCE_SHIFT)
        out(sequence, token, cycle)
    if out.count == out.sequences:
        await out.handoff_over()
    end = out.read_kv()
    await host.until_rest(_COMPARISON * out.sequences * len(job.stops))
    return Inspected(handoff=out.handoff or end, end=end, norms=out.norms)
