# SPDX-License-Identifier: BSD-2-Clause
"""Blocks and signals that the parts of a core share."""

from typing import Any

from amaranth.hdl import Array, Const, Signal

from diptych.arith.functions import ScaleFunction

from .credits import Credits
from .fabric import COLOR_BITS
from .input_port import InputPort
from .isa import REGISTERS, Instruction, Tail
from .loader import TASK_BITS, Loader
from .operation import VectorOperation
from .receiver import Receiver
from .sram import Sram
from .tasks import TaskScheduler
from .transmitter import Transmitter
from .vector_pipe import VectorPipe

__all__ = ["CoreSignals"]


class CoreSignals:
    """Blocks of a :class:`.Core`, and the signals between its parts.

    Parameters
    ----------
    colors, sram_bytes : :class:`int`
        As of :class:`.Core`.
    """

    def __init__(self, *, colors: int, sram_bytes: int) -> None:
        # Wavelets that arrive, for the receiver, for the vector pipe and TAKE, for the loader.
        self.buffers: Any = InputPort(colors=colors, readers=3)
        self.credits = Credits(colors=colors)
        self.loader = Loader()
        self.sram: Any = Sram(size=sram_bytes)
        self.tasks = TaskScheduler(colors=colors)
        self.pipe = VectorPipe()
        self.receiver = Receiver(colors=colors)
        self.transmitter = Transmitter()
        self.scale = ScaleFunction()
        # A bit per color: a wavelet may be taken; may be sent.
        self.waiting = Signal(colors)
        self.sendable = Signal(colors)

        # Program: the instruction at ``pc``; ``done`` when it completes, ``ends`` when it is END.
        self.instruction = Signal(Instruction())
        self.tail = Signal(Tail())
        self.running = Signal(name="watch_running")
        self.task = Signal(TASK_BITS, name="watch_task")
        self.pc = Signal(16, name="watch_pc")
        self.next_pc = Signal(16)
        self.done = Signal()
        self.ends = Signal()

        # Registers: ``result`` is written when ``writes``; operands A, B and the dynamic register.
        self.stored = [Signal(32, name=f"register_{n}") for n in range(1, REGISTERS)]
        self.registers = Array([Const(0, 32), *self.stored])
        self.result = Signal(32)
        self.writes = Signal()
        self.a, self.b = Signal(32), Signal(32)
        self.chosen = Signal(32)

        # Issue: ``go`` while a task runs and no fence holds its instruction.
        self.fenced = Signal()
        self.go = Signal()
        self.operation = Signal(VectorOperation())
        self.is_vector = Signal()
        is_receive, is_transmit = Signal(), Signal()
        self.is_receive, self.is_transmit = is_receive, is_transmit

        # Ramp: who sends in this cycle, TAKE's pop, and the color of SEND and TAKE.
        self.send = Signal()
        self.take = Signal()
        self.sends_pipe = Signal()
        self.transmitted = Signal()
        self.color = Signal(COLOR_BITS)
        self.no_credit = Signal()
        self.no_wavelet = Signal()

        # An instruction does not complete in this cycle.
        self.waits = Signal()
