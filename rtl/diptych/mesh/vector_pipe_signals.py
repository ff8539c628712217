# SPDX-License-Identifier: BSD-2-Clause
"""Blocks and signals that the parts of a vector pipe share."""

from typing import Any

from amaranth.hdl import Signal, signed

from diptych.arith.dot import Dot8
from diptych.arith.exponential import Exponential
from diptych.arith.noise import Noise
from diptych.arith.requantize import Requantizer
from diptych.arith.rope import Rotate
from diptych.arith.silu import SiluGate
from diptych.stream_buffer import StreamBuffer

from .element import Result
from .isa import Op
from .operand_sequencer import OperandSequencer, Step
from .operation import VectorOperation
from .statistic import Statistic

__all__ = ["STAGES", "VectorPipeSignals"]

STAGES = {
    Op.MATVEC: 2 + Dot8.latency,
    Op.REQUANTIZE: 2 + Requantizer.latency,
    Op.ROTATE: 2 + Rotate.latency,
    Op.EXPONENTIAL: 3 + Exponential.latency,
    Op.GATE: 2 + SiluGate.latency + Requantizer.latency,
    Op.MOVE: 3,
    Op.NOISE: 2 + Noise.latency,
}
"""Cycles from the read of an element's operands to its result, which leaves a cycle later."""


class VectorPipeSignals:
    """Blocks of a :class:`.VectorPipe`, and the signals between its parts."""

    def __init__(self, colors: int) -> None:
        self.steps = OperandSequencer()
        self.dot = Dot8()
        self.requantizer = Requantizer()
        self.rotate = Rotate()
        self.exponential = Exponential()
        self.gate = SiluGate()
        self.noise = Noise()
        self.statistic = Statistic(colors)
        self.results: Any = StreamBuffer(Result(colors))
        # The instruction whose steps are made, and the one behind it.
        self.now, self.queue = Signal(VectorOperation()), Signal(VectorOperation())
        self.queued = Signal()
        # Its steps take wavelets.
        self.joins = Signal()
        self.kinds = {op: Signal(name=f"now_{op.name.lower()}") for op in STAGES}
        # The step in each stage.
        self.tags = [Signal(Step(), name=f"tag_{n}") for n in range(max(STAGES.values()) + 1)]
        self.enable = Signal()
        self.travelling = Signal()
        # An instruction has started, and is not over.
        self.works = Signal()
        # Results that have not left are in the buffer.
        self.unsettled = Signal()
        # Result of MOVE, or 0.
        self.joined = Signal(signed(32))
        # Two sums that results are added to.
        self.pair = Signal(64, reset_less=True)
        # The step that ends, and its result, but for MOVE.
        self.out = Signal(Step())
        self.value = Signal(signed(32))
        # Result of GATE as INT32, as old as the re-quantized one.
        self.gated = Signal(signed(32))
