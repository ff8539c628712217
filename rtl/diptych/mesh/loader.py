# SPDX-License-Identifier: BSD-2-Clause
"""Loader of a tile: executes the load packets that arrive through the fabric."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, Signature

from .fabric import COLOR_BITS, DATA_BITS, Load, Route
from .isa import INSTRUCTION_WORDS, REGISTERS, TASKS
from .route_table import RouteWrite
from .sram import WritePort

__all__ = ["TASK_BITS", "Activation", "Loader", "ProgramWrite", "RegisterWrite", "TaskWrite"]

REGISTER_BITS = (REGISTERS - 1).bit_length()
TASK_BITS = (TASKS - 1).bit_length()


class ProgramWrite(Signature):
    """Writes a word of an instruction of the program memory.

    Members
    -------
    valid, address, word, data : :py:`Out(1)`, :py:`Out(16)`, :py:`Out(3)`, :py:`Out(32)`
        Writes word ``word`` of instruction ``address``.
    """

    def __init__(self) -> None:
        super().__init__(
            {"valid": Out(1), "address": Out(16), "word": Out(3), "data": Out(DATA_BITS)}
        )


class RegisterWrite(Signature):
    """Writes a register of the core.

    Members
    -------
    valid, address, data : :py:`Out(1)`, :py:`Out(REGISTER_BITS)`, :py:`Out(32)`
        Writes register ``address``.
    ready : :py:`In(1)`
        The write is granted.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "address": Out(REGISTER_BITS),
                "data": Out(DATA_BITS),
                "ready": In(1),
            }
        )


class TaskWrite(Signature):
    """Writes an entry of the task table.

    Members
    -------
    valid, address, data : :py:`Out(1)`, :py:`Out(TASK_BITS)`, :py:`Out(32)`
        Writes the entry of task ``address``, in the format of :attr:`.Load.TASK`.
    """

    def __init__(self) -> None:
        super().__init__({"valid": Out(1), "address": Out(TASK_BITS), "data": Out(DATA_BITS)})


class Activation(Signature):
    """Activates, blocks or unblocks a task.

    Members
    -------
    valid, task : :py:`Out(1)`, :py:`Out(TASK_BITS)`
        The task.
    """

    def __init__(self) -> None:
        super().__init__({"valid": Out(1), "task": Out(TASK_BITS)})


