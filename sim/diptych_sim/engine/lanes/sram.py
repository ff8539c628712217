# SPDX-License-Identifier: BSD-2-Clause
"""Reads and writes the SRAM of tiles on lanes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .layout import Element
from .mesh import TYPES, LaneMesh

__all__ = ["read_sram", "write_sram"]

_BANK = "core.sram.bank_"


def _banks(mesh: LaneMesh) -> dict[int, tuple[list[Element], Sequence[int]]]:
    """Return for each bank where its pieces are, and their first bits."""
    banks = {}
    for index, places in mesh.tile.layout.memories.items():
        memory = mesh.tile.interface.memories[index]
        if memory.name.startswith(_BANK):
            banks[int(memory.name.removeprefix(_BANK))] = (places, memory.lows)
    return banks


def write_sram(mesh: LaneMesh, images: NDArray[np.uint32]) -> None:
    """Write the SRAM of all tiles from address 0 on: [rows, columns, words], an even number.

    The machine does not notice: what is written so is there from the beginning.
    """
    part, lanes = mesh.part, mesh.tile.layout.lanes
    rows = slice(part.row, part.row + part.rows)
    here = images[rows, part.column : part.column + part.columns]
    words = np.ascontiguousarray(here).view("<u8").reshape(part.rows * part.columns, -1)
    memory = np.frombuffer(mesh.memory, dtype=np.uint8).reshape(-1, mesh.tile.layout.bytes)
    banks = _banks(mesh)
    blocks, inside = np.divmod(mesh.tiling.all(), lanes)
    for block, data in enumerate(memory):
        tiles = words[blocks == block]
        at = inside[blocks == block]
        for number, (places, lows) in banks.items():
            of_bank = tiles[:, number :: len(banks)]
            for place, low in zip(places, lows, strict=True):
                end = place.offset + of_bank.shape[1] * place.size * lanes
                elements = data[place.offset : end].view(TYPES[place.size]).reshape(-1, lanes)
                elements[:, at] = (of_bank >> np.uint64(low)).T
    driver, address = mesh.native
    driver.mesh_touch(address)


def read_sram(
    mesh: LaneMesh, tiles: Sequence[int], spans: Sequence[tuple[int, int]]
) -> list[bytes]:
    """Return parts of the SRAM of some tiles: pairs of an address and a size, joined.

    Both are multiples of 8. Tiles are numbered row by row.
    """
    banks = _banks(mesh)
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
