# SPDX-License-Identifier: BSD-2-Clause
"""Model of the vector pipe's control: which step is due in a cycle, and what holds it up."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from diptych.mesh.isa import Op, Type
from diptych.mesh.operand_sequencer import HELD_WORDS
from diptych.mesh.vector_pipe_signals import STAGES

__all__ = ["PipeModel", "Step", "steps_of"]

_PRODUCTS = 2
"""Stage of the multipliers."""
_MATVEC_PHASES = {0: 1, 1: 3}


@dataclass(frozen=True)
class Step:
    """A step: words that it reads (None: no operand), and what becomes of its result.

    Of an int16 X ``b`` is the first of two words.
    """

    a: int | None
    b: int | None
    sums: int | None = None
    emits: bool = True
    macs: int = 0
    wide: bool = False


def steps_of(operation: dict[str, Any]) -> Iterator[Step]:
    """Yield the steps of an operation, as :class:`.Op` specifies them."""
    op, tail = Op(operation["op"]), operation["tail"]
    a, b, d = operation["a"], operation["b"], operation["d"]
    count, inner = operation["count"], operation["inner"]
    if op is Op.MATVEC:
        plane = 8 * inner
        wide = tail["a_type"] == Type.INT16.value
        for row in range(count):
            sums = (d + 4 * row) % 2**16 >> 3 if tail["accumulate"] else None
            for at in range(0, 8 * max(1, inner), 8):
                for phase in range(_MATVEC_PHASES[tail["planes"]]):
                    here = a + row * operation["stride"] + at + (plane if phase == 2 else 0)
                    there = b + at + (plane if phase == 1 else 0)
                    if wide:
                        there = b + 2 * at
                    last = at + 8 >= plane and phase == _MATVEC_PHASES[tail["planes"]] - 1
                    yield Step(
                        here % 2**16 >> 3 if inner else None,
                        there % 2**16 >> 3 if inner else None,
                        sums,
                        last,
                        8 if inner else 0,
                        wide,
                    )
        return
    size = 4
    if op in (Op.REQUANTIZE, Op.MOVE):
        size = 1 << tail["a_type"]
    reads_b = op is Op.ROTATE or (op is Op.REQUANTIZE and tail["static_memory"])
    reads_a = op is not Op.NOISE and not (op is Op.MOVE and tail["a_type"] == Type.NONE.value)
    pads = op is Op.EXPONENTIAL and not tail["accumulate"]
    total = -(-count // 8) * 8 if pads else count
    for row in range(total):
        here = (a + size * row) % 2**16 >> 3 if reads_a and row < count else None
        at = row % inner if op is Op.ROTATE else row
        there = (b + 4 * at) % 2**16 >> 3 if reads_b else None
        for _ in range(2 if op is Op.ROTATE else 1):
            yield Step(here, there)


@dataclass
class Result:
    """A result in a stage of the pipe, or in the buffer; ``writes``, ``sends`` until it has."""

    stage: int
    emits: bool
    writes: bool
    sends: bool
    color: int
    macs: int
    only_writes: bool
    squares: bool
    finds: bool
    """It is the last one of a statistic."""
    owes: int | None
    """Color of the statistic that leaves behind it."""


def _waits_less(operation: dict[str, Any]) -> bool:
    """Whether an instruction waits only until RECEIVEs have taken their wavelets."""
    return Op(operation["op"]) is Op.REQUANTIZE and bool(operation["tail"]["planes"])


class PipeModel:
    """Steps that are left, results that are under way, and operands that are at hand."""

    def __init__(self) -> None:
        self.operation: dict[str, Any] = {}
        self.op = Op.MATVEC
        self.queued: dict[str, Any] | None = None
        """The instruction that waits for those before it and its fences."""
        self._awaited = 0
        """RECEIVEs that it waits for."""
        self._begun = 0
        """RECEIVEs that had begun when it was issued."""
        self.step: Step | None = None
        self._ends_empty = self.empty = False
        """The operation in the pipe has no steps; it ends in this cycle."""
        self._steps: Iterator[Step] = iter(())
        self._results: list[Result] = []
        self._buffer: list[Result] = []
        self._squared: Result | None = None
        """The result whose square is added to the statistic."""
        self._came = False
        """The result that is due was there before."""
        self.owed: int | None = None
        """Color of a statistic that has to be sent."""
        self._found = False
        """A statistic was found in the cycle before."""
        self._settling = False
        self._a: int | None = None
        self._b: int | None = None
        self._sums: int | None = None
        self._kept: set[int] = set()
        self._keeps = False

    @property
    def busy(self) -> bool:
        """Whether an instruction is queued, steps are left, or results have not left."""
        return bool(
            self.queued
            or self.step is not None
            or self.empty
            or self._results
            or self._buffer
            or self._squared
            or self.owed is not None
            or self._found
        )

    def awaits(self, taken: int) -> bool:
        """Whether all that is left waits for RECEIVEs, of which so many have taken their wavelets."""
        working = self.step is not None or self.empty or self._results or self._buffer
        working = working or self._squared or self.owed is not None or self._found
        queued = self.queued
        return bool(
            queued and queued["fence_receive"] and self._receiving(queued, taken) and not working
        )

    def _receiving(self, queued: dict[str, Any], taken: int) -> bool:
        """Whether the queued instruction waits for RECEIVEs."""
        return taken < self._begun if _waits_less(queued) else self._awaited > 0

    @property
    def waits(self) -> bool:
        """Whether the result that is due waits until an older statistic is sent."""
        due = self.due
        return due is not None and due.owes is not None and self.holds and not self._came

    @property
    def holds(self) -> bool:
        """Whether a statistic, or a square that ends one, goes before results."""
        squared = self._squared is not None and self._squared.owes is not None
        return self.owed is not None or squared

    @property
    def due(self) -> Result | None:
        """The result that leaves in this cycle, unless it is held up."""
        return self._buffer[0] if self._buffer else None

    @property
    def asks(self) -> bool:
        """Whether a step may be made in this cycle."""
        settles = self._settling and bool(self._buffer)
        return self.step is not None and self._enabled and not settles

    @property
    def joins(self) -> int | None:
        """Color of the wavelet that the step needs."""
        if self.step is None or self.op is not Op.MOVE or not self.operation["tail"]["accumulate"]:
            return None
        return self.operation["tail"]["bits"]

    @property
    def _enabled(self) -> bool:
        return len(self._buffer) < 2

    def grant(self, *, a: bool, b: bool) -> bool:
        """Note reads that the memory granted; return whether the step has its operands."""
        step = self.step
        assert step is not None
        uses_b = step.b is not None and not (self._keeps and self._slot(step) in self._kept)
        needs_b = uses_b and step.b != self._b
        # Sums come while B's port is free, at the latest with the result that they are added to.
        needs_sums = step.sums not in (None, self._sums) and (step.emits or not uses_b)
        has_sums = not needs_sums or (not uses_b and (b or not step.emits))
        has_b = not needs_b or (b and not needs_sums)
        has_a = step.a in (None, self._a) or a
        if a:
            assert step.a not in (None, self._a), "a word was read again"
            self._a = step.a
        if b and needs_sums:
            self._sums, self._b = step.sums, None
        elif b:
            assert needs_b, "a word was read again"
            self._b = step.b
        return has_a and has_b and has_sums

    def advance(
        self,
        *,
        steps: bool,
        leaves: bool,
        sent: bool,
        issued: dict[str, Any] | None,
        receives: int,
        received: bool,
        begun: int,
        taken: int,
        transmitting: bool,
    ) -> int:
        """Go on to the next cycle; return the products of this one.

        Parameters
        ----------
        steps, leaves, sent : bool
            The step is made; the result that is due leaves; the statistic that is owed does.
        issued : dict, optional
            The instruction that the core issues in this cycle.
        receives : int
            RECEIVEs that are not over.
        received, transmitting : bool
            One of them is over after this cycle; a TRANSMIT is not.
        begun, taken : int
            RECEIVEs so far, and those of them that had taken their last wavelets before this cycle.
        """
        receiving = self._receiving(self.queued, taken) if self.queued else receives > 0
        starts = self._starting(issued, receiving=receiving, transmitting=transmitting)
        if not self._buffer:
            self._settling = False
        if starts is not None:
            self._settling = bool(starts["fence_pipe"] and self._buffer)
        enabled, self._ends_empty = self._enabled, self.empty and not self.holds
        self.empty = self.empty and not self._ends_empty
        self._measure(leaves, sent)
        if leaves:
            self._buffer.pop(0)
        macs = self._move(steps=steps) if enabled else 0
        if starts is None:
            if self.queued:
                self._awaited -= received and self._awaited > 0
            elif issued:
                self.queued, self._awaited = issued, receives - received
                self._begun = begun
            return macs
        self.queued = None
        self._begin(starts)
        return macs

    def _measure(self, leaves: bool, sent: bool) -> None:
        comes = self._buffer[0] if self._buffer and not self._came and not self.waits else None
        self._found = bool(
            (comes and comes.finds and not comes.squares)
            or (self._squared and self._squared.finds)
            or (self._ends_empty and self.operation["tail"]["statistic"])
        )
        if sent:
            self.owed = None
        for result in (self._squared, comes if comes and not comes.squares else None):
            if result and result.owes is not None:
                self.owed = result.owes
        if self._ends_empty and self.operation["sends_statistic"]:
            self.owed = self.operation["tail"]["color"]
        self._squared = comes if comes and comes.squares else None
        self._came = bool(self._buffer) and not leaves and (self._came or comes is not None)

    def _starting(
        self, issued: dict[str, Any] | None, *, receiving: bool, transmitting: bool
    ) -> dict[str, Any] | None:
        """Return the instruction that starts in this cycle."""
        operation = self.queued or issued
        if operation is None or self.step is not None or self.empty:
            return None
        if (operation["fence_receive"] and receiving) or (
            operation["fence_transmit"] and transmitting
        ):
            return None
        idle = not self._results and not self._buffer
        follows = not self._results or (
            self._enabled
            and Op(operation["op"]) is self.op is not Op.NOISE
            and not operation["fence_pipe"]
        )
        if self.queued is None or operation["count"] == 0:
            follows = idle
        return operation if follows else None

    def _begin(self, operation: dict[str, Any]) -> None:
        self.operation, self.op = operation, Op(operation["op"])
        self._steps = steps_of(operation)
        self.step = next(self._steps, None)
        self.empty = self.step is None
        self._a = self._b = self._sums = None
        self._kept = set()
        held = HELD_WORDS // 2 if operation["tail"]["planes"] else HELD_WORDS
        self._keeps = self.op is Op.MATVEC and operation["inner"] <= held

    def _move(self, *, steps: bool) -> int:
        """Move everything by a stage, and take the step if it was made; return the products."""
        macs = 0
        last = STAGES[self.op]
        for result in self._results:
            macs += result.macs if result.stage == _PRODUCTS else 0
            if result.stage == last and result.emits:
                self._buffer.append(result)
            result.stage += 1
        self._results = [r for r in self._results if r.stage <= last]
        step = self.step
        if steps and step is not None:
            if self._keeps and step.b is not None:
                self._kept.add(self._slot(step))
            self.step = next(self._steps, None)
            self._results.append(self._result(step))
        return macs

    @staticmethod
    def _slot(step: Step) -> int:
        assert step.b is not None
        return (step.b >> step.wide) % HELD_WORDS

    def _result(self, step: Step) -> Result:
        tail = self.operation["tail"]
        to_color = bool(tail["to_color"])
        stored = (
            self.op not in (Op.REQUANTIZE, Op.GATE, Op.MOVE) or tail["d_type"] != Type.NONE.value
        )
        writes = step.emits and stored and (not to_color or self.op is Op.MOVE)
        sends = step.emits and to_color
        return Result(
            1,
            step.emits,
            writes,
            sends,
            tail["color"],
            step.macs,
            writes and not sends,
            self.op is Op.REQUANTIZE and bool(tail["statistic"]),
            self.step is None and bool(tail["statistic"]),
            tail["color"] if self.step is None and self.operation["sends_statistic"] else None,
        )
