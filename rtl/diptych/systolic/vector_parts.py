# SPDX-License-Identifier: BSD-2-Clause
"""Blocks and signals that the parts of a vector unit share."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Signal
from amaranth.lib import data

from .row_statistics import RowStatistics
from .vector_control import VectorSequencer
from .vector_decode import Decoded
from .vector_reduce import Reducer

__all__ = ["VectorParts"]


@dataclass
class VectorParts:
    """Blocks and signals that the parts of the unit share."""

    sequencer: VectorSequencer
    rows: RowStatistics
    reducer: Reducer
    op: Decoded
    enable: Signal
    step: Signal
    valid: Signal
    """Bit n: a beat is in stage n + 1."""
    beats: list[data.View]
    leaving: data.View
    finished: data.View
    finished_valid: Signal
    to_scratchpad: Signal
    """``finished`` is written to the scratchpad."""
    to_vector: Signal
    reduced: list[data.View]
    reduced_valid: Signal
    in_range: Signal
    lanes: list[Any]
