# SPDX-License-Identifier: BSD-2-Clause
"""Command queues: fetch a program from HBM, and start its commands as semaphores allow."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.memory.axi import BEAT_BYTES, ReadChannels

from .isa import ESCAPE, FIELDS, LOAD, MATRIX, SEMAPHORES, SETS, STORE, VECTOR, Packed, Queue

__all__ = ["CommandQueues"]

LAYOUTS = {Queue.LOAD: LOAD, Queue.MATRIX: MATRIX, Queue.VECTOR: VECTOR, Queue.STORE: STORE}
DEPTH = 8
AHEAD = 8
COUNT_BITS = 6
_SHORT = ("upper", "short", "have", "is_escape", "completes")
STARTED = 8


class CommandQueues(wiring.Component):
    """Fetches and unpacks commands, and hands each queue's commands to its engine in order.

    A command starts once each semaphore in ``wait`` is at least 1, and takes 1 from each; when its
    engine is done, each in ``signal`` grows by 1. Semaphores count to 63. An engine that takes
    commands ahead has up to 8 of them, and is done with them in order. Up to 8 beats are fetched
    ahead. A word of a command in HBM takes a cycle to unpack, or a half-word, and a command 2 more.

    Members
    -------
    start, program : :py:`In(1)`, :py:`In(32)`
        Starts the program at an HBM address, a multiple of 64. Its low 6 bits say how many beats
        the program has, so that none behind it are fetched; 0 if that is not known, or above 63.
    finished : :py:`Out(1)`
        High from when all commands of the program are done until the next start.
    axi : :py:`Out(ReadChannels())`
        To HBM; ``id`` is 1.
    load, matrix, vector, store : :py:`Out(stream.Signature(...))`
        To the engines.
    load_done, matrix_done, vector_done, store_done : :py:`In(1)`
        An engine's command is done.
    matrix_waits : :py:`Out(3)`
        Whether the next MATRIX command waits for load, vector, store; if none is known, whether
        these run, or words of the program are awaited (bit 0).
    count_commands : :py:`Out(32)`
        Commands started.
    count_load_started, count_matrix_started, ... : :py:`Out(32)`
        Commands that an engine has taken.
    count_load_done, count_matrix_done, ... : :py:`Out(32)`
        Commands that an engine has done.
    """

    start: Signal
    program: Signal
    finished: Signal
    axi: Any
    matrix_waits: Signal
    count_commands: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "program": In(32),
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
        width = 8 * BEAT_BYTES
        # --- fetch, a command ahead of its place in the buffer ---
        m.submodules.fetched = fetched = fifo.SyncFIFO(width=width, depth=AHEAD)
        active, fetching = Signal(), Signal()
        pc = Signal(32)
        known_beats = Signal()  # ``unasked`` says how many beats are still to be asked for
        unasked = Signal(6)
        promised = Signal(range(AHEAD + 1))
        ar, r = self.axi.ar, self.axi.r
        removes = Signal()
        shown = Signal()  # a request stays until it is taken, also when the end arrives
        m.d.comb += [
            ar.valid.eq((fetching & (promised != AHEAD) & ~(known_beats & (unasked == 0))) | shown),
            ar.payload.addr.eq(pc),
            ar.payload.id.eq(1),
            r.ready.eq(1),
            fetched.w_en.eq(r.valid & active),
            fetched.w_data.eq(r.payload.data),
            fetched.r_en.eq(removes),
        ]
        asks = ar.valid & ar.ready
        m.d.sync += [promised.eq(promised + asks - removes), shown.eq(ar.valid & ~ar.ready)]
        with m.If(asks):
            m.d.sync += [pc.eq(pc + BEAT_BYTES), unasked.eq(unasked - 1)]

        # --- unpack: a word a cycle; what is left of the last beat is dropped ---
        at = Signal(range(BEAT_BYTES // 4))
        word = Signal(32)
        packed = Signal(Packed())
        now = Signal(Packed(), reset_less=True)
        missing = Signal(FIELDS + 1)  # semaphores come first
        first = Signal(FIELDS + 1)
        semaphores_word = Signal(32, reset_less=True)
        takes, dispatching, dispatch, ended = Signal(), Signal(), Signal(), Signal()
        m.submodules.fields = fields = memory.Memory(
            shape=32 * FIELDS, depth=len(Queue) * SETS, init=[]
        )
        # What was never written is 0: since the start, not since reset.
        written = Signal(len(Queue) * SETS * FIELDS)
        write, read = fields.write_port(granularity=32), fields.read_port()
        place = Signal(range(len(Queue) * SETS))
        known = Signal(FIELDS, reset_less=True)
        values = Signal(32 * FIELDS)
        # Short fields: which half comes next, and how many halves of a wide one are missing.
        upper, short, have, is_escape, completes = (Signal(name=n) for n in _SHORT)
        half_word, low = Signal(16), Signal(16, reset_less=True)
        wide = Signal(2)
        extended, value = Signal(signed(32)), Signal(32)
        m.d.comb += [
            word.eq(fetched.r_data.word_select(at, 32)),
            packed.eq(word),
            place.eq(Cat(now.set, now.queue)),
            first.eq(missing & (~missing + 1)),
            write.addr.eq(place),
            half_word.eq(Mux(upper, word[16:], word[:16])),
            extended.eq(half_word.as_signed()),
            value.eq(Mux(short, Mux(wide == 1, Cat(low, half_word), extended), word)),
            write.data.eq(Cat(*[value] * FIELDS)),
            read.addr.eq(place),
            read.en.eq(1),
            removes.eq((takes & (at == BEAT_BYTES // 4 - 1)) | (ended & fetched.r_rdy)),
        ]
        for n in range(FIELDS):
            part = slice(32 * n, 32 * n + 32)
            m.d.comb += values[part].eq(Mux(known[n], read.data[part], 0))
        with m.If(takes):
            m.d.sync += at.eq(at + 1)
        with m.FSM():
            with m.State("head"):
                m.d.comb += takes.eq(fetched.r_rdy & ~ended)
                with m.If(takes):
                    m.d.sync += [
                        now.eq(packed),
                        missing.eq(Cat(packed.semaphores, packed.fields)),
                        semaphores_word.eq(0),
                    ]
                    m.next = "fields"
            with m.State("fields"):
                m.d.comb += [
                    have.eq(fetched.r_rdy & missing.any()),
                    short.eq(now.short & ~first[0]),
                    is_escape.eq(short & (wide == 0) & (half_word == ESCAPE)),
                    completes.eq(have & ~is_escape & (wide != 2)),
                    takes.eq(have & (~short | upper | (completes & (missing == first)))),
                ]
                with m.If(have & short):
                    m.d.sync += upper.eq(~takes)
                    with m.If(is_escape):
                        m.d.sync += wide.eq(2)
                    with m.Elif(wide != 0):
                        m.d.sync += [wide.eq(wide - 1), low.eq(half_word)]
                with m.If(completes):
                    m.d.comb += write.en.eq(first[1:])
                    m.d.sync += missing.eq(missing & ~first)
                    for index in range(len(Queue) * SETS):
                        with m.If(place == index):
                            bits = written[FIELDS * index : FIELDS * (index + 1)]
                            m.d.sync += bits.eq(bits | first[1:])
                    with m.If(first[0]):
                        m.d.sync += semaphores_word.eq(word)
                with m.If(~missing.any()):
                    m.d.sync += known.eq(written.word_select(place, FIELDS))
                    m.next = "dispatch"
            with m.State("dispatch"):
                m.d.comb += dispatching.eq(1)
                with m.If(dispatch):
                    m.next = "head"
                    with m.If(now.end):
                        m.d.sync += [ended.eq(1), fetching.eq(0)]
        command_words = Cat(
            now.queue, now.op, now.end, Const(0, 23), values, semaphores_word[:16], Const(0, 16)
        )
        whole = Cat(command_words, semaphores_word[16:], Const(0, 16))

        # --- queues ---
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
            m.submodules[f"{name}_queue"] = commands = fifo.SyncFIFO(width=width, depth=DEPTH)
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
                commands.w_en.eq(dispatch & (now.queue == queue)),
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
                    awaited = active & ~ended & ~fetched.r_rdy if n == 0 else Const(0)
                    m.d.comb += self.matrix_waits[n].eq(
                        Mux(commands.r_rdy, missing_ones[bit], runs[other.value] | awaited)
                    )
            taken = taken | Mux(starts[q], waits, 0)
            given = given | Mux(done, started.r_data, 0)
        # A semaphore has one queue that signals it and one that waits for it.
        for n in range(SEMAPHORES):
            m.d.sync += semaphores[n].eq(semaphores[n] + given[n] - taken[n])
        m.d.comb += dispatch.eq(dispatching & accepts.bit_select(now.queue.as_value(), 1))
        # What is under way still would be taken for commands of the next program.
        m.d.comb += self.finished.eq(
            active & ended & empties.all() & ~runs.any() & (promised == 0) & ~shown
        )
        m.d.sync += self.count_commands.eq(
            self.count_commands + starts[0] + starts[1] + starts[2] + starts[3]
        )
        with m.If(self.start):
            m.d.sync += [
                active.eq(1),
                fetching.eq(1),
                ended.eq(0),
                pc.eq(Cat(Const(0, 6), self.program[6:])),
                unasked.eq(self.program[:6]),
                known_beats.eq(self.program[:6] != 0),
                at.eq(0),
                upper.eq(0),
                written.eq(0),
            ]
        return m
