# SPDX-License-Identifier: BSD-2-Clause
"""Both ends of a link of the fabric, with credits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from diptych.mesh.fabric import BUFFER_DEPTH, Wavelet
from diptych_sim.host.clocking import current_cycle
from diptych_sim.host.fields import Fields

__all__ = ["LinkMonitor", "LinkSource"]

Pause = Callable[[], bool]


class LinkSource:
    """Sends wavelets into the link ``prefix`` of a design, as its credits allow.

    Colors are served in a random order, each in its own order. Each wavelet is announced three cycles
    ahead; after a control wavelet its color waits until all credits are back.

    Parameters
    ----------
    dut, prefix, colors
        The link.
    rng : Random
        Chooses among colors.
    pause : Pause, optional
        Whether to send nothing in a cycle.
    depth : int
        Wavelets of a color that the receiver's buffer holds.
    """

    def __init__(
        self,
        dut: Any,
        prefix: str,
        colors: int,
        rng: Any,
        pause: Pause | None = None,
        depth: int = BUFFER_DEPTH,
    ) -> None:
        self._edge = RisingEdge(dut.clk)
        self._announced = getattr(dut, f"{prefix}__announced")
        self._control = getattr(dut, f"{prefix}__announced_control")
        self._valid = getattr(dut, f"{prefix}__valid")
        self._wavelet = getattr(dut, f"{prefix}__wavelet")
        self._credit = getattr(dut, f"{prefix}__credit")
        self._pack = Fields(Wavelet()).pack
        self._rng, self._pause = rng, pause
        self._depth = depth
        self._credits = [depth] * colors
        self._drains = [False] * colors
        self._waiting: list[deque[dict[str, int]]] = [deque() for _ in range(colors)]
        self._coming: deque[dict[str, int] | None] = deque([None] * 3)
        self._valid.value = 0
        self._announced.value = self._control.value = 0

    def send(self, wavelets: Iterable[dict[str, int]]) -> None:
        """Add wavelets to what is to be sent."""
        for wavelet in wavelets:
            self._waiting[wavelet["color"]].append(wavelet)

    def start(self) -> None:
        """Begin, when the design is out of reset."""
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            await self._edge
            returned = int(self._credit.value)
            for color in range(len(self._credits)):
                self._credits[color] += returned >> color & 1
                assert self._credits[color] <= self._depth, f"too many credits of color {color}"
                self._drains[color] &= self._credits[color] < self._depth
            able = [
                color
                for color, queue in enumerate(self._waiting)
                if queue and self._credits[color] and not self._drains[color]
            ]
            sends = bool(able) and not (self._pause and self._pause())
            now = self._coming.popleft()
            self._valid.value = now is not None
            if now is not None:
                self._wavelet.value = self._pack(now)
            announced, control, wavelet = 0, 0, None
            if sends:
                color = self._rng.choice(able)
                self._credits[color] -= 1
                wavelet = self._waiting[color].popleft()
                announced = 1 << color
                control = announced if wavelet["control"] else 0
                self._drains[color] = bool(wavelet["control"])
            self._announced.value, self._control.value = announced, control
            self._coming.append(wavelet)


class LinkMonitor:
    """Receives from the link ``prefix`` of a design, and gives credits back.

    Attributes
    ----------
    wavelets : list of list of dict
        What came, by color; each with the ``cycle`` in which it was on the link. It must have been
        announced three cycles ago, its control bit with it. Credits are given back from the
        announcement on.
    blocked : set of int
        Colors whose credits are kept back.
    """

    def __init__(
        self,
        dut: Any,
        prefix: str,
        colors: int,
        pause: Pause | None = None,
        depth: int = BUFFER_DEPTH,
    ) -> None:
        self._depth = depth
        self._edge = RisingEdge(dut.clk)
        self._announced = getattr(dut, f"{prefix}__announced")
        self._control = getattr(dut, f"{prefix}__announced_control")
        self._valid = getattr(dut, f"{prefix}__valid")
        self._wavelet = getattr(dut, f"{prefix}__wavelet")
        self._credit = getattr(dut, f"{prefix}__credit")
        self._unpack = Fields(Wavelet()).unpack
        self._pause = pause
        self._prefix = prefix
        self._held = [0] * colors
        self._drains = [False] * colors
        self._credit.value = 0
        self.wavelets: list[list[dict[str, int]]] = [[] for _ in range(colors)]
        self.blocked: set[int] = set()

    def start(self) -> None:
        """Begin, when the design is out of reset."""
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        coming = deque([(0, 0)] * 3)
        while True:
            await self._edge
            now = coming.popleft()
            assert self._valid.value == bool(now[0]), f"{self._prefix}: {now}"
            if now[0]:
                wavelet = self._unpack(int(self._wavelet.value))
                color = wavelet["color"]
                announced = 1 << color, wavelet["control"] << color
                assert announced == now, f"{self._prefix}: {wavelet}"
                self.wavelets[color].append(wavelet | {"cycle": current_cycle()})
            announced = int(self._announced.value), int(self._control.value)
            coming.append(announced)
            for color in range(len(self._held)):
                self._held[color] += announced[0] >> color & 1
                assert not (announced[0] >> color & 1 and self._drains[color]), (
                    f"{self._prefix}: color {color} was sent behind a control wavelet"
                )
                self._drains[color] |= announced == (1 << color, 1 << color)
                assert self._held[color] <= self._depth, (
                    f"{self._prefix}: color {color} was sent without a credit"
                )
            credit = 0
            for color, held in enumerate(self._held):
                if held and color not in self.blocked and not (self._pause and self._pause()):
                    self._held[color] -= 1
                    credit |= 1 << color
                self._drains[color] &= self._held[color] > 0
            self._credit.value = credit
