# SPDX-License-Identifier: BSD-2-Clause
"""Monitors that share no signal with the hardware's counters: transfers, and windows of cycles."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.config import ACTIVATION_BITS
from diptych.mesh.fabric import DIRECTION_NAMES

from .stretches import levels, ones, transfers
from .triggers import (
    ClockCycles,
    RisingEdge,
    Stretch,
    edges_before,
    random_seed,
    start_watching,
)
from .watchdog import tile_body

__all__ = ["TransferCounter", "Windows", "follows"]

WINDOW = 150
"""Cycles of a window."""
LATEST = 4
"""Cycles in which a wavelet is on its link, at the latest, after it was counted."""


def follows(valid: Sequence[int], counts: Sequence[int]) -> bool:
    """Return whether a counter counts what is valid, always the same number of cycles before."""
    steps = [after - before for before, after in itertools.pairwise(counts)]
    length = len(steps) - LATEST
    return any(steps[:length] == list(valid[late : late + length]) for late in range(1, LATEST + 1))


class TransferCounter:
    """Counts transfers at an interface; it sleeps while nothing is valid.

    Attributes
    ----------
    count : int
        Transfers so far.
    """

    def __init__(self, dut: Any, valid: Any, ready: Any = None) -> None:
        self.count = 0
        self._edge = RisingEdge(dut.clk)
        self._valid, self._ready = valid, ready
        start_watching(self._run() if Stretch is None else self._run_stretches())

    async def _run_stretches(self) -> None:
        stretch = Stretch()
        while True:
            await stretch
            moves = levels(self._valid, stretch.first, stretch.end)
            if self._ready is not None and moves.any():
                moves &= levels(self._ready, stretch.first, stretch.end)
            self.count += int(np.count_nonzero(moves))

    async def _run(self) -> None:
        rises = RisingEdge(self._valid)
        while True:
            await self._edge
            if not self._valid.value:
                await rises
            elif self._ready is None or self._ready.value:
                self.count += 1


class Windows:
    """Compares what interfaces show for some cycles with what counters gain meanwhile.

    Scratchpad and accumulators while the prompt is read; the links of a random tile after each
    token.

    Attributes
    ----------
    count : int
        Windows that were compared.

    Parameters
    ----------
    dut : handle
        The system.
    mesh : handle or CosimulatedMesh
        Its mesh.
    size : (int, int)
        Rows and columns of the mesh.
    weight_rows : int
        Weight rows that the array loads in a cycle.
    """

    def __init__(self, dut: Any, mesh: Any, *, size: tuple[int, int], weight_rows: int) -> None:
        self.count = 0
        self._dut, self._mesh = dut, mesh
        self._size, self._weight_rows = size, weight_rows
        self._edge = RisingEdge(dut.clk)
        self._rng = random.Random(random_seed())
        panel = dut.prefill.panel
        self._scratchpad, self._accumulators = panel.scratchpad, panel.accumulators

    async def watch_prefill(self) -> None:
        """Compare at random times, until cancelled."""
        line = len(self._scratchpad.read_x__data) // ACTIVATION_BITS
        wide = line * ACTIVATION_BITS // 4
        # In units of 4 bits, as the scratchpad counts.
        widths = {"x": wide, "v": wide, "s": 2 * line, "w": 2 * line * self._weight_rows}
        entry = len(self._accumulators.read__data) // 8
        while True:
            await ClockCycles(self._dut.clk, self._rng.randrange(200, 3000))
            expected = self._memory_counters()
            if Stretch is not None:
                await ClockCycles(self._dut.clk, WINDOW)
                moved = self._all_moved(widths, entry, edges_before())
                expected = [a + b for a, b in zip(expected, moved, strict=True)]
            for _ in range(WINDOW if Stretch is None else 0):
                moved = self._moved(widths, entry)
                expected = [a + b for a, b in zip(expected, moved, strict=True)]
                await self._edge
            self._compare("scratchpad and accumulators", self._memory_counters(), expected)

    def _memory_counters(self) -> list[int]:
        return [
            int(counter.value)
            for counter in (
                self._scratchpad.count_scratchpad_read_nibbles,
                self._scratchpad.count_scratchpad_write_nibbles,
                self._accumulators.count_accumulator_read,
                self._accumulators.count_accumulator_write,
            )
        ]

    def _moved(self, widths: dict[str, int], entry: int) -> list[int]:
        """Units of 4 bits of the scratchpad, and bytes of the accumulators, that move in this cycle."""

        def grants(memory: Any, port: str) -> bool:
            return bool(memory[f"{port}__en"].value) and bool(memory[f"{port}__ready"].value)

        pad, sums = self._scratchpad, self._accumulators
        reads = sum(size for user, size in widths.items() if grants(pad, f"read_{user}"))
        written = sum(
            int(pad[f"write_{user}__mask"].value).bit_count() * units
            for user, units in (("v", ACTIVATION_BITS // 4), ("l", 2))
            if grants(pad, f"write_{user}")
        )
        adds = bool(sums.sums__en.value)
        old = adds and int(sums.sums__start.value) != 0
        return [reads, written, entry * (old + grants(sums, "read")), entry * adds]

    def _all_moved(self, widths: dict[str, int], entry: int, end: int) -> list[int]:
        """Return the sums of :meth:`_moved` in the cycles of a window."""

        def grants(memory: Any, port: str) -> NDArray[np.bool_]:
            return transfers(memory[f"{port}__en"], memory[f"{port}__ready"], end - WINDOW, end)

        pad, sums = self._scratchpad, self._accumulators
        reads = sum(
            size * np.count_nonzero(grants(pad, f"read_{user}")) for user, size in widths.items()
        )
        written = sum(
            units
            * np.sum(
                ones(pad[f"write_{user}__mask"], end - WINDOW, end)[grants(pad, f"write_{user}")]
            )
            for user, units in (("v", ACTIVATION_BITS // 4), ("l", 2))
        )
        adds = levels(sums.sums__en, end - WINDOW, end)
        old = np.count_nonzero(adds & levels(sums.sums__start, end - WINDOW, end))
        old += np.count_nonzero(grants(sums, "read"))
        return list(map(int, (reads, written, entry * old, entry * np.count_nonzero(adds))))

    async def watch_tile(self) -> None:
        """Compare at the links of a random tile once."""
        rows, columns = self._size
        place = f"tile_{self._rng.randrange(rows)}_{self._rng.randrange(columns)}"
        router = tile_body(self._mesh[place]).router
        counters = [getattr(router, f"count_{direction}") for direction in DIRECTION_NAMES]
        valids = [getattr(router, f"{direction}_o__valid") for direction in DIRECTION_NAMES]
        counted, valid = [], []
        for _ in range(WINDOW + LATEST + 1):
            await self._edge
            counted.append([int(counter.value) for counter in counters])
            valid.append([int(handle.value) for handle in valids])
        for direction, counts, on_link in zip(
            DIRECTION_NAMES, zip(*counted, strict=True), zip(*valid, strict=True), strict=True
        ):
            assert follows(on_link, counts), (
                f"counter of the {direction} link of {place} must count its "
                f"{sum(on_link)} wavelets as they come, not {counts[-1] - counts[0]}"
            )
        self.count += 1

    def _compare(self, what: str, counted: list[int], seen: list[int]) -> None:
        assert counted == seen, f"counters of {what} must be {seen}, not {counted}"
        self.count += 1
