# SPDX-License-Identifier: BSD-2-Clause
"""A number for the registers of each tile in a cycle, the same for any engine.

It is the sum of their values, 64 bits at a time, times odd numbers that depend on their names: if
one value differs it differs, and if several do it is the same once in 2**64 times.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence

import numpy as np

from .mesh import LaneMesh

__all__ = ["WORDS", "MeshDigest", "digest_keys"]


WORDS = 4
"""Words of 64 bits of the widest register."""


def digest_keys(name: str, words: int = WORDS) -> list[int]:
    """Return what each 64 bits of a register of so many words are multiplied with."""
    hashed = hashlib.shake_128(name.encode()).digest(8 * words)
    return [int.from_bytes(hashed[8 * n : 8 * n + 8], "little") | 1 for n in range(words)]


class _Term(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in ("offset", "size", "right")),
        ("key", ctypes.c_uint64),
    )


class MeshDigest:
    """Digests of a mesh on lanes.

    Parameters
    ----------
    mesh : LaneMesh
        The mesh, in one process.
    names : sequence of str
        Registers, each of at most 256 bits.
    """

    def __init__(self, mesh: LaneMesh, names: Sequence[str]) -> None:
        self._mesh = mesh
        terms = []
        for name in names:
            keys = digest_keys(name)
            for place, low in mesh.places(name):
                part, shift = divmod(low, 64)
                key = (keys[part] << shift) % 2**64
                terms.append(_Term(place.offset, place.size, 0, key))
                if shift + place.width > 64:
                    terms.append(_Term(place.offset, place.size, 64 - shift, keys[part + 1]))
        self._terms = (_Term * len(terms))(*terms)

    def tiles(self) -> np.ndarray:
        """Return the digest of every tile, row by row."""
        out = np.zeros(self._mesh.rows * self._mesh.columns, dtype=np.uint64)
        driver, address = self._mesh.native
        to = ctypes.c_void_p(out.ctypes.data)
        count = ctypes.c_long(len(self._terms))
        driver.mesh_digest(ctypes.c_void_p(address), self._terms, count, to)
        return out
