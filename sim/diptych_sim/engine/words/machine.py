# SPDX-License-Identifier: BSD-2-Clause
"""Hardware of words that runs: inputs, cycles, and what was noted."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diptych_sim.engine.errors import SimulationError

from .build import CompiledWords, Place

__all__ = ["WordMachine"]

RESET = 2
"""Cycles of reset, as testbenches have."""


class WordMachine:
    """A netlist after its reset; use it as a context manager.

    Parameters
    ----------
    compiled : CompiledWords
        The netlist.
    hbm : Path or None
        File with the contents of its HBM, which is not changed; zeros are behind them.
    """

    def __init__(self, compiled: CompiledWords, hbm: Path | None = None) -> None:
        self.compiled = compiled
        self._library = compiled.library
        for name, result in (
            ("words_create", ctypes.c_void_p),
            ("words_hbm", ctypes.c_void_p),
            ("words_run", ctypes.c_long),
            ("words_place", ctypes.c_long),
            ("words_log", ctypes.c_uint64),
            ("words_cycle", ctypes.c_uint64),
            ("words_digest", ctypes.c_uint64),
            ("words_outside", ctypes.c_char_p),
            ("words_refused", ctypes.c_long),
            ("words_failed", ctypes.c_long),
        ):
            getattr(self._library, name).restype = result
        self._messages: list[bytes] = []
        path = None if hbm is None else str(hbm).encode()
        self._state = ctypes.c_void_p(self._library.words_create(path))
        if not self._state:
            raise SimulationError(f"Contents of the HBM cannot be mapped: {hbm}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._library.words_destroy(self._state)

    @property
    def cycle(self) -> int:
        """Cycles that have run, with those of the reset; the edge of the last is still to come."""
        return self._library.words_cycle(self._state)

    def set(self, name: str, value: int) -> None:
        """Set an input, from the next cycle on."""
        cell, width = self.compiled.inputs[name]
        words = np.frombuffer(value.to_bytes(8 * -(-width // 64), "little"), np.uint64)
        self._library.words_set(
            self._state, ctypes.c_long(cell), ctypes.c_void_p(words.ctypes.data)
        )

    def stop_at(self, name: str, on: bool = True) -> None:
        """Have :meth:`run` return after a cycle in which what is watched has changed."""
        number = self.compiled.watched[name].number
        self._library.words_stop(self._state, ctypes.c_long(number), ctypes.c_int(on))

    def reset(self, cycles: int = RESET) -> None:
        """Let cycles pass with the reset."""
        self.set_reset(True)
        self.run(cycles)
        self.set_reset(False)

    def set_reset(self, on: bool) -> None:
        """Set the reset, from the next cycle on."""
        self._library.words_reset(self._state, ctypes.c_int(on))

    def run(self, cycles: int) -> int:
        """Run, and return for how many cycles; the last has all of its values, but not its edge.

        Raises
        ------
        SimulationError
            If an assertion of the hardware fails.
        """
        done = self._library.words_run(self._state, ctypes.c_long(cycles))
        if (refused := self._library.words_refused(self._state)) >= 0:
            raise SimulationError(self._messages[refused].decode())
        if failed := self._library.words_failed(self._state):
            message = self.compiled.asserts[failed]
            raise SimulationError(f"Hardware failed in cycle {self.cycle - 1}: {message}")
        return done

    @property
    def outside(self) -> str:
        """Ports of the module that something else computes: way, name, first word and width."""
        return self._library.words_outside().decode()

    def attach(self, mesh: Any, pins: Any, step: Any, messages: list[bytes]) -> None:
        """Have ``step`` compute that module from the next edge on; it may return a message's number."""
        self._messages = messages
        self._library.words_attach(self._state, mesh, pins, step)

    def hbm(self, size: int, at: int = 0) -> bytes:
        """Return bytes of the HBM."""
        return ctypes.string_at(self._library.words_hbm(self._state) + at, size)

    def log(self, name: str, start: int = 0) -> NDArray[np.uint64]:
        """Return what was noted of a signal: rows of a cycle, and the words of the new value.

        ``start``: rows that are left out.

        Of a counter: rows of a cycle, a difference, and for how many cycles it was there.
        """
        about = self.compiled.watched[name]
        words = 2 if about.counts else -(-about.width // 64)
        at = ctypes.c_void_p()
        count = self._library.words_log(self._state, ctypes.c_long(about.number), ctypes.byref(at))
        first = start * (1 + words)
        if count <= first:
            return np.zeros((0, 1 + words), np.uint64)
        array = (ctypes.c_uint64 * (count - first)).from_address((at.value or 0) + 8 * first)
        return np.array(array, np.uint64).reshape(-1, 1 + words)

    def offset(self, place: Place) -> int:
        """Return where a register or a memory is in the state."""
        return self._library.words_place(ctypes.c_long(place.number)) + place.at

    def read(self, name: str) -> list[int]:
        """Return the words of a memory, or the one value of a register, as of the next cycle."""
        self._library.words_edge(self._state)
        place = self.compiled.places[name]
        at = (self._state.value or 0) + self.offset(place)
        data = ctypes.string_at(at, place.size * place.depth)
        words = range(0, len(data), place.size)
        return [int.from_bytes(data[n : n + place.size], "little") for n in words]

    def digest(self, terms: Any, keys: Any) -> int:
        """Return a digest of registers as of the next cycle, as of :class:`.WordsDigest`."""
        count = ctypes.c_long(len(terms))
        return self._library.words_digest(self._state, terms, count, keys)
