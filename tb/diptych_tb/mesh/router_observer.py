# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of a router's counters, from its links and routes."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from diptych.mesh.fabric import PORT_NAMES, Combine, Port, buffer_depth
from diptych.mesh.router import ROUTER_COUNTERS
from diptych_sim.host.observers.cause import CauseObserver

__all__ = ["Path", "RouterObserver"]


@dataclass(frozen=True)
class Path:
    """A color's route at a switch position."""

    color: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    combine: Combine = Combine.FORWARD
    sent_as: int = 0
    position: int = 0
    next: int | None = None

    @property
    def delayed(self) -> bool:
        """Whether its wavelets take a cycle more: as another color, or from several directions."""
        return self.sent_as != self.color or len(set(self.sources) - {Port.RAMP}) > 1


@dataclass
class _Links:
    """What the links showed in a cycle, by port."""

    arrivals: list[tuple[int, int] | None]
    popped: list[int]
    sent: list[int]
    returned: list[int]


class RouterObserver(CauseObserver):
    """Follows the buffers of all colors by announcements and returned credits.

    A cycle counts as blocked if a color had all its wavelets and none left a buffer. Each color
    must leave the buffers of all sources of its route at once, and only with a credit for each
    target, with all credits behind a control wavelet. If one may go on and nothing contends with
    it, at least one must.

    Covers ``short of credits``: cycles in which a color that is complete lacks credits, and
    ``contention``: cycles in which nothing was chosen because of it.

    Parameters
    ----------
    dut : handle
        The router.
    colors, hop : int
        Its parameters.
    edge : int
        Directions without a neighbor.
    paths : iterable of Path
        The routes, which were written before.
    """

    def __init__(
        self, dut: Any, *, colors: int, hop: int, edge: int, paths: Iterable[Path]
    ) -> None:
        super().__init__(dut.clk, {c: getattr(dut, f"count_{c}") for c in ROUTER_COUNTERS})
        self._paths = {(path.color, path.position): path for path in paths}
        self._edge_ports = {p for p in range(4) if edge >> p & 1}
        self._handles = [[getattr(dut, f"{p}_{part}") for part in _PARTS] for p in PORT_NAMES]
        # Cycles from a choice to the credit on the link, and from a register to the link.
        self._late = [1 if port == Port.RAMP else hop for port in range(len(PORT_NAMES))]
        self._seen: deque[_Links] = deque()
        self._now = {c: path for (c, position), path in self._paths.items() if position == 0}
        self._moving: set[int] = set()
        self._stopped: dict[int, int] = {}
        self._announcing: dict[int, int] = {}
        self._drains: set[tuple[int, int]] = set()
        self._buffers = {
            (p, c): deque[int]() for p in range(len(PORT_NAMES)) for c in range(colors)
        }
        self._free = {key: self._depth(key) for key in self._buffers}
        # Choices of the last two cycles, the older ones first.
        self._fired: deque[list[Path]] = deque([[], []], maxlen=2)
        self._blocked = False

    def observe(self) -> None:
        links = _Links([], [], [], [])
        for announced, control, credit, sent, returned in self._handles:
            bits = int(announced.value)
            arrives = (bits.bit_length() - 1, int(int(control.value) == bits)) if bits else None
            links.arrivals.append(arrives)
            links.popped.append(int(credit.value))
            links.sent.append(int(sent.value))
            links.returned.append(int(returned.value))
        self._seen.append(links)
        if len(self._seen) > max(self._late):
            self._judge()
            self._seen.popleft()

    def _judge(self) -> None:
        seen, ports = self._seen, range(len(PORT_NAMES))
        arrived = set()
        for p in ports:
            if (wavelet := seen[0].arrivals[p]) is not None:
                self._buffers[p, wavelet[0]].append(wavelet[1])
                arrived.add(wavelet[0])
        popped = [seen[self._late[p]].popped[p] for p in ports]
        complete = [
            path
            for color, path in self._now.items()
            if self._stopped.get(color, 0) < 2
            and color not in self._announcing
            and all(self._buffers[p, color] for p in path.sources)
        ]
        fired = [path for path in complete if any(popped[p] >> path.color & 1 for p in ports)]
        able = [path for path in complete if self._may_go(path)]
        for path in fired:
            for key in self._targets(path):
                assert self._free[key], f"{path} left without a credit for {key}"
                assert key not in self._drains, f"{path} left behind a control wavelet to {key}"
        self.covers["short of credits"] += len(complete) > len(able)
        contends = len(arrived) > 1 or any(path.delayed for path in self._fired[-1])
        assert fired or not able or contends, f"{able} could go on, and nothing did"
        self.covers["contention"] += bool(able) and not fired
        for p in ports:
            leaving = sum(1 << path.color for path in fired if p in path.sources)
            assert popped[p] == leaving, f"{PORT_NAMES[p]}: {popped[p]:b} left, not {leaving:b}"
            self.add(PORT_NAMES[p], bool(seen[self._late[p] - 1].sent[p]))
        turned = self._switch(fired)
        for key in self._free:
            self._free[key] += seen[0].returned[key[0]] >> key[1] & 1
        self._drains = {key for key in self._drains if self._free[key] < self._depth(key)}
        for path in fired:
            for key in self._targets(path):
                self._free[key] -= 1
                if path in turned:
                    self._drains.add(key)
        self._fired.append(fired)
        # The counter follows a cycle behind.
        self.blame("blocked" if self._blocked else "free")
        self._blocked = bool(complete) and not fired

    def _targets(self, path: Path) -> list[tuple[int, int]]:
        return [(p, path.sent_as) for p in path.targets if p not in self._edge_ports]

    def _may_go(self, path: Path) -> bool:
        """Whether the credits allow it, those aside that choices not yet announced may take."""
        older, last = self._fired
        known = last + [other for other in older if other.delayed]
        return not self._stopped.get(path.color) and all(
            key not in self._drains
            and self._free[key] + sum(key in self._targets(other) for other in known)
            >= (3 if path.delayed else 2)
            for key in self._targets(path)
        )

    def _depth(self, key: tuple[int, int]) -> int:
        return buffer_depth(self._late[key[0]])

    def _switch(self, fired: list[Path]) -> list[Path]:
        """Take the wavelets from their buffers; move colors; return those with a control wavelet.

        A color that moves waits for its turn; then it stands for 2 cycles, 1 of them with its new
        route.
        """
        for color in [c for c, left in self._stopped.items() if c not in self._moving]:
            self._stopped[color] -= 1
            if self._stopped[color] == 1:
                following = self._now[color].next
                assert following is not None
                self._now[color] = self._paths[color, following]
            elif not self._stopped[color]:
                del self._stopped[color]
        if self._moving:
            color = min(self._moving)
            self._moving.remove(color)
            self._stopped[color] = 2
        self._announcing = {c: left - 1 for c, left in self._announcing.items() if left > 1}
        turned = []
        for path in fired:
            controls = [self._buffers[p, path.color].popleft() for p in path.sources]
            if any(controls):
                turned.append(path)
                self._announcing[path.color] = 1 + path.delayed
            if any(controls) and path.next is not None:
                self._moving.add(path.color)
                self._stopped[path.color] = 3
        return turned


_PARTS = ("i__announced", "i__announced_control", "i__credit", "o__announced", "o__credit")
