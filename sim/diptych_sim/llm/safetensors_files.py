# SPDX-License-Identifier: BSD-2-Clause
"""Reads arrays from safetensors files, one or several with an index."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diptych_sim.llm.errors import ModelFileError, file_size
from diptych_sim.llm.json_files import read_json, unique_keys
from diptych_sim.llm.model import Floats

__all__ = ["INDEX", "WEIGHTS", "Arrays", "open_arrays"]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_TYPES = {"F32": 4, "F16": 2, "BF16": 2}
_LONGEST = 2**24
"""Bytes of a header at most; the format allows more, which a hundred thousand arrays do not need."""


class Arrays:
    """Arrays of one or several files by name; their data is read when they are asked for."""

    def __init__(self, places: Mapping[str, tuple[Path, str, tuple[int, ...], int]]) -> None:
        self._places = places

    @property
    def names(self) -> set[str]:
        """Names of all arrays."""
        return set(self._places)

    def where(self, name: str) -> Path:
        """Return the file of an array."""
        return self._places[name][0]

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse an array of another shape, or of a type that we do not read.

        Raises
        ------
        ModelFileError
            If it is.
        """
        path, kind, found, _ = self._places[name]
        if found != shape:
            raise ModelFileError(
                f"Model file {path}: shape of {name} must be {shape!r}, not {found!r}"
            )
        if kind not in _TYPES:
            raise ModelFileError(
                f"Model file {path}: type of {name} must be one of {', '.join(_TYPES)}, not {kind}"
            )

    def read(self, name: str) -> Floats:
        """Return an array as float32."""
        path, kind, shape, start = self._places[name]
        with path.open("rb") as file:
            file.seek(start)
            form = "<u2" if kind == "BF16" else f"<f{_TYPES[kind]}"
            values = np.fromfile(file, form, math.prod(shape))
        if len(values) != math.prod(shape):
            raise ModelFileError(f"Model file {path} must not change while it is read")
        if kind == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32, copy=False).reshape(shape)


def open_arrays(folder: Path, check: Callable[[int], None]) -> Arrays:
    """Find the arrays of ``model.safetensors``, or of the files that its index names.

    ``check`` is called with the bytes of all files ahead of anything else.

    Raises
    ------
    ModelFileError
        If a file is missing, damaged, outside of the folder, or arrays are there twice.
    """
    path, index = folder / WEIGHTS, folder / INDEX
    if path.exists() or not index.is_file():
        _refuse_pickles(path)
        check(file_size(path, "Model file"))
        return Arrays(_header(path))
    named = read_json(index, "Model index").get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
        raise ModelFileError(f"Model index {index} must name a file for each array (weight_map)")
    files = sorted(set(named.values()))
    for file in files:
        if not file.endswith(".safetensors") or Path(file).name != file or "\0" in file:
            raise ModelFileError(
                f"Model index {index} must name safetensors files beside it, not {file!r:.60}"
            )
    check(sum(file_size(folder / file, "Model file") for file in files))
    places: dict[str, tuple[Path, str, tuple[int, ...], int]] = {}
    for file in files:
        for name, place in _header(folder / file).items():
            if named.get(name) != file:
                where = f"in {named[name]!r:.60}" if name in named else "nowhere"
                raise ModelFileError(
                    f"Model file {folder / file} must hold what {INDEX} says, "
                    f"not {name!r:.60}, which is {where}"
                )
            places[name] = place
    missing = sorted(named.keys() - places.keys())
    if missing:
        raise ModelFileError(
            f"Model file {folder / named[missing[0]]} must hold {missing[0]!r:.60}, "
            f"which is missing"
        )
    return Arrays(places)


def _refuse_pickles(path: Path) -> None:
    """Say why a folder of the older format is refused."""
    if path.exists() or not path.parent.is_dir():
        return
    found = sorted(path.parent.glob("pytorch_model*.bin")) + sorted(path.parent.glob("*.pt*"))
    if found:
        raise ModelFileError(
            f"Model file {path} must be a file, not missing ({found[0].name} is a pickle, "
            f"which may run code: we do not read it)"
        )


def _header(path: Path) -> dict[str, tuple[Path, str, tuple[int, ...], int]]:
    """Return file, type, shape and first byte of every array of a file."""

    def damaged(why: str) -> ModelFileError:
        return ModelFileError(f"Model file {path} must be a complete safetensors file: {why}")

    size = file_size(path, "Model file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST):
            raise damaged(f"header of {length} bytes in {size}")
        try:
            header: Any = json.loads(file.read(length), object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            raise damaged(f"its header is no JSON: {' '.join(str(error).split())}") from error
    if not isinstance(header, dict):
        raise damaged("its header is no object")
    header.pop("__metadata__", None)
    base = 8 + length
    places: dict[str, tuple[Path, str, tuple[int, ...], int]] = {}
    spans: list[tuple[int, int, str]] = []
    for name, about in header.items():
        try:
            kind, shape, (start, end) = about["dtype"], about["shape"], about["data_offsets"]
            numbers = [*shape, start, end]
        except (KeyError, TypeError, ValueError):
            raise damaged(f"{name!r:.60} is not described") from None
        if not isinstance(kind, str) or any(type(n) is not int or n < 0 for n in numbers):
            raise damaged(f"{name!r:.60} is not described")
        if kind in _TYPES and end - start != math.prod(shape) * _TYPES[kind]:
            raise damaged(f"{name!r:.60} is of {shape} and {end - start} bytes")
        places[name] = (path, kind, tuple(shape), base + start)
        spans.append((start, end, name))
    last = 0
    for start, end, name in sorted(spans):
        if start != last or end < start:
            raise damaged(f"{name!r:.60} begins at byte {start}, not {last}")
        last = end
    if base + last != size:
        raise damaged(f"{base + last} bytes for its arrays, not {size}")
    return places
