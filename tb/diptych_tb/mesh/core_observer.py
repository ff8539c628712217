# SPDX-License-Identifier: BSD-2-Clause
"""Second derivation of a core's causes: a model of issue, and what goes in and out of its blocks."""

from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any

from diptych.mesh.core import CAUSES
from diptych.mesh.fabric import BUFFER_DEPTH
from diptych.mesh.isa import Function, Op
from diptych.mesh.operation import VectorOperation
from diptych.mesh.register_file import ENGINE_REGISTERS
from diptych_sim.compiler.tile.assembler import disassemble
from diptych_sim.host.fields import Fields
from diptych_sim.host.observers.cause import CauseObserver
from diptych_tb.mesh.pipe_model import PipeModel

__all__ = ["PUBLIC", "CoreObserver"]

_AMOUNTS = ("macs", "instructions")
PUBLIC = (
    *(("tile.core", f"count_{name}") for name in (*CAUSES, *_AMOUNTS)),
    *(("tile.core", f"fetch__{part}") for part in ("en", "addr", "data")),
    *(("tile.core.sram", f"pipe_{p}__{part}") for p in "ab" for part in ("valid", "ready")),
    ("tile.core.sram", "pipe_write__ready"),
    *((f"tile.core.{engine}", "i__payload") for engine in ("pipe", "receiver", "transmitter")),
    *(("tile.core.transmitter", f"o__{part}") for part in ("valid", "ready")),
    *(
        ("tile.router", f"ramp_{way}__{part}")
        for way in "io"
        for part in ("announced", "announced_control", "credit")
    ),
)
"""What the observer looks at: ports of memories, of engines and of the ramp."""

_STAGES = 7
"""Stages of a received word that is requantized, before that of its statistics."""
_KEPT = 2
"""Stage from which a word that is kept as it is goes to the last one."""
_OPERANDS = ("a_reg", "b_reg", "dynamic", "d_reg", "count_reg", "inner_reg")


@dataclass(frozen=True)
class _Instruction:
    """An instruction; whether its fences hold it in the pipe; whether it reads what engines write."""

    op: Op
    function: Function
    fields: dict[str, int]
    waits_in_pipe: bool
    reads_engine: bool

    def is_function(self, function: Function) -> bool:
        return self.op is Op.SCALAR and self.function is function


@cache
def _decode(word: int) -> _Instruction:
    op, function, fields = disassemble(word)
    for_pipe = op not in (Op.SCALAR, Op.RECEIVE, Op.TRANSMIT)
    operands = ("a", "b", "dynamic") if op is Op.SCALAR else _OPERANDS
    reads = any(fields[name] in ENGINE_REGISTERS for name in operands)
    return _Instruction(op, function, fields, for_pipe and not reads, reads)


_NOTHING = _decode(0)


@dataclass
class _Transfer:
    """A RECEIVE or TRANSMIT that is not over."""

    left: int
    color: int
    kept: bool = False


_TAKES = {Function.TAKE: 4, Function.TAKE_RECIPROCAL: 7, Function.TAKE_RSQRT: 7}
"""Functions that take a wavelet, and their cycles."""


class _Transfers:
    """The instructions of the receiver or of the transmitter, two at most, in order."""

    def __init__(self) -> None:
        self._all: deque[_Transfer] = deque()
        self.begun = 0

    @property
    def now(self) -> _Transfer | None:
        return self._all[0] if self._all else None

    @property
    def ended(self) -> int:
        """How many have moved their last word."""
        return self.begun - len(self._all)

    def start(self, operation: dict[str, Any]) -> None:
        self.begun += 1
        tail = operation["tail"]
        self._all.append(_Transfer(operation["count"], tail["color"], tail["bits"] == 0))

    def advance(self, *, moved: bool) -> None:
        """Count the word that was moved in this cycle; end what has none left."""
        now = self.now
        if now is None:
            return
        now.left -= moved
        if now.left == 0:
            self._all.popleft()


