# SPDX-License-Identifier: BSD-2-Clause
"""The core of a tile: fetches, issues and executes the instructions of tasks."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.one_hot import encode, select
from diptych.config import DEFAULTS
from diptych.stream_buffer import StreamBuffer

from .core_monitor import count_cycles, watch_waits
from .core_signals import CoreSignals
from .fabric import COLOR_BITS, DATA_BITS, LOAD_COLOR, LinkSignature, Wavelet
from .isa import INSTRUCTION_WORDS, RECEIVED_MAXIMUM, STATISTIC, Op, Tail
from .register_file import OPERANDS
from .route_table import RouteWrite
from .scalar_instructions import execute_scalar
from .sram import WORD_ADDRESS_BITS
from .word_queue import WordQueue

__all__ = ["CAUSES", "CORE_COUNTERS", "Core"]

CAUSES = (
    "computing",
    "bank_conflict",
    "backpressure",
    "issuing",
    "draining",
    "waiting_receive",
    "idle",
)
"""Causes of a tile's cycle: the vector pipe executes a step; it lacks operands; a result (or a word
of TRANSMIT) cannot be sent; an instruction issues; the program waits for the last results of the
vector pipe; it waits for wavelets; no task runs."""
CORE_COUNTERS = (*CAUSES, "macs", "instructions", "sram_read", "sram_write")
"""Names of the core's counters, each a register ``count_<name>``."""


RECEIVER, PIPE, LOADER = range(3)
"""Readers of the wavelets that arrive; TAKE shares one with the vector pipe."""


class LoadedWord(data.StructLayout):
    """A write of the loader: word address, either half of the word, bytes."""

    def __init__(self) -> None:
        super().__init__({"address": WORD_ADDRESS_BITS, "data": DATA_BITS, "mask": 8})


