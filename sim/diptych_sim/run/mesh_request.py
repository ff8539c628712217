# SPDX-License-Identifier: BSD-2-Clause
"""Answers requests on the mesh alone: it reads the prompts, token by token, and writes every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from diptych.config import DEFAULTS, MachineConfig
from diptych_sim.compiler.decode.compile import DecodeProgram, compile_decode
from diptych_sim.engine.build import Progress
from diptych_sim.engine.names import DEFAULT_ENGINE, Engine
from diptych_sim.engine.simulate import Run
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.golden.sequence import GoldenSequence, golden_sequence
from diptych_sim.host.jobs import DecodeJob, Inspected

from .backend import mesh_backend
from .comparison import Comparison, compare, inspection
from .programs import mesh_fields, with_room

__all__ = ["MeshRequest", "mesh_request"]

_LIMIT = 1_000_000
"""Cycles that a token may take, or a prompt of a few."""
_ROUND_LIMIT = 20_000
"""Cycles for each further token of a prompt."""


@dataclass(frozen=True, kw_only=True)
class MeshRequest:
    """Requests that the mesh answered, and what was counted.

    Attributes
    ----------
    prompts : sequence of sequence of int
        The prompts.
    program : DecodeProgram
        What ran.
    machine : MachineConfig
        The mesh.
    golden : list of GoldenSequence
        The golden model's sequences.
    events : list of dict
        Events ``started``, ``token`` and ``counters``, as :mod:`.folder` specifies; the first token
        of each sequence is that of its prompt.
    inspected : Inspected
        Contents of the tiles.
    run : Run
        How long it took.
    """

    prompts: Sequence[Sequence[int]]
    program: DecodeProgram
    machine: MachineConfig
    golden: list[GoldenSequence]
    events: list[dict[str, Any]]
    inspected: Inspected
    run: Run

    @property
    def written(self) -> list[dict[str, Any]]:
        """Events of the tokens that the mesh wrote, in order."""
        return [e for e in self.events if e["kind"] == "token"][len(self.prompts) :]

    @property
    def tokens(self) -> list[list[int]]:
        """Tokens after each prompt."""
        return [
            [event["token"] for event in self.written if event["sequence"] == n]
            for n in range(len(self.prompts))
        ]

    @cached_property
    def comparison(self) -> Comparison:
        """Contents of the tiles, compared with the golden model."""
        order = [event["sequence"] for event in self.written]
        return compare(self.program, self.golden, order, self.inspected, first=0)

    @property
    def difference(self) -> str | None:
        """The first difference from the golden model, in one line; None if there is none."""
        if self.tokens != [sequence.tokens for sequence in self.golden]:
            return "tokens on the mesh differ from the golden model's"
        return self.comparison.difference

    @property
    def matches_golden(self) -> bool:
        """Whether tokens, KV cache and final norms equal the golden model's."""
        return self.difference is None


def mesh_request(
    model: QuantizedModel,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    *,
    machine: MachineConfig = DEFAULTS,
    engine: Engine = DEFAULT_ENGINE,
    seed: int | None = None,
    progress: Progress | None = None,
) -> MeshRequest:
    """Read prompts of one length, and write ``tokens`` tokens after each.

    Raises
    ------
    MeshTooSmallError, UnsupportedModelError
        If the mesh cannot run the model or the prompts.
    BuildError, HangError, SimulationError, ToolError
        If a step fails.
    """
    step = progress or (lambda _step: None)
    step("compiling for the mesh")
    count, length = len(prompts), len(prompts[0])
    program = compile_decode(
        model,
        *machine.mesh,
        prompt_tokens=[len(prompt) for prompt in prompts],
        tokens=[tokens] * count,
        sram_bytes=machine.sram_bytes,
        prompts=prompts,
    )
    machine = with_room(machine, program)
    golden = [
        golden_sequence(model, prompt, tokens, progress=lambda n: step(f"golden tokens, {n}"))
        for prompt in prompts
    ]
    first = [prompt[0] for prompt in prompts]
    job = DecodeJob(
        **mesh_fields(machine, program),
        load=[
            program.load_packets(row) + program.start_packets(*first)
            for row in range(machine.mesh[0])
        ],
        first=first,
        counts=[1 + tokens] * count,
        stops=[],
        counted=[2 * count - 1],
        limit=_LIMIT + length * _ROUND_LIMIT,
        inspection=inspection(program),
    )
    events: list[dict[str, Any]] = []

    def listen(event: dict[str, Any]) -> None:
        events.append(event)
        if event["kind"] == "token" and event["index"] >= count:
            step(f"mesh, token {event['index'] - count + 1} of {tokens * count}")

    backend = mesh_backend(engine, seed=seed, progress=progress)
    inspected, run = backend.run(job, listen)
    wide = golden[0].wide_layers(0) if count == 1 else []
    return MeshRequest(
        prompts=prompts,
        program=replace(program, wide=wide),
        machine=machine,
        golden=golden,
        events=events,
        inspected=inspected,
        run=run,
    )
