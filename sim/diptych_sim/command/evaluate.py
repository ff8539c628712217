# SPDX-License-Identifier: BSD-2-Clause
"""``diptych evaluate``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
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
from diptych_sim.golden.evaluate import WINDOW, Comparison, compare, cut, windows
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.layer_errors import layer_errors
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.golden.quantize import largest_weight
from diptych_sim.golden.quantized import DEFAULT_ACTIVATION_BITS, RESIDUAL_BITS
from diptych_sim.llm.errors import ModelFileError, file_size
from diptych_sim.llm.load import LoadedModel
from diptych_sim.llm.texts import LARGE, held_out_text
from diptych_sim.llm.tokenizer import TextError

__all__ = ["evaluate"]

_LARGEST_TEXT = 2**26
_SHOWN_LAYERS = 3
_LAYER_TOKENS = 128
"""Tokens on which layers are compared one by one."""


@click.command()
@with_model
@click.option("--text", "text_file", default=None, help="File of text to evaluate on.")
@click.option("--tokens", default=None, type=int, help="Tokens to predict.  [default: all]")
@click.option("--windows", "count", default=12, show_default=True, type=int)
@click.option(
    "--calibration", "calibration_file", default=None, help="File of text to calibrate on."
)
@click.option(
    "--activation-bits",
    default=str(DEFAULT_ACTIVATION_BITS),
    show_default=True,
    type=click.Choice(["8", "12"]),
    help="Bits of what matrices multiply.",
)
@click.option(
    "--residual-bits",
    default=RESIDUAL_BITS,
    show_default=True,
    type=click.IntRange(16, 26),
    help="Bits of the residual stream.",
)
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def evaluate(
    model: str,
    tokenizer: str | None,
    text_file: str | None,
    tokens: int | None,
    count: int,
    calibration_file: str | None,
    activation_bits: str,
    residual_bits: int,
    json_file: str | None,
) -> None:
    """Compare the golden model with the float reference on held-out text."""
    if count < 1:
        raise Refused(f"Number of windows must be at least 1, not {count}")
    if tokens is not None and tokens < 1:
        raise Refused(f"Number of tokens (--tokens) must be at least 1, not {tokens}")
    bits = int(activation_bits)
    check_file("JSON file", "--json", json_file)
    given = _read(text_file, "--text")
    calibration = _read(calibration_file, "--calibration")
    loaded = load(model, tokenizer)
    text = held_out_text(loaded) if given is None else given
    with running(TextError) as progress, np.errstate(all="ignore"):
        rows = _rows(loaded, text, given is not None, tokens, count)
        golden = GoldenModel(
            quantize_loaded(
                loaded,
                progress=progress,
                activation_bits=bits,
                residual_bits=residual_bits,
                text=calibration,
            )
        )

        def predict(tokens: Any) -> Any:
            golden.reset()
            return golden.real_logits(tokens)

        def told() -> Iterator[Sequence[int]]:
            for number, row in enumerate(rows):
                progress(f"evaluating, {number} of {len(rows)} windows")
                yield row

        small = loaded.model.config.parameters < LARGE
        reference = FloatReference(loaded.model, np.float64 if small else np.float32)
        found = compare(reference.logits, predict, told(), loaded.tokenizer)
        norms = {
            "norms_by_own_row": [0, *golden.model.norm_tops].count(0),
            "norm_rows": golden.norms,
            "norm_rows_saturated": golden.saturated,
            "hidden_rows": golden.hidden_rows,
            "hidden_rows_wide": golden.wide_rows,
        }
        layers = layer_errors(reference, golden, rows[0][:_LAYER_TOKENS])
    result = _scores(loaded, found) | {
        "kl": found.divergence,
        "kl_error": found.divergence_error,
        "layer_errors": layers,
        **norms,
        "text": text_file or "held-out text",
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "activation_bits": bits,
        "residual_bits": residual_bits,
    }
    if json_file != "-":
        _tell(result)
    write_json(json_file, result)


def _read(name: str | None, option: str) -> str | None:
    """Return the text of a file that a user names."""
    if name is None:
        return None
    try:
        size = file_size(Path(name), f"Text ({option})")
        if not 1 <= size <= _LARGEST_TEXT:
            raise Refused(f"Text ({option}) must be from 1 to {_LARGEST_TEXT} bytes, not {size}")
        return Path(name).read_bytes().decode()  # ends of lines as they are: it is hashed
    except UnicodeDecodeError as error:
        raise Refused(f"Text ({option}) must be UTF-8, not byte {error.start} of {name}") from None
    except (ModelFileError, ValueError) as error:
        raise Refused(str(error)) from None


def _rows(
    loaded: LoadedModel, text: str, whole: bool, tokens: int | None, count: int
) -> Sequence[Sequence[int]]:
    """Return windows of a text: ``count`` of them, or as many as have the ``tokens`` to predict.

    A text is taken as a whole, or else as documents with an empty line between.
    """
    length = min(WINDOW, loaded.model.config.context)
    if tokens is None:
        rows: Sequence[Sequence[int]] = windows(loaded.tokenizer, text, length, count, whole=whole)
        least = 1
    else:
        rows = cut(windows(loaded.tokenizer, text, length, whole=whole), tokens)
        least = tokens
    found = sum(len(row) - 1 for row in rows)
    if found < least:
        raise Refused(f"Text must have at least {least} tokens to predict, not {found}")
    return rows


def _scores(loaded: LoadedModel, found: Comparison) -> dict[str, Any]:
    try:
        return {
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


def _tell(result: dict[str, Any]) -> None:
    """Print a result."""
    click.echo(
        f"{result['tokens']} held-out tokens: perplexity {result['float_perplexity']:.3f} in "
        f"float, {result['golden_perplexity']:.3f} in integers ({result['degradation']:+.2%}); "
        f"the best token agrees in {result['agreement']:.2%}"
    )
    errors = result["layer_errors"]
    worst = sorted(range(len(errors)), key=lambda i: -errors[i])[:_SHOWN_LAYERS]
    click.echo(
        f"KL {result['kl']:.5f} +- {result['kl_error']:.5f} nats; worst layers "
        + ", ".join(f"{i} ({errors[i]:.2%})" for i in worst)
        + f"; {result['activation_bits']}-bit activations, {result['residual_bits']}-bit residual "
        f"stream; {result['text']} {result['text_sha256'][:12]}"
    )
    click.echo(
        f"{result['norms_by_own_row']} of {2 * len(errors) + 1} norms take the magnitude of their own "
        f"row; {result['norm_rows_saturated']:,} of {result['norm_rows']:,} rows had grown by more than "
        f"a norm has room for; {result['hidden_rows_wide']:,} of {result['hidden_rows']:,} rows of "
        "hidden elements exceeded their floor"
    )
