# SPDX-License-Identifier: BSD-2-Clause
"""Runs kernels, collectives and decodes on lanes, as testbenches do in Verilator."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from diptych_sim.compiler.collectives.compile import CompiledCollective
from diptych_sim.compiler.decode.program import SEQUENCE_SHIFT
from diptych_sim.compiler.mesh_kernels.kernel import MeshKernel
from diptych_sim.engine.build import Progress
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.lanes.distributed import open_mesh
from diptych_sim.engine.simulate import Run
from diptych_sim.host.lanes_host import LaneHost

__all__ = ["run_collective", "run_decode", "run_kernel"]


def run_kernel(
    kernel: MeshKernel,
    limit: int,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[list[list[int]]], Run]:
    """Run a kernel on lanes, as :mod:`diptych_sim.host.kernel` does in Verilator.

    Returns its cycles and counters, the words of each readback, and how long it took.

    Raises
    ------
    CheckpointError
        If a checkpoint to resume cannot be read, or is not of this run.
    HangError
        If the mesh hangs.
    SimulationError
        If a checkpoint cannot be written.
    """
    mesh = open_mesh(
        kernel.rows,
        kernel.columns,
        colors=kernel.colors,
        sram_bytes=kernel.sram_bytes,
        positions=1,
        progress=progress,
    )
    readbacks = [[turn.packets, turn.words] for turn in kernel.readbacks]
    with mesh:
        host = LaneHost(
            mesh,
            lines=kernel.program.lines,
            colors=kernel.color_names,
            checkpoint=checkpoint,
            about=["kernel", json.dumps([kernel.load, kernel.start, readbacks])],
        )
        host.launch(kernel.load, kernel.start)
        start, before = host.cycle(), host.counters()
        host.run_until_idle(limit)
        end = {"cycles": host.cycle() - start, "before": before, "after": host.counters()}
        host.finish_sending(limit)
        host.forget()
        results = []
        for turn in kernel.readbacks:
            host.send(turn.packets)
            results.append(host.read(turn.words))
        return end, results, host.finished()


def run_collective(
    compiled: CompiledCollective,
    mesh: tuple[int, int],
    *,
    results: int,
    limit: int,
    hop_cycles: int = 1,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[list[int]], Run]:
    """Run a collective on lanes, as :mod:`diptych_sim.host.collective` does in Verilator.

    Returns the cycles in which each tile began and in which the last wrote, with the counters at the
    first and the last of them; the words of each row, of which there are ``results``; and how long
    it took. Errors are those of :func:`run_kernel`.
    """
    parameters = {"colors": compiled.colors, "hop_cycles": hop_cycles}
    with open_mesh(*mesh, progress=progress, **parameters) as lanes:
        host = LaneHost(
            lanes,
            lines=compiled.program.lines,
            colors={},
            checkpoint=checkpoint,
            about=["collective", json.dumps([compiled.load, compiled.start, compiled.gather])],
        )
        host.send(compiled.load)
        host.settle()
        host.feed(compiled.start)
        names = ("starts", "before", "after", "end")
        found = host.run_until_written(compiled.waited, compiled.written, limit)
        host.finish_sending(limit)
        host.forget()
        host.send(compiled.gather)
        return dict(zip(names, found, strict=True)), host.read(results), host.finished()


def run_decode(
    load: list[list[int]],
    first: list[int],
    tokens: int,
    limit: int,
    *,
    mesh: tuple[int, int],
    sizes: dict[str, int],
    lines: list[str],
    colors: dict[int, str],
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    on_event: Callable[[dict[str, Any]], None],
) -> Run:
    """Decode on lanes, as :mod:`diptych_sim.host.decode` does in Verilator.

    Reports the same events, each with the cycle in which a testbench would see it; a run that goes
    on from a checkpoint reports all again. Errors are those of :func:`run_kernel`.
    """
    with open_mesh(*mesh, progress=progress, **sizes) as lanes:
        host = LaneHost(
            lanes,
            lines=lines,
            colors=colors,
            checkpoint=checkpoint,
            about=["decode", json.dumps([load, first, tokens])],
        )

        def out(index: int, sequence: int, token: int, cycle: int) -> None:
            event = {"kind": "token", "index": index, "sequence": sequence, "token": token}
            on_event(event | {"cycle": cycle})
            if index in (len(first) - 1, len(first) + tokens - 1):
                counters = {"kind": "counters", "index": index, "cycle": cycle}
                on_event(counters | {"tiles": host.counters()})

        host.send(load)
        since = host.cycle()
        on_event({"kind": "started", "cycle": since})
        for sequence, token in enumerate(first):
            out(sequence, sequence, token, since)
        for index in range(len(first), len(first) + tokens):
            since, word = host.run_until_token(index, since, limit)
            out(index, *divmod(word, 1 << SEQUENCE_SHIFT), since)
        return host.finished()
