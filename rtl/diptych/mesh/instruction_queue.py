# SPDX-License-Identifier: BSD-2-Clause
"""Queue of an instruction ahead of the vector pipe, and the fences that it waits for there."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal

from .isa import Op
from .operation import VectorOperation
from .vector_pipe_signals import VectorPipeSignals

__all__ = ["queue_instruction"]


def queue_instruction(m: Module, pipe: Any, s: VectorPipeSignals) -> None:
    """Queue an instruction, and start it when those before it and its fences allow."""
    follows, idle = Signal(), Signal()
    # RECEIVEs that the queued instruction waits for; only until they have taken their wavelets.
    awaited, early = Signal(4), Signal()
    starting: Any = Signal(VectorOperation())
    queue: Any = s.queue
    m.d.comb += [
        starting.eq(Mux(s.queued, queue.as_value(), pipe.i.payload.as_value())),
        pipe.i.ready.eq(~s.queued),
        pipe.holds_transmit.eq(s.queued & queue.fence_transmit),
        pipe.awaits.eq(s.queued & queue.fence_receive & awaited.any() & ~s.works),
        # Stage 1 uses the instruction: operands of earlier steps must leave it. The statistic
        # of one without elements must not come before that of an earlier instruction.
        follows.eq(
            Mux(
                queue.count == 0,
                idle,
                ~s.travelling
                | (
                    s.enable
                    & (queue.op == s.now.op)
                    & ~queue.fence_pipe
                    # Its key is not in the stages.
                    & ~s.kinds[Op.NOISE]
                ),
            )
        ),
        idle.eq(~s.travelling & ~s.unsettled),
        s.steps.start.eq(
            ~s.steps.busy
            & ~(starting.fence_receive & Mux(s.queued, awaited, pipe.receives).any())
            & ~(starting.fence_transmit & pipe.transmitting)
            # Count and kind of an instruction that is issued in this cycle are known late.
            & Mux(s.queued, follows, pipe.i.valid & idle)
        ),
        s.steps.starting.eq(starting),
    ]
    coming: Any = pipe.i.payload
    comes, comes_early = Signal(), Signal()
    m.d.comb += [
        comes.eq(pipe.i.valid & pipe.i.ready),
        comes_early.eq((coming.op == Op.REQUANTIZE) & coming.tail.planes),
    ]
    sends = Signal(pipe.colors)
    sending = comes & (coming.tail.to_color | coming.sends_statistic)
    m.d.comb += sends.eq(Mux(sending, 1 << coming.tail.color, 0))
    m.d.sync += pipe.unsent.eq(Mux(pipe.busy, pipe.unsent, 0) | sends)
    with m.If(s.steps.start):
        m.d.sync += [s.now.eq(starting), s.queued.eq(0)]
    with m.Elif(comes):
        m.d.sync += [
            s.queue.eq(coming),
            s.queued.eq(1),
            early.eq(comes_early),
            awaited.eq(
                Mux(
                    comes_early,
                    pipe.untaken - pipe.takes_last,
                    pipe.receives - pipe.received,
                )
            ),
        ]
    with m.Elif(Mux(early, pipe.takes_last, pipe.received) & awaited.any()):
        m.d.sync += awaited.eq(awaited - 1)
