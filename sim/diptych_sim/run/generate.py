# SPDX-License-Identifier: BSD-2-Clause
"""Writes text on the simulated machine, and checks it against the golden model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diptych.link.layout import HEADS, Settings
from diptych.system import System
from diptych.systolic.isa import Queue
from diptych_sim.compiler.decode.compile import DecodeProgram, compile_decode
from diptych_sim.compiler.decode.placement import UnsupportedModelError
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.prefill.compile import PrefillProgram, compile_prefill
from diptych_sim.engine.build import BuildOptions, Progress
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.names import Engine
from diptych_sim.engine.simulate import Run, simulate
from diptych_sim.engine.waves import WavePlan
from diptych_sim.golden.machine import GoldenMachine
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.host.public_signals import TILE_PUBLIC
from diptych_sim.run.events import Events, OnEvent, Written
from diptych_sim.run.folder import trace_plan

__all__ = ["Generation", "Machine", "generate", "generate_batch"]

_PANEL = "system.prefill.panel"
PUBLIC = (
    *TILE_PUBLIC,
    ("tile.router", "*_o__valid"),
    ("system.prefill.hbm", "count_*"),
    ("system.prefill.hbm", "axi__*"),
    (_PANEL, "count_*"),
    *((f"{_PANEL}.scratchpad", name) for name in ("count_*", "*__en", "*__ready", "*__mask")),
    (f"{_PANEL}.scratchpad", "read_x__data"),
    *((f"{_PANEL}.accumulators", name) for name in ("count_*", "*__en", "*__ready")),
    *((f"{_PANEL}.accumulators", name) for name in ("sums__start", "read__data")),
    *((f"{_PANEL}.{engine}", "count_*") for engine in ("matrix", "vector", "load", "store")),
    (f"{_PANEL}.queues", "count_*"),
    ("system.link", "count_*"),
    ("system.link.transmitter", "count_*"),
    ("system.link.transmitter", "now"),
    ("system.link.transmitter", "filled"),
    *(("system.link.receiver", name) for name in ("expected", "oldest")),
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Sizes and speeds of the machine; defaults are those of the command."""

    array: tuple[int, int] = (16, 16)
    mesh: tuple[int, int] = (8, 8)
    sram_bytes: int = 16384
    program_depth: int = 256
    """Instructions that a tile holds; more if a program needs more."""
    hbm_latency: int = 100
    hbm_bytes_per_cycle: int = 64
    weight_rows: int = 1
    link_latency: int = 50
    link_bytes_per_cycle: int = 4

    def system(
        self, hbm_bytes: int, instructions: int = 0, *, mesh_apart: bool = False
    ) -> partial[System]:
        """Return what makes the hardware, with an HBM and program memories of at least these sizes."""
        size = 2**20
        while size < hbm_bytes:
            size *= 2
        return partial(
            System,
            *self.array,
            *self.mesh,
            hbm_bytes=size,
            hbm_latency=self.hbm_latency,
            hbm_bytes_per_cycle=self.hbm_bytes_per_cycle,
            weight_rows=self.weight_rows,
            link_latency=self.link_latency,
            link_bytes_per_cycle=self.link_bytes_per_cycle,
            sram_bytes=self.sram_bytes,
            program_depth=max(self.program_depth, instructions),
            mesh_apart=mesh_apart,
        )


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What the machine wrote, and what it cost."""

    sequences: list[Written]
    events: list[dict[str, Any]]
    run: Run
    decode: DecodeProgram | None
    prefill: PrefillProgram | None

    @property
    def matches_golden(self) -> bool:
        """Whether every token equals the golden model's."""
        return all(written.matches_golden for written in self.sequences)

    @property
    def prompt(self) -> list[int]:
        """Tokens of the prompts, one prompt after the other."""
        return [token for written in self.sequences for token in written.prompt]

    @property
    def tokens(self) -> list[int]:
        """Tokens that were written, one sequence after the other."""
        return [token for written in self.sequences for token in written.tokens]


def generate(model: QuantizedModel, prompt: list[int], tokens: int, **options: Any) -> Generation:
    """Run prefill, link and decode in one simulation, for one prompt: :func:`generate_batch`."""
    return generate_batch(model, [prompt], [tokens], **options)