class Loader(wiring.Component):
    """Executes the load packets (:class:`.Load`) whose columns include this tile's.

    A word per cycle, except 4 cycles for each word of a BYTES packet and the cycles in which the
    SRAM or the registers do not take a write.

    Members
    -------
    i : :py:`In(stream.Signature(32))`
        Words of load packets.
    column : :py:`In(16)`
        Column of the tile; constant once the first packet arrives.
    sram_write : :py:`Out(WritePort())`
        Writes the SRAM; both halves of a word are alike.
    unsettled : :py:`In(1)`
        Words that it has written are not in the SRAM yet: no task is activated before they are.
    program_write, register_write : :py:`Out(ProgramWrite())`, :py:`Out(RegisterWrite())`
        Writes the program memory, without backpressure, as the next ones; and the registers.
    task_write, activation : :py:`Out(TaskWrite())`, :py:`Out(Activation())`
        Writes the task table, and activates a task.
    route_write : :py:`Out(RouteWrite())`
        Writes a route of the router.
    """

    i: stream.Interface
    column: Signal
    sram_write: Any
    unsettled: Signal
    program_write: Any
    register_write: Any
    task_write: Any
    activation: Any
    route_write: Any

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(DATA_BITS)),
                "column": In(16),
                "sram_write": Out(WritePort()),
                "unsettled": In(1),
                "program_write": Out(ProgramWrite()),
                "register_write": Out(RegisterWrite()),
                "task_write": Out(TaskWrite()),
                "activation": Out(Activation()),
                "route_write": Out(RouteWrite()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word = self.i.payload

        kind = Signal(Load)
        step = Signal(12)
        left = Signal(16)
        # None is left; one is.
        none, last = Signal(), Signal()
        mine = Signal()
        address = Signal(32)
        part = Signal(3)

        with m.FSM():
            with m.State("kind"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [
                        Cat(kind.as_value(), step, left).eq(word),
                        none.eq(word[16:] == 0),
                        last.eq(word[16:] == 1),
                    ]
                    m.next = "columns"
            with m.State("columns"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += mine.eq(~((self.column < word[:16]) | (word[16:] < self.column)))
                    m.next = "address"
            with m.State("address"):
                activates = mine & (kind == Load.ACTIVATE) & none
                m.d.comb += self.i.ready.eq(~activates | ~self.unsettled)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += [address.eq(word), part.eq(0)]
                    m.d.comb += [self.activation.valid.eq(activates), self.activation.task.eq(word)]
                    m.next = "payload"
                    with m.If(none):
                        m.next = "kind"
            with m.State("payload"):
                self._payload(m, kind, step, last, mine, address, part)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += [left.eq(left - 1), last.eq(left == 2)]
                    with m.If(last):
                        m.next = "kind"
        return m

    def _payload(
        self,
        m: Module,
        kind: Any,
        step: Signal,
        last: Signal,
        mine: Signal,
        address: Signal,
        part: Signal,
    ) -> None:
        word = self.i.payload
        valid = Signal()
        m.d.comb += [
            valid.eq(self.i.valid & mine),
            self.sram_write.address.eq(address[3:]),
            self.program_write.address.eq(address),
            self.program_write.word.eq(part),
            self.program_write.data.eq(word),
            self.register_write.data.eq(word),
            self.register_write.address.eq(Mux(kind == Load.ACTIVATE, 1, address)),
            self.task_write.address.eq(address),
            self.task_write.data.eq(word),
            self.activation.task.eq(address),
            self.route_write.color.eq(address),
            self.route_write.position.eq(address[COLOR_BITS:]),
            self.route_write.route.eq(word[: Route().size]),
        ]
        # Unless stated otherwise a word takes one cycle; packets of other columns are skipped.
        m.d.comb += self.i.ready.eq(1)
        with m.Switch(kind):
            with m.Case(Load.WORDS):
                m.d.comb += [
                    self.sram_write.valid.eq(valid),
                    self.sram_write.data.eq(Cat(word, word)),
                    self.sram_write.mask.eq(Mux(address[2], 0xF0, 0x0F)),
                    self.i.ready.eq(~mine | self.sram_write.ready),
                ]
                with m.If(valid & self.i.ready):
                    m.d.sync += address.eq(address + 4)
            with m.Case(Load.BYTES):
                byte = Signal(8)
                m.d.comb += [
                    byte.eq(word.word_select(part[:2], 8)),
                    self.sram_write.valid.eq(valid),
                    self.sram_write.data.eq(Cat(byte for _ in range(8))),
                    self.sram_write.mask.eq(1 << address[:3]),
                    self.i.ready.eq(~mine | (self.sram_write.ready & (part == 3))),
                ]
                with m.If(valid & self.sram_write.ready):
                    m.d.sync += [address.eq(address + step), part.eq(Mux(part == 3, 0, part + 1))]
            with m.Case(Load.PROGRAM):
                m.d.comb += self.program_write.valid.eq(valid)
                with m.If(valid):
                    m.d.sync += part.eq(part + 1)
                    with m.If(part == INSTRUCTION_WORDS - 1):
                        m.d.sync += [part.eq(0), address.eq(address + 1)]
            with m.Case(Load.ROUTE):
                m.d.comb += self.route_write.valid.eq(valid)
                m.d.sync += address.eq(address + valid)
            with m.Case(Load.REGISTER):
                m.d.comb += [
                    self.register_write.valid.eq(valid),
                    self.i.ready.eq(~mine | self.register_write.ready),
                ]
                m.d.sync += address.eq(address + (valid & self.i.ready))
            with m.Case(Load.TASK):
                m.d.comb += self.task_write.valid.eq(valid)
                m.d.sync += address.eq(address + valid)
            with m.Case(Load.ACTIVATE):
                # The first word is the argument; the task starts when it has been written.
                m.d.comb += [
                    self.register_write.valid.eq(valid & ~part[0] & ~self.unsettled),
                    self.i.ready.eq(
                        ~mine | (~self.unsettled & (part[0] | self.register_write.ready))
                    ),
                    self.activation.valid.eq(valid & self.i.ready & last),
                ]
                m.d.sync += part.eq(part | (valid & self.i.ready))
