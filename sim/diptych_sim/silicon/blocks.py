# SPDX-License-Identifier: BSD-2-Clause
"""The blocks that are measured, by the names of docs/blocks and ``make tb``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from amaranth.hdl import signed
from amaranth.lib import data, wiring

from diptych.arith.dot import Dot8
from diptych.arith.exponential import Exponential
from diptych.arith.functions import ScaleFunction
from diptych.arith.noise import Noise
from diptych.arith.requantize import Requantizer
from diptych.arith.rope import Rotate
from diptych.arith.scale import ScaleWord
from diptych.arith.silu import SiluGate
from diptych.arith.square import Square
from diptych.config import DEFAULTS
from diptych.link.layout import LayoutChange
from diptych.link.link import KvLink
from diptych.link.receiver import LinkReceiver
from diptych.link.transmitter import LinkTransmitter
from diptych.memory.arbiter import ReadArbiter
from diptych.memory.hbm import Hbm
from diptych.mesh.color_arbiter import ColorArbiter
from diptych.mesh.combiner_tree import CombinerTree
from diptych.mesh.core import Core
from diptych.mesh.credits import Credits
from diptych.mesh.input_port import InputPort
from diptych.mesh.loader import Loader
from diptych.mesh.operand_sequencer import OperandSequencer
from diptych.mesh.receiver import Receiver
from diptych.mesh.register_file import RegisterFile
from diptych.mesh.route_table import RouteTable
from diptych.mesh.router import Router
from diptych.mesh.sram import Sram
from diptych.mesh.statistic import Statistic
from diptych.mesh.tasks import TaskScheduler
from diptych.mesh.tile import Tile
from diptych.mesh.transmitter import Transmitter
from diptych.mesh.vector_pipe import VectorPipe
from diptych.stream_buffer import StreamBuffer
from diptych.systolic.accumulator import Accumulators
from diptych.systolic.array import SystolicArray
from diptych.systolic.dma_load import LoadEngine
from diptych.systolic.dma_store import StoreEngine
from diptych.systolic.matrix import MatrixEngine
from diptych.systolic.panel import PrefillPanel, panel_sizes
from diptych.systolic.pe import ProcessingRow
from diptych.systolic.queues import CommandQueues
from diptych.systolic.row_statistics import RowStatistics
from diptych.systolic.scratchpad import Scratchpad
from diptych.systolic.vector import VectorUnit
from diptych.systolic.vector_control import VectorSequencer
from diptych.systolic.vector_lanes import VectorLane
from diptych.systolic.vector_reduce import Reducer

__all__ = ["BLOCKS", "Block"]


@dataclass(frozen=True)
class Block:
    """One block to measure.

    Attributes
    ----------
    name : str
        Its name, as of ``make tb BLOCK=``.
    room : str
        The folder of rtl/diptych that it is in; nothing for a file beside the folders.
    make : callable
        Makes the component.
    note : str
        Where it differs from the block of the default machine, and why; mostly nothing.
    seed : int
        Seed of the placement that its figures are of; mostly 1.
    split_nets : bool
        Whether buses are taken apart before LUTs are chosen: ABC9 of YoWASP stops on some blocks
        without a message otherwise.
    """

    name: str
    room: str
    make: Callable[[], wiring.Component]
    note: str = ""
    seed: int = 1
    split_nets: bool = False

    @property
    def wide_luts(self) -> bool:
        """Whether multiplexers are built of joined LUTs: they cost the mesh a third more area."""
        return self.room != "mesh"


_ROWS, _COLUMNS = DEFAULTS.array
_SIZES = panel_sizes(_ROWS, _COLUMNS)
_LINE = data.ArrayLayout(signed(8), _SIZES.line)
_SUMS = data.ArrayLayout(signed(32), _SIZES.lanes)
_WORDS = data.ArrayLayout(ScaleWord, _SIZES.lanes)
_NARROW = replace(panel_sizes(4, 4), scratchpad=2**16)

_MATRIX = partial(MatrixEngine, scratchpad=_SIZES.scratchpad, accumulators=_SIZES.accumulators)
_COLORS = DEFAULTS.colors


def _panel() -> PrefillPanel:
    """Return a prefill panel with memories that fit beside the rest of it."""
    panel = PrefillPanel(4, 4)
    panel.sizes = replace(_NARROW, accumulators=2**10, vectors=2**11, parameters=2**9, rows=2**9)
    return panel


_LIST = (
    Block("stream_buffer", "", partial(StreamBuffer, 32), "32 bits wide"),
    Block("dot", "arith", Dot8),
    Block("exponential", "arith", Exponential),
    Block("functions", "arith", ScaleFunction),
    Block("noise", "arith", Noise),
    Block("requantize", "arith", Requantizer),
    Block("rope", "arith", Rotate),
    Block("silu", "arith", SiluGate),
    Block("square", "arith", Square),
    Block("pe", "systolic", partial(ProcessingRow, columns=4), "a row of 4 processing elements"),
    Block(
        "array",
        "systolic",
        partial(SystolicArray, rows=8, columns=8),
        "8x8: DSPs for 16x16",
        split_nets=True,
    ),
    Block(
        "matrix",
        "systolic",
        partial(_MATRIX, rows=4, columns=4),
        "with a 4x4 array",
        split_nets=True,
    ),
    Block("vector_lanes", "systolic", VectorLane, "one lane"),
    Block("vector_reduce", "systolic", partial(Reducer, lanes=_SIZES.lanes)),
    Block("vector_control", "systolic", partial(VectorSequencer, _SIZES)),
    Block("row_statistics", "systolic", partial(RowStatistics, depth=_SIZES.rows)),
    Block("vector", "systolic", partial(VectorUnit, _NARROW), "4 lanes"),
    Block(
        "scratchpad",
        "systolic",
        partial(Scratchpad, banks=4, size=2**16),
        "64 KiB of 1 MiB, 4 of 16 banks, to fit",
    ),
    Block("accumulator", "systolic", partial(Accumulators, depth=2**11), "half as deep, to fit"),
    Block("dma_load", "systolic", partial(LoadEngine, _SIZES, shapes=(_WORDS, _SUMS))),
    Block(
        "dma_store", "systolic", partial(StoreEngine, _SIZES, line_shape=_LINE, sums_shape=_SUMS)
    ),
    Block("queues", "systolic", CommandQueues),
    Block("prefill_panel", "systolic", _panel, "4x4 array, 64 KiB of scratchpad"),
    Block("arbiter", "memory", ReadArbiter),
    Block(
        "hbm", "memory", partial(Hbm, size=2**16), "64 KiB of 1 MiB: stands for memory elsewhere"
    ),
    Block("link_transmitter", "link", LinkTransmitter),
    Block("link_receiver", "link", LinkReceiver),
    Block("layout", "link", LayoutChange),
    Block("link", "link", partial(KvLink, DEFAULTS.mesh[0])),
    Block("credits", "mesh", partial(Credits, colors=_COLORS)),
    Block("input_port", "mesh", partial(InputPort, colors=_COLORS)),
    Block("color_arbiter", "mesh", partial(ColorArbiter, colors=_COLORS)),
    Block("route_table", "mesh", partial(RouteTable, colors=_COLORS, positions=DEFAULTS.positions)),
    Block("combiner_tree", "mesh", partial(CombinerTree, colors=_COLORS)),
    Block("router", "mesh", Router),
    Block("loader", "mesh", Loader),
    Block("operand_sequencer", "mesh", OperandSequencer),
    Block("statistic", "mesh", partial(Statistic, _COLORS)),
    Block("vector_pipe", "mesh", partial(VectorPipe, colors=_COLORS)),
    Block("receiver", "mesh", partial(Receiver, colors=_COLORS)),
    Block("register_file", "mesh", RegisterFile),
    Block("transmitter", "mesh", partial(Transmitter, colors=_COLORS)),
    Block("tasks", "mesh", partial(TaskScheduler, colors=_COLORS)),
    Block("sram", "mesh", Sram),
    Block("core", "mesh", Core),
    Block("core_2k", "mesh", partial(Core, sram_bytes=2048), "core with 2 KiB of SRAM"),
    Block("tile", "mesh", Tile, seed=3),
)

BLOCKS = {block.name: block for block in _LIST}
"""All blocks by name, from the small to the large of each room."""
