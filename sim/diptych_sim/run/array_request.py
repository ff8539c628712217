# SPDX-License-Identifier: BSD-2-Clause
"""Answers requests on the prefill panel alone: it reads the prompts, and writes every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from diptych.config import DEFAULTS, MachineConfig
from diptych_sim.compiler.array_decode.compile import ArrayProgram, compile_array
from diptych_sim.cost.prefill import PrefillCost
from diptych_sim.cost.requests import panel_cost
from diptych_sim.engine.build import Progress
from diptych_sim.engine.names import DEFAULT_ENGINE, Engine
from diptych_sim.engine.simulate import Run
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.golden.sequence import GoldenSequence, golden_sequence
from diptych_sim.host.jobs import ArrayRequestJob, ArrayRequestResult

from .comparison import compare_hbm
from .panel import run_panel

__all__ = ["ArrayRequest", "array_request"]

_LIMIT = 2_000_000
"""Cycles that a program may take, beside four times those that are predicted."""


@dataclass(frozen=True, kw_only=True)
class ArrayRequest:
    """Requests that the prefill panel answered, and what was counted.

    Attributes
    ----------
    prompts : sequence of sequence of int
        The prompts.
    program : ArrayProgram
        What ran.
    measured : ArrayRequestResult
        Tokens, cycles and counters by program.
    machine : MachineConfig
        The panel.
    golden : list of GoldenSequence
        The golden model's sequences.
    costs : list of PrefillCost
        Predicted cost of each program.
    hbm : bytes
        Contents of the HBM at the end.
    run : Run
        How long it took.
    """

    prompts: Sequence[Sequence[int]]
    program: ArrayProgram
    measured: ArrayRequestResult
    machine: MachineConfig
    golden: list[GoldenSequence]
    costs: list[PrefillCost]
    hbm: bytes
    run: Run

    @property
    def tokens(self) -> list[list[int]]:
        """Tokens after each prompt."""
        return [list(sequence) for sequence in zip(*self.measured.tokens, strict=True)]

    @cached_property
    def compared(self) -> tuple[str | None, dict[str, Any]]:
        """The first difference from the golden model, None if there is none, and what was compared."""
        expected = [sequence.tokens for sequence in self.golden]
        counts = [sequence.prompt + len(sequence.tokens) - 1 for sequence in self.golden]
        caches = [sequence.cache for sequence in self.golden]
        difference, end = compare_hbm(self.program.kv, self.hbm, caches, counts)
        if self.tokens != expected:
            difference = "tokens on the array differ from the golden model's"
        return difference, {"tokens": sum(map(len, expected)), "kv_end": end}

    @property
    def difference(self) -> str | None:
        """The first difference from the golden model, in one line; None if there is none."""
        return self.compared[0]

    @property
    def matches_golden(self) -> bool:
        """Whether all tokens and the whole KV cache equal the golden model's."""
        return self.difference is None


def array_request(
    model: QuantizedModel,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    *,
    machine: MachineConfig = DEFAULTS,
    engine: Engine = DEFAULT_ENGINE,
    seed: int | None = None,
    progress: Progress | None = None,
) -> ArrayRequest:
    """Read prompts of one length, and write ``tokens`` tokens after each.

    Raises
    ------
    PrefillError
        If the panel cannot run the model or the prompts.
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    step = progress or (lambda _step: None)
    step("compiling for the array")
    program = compile_array(model, *machine.array, prompts, tokens)
    golden = [
        golden_sequence(model, prompt, tokens, progress=lambda n: step(f"golden tokens, {n}"))
        for prompt in prompts
    ]
    programs = [program.prefill, *program.steps]
    costs = [panel_cost(each, machine) for each in programs]
    job = ArrayRequestJob(
        hbm="hbm.bin",
        written="written.bin",
        programs=[each.start for each in programs],
        ids=[None, *program.ids],
        arrivals=[0] * len(programs),
        sequences=[len(prompts)] * len(programs),
        array=machine.array,
        weight_rows=machine.weight_rows,
        limit=_LIMIT + 4 * max(cost.predicted_cycles for cost in costs),
    )

    def listen(event: dict[str, Any]) -> None:
        if event["kind"] == "tokens":
            step(f"array, token {event['number'] + 1} of {tokens}")

    done = run_panel(
        job, program.hbm, machine, engine=engine, seed=seed, progress=progress, on_event=listen
    )
    assert done.hbm is not None
    return ArrayRequest(
        prompts=prompts,
        program=program,
        measured=done.result,
        machine=machine,
        golden=golden,
        costs=costs,
        hbm=done.hbm,
        run=done.run,
    )
