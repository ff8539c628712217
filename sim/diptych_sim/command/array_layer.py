# SPDX-License-Identifier: BSD-2-Clause
"""``diptych layer --array``."""

from __future__ import annotations

from dataclasses import asdict

from diptych.config import MachineConfig
from diptych_sim.account.array_layer import account_array_layer
from diptych_sim.command.options import Size
from diptych_sim.command.running import close_compared, running, size_text
from diptych_sim.compiler.array.hbm_layout import PrefillError
from diptych_sim.cost.array_layer import prompt_cost
from diptych_sim.cost.models.shape import ModelShape
from diptych_sim.llm.model import ModelConfig
from diptych_sim.report.console import console
from diptych_sim.run.array_layer import run_array_layer

__all__ = ["array_layer"]

BACK_DOOR = "weights in the HBM before the first cycle"


def array_layer(
    shape: ModelShape,
    config: ModelConfig,
    *,
    array: Size,
    tokens: int,
    seed: int,
    json_file: str | None,
) -> None:
    """Run a layer on the prefill panel, show it, and write its result."""
    machine = MachineConfig(array=array)
    with running(PrefillError) as progress:
        done = run_array_layer(config, machine=machine, tokens=tokens, seed=seed, progress=progress)
        accounts = account_array_layer(done)
        progress("cost of the whole model")
        whole = prompt_cost(config, machine, tokens)
    result = {
        "matches_golden": done.difference is None,
        "compared": done.compared[1],
        **accounts,
        "whole_model": {"layers": config.layers, **asdict(whole)},
        "wall_seconds": done.run.seconds,
        "back_doors": [BACK_DOOR],
        "config": {
            "model": shape.name,
            "array": size_text(array),
            "tokens": tokens,
            "chunk": done.chunk,
            "hbm_bytes_per_cycle": machine.hbm_bytes_per_cycle,
            "hbm_latency": machine.hbm_latency,
            "seed": seed,
        },
    }
    terminal = console(stderr=json_file == "-")
    terminal.print(f"{BACK_DOOR}: a back door")
    terminal.print(
        f"{tokens:,} tokens through a layer of {shape.name} on {size_text(array)}, in chunks of up to "
        f"{done.chunk}: {result['cycles']:,} cycles, bound {result['bound_cycles']:,}; "
        f"{result['mac_utilization']:.1%} of peak"
    )
    for each in result["operations"]:
        terminal.print(
            f"  {each['operation']:<24} {each['cycles']:>11,}, tiles alone {each['bound_cycles']:>11,}"
        )
    program = result["program"]
    terminal.print(
        f"With embedding, and keys and values of the next layer: {program['cycles']:,} cycles, "
        f"predicted {program['predicted_cycles']:,}"
    )
    terminal.print(
        f"The whole model, {config.layers} layers, by the cost model: {whole.cycles:,} cycles to the "
        f"first token, {whole.layer_cycles:,.0f} a layer"
    )
    equal = "Keys and values of both layers, and the token, equal the golden model"
    close_compared(terminal, result, done.difference, equal, json_file)
