# SPDX-License-Identifier: BSD-2-Clause
"""Runs the decode panel alone, with the KV cache of the golden model: a back door for its tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diptych.mesh.panel import DecodePanel
from diptych_sim.compiler.decode.compile import DecodeProgram, compile_decode
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.engine.build import Progress
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.names import Engine
from diptych_sim.engine.processes import processes
from diptych_sim.engine.simulate import Run
from diptych_sim.engine.waves import WavePlan
from diptych_sim.golden.machine import GoldenMachine
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.run import lanes_mesh as lane_runs
from diptych_sim.run.events import Events, Written
from diptych_sim.run.folder import trace_plan
from diptych_sim.run.verilator_mesh import run_job

__all__ = ["DecodeRun", "decode_load", "decode_only"]

LIMIT = 1_000_000
"""Cycles that loading and a token may take."""


@dataclass(frozen=True, kw_only=True)
class DecodeRun:
    """What the mesh wrote.

    The first token of each sequence is the golden model's; its cycle is that in which the mesh had
    taken all that it was loaded with.
    """

    sequences: list[Written]
    events: list[dict[str, Any]]
    run: Run
    decode: DecodeProgram

    @property
    def matches_golden(self) -> bool:
        """Whether every token equals the golden model's."""
        return all(written.matches_golden for written in self.sequences)

    @property
    def tiles(self) -> list[dict[str, int]]:
        """Counters of each tile, from reset to the last token."""
        return next(e["tiles"] for e in reversed(self.events) if e["kind"] == "counters")


def decode_load(
    model: QuantizedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    *,
    mesh: tuple[int, int],
    sram_bytes: int,
) -> tuple[list[list[int]], list[list[int]], DecodeProgram]:
    """Return the words that each row takes, the golden model's tokens, and the program."""
    rows, columns = mesh
    program = compile_decode(
        model,
        rows,
        columns,
        prompt_tokens=[len(prompt) for prompt in prompts],
        tokens=tokens,
        sram_bytes=sram_bytes,
    )
    expected = [
        list(GoldenMachine(model).generate(prompt, count))
        for prompt, count in zip(prompts, tokens, strict=True)
    ]
    load = [program.load_packets(row) for row in range(rows)]
    for number, prompt in enumerate(prompts):
        golden = GoldenMachine(model)
        golden.next_token(prompt)
        for (layer, cache), position, row in itertools.product(
            enumerate(golden.cache), range(len(prompt)), range(rows)
        ):
            keys, values = cache.keys[position], cache.values[position]
            load[row] += program.layout.packets(row, layer, position, keys, values, prompt=number)
    for words in load:
        words += program.start_packets(*(each[0] for each in expected))
    return load, expected, program


def decode_only(
    model: QuantizedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    *,
    mesh: tuple[int, int],
    sram_bytes: int = 16384,
    waves: WavePlan | None = None,
    out: Path | None = None,
    trace: bool = True,
    about: Mapping[str, Any] | None = None,
    text_of: Callable[[int, int], str] | None = None,
    seed: int | None = None,
    engine: Engine = "verilator",
    checkpoint: Checkpoint | None = None,
    shared: tuple[str, ...] = ("tile",),
    progress: Progress | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> DecodeRun:
    """Decode after prompts that the golden model has read; it also wrote each one's first token.

    ``out``, ``trace``, ``about`` and ``text_of`` are as of :func:`.generate_batch`. Samples over time
    and waves are taken by Verilator, which then runs all but the mesh for lanes, in one process. Lanes
    keep a ``checkpoint``.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is not of this run.
    MeshTooSmallError, UnsupportedModelError
        If the mesh cannot run the model.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    load, expected, program = decode_load(model, prompts, tokens, mesh=mesh, sram_bytes=sram_bytes)
    count = sum(tokens) - len(tokens)
    first = [each[0] for each in expected]
    colors = {color.value: color.name for color in Color}
    traced = out is not None and trace and processes() == 1
    plan = trace_plan(program, mesh=mesh) if traced else None
    with Events(out, text_of=text_of, on_event=on_event) as events:
        events.start(program, prompts, about, array=None, mesh=mesh, plan=plan)
        sizes = {"sram_bytes": sram_bytes, "program_depth": program.program_depth}
        if engine == "lanes" and waves is None and plan is None:
            run = lane_runs.run_decode(
                load,
                first,
                count,
                LIMIT,
                mesh=mesh,
                sizes=sizes,
                lines=program.program.lines,
                colors=colors,
                checkpoint=checkpoint,
                progress=progress,
                on_event=events,
            )
        else:
            apart = engine == "lanes"
            _, run = run_job(
                partial(DecodePanel, *mesh, **sizes, apart=apart),
                "decode",
                {
                    "load": load,
                    "first": first,
                    "tokens": count,
                    "limit": LIMIT,
                    "mesh": mesh,
                    "lines": program.program.lines,
                    "colors": colors,
                    "trace": plan,
                    "folder": str(out.absolute()) if out is not None else None,
                    "ends": program.round_ends,
                    "checkpoint": checkpoint and checkpoint.job(),
                },
                lanes=sizes if apart else None,
                shared=shared,
                waves=waves,
                seed=seed,
                progress=progress,
                on_event=events,
            )
    return DecodeRun(
        sequences=events.written(prompts, expected),
        events=events.all,
        run=run,
        decode=program,
    )
