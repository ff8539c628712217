# SPDX-License-Identifier: BSD-2-Clause
"""Command queues: fetch a program from HBM, and start its commands as semaphores allow."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.memory.axi import BEAT_BYTES, ReadChannels

from .isa import (
    ESCAPE,
    FIELDS,
    LOAD,
    MATRIX,
    SEMAPHORES,
    SETS,
    STORE,
    VECTOR,
    Packed,
    Program,
    Queue,
)

__all__ = ["CommandQueues"]

LAYOUTS = {Queue.LOAD: LOAD, Queue.MATRIX: MATRIX, Queue.VECTOR: VECTOR, Queue.STORE: STORE}
DEPTH = 8
AHEAD = 8
COUNT_BITS = 6
_SHORT = ("upper", "short", "have", "is_escape", "completes")
STARTED = 8


class _Signals:
    """Signals between the parts of :class:`CommandQueues`."""

    def __init__(self) -> None:
        self.fetched = fifo.SyncFIFO(width=8 * BEAT_BYTES, depth=AHEAD)
        active, fetching = Signal(), Signal()
        self.active, self.fetching = active, fetching
        self.pc = Signal(32)
        self.left = Signal(24)  # beats of the program that are still to be asked for
        self.promised = Signal(range(AHEAD + 1))
        self.removes = Signal()
        self.shown = Signal()  # a request stays valid until accepted, even after the last command
        self.at = Signal(range(BEAT_BYTES // 4))
        # The next word, in a register: choosing it from a beat takes most of a cycle.
        self.word = Signal(32, reset_less=True)
        self.ready, self.loads = Signal(), Signal()
        self.now = Signal(Packed(), reset_less=True)
        self.takes, self.dispatching, self.dispatch, self.ended = (Signal() for _ in range(4))
        # Fields that were not written since the start of the program read as 0.
        self.written = Signal(len(Queue) * SETS * FIELDS)
        # Short fields: the upper half of the word is next; its state.
        self.upper, self.short, self.have, self.is_escape, self.completes = (
            Signal(name=n) for n in _SHORT
        )


class CommandQueues(wiring.Component):
    """Fetches and unpacks commands, and issues the commands of each queue to its engine in order.

    A command starts once each semaphore in ``wait`` is at least 1, and decrements each; when its
    engine is done, each in ``signal`` is incremented. Semaphores count to 63. An engine may take up
    to 8 commands before the first is done, and completes them in order. Up to 8 beats are fetched
    ahead. Each word of a command in HBM takes a cycle to unpack, or each half-word, and each
    command 2 more.

    Members
    -------
    start, program : :py:`In(1)`, :py:`In(Program())`
        Starts a program.
    finished : :py:`Out(1)`
        High from when all commands of the program are done until the next start.
    axi : :py:`Out(ReadChannels())`
        Port of the HBM; ``id`` is 1.
    load, matrix, vector, store : :py:`Out(stream.Signature(...))`
        Commands to the engines.
    load_done, matrix_done, vector_done, store_done : :py:`In(1)`
        An engine's command is done.
    matrix_waits : :py:`Out(3)`
        The next MATRIX command waits for load, vector, store; without a next command: the engine
        runs, or words of the program are pending (bit 0).
    count_commands : :py:`Out(32)`
        Commands started.
    count_load_started, count_matrix_started : :py:`Out(32)`
        Commands that the engine has taken.
    count_vector_started, count_store_started : :py:`Out(32)`
        Commands that the engine has taken.
    count_load_done, count_matrix_done, count_vector_done, count_store_done : :py:`Out(32)`
        Commands that the engine has completed.
    """

    start: Signal
    program: Any
    finished: Signal
    axi: Any
    matrix_waits: Signal
    count_commands: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "program": In(Program()),
                "finished": Out(1),
                "axi": Out(ReadChannels()),
                **{q.name.lower(): Out(stream.Signature(LAYOUTS[q])) for q in Queue},
                **{f"{q.name.lower()}_done": In(1) for q in Queue},
                "matrix_waits": Out(3),
                "count_commands": Out(32),
                **{f"count_{q.name.lower()}_started": Out(32) for q in Queue},
                **{f"count_{q.name.lower()}_done": Out(32) for q in Queue},
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = _Signals()
        self._fetch(m, s)
        whole = self._unpack(m, s)
        self._dispatch(m, s, whole)
        self._restart(m, s)
        return m

    def _fetch(self, m: Module, s: _Signals) -> None:
        """Fetch beats of the program, a command ahead of its place in the buffer."""
        m.submodules.fetched = s.fetched
        ar, r = self.axi.ar, self.axi.r
        m.d.comb += [
            ar.valid.eq((s.fetching & (s.promised != AHEAD)) | s.shown),
            ar.payload.addr.eq(s.pc),
            ar.payload.id.eq(1),
            r.ready.eq(1),
            s.fetched.w_en.eq(r.valid & s.active),
            s.fetched.w_data.eq(r.payload.data),
            s.fetched.r_en.eq(s.removes),
        ]
        asks = ar.valid & ar.ready
        m.d.sync += [s.promised.eq(s.promised + asks - s.removes), s.shown.eq(ar.valid & ~ar.ready)]
        with m.If(asks):
            m.d.sync += [s.pc.eq(s.pc + BEAT_BYTES), s.left.eq(s.left - 1)]
            with m.If(s.left == 1):
                m.d.sync += s.fetching.eq(0)

    def _unpack(self, m: Module, s: _Signals) -> Value:
        """Unpack a word per cycle; return the command. The rest of the last beat is dropped."""
        word = s.word
        packed = Signal(Packed())
        missing = Signal(FIELDS + 1)  # semaphores come first
        first = Signal(FIELDS + 1)
        semaphores_word = Signal(32, reset_less=True)
        m.submodules.fields = fields = memory.Memory(
            shape=32 * FIELDS, depth=len(Queue) * SETS, init=[]
        )
        write, read = fields.write_port(granularity=32), fields.read_port()
        place = Signal(range(len(Queue) * SETS))
        known = Signal(FIELDS, reset_less=True)
        values = Signal(32 * FIELDS)
        half_word, low = Signal(16), Signal(16, reset_less=True)
        wide = Signal(2)
        extended, value = Signal(signed(32)), Signal(32)
        m.d.comb += [
            s.loads.eq(s.fetched.r_rdy & ~s.ended & (~s.ready | s.takes)),
            packed.eq(word),
            place.eq(Cat(s.now.set, s.now.queue)),
            first.eq(missing & (~missing + 1)),
            write.addr.eq(place),
            half_word.eq(Mux(s.upper, word[16:], word[:16])),
            extended.eq(half_word.as_signed()),
            value.eq(Mux(s.short, Mux(wide == 1, Cat(low, half_word), extended), word)),
            write.data.eq(Cat(*[value] * FIELDS)),
            read.addr.eq(place),
            read.en.eq(1),
            s.removes.eq((s.loads & (s.at == BEAT_BYTES // 4 - 1)) | (s.ended & s.fetched.r_rdy)),
        ]
        for n in range(FIELDS):
            part = slice(32 * n, 32 * n + 32)
            m.d.comb += values[part].eq(Mux(known[n], read.data[part], 0))
        with m.If(s.loads):
            m.d.sync += [s.at.eq(s.at + 1), word.eq(s.fetched.r_data.word_select(s.at, 32))]
        m.d.sync += s.ready.eq(~s.ended & (s.loads | (s.ready & ~s.takes)))
        with m.FSM():
            with m.State("head"):
                m.d.comb += s.takes.eq(s.ready & ~s.ended)
                with m.If(s.takes):
                    m.d.sync += [
                        s.now.eq(packed),
                        missing.eq(Cat(packed.semaphores, packed.fields)),
                        semaphores_word.eq(0),
                    ]
                    m.next = "fields"
            with m.State("fields"):
                m.d.comb += [
                    s.have.eq(s.ready & missing.any()),
                    s.short.eq(s.now.short & ~first[0]),
                    s.is_escape.eq(s.short & (wide == 0) & (half_word == ESCAPE)),
                    s.completes.eq(s.have & ~s.is_escape & (wide != 2)),
                    s.takes.eq(s.have & (~s.short | s.upper | (s.completes & (missing == first)))),
                ]
                with m.If(s.have & s.short):
                    m.d.sync += s.upper.eq(~s.takes)
                    with m.If(s.is_escape):
                        m.d.sync += wide.eq(2)
                    with m.Elif(wide != 0):
                        m.d.sync += [wide.eq(wide - 1), low.eq(half_word)]
                with m.If(s.completes):
                    m.d.comb += write.en.eq(first[1:])
                    m.d.sync += missing.eq(missing & ~first)
                    for index in range(len(Queue) * SETS):
                        with m.If(place == index):
                            bits = s.written[FIELDS * index : FIELDS * (index + 1)]
                            m.d.sync += bits.eq(bits | first[1:])
                    with m.If(first[0]):
                        m.d.sync += semaphores_word.eq(word)
                with m.If(~missing.any()):
                    m.d.sync += known.eq(s.written.word_select(place, FIELDS))
                    m.next = "dispatch"
            with m.State("dispatch"):
                m.d.comb += s.dispatching.eq(1)
                with m.If(s.dispatch):
                    m.next = "head"
                    with m.If(s.now.end):
                        m.d.sync += s.ended.eq(1)
        command_words = Cat(
            s.now.queue,
            s.now.op,
            s.now.end,
            Const(0, 23),
            values,
            semaphores_word[:16],
            Const(0, 16),
        )
        return Cat(command_words, semaphores_word[16:], Const(0, 16))

    def _dispatch(self, m: Module, s: _Signals, whole: Value) -> None:
        """Queue the commands of each engine, and start them as semaphores allow."""
        accepts = Signal(len(Queue))
        empties = Signal(len(Queue))
        runs = Signal(len(Queue))
        taken: Any = 0
        given: Any = 0
        starts = Signal(len(Queue))
        semaphores = [Signal(COUNT_BITS, name=f"semaphore_{n}") for n in range(SEMAPHORES)]
        available = Signal(SEMAPHORES)
        m.d.comb += [available[n].eq(semaphores[n] != 0) for n in range(SEMAPHORES)]
        for queue in Queue:
            q = queue.value
            name = queue.name.lower()
            m.submodules[f"{name}_queue"] = commands = fifo.SyncFIFO(
                width=8 * BEAT_BYTES, depth=DEPTH
            )
            m.submodules[f"{name}_started"] = started = fifo.SyncFIFO(
                width=SEMAPHORES, depth=STARTED
            )
            port = getattr(self, name)
            done = getattr(self, f"{name}_done")
            command = Signal(LAYOUTS[queue], name=f"{name}_command")
            waits = Signal(SEMAPHORES, name=f"{name}_waits")
            m.d.comb += [
                accepts[q].eq(commands.w_rdy),
                commands.w_data.eq(whole),
                commands.w_en.eq(s.dispatch & (s.now.queue == queue)),
                command.eq(commands.r_data),
                waits.eq(command.wait),
                port.payload.eq(commands.r_data),
                port.valid.eq(commands.r_rdy & ~(waits & ~available).any() & started.w_rdy),
                starts[q].eq(port.valid & port.ready),
                commands.r_en.eq(starts[q]),
                empties[q].eq(~commands.r_rdy),
                started.w_en.eq(starts[q]),
                started.w_data.eq(command.signal),
                started.r_en.eq(done),
                runs[q].eq(started.r_rdy),
            ]
            for what, happens in (("started", starts[q]), ("done", done)):
                counter = getattr(self, f"count_{name}_{what}")
                m.d.sync += counter.eq(counter + happens)
            if queue is Queue.MATRIX:
                missing_ones = waits & ~available
                for n, other in enumerate((Queue.LOAD, Queue.VECTOR, Queue.STORE)):
                    bit = other.value * 4 + q
                    awaited = s.active & ~s.ended & ~s.ready if n == 0 else Const(0)
                    m.d.comb += self.matrix_waits[n].eq(
                        Mux(commands.r_rdy, missing_ones[bit], runs[other.value] | awaited)
                    )
            taken = taken | Mux(starts[q], waits, 0)
            given = given | Mux(done, started.r_data, 0)
        # A semaphore has one queue that signals it and one that waits for it.
        for n, semaphore in enumerate(semaphores):
            more = Signal(COUNT_BITS, name=f"semaphore_{n}_more")
            m.d.comb += more.eq(semaphore + given[n])
            # Which command starts is known late.
            m.d.sync += semaphore.eq(Mux(taken[n], more - 1, more))
        m.d.comb += s.dispatch.eq(s.dispatching & accepts.bit_select(s.now.queue.as_value(), 1))
        # Beats still in flight would be taken for commands of the next program.
        m.d.comb += self.finished.eq(
            s.active & s.ended & empties.all() & ~runs.any() & (s.promised == 0) & ~s.shown
        )
        m.d.sync += self.count_commands.eq(
            self.count_commands + starts[0] + starts[1] + starts[2] + starts[3]
        )

    def _restart(self, m: Module, s: _Signals) -> None:
        """Start a program."""
        with m.If(self.start):
            m.d.sync += [
                s.active.eq(1),
                s.fetching.eq(1),
                s.ended.eq(0),
                s.pc.eq(self.program.address),
                s.left.eq(self.program.beats),
                s.at.eq(0),
                s.upper.eq(0),
                s.written.eq(0),
            ]
