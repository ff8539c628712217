# SPDX-License-Identifier: BSD-2-Clause
"""Reads the header of a GGUF file, in time and memory bound by the file's size.

The reader of the ``gguf`` library makes an array of each number of each array, and believes counts;
of it we use the numbers of the format and what turns blocks into floats.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diptych_sim.llm.errors import ModelFileError, file_size

__all__ = ["GgufHeader", "TensorInfo", "read_header"]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
"""Struct format by number of a type."""
_STRING, _ARRAY = 8, 9
_MOST = 2**16
"""Keys, and tensors, at most."""
_STRINGS = 2**20
"""Strings of all arrays at most."""
_DIMENSIONS = 4


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor is: ``shape`` with the innermost dimension last, bytes from the file's start."""

    shape: tuple[int, ...]
    kind: int
    start: int
    size: int


@dataclass(frozen=True)
class GgufHeader:
    """What stands ahead of the data; arrays of numbers are NumPy arrays, of strings lists."""

    fields: dict[str, Any]
    tensors: dict[str, TensorInfo]


class _DamagedError(Exception):
    """What a file must be, and is not."""


def read_header(path: Path) -> GgufHeader:
    """Read keys and the places of tensors.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, damaged, or of another format.
    """
    size = file_size(path, "Model file")
    if size < 24:
        raise ModelFileError(f"Model file {path} must be a GGUF file, not {size} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Reader(data).header()
        except _DamagedError as error:
            raise ModelFileError(f"Model file {path} must be a GGUF file {error}") from None


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0
        self._strings = _STRINGS

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise _DamagedError(f"that is whole, not one that ends at byte {len(self._data)}")
        self._at += count
        return self._data[self._at - count : self._at]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _count(self, words: str, most: int) -> int:
        count = self._number("<Q")
        if count > most:
            raise _DamagedError(f"with at most {most} {words}, not {count}")
        return count

    def _text(self) -> str:
        raw = self._take(self._count("bytes of text", len(self._data)))
        return raw.decode("utf-8", "surrogateescape")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind != _ARRAY:
            raise _DamagedError(f"with types of values up to 12, not {kind}")
        inner = self._number("<I")
        if inner == _STRING:
            count = self._count("strings in arrays", self._strings)
            self._strings -= count
            return [self._text() for _ in range(count)]
        if inner not in _SCALARS:
            raise _DamagedError(f"with arrays of numbers or text, not of type {inner}")
        form = _SCALARS[inner]
        raw = self._take(
            self._count("numbers in an array", len(self._data)) * struct.calcsize(form)
        )
        return np.frombuffer(raw, form)

    def header(self) -> GgufHeader:
        if self._take(4) != _MAGIC:
            raise _DamagedError("that begins with GGUF")
        version = self._number("<I")
        if version not in _VERSIONS:
            raise _DamagedError(f"of version 2 or 3, little-endian, not {version}")
        tensors, keys = self._count("tensors", _MOST), self._count("keys", _MOST)
        fields: dict[str, Any] = {}
        for _ in range(keys):
            key = self._text()
            if key in fields:
                raise _DamagedError(f"with each key once, not twice {key!r:.60}")
            fields[key] = self._value(self._number("<I"))
        found = [self._tensor() for _ in range(tensors)]
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 2**20:
            raise _DamagedError(f"with an alignment from 1 to {2**20}, not {alignment!r:.40}")
        base = -(-self._at // alignment) * alignment
        places: dict[str, TensorInfo] = {}
        for name, shape, kind, offset in found:
            if name in places:
                raise _DamagedError(f"with each tensor once, not twice {name!r:.60}")
            places[name] = TensorInfo(shape, kind, base + offset, _bytes(name, shape, kind))
        end = base
        for name, place in sorted(places.items(), key=lambda item: item[1].start):
            if place.start < end:
                raise _DamagedError(f"of tensors that do not overlap, not {name!r:.60}")
            end = place.start + place.size
            if end > len(self._data):
                raise _DamagedError(
                    f"of at least {end} bytes for {name!r:.60}, not {len(self._data)}"
                )
        return GgufHeader(fields, places)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text()
        count = self._number("<I")
        if count > _DIMENSIONS:
            raise _DamagedError(f"of tensors with at most {_DIMENSIONS} dimensions, not {count}")
        shape = tuple(self._number("<Q") for _ in range(count))[::-1]
        return name, shape, self._number("<I"), self._number("<Q")


def _bytes(name: str, shape: tuple[int, ...], kind: int) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (KeyError, ValueError):
        raise _DamagedError(f"of tensors of known types, not {kind} ({name!r:.60})") from None
    if shape and shape[-1] % block:
        raise _DamagedError(f"of rows of {block} values, not {shape[-1]} ({name!r:.60})")
    return math.prod(shape) // block * size
