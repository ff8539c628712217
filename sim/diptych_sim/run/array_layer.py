# SPDX-License-Identifier: BSD-2-Clause
"""One layer of a model of any shape on the prefill panel: random weights, a prompt of some length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from diptych.config import MachineConfig
from diptych_sim.compiler.array.commands import PrefillProgram
from diptych_sim.compiler.array.kv_rows import KvRows
from diptych_sim.compiler.prefill.compile import check_reading, compile_reading
from diptych_sim.cost.prefill import PrefillCost
from diptych_sim.cost.requests import panel_cost
from diptych_sim.engine.build import Progress
from diptych_sim.engine.names import DEFAULT_ENGINE, Engine
from diptych_sim.engine.simulate import Run
from diptych_sim.golden.machine import GoldenModel, KvCache
from diptych_sim.golden.random_integers import random_integers
from diptych_sim.host.jobs import ArrayRequestJob, ArrayRequestResult
from diptych_sim.llm.model import ModelConfig

from .comparison import compare_hbm
from .panel import run_panel

__all__ = ["ArrayLayerRun", "run_array_layer"]

VOCABULARY = 64
"""Tokens of the model around the layer."""
LAYERS = 2
"""The layer, and the next one, whose keys and values show what the first one has computed."""


@dataclass(frozen=True, kw_only=True)
class ArrayLayerRun:
    """A prompt that went through a layer, and through the next one as far as a prompt's last layer goes.

    Attributes
    ----------
    config : ModelConfig
        The shape of both layers.
    tokens : int
        Tokens of the prompt.
    program : PrefillProgram
        What ran.
    chunk : int
        Rows of the largest chunk.
    kv : KvRows
        Where keys and values are.
    machine : MachineConfig
        The panel.
    cost : PrefillCost
        Predicted cost of the program.
    measured : ArrayRequestResult
        Cycles and counters.
    commands : dict
        Event of the :class:`.CommandRecorder`.
    cache : list of KvCache
        The golden model's keys and values.
    token : int
        The token that the golden model writes.
    hbm : bytes
        Contents of the HBM at the end.
    run : Run
        How long it took.
    """

    config: ModelConfig
    tokens: int
    program: PrefillProgram
    chunk: int
    kv: KvRows
    machine: MachineConfig
    cost: PrefillCost
    measured: ArrayRequestResult
    commands: dict[str, Any]
    cache: list[KvCache]
    token: int
    hbm: bytes
    run: Run

    @cached_property
    def compared(self) -> tuple[str | None, dict[str, Any]]:
        """The first difference from the golden model, None if there is none, and what was compared."""
        difference, end = compare_hbm(self.kv, self.hbm, [self.cache], [self.tokens])
        if self.measured.tokens != [[self.token]]:
            difference = "the token differs from the golden model's"
        return difference, {"tokens": 1, "kv_end": end}

    @property
    def difference(self) -> str | None:
        """The first difference from the golden model, in one line; None if there is none."""
        return self.compared[0]

    @property
    def cycles(self) -> int:
        """Cycles of the whole program."""
        return self.measured.ends[0] - self.measured.starts[0]


def run_array_layer(
    config: ModelConfig,
    *,
    machine: MachineConfig,
    tokens: int,
    seed: int = 1,
    engine: Engine = DEFAULT_ENGINE,
    progress: Progress | None = None,
) -> ArrayLayerRun:
    """Run a prompt of random tokens through a layer of a shape, with random weights.

    Parameters
    ----------
    config : ModelConfig
        The shape; its layers, vocabulary and context are not used.
    machine : MachineConfig
        The panel.
    tokens : int
        Tokens of the prompt, at least 1.

    Raises
    ------
    PrefillError
        If the panel cannot read the prompt.
    BuildError, HangError, SimulationError, ToolError
        If a step fails.
    """
    step = progress or (lambda _step: None)
    context = max(2, tokens)
    two = replace(config, layers=LAYERS, vocab=VOCABULARY, context=context, tied=False)
    # What does not fit is refused before weights are drawn.
    check_reading(two, *machine.array, tokens)
    step("drawing weights")
    model = random_integers(two, seed)
    prompt = np.random.default_rng(seed).integers(0, VOCABULARY, tokens).tolist()
    step("compiling the layer")
    program, kv, chunk = compile_reading(model, *machine.array, prompt)
    cost = panel_cost(program, machine)
    step("golden model")
    golden = GoldenModel(model)
    token = golden.next_token(prompt)
    job = ArrayRequestJob(
        hbm="hbm.bin",
        written="written.bin",
        programs=[program.start],
        ids=[None],
        arrivals=[0],
        sequences=[1],
        recorded=True,
        array=machine.array,
        weight_rows=machine.weight_rows,
        limit=100_000 + 4 * cost.predicted_cycles,
    )
    events: list[dict[str, Any]] = []
    step("running the layer")
    done = run_panel(
        job,
        program.hbm,
        machine,
        engine=engine,
        seed=seed,
        progress=progress,
        on_event=events.append,
    )
    assert done.hbm is not None
    return ArrayLayerRun(
        config=two,
        tokens=tokens,
        program=program,
        chunk=chunk,
        kv=kv,
        machine=machine,
        cost=cost,
        measured=done.result,
        commands=next(event for event in events if event["kind"] == "commands"),
        cache=golden.cache,
        token=token,
        hbm=done.hbm,
        run=done.run,
    )
