# SPDX-License-Identifier: BSD-2-Clause
"""Compiles prompts for the prefill panel: as a whole if there is room, else in chunks."""

from __future__ import annotations

from collections.abc import Sequence

from diptych_sim.compiler.array.commands import PrefillProgram
from diptych_sim.compiler.array.hbm_layout import PrefillError
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
) -> PrefillProgram:
    """Compile a model and prompts, which are read together, for an array of ``rows`` x ``columns``.

    The model's part of the HBM comes first and does not depend on the prompts. Each prompt has one
    of ``seeds``, if the model's tokens are drawn.

    Raises
    ------
    PrefillError
        If the prompts do not fit into the panel, or the heads do not fit the array.
    ValueError
        If a side of the array is not a power of two from 4 to 128.
    """
    return PrefillCompiler(model, rows, columns, Prompts(prompts), seeds=seeds).run()
