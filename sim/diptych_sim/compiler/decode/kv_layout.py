# SPDX-License-Identifier: BSD-2-Clause
"""How a KV vector becomes load packets for the mesh: the specification of the link's layout change.

A key of ``d`` elements becomes a WORDS packet of its high bytes, then its low bytes; a value a
BYTES packet whose step is the distance between the elements of one slot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.mesh.fabric import Load, header
from diptych_sim.compiler.decode.placement import Placement
from diptych_sim.compiler.decode.position_deal import PositionDeal
from diptych_sim.golden import numbers
from diptych_sim.llm.model import ModelConfig

__all__ = ["HeadPlace", "KvLayout", "kv_layout", "pack_bytes"]


@dataclass(frozen=True)
class HeadPlace:
    """Where a KV head, or a column's part of it, lies: in columns ``first`` to ``last``.

    ``head`` counts the parts in order; the addresses are those in layer 0.
    """

    head: int
    first: int
    last: int
    keys: int
    values: int


@dataclass(frozen=True)
class KvLayout:
    """Where the KV caches lie in a mesh.

    Where columns share heads, ``heads`` are the parts of all heads, and ``head_dim`` is their size.
    """

    positions: PositionDeal
    head_dim: int
    layer_stride: int
    value_stride: int
    heads: Sequence[HeadPlace]
    prompt_stride: int = 0
    """Distance from the cache of a prompt to that of the next one."""

    def cells(
        self, keys: ArrayLike, values: ArrayLike, *, prompt: int = 0
    ) -> Iterator[tuple[HeadPlace, NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield for each KV head its place, and addresses and contents: [layers, positions, bytes].

        Those of a position lie in the same place in each column of the head, in the row that
        ``positions`` says.
        Keys are int16 and values int8, both [layers, positions, kv_heads, head_dim], from layer and
        position 0 on.
        """
        k, v = (np.asarray(part, dtype=np.int64) for part in (keys, values))
        layers, positions = k.shape[:2]
        shape = (layers, positions, len(self.heads), self.head_dim)
        k, v = k.reshape(shape), v.reshape(shape)
        layer, position = np.ogrid[:layers, :positions]
        base = (layer * self.layer_stride + prompt * self.prompt_stride)[:, :, None]
        slot = self.positions.slot(position)[:, :, None]
        element = np.arange(self.head_dim)
        for place in self.heads:
            at_keys = place.keys + base + slot * 2 * self.head_dim + element
            at_values = place.values + base + slot + element * self.value_stride
            addresses = np.concatenate([at_keys, at_keys + self.head_dim, at_values], axis=2)
            planes = numbers.planes(k[:, :, place.head])
            contents = np.concatenate([*planes, v[:, :, place.head]], axis=2)
            yield place, addresses, (contents & 0xFF).astype(np.uint8)

    def _parts(self, vectors: ArrayLike) -> NDArray[np.int64]:
        return np.asarray(vectors, dtype=np.int64).reshape(len(self.heads), self.head_dim)

    def packets(
        self,
        row: int,
        layer: int,
        position: int,
        keys: ArrayLike,
        values: ArrayLike,
        *,
        prompt: int = 0,
    ) -> list[int]:
        """Return the packets into ``row`` for one position, none if another row holds it.

        Keys are int16 and values int8, both [kv_heads, head_dim].
        """
        if self.positions.row(position) != row:
            return []
        k, v = self._parts(keys), self._parts(values)
        slot = self.positions.slot(position)
        base = layer * self.layer_stride + prompt * self.prompt_stride
        words: list[int] = []
        for place in self.heads:
            high, low = numbers.planes(k[place.head])
            key_words = pack_bytes(np.concatenate([high, low]))
            value_words = pack_bytes(v[place.head])
            words += header(
                Load.WORDS,
                count=len(key_words),
                first_column=place.first,
                last_column=place.last,
                address=place.keys + base + slot * 2 * self.head_dim,
            )
            words += key_words
            words += header(
                Load.BYTES,
                count=len(value_words),
                first_column=place.first,
                last_column=place.last,
                address=place.values + base + slot,
                step=self.value_stride,
            )
            words += value_words
        return words


def kv_layout(config: ModelConfig, p: Placement) -> KvLayout:
    """Return the layout of the KV cache of a placed model."""
    group = config.heads // config.kv_heads
    places = []
    for head in range(config.kv_heads):
        first = p.span.start + head * group // p.heads * p.split
        last = p.span.start + ((head + 1) * group - 1) // p.heads * p.split
        local = head * group % p.heads // group
        keys = p.at("keys") + local * (p.slots + 1) * 2 * p.width
        values = p.at("values") + local * p.width * p.value_stride
        for part in range(p.split):
            number = head * p.split + part
            places.append(HeadPlace(number, first + part, last + part, keys, values))
    return KvLayout(p.positions, p.width, p.layer_bytes, p.value_stride, tuple(places), p.kv_bytes)


def pack_bytes(values: ArrayLike) -> list[int]:
    """Return bytes (signed or not) as 32-bit words, low byte first, zeros behind."""
    data = (np.asarray(values, dtype=np.int64) & 0xFF).astype(np.uint8).tobytes()
    data += bytes(-len(data) % 4)
    return np.frombuffer(data, dtype="<u4").tolist()
