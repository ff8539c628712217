# SPDX-License-Identifier: BSD-2-Clause
"""Where the prefill panel's HBM keeps keys and values, for a panel that also decodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.memory.axi import BEAT_BYTES
from diptych_sim.compiler.array.hbm_layout import round_up
from diptych_sim.golden import numbers
from diptych_sim.golden.machine import KvCache
from diptych_sim.llm.model import ModelConfig

__all__ = ["KvRows"]


@dataclass(frozen=True, kw_only=True)
class KvRows:
    """Rows of the KV cache in HBM, a position each: high bytes of its keys, low bytes, values.

    Attributes
    ----------
    base : int
        Address of the first.
    layers, sequences, positions : int
        How many there are; positions of each sequence.
    width : int
        Bytes of a plane of a position: those of all KV heads, padded to a line of the panel.
    pitch : int
        Bytes from a position to the next one.
    """

    base: int
    layers: int
    sequences: int
    positions: int
    width: int
    pitch: int

    @staticmethod
    def of(config: ModelConfig, line: int, *, base: int, sequences: int, positions: int) -> KvRows:
        """Return the rows for a panel with lines of ``line`` bytes."""
        width = round_up(config.kv_dim, line)
        return KvRows(
            base=base,
            layers=config.layers,
            sequences=sequences,
            positions=positions,
            width=width,
            pitch=round_up(3 * width, max(line, BEAT_BYTES)),
        )

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.layers * self.sequence_pitch * self.sequences

    @property
    def sequence_pitch(self) -> int:
        """Bytes from a sequence to the next one, of a layer."""
        return self.positions * self.pitch

    def at(self, layer: int, sequence: int, position: int) -> int:
        """Return the address of a row."""
        return (
            self.base
            + (layer * self.sequences + sequence) * self.sequence_pitch
            + position * self.pitch
        )

    def contents(self, keys: ArrayLike, values: ArrayLike) -> NDArray[np.uint8]:
        """Return the three planes of a position as they lie in HBM: keys int16, values int8."""
        out = np.zeros((3, self.width), np.uint8)
        high, low = numbers.planes(np.asarray(keys).reshape(-1))
        for plane, row in zip(out, (high, low, np.asarray(values).reshape(-1)), strict=True):
            plane[: len(row)] = row.astype(np.int8).view(np.uint8)
        return out

    def expected(
        self, caches: Sequence[Sequence[KvCache]], counts: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield address and bytes of each plane of the first ``counts`` positions of sequences.

        ``caches`` are those of each sequence's layers. Padding of a plane is left out.
        """
        for n, (layers, count) in enumerate(zip(caches, counts, strict=True)):
            for layer, cache in enumerate(layers):
                used = cache.values[0].size
                for position in range(count):
                    planes = self.contents(cache.keys[position], cache.values[position])
                    for number, plane in enumerate(planes):
                        yield self.at(layer, n, position) + number * self.width, plane[:used]
