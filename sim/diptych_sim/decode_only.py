# SPDX-License-Identifier: BSD-2-Clause
"""Runs the decode panel alone, with the KV cache of the golden model: a back door for its tests."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.mesh.panel import DecodePanel
from diptych_sim import lane_host
from diptych_sim.compiler.decode import DecodeProgram, compile_decode
from diptych_sim.compiler.routes import Color
from diptych_sim.engine.build import BuildOptions, Progress
from diptych_sim.engine.kind import Engine
from diptych_sim.engine.simulate import Run, simulate
from diptych_sim.engine.waves import WavePlan
from diptych_sim.golden.machine import GoldenMachine
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.tile_public import TILE_PUBLIC

__all__ = ["DecodeRun", "decode_load", "decode_only"]

LIMIT = 1_000_000
"""Cycles that loading and a token may take."""


@dataclass(frozen=True, kw_only=True)
class DecodeRun:
    """Tokens after the first, which the golden model wrote, and the cycles in which they came."""

    first: int
    expected: list[int]
    tokens: list[int]
    cycles: list[int]
    tiles: list[dict[str, int]]
    """Counters of each tile, from reset to the last token."""
    run: Run

    @property
    def matches_golden(self) -> bool:
        """Whether every token equals the golden model's."""
        return self.tokens == self.expected


def decode_load(
    model: QuantizedModel,
    prompt: list[int],
    tokens: int,
    *,
    mesh: tuple[int, int],
    sram_bytes: int,
) -> tuple[list[list[int]], list[int], DecodeProgram]:
    """Return the words that each row takes, the golden model's tokens, and the program."""
    rows, columns = mesh
    program = compile_decode(
        model, rows, columns, prompt_tokens=len(prompt), tokens=tokens, sram_bytes=sram_bytes
    )
    golden = GoldenMachine(model)
    expected = list(golden.generate(prompt, tokens))
    golden.reset()
    golden.next_token(prompt)
    load = []
    for row in range(rows):
        words = program.load_packets(row)
        for layer, cache in enumerate(golden.cache):
            for position in range(len(prompt)):
                words += program.layout.packets(
                    row, layer, position, cache.keys[position], cache.values[position]
                )
        load.append(words + program.start_packets(expected[0]))
    return load, expected, program


def decode_only(
    model: QuantizedModel,
    prompt: list[int],
    tokens: int,
    *,
    mesh: tuple[int, int],
    sram_bytes: int = 16384,
    waves: WavePlan | None = None,
    seed: int | None = None,
    engine: Engine = "verilator",
    progress: Progress | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> DecodeRun:
    """Decode ``tokens - 1`` tokens after a prompt that the golden model has read.

    Raises
    ------
    MeshTooSmallError, UnsupportedModelError
        If the mesh cannot run the model.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    rows, columns = mesh
    load, expected, program = decode_load(model, prompt, tokens, mesh=mesh, sram_bytes=sram_bytes)
    if engine == "lanes":
        events, run = lane_host.run_decode(
            load,
            tokens - 1,
            LIMIT,
            mesh=mesh,
            sram_bytes=sram_bytes,
            progress=progress,
            on_event=on_event,
        )
        return _finished(expected, events, run)
    events: list[dict[str, Any]] = []

    def listen(event: dict[str, Any]) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    with tempfile.TemporaryDirectory(prefix="diptych-") as name:
        job = Path(name) / "decode.json"
        job.write_text(
            json.dumps(
                {
                    "load": load,
                    "tokens": tokens - 1,
                    "limit": LIMIT,
                    "mesh": mesh,
                    "lines": program.program.lines,
                    "colors": {color.value: color.name for color in Color},
                }
            )
        )
        run = simulate(
            DecodePanel(rows, columns, sram_bytes=sram_bytes),
            name="decode_panel",
            test_module="diptych_tb.mesh.decode",
            env={"DIPTYCH_DECODE": job},
            options=BuildOptions(shared=("tile",)),
            public=TILE_PUBLIC,
            waves=waves,
            seed=seed,
            progress=progress,
            on_event=listen,
        )
    return _finished(expected, events, run)


def _finished(expected: list[int], events: list[dict[str, Any]], run: Run) -> DecodeRun:
    return DecodeRun(
        first=expected[0],
        expected=expected[1:],
        tokens=[event["token"] for event in events if event["kind"] == "token"],
        cycles=[event["cycle"] for event in events if event["kind"] == "token"],
        tiles=events[-1]["tiles"],
        run=run,
    )
