# SPDX-License-Identifier: BSD-2-Clause
"""Run folders: their format, and their reader.

``diptych generate --out DIR`` writes into ``DIR``, while it runs:

``events.jsonl``
    An event in each line, as the testbench reports it, with ``wall``, seconds since the run began.
    Cycles count from reset. ``kind`` is one of:

    ``run``: first line. ``config`` as in the result; ``prompts`` (texts) and ``prompt_ids``, ``stop_ids``;
    ``tokens``, how many are asked for; ``mesh``, ``array`` (rows, columns; no array when decode
    runs alone); ``layers``; and ``plan`` (:func:`trace_plan`, or None without a trace).

    ``started``: the prefill program starts at ``cycle``; when decode runs alone, the mesh has taken
    all that it is loaded with. ``layer``: the array is done with layer ``layer`` of ``layers``; those
    of a chunk of a prompt count behind those of the chunks before.
    ``prefill``: the program ended. ``token``: token ``token`` number ``index``, of sequence
    ``sequence``, is out; its ``text``; whether a round ``ends`` with it (round 0 are the first
    tokens; in each other round a token of each sequence that goes on is written). ``counters``: all counters after the first tokens and after
    the last (``index``).

    ``commands``: when the engines of the prefill panel took their commands and were done with
    them, as :func:`diptych_sim.account.prefill_operations.prefill_operations` reads it.

    Only with a trace: ``trace``: names of the counters in the samples below, ``panel`` (part and
    name, as ``prefill.panel.matrix.macs``) and ``mesh`` (of each tile). ``frame_queued``,
    ``frame_accepted``, ``frame_delivered``: at ``cycle``, ``count`` frames of the KV link are whole
    in the transmitter, have come whole, have gone into the mesh. ``frame_sent``: the head of a frame
    went out: ``sequence``, ``what`` ("keys", "values", "token"), ``layer``, ``position``, ``count``
    (payload words), ``prompt`` (its number); a frame that is repeated is reported again.
    ``operations``: ``marks`` are the times when the tile number ``plan.reference`` (row by row) went
    on to another operation in round ``index``: pairs of a cycle and a number in ``plan.pieces``.
``panel.u32``, ``mesh.u32``
    Samples, each of 32-bit words, low byte first: the cycle, and the counters that event ``trace``
    names, in its order (``mesh.u32``: for each tile, row by row). A sample at cycle ``c`` holds what
    ``c`` cycles have counted, reset's included. The panel and the link are sampled every 64 cycles
    until the first tokens are out; every 256 samples the distance doubles. The mesh is sampled at
    every 16th of them; then after each round in ``plan.sampled``; and, in each round in
    ``plan.detailed``, at each mark.
``result.json``
    The result, once the run is complete. A folder without it holds a run that was cut off.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych_sim.compiler.decode.compile import DecodeProgram
from diptych_sim.host.sample_files import MESH_SAMPLES, PANEL_SAMPLES

__all__ = [
    "EVENTS",
    "FILES",
    "MESH_SAMPLES",
    "PANEL_SAMPLES",
    "QUADRANTS",
    "RESULT",
    "NoRunError",
    "RunFolder",
    "Samples",
    "read_run",
    "sampling",
    "trace_plan",
]

RESULT = "result.json"
EVENTS = "events.jsonl"
QUADRANTS = "quadrants.json"
"""Result of ``diptych quadrants``, in a folder of its own."""


FILES = (RESULT, EVENTS, PANEL_SAMPLES, MESH_SAMPLES)

TILE_SAMPLES = 100_000
"""Samples of tiles for a whole run, about: enough for 32 tokens of 5 layers on 64 tiles."""


_START = {"config", "prompts", "prompt_ids", "tokens", "mesh", "array", "layers", "plan"}


class NoRunError(Exception):
    """A folder does not hold a run."""


def trace_plan(program: DecodeProgram, *, mesh: tuple[int, int]) -> dict[str, Any]:
    """Return what the recorder needs, so that its samples do not cost more than the run.

    ``pieces``: first instruction, operation, and whether each layer runs it again. ``joints``:
    first instructions of pieces that wait for what was before: as long as they do, they belong to
    the piece before. ``reference``: number of the tile in the middle, of those
    with heads. ``detailed``, ``sampled``: numbers of rounds.
    """
    rows, columns = mesh
    plan = sampling(
        program.program.pieces(),
        program.program.joints(),
        mesh=mesh,
        layers=program.model.config.layers,
        rounds=len(program.round_ends),
    )
    return plan | {"reference": rows // 2 * columns + program.placement.reference_column}


def sampling(
    pieces: Sequence[tuple[int, str, bool]],
    joints: Sequence[int],
    *,
    mesh: tuple[int, int],
    layers: int,
    rounds: int,
) -> dict[str, Any]:
    """Return a plan of :func:`trace_plan` for a number of rounds, with round 0, the first tokens."""
    rows, columns = mesh
    decoded = range(1, rounds)
    marks = sum(layers if looped else 1 for _, _, looped in pieces)
    detailed = _spread(decoded, max(1, TILE_SAMPLES // (rows * columns * marks)))
    sampled = {0, rounds - 1, *_spread(decoded, max(2, TILE_SAMPLES // (rows * columns)))}
    sampled |= {index - 1 for index in detailed}
    return {
        "pieces": list(pieces),
        "joints": list(joints),
        "reference": rows // 2 * columns + columns // 2,
        "detailed": detailed,
        "sampled": sorted(sampled | set(detailed)),
    }


def _spread(items: range, count: int) -> list[int]:
    """Return ``count`` of the items, or all: the first, the last, and others between."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[len(items) // 2]]
    return [items[round(n * (len(items) - 1) / (count - 1))] for n in range(count)]