def generate_batch(
    model: QuantizedModel,
    prompts: Sequence[list[int]],
    tokens: Sequence[int],
    *,
    machine: Machine,
    damage: float = 0.0,
    waves: WavePlan | None = None,
    out: Path | None = None,
    trace: bool = True,
    about: Mapping[str, Any] | None = None,
    text_of: Callable[[int, int], str] | None = None,
    seed: int | None = None,
    engine: Engine = "verilator",
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    on_event: OnEvent | None = None,
) -> Generation:
    """Run prefill, link and decode in one simulation.

    Parameters
    ----------
    model : QuantizedModel
        What to run.
    prompts : list of list of int
        One to eight prompts, each of at least one token: their sequences are written together.
    tokens : list of int
        How many to write for each, at least 1; prompt and tokens fit into the context.
    machine : Machine
        On what.
    damage : float
        Probability that a word on the link is damaged.
    waves : WavePlan, optional
        What to record, in time since the start.
    out : Path, optional
        Folder that gets the events of the run, as :mod:`diptych_sim.run.folder` specifies.
    trace : bool
        Whether it gets samples of counters, too.
    about : mapping, optional
        What else the event ``run`` is to say.
    text_of : callable, optional
        Called for each token as it comes; what it returns is the ``text`` of the event ``token``.
    engine : Engine
        What runs the mesh; all else runs in Verilator, cycle by cycle with it.
    checkpoint : Checkpoint, optional
        Where the run is kept, with lanes, once the mesh is all that works: after the first tokens.
    progress, on_event
        Called at steps of the build, and for events of the simulation.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is not of this run.
    MeshTooSmallError, PrefillError, UnsupportedModelError
        If the machine cannot run the model or the prompt.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    if model.config.kv_heads > HEADS:
        raise UnsupportedModelError(
            f"Model must have at most {HEADS} KV heads, not {model.config.kv_heads}"
        )
    decode = compile_decode(
        model,
        *machine.mesh,
        prompt_tokens=[len(prompt) for prompt in prompts],
        tokens=tokens,
        sram_bytes=machine.sram_bytes,
    )
    prefill = compile_prefill(model, *machine.array, *prompts)
    expected = [
        list(GoldenMachine(model).generate(prompt, count))
        for prompt, count in zip(prompts, tokens, strict=True)
    ]
    plan = trace_plan(decode, mesh=machine.mesh) if out is not None and trace else None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="diptych-")))
        events = stack.enter_context(Events(out, text_of=text_of, on_event=on_event))
        events.start(decode, prompts, about, array=machine.array, mesh=machine.mesh, plan=plan)
        depth = max(machine.program_depth, decode.program_depth)
        sizes: dict[str, Any] = {"sram_bytes": machine.sram_bytes, "program_depth": depth}
        lanes = sizes if engine == "lanes" else None
        if lanes is not None:
            LaneMesh(*machine.mesh, progress=progress, **sizes).close()  # builds what it needs
        (folder / "hbm.bin").write_bytes(prefill.hbm)
        job = {
            "hbm": "hbm.bin",
            "program": prefill.program_address,
            "rows": [decode.load_packets(row) for row in range(machine.mesh[0])],
            "settings": list(_settings(decode).items()),
            "tokens": sum(tokens),
            "sequences": len(prompts),
            "limit": 2_000_000,
            "damage": damage,
            "mesh": machine.mesh,
            "weight_rows": machine.weight_rows,
            "layers": _layer_ends(prefill),
            "lanes": lanes,
            "trace": plan,
            "checkpoint": checkpoint and checkpoint.job(),
            "ends": decode.round_ends,
            "lines": decode.program.lines,
            "colors": {color.value: color.name for color in Color},
        }
        (folder / "job.json").write_text(json.dumps(job))
        run = simulate(
            machine.system(len(prefill.hbm), decode.program_depth, mesh_apart=engine == "lanes"),
            name="system",
            test_module="diptych_sim.host.generate",
            env={
                "DIPTYCH_JOB": folder / "job.json",
                **({"DIPTYCH_TRACE": out.absolute()} if out is not None else {}),
            },
            public=PUBLIC,
            options=(BuildOptions(outside="mesh") if lanes else BuildOptions(shared=("tile",))),
            waves=waves,
            seed=seed,
            progress=progress,
            on_event=events,
        )
    return Generation(
        sequences=events.written(prompts, expected),
        events=events.all,
        run=run,
        decode=decode,
        prefill=prefill,
    )


def _layer_ends(prefill: PrefillProgram) -> list[int]:
    """Return for each layer the number of its last MATRIX command."""
    matrix = [c for c in prefill.commands.commands if c.queue is Queue.MATRIX]
    ends = {c.label.layer: number for number, c in enumerate(matrix) if c.label.layer is not None}
    return [ends[layer] for layer in sorted(ends)]


def _settings(decode: DecodeProgram) -> dict[int, int]:
    """Return the link's settings for a compiled mesh."""
    layout = decode.layout
    settings = {
        Settings.ROWS: layout.rows,
        Settings.LAST_COLUMN: decode.placement.columns - 1,
        Settings.LAYER_STRIDE: layout.layer_stride,
        Settings.VALUE_STRIDE: layout.value_stride,
        Settings.HEAD_WORDS: layout.head_dim // 4,
        Settings.HEAD_COUNT: len(layout.heads),
        Settings.ACTIVATES: int(max(decode.tokens) > 1),
        Settings.PROMPT_STRIDE: layout.prompt_stride,
        Settings.LAST_PROMPT: len(decode.tokens) - 1,
    }
    if len(decode.tokens) > 1:
        settings[Settings.TOKENS] = decode.placement.at("arguments")
    for place in layout.heads:
        base = Settings.HEAD + place.head * Settings.HEAD_STEP
        settings[base] = place.first | place.last << 16
        settings[base + 1] = place.keys
        settings[base + 2] = place.values
    return settings
