# SPDX-License-Identifier: BSD-2-Clause
"""Compares what a generation leaves in the tiles with the golden model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych_sim.compiler.array.kv_rows import KvRows
from diptych_sim.compiler.decode.compile import DecodeProgram
from diptych_sim.compiler.decode.placement import Placement
from diptych_sim.golden.machine import KvCache
from diptych_sim.golden.sequence import GoldenSequence
from diptych_sim.host.jobs import Inspected, Inspection

__all__ = ["Comparison", "compare", "compare_hbm", "inspection"]

_MOST_BYTES = 2**20
"""KV bytes to read at a time; of larger caches evenly spaced tiles are read."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Extent of a comparison, and the first difference.

    Attributes
    ----------
    difference : str or None
        One line; None if everything is equal.
    compared : dict
        For results: ``final_norms`` (tokens), and for ``kv_handoff`` and ``kv_end`` the ``tiles``
        and ``bytes`` that were compared, and the ``sha256`` of these bytes in the tiles.
    """

    difference: str | None
    compared: dict[str, Any]


def _kv_spans(p: Placement, layers: int) -> list[tuple[int, int]]:
    """Return the parts of a tile's SRAM that hold its KV cache, in whole words."""
    spans: list[tuple[int, int]] = []
    for layer in range(layers):
        spans += [
            _words(region.address + layer * p.layer_bytes, region.size)
            for region in p.layer.values()
            if region.name.split(".")[0] in ("keys", "values")
        ]
    return spans


