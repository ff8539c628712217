# SPDX-License-Identifier: BSD-2-Clause
"""Packs Python values into the vectors that payloads are on the wire, and back."""

from collections.abc import Callable
from typing import Any, cast

from amaranth.hdl import Shape, ShapeLike
from amaranth.lib import data

__all__ = ["Beat", "Fields"]

Beat = Any
"""A payload: a dict for a structure, a list for an array, an int for anything else."""

_Codec = tuple[Callable[[Beat], int], Callable[[int], Beat]]


class Fields:
    """Packs and unpacks payloads of one shape.

    Parameters
    ----------
    shape : :class:`ShapeLike`
        A shape; structures and arrays may be nested.

    Attributes
    ----------
    width : int
        Bits of a packed payload.
    pack : callable
        Turns a beat into an unsigned integer. A structure must have exactly its fields; a value
        out of range raises :class:`ValueError`.
    unpack : callable
        Turns an unsigned integer into a beat.
    """

    def __init__(self, shape: ShapeLike) -> None:
        self.width = Shape.cast(shape).width
        self.pack, self.unpack = _codec(shape)


def _codec(shape: ShapeLike) -> _Codec:
    try:
        layout = data.Layout.cast(cast("data.Layout", shape))
    except TypeError:
        return _scalar(Shape.cast(shape))
    if isinstance(layout, data.StructLayout):
        return _struct(layout)
    if isinstance(layout, data.ArrayLayout):
        return _array(layout)
    raise TypeError(f"Layout must be a structure or an array, not {layout!r}")


def _scalar(shape: Shape) -> _Codec:
    mask = (1 << shape.width) - 1
    sign = (1 << shape.width >> 1) if shape.signed else 0
    low, high = -sign, mask - sign

    def pack(beat: Beat) -> int:
        value = int(beat)
        if not low <= value <= high:
            raise ValueError(f"Value must be in range({low}, {high + 1}), not {value!r}")
        return value & mask

    def unpack(bits: int) -> int:
        return (bits ^ sign) - sign

    return pack, unpack


def _struct(layout: data.StructLayout) -> _Codec:
    parts = []
    for key, field in layout:
        mask = (1 << field.width) - 1
        parts.append((key, field.offset, mask, *_codec(field.shape)))
    keys = {part[0] for part in parts}

    def pack(beat: Beat) -> int:
        if beat.keys() != keys:
            raise ValueError(f"Fields must be {sorted(keys)}, not {sorted(beat)}")
        bits = 0
        for key, offset, _, pack_field, _ in parts:
            bits |= pack_field(beat[key]) << offset
        return bits

    def unpack(bits: int) -> Beat:
        return {
            key: unpack_field(bits >> offset & mask) for key, offset, mask, _, unpack_field in parts
        }

    return pack, unpack


def _array(layout: data.ArrayLayout) -> _Codec:
    width = Shape.cast(layout.elem_shape).width
    mask = (1 << width) - 1
    pack_item, unpack_item = _codec(layout.elem_shape)

    def pack(beat: Beat) -> int:
        if len(beat) != layout.length:
            raise ValueError(f"Array must have {layout.length} items, not {len(beat)}")
        bits = 0
        for index, item in enumerate(beat):
            bits |= pack_item(item) << index * width
        return bits

    def unpack(bits: int) -> Beat:
        return [unpack_item(bits >> index * width & mask) for index in range(layout.length)]

    return pack, unpack
