# SPDX-License-Identifier: BSD-2-Clause
"""Machines, queues and links as processes of SimPy.

A machine that decodes makes a token of every request of its batch in each step, and takes new
requests between steps. Steps are not simulated one by one: while the batch stays as it is, the time
of any number of steps is a closed form, so that a request costs a few events however long it is.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from diptych_sim.run.serving.costs import Costs
from diptych_sim.run.serving.requests import Request

__all__ = ["Fleet", "Link", "Served", "serve"]

_Process = Generator[Any, Any, None]
_EARLY = 1e-9
"""Part of a step that is rounding."""


@dataclass(kw_only=True)
class Link:
    """Shared links from the prefill to the decode side."""

    count: int
    bytes_per_second: float
    """Of each, as reached."""
    layers: int
    layer_wise: bool
    """Whether a layer crosses while the next is computed; else all after prefill."""


@dataclass(kw_only=True)
class Fleet:
    """Machines: split into ``prefill`` and ``decode``, or ``unified`` where there is no link."""

    prefill: Costs
    prefill_machines: int
    decode: Costs | None = None
    decode_machines: int = 0
    link: Link | None = None
    batch: int = 1
    """Requests that a machine decodes together, at most."""
    prefix_cache: bool = False

    @property
    def unified(self) -> bool:
        """Whether each machine does both."""
        return self.decode is None


@dataclass(kw_only=True)
class Served:
    """What came of requests."""

    requests: Sequence[Request]
    seconds: float
    """From the start to the last token."""
    prefill_busy: float
    """Seconds that all machines computed prompts, added."""
    decode_busy: float
    link_busy: float = 0.0
    link_bytes: float = 0.0
    tokens: int = 0
    cached_tokens: int = 0
    batch_steps: float = 0.0
    """Sum of batches over steps; divided by ``steps`` the mean batch."""
    steps: int = 0
    waits: list[float] = field(default_factory=list)
    """Seconds from the end of prefill to the KV cache on the decode side, of each hand-off."""


class _Machine:
    """One machine that computes prompts, makes tokens, or both."""

    def __init__(
        self,
        env: simpy.Environment,
        costs: Costs,
        batch: int,
        queue: deque[Request],
        done: Served,
        *,
        prefills: bool,
        leaves: Callable[[Request], None] | None,
        prefix_cache: bool,
    ) -> None:
        self.env, self.costs, self.batch, self.queue, self.done = env, costs, batch, queue, done
        self.prefills, self.leaves = prefills, leaves
        self.active: list[tuple[int, int, Request]] = []
        """Heap of what is decoded, by the step after which a request is done."""
        self.made = self.order = self.positions = 0
        """Steps so far, requests so far, and positions of all that is decoded."""
        # A machine that hands over has one request at a time.
        self.free_bytes = costs.kv_capacity if leaves is None else math.inf
        self.prefixes: set[str] | None = set() if prefix_cache else None
        self.idle: simpy.Event | None = None
        self.in_steps = False
        self.process = env.process(self._run())

    def wake(self) -> None:
        """Look at the queue: at once when idle, at the end of the step when decoding."""
        if self.idle is not None:
            self.idle.succeed()
            self.idle = None
        elif self.in_steps:
            self.in_steps = False
            self.process.interrupt()

    @property
    def has_room(self) -> bool:
        """Whether the next request could begin."""
        return len(self.active) < self.batch and (
            not self.queue or self._bytes(self.queue[0]) <= self.free_bytes
        )

    def _bytes(self, request: Request) -> float:
        return self.costs.kv_bytes(request.prompt + request.tokens)

    def _run(self) -> _Process:
        while True:
            if self.queue and self.has_room:
                yield from self._take(self.queue.popleft())
            elif self.active:
                yield from self._steps()
            else:
                self.idle = self.env.event()
                yield self.idle

    def _take(self, request: Request) -> _Process:
        if self.prefills:
            request.started = self.env.now
            cached = 0
            if self.prefixes is not None and request.prefix:
                cached = request.prefix_tokens if request.prefix in self.prefixes else 0
                self.prefixes.add(request.prefix)
                self.done.cached_tokens += cached
            request.service = self.costs.prefill(request.prompt, cached)
            if self.leaves is not None:
                self.leaves(request)
            yield self.env.timeout(request.service)
            self.done.prefill_busy += request.service
            request.first = self.env.now
            self.done.tokens += 1
            if request.tokens == 1:
                request.finished = self.env.now
                return
            if self.leaves is not None:
                return
        self.free_bytes -= self._bytes(request)
        self.positions += request.prompt + 1
        self.order += 1
        end = self.made + request.tokens - 1
        heapq.heappush(self.active, (end, self.order, request))

    def _steps(self) -> _Process:
        """Make tokens until a request is done, or a new one may begin."""
        env, active = self.env, self.active
        batch = len(active)
        count = active[0][0] - self.made
        first, more = self.costs.step(batch, self.positions)
        start = env.now
        self.in_steps = True
        try:
            yield env.timeout(count * first + more * count * (count - 1) / 2)
        except simpy.Interrupt:
            count = _steps_by(env.now - start, first, more, count)
            end = start + count * first + more * count * (count - 1) / 2
            yield env.timeout(max(0.0, end - env.now))
        self.in_steps = False
        self.done.decode_busy += env.now - start
        self.done.tokens += count * batch
        self.done.batch_steps += count * batch
        self.done.steps += count
        self.made += count
        self.positions += count * batch
        while active and active[0][0] == self.made:
            _, _, request = heapq.heappop(active)
            request.finished = env.now
            self.positions -= request.prompt + request.tokens
            self.free_bytes += self._bytes(request)
        if not active:
            self.free_bytes = self.costs.kv_capacity  # without what rounding has left


def _steps_by(elapsed: float, first: float, more: float, most: int) -> int:
    """Return the step that runs ``elapsed`` seconds after the start, counted from 1.

    Step ``i`` takes ``first + i more``: the end of step ``j`` is ``j first + more j (j - 1) / 2``.
    """
    if more > 0:
        half = first - more / 2
        count = (math.sqrt(half * half + 2 * more * elapsed) - half) / more
    else:
        count = elapsed / first
    return max(1, min(most, math.ceil(count - _EARLY)))


def serve(requests: Sequence[Request], fleet: Fleet) -> Served:
    """Serve requests; each is changed to hold its times.

    A request goes to the machine with the fewest others that has room, else it waits for the first
    that has, in the order of arrival.
    """
    env = simpy.Environment()
    done = Served(requests=requests, seconds=0.0, prefill_busy=0.0, decode_busy=0.0)
    waiting: deque[Request] = deque()
    arrived: deque[Request] = deque()
    decoders: list[_Machine] = []
    lines = simpy.Resource(env, fleet.link.count) if fleet.link is not None else None

    def hand_over(request: Request) -> None:
        if request.tokens > 1:
            env.process(_transfer(env, request, fleet, lines, done, arrived, decoders))

    machines = [
        _Machine(
            env,
            fleet.prefill,
            fleet.batch if fleet.unified else 1,
            waiting,
            done,
            prefills=True,
            leaves=None if fleet.unified else hand_over,
            prefix_cache=fleet.prefix_cache,
        )
        for _ in range(fleet.prefill_machines)
    ]
    if fleet.decode is not None:
        decoders += [
            _Machine(
                env,
                fleet.decode,
                fleet.batch,
                arrived,
                done,
                prefills=False,
                leaves=None,
                prefix_cache=False,
            )
            for _ in range(fleet.decode_machines)
        ]

    def arrivals() -> _Process:
        for request in requests:
            if request.arrival > env.now:
                yield env.timeout(request.arrival - env.now)
            waiting.append(request)
            _tell(machines)

    env.process(arrivals())
    env.run()
    done.seconds = max(request.finished for request in requests)
    return done


def _tell(machines: Sequence[_Machine]) -> None:
    """Wake the machine with the fewest requests of those that have room."""
    chosen = None
    for machine in machines:
        if (machine.idle is not None or machine.in_steps) and machine.has_room:
            if machine.idle is not None and not machine.active:
                chosen = machine
                break
            if chosen is None or len(machine.active) < len(chosen.active):
                chosen = machine
    if chosen is not None:
        chosen.wake()


def _transfer(
    env: simpy.Environment,
    request: Request,
    fleet: Fleet,
    lines: simpy.Resource | None,
    done: Served,
    arrived: deque[Request],
    decoders: Sequence[_Machine],
) -> _Process:
    """Move the KV cache of a request whose prefill begins now."""
    link = fleet.link
    assert link is not None
    assert lines is not None
    size = fleet.prefill.kv_bytes(request.prompt)
    seconds = size / link.bytes_per_second
    end = env.now + request.service
    # The last layer cannot cross before it is computed, nor all others sooner than they are.
    hidden = 0.0
    if link.layer_wise:
        hidden = min(seconds, request.service) * (link.layers - 1) / link.layers
    yield env.timeout(request.service - hidden)
    with lines.request() as line:
        yield line
        yield env.timeout(seconds)
    done.link_busy += seconds
    done.link_bytes += size
    last = end + (seconds / link.layers if link.layer_wise else seconds)
    if env.now < last:
        yield env.timeout(last - env.now)
    request.arrived = env.now
    done.waits.append(env.now - end)
    arrived.append(request)
    _tell(decoders)
