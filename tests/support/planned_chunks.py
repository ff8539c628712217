# SPDX-License-Identifier: BSD-2-Clause
"""Prompts in chunks as a test plans them."""

from diptych_sim.compiler.array.hbm_layout import model_image
from diptych_sim.compiler.prefill.chunks import ChunkCompiler
from diptych_sim.compiler.prefill.prompts import Prompts

__all__ = ["planned"]


def planned(model, array, plan, prompts):
    """Return the compiler of prompts as planned."""
    image = model_image(model, array=array)
    return ChunkCompiler(model, array, Prompts(prompts), image, plan)
