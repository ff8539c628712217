# SPDX-License-Identifier: BSD-2-Clause
"""Where the prefill panel's HBM keeps keys and values that the panel reads again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.memory.axi import BEAT_BYTES
from diptych_sim.compiler.array.hbm_layout import HbmImage, round_up
from diptych_sim.golden import numbers
from diptych_sim.golden.machine import KvCache
from diptych_sim.llm.model import ModelConfig

__all__ = ["KvRows", "kv_pitch"]


def kv_pitch(width: int, line: int) -> int:
    """Return the bytes from a position to the next one, a plane having ``width``."""
    return round_up(3 * width, max(line, BEAT_BYTES))


@dataclass(frozen=True, kw_only=True)
class KvRows:
    """Rows of the KV cache in HBM, a position each: high bytes of its keys, low bytes, values.

    Where some KV heads are read at a time, those have rows of their own: a *group*.

    Attributes
    ----------
    base : int
        Address of the first.
    layers, sequences, positions : int
        How many there are; positions of each sequence.
    width : int
        Bytes of a plane of a position: those of all KV heads, padded to a line of the panel, or of a
        group.
    pitch : int
        Bytes from a position to the next one.
    groups : int
        Groups of KV heads.
    """

    base: int
    layers: int
    sequences: int
    positions: int
    width: int
    pitch: int
    groups: int = 1

    @staticmethod
    def add(
        image: HbmImage,
        config: ModelConfig,
        line: int,
        *,
        sequences: int,
        positions: int,
        groups: int = 1,
    ) -> KvRows:
        """Add room for the rows to an image; return them, for a panel with lines of ``line`` bytes."""
        width = round_up(config.kv_dim // groups, line)
        image.data += bytes(-len(image.data) % BEAT_BYTES)
        rows = KvRows(
            base=len(image.data),
            layers=config.layers,
            sequences=sequences,
            positions=positions,
            width=width,
            pitch=kv_pitch(width, line),
            groups=groups,
        )
        image.data += bytes(rows.size)
        return rows

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.layers * self.sequence_pitch * self.sequences

    @property
    def sequence_pitch(self) -> int:
        """Bytes from a sequence to the next one, of a layer."""
        return self.groups * self.positions * self.pitch

    def at(self, layer: int, sequence: int, position: int, group: int = 0) -> int:
        """Return the address of a row."""
        return (
            self.base
            + (layer * self.sequences + sequence) * self.sequence_pitch
            + (group * self.positions + position) * self.pitch
        )

    def expected(
        self, caches: Sequence[Sequence[KvCache]], counts: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield address and bytes of each plane of the first ``counts`` positions of sequences.

        ``caches`` are those of each sequence's layers. Padding of a plane is left out.
        """
        for n, (layers, count) in enumerate(zip(caches, counts, strict=True)):
            for layer, cache in enumerate(layers):
                keys = numbers.planes(cache.keys[:count].reshape(count, self.groups, -1))
                values = cache.values[:count].reshape(count, self.groups, -1)
                planes = [plane.astype(np.int8).view(np.uint8) for plane in (*keys, values)]
                for position, group in np.ndindex(count, self.groups):
                    at = self.at(layer, n, position, group)
                    for number, plane in enumerate(planes):
                        yield at + number * self.width, plane[position, group]
