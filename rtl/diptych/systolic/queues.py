# SPDX-License-Identifier: BSD-2-Clause
"""Command queues: fetch a program from HBM, and start its commands as semaphores allow."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.memory.axi import BEAT_BYTES, ReadChannels

from .isa import LOAD, MATRIX, SEMAPHORES, STORE, VECTOR, Queue

__all__ = ["CommandQueues"]

LAYOUTS = {Queue.LOAD: LOAD, Queue.MATRIX: MATRIX, Queue.VECTOR: VECTOR, Queue.STORE: STORE}
DEPTH = 4
AHEAD = 16
COUNT_BITS = 4


class CommandQueues(wiring.Component):
    """Fetches commands, a beat each, and hands each queue's commands to its engine in order.

    A command starts once each semaphore in ``wait`` is at least 1, and takes 1 from each; when its
    engine is done, each in ``signal`` grows by 1. Semaphores count to 15. Up to 16 commands are
    fetched ahead.

    Members
    -------
    start, program : :py:`In(1)`, :py:`In(32)`
        Starts the program at an HBM address.
    finished : :py:`Out(1)`
        High from when all commands of the program are done until the next start.
    axi : :py:`Out(ReadChannels())`
        To HBM; ``id`` is 1.
    load, matrix, vector, store : :py:`Out(stream.Signature(...))`
        To the engines.
    load_done, matrix_done, vector_done, store_done : :py:`In(1)`
        An engine's command is done.
    count_commands : :py:`Out(32)`
        Commands started.
    """

    start: Signal
    program: Signal
    finished: Signal
    axi: Any
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
                "count_commands": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width = 8 * BEAT_BYTES
        # --- fetch, a command ahead of its place in the buffer ---
        m.submodules.fetched = fetched = fifo.SyncFIFO(width=width, depth=AHEAD)
        active, fetching = Signal(), Signal()
        pc = Signal(32)
        promised = Signal(range(AHEAD + 1))
        ar, r = self.axi.ar, self.axi.r
        dispatch, removes = Signal(), Signal()
        shown = Signal()  # a request stays until it is taken, also when the end arrives
        head = Signal(LOAD)
        m.d.comb += [
            ar.valid.eq((fetching & (promised != AHEAD)) | shown),
            ar.payload.addr.eq(pc),
            ar.payload.id.eq(1),
            r.ready.eq(1),
            fetched.w_en.eq(r.valid & active),
            fetched.w_data.eq(r.payload.data),
            head.eq(fetched.r_data),
            fetched.r_en.eq(removes),
        ]
        asks = ar.valid & ar.ready
        m.d.sync += [promised.eq(promised + asks - removes), shown.eq(ar.valid & ~ar.ready)]
        with m.If(asks):
            m.d.sync += pc.eq(pc + BEAT_BYTES)
        arrived = Signal(LOAD)
        m.d.comb += arrived.eq(r.payload.data)
        ended = Signal()
        with m.If(r.valid & active & arrived.head.end):
            m.d.sync += fetching.eq(0)

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
            port = getattr(self, name)
            done = getattr(self, f"{name}_done")
            command = Signal(LAYOUTS[queue], name=f"{name}_command")
            signals = Signal(SEMAPHORES, name=f"{name}_signals")
            waits = Signal(SEMAPHORES, name=f"{name}_waits")
            m.d.comb += [
                accepts[q].eq(commands.w_rdy),
                commands.w_data.eq(fetched.r_data),
                commands.w_en.eq(dispatch & (head.head.queue == queue)),
                command.eq(commands.r_data),
                waits.eq(command.wait),
                port.payload.eq(commands.r_data),
                port.valid.eq(commands.r_rdy & ~(waits & ~available).any() & ~runs[q]),
                starts[q].eq(port.valid & port.ready),
                commands.r_en.eq(starts[q]),
                empties[q].eq(~commands.r_rdy),
            ]
            with m.If(starts[q]):
                m.d.sync += [signals.eq(command.signal), runs[q].eq(1)]
            with m.If(done):
                m.d.sync += runs[q].eq(0)
            taken = taken | Mux(starts[q], waits, 0)
            given = given | Mux(done, signals, 0)
        # A semaphore has one queue that signals it and one that waits for it.
        for n in range(SEMAPHORES):
            m.d.sync += semaphores[n].eq(semaphores[n] + given[n] - taken[n])
        m.d.comb += dispatch.eq(
            fetched.r_rdy & ~ended & accepts.bit_select(head.head.queue.as_value(), 1)
        )
        # What was fetched beyond the end is dropped.
        m.d.comb += removes.eq(dispatch | (ended & fetched.r_rdy))
        with m.If(dispatch & head.head.end):
            m.d.sync += ended.eq(1)
        # What is under way still would be taken for commands of the next program.
        m.d.comb += self.finished.eq(
            active & ended & empties.all() & ~runs.any() & (promised == 0) & ~shown
        )
        m.d.sync += self.count_commands.eq(
            self.count_commands + starts[0] + starts[1] + starts[2] + starts[3]
        )
        with m.If(self.start):
            m.d.sync += [active.eq(1), fetching.eq(1), ended.eq(0), pc.eq(self.program)]
        return m
