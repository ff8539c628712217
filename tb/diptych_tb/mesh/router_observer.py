# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of a router's counters, from its links and routes."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from diptych.mesh.fabric import BUFFER_DEPTH, PORT_NAMES, Combine, Port, Wavelet
from diptych.mesh.router import ROUTER_COUNTERS
from diptych_sim.host.fields import Fields
from diptych_tb.cause_observer import CauseObserver

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


@dataclass
class _Links:
    """What the links showed in a cycle, by port."""

    arrivals: list[dict[str, int] | None]
    popped: list[int]
    sent: list[bool]
    returned: list[int]


class RouterObserver(CauseObserver):
    """Follows the buffers of all colors by arrivals and returned credits.

    A cycle counts as blocked if a color had all its wavelets and none left a buffer. Each color
    must leave the buffers of all sources of its route at once; and while one has its wavelets and
    credits, at least one must.

    Covers ``credit on arrival``: cycles in which a color went on with the last credit that it
    needed in the cycle in which that came.

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
        self._unpack = Fields(Wavelet()).unpack
        self._handles = [[getattr(dut, f"{p}_{part}") for part in _PARTS] for p in PORT_NAMES]
        # Cycles from a port's wavelet leaving its buffer, or the router, to when links show it.
        self._late = [1 if port == Port.RAMP else hop for port in range(len(PORT_NAMES))]
        self._seen: deque[_Links] = deque()
        self._now = {c: path for (c, position), path in self._paths.items() if position == 0}
        self._moving: set[int] = set()
        self._buffers = {
            (p, c): deque[int]() for p in range(len(PORT_NAMES)) for c in range(colors)
        }
        self._credits = dict.fromkeys(self._buffers, BUFFER_DEPTH)

    def observe(self) -> None:
        links = _Links([], [], [], [])
        for valid, wavelet, credit, sent, returned in self._handles:
            arrives = self._unpack(int(wavelet.value)) if valid.value else None
            links.arrivals.append(arrives)
            links.popped.append(int(credit.value))
            links.sent.append(bool(sent.value))
            links.returned.append(int(returned.value))
        self._seen.append(links)
        if len(self._seen) > max(self._late):
            self._judge()
            self._seen.popleft()

    def _judge(self) -> None:
        seen, ports = self._seen, range(len(PORT_NAMES))
        for p in ports:
            if (wavelet := seen[0].arrivals[p]) is not None:
                self._buffers[p, wavelet["color"]].append(wavelet["control"])
        popped = [seen[self._late[p]].popped[p] for p in ports]
        complete = [
            path
            for color, path in self._now.items()
            if color not in self._moving and all(self._buffers[p, color] for p in path.sources)
        ]
        able = [path for path in complete if self._has_credits(path)]
        fired = [path for path in complete if any(popped[p] >> path.color & 1 for p in ports)]
        assert fired or not able, f"{able} could go on, and nothing did"
        if any(not self._credits[key] for path in fired for key in self._targets(path)):
            self.covers["credit on arrival"] += 1
        for p in ports:
            leaving = sum(1 << path.color for path in fired if p in path.sources)
            assert popped[p] == leaving, f"{PORT_NAMES[p]}: {popped[p]:b} left, not {leaving:b}"
            self.add(PORT_NAMES[p], seen[self._late[p]].sent[p])
        self._switch(fired)
        for key in self._credits:
            self._credits[key] += seen[0].returned[key[0]] >> key[1] & 1
        for path in fired:
            for key in self._targets(path):
                self._credits[key] -= 1
        self.blame("blocked" if complete and not fired else "free")

    def _targets(self, path: Path) -> list[tuple[int, int]]:
        return [(p, path.sent_as) for p in path.targets if p not in self._edge_ports]

    def _has_credits(self, path: Path) -> bool:
        returned = self._seen[0].returned
        return all(
            self._credits[p, color] or returned[p] >> color & 1 for p, color in self._targets(path)
        )

    def _switch(self, fired: list[Path]) -> None:
        """Take the wavelets from their buffers; move a color, and note those that move later."""
        if self._moving:
            color = min(self._moving)
            self._moving.remove(color)
            following = self._now[color].next
            assert following is not None
            self._now[color] = self._paths[color, following]
        for path in fired:
            controls = [self._buffers[p, path.color].popleft() for p in path.sources]
            if any(controls) and path.next is not None:
                self._moving.add(path.color)


_PARTS = ("i__valid", "i__wavelet", "i__credit", "o__valid", "o__credit")
