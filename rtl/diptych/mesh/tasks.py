# SPDX-License-Identifier: BSD-2-Clause
"""Task scheduler of a tile."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .isa import TASKS
from .loader import TASK_BITS, Activation, TaskWrite

__all__ = ["TaskScheduler"]


class TaskScheduler(wiring.Component):
    """Holds the task table, and selects the task that runs next.

    A task is ready when it is active, or when a wavelet of the color that it is bound to waits (a
    control wavelet, for a control task; any other, for a data task), unless it is blocked. The
    lowest-numbered ready task starts. Writing an entry makes the task inactive.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.

    Members
    -------
    write : :py:`In(TaskWrite())`
        Writes an entry of the table.
    load_activation, activate, block, unblock : :py:`In(Activation())`
        Activates a task (from the loader, from an instruction), blocks it, unblocks it.
    waiting, controls : :py:`In(colors)`
        A bit per color: a wavelet is in the buffer; it is a control wavelet. Calls a task in the
        next cycle.
    ready, task, pc : :py:`Out(1)`, :py:`Out(3)`, :py:`Out(16)`
        A task is ready; its number; its first instruction.
    start : :py:`In(1)`
        The selected task starts, and becomes inactive.
    """

    write: Any
    load_activation: Any
    activate: Any
    block: Any
    unblock: Any
    waiting: Signal
    controls: Signal
    ready: Signal
    task: Signal
    pc: Signal
    start: Signal

    def __init__(self, *, colors: int) -> None:
        super().__init__(
            {
                "write": In(TaskWrite()),
                "load_activation": In(Activation()),
                "activate": In(Activation()),
                "block": In(Activation()),
                "unblock": In(Activation()),
                "waiting": In(colors),
                "controls": In(colors),
                "ready": Out(1),
                "task": Out(TASK_BITS),
                "pc": Out(16),
                "start": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        def mask(port: Any) -> Signal:
            bits = Signal(TASKS, name="bits")
            m.d.comb += bits.eq(Mux(port.valid, 1 << port.task, 0))
            return bits

        active = Signal(TASKS)
        blocked = Signal(TASKS)
        bound = Signal(TASKS)
        by_control = Signal(TASKS)
        starts = [Signal(16, name=f"pc_{task}") for task in range(TASKS)]
        colors = [Signal(5, name=f"color_{task}") for task in range(TASKS)]

        ready = Signal(TASKS)
        first = Signal(TASKS)
        called = Signal(TASKS)
        calls = [self.waiting & ~self.controls, self.waiting & self.controls]
        for task in range(TASKS):
            call = Mux(by_control[task], calls[1], calls[0]).bit_select(colors[task], 1)
            m.d.sync += called[task].eq(bound[task] & call)
        m.d.comb += [
            ready.eq((active | called) & ~blocked),
            first.eq(ready & (~ready + 1)),
            self.ready.eq(ready.any()),
        ]
        for task in range(TASKS):
            with m.If(first[task]):
                m.d.comb += [self.pc.eq(starts[task]), self.task.eq(task)]

        set_active = mask(self.activate) | mask(self.load_activation)
        m.d.sync += [
            active.eq((active & ~Mux(self.start, first, 0)) | set_active),
            blocked.eq((blocked | mask(self.block)) & ~mask(self.unblock)),
        ]
        with m.If(self.write.valid), m.Switch(self.write.address):
            for task in range(TASKS):
                with m.Case(task):
                    entry = self.write.data
                    m.d.sync += [
                        starts[task].eq(entry[:16]),
                        blocked[task].eq(entry[16]),
                        bound[task].eq(entry[17]),
                        colors[task].eq(entry[18:23]),
                        by_control[task].eq(entry[23]),
                        active[task].eq(0),
                        called[task].eq(0),
                    ]
        return m
