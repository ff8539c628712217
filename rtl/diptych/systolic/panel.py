# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel: array, vector unit, memories, DMA and command queues."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from diptych.arith.scale import ScaleWord
from diptych.memory.arbiter import ReadArbiter
from diptych.memory.axi import Channels, ReadData
from diptych.stream_buffer import StreamBuffer

from .accumulator import Accumulators
from .dma_load import LoadEngine
from .dma_store import StoreEngine
from .isa import Handoff, Program
from .matrix import MatrixEngine
from .queues import CommandQueues
from .scratchpad import EntryMemory, Scratchpad
from .vector import VectorUnit
from .vector_control import VectorSizes

__all__ = ["PrefillPanel", "connect_program_ports", "panel_sizes", "program_ports"]


def program_ports() -> dict[str, Any]:
    """Return the program ports of a panel, which are also those of a component around it."""
    return {
        "start": In(1),
        "program": In(Program()),
        "finished": Out(1),
        "handoff": Out(stream.Signature(Handoff())),
    }


def connect_program_ports(m: Module, panel: "PrefillPanel", outer: Any) -> None:
    """Connect :func:`program_ports` of a panel to those of the component that contains it."""
    wiring.connect(m, panel.handoff, wiring.flipped(outer.handoff))
    m.d.comb += [
        panel.start.eq(outer.start),
        panel.program.eq(outer.program),
        outer.finished.eq(panel.finished),
    ]


def panel_sizes(rows: int, columns: int) -> VectorSizes:
    """Return the memory sizes of a panel.

    1 Mi elements of scratchpad, 256 KiB of accumulators, 512 KiB of vectors.

    It has biases for 4096 columns.

    Raises
    ------
    ValueError
        If a side of the array is not a power of two from 4 to 128.
    """
    for name, value in (("rows", rows), ("columns", columns)):
        if value not in (4, 8, 16, 32, 64, 128):
            raise ValueError(f"Array {name} must be a power of two from 4 to 128, not {value!r}")
    return VectorSizes(
        lanes=columns,
        line=max(rows, columns),
        scratchpad=2**20,
        accumulators=2**16 // columns,
        vectors=2**17 // columns,
        parameters=2**14 // columns,
        rows=1024,
        biases=2**12 // columns,
    )


