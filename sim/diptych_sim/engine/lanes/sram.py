# SPDX-License-Identifier: BSD-2-Clause
"""Reads the SRAM of tiles on lanes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .mesh import LaneMesh

__all__ = ["read_sram"]

_BANK = "core.sram.bank_"


def read_sram(
    mesh: LaneMesh, tiles: Sequence[int], spans: Sequence[tuple[int, int]]
) -> list[bytes]:
    """Return parts of the SRAM of some tiles: pairs of an address and a size, joined.

    Both are multiples of 8. Tiles are numbered row by row.
    """
    banks = {}
    for index, places in mesh.tile.layout.memories.items():
        memory = mesh.tile.interface.memories[index]
        if memory.name.startswith(_BANK):
            banks[int(memory.name.removeprefix(_BANK))] = (places, memory.lows)
    words = []
    for word in (n for at, size in spans for n in range(at // 8, (at + size) // 8)):
        places, lows = banks[word % len(banks)]
        value = np.zeros(mesh.part.rows * mesh.part.columns, np.uint64)
        for place, low in zip(places, lows, strict=True):
            element = mesh.element(place, word // len(banks)).astype(np.uint64)
            value |= element << np.uint64(low)
        words.append(value)
    here = np.array(words, "<u8").reshape(len(words), mesh.part.rows, mesh.part.columns)
    whole = mesh.whole(np.ascontiguousarray(here.transpose(1, 2, 0)))
    flat = whole.reshape(mesh.rows * mesh.columns, -1)
    return [flat[tile].tobytes() for tile in tiles]
