# SPDX-License-Identifier: BSD-2-Clause
"""``diptych evaluate``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import numpy as np

from diptych_sim.command.options import (
    Refused,
    check_file,
    load,
    with_model,
    write_json,
)
from diptych_sim.command.running import running
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.golden.evaluate import compare, windows
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.golden.quantize import largest_weight
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import held_out_text
from diptych_sim.llm.tokenizer import TextError

__all__ = ["evaluate"]


@click.command()
@with_model
@click.option("--windows", "count", default=12, show_default=True, type=int)
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def evaluate(model: str, tokenizer: str | None, count: int, json_file: str | None) -> None:
    """Compare the golden model with the float reference on held-out text."""
    if count < 1:
        raise Refused(f"Number of windows must be at least 1, not {count}")
    check_file("JSON file", "--json", json_file)
    loaded = load(model, tokenizer)
    with running(TextError) as progress, np.errstate(all="ignore"):
        golden = GoldenModel(quantize_loaded(loaded, progress=progress))

        def predict(tokens: Any) -> Any:
            golden.reset()
            return golden.real_logits(tokens)

        rows = windows(loaded.tokenizer, held_out_text(loaded), loaded.model.config.context, count)

        def told() -> Iterator[list[int]]:
            for number, row in enumerate(rows):
                progress(f"evaluating, {number} of {len(rows)} windows")
                yield row

        found = compare(FloatReference(loaded.model).logits, predict, told(), loaded.tokenizer)
    try:
        result = {
            "tokens": found.reference.tokens,
            "float_perplexity": found.reference.perplexity,
            "golden_perplexity": found.reference.perplexity * (1 + found.degradation),
            "degradation": found.degradation,
            "agreement": found.agreement,
        }
    except OverflowError:
        weight = loaded.weight(None, largest_weight(loaded.model, None))
        loss = max(found.reference.loss, found.other.loss)
        raise ModelFileError(
            f"{weight} must be small enough for losses below 709 nats, not {loss:.4g}"
        ) from None
    if json_file != "-":
        click.echo(
            f"{result['tokens']} held-out tokens: perplexity {result['float_perplexity']:.3f} in "
            f"float, {result['golden_perplexity']:.3f} in integers ({found.degradation:+.2%}); "
            f"the best token agrees in {found.agreement:.2%}"
        )
    write_json(json_file, result)