def _words(address: int, size: int) -> tuple[int, int]:
    """Return the 64-bit words that hold some bytes, as address and size."""
    first = address // 8 * 8
    return first, -(-(address + size - first) // 8) * 8


def inspection(program: DecodeProgram) -> Inspection:
    """Return what is to be read while a program runs."""
    p = program.placement
    spans = _kv_spans(p, program.model.config.layers)
    tiles = p.rows * p.columns
    count = min(tiles, max(1, _MOST_BYTES // sum(size for _, size in spans)))
    return Inspection(
        tiles=[n * tiles // count for n in range(count)],
        kv=spans,
        norms=[_words(p.at("normed", n), p.chunk * p.activation_bytes) for n in range(p.sequences)],
    )


def _expected_cells(
    program: DecodeProgram, golden: Sequence[GoldenSequence], *, decoded: bool
) -> dict[int, tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Return addresses and bytes of the KV cache in each tile, by its number.

    Those of the prompts, and with ``decoded`` those of the tokens after them, too.
    """
    p = program.placement
    parts: dict[int, list[tuple[NDArray[np.int64], NDArray[np.uint8]]]] = {}
    for number, sequence in enumerate(golden):
        positions = sequence.prompt + (len(sequence.tokens) - 1 if decoded else 0)
        keys, values = (
            np.array([part[:positions] for part in each])
            for each in zip(*((c.keys, c.values) for c in sequence.cache), strict=True)
        )
        of_column: dict[int, list[tuple[NDArray[np.int64], NDArray[np.uint8]]]] = {}
        for place, addresses, contents in program.layout.cells(keys, values, prompt=number):
            for column in range(place.first, place.last + 1):
                of_column.setdefault(column, []).append((addresses, contents))
        for column, heads in of_column.items():
            addresses = np.stack([each for each, _ in heads], axis=2)
            contents = np.stack([each for _, each in heads], axis=2)
            rows = p.positions.row(np.arange(positions))
            for row in np.unique(rows).tolist():
                held = (slice(None), rows == row)
                parts.setdefault(row * p.columns + column, []).append(
                    (addresses[held].reshape(-1), contents[held].reshape(-1))
                )
    return {
        tile: (np.concatenate([a for a, _ in cells]), np.concatenate([c for _, c in cells]))
        for tile, cells in parts.items()
    }


def _compare_kv(
    words: str,
    found: Sequence[bytes],
    spec: Inspection,
    expected: dict[int, tuple[NDArray[np.int64], NDArray[np.uint8]]],
    columns: int,
) -> tuple[str | None, dict[str, Any]]:
    addresses = np.concatenate([np.arange(at, at + size) for at, size in spec.kv])
    order = np.argsort(addresses, kind="stable")
    state = hashlib.sha256()
    difference, count = None, 0
    for tile, content in zip(spec.tiles, found, strict=True):
        if tile not in expected:
            continue
        at, want = expected[tile]
        got = np.frombuffer(content, np.uint8)[order[np.searchsorted(addresses[order], at)]]
        state.update(got.tobytes())
        count += len(want)
        wrong = np.flatnonzero(got != want)
        if len(wrong) and difference is None:
            n = wrong[0]
            difference = (
                f"KV cache {words} differs from the golden model's: tile {divmod(tile, columns)}, "
                f"address {at[n]:#x}: {got[n]:#04x} instead of {want[n]:#04x}"
            )
    return difference, {"tiles": len(spec.tiles), "bytes": count, "sha256": state.hexdigest()}


def compare(
    program: DecodeProgram,
    golden: Sequence[GoldenSequence],
    sequences: Sequence[int],
    inspected: Inspected,
    *,
    first: int = 1,
) -> Comparison:
    """Compare KV cache and final norms with those of the golden model.

    Parameters
    ----------
    program : DecodeProgram
        The program of the mesh.
    golden : sequence of GoldenSequence
        The golden model's sequences.
    sequences : sequence of int
        The sequence of each token of the mesh, in order.
    inspected : Inspected
        What was read.
    first : int
        Number of the first token of each sequence that is the mesh's.
    """
    p = program.placement
    spec = inspection(program)
    compared: dict[str, Any] = {}
    differences = []
    for name, words, found, decoded in (
        ("kv_handoff", "after the hand-off", inspected.handoff, False),
        ("kv_end", "at the end", inspected.end, True),
    ):
        expected = _expected_cells(program, golden, decoded=decoded)
        difference, compared[name] = _compare_kv(words, found, spec, expected, p.columns)
        differences.append(difference)
    difference = _compare_norms(p, golden, sequences, inspected.norms, spec, first)
    compared["final_norms"] = len(inspected.norms)
    differences.append(difference)
    return Comparison(difference=next(filter(None, differences), None), compared=compared)


def _compare_norms(
    p: Placement,
    golden: Sequence[GoldenSequence],
    sequences: Sequence[int],
    norms: Sequence[bytes],
    spec: Inspection,
    first: int,
) -> str | None:
    counts = [first] * len(golden)
    for sequence, content in zip(sequences, norms, strict=True):
        at, _ = spec.norms[sequence]
        kind = np.dtype(f"<i{p.activation_bytes}")
        skip = (p.at("normed", sequence) - at) // kind.itemsize
        rows = np.frombuffer(content, kind).reshape(p.rows, -1)[:, skip : skip + p.chunk]
        want = golden[sequence].norms[counts[sequence]]
        got = rows.reshape(-1)[: len(want)]
        if not np.array_equal(got, want):
            element = int(np.flatnonzero(got != want)[0])
            return (
                f"Final norm of token {counts[sequence]} of sequence {sequence} differs from the "
                f"golden model's: element {element} is {got[element]} instead of {want[element]}"
            )
        counts[sequence] += 1
    return None


def compare_hbm(
    kv: KvRows, hbm: bytes, caches: Sequence[Sequence[KvCache]], counts: Sequence[int]
) -> tuple[str | None, dict[str, Any]]:
    """Compare keys and values in an HBM with those of the golden model.

    Returns the first difference in one line, None if there is none, and ``bytes`` and ``sha256`` of
    what was compared. ``caches`` and ``counts`` are as of :meth:`.KvRows.expected`.
    """
    difference = None
    state, size = hashlib.sha256(), 0
    for at, want in kv.expected(caches, counts):
        got = np.frombuffer(hbm, np.uint8, count=len(want), offset=at)
        state.update(got.tobytes())
        size += len(want)
        if difference is None and not np.array_equal(got, want):
            byte = int(np.flatnonzero(got != want)[0])
            difference = (
                f"KV cache in HBM differs from the golden model's: address {at + byte:#x}: "
                f"{got[byte]:#04x} instead of {want[byte]:#04x}"
            )
    return difference, {"bytes": size, "sha256": state.hexdigest()}
