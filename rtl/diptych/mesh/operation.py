# SPDX-License-Identifier: BSD-2-Clause
"""Vector instructions with their registers read."""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data

from diptych.arith.scale import ScaleWord

from .isa import Op, Tail

__all__ = ["ADDRESS_BITS", "VectorOperation"]

ADDRESS_BITS = 16


class VectorOperation(data.StructLayout):
    """A vector instruction as issued to an engine, with the values of its registers.

    Members
    -------
    op : :class:`.Op`
        The operation.
    a, b, d, stride : 16 bits
        Addresses and distance in bytes.
    count, inner : 16 bits
        Loop counts, registers added.
    scalar : 32 bits, signed
        ``R[b_reg]``.
    offset : 32 bits, signed
        ``R[a_reg]``.
    dynamic : :class:`.ScaleWord`
        ``R[dynamic]``.
    control : 1 bit
        The last wavelet carries the control bit.
    fence_pipe, fence_receive, fence_transmit : 1 bit
        The vector pipe reads no operand before its earlier results are in memory; before the
        receiver, the transmitter has nothing to do.
    continues : 1 bit
        Its statistic goes on from that of the instruction before.
    sends_statistic : 1 bit
        Its statistic leaves on its color.
    tail : :class:`.Tail`
        The last word of the instruction.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "op": Op,
                "a": ADDRESS_BITS,
                "b": ADDRESS_BITS,
                "d": ADDRESS_BITS,
                "stride": ADDRESS_BITS,
                "count": 16,
                "inner": 16,
                "scalar": signed(32),
                "offset": signed(32),
                "dynamic": ScaleWord,
                "control": 1,
                "fence_pipe": 1,
                "fence_receive": 1,
                "fence_transmit": 1,
                "continues": 1,
                "sends_statistic": 1,
                "tail": Tail(),
            }
        )