class Core(wiring.Component):
    """Runs tasks: instructions of :mod:`.isa`, in order.

    An instruction is fetched in one cycle, reads its registers in the next, and executes in the
    third. A scalar instruction takes a cycle, MULTIPLY and COMBINE 2, STORE 3, LOAD, TAKE and
    scale functions 4 (5 with an immediate); its successor follows at once, or a cycle later after a
    branch that is taken, or if it reads a register that an engine writes and need not wait for a
    fence. A vector instruction takes a cycle to issue when its engine has room. One
    for the vector pipe waits there for its fences, unless it reads a register that an engine
    writes.

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
        Links from and to the router.
    column : :py:`In(16)`
        Column of the tile.
    route_write : :py:`Out(RouteWrite())`
        Writes a route of the router.
    count_computing, count_bank_conflict, count_backpressure, count_issuing : :py:`Out(32)`
        Cycles by cause (:data:`CAUSES`); the sum over all causes is the number of cycles since
        reset.
    count_draining, count_waiting_receive, count_idle : :py:`Out(32)`
        The other causes.
    count_macs, count_instructions, count_sram_read, count_sram_write : :py:`Out(32)`
        Products, instructions completed, bytes read and written.
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
        super().__init__(
            {
                "ramp_i": In(LinkSignature(colors)),
                "ramp_o": Out(LinkSignature(colors)),
                "column": In(16),
                "route_write": Out(RouteWrite()),
                **{f"count_{name}": Out(32) for name in CORE_COUNTERS},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = CoreSignals(colors=self.colors, sram_bytes=self.sram_bytes)
        self._connect(m, s)
        self._fetch(m, s)
        self._read_and_write_registers(m, s)
        self._issue(m, s)
        self._send_to_ramp(m, s)
        execute_scalar(m, s)
        count_cycles(m, self, s)
        watch_waits(m, s)
        return m

    def _connect(self, m: Module, s: CoreSignals) -> None:
        """Connect the blocks to the SRAM, the loader and the buffers of arriving wavelets."""
        m.submodules.buffers = s.buffers
        m.submodules.credits = s.credits
        m.submodules.loader = s.loader
        m.submodules.sram = s.sram
        m.submodules.tasks = s.tasks
        m.submodules.pipe = s.pipe
        m.submodules.receiver = s.receiver
        m.submodules.transmitter = s.transmitter
        m.submodules.scale_function = s.scale
        wiring.connect(m, s.buffers.link, wiring.flipped(self.ramp_i))
        wiring.connect(m, s.pipe.read_a, s.sram.pipe_a)
        wiring.connect(m, s.pipe.read_b, s.sram.pipe_b)
        wiring.connect(m, s.pipe.write, s.sram.pipe_write)
        wiring.connect(m, s.receiver.read, s.sram.receiver)
        wiring.connect(m, s.transmitter.read, s.sram.transmitter)
        wiring.connect(m, s.receiver.write, s.sram.receiver_write)
        wiring.connect(m, s.loader.task_write, s.tasks.write)
        m.d.comb += [
            s.loader.column.eq(self.column),
            s.waiting.eq(s.buffers.held | s.buffers.link.announced),
            s.receiver.waiting.eq(s.waiting),
            s.receiver.value.eq(s.buffers.head[RECEIVER]),
            s.receiver.write_waits.eq(s.pipe.write_waits),
            s.pipe.receives.eq(s.receiver.unfinished),
            s.pipe.received.eq(s.receiver.finishes),
            s.pipe.untaken.eq(s.receiver.untaken),
            s.pipe.takes_last.eq(s.receiver.takes_last),
            s.pipe.transmitting.eq(s.transmitter.busy),
            s.pipe.waiting.eq(s.waiting),
            s.pipe.overtaken.eq(s.take),
            s.pipe.value.eq(s.buffers.head[PIPE]),
            s.tasks.waiting.eq(s.buffers.held),
            s.tasks.controls.eq(s.buffers.controls),
            s.buffers.pop[RECEIVER].eq(s.receiver.pop),
            s.buffers.pop[PIPE].eq(s.pipe.pop | Mux(s.take, s.color_bit, 0)),
        ]
        self._load(m, s)

    def _load(self, m: Module, s: CoreSignals) -> None:
        """Pass words of load packets to the loader; those that it does not accept are kept."""
        m.submodules.load_words = words = WordQueue(depth=4)
        pops = s.waiting[LOAD_COLOR] & words.room
        m.d.comb += [
            words.popped.eq(pops),
            s.buffers.pop[LOADER].eq(Mux(pops, 1 << LOAD_COLOR, 0)),
            words.word.eq(s.buffers.head[LOADER]),
            s.loader.i.valid.eq(words.valid),
            s.loader.i.payload.eq(words.oldest),
            words.take.eq(words.valid & s.loader.i.ready),
        ]

        # What a packet does is known late: routes and tasks follow it by a cycle.
        for source, target in (
            (s.loader.activation, s.tasks.load_activation),
            (s.loader.route_write, self.route_write),
        ):
            for name in source.signature.members:
                m.d.sync += Value.cast(getattr(target, name)).eq(getattr(source, name))

        # The loader is the last to write: what it waits for is known late.
        m.submodules.load_writes = writes = StreamBuffer(LoadedWord())
        stored, granted = s.loader.sram_write, s.sram.loader_write
        m.d.comb += [
            writes.i.valid.eq(stored.valid),
            writes.i.payload.address.eq(stored.address),
            # Both halves of its words are alike.
            writes.i.payload.data.eq(stored.data),
            writes.i.payload.mask.eq(stored.mask),
            stored.ready.eq(writes.i.ready),
            s.loader.unsettled.eq(writes.o.valid),
            granted.valid.eq(writes.o.valid),
            granted.address.eq(writes.o.payload.address),
            granted.data.eq(writes.o.payload.data.replicate(2)),
            granted.mask.eq(writes.o.payload.mask),
            writes.o.ready.eq(granted.ready),
        ]

    def _fetch(self, m: Module, s: CoreSignals) -> None:
        """Fetch instructions one ahead, or the first of a ready task."""
        # What runs is not loaded meanwhile: synthesis need not care for a read beside a write.
        attributes: Any = {"no_rw_check": 1}
        m.submodules.program = program = memory.Memory(
            shape=unsigned(32 * INSTRUCTION_WORDS),
            depth=self.program_depth,
            init=[],
            attrs=attributes,
        )
        program_write = program.write_port(granularity=32)
        fetch = program.read_port()
        goes_on, next_pc = Signal(), Signal(16)
        m.d.comb += [
            program_write.addr.eq(s.loader.program_write.address),
            program_write.data.eq(s.loader.program_write.data.replicate(INSTRUCTION_WORDS)),
            program_write.en.eq(
                Mux(s.loader.program_write.valid, 1 << s.loader.program_write.word, 0)
            ),
            s.coming.eq(fetch.data),
            s.tail.eq(s.instruction.tail),
            s.tasks.start.eq(~s.running & s.tasks.ready),
            goes_on.eq(s.done & ~s.ends & ~s.branches),
            s.moves.eq(s.fetched & (~s.executing | goes_on)),
            s.advances.eq(~s.executing | s.done),
            next_pc.eq(s.fetched_pc + 1),
            fetch.en.eq(s.moves | s.branches | s.tasks.start),
            fetch.addr.eq(next_pc),
        ]
        with m.If(s.done):
            m.d.sync += [
                s.executing.eq(0),
                self.count_instructions.eq(self.count_instructions + 1),
            ]
        with m.If(s.moves):
            m.d.sync += [s.executing.eq(1), s.pc.eq(s.fetched_pc), s.fetched_pc.eq(next_pc)]
        with m.If(s.advances):
            m.d.sync += [
                s.instruction.eq(s.coming),
                s.color_bit.eq(1 << s.coming.count[:COLOR_BITS]),
            ]
        with m.If(s.branches):
            m.d.comb += fetch.addr.eq(s.tail)
            m.d.sync += s.fetched_pc.eq(s.tail)
        with m.If(s.ends):
            m.d.sync += [s.running.eq(0), s.fetched.eq(0)]
        with m.If(s.tasks.start):
            m.d.comb += fetch.addr.eq(s.tasks.pc)
            m.d.sync += [
                s.running.eq(1),
                s.fetched.eq(1),
                s.fetched_pc.eq(s.tasks.pc),
                s.task.eq(s.tasks.task),
            ]

    def _read_and_write_registers(self, m: Module, s: CoreSignals) -> None:
        """Read the operands of the next instruction; write results, statistics, loaded values."""
        m.submodules.registers = registers = s.registers
        coming: Any = s.coming
        tail = data.View(Tail(), coming.tail)
        m.d.comb += [
            registers.load.eq(s.advances),
            registers.number["a"].eq(coming.a_reg),
            registers.number["b"].eq(coming.b_reg),
            registers.number["dynamic"].eq(coming.dynamic),
            registers.number["d"].eq(coming.d_reg),
            registers.number["count"].eq(tail.count_reg),
            registers.number["inner"].eq(tail.inner_reg),
            registers.write.eq(s.writes),
            registers.target.eq(s.instruction.d_reg),
            registers.data.eq(s.result),
            s.loader.register_write.ready.eq(registers.load_ready),
            registers.loads.eq(s.loader.register_write.valid),
            registers.load_target.eq(s.loader.register_write.address),
            registers.load_data.eq(s.loader.register_write.data),
            registers.engine_write[STATISTIC].eq(s.pipe.statistic_valid),
            registers.engine_data[STATISTIC].eq(s.pipe.statistic),
            registers.engine_write[RECEIVED_MAXIMUM].eq(s.receiver.done),
            registers.engine_data[RECEIVED_MAXIMUM].eq(s.receiver.maximum),
        ]

    def _issue(self, m: Module, s: CoreSignals) -> None:
        """Issue the instruction when its fences allow, a vector instruction to its engine."""
        instruction, coming = s.instruction, s.coming
        value, is_engine = s.registers.value, s.registers.is_engine
        is_pipe, is_receive, is_transmit, reads, reads_more = (
            Signal(name=f"coming_{name}")
            for name in ("pipe", "receive", "transmit", "reads_engine", "reads_more")
        )
        # Fences hold an instruction in the vector pipe's queue, unless it reads what engines write.
        coming_waits, waits_there = Signal(), Signal()
        m.d.comb += [
            is_receive.eq(coming.op == Op.RECEIVE),
            is_transmit.eq(coming.op == Op.TRANSMIT),
            is_pipe.eq((coming.op != Op.SCALAR) & ~is_receive & ~is_transmit),
            # In a scalar instruction these fields are its target and its immediate.
            reads_more.eq(
                Cat(is_engine[name] for name in OPERANDS[3:]).any() & (coming.op != Op.SCALAR)
            ),
            reads.eq(Cat(is_engine[name] for name in OPERANDS[:3]).any() | reads_more),
            coming_waits.eq(is_pipe & ~reads),
        ]
        # What an engine wrote is not among the operands in their first cycle.
        m.d.sync += s.stale.eq(s.moves & reads)
        with m.If(s.advances):
            m.d.sync += [
                s.is_vector.eq(coming.op != Op.SCALAR),
                s.is_pipe.eq(is_pipe),
                s.is_receive.eq(is_receive),
                s.is_transmit.eq(is_transmit),
                waits_there.eq(coming_waits),
                s.fence_pipe.eq(coming.fence_pipe & ~coming_waits),
                s.fence_receive.eq(coming.fence_receive & ~coming_waits),
                s.fence_transmit.eq(coming.fence_transmit & ~coming_waits),
            ]
        m.d.comb += [
            s.operation.fence_pipe.eq(instruction.fence_pipe & waits_there),
            s.operation.fence_receive.eq(instruction.fence_receive & waits_there),
            s.operation.fence_transmit.eq(instruction.fence_transmit & waits_there),
            s.fenced.eq(
                (s.fence_pipe & s.pipe.busy)
                | (s.fence_receive & s.receiver.busy)
                | (s.fence_transmit & s.transmitter.busy)
            ),
            s.go.eq(s.executing & ~s.fenced & ~s.stale),
            s.pipe.i.payload.eq(s.operation),
            s.receiver.i.payload.eq(s.operation),
            s.transmitter.i.payload.eq(s.operation),
            s.operation.op.eq(instruction.op),
            s.operation.a.eq(instruction.a_base + s.a),
            s.operation.b.eq(instruction.b_base + s.b),
            s.operation.d.eq(instruction.d_base + value["d"]),
            s.operation.stride.eq(instruction.stride),
            s.operation.count.eq(instruction.count + value["count"]),
            s.operation.inner.eq(instruction.inner + value["inner"]),
            s.operation.scalar.eq(s.b),
            s.operation.offset.eq(s.a),
            s.operation.dynamic.eq(s.chosen),
            s.operation.control.eq(instruction.control),
            s.operation.continues.eq(instruction.continues),
            s.operation.sends_statistic.eq(instruction.sends_statistic),
            s.operation.tail.eq(s.tail),
            s.pipe.i.valid.eq(s.go & s.is_pipe),
            s.receiver.i.valid.eq(s.go & s.is_receive),
            # What waits in the pipe must not wait for an instruction behind it.
            s.transmitter.i.valid.eq(s.go & s.is_transmit & ~s.pipe.holds_transmit),
            s.accepted.eq(
                (s.is_pipe & s.pipe.i.ready)
                | (s.is_receive & s.receiver.i.ready)
                | (s.is_transmit & s.transmitter.i.ready & ~s.pipe.holds_transmit)
            ),
            s.done.eq(s.go & (s.accepted | s.completes)),
        ]

    def _send_to_ramp(self, m: Module, s: CoreSignals) -> None:
        """Send a wavelet: results of the vector pipe first, then SEND, then TRANSMIT."""
        link = self.ramp_o
        sends = Signal()
        credited = Signal(self.colors)
        m.d.sync += credited.eq(s.credits.two)
        m.d.comb += [
            s.color.eq(s.instruction.count),
            s.credits.credit.eq(link.credit),
            s.credits.send.eq(link.announced),
            s.credits.control.eq(link.announced_control),
            # A control wavelet that is announced in this cycle is not counted yet.
            s.sendable.eq(credited & ~link.announced_control),
            s.sends_pipe.eq(s.pipe.o.valid & (s.sendable & s.pipe.sends_as).any()),
            s.pipe.o.ready.eq(s.sends_pipe),
            s.transmitted.eq(
                s.transmitter.o.valid
                & (s.sendable & s.transmitter.sends_as).any()
                & ~s.sends_pipe
                & ~s.send
            ),
            s.transmitter.o.ready.eq(s.transmitted),
            sends.eq(s.sends_pipe | s.send | s.transmitted),
        ]
        sent_as, sent_control = Signal(self.colors), Signal()
        m.d.comb += [sent_as.eq(s.transmitter.sends_as), sent_control.eq(0)]
        with m.If(s.sends_pipe):
            m.d.comb += [
                sent_as.eq(s.pipe.sends_as),
                sent_control.eq(s.pipe.o.payload.control),
            ]
        with m.If(s.send):
            m.d.comb += [sent_as.eq(s.color_bit), sent_control.eq(s.instruction.control)]
        m.d.sync += [
            link.announced.eq(Mux(sends, sent_as, 0)),
            link.announced_control.eq(Mux(sends & sent_control, sent_as, 0)),
        ]
        # The data need not hurry: each sender's are registered, then one of them is selected.
        offered = [
            Signal(DATA_BITS, name=f"offered_{name}", reset_less=True)
            for name in ("pipe", "send", "transmit")
        ]
        by = Signal(3, name="sent_by")
        selected = Signal(DATA_BITS)
        coming = [Signal(Wavelet(), name=f"coming_{n}") for n in range(2)]
        comes = Signal(2)
        m.d.comb += selected.eq(select(by, offered))
        m.d.sync += [
            offered[0].eq(s.pipe.o.payload.data),
            offered[1].eq(s.sent),
            offered[2].eq(s.transmitter.o.payload.data),
            by.eq(Cat(s.sends_pipe, s.send, s.transmitted)),
            coming[0].data.eq(selected),
            coming[0].color.eq(encode(link.announced)),
            coming[0].control.eq(link.announced_control.any()),
            coming[1].eq(coming[0]),
            link.wavelet.eq(coming[1]),
            comes.eq(Cat(link.announced.any(), comes[0])),
            link.valid.eq(comes[1]),
        ]
