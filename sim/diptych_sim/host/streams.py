# SPDX-License-Identifier: BSD-2-Clause
"""Agents for RFC 77 streams: driver, monitor, rule checker, and an in-order scoreboard."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from amaranth.hdl import ShapeLike

from .fields import Beat, Fields
from .stretches import moved
from .triggers import Queue, RisingEdge, Stretch, Task, clock_of_top, start_soon, start_watching

__all__ = [
    "Pause",
    "StreamChecker",
    "StreamDriver",
    "StreamMonitor",
    "check_in_order",
    "sometimes",
]

Pause = Callable[[], bool]
"""Asked every cycle whether to pause in it. Random pauses draw from ``cocotb.RANDOM_SEED``."""


def sometimes(rng: random.Random, share: float) -> Pause | None:
    """Return what pauses in a share of the cycles, at random; None for a share of 0."""
    return (lambda: rng.random() < share) if share else None


class _Port:
    def __init__(self, dut: Any, prefix: str, shape: ShapeLike, pause: Pause | None = None) -> None:
        # Handles are looked up once: a lookup costs more than a read.
        self.clk = dut["clk"]
        self.payload = dut[f"{prefix}__payload"]
        self.valid = dut[f"{prefix}__valid"]
        self.ready = dut[f"{prefix}__ready"]
        self.name = prefix
        self.fields = Fields(shape)
        self._edge = RisingEdge(self.clk)
        self._pause = pause

    def _payload_bits(self) -> int:
        # A vector of one bit is a scalar to the simulator.
        return int(self.payload.value)


class StreamDriver(_Port):
    """Drives ``payload`` and ``valid`` of a stream that the design consumes.

    It is idle once constructed. Without a pause function it sends a beat per cycle for as long as
    the design is ready.

    Parameters
    ----------
    dut : handle
        The design, with a ``clk``.
    prefix : str
        Name of the stream.
    shape : ShapeLike
        Shape of its payload.
    pause : Pause, optional
        Whether to let a cycle pass before the next beat.
    """

    def __init__(self, dut: Any, prefix: str, shape: ShapeLike, pause: Pause | None = None) -> None:
        super().__init__(dut, prefix, shape, pause)
        self.valid.value = 0

    async def send(self, beats: Iterable[Beat]) -> None:
        """Send beats in order, and return in the cycle after the last was taken."""
        pack, rises = self.fields.pack, RisingEdge(self.ready)
        offers = False
        for beat in beats:
            if self._pause is not None:
                while self._pause():
                    self.valid.value = 0
                    offers = False
                    await self._edge
            self.payload.value = pack(beat)
            if not offers:
                self.valid.value = 1
                offers = True
            await self._edge
            while not self.ready.value:  # values at an edge are those before it
                # A rise caused by this very edge comes after it, so none is missed.
                await rises
                await self._edge
        self.valid.value = 0


class StreamMonitor(_Port):
    """Drives ``ready`` of a stream that the design produces, and collects its beats.

    Without a pause function it is always ready, and sleeps while nothing is valid.

    Parameters
    ----------
    dut : handle
        The design, with a ``clk``; not in reset any more.
    prefix : str
        Name of the stream.
    shape : ShapeLike
        Shape of its payload.
    pause : Pause, optional
        Whether not to be ready in a cycle.
    passive : bool
        Whether another agent drives ``ready``, and this one only observes.

    Attributes
    ----------
    beats : Queue
        Beats that were transferred, oldest first.
    """

    def __init__(
        self,
        dut: Any,
        prefix: str,
        shape: ShapeLike,
        pause: Pause | None = None,
        *,
        passive: bool = False,
    ) -> None:
        super().__init__(dut, prefix, shape, pause)
        self.beats: Queue[Beat] = Queue()
        if passive:
            run = self._listen() if Stretch is None else self._listen_in_stretches()
        elif pause is None:
            run = self._run_always_ready()
        else:
            run = self._run(pause)
        start = start_watching if passive else start_soon
        self.task: Task[None] = start(run)

    def _take(self, payload: int) -> None:
        self.beats.put_nowait(self.fields.unpack(payload))

    async def _run(self, pause: Pause) -> None:
        while True:
            ready = not pause()
            self.ready.value = ready
            await self._edge
            if ready and self.valid.value:
                self._take(self._payload_bits())

    async def _run_always_ready(self) -> None:
        self.ready.value = 1
        rises = RisingEdge(self.valid)
        while True:
            await self._edge
            if self.valid.value:
                self._take(self._payload_bits())
            else:
                # A rise caused by this very edge comes after it, so none is missed.
                await rises

    async def _listen_in_stretches(self) -> None:
        stretch = Stretch()
        while True:
            await stretch
            ports = self.valid, self.ready, self.payload
            for _, payload in moved(*ports, stretch.first, stretch.end):
                self._take(payload)

    async def _listen(self) -> None:
        # The clock of a part inside the design rises when its registers have changed already.
        edge, rises = RisingEdge(clock_of_top()), RisingEdge(self.valid)
        while True:
            await edge
            if not self.valid.value:
                # A rise caused by this very edge comes after it, so none is missed.
                await rises
            elif self.ready.value:
                self._take(self._payload_bits())


class StreamChecker(_Port):
    """Fails the test when a stream breaks the rules of RFC 77.

    Once ``valid`` is asserted it stays so, and ``payload`` does not change, until the cycle in
    which ``ready`` is asserted as well. Construct it when the design is not in reset.

    Parameters
    ----------
    dut : handle
        The design, with a ``clk``.
    prefix : str
        Name of the stream.
    shape : ShapeLike
        Shape of its payload.
    """

    def __init__(self, dut: Any, prefix: str, shape: ShapeLike) -> None:
        super().__init__(dut, prefix, shape)
        self.task: Task[None] = start_watching(self._run())

    async def _run(self) -> None:
        waiting: int | None = None
        while True:
            await self._edge
            valid = bool(self.valid.value)
            if waiting is not None:
                assert valid, f"stream {self.name}: valid must stay until ready"
                bits = self._payload_bits()
                assert bits == waiting, (
                    f"stream {self.name}: payload must stay until ready, "
                    f"but {waiting:#x} became {bits:#x}"
                )
            waiting = self._payload_bits() if valid and not self.ready.value else None


async def check_in_order(monitor: StreamMonitor, expected: Iterable[Beat]) -> None:
    """Wait for beats, and check that each equals the expected one.

    Raises
    ------
    AssertionError
        If a beat differs. Beats beyond the expected ones are left in the queue.
    """
    for index, want in enumerate(expected):
        got: Any = await monitor.beats.get()
        assert got == want, f"stream {monitor.name}, beat {index}: {got} instead of {want}"