@dataclass(frozen=True)
class Samples:
    """Counters over time.

    Attributes
    ----------
    names : tuple of str
        What the last axis of ``values`` counts.
    cycles : array of int64 [samples]
        When.
    values : array of int64 [samples, tiles, counters] or [samples, counters]
        What had been counted.
    """

    names: tuple[str, ...]
    cycles: NDArray[np.int64]
    values: NDArray[np.int64]

    def of(self, name: str) -> NDArray[np.int64]:
        """Return one counter."""
        return self.values[..., self.names.index(name)]


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Contents of a run folder.

    Attributes
    ----------
    path : Path
    events : list of dict
        As far as the run came.
    result : dict or None
        None when the run was cut off.
    panel, mesh : Samples or None
        None when nothing was recorded.
    """

    path: Path
    events: list[dict[str, Any]]
    result: dict[str, Any] | None
    panel: Samples | None
    mesh: Samples | None

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind."""
        return [event for event in self.events if event["kind"] == kind]

    def first(self, kind: str) -> dict[str, Any] | None:
        """Return the first event of a kind."""
        return next((event for event in self.events if event["kind"] == kind), None)

    @property
    def round_cycles(self) -> list[int]:
        """The cycle in which each round ended, as far as the run came."""
        return [event["cycle"] for event in self.all("token") if event["ends"]]

    @property
    def start(self) -> dict[str, Any]:
        """The event ``run``."""
        return self.events[0]


def read_run(path: Path) -> RunFolder:
    """Read a run folder, complete or not.

    Raises
    ------
    NoRunError
        If it does not hold a run.
    """
    if not path.is_dir():
        what = "a file" if path.exists() else "nothing"
        raise NoRunError(
            f"Run folder must be a folder that --out wrote, not {path}: {what} is there"
        )
    try:
        lines = (path / EVENTS).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise NoRunError(
            f"Run folder must be a folder that --out wrote, not {path}: it has no {EVENTS}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise NoRunError(f"Run folder must be readable, not {path}: {EVENTS}: {error}") from None
    events = []
    for number, line in enumerate(lines[:-1], start=1):  # the last one may be half a line
        try:
            event = json.loads(line)
            event["kind"]
        except (ValueError, TypeError, KeyError):
            raise NoRunError(
                f"Run folder must hold an event in each line, not {path}: {EVENTS} line {number}"
            ) from None
        events.append(event)
    if not events or events[0]["kind"] != "run" or not events[0].keys() >= _START:
        raise NoRunError(f"Run folder must begin with what was run, not {path}: {EVENTS} does not")
    result = None
    if (path / RESULT).is_file():
        try:
            result = json.loads((path / RESULT).read_text(encoding="utf-8"))
        except ValueError as error:
            raise NoRunError(
                f"Run folder must hold a result, not {path}: {RESULT}: {error}"
            ) from None
    names = next((event for event in events if event["kind"] == "trace"), None)
    rows, columns = events[0]["mesh"]
    panel = mesh = None
    if names is not None:
        panel = _samples(path / PANEL_SAMPLES, names["panel"], None)
        mesh = _samples(path / MESH_SAMPLES, names["mesh"], rows * columns)
    return RunFolder(path=path, events=events, result=result, panel=panel, mesh=mesh)


def _samples(path: Path, names: Sequence[str], tiles: int | None) -> Samples | None:
    if not path.is_file():
        return None
    width = 1 + len(names) * (tiles or 1)
    words = np.fromfile(path, dtype="<u4").astype(np.int64)
    table = words[: len(words) // width * width].reshape(-1, width)
    values = table[:, 1:]
    return Samples(
        tuple(names),
        table[:, 0],
        values if tiles is None else values.reshape(-1, tiles, len(names)),
    )
