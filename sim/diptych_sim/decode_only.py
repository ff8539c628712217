# SPDX-License-Identifier: BSD-2-Clause
"""Runs the decode panel alone, with the KV cache of the golden model: a back door for its tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diptych.mesh.panel import DecodePanel
from diptych_sim import lane_host
from diptych_sim.compiler.decode import DecodeProgram, compile_decode
from diptych_sim.compiler.routes import Color
from diptych_sim.engine.build import Progress
from diptych_sim.engine.kind import Engine
from diptych_sim.engine.simulate import Run
from diptych_sim.engine.waves import WavePlan
from diptych_sim.golden.machine import GoldenMachine
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.mesh_run import run_job

__all__ = ["DecodeRun", "decode_load", "decode_only"]

LIMIT = 1_000_000
"""Cycles that loading and a token may take."""


@dataclass(frozen=True, kw_only=True)
class DecodeRun:
    """What the mesh wrote, a list for each sequence: tokens, and the cycles in which they came.

    ``first`` are the tokens that the golden model wrote, ``expected`` those that follow.
    """

    first: list[int]
    expected: list[list[int]]
    tokens: list[list[int]]
    cycles: list[list[int]]
    tiles: list[dict[str, int]]
    """Counters of each tile, from reset to the last token."""
    run: Run

    @property
    def matches_golden(self) -> bool:
        """Whether every token equals the golden model's."""
        return self.tokens == self.expected


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
    seed: int | None = None,
    engine: Engine = "verilator",
    shared: tuple[str, ...] = ("tile",),
    progress: Progress | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> DecodeRun:
    """Decode after prompts that the golden model has read; it also wrote each one's first token.

    Raises
    ------
    MeshTooSmallError, UnsupportedModelError
        If the mesh cannot run the model.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    rows, columns = mesh
    load, expected, program = decode_load(model, prompts, tokens, mesh=mesh, sram_bytes=sram_bytes)
    count = sum(tokens) - len(tokens)
    if engine == "lanes":
        events, run = lane_host.run_decode(
            load,
            count,
            LIMIT,
            mesh=mesh,
            sram_bytes=sram_bytes,
            program_depth=program.program_depth,
            progress=progress,
            on_event=on_event,
        )
        return _finished(expected, events, run)
    events, run = run_job(
        DecodePanel(rows, columns, sram_bytes=sram_bytes, program_depth=program.program_depth),
        "decode",
        {
            "load": load,
            "tokens": count,
            "limit": LIMIT,
            "mesh": mesh,
            "lines": program.program.lines,
            "colors": {color.value: color.name for color in Color},
        },
        shared=shared,
        waves=waves,
        seed=seed,
        progress=progress,
        on_event=on_event,
    )
    return _finished(expected, events, run)


def _finished(expected: list[list[int]], events: list[dict[str, Any]], run: Run) -> DecodeRun:
    of = [[e for e in events if e.get("sequence") == n] for n in range(len(expected))]
    return DecodeRun(
        first=[each[0] for each in expected],
        expected=[each[1:] for each in expected],
        tokens=[[event["token"] for event in own] for own in of],
        cycles=[[event["cycle"] for event in own] for own in of],
        tiles=events[-1]["tiles"],
        run=run,
    )
