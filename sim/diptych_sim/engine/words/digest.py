# SPDX-License-Identifier: BSD-2-Clause
"""A number for all registers in a cycle, the same as of another engine."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from diptych_sim.engine.lanes.digest import digest_keys

from .machine import WordMachine

__all__ = ["WORDS", "WordsDigest"]

WORDS = 16
"""Words of 64 bits of the widest register."""


class _Term(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("place", "bytes", "keys"))


class WordsDigest:
    """Digests of a machine, as of :func:`.digest_keys`.

    Parameters
    ----------
    machine : WordMachine
        The machine.
    names : sequence of str
        Registers.
    """

    def __init__(self, machine: WordMachine, names: Sequence[str]) -> None:
        keys = [key for name in names for key in digest_keys(name, WORDS)]
        self._keys = (ctypes.c_uint64 * len(keys))(*keys)
        places = [machine.compiled.places[name] for name in names]
        terms = [
            _Term(machine.offset(place), place.size, WORDS * n) for n, place in enumerate(places)
        ]
        self._terms = (_Term * len(terms))(*terms)
        self._machine = machine

    def take(self) -> int:
        """Return the digest of the registers as of the next cycle."""
        return self._machine.digest(self._terms, self._keys)
