# SPDX-License-Identifier: BSD-2-Clause
"""Model of the vector pipe's control: which step is due in a cycle, and what holds it up."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from diptych.mesh.isa import Op, Type
from diptych.mesh.operand_sequencer import HELD_WORDS
from diptych.mesh.vector_pipe import STAGES

__all__ = ["PipeModel", "Step", "steps_of"]

_LAST_STAGE = max(STAGES.values())
_MATVEC_PHASES = {0: 1, 1: 3}


@dataclass(frozen=True)
class Step:
    """A step: words that it reads (None: no operand), and what becomes of its result."""

    a: int | None
    b: int | None
    sums: int | None = None
    emits: bool = True
    macs: int = 0


def steps_of(operation: dict[str, Any]) -> Iterator[Step]:
    """Yield the steps of an operation, as :class:`.Op` specifies them."""
    op, tail = Op(operation["op"]), operation["tail"]
    a, b, d = operation["a"], operation["b"], operation["d"]
    count, inner = operation["count"], operation["inner"]
    if op is Op.MATVEC:
        plane = 8 * inner
        for row in range(count):
            sums = (d + 4 * row) % 2**16 >> 3 if tail["accumulate"] else None
            for at in range(0, 8 * max(1, inner), 8):
                for phase in range(_MATVEC_PHASES[tail["planes"]]):
                    here = a + row * operation["stride"] + at + (plane if phase == 2 else 0)
                    there = b + at + (plane if phase == 1 else 0)
                    last = at + 8 >= plane and phase == _MATVEC_PHASES[tail["planes"]] - 1
                    yield Step(
                        here % 2**16 >> 3 if inner else None,
                        there % 2**16 >> 3 if inner else None,
                        sums,
                        last,
                        8 if inner else 0,
                    )
        return
    size = 4
    if op in (Op.REQUANTIZE, Op.MOVE):
        size = 1 << tail["a_type"]
    reads_b = op is Op.ROTATE or (op is Op.REQUANTIZE and tail["static_memory"])
    reads_a = not (op is Op.MOVE and tail["a_type"] == Type.NONE.value)
    total = -(-count // 8) * 8 if op is Op.EXPONENTIAL else count
    for row in range(total):
        here = (a + size * row) % 2**16 >> 3 if reads_a and row < count else None
        at = row % inner if op is Op.ROTATE else row
        there = (b + 4 * at) % 2**16 >> 3 if reads_b else None
        for _ in range(2 if op is Op.ROTATE else 1):
            yield Step(here, there)


@dataclass
class _Result:
    stage: int
    writes: bool
    sends: bool
    color: int
    macs: int


class PipeModel:
    """Steps that are left, results that are under way, and operands that are at hand."""

    def __init__(self) -> None:
        self.operation: dict[str, Any] = {}
        self.op = Op.MATVEC
        self.step: Step | None = None
        self.empty = False
        """The operation in the pipe has no steps; it ends in this cycle."""
        self._steps: Iterator[Step] = iter(())
        self._results: list[_Result] = []
        self._a: int | None = None
        self._b: int | None = None
        self._sums: int | None = None
        self._kept: set[int] = set()
        self._keeps = False

    @property
    def busy(self) -> bool:
        """Whether steps are left, or results under way."""
        return self.step is not None or self.empty or bool(self._results)

    @property
    def due(self) -> _Result | None:
        """The result that leaves in this cycle, unless it is held up."""
        for result in self._results:
            if result.stage == STAGES[self.op]:
                return result
        return None

    @property
    def joins(self) -> int | None:
        """Color of the wavelet that the step needs."""
        if self.step is None or self.op is not Op.MOVE or not self.operation["tail"]["accumulate"]:
            return None
        return self.operation["tail"]["bits"]

    def start(self, operation: dict[str, Any]) -> None:
        """Take an operation, whose first step may come in the next cycle."""
        assert self.step is None, "an instruction was taken while steps are left"
        self.operation, self.op = operation, Op(operation["op"])
        self._steps = steps_of(operation)
        self.step = next(self._steps, None)
        self.empty = self.step is None
        self._a = self._b = self._sums = None
        self._kept = set()
        held = HELD_WORDS // 2 if operation["tail"]["planes"] else HELD_WORDS
        self._keeps = self.op is Op.MATVEC and operation["inner"] <= held

    def grant(self, *, a: bool, b: bool) -> bool:
        """Note reads that the memory granted; return whether the step has its operands."""
        step = self.step
        assert step is not None
        uses_b = step.b is not None and not (self._keeps and step.b % HELD_WORDS in self._kept)
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

    def advance(self, *, steps: bool) -> int:
        """Move everything by a stage, and take the step if it was made; return the products."""
        self.empty = False
        macs = 0
        for result in self._results:
            macs += result.macs if result.stage == 1 else 0
            result.stage += 1
        self._results = [r for r in self._results if r.stage <= _LAST_STAGE]
        step = self.step
        if not steps or step is None:
            return macs
        if self._keeps and step.b is not None:
            self._kept.add(step.b % HELD_WORDS)
        self._results.append(self._result(step))
        self.step = next(self._steps, None)
        return macs

    def _result(self, step: Step) -> _Result:
        tail = self.operation["tail"]
        to_color = bool(tail["to_color"])
        stored = self.op not in (Op.REQUANTIZE, Op.MOVE) or tail["d_type"] != Type.NONE.value
        writes = step.emits and stored and (not to_color or self.op is Op.MOVE)
        sends = step.emits and to_color
        return _Result(1, writes, sends, tail["color"], step.macs)
