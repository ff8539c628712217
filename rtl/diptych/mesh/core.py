# SPDX-License-Identifier: BSD-2-Clause
"""The core of a tile: what runs programs."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.functions import Function as ScaleFunctions
from diptych.arith.functions import ScaleFunction
from diptych.arith.scale import ScaleWord, combine
from diptych.config import DEFAULTS

from .color_buffers import ColorBuffers
from .credits import Credits
from .fabric import COLOR_BITS, LOAD_COLOR, LinkSignature
from .isa import (
    INSTRUCTION_WORDS,
    RECEIVED_MAXIMUM,
    RECEIVED_SQUARES,
    REGISTERS,
    STATISTIC,
    Function,
    Instruction,
    Op,
    Tail,
)
from .loader import TASK_BITS, Loader
from .operation import Operation
from .receiver import Receiver
from .router import RouteWrite
from .sram import Sram
from .tasks import Tasks
from .transmitter import Transmitter
from .vector_pipe import VectorPipe
from .waits import Wait

__all__ = ["CAUSES", "Core"]

CAUSES = (
    "computing",
    "bank_conflict",
    "backpressure",
    "issuing",
    "draining",
    "waiting_receive",
    "idle",
)
"""What a cycle of a tile goes to, the first that applies: the vector pipe takes a step, lacks
operands, or results (or what TRANSMIT sends) cannot be sent; an instruction issues; the program waits for the vector pipe's
last results, or for wavelets; there is no program to run."""


SCALE_FUNCTIONS = {
    Function.RECIPROCAL: ScaleFunctions.RECIPROCAL,
    Function.RSQRT: ScaleFunctions.RSQRT,
    Function.TO_SCALE: ScaleFunctions.TO_SCALE,
}


class Core(wiring.Component):
    """Runs tasks: instructions of :mod:`.isa`, in order.

    A scalar instruction takes a cycle, and its successor follows at once, also after a branch;
    LOAD takes 2 and scale functions 4. A vector instruction takes a cycle to issue when its
    engine is free.

    Parameters
    ----------
    colors : :class:`int`
        Number of colors.
    sram_bytes : :class:`int`
        Size of the SRAM.
    program_depth : :class:`int`
        Size of the program memory in instructions.

    Members
    -------
    ramp_i, ramp_o : :py:`In(LinkSignature(colors))`, :py:`Out(LinkSignature(colors))`
        From and to the router.
    column : :py:`In(16)`
        The tile's place in its row.
    route_write : :py:`Out(RouteWrite())`
        To the router.
    count_computing, ... : :py:`Out(32)`
        Cycles by cause (:data:`CAUSES`); their sum is the number of cycles since reset.
    count_macs, count_instructions, count_sram_read, count_sram_write : :py:`Out(32)`
        Multiplications, instructions, bytes.
    """

    ramp_i: Any
    ramp_o: Any
    column: Signal
    route_write: Any
    count_instructions: Signal
    count_macs: Signal
    count_sram_read: Signal
    count_sram_write: Signal

    def __init__(
        self,
        *,
        colors: int = DEFAULTS.colors,
        sram_bytes: int = DEFAULTS.sram_bytes,
        program_depth: int = DEFAULTS.program_depth,
    ) -> None:
        self.colors = colors
        self.sram_bytes = sram_bytes
        self.program_depth = program_depth
        counters = [*CAUSES, "macs", "instructions", "sram_read", "sram_write"]
        super().__init__(
            {
                "ramp_i": In(LinkSignature(colors)),
                "ramp_o": Out(LinkSignature(colors)),
                "column": In(16),
                "route_write": Out(RouteWrite()),
                **{f"count_{name}": Out(32) for name in counters},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        colors = self.colors
        m.submodules.buffers = buffers = ColorBuffers(colors=colors)
        m.submodules.credits = credits = Credits(colors=colors)
        m.submodules.loader = loader = Loader()
        sram: Any = Sram(size=self.sram_bytes)
        m.submodules.sram = sram
        m.submodules.tasks = tasks = Tasks(colors=colors)
        m.submodules.pipe = pipe = VectorPipe()
        m.submodules.receiver = receiver = Receiver(colors=colors)
        m.submodules.transmitter = transmitter = Transmitter()
        m.submodules.scale_function = scale = ScaleFunction()

        wiring.connect(m, buffers.link, wiring.flipped(self.ramp_i))
        wiring.connect(m, loader.sram_write, sram.loader_write)
        wiring.connect(m, pipe.read_a, sram.pipe_a)
        wiring.connect(m, pipe.read_b, sram.pipe_b)
        wiring.connect(m, pipe.write, sram.pipe_write)
        wiring.connect(m, receiver.read, sram.receiver)
        wiring.connect(m, transmitter.read, sram.transmitter)
        wiring.connect(m, receiver.write, sram.receiver_write)
        wiring.connect(m, loader.task_write, tasks.write)
        wiring.connect(m, loader.activation, tasks.load_activation)
        wiring.connect(m, loader.route_write, wiring.flipped(self.route_write))
        heads = Array(getattr(buffers, f"head_{k}").data for k in range(colors))
        load_head = getattr(buffers, f"head_{LOAD_COLOR}")
        m.d.comb += [
            loader.column.eq(self.column),
            loader.i.valid.eq(buffers.waiting[LOAD_COLOR]),
            loader.i.payload.eq(load_head.data),
            receiver.waiting.eq(buffers.waiting),
            receiver.write_waits.eq(pipe.write_waits),
            receiver.value.eq(heads[receiver.color]),
            pipe.waiting.eq(buffers.waiting.bit_select(pipe.color, 1)),
            tasks.waiting.eq(buffers.waiting),
            tasks.controls.eq(Cat(getattr(buffers, f"head_{k}").control for k in range(colors))),
        ]

        with m.If(pipe.asks):
            m.d.comb += pipe.value.eq(heads[pipe.color])

        # --- program ---
        m.submodules.program = program = memory.Memory(
            shape=unsigned(32 * INSTRUCTION_WORDS), depth=self.program_depth, init=[]
        )
        program_write = program.write_port(granularity=32)
        fetch = program.read_port()
        instruction = Signal(Instruction())
        tail = Signal(Tail())
        running = Signal(name="watch_running")
        task = Signal(TASK_BITS, name="watch_task")
        pc = Signal(16, name="watch_pc")
        next_pc = Signal(16)
        done = Signal()
        ends = Signal()
        m.d.comb += [
            program_write.addr.eq(loader.program_write.address),
            program_write.data.eq(loader.program_write.data.replicate(INSTRUCTION_WORDS)),
            program_write.en.eq(Mux(loader.program_write.valid, 1 << loader.program_write.word, 0)),
            instruction.eq(fetch.data),
            tail.eq(instruction.tail),
            next_pc.eq(pc + 1),
            fetch.addr.eq(next_pc),
            fetch.en.eq(done & ~ends),
        ]
        with m.If(done):
            m.d.sync += [pc.eq(next_pc), self.count_instructions.eq(self.count_instructions + 1)]
        with m.If(ends):
            m.d.sync += running.eq(0)
        with m.If(~running & tasks.ready):
            m.d.comb += [tasks.start.eq(1), fetch.addr.eq(tasks.pc), fetch.en.eq(1)]
            m.d.sync += [running.eq(1), pc.eq(tasks.pc), task.eq(tasks.task)]

        # --- registers ---
        stored = [Signal(32, name=f"register_{n}") for n in range(1, REGISTERS)]
        registers = Array([Const(0, 32), *stored])
        result = Signal(32)
        writes = Signal()
        with m.If(receiver.done):
            m.d.sync += stored[RECEIVED_MAXIMUM - 1].eq(receiver.maximum)
            with m.If(receiver.has_squares):
                m.d.sync += stored[RECEIVED_SQUARES - 1].eq(receiver.squares)
        with m.If(pipe.statistic_valid):
            m.d.sync += stored[STATISTIC - 1].eq(pipe.statistic)
        with m.If(loader.register_write.valid):
            self._write(m, stored, loader.register_write.address, loader.register_write.data)
        with m.If(writes):
            self._write(m, stored, instruction.d_reg, result)

        a, b, chosen = Signal(32), Signal(32), Signal(32)
        with m.If(running):
            m.d.comb += [
                a.eq(registers[instruction.a_reg]),
                b.eq(registers[instruction.b_reg]),
                chosen.eq(registers[instruction.dynamic]),
            ]

        # --- issue ---
        fenced = Signal()
        go = Signal()
        m.d.comb += [
            fenced.eq(
                (instruction.fence_pipe & pipe.busy)
                | (instruction.fence_receive & receiver.busy)
                | (instruction.fence_transmit & transmitter.busy)
            ),
            go.eq(running & ~fenced),
        ]
        operation = Signal(Operation())
        is_vector = Signal()
        is_receive, is_transmit = Signal(), Signal()
        m.d.comb += [
            is_vector.eq(instruction.op != Op.SCALAR),
            is_receive.eq(instruction.op == Op.RECEIVE),
            is_transmit.eq(instruction.op == Op.TRANSMIT),
            pipe.i.payload.eq(operation),
            receiver.i.payload.eq(operation),
            transmitter.i.payload.eq(operation),
        ]
        with m.If(go & is_vector):
            m.d.comb += [
                operation.op.eq(instruction.op),
                operation.a.eq(instruction.a_base + a),
                operation.b.eq(instruction.b_base + b),
                operation.d.eq(instruction.d_base + registers[instruction.d_reg]),
                operation.stride.eq(instruction.stride),
                operation.count.eq(instruction.count + registers[tail.count_reg]),
                operation.inner.eq(instruction.inner + registers[tail.inner_reg]),
                operation.scalar.eq(b),
                operation.offset.eq(a),
                operation.dynamic.eq(chosen),
                operation.control.eq(instruction.control),
                operation.tail.eq(tail),
                pipe.i.valid.eq(~is_receive & ~is_transmit),
                receiver.i.valid.eq(is_receive),
                transmitter.i.valid.eq(is_transmit),
                done.eq(
                    Mux(
                        is_transmit,
                        transmitter.i.ready,
                        Mux(is_receive, receiver.i.ready, pipe.i.ready),
                    )
                ),
            ]

        # --- ramp: results of the pipe first, then SEND, then TRANSMIT ---
        send = Signal()
        take = Signal()
        sends_pipe = Signal()
        transmitted = Signal()
        color = Signal(COLOR_BITS)
        wavelet = self.ramp_o.wavelet
        m.d.comb += [
            color.eq(instruction.count),
            credits.credit.eq(self.ramp_o.credit),
            sends_pipe.eq(pipe.o.valid & credits.available.bit_select(pipe.o.payload.color, 1)),
            pipe.o.ready.eq(sends_pipe),
            transmitted.eq(
                transmitter.o.valid
                & credits.available.bit_select(transmitter.o.payload.color, 1)
                & ~sends_pipe
                & ~send
            ),
            transmitter.o.ready.eq(transmitted),
            buffers.pop.eq(
                Mux(receiver.pop, 1 << receiver.color, 0)
                | Mux(pipe.pop, 1 << pipe.color, 0)
                | Mux(take, 1 << color, 0)
                | ((loader.i.valid & loader.i.ready) << LOAD_COLOR)
            ),
        ]
        m.d.sync += self.ramp_o.valid.eq(sends_pipe | send | transmitted)
        with m.If(transmitted):
            m.d.comb += credits.send.eq(1 << transmitter.o.payload.color)
            m.d.sync += wavelet.eq(transmitter.o.payload)
        with m.If(sends_pipe):
            m.d.comb += credits.send.eq(1 << pipe.o.payload.color)
            m.d.sync += wavelet.eq(pipe.o.payload)
        with m.If(send):
            m.d.comb += credits.send.eq(1 << color)
            m.d.sync += [
                wavelet.data.eq(result),
                wavelet.color.eq(color),
                wavelet.control.eq(instruction.control),
            ]

        # --- scalar instructions ---
        imm = Signal(signed(32))
        moved = Signal(32)
        phase = Signal(2)
        no_credit = Signal()
        no_wavelet = Signal()
        m.d.comb += [
            imm.eq(instruction.tail),
            moved.eq(a + imm),
            scale.value.eq(moved),
            sram.scalar.address.eq(moved[3:]),
            sram.scalar_write.address.eq(moved[3:]),
            sram.scalar_write.data.eq(Cat(b, b)),
            sram.scalar_write.mask.eq(Mux(moved[2], 0xF0, 0x0F)),
            tasks.activate.task.eq(imm),
            tasks.block.task.eq(imm),
            tasks.unblock.task.eq(imm),
        ]
        with m.If(go & ~is_vector):
            m.d.comb += [done.eq(1), writes.eq(1)]
            with m.Switch(instruction.function):
                with m.Case(Function.END):
                    m.d.comb += [ends.eq(1), writes.eq(0)]
                with m.Case(Function.ADD):
                    m.d.comb += result.eq(moved + b)
                with m.Case(Function.SUBTRACT):
                    m.d.comb += result.eq(moved - b)
                with m.Case(Function.MULTIPLY):
                    m.d.comb += result.eq(a[:16] * imm[:16] + b)
                with m.Case(Function.AND):
                    m.d.comb += result.eq(a & (b | imm))
                with m.Case(Function.SHIFT_LEFT):
                    m.d.comb += result.eq(a << imm[:5])
                with m.Case(Function.SHIFT_RIGHT):
                    m.d.comb += result.eq(a >> imm[:5])
                with m.Case(Function.BELOW):
                    m.d.comb += result.eq(a < (b + imm)[:32])
                with m.Case(Function.SELECT):
                    m.d.comb += result.eq(Mux(chosen.any(), moved, b))
                with m.Case(Function.LOAD):
                    m.d.comb += [
                        sram.scalar.valid.eq(phase == 0),
                        done.eq(phase == 1),
                        writes.eq(done),
                        result.eq(sram.scalar.data.word_select(moved[2], 32)),
                    ]
                    m.d.sync += phase.eq((phase == 0) & sram.scalar.ready)
                with m.Case(Function.STORE):
                    m.d.comb += [
                        sram.scalar_write.valid.eq(1),
                        done.eq(sram.scalar_write.ready),
                        writes.eq(0),
                    ]
                for function, select in SCALE_FUNCTIONS.items():
                    with m.Case(function):
                        m.d.comb += [
                            scale.enable.eq(1),
                            scale.select.eq(select),
                            done.eq(phase == ScaleFunction.latency),
                            writes.eq(done),
                            result.eq(scale.word.as_value()),
                        ]
                        m.d.sync += phase.eq(Mux(done, 0, phase + 1))
                with m.Case(Function.COMBINE):
                    word = combine(m, data.View(ScaleWord, a[:22]), data.View(ScaleWord, b[:22]))
                    m.d.comb += result.eq(word.as_value())
                with m.Case(Function.SEND):
                    m.d.comb += [
                        result.eq(moved),
                        writes.eq(0),
                        no_credit.eq(~credits.available.bit_select(color, 1)),
                        send.eq(~pipe.busy & ~no_credit),
                        done.eq(send),
                    ]
                with m.Case(Function.TAKE):
                    m.d.comb += [
                        result.eq(heads[color]),
                        no_wavelet.eq(~buffers.waiting.bit_select(color, 1)),
                        take.eq(~no_wavelet),
                        done.eq(take),
                        writes.eq(take),
                    ]
                with m.Case(Function.BRANCH):
                    m.d.comb += writes.eq(0)
                    with m.If(a.any()):
                        m.d.comb += next_pc.eq(imm)
                with m.Case(Function.ACTIVATE):
                    m.d.comb += [tasks.activate.valid.eq(1), writes.eq(0)]
                with m.Case(Function.BLOCK):
                    m.d.comb += [tasks.block.valid.eq(1), writes.eq(0)]
                with m.Case(Function.UNBLOCK):
                    m.d.comb += [tasks.unblock.valid.eq(1), writes.eq(0)]

        # --- counters ---
        waits = Signal()
        m.d.comb += waits.eq(running & ~done)
        with m.If(pipe.steps):
            self._count(m, "computing")
        with m.Elif(pipe.starved):
            self._count(m, "bank_conflict")
        with m.Elif(pipe.blocked | (no_credit & ~pipe.busy)):
            self._count(m, "backpressure")
        with m.Elif(pipe.unfed):
            self._count(m, "waiting_receive")
        with m.Elif(pipe.busy & (~running | waits)):
            self._count(m, "draining")
        with m.Elif(waits & (is_transmit | (instruction.fence_transmit & transmitter.busy))):
            self._count(m, "backpressure")
        with m.Elif(no_wavelet | (waits & fenced) | (waits & is_receive)):
            self._count(m, "waiting_receive")
        with m.Elif(~running & ~tasks.ready):
            self._count(m, "idle")
        with m.Else():
            self._count(m, "issuing")
        with m.If(pipe.macs.any()):
            m.d.sync += self.count_macs.eq(self.count_macs + pipe.macs)
        m.d.comb += [
            self.count_sram_read.eq(sram.count_sram_read),
            self.count_sram_write.eq(sram.count_sram_write),
        ]

        # --- what it waits for ---
        busy = Signal(name="watch_busy")
        waits_for = Signal(Wait, name="watch_wait")
        waits_color = Signal(COLOR_BITS, name="watch_color")
        m.d.sync += [
            busy.eq(running | tasks.ready | pipe.busy | receiver.busy | transmitter.busy),
            waits_for.eq(Wait.NOTHING),
            waits_color.eq(color),
        ]
        with m.If(pipe.o.valid & ~sends_pipe):
            m.d.sync += [waits_for.eq(Wait.CREDIT), waits_color.eq(pipe.o.payload.color)]
        with m.Elif(no_credit & ~pipe.busy):
            m.d.sync += waits_for.eq(Wait.CREDIT)
        with m.Elif(pipe.unfed):
            m.d.sync += [waits_for.eq(Wait.WAVELET), waits_color.eq(pipe.color)]
        with m.Elif(no_wavelet):
            m.d.sync += waits_for.eq(Wait.WAVELET)
        with m.Elif(
            (waits & (is_receive | (instruction.fence_receive & receiver.busy)))
            | (~running & receiver.busy)
        ):
            m.d.sync += [waits_for.eq(Wait.RECEIVE), waits_color.eq(receiver.color)]
        with m.Elif(transmitter.o.valid & ~transmitted & (waits | ~running)):
            m.d.sync += [waits_for.eq(Wait.CREDIT), waits_color.eq(transmitter.o.payload.color)]
        with m.Elif(waits | (~running & pipe.busy)):
            m.d.sync += waits_for.eq(Wait.PIPE)
        with m.Elif(~running & ~tasks.ready):
            m.d.sync += waits_for.eq(Wait.TASK)
        return m

    def _count(self, m: Module, name: str) -> None:
        counter = getattr(self, f"count_{name}")
        m.d.sync += counter.eq(counter + 1)

    @staticmethod
    def _write(m: Module, stored: list[Signal], number: Any, value: Signal) -> None:
        with m.Switch(number):
            for index, register in enumerate(stored, start=1):
                with m.Case(index):
                    m.d.sync += register.eq(value)
