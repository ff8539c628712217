# SPDX-License-Identifier: BSD-2-Clause
"""Elements that engines write: results of the vector pipe, and bytes in the SRAM."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data

from .isa import Type
from .operation import ADDRESS_BITS

__all__ = ["Result", "write_element"]


class Result(data.StructLayout):
    """A result that leaves the pipe.

    Members
    -------
    value, low : 32 bits, signed, 16 bits
        The result; what is written of it as INT8 or INT16, of GATE's re-quantized.
    d, type : 16 bits, :class:`.Type`
        Address and type in memory.
    color, color_bit, control : 5 bits, a bit per color, 1 bit
        Color, its bit, control bit.
    writes, sends, only_writes : 1 bit
        It goes to memory; to the color; to memory only.
    begins, ends : 1 bit
        It is the first one of its instruction; the last.
    statistic, signed_maximum, adds, squares, shift : 1 bit, ..., 5 bits
        The instruction has a statistic; which is the maximum, or the sum; of squares, shifted right.
    sends_statistic : 1 bit
        It leaves on the color.
    """

    def __init__(self, colors: int) -> None:
        flags = (
            "writes",
            "sends",
            "only_writes",
            "begins",
            "ends",
            "statistic",
            "signed_maximum",
            "adds",
            "squares",
            "sends_statistic",
        )
        super().__init__(
            {
                "value": signed(32),
                "low": 16,
                "d": ADDRESS_BITS,
                "type": Type,
                "color": 5,
                "color_bit": colors,
                "control": 1,
                "shift": 5,
                **dict.fromkeys(flags, 1),
            }
        )


def write_element(
    m: Module, port: Any, value: Signal, low: Value, element_type: Any, address: Value
) -> None:
    """Connect address, data and mask of a :class:`.WritePort` to an element.

    Combinational. The element lies at a byte address that is a multiple of its size; INT8 and INT16
    take the bits of ``low``.
    """
    place = address[:3]
    m.d.comb += port.address.eq(address[3:])
    with m.Switch(element_type):
        with m.Case(Type.INT8):
            m.d.comb += [port.data.eq(low[:8].replicate(8)), port.mask.eq(1 << place)]
        with m.Case(Type.INT16):
            m.d.comb += [port.data.eq(low[:16].replicate(4)), port.mask.eq(3 << (place & 6))]
        with m.Default():
            m.d.comb += [
                port.data.eq(value.replicate(2)),
                port.mask.eq(Mux(place[2], 0xF0, 0x0F)),
            ]