class PrefillPanel(wiring.Component):
    """Executes a program of commands from HBM: reads a prompt, hands off KV vectors and a token.

    Parameters
    ----------
    rows, columns : :class:`int`
        Size of the array; powers of two from 4 to 128.
    weight_rows : :class:`int`
        As of :class:`.MatrixEngine`.

    Members
    -------
    start, program : :py:`In(1)`, :py:`In(32)`
        Starts the program at an HBM address.
    finished : :py:`Out(1)`
        The program has ended.
    axi : :py:`Out(Channels())`
        Port of the HBM.
    handoff : :py:`Out(stream.Signature(Handoff()))`
        Words to the link.
    count_cycles : :py:`Out(32)`
        Cycles from start to end of the program.
    """

    start: Signal
    program: Signal
    finished: Signal
    axi: Any
    handoff: stream.Interface
    count_cycles: Signal

    def __init__(self, rows: int, columns: int, *, weight_rows: int = 1) -> None:
        self.weight_rows = weight_rows
        self.rows = rows
        self.columns = columns
        self.sizes = panel_sizes(rows, columns)
        super().__init__(
            {
                **program_ports(),
                "axi": Out(Channels()),
                "count_cycles": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = self.sizes
        line_shape = data.ArrayLayout(signed(8), s.line)
        word_shape = data.ArrayLayout(ScaleWord, s.lanes)
        sums_shape = data.ArrayLayout(signed(32), s.lanes)
        m.submodules.queues = queues = CommandQueues()
        m.submodules.load = load = LoadEngine(s, shapes=(word_shape, sums_shape))
        m.submodules.matrix = matrix = MatrixEngine(
            rows=self.rows,
            columns=self.columns,
            scratchpad=s.scratchpad,
            accumulators=s.accumulators,
            weight_rows=self.weight_rows,
        )
        m.submodules.vector = vector = VectorUnit(s)
        m.submodules.store = store = StoreEngine(s, line_shape=line_shape, sums_shape=sums_shape)
        scratchpad: Any = Scratchpad(line=s.line, size=s.scratchpad, group=self.weight_rows)
        m.submodules.scratchpad = scratchpad
        m.submodules.accumulators = accumulators = Accumulators(
            columns=s.lanes, depth=s.accumulators
        )

        q: Any = queues
        for engine, name in (
            (load, "load"),
            (matrix, "matrix"),
            (vector, "vector"),
            (store, "store"),
        ):
            wiring.connect(m, getattr(q, name), engine.i)
            m.d.comb += getattr(q, f"{name}_done").eq(engine.done)
        m.d.comb += [
            queues.start.eq(self.start),
            queues.program.eq(self.program),
            self.finished.eq(queues.finished),
            store.token.eq(vector.token),
            matrix.waits.eq(
                Cat(
                    queues.matrix_waits[:2],
                    queues.matrix_waits[2] & store.writes,
                    queues.matrix_waits[2] & ~store.writes,
                )
            ),
        ]
        wiring.connect(m, store.o, wiring.flipped(self.handoff))

        # --- memories ---
        for reader, port in (
            (matrix.x, scratchpad.read_x),
            (matrix.w, scratchpad.read_w),
            (vector.scratchpad_read, scratchpad.read_v),
            (store.scratchpad, scratchpad.read_s),
            (vector.scratchpad_write, scratchpad.write_v),
            (load.scratchpad, scratchpad.write_l),
            (matrix.sums, accumulators.sums),
            (load.dynamic, vector.load_dynamic),
        ):
            wiring.connect(m, reader, port)
        m.d.comb += scratchpad.write_l_wide.eq(load.wide)
        vectors: Any = EntryMemory(sums_shape, depth=s.vectors)
        biases: Any = EntryMemory(sums_shape, depth=s.biases, writers=("l",))
        m.submodules.biases = biases
        parameters: Any = EntryMemory(word_shape, depth=s.parameters, writers=("l",))
        m.submodules.vectors = vectors
        m.submodules.parameters = parameters
        for user, port in (
            (vector.vectors_read, vectors.read),
            (vector.vectors_write, vectors.write_v),
            (load.vectors, vectors.write_l),
            (vector.parameters, parameters.read),
            (load.parameters, parameters.write_l),
            (load.biases, biases.write_l),
        ):
            wiring.connect(m, user, port)

        # Sums to the vector unit first; biases to the store engine first, which waits for none.
        for read, first, second in (
            (accumulators.read, vector.accumulators, store.accumulators),
            (biases.read, store.biases, vector.biases),
        ):
            m.d.comb += [
                read.en.eq(first.en | second.en),
                read.address.eq(Mux(first.en, first.address, second.address)),
                first.ready.eq(read.ready),
                second.ready.eq(read.ready & ~first.en),
                first.data.eq(read.data),
                second.data.eq(read.data),
            ]

        # --- HBM: commands first ---
        m.submodules.arbiter = arbiter = ReadArbiter()
        wiring.connect(m, queues.axi, arbiter.first)
        wiring.connect(m, load.axi.ar, arbiter.second.ar)
        # The load engine decides late in a cycle whether it takes a beat, and shifts its bytes.
        m.submodules.load_beats = load_beats = StreamBuffer(ReadData())
        wiring.connect(m, arbiter.second.r, load_beats.i)
        wiring.connect(m, load_beats.o, load.axi.r)
        port: Any = wiring.flipped(self.axi)
        for source, names in ((arbiter.axi, ("ar", "r")), (store.axi, ("aw", "w", "b"))):
            for name in names:
                wiring.connect(m, getattr(source, name), getattr(port, name))

        running = Signal()
        with m.If(self.start):
            m.d.sync += running.eq(1)
        with m.Elif(self.finished):
            m.d.sync += running.eq(0)
        m.d.sync += self.count_cycles.eq(self.count_cycles + running)
        return m
