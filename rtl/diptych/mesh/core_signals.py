# SPDX-License-Identifier: BSD-2-Clause
"""Blocks and signals that the parts of a core share."""

from typing import Any

from amaranth.hdl import Signal

from diptych.arith.functions import ScaleFunction

from .credits import Credits
from .fabric import COLOR_BITS
from .input_port import InputPort
from .isa import Instruction, Tail
from .loader import TASK_BITS, Loader
from .operation import VectorOperation
from .receiver import Receiver
from .register_file import OPERANDS, RegisterFile
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
        self.pipe = VectorPipe(colors=colors)
        self.receiver = Receiver(colors=colors)
        self.transmitter = Transmitter(colors=colors)
        self.scale = ScaleFunction()
        # A bit per color: a wavelet may be taken; may be sent.
        self.waiting = Signal(colors)
        self.sendable = Signal(colors)

        # Program: the instruction that was fetched, from ``fetched_pc``, and the one that executes,
        # while ``executing``, from ``pc``. ``moves`` when the first becomes the second, ``done``
        # when the second completes, ``ends`` when it is END, ``branches`` to its immediate. What is
        # known of an instruction ``advances`` to the second place also when there is none: that
        # none was fetched, or that the one before ends the task or branches, is known late.
        self.fetched, self.fetched_pc = Signal(), Signal(16)
        self.coming: Any = Signal(Instruction())
        self.executing = Signal()
        self.instruction: Any = Signal(Instruction())
        self.tail: Any = Signal(Tail())
        self.running = Signal(name="watch_running")
        self.task = Signal(TASK_BITS, name="watch_task")
        self.pc = Signal(16, name="watch_pc")
        self.moves, self.advances, self.done, self.ends, self.branches = (
            Signal(name=name) for name in ("moves", "advances", "done", "ends", "branches")
        )

        # Registers of the program, and their values for the instruction that executes.
        self.registers = RegisterFile()
        self.a, self.b, self.chosen = (self.registers.value[name] for name in OPERANDS[:3])
        # ``result`` is written when ``writes``.
        self.result = Signal(32)
        self.writes = Signal()

        # Issue: ``go`` while no fence holds the instruction, and its operands are not ``stale``;
        # fences that hold it here.
        self.fence_pipe, self.fence_receive, self.fence_transmit = (
            Signal(name=f"fence_{name}") for name in ("pipe", "receive", "transmit")
        )
        self.fenced, self.stale = Signal(), Signal()
        self.go = Signal()
        self.operation: Any = Signal(VectorOperation())
        self.is_vector, self.is_pipe, self.is_receive, self.is_transmit = (
            Signal(name=f"is_{name}") for name in ("vector", "pipe", "receive", "transmit")
        )
        # The vector instruction is accepted; the scalar one completes.
        self.accepted, self.completes = Signal(), Signal()

        # Ramp: who sends in this cycle, SEND's data, TAKE's pop, and the color of both.
        self.send = Signal()
        self.can_send = Signal()
        self.sent = Signal(32)
        self.take = Signal()
        self.sends_pipe = Signal()
        self.transmitted = Signal()
        self.color, self.color_bit = Signal(COLOR_BITS), Signal(colors)
        self.no_credit = Signal()
        self.no_wavelet = Signal()

        # An instruction does not complete in this cycle.
        self.waits = Signal()
