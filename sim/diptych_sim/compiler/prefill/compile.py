# SPDX-License-Identifier: BSD-2-Clause
"""Compiles prompts for the prefill panel: as a whole if there is room, else in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from diptych_sim.compiler.array.commands import PrefillProgram
from diptych_sim.compiler.array.hbm_layout import (
    HbmImage,
    PrefillError,
    check_heads,
    matrix_sizes,
    model_image,
    model_sizes,
)
from diptych_sim.compiler.array.kv_rows import KvRows
from diptych_sim.compiler.prefill.chunks import ChunkCompiler, plan_chunks
from diptych_sim.compiler.prefill.prompts import Prompts
from diptych_sim.compiler.prefill.whole import PrefillCompiler
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.golden.without_weights import without_weights
from diptych_sim.llm.model import ModelConfig

__all__ = ["PrefillError", "PrefillProgram", "check_reading", "compile_prefill", "compile_reading"]


def compile_prefill(
    model: QuantizedModel,
    rows: int,
    columns: int,
    *prompts: Sequence[int],
    seeds: Sequence[int] = (),
    chunk: int | None = None,
) -> PrefillProgram:
    """Compile a model and prompts, which are read together, for an array of ``rows`` x ``columns``.

    The model's part of the HBM comes first and does not depend on the prompts. Each prompt has one
    of ``seeds``, if the model's tokens are drawn. Prompts for which there is no room are read one after
    the other, in chunks; in chunks of at most ``chunk`` rows, if it is given, whether there is room or
    not.

    Raises
    ------
    PrefillError
        If the prompts do not fit into the panel, or the heads do not fit the array.
    ValueError
        If a side of the array is not a power of two from 4 to 128.
    """
    array, of = (rows, columns), Prompts(prompts)
    image = _image(model, array)
    if chunk is None:
        try:
            return PrefillCompiler(model, *array, of, image=image, seeds=seeds).run()
        except PrefillError:
            pass  # there is no room for all at once
    plan = plan_chunks(model, array, of, image[0], most=chunk)
    return ChunkCompiler(model, array, of, image, plan, seeds=seeds).run()


def check_reading(config: ModelConfig, rows: int, columns: int, tokens: int) -> None:
    """Raise what :func:`compile_reading` does for a model of this shape that is not tied."""
    array = (rows, columns)
    check_heads(config, *array)
    sizes = model_sizes(config, array)
    image = HbmImage(size={name: sizes[name] for name in ("output", "parameters")})
    for index, (name, size) in product(range(config.layers), matrix_sizes(config, array).items()):
        image.size[f"layer{index}.{name}"] = size
    plan_chunks(without_weights(config), array, Prompts([[0] * tokens]), image)


def compile_reading(
    model: QuantizedModel, rows: int, columns: int, prompt: Sequence[int]
) -> tuple[PrefillProgram, KvRows, int]:
    """Compile a prompt in chunks whose keys and values go to HBM alone.

    Returns the program, where they go, and the rows of the largest chunk. Raises what
    :func:`compile_prefill` does.
    """
    array, of = (rows, columns), Prompts([prompt])
    image = _image(model, array)
    plan = plan_chunks(model, array, of, image[0])
    compiler = ChunkCompiler(model, array, of, image, plan, to_link=False)
    return compiler.run(), compiler.kv, max(chunk.count for chunk in compiler.chunks)


def _image(model: QuantizedModel, array: tuple[int, int]) -> tuple[HbmImage, dict[str, int]]:
    """Return the model's part of the HBM, and where its scales are."""
    check_heads(model.config, *array)
    return model_image(model, array=array)
