# SPDX-License-Identifier: BSD-2-Clause
"""Cycles of collectives: lower bounds, published formulas, and what the programs predict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diptych.mesh.fabric import Port
from diptych_sim.compiler.collectives.algorithms import group_size
from diptych_sim.compiler.collectives.compile import ALGORITHMS, Collective, plan_collective
from diptych_sim.compiler.collectives.plan import Place, Plan

__all__ = ["bound_cycles", "choose", "predict", "published_cycles"]

RAMP_CYCLES = 2
"""Cycles of the ramp, T, in the published formulas."""
_ISSUE = 1
"""From the issue of an instruction to its first element."""
_TO_RAMP = 5
"""From an element to the cycle in which its router may choose it."""
_NEXT = 1
"""From the last element of a MOVE to the issue of the next."""
_KEEP = 4
"""From a wavelet to its element in memory, for MOVE and for RECEIVE."""
_COUNTED = 1
"""From the cycle in which a word is written to the one in which it is counted."""
_DELAY = 1
"""More than a hop where wavelets come from several directions, or leave as another color."""
_Times = NDArray[np.int64]


def _distances(c: Collective) -> list[int]:
    """Hops that something must go in each dimension, at least."""
    rows, columns = c.groups()[0]
    return [n for n in (len(columns) - 1, len(rows) - 1) if n]


def bound_cycles(c: Collective) -> int:
    """No collective is faster: ``B + h D``, a word per cycle over a link and the hops.

    D are the hops from the first tile to the farthest one, or for an all-reduce between any two. A
    broadcast to nobody takes no cycle.
    """
    if c.operation == "broadcast" and c.members == 1:
        return 0
    return c.words + c.hop_cycles * sum(_distances(c))


def _published_reduce(algorithm: str, count: int, words: int) -> float:
    """Cycles of a reduction to the end of a line of ``count`` tiles."""
    if count == 1:
        return words
    after = 2 * RAMP_CYCLES + 1
    if algorithm == "chain":
        depth, contention, energy = count - 1, words, words
    elif algorithm == "tree":
        depth = (count - 1).bit_length()
        contention, energy = words * depth, words * depth * (count // 2) / (count - 1)
    else:
        size = group_size(count)
        groups = -(-count // size)
        depth, contention = size - 1 + groups - 1, 2 * words
        energy = words * (2 * count - size - groups) / (count - 1)
    return max(contention, energy + count - 1) + after * depth


def published_cycles(c: Collective) -> int | None:
    """Cycles that a published model gives a wafer with hops of 1 cycle and ramps of 2.

    Reductions: the larger of contention and of energy by links plus distance, and ``2 T + 1`` for
    each step of depth, which is ``B + (2 T + 2)(P - 1)`` for a chain; a rectangle reduces along
    its rows and then along a column. Broadcasts of the fabric: ``B + P + 2 T``. An all-reduce is
    both. None where there is no formula: hops of 2 cycles, reductions in the fabric, broadcasts
    through the cores, and groups of one tile, which send nothing. It is a model of another machine
    and no bound: small reductions are faster here. Source: Near-Optimal Wafer-Scale Reduce (HPDC 2024).
    """
    if c.hop_cycles != 1 or c.members == 1:
        return None
    distances = _distances(c)
    broadcast = c.words + sum(distances) + 1 + 2 * RAMP_CYCLES
    if c.operation == "broadcast":
        return broadcast if c.algorithm == "fabric" else None
    if c.algorithm == "fabric":
        return None
    total = sum(_published_reduce(c.algorithm, n + 1, c.words) for n in distances)
    return -int(-total // 1) + (broadcast if c.operation == "allreduce" else 0)


class _Model:
    """When each word passes each tile.

    Cores and colors pass a word per cycle. It leaves out that buffers end, and that colors may
    want one link at a time.
    """

    def __init__(self, plan: Plan, words: int, hop: int) -> None:
        self.plan, self.words, self.hop = plan, words, hop
        self.tables = plan.tables()
        self._fires: dict[tuple[Place, int], _Times] = {}
        self._steps: dict[tuple[Place, int], _Times] = {}
        self._came: dict[tuple[Place, int, Port], tuple[Place, int]] = {}
        self._gives: dict[tuple[Place, int], int] = {}
        self._arrives: dict[tuple[Place, int], int] = {}
        for place in plan.places():
            for color, entry in enumerate(self.tables[place[0]][place[1]]):
                for port in entry.targets:
                    if port is Port.RAMP:
                        self._arrives[place, entry.color] = color
                    else:
                        down, right = port.step
                        there = (place[0] + down, place[1] + right)
                        self._came[there, entry.color, port.opposite] = (place, color)
            for index, move in enumerate(plan.moves[place]):
                if move.sends is not None:
                    self._gives[place, move.sends] = index

    def fires(self, place: Place, color: int) -> _Times:
        """When a router chooses the words of a color, to pass them on."""
        if (place, color) not in self._fires:
            times = np.zeros(self.words, np.int64)
            for port in self.tables[place[0]][place[1]][color].sources:
                if port is Port.RAMP:
                    source = self.send_times(place, self._gives[place, color]) + _TO_RAMP
                else:
                    source = self._leaves(*self._came[place, color, port]) + self.hop
                times = np.maximum(times, source)
            self._fires[place, color] = times
        return self._fires[place, color]

    def _leaves(self, place: Place, color: int) -> _Times:
        """The cycle before a router announces the words of a color."""
        entry = self.tables[place[0]][place[1]][color]
        delayed = entry.color != color or len(entry.sources - {Port.RAMP}) > 1
        return self.fires(place, color) + _DELAY * delayed

    def send_times(self, place: Place, index: int) -> _Times:
        """When a tile takes the elements of a move."""
        if (place, index) not in self._steps:
            move = self.plan.moves[place][index]
            times = self._issue(place, index) + _ISSUE + np.arange(self.words)
            if move.joins is not None:
                comes = self._leaves(place, self._arrives[place, move.joins]) + 1
                # Each not before its wavelet, nor before one cycle after the one before it.
                behind = np.arange(self.words)
                times = np.maximum(times, np.maximum.accumulate(comes - behind) + behind)
            self._steps[place, index] = times
        return self._steps[place, index]

    def _issue(self, place: Place, index: int) -> int:
        if index == 0:
            return 0
        before = self.plan.moves[place][index - 1]
        if before.background:
            return self._issue(place, index - 1) + 1
        return int(self.send_times(place, index - 1)[-1]) + _NEXT

    def last_word(self) -> int:
        """The last cycle in which a result is written."""
        return max(
            int(self.send_times(place, index)[-1]) + _KEEP
            for place, moves in self.plan.moves.items()
            for index, move in enumerate(moves)
            if move.store
        )


def predict(c: Collective) -> int:
    """Return the cycles of a collective, from its moves and routes alone.

    From the first instruction of the first tile to the count of the last word that is written.
    """
    plan = plan_collective(c)
    if not any(move.store for moves in plan.moves.values() for move in moves):
        return 0
    return _Model(plan, c.words, c.hop_cycles).last_word() + 1 + _COUNTED


def choose(c: Collective) -> Collective:
    """Return the collective with the algorithm that is predicted to take the fewest cycles.

    Raises
    ------
    CollectiveError
        If none can be used.
    """
    only_fabric = c.combine.name == "ARGMAX" and c.operation != "broadcast"
    names = ("fabric",) if only_fabric else ALGORITHMS
    return min((replace(c, algorithm=name) for name in reversed(names)), key=predict)