class CoreObserver(CauseObserver):
    """Follows a core's program by what it fetches, and its engines by what they take and give.

    An instruction executes from the cycle after that in which the next one was fetched to the next
    fetch; END is over in the first cycle in which no fence holds it. A vector instruction is taken
    by its engine in the cycle in which it is over. Steps, and results that cannot leave, follow
    from :class:`.PipeModel`, the grants of the SRAM, and the credits and wavelets of the ramp.

    Parameters
    ----------
    dut : handle
        The tile, with :data:`PUBLIC`.
    colors : int
        Colors of the tile.
    """

    def __init__(self, dut: Any, colors: int) -> None:
        core = dut.core
        counted = (*CAUSES, *_AMOUNTS)
        super().__init__(dut.clk, {name: getattr(core, f"count_{name}") for name in counted})
        self._core, self._router = core, dut.router
        self._operation = Fields(VectorOperation()).unpack
        self._credits = [BUFFER_DEPTH] * colors
        self._drains = [False] * colors
        self._sendable = [True] * colors
        self._waiting = [0] * colors
        self._running = False
        # The instruction that was fetched, from an address, and the one that executes.
        self._fetched = False
        self._address = 0
        self._coming, self._now = 0, _NOTHING
        self._executing = False
        # It has just begun, without what an engine wrote.
        self._stale = False
        self._pipe = PipeModel()
        self._receives, self._sends = _Transfers(), _Transfers()
        self._issued: dict[str, Any] | None = None
        # Received words by stage: "kept" as they are or not, and whether they are an instruction's last.
        self._stages: list[tuple[str, bool] | None] = [None] * _STAGES
        self._unfinished = 0
        # One without words ends in this cycle.
        self._skips = False
        self._measured = False
        # Cycles since TAKE took its wavelet.
        self._taken = 0
        # Colors whose wavelets TAKE and MOVE took in the cycle before, and what held the receiver.
        self._others: set[int] = set()
        self._stayed = False
        self._leaves = False
        """The result that is due leaves."""

    def observe(self) -> None:
        popped = self._look_at_ramp()
        self._advance_receiver(popped)
        if self._fetched:
            self._coming = int(self._core.fetch__data.value)
        fetches = bool(self._core.fetch__en.value)
        fenced = self._executing and self._is_fenced()
        held = fenced or self._stale
        ends = self._executing and self._now.is_function(Function.END) and not held
        over = ends or (self._executing and fetches)
        assert not (self._executing and fetches and held), "a fence was ignored, or an engine"
        assert not (ends and fetches), "an instruction was fetched behind the last one"

        self._others = set()
        lacks = self._lacks_wavelet(held)
        blocked, steps, unfed, starved = self._step()
        busy = self._pipe.busy
        cause = self._find_cause(steps, starved, blocked, unfed, busy, fenced, over, fetches, lacks)
        self._advance(steps, over)
        self.blame(cause)
        self._follow(fetches, ends)

    def _follow(self, fetches: bool, ends: bool) -> None:
        """Go on to the next instruction."""
        address = int(self._core.fetch__addr.value)
        self._fetched = fetches
        self._stale = False
        if not self._running:
            self._running = fetches
        elif ends:
            self._running = self._executing = False
        elif fetches:
            is_branch = self._executing and self._now.is_function(Function.BRANCH)
            # A branch to the next instruction is not told from one that is not taken.
            self._executing = not (is_branch and address != (self._address + 1) % 2**16)
            if self._executing:
                # What lies behind a program is fetched, too, and is none.
                self._now = _decode(self._coming)
                self._stale = self._now.reads_engine
        else:
            assert self._executing, "nothing executes, and nothing is fetched"
        if fetches:
            self._address = address

    def _lacks_wavelet(self, held: bool) -> bool:
        """Follow TAKE, which goes before the pipe's wavelets; return whether it has none."""
        color = self._now.fields.get("color", 0)
        function = next((f for f in _TAKES if self._now.is_function(f)), None)
        takes = self._executing and function is not None
        if self._taken and function is not None:
            self._taken = (self._taken + 1) % _TAKES[function]
        elif takes and not held:
            if not self._waiting[color]:
                return True
            self._taken = 1
            self._others.add(color)
        return False

    def _look_at_ramp(self) -> int:
        """Follow credits and wavelets of the ramp; return the colors popped a cycle before."""
        router = self._router
        # What may be sent follows from the cycles before, but for a control wavelet of this one.
        self._sendable = [
            free >= 2 and not drains
            for free, drains in zip(self._credits, self._drains, strict=True)
        ]
        returned, sent = int(router.ramp_i__credit.value), int(router.ramp_i__announced.value)
        for color in range(len(self._credits)):
            self._credits[color] += (returned >> color & 1) - (sent >> color & 1)
            if int(router.ramp_i__announced_control.value) >> color & 1:
                self._sendable[color], self._drains[color] = False, True
            self._drains[color] &= self._credits[color] < BUFFER_DEPTH
        popped, came = int(router.ramp_o__credit.value), int(router.ramp_o__announced.value)
        for color in range(len(self._waiting)):
            self._waiting[color] += (came >> color & 1) - (popped >> color & 1)
        return popped

    def _advance_receiver(self, popped: int) -> None:
        """Move received words by a stage, with the one that was taken in the cycle before."""
        now = self._receives.now
        took = now is not None and now.color not in self._others and bool(popped >> now.color & 1)
        stages = self._stages
        skipped, empty = self._skips, not any(stages)
        self._skips = now is not None and not now.left and empty and not skipped
        self._measured = False
        if not self._stayed:
            self._measured = stages[-1] is not None
            self._stages = stages = [None, *stages[:-1]]
            moved = stages[_KEPT + 1]
            if moved is not None and moved[0] == "kept":
                stages[_KEPT + 1], stages[-1] = None, moved
        if took and now is not None:
            stages[0] = "kept" if now.kept else "rounded", now.left == 1
        if now is not None and (now.left or skipped):
            self._receives.advance(moved=took)
        if self._issued is not None:
            self._receives.start(self._issued)
            self._issued = None
        due, last = self._pipe.due, stages[-1]
        waits = due is not None and due.only_writes
        self._stayed = last is not None and last[0] == "kept" and waits

    def _is_fenced(self) -> bool:
        fields = self._now.fields
        return not self._now.waits_in_pipe and bool(
            (fields["fence_pipe"] and self._pipe.busy)
            or (fields["fence_receive"] and self._is_receiving())
            or (fields["fence_transmit"] and self._sends.now)
        )

    def _finishes(self) -> bool:
        """Whether a RECEIVE is over after this cycle."""
        last = self._stages[-1]
        return self._skips or (last is not None and last[1] and not self._stayed)

    def _is_receiving(self) -> bool:
        return bool(self._receives.now or any(self._stages) or self._measured)

    def _step(self) -> tuple[bool, bool, bool, bool]:
        """Return whether a result is held up, a step is made, misses a wavelet, or operands."""
        pipe, sram = self._pipe, self._core.sram
        due = pipe.due
        # The statistic that is owed goes first.
        blocked = pipe.owed is not None and not self._sendable[pipe.owed]
        self._leaves = False
        if due is not None:
            due.sends = due.sends and (pipe.holds or not self._sendable[due.color])
            due.writes = due.writes and not sram.pipe_write__ready.value
            self._leaves = not (due.sends or due.writes or pipe.waits)
            blocked = blocked or not self._leaves
        if not pipe.asks:
            return blocked, False, False, False
        # TAKE shares the way of wavelets to the pipe.
        fed = pipe.joins is None or (self._waiting[pipe.joins] > 0 and self._taken != 1)
        has_operands = pipe.grant(
            a=bool(sram.pipe_a__valid.value and sram.pipe_a__ready.value),
            b=bool(sram.pipe_b__valid.value and sram.pipe_b__ready.value),
        )
        steps = fed and has_operands
        if steps and pipe.joins is not None:
            self._others.add(pipe.joins)
        return blocked, steps, not fed, fed and not steps

    def _find_cause(
        self,
        steps: bool,
        starved: bool,
        blocked: bool,
        unfed: bool,
        busy: bool,
        fenced: bool,
        over: bool,
        fetches: bool,
        lacks: bool,
    ) -> str:
        now = self._now
        waits = self._executing and not over
        issues = self._executing and not fenced and not self._stale
        sends = issues and now.is_function(Function.SEND)
        color = now.fields.get("color", 0)
        transmits = not now.waits_in_pipe and now.fields["fence_transmit"] and self._sends.now
        if steps:
            return "computing"
        if starved:
            return "bank_conflict"
        if blocked or (sends and not busy and not self._sendable[color]):
            return "backpressure"
        if unfed:
            return "waiting_receive"
        awaits = self._pipe.awaits(self._receives.ended)
        if busy and not awaits and (waits or not self._running):
            return "draining"
        if waits and (now.op is Op.TRANSMIT or transmits):
            return "backpressure"
        if lacks or (waits and (fenced or now.op is Op.RECEIVE)):
            return "waiting_receive"
        if awaits and (waits or not self._running):
            return "waiting_receive"
        if not self._running and not fetches:
            return "idle"
        return "issuing"

    def _advance(self, steps: bool, over: bool) -> None:
        """Go on to the next cycle: pipe, transmitter, and the instruction that is over."""
        core, op = self._core, self._now.op
        issued = None
        if over:
            self.add("instructions", 1)
        if over and op not in (Op.SCALAR, Op.RECEIVE, Op.TRANSMIT):
            issued = self._operation(int(core.pipe.i__payload.value))
        received = self._finishes()
        self.add(
            "macs",
            self._pipe.advance(
                steps=steps,
                leaves=self._leaves,
                sent=self._pipe.owed is not None and self._sendable[self._pipe.owed],
                issued=issued,
                receives=self._unfinished,
                received=received,
                begun=self._receives.begun,
                taken=self._receives.ended,
                transmitting=self._sends.now is not None,
            ),
        )
        sent = self._sends.now is not None and bool(
            core.transmitter.o__valid.value and core.transmitter.o__ready.value
        )
        self._sends.advance(moved=sent)
        self._unfinished += (over and op is Op.RECEIVE) - received
        if over and op is Op.RECEIVE:
            self._issued = self._operation(int(core.receiver.i__payload.value))
        elif over and op is Op.TRANSMIT:
            self._sends.start(self._operation(int(core.transmitter.i__payload.value)))
