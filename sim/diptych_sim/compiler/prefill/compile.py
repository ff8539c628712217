# SPDX-License-Identifier: BSD-2-Clause
"""Compiles prompts for the prefill panel: as a whole if there is room, else in chunks."""

from __future__ import annotations

from collections.abc import Sequence

from diptych_sim.compiler.array.commands import PrefillProgram
from diptych_sim.compiler.array.hbm_layout import (
    Lanes,
    PrefillError,
    check_heads,
    model_image,
)
from diptych_sim.compiler.prefill.chunks import ChunkCompiler, plan_chunks
from diptych_sim.compiler.prefill.prompts import Prompts
from diptych_sim.compiler.prefill.whole import PrefillCompiler
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["PrefillError", "PrefillProgram", "compile_prefill"]


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
    check_heads(model.config, rows, columns)
    array, of = (rows, columns), Prompts(prompts)
    line, c = max(array), model.config
    lanes = {"queries": Lanes.of(c, rows, line), "contexts": Lanes.of(c, columns, line)}
    image = model_image(model, array=array, **lanes)
    if chunk is None:
        try:
            return PrefillCompiler(model, *array, of, image=image, seeds=seeds).run()
        except PrefillError:
            pass  # there is no room for all at once
    plan = plan_chunks(model, array, of, image[0], most=chunk)
    return ChunkCompiler(model, array, of, image, plan, seeds=seeds).run()
