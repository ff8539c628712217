# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of a block's causes: the base of the observers of all blocks."""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

__all__ = ["CauseObserver"]

WINDOW = 64
"""Cycles from one comparison to the next."""


class CauseObserver:
    """Finds the cause of each cycle at the block's interfaces, and compares with its counters.

    An observer implements :meth:`observe`, which looks at ports, and calls :meth:`blame` once for
    each cycle, in order; it may do so some cycles later, when what followed tells the cause. No
    signal that a counter depends on internally may be looked at.

    Each cause is compared on its own, every :data:`WINDOW` cycles and in :meth:`check`.

    Parameters
    ----------
    clk : handle
        The clock.
    counters : mapping of str to handle
        The counter of each cause, and of each amount.
    """

    def __init__(self, clk: Any, counters: Mapping[str, Any]) -> None:
        self._edge = RisingEdge(clk)
        self._counters = dict(counters)
        self._found: Counter[str] = Counter()
        self._blamed = 0
        self._snapshots: deque[tuple[int, dict[str, int]]] = deque()
        self._asked = False
        self.cycle = 0
        """Cycles since :meth:`start`."""
        self.covers: Counter[str] = Counter()
        """How often the stimulus reached what a test must reach."""

    def start(self) -> None:
        """Begin, in the cycle in which the reset ends."""
        self._first = self._read()
        cocotb.start_soon(self._run())

    def observe(self) -> None:
        """Look at the ports in this cycle."""
        raise NotImplementedError

    def blame(self, cause: str) -> None:
        """Say the cause of the next cycle."""
        self._found[cause] += 1
        self._blamed += 1
        self._compare()

    def add(self, name: str, amount: int) -> None:
        """Add to an amount that is counted beside the causes, in the cycle that is blamed next."""
        self._found[name] += amount

    async def check(self) -> dict[str, int]:
        """Compare all cycles until now; return how many had each cause.

        Raises
        ------
        AssertionError
            If a counter differs, or a cycle had no cause.
        """
        self._asked = True
        for _ in range(1000):
            await self._edge
            if not self._asked and not self._snapshots:
                return dict(self._found)
        raise AssertionError("the observer did not find the causes of all cycles")

    def _compare(self) -> None:
        while self._snapshots and self._snapshots[0][0] == self._blamed:
            _, counted = self._snapshots.popleft()
            gained = {name: counted[name] - self._first[name] for name in counted}
            found = {name: self._found[name] for name in counted}
            assert gained == found, (
                f"cycle {self._blamed}: the block counts {gained}, its ports show {found}"
            )

    async def _run(self) -> None:
        while True:
            await self._edge
            if self._asked or (self.cycle and self.cycle % WINDOW == 0):
                self._asked = False
                self._snapshots.append((self.cycle, self._read()))
                self._compare()
            self.observe()
            self.cycle += 1

    def _read(self) -> dict[str, int]:
        return {name: int(counter.value) for name, counter in self._counters.items()}
