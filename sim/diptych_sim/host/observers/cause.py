# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of a block's causes: the base of the observers of all blocks."""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from diptych_sim.host.clocking import current_cycle
from diptych_sim.host.triggers import RisingEdge, catch_up, start_watching

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
    name : str
        The block, for messages.
    limit : int, optional
        Cycles to look at; without it, all until the simulation ends. Rests are none of them.
    """

    def __init__(
        self,
        clk: Any,
        counters: Mapping[str, Any],
        *,
        name: str = "the block",
        limit: int | None = None,
    ) -> None:
        self._edge = RisingEdge(clk)
        self._counters = dict(counters)
        self._name = name
        self._to_look_at = limit
        self._first: dict[str, int] = {}
        self._found: Counter[str] = Counter()
        self._blamed = 0
        self._snapshots: deque[tuple[int, dict[str, int]]] = deque()
        self._asked = False
        self._until = 0
        """Cycles that are compared before :meth:`check` returns."""
        self._rests_since: int | None = None
        self.ended = False
        """Whether the limit was reached, and all until then compared."""
        self.cycle = 0
        """Cycles since :meth:`start`, without those of a rest that goes on."""
        self.covers: Counter[str] = Counter()
        """How often the stimulus reached what a test must reach."""

    @property
    def found(self) -> dict[str, int]:
        """Cycles by cause, and amounts, so far."""
        return dict(self._found)

    def start(self) -> None:
        """Begin, in the cycle in which the reset ends, or in one in which the block is idle."""
        start_watching(self._run())

    def observe(self) -> None:
        """Look at the ports in this cycle."""
        raise NotImplementedError

    def see(self) -> None:
        """Look at all cycles until now."""
        catch_up()

    def rest(self) -> Any:
        """Return what ends a rest that begins with the next cycle, or None.

        While it rests the block has cause ``idle``, and all cycles before have been blamed. What
        ends it is a trigger in the middle of the first cycle to look at.
        """
        return None

    def blame(self, cause: str) -> None:
        """Say the cause of the next cycle."""
        self._found[cause] += 1
        self._blamed += 1
        if self._snapshots:
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
        catch_up()
        if self.ended:
            return self.found
        self._asked = True
        for _ in range(1000):
            await self._edge
            catch_up()
            if self._rests_since is not None:
                self._asked = False
                self._idle(current_cycle() - 1)
                self._until = self._blamed
                self._snapshots.append((self._blamed, self._read()))
                self._compare()
            # Some observers blame later than in the next window, whose snapshot waits then, too.
            if not self._asked and self._blamed >= self._until:
                return self.found
        raise AssertionError(f"the observer of {self._name} did not find the causes of all cycles")

    async def end(self) -> dict[str, int]:
        """Do the same, and look at no more cycles, unless the block rests."""
        found = await self.check()
        self._to_look_at = 0
        while self._rests_since is None and not self.ended:
            await self._edge
            catch_up()
        return found

    def _compare(self) -> None:
        while self._snapshots and self._snapshots[0][0] == self._blamed:
            _, counted = self._snapshots.popleft()
            gained = {name: counted[name] - self._first[name] for name in counted}
            found = {name: self._found[name] for name in counted}
            assert gained == found, (
                f"counters of {self._name} at its cycle {self._blamed} must be "
                f"{_differing(found, gained)}, not {_differing(gained, found)}"
            )

    async def _run(self) -> None:
        await self._edge
        self._first = self._read()
        edge, over = self._edge, False
        while not over or self._snapshots:  # what is not blamed yet is so by what follows
            left, ends_window = self._to_look_at, self.cycle and self.cycle % WINDOW == 0
            if self._asked or (not over and (ends_window or left == 0)):
                if self._asked:
                    self._asked, self._until = False, self.cycle
                self._snapshots.append((self.cycle, self._read()))
                self._compare()
                over = left == 0
                if over and not self._snapshots:
                    break
            self.observe()
            self.cycle += 1
            if left:
                self._to_look_at = left - 1
            ends_rest = self.rest()
            if ends_rest is not None and not self._snapshots:
                self._rests_since = current_cycle()
                await ends_rest
                self._idle(current_cycle())
                self._rests_since = None
            await edge
        self.ended = True

    def _idle(self, until: int) -> None:
        """Blame the cycles of a rest that are over."""
        assert self._rests_since is not None
        cycles = until - self._rests_since
        self._rests_since = until
        self._found["idle"] += cycles
        self._blamed += cycles
        self.cycle += cycles

    def _read(self) -> dict[str, int]:
        return {name: int(counter.value) for name, counter in self._counters.items()}


def _differing(some: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    return {name: value for name, value in some.items() if value != others[name]}
