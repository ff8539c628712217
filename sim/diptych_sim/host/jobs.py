# SPDX-License-Identifier: BSD-2-Clause
"""Jobs for the simulated machine, and their results: written and read here alone.

A run writes its job into a file to which ``$DIPTYCH_JOB`` points; the testbench reads it, does the
work, and reports a result as an event. On lanes both stay in one process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from diptych_sim.cache.store import digest
from diptych_sim.compiler.tile.kernel import Readback
from diptych_sim.engine.lanes.checkpoint import Checkpoint

__all__ = [
    "JOB_VARIABLE",
    "TESTBENCH",
    "ArrayGemmJob",
    "ArrayGemmResult",
    "ArrayRequestJob",
    "ArrayRequestResult",
    "CollectiveJob",
    "CollectiveResult",
    "DecodeJob",
    "GenerateJob",
    "Inspected",
    "Inspection",
    "KernelJob",
    "KernelResult",
    "MeshJob",
    "PanelJob",
    "Words",
    "read_job",
    "result_of",
    "write_job",
]

JOB_VARIABLE = "DIPTYCH_JOB"
"""Environment variable of the testbench: path of the job's file."""
TESTBENCH = "diptych_sim.host.testbench"
"""Module that runs any job in a simulator."""

Words = list[list[int]]
"""32-bit words for each row of a mesh."""
Counters = list[dict[str, int]]
"""Counters of each tile, row by row."""


@dataclass(frozen=True, kw_only=True)
class MeshJob:
    """Fields of every job of a mesh.

    Attributes
    ----------
    mesh : (int, int)
        Rows and columns.
    parameters : dict
        Parameters of :class:`~diptych.mesh.mesh.Mesh`, but its size.
    load : list of list of int
        Words that are sent into each row first.
    lines : list of str
        Listing of the program, a line for each instruction; for messages of the watchdog.
    colors : dict of int to str
        Names of colors; for them, too.
    limit : int
        Cycles that a step may take: a token, a kernel, a collective.
    image : array or str or None
        The SRAM of all tiles, as of :meth:`.DecodeProgram.images`, that is there before the first
        cycle: a back door, of lanes only. In a file of a job it is the path of a file with it.
    cosimulated : bool
        Whether lanes compute the mesh in a simulation of everything else.
    checkpoint : Checkpoint or None
        Where the run is saved, for a mesh on lanes.
    """

    mesh: tuple[int, int]
    parameters: dict[str, int]
    load: Words
    lines: list[str]
    colors: dict[int, str]
    limit: int
    image: Any = None
    cosimulated: bool = False
    checkpoint: Checkpoint | None = None
    result: ClassVar[type | None] = None

    def identity(self) -> str:
        """Return a hash of what the run computes, wherever it is saved and recorded."""
        same: Any = replace(self, checkpoint=None, cosimulated=False, image=None)
        if hasattr(same, "folder"):
            same = replace(same, folder=None)
        image = self.read_image()
        held = "" if image is None else sha256(np.ascontiguousarray(image).data).hexdigest()
        return digest([type(self).__name__, msgspec.json.encode(same).decode(), held])

    def read_image(self) -> NDArray[np.uint32] | None:
        """Return the image, if there is one."""
        return np.load(self.image, mmap_mode="r") if isinstance(self.image, str) else self.image


@dataclass(frozen=True, kw_only=True)
class KernelResult:
    """Result of a kernel.

    Attributes
    ----------
    cycles : int
        From the first in which a tile is busy to the first in which none is.
    before, after : list of dict
        Counters of each tile in these cycles.
    readbacks : list
        Words by readback and row.
    """

    cycles: int
    before: Counters
    after: Counters
    readbacks: list[Words]


@dataclass(frozen=True, kw_only=True)
class KernelJob(MeshJob):
    """A kernel: loaded, started, watched until no tile is busy, and read."""

    start: Words
    readbacks: list[Readback]
    result: ClassVar[type] = KernelResult


@dataclass(frozen=True, kw_only=True)
class CollectiveResult:
    """Result of a collective.

    Attributes
    ----------
    starts : list of int
        Cycle in which each tile issued the last of its instructions that wait.
    end : int
        Cycle after the last write.
    before, after : list of dict
        Counters of each tile in the first and in the last of these cycles.
    words : list of list of int
        Results, by row.
    """

    starts: list[int]
    end: int
    before: Counters
    after: Counters
    words: Words


@dataclass(frozen=True, kw_only=True)
class CollectiveJob(MeshJob):
    """A collective.

    Attributes
    ----------
    start, gather : list of list of int
        Words that start it, and words that read the results.
    waited : list of int
        Instructions of each tile that wait for the others, before its first move.
    written : list of int
        Writes of each tile to its SRAM.
    results : int
        Words that each row sends back.
    """

    start: Words
    gather: Words
    waited: list[int]
    written: list[int]
    results: int
    result: ClassVar[type] = CollectiveResult


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Parts of the tiles' SRAM to read beside the program; this changes nothing.

    Attributes
    ----------
    tiles : list of int
        Tiles, by number, whose KV cache is read.
    kv : list of (int, int)
        Address and size of its parts, the same in each tile; multiples of 8.
    norms : list of (int, int)
        For each sequence, address and size of the final norm's output in the tiles of column 0.
    """

    tiles: list[int]
    kv: list[tuple[int, int]]
    norms: list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """Contents of the tiles' SRAM.

    Attributes
    ----------
    handoff, end : list of bytes
        KV cache of each tile: with the first token that the mesh wrote, or once the hand-off is
        over if it writes none; and with the last token.
    norms : list of bytes
        For each token of the mesh, the final norm's output that it came from, padded by row.
    """

    handoff: list[bytes]
    end: list[bytes]
    norms: list[bytes]


@dataclass(frozen=True, kw_only=True)
class DecodeJob(MeshJob):
    """Decode alone; ``load`` includes the KV cache and the first tokens.

    Attributes
    ----------
    first : list of int
        First token of each sequence.
    counts : list of int
        Tokens to write of each sequence, with the first one.
    stops : list of int
        Tokens that end a sequence before.
    inspection : Inspection
        Parts of the SRAM to compare with the golden model.
    counted : list of int
        Numbers of further tokens with which counters are reported.
    trace : dict or None
        Sampling plan of :class:`.MeshRecorder`, which then writes into ``folder``.
    folder : str or None
        Run folder.
    """

    first: list[int]
    counts: list[int]
    stops: list[int]
    inspection: Inspection
    counted: list[int] = field(default_factory=list)
    trace: dict[str, Any] | None = None
    folder: str | None = None
    result: ClassVar[type] = Inspected


@dataclass(frozen=True, kw_only=True)
class GenerateJob(MeshJob):
    """Prefill, link and decode; ``load`` are the packets for the mesh's rows.

    Attributes
    ----------
    hbm : str
        File with the contents of the HBM, beside the job's.
    hbm_digest : str
        Hash of them.
    program : int
        Address of the prefill program.
    settings : list of (int, int)
        Addresses and values of the link's settings.
    damage : float
        Probability that a word on the link is damaged.
    array : (int, int)
        Rows and columns of the array.
    weight_rows : int
        Weight rows that the array loads in a cycle.
    link_latency : int
        Cycles on the link's wires in each direction.
    layers : list of int
        For each layer the number of its last MATRIX command.
    counts, stops, inspection, counted, trace, folder
        As of :class:`DecodeJob`.
    """

    hbm: str
    hbm_digest: str
    program: int
    settings: list[tuple[int, int]]
    damage: float
    array: tuple[int, int]
    weight_rows: int
    link_latency: int
    layers: list[int]
    counts: list[int]
    stops: list[int]
    inspection: Inspection
    counted: list[int] = field(default_factory=list)
    trace: dict[str, Any] | None = None
    folder: str | None = None
    result: ClassVar[type] = Inspected


@dataclass(frozen=True, kw_only=True)
class ArrayGemmResult:
    """Result of a product.

    Attributes
    ----------
    cycles : int
        From the start to the end of the program.
    parts : dict
        Counters by block and name.
    beats_read, beats_of_program, beats_written : int
        Beats on the HBM's channels as monitors counted them: read, read of the program, written.
    observed : dict of str to int
        As of :meth:`.PanelObservers.counts`.
    """

    cycles: int
    parts: dict[str, dict[str, int]]
    beats_read: int
    beats_of_program: int
    beats_written: int
    observed: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class ArrayGemmJob:
    """A product from HBM to HBM.

    Attributes
    ----------
    hbm : str
        File with the contents of the HBM, beside the job's; what they are afterwards goes into
        the file ``written``.
    written : str
        That file, beside the job's.
    program : int
        Address of the program.
    array : (int, int)
        Rows and columns of the array.
    weight_rows : int
        Weight rows that the array loads in a cycle.
    limit : int
        Cycles that it may take.
    """

    hbm: str
    written: str
    program: int
    array: tuple[int, int]
    weight_rows: int
    limit: int
    result: ClassVar[type] = ArrayGemmResult


@dataclass(frozen=True, kw_only=True)
class ArrayRequestResult:
    """Result of requests on the prefill panel alone; of each program, the prompts' first.

    Attributes
    ----------
    starts, ends : list of int
        Cycles in which it started and ended.
    tokens : list of list of int
        The token of each sequence.
    token_cycles : list of list of int
        Cycles in which they left.
    parts : list of dict
        Counters by block and name at its end, since reset.
    beats : list of (int, int)
        Beats on the HBM's channels as monitors counted them until then: read, written; empty if
        nobody watches.
    observed : dict of str to int
        As of :meth:`.PanelObservers.counts`.
    """

    starts: list[int]
    ends: list[int]
    tokens: list[list[int]]
    token_cycles: list[list[int]]
    parts: list[dict[str, dict[str, int]]]
    beats: list[tuple[int, int]]
    observed: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class ArrayRequestJob:
    """Requests on the prefill panel alone: programs that run one after the other.

    Attributes
    ----------
    hbm, written : str
        Files of the HBM, as of :class:`ArrayGemmJob`.
    programs : list of int
        Addresses of the programs.
    ids : list
        For each program, where it expects the tokens of the one before; None if it has nothing to
        do with that.
    arrivals : list of int
        For each program, cycles since the start of the first before which it does not start.
    sequences : list of int
        Tokens of each program.
    watched : bool
        Whether monitors and observers check the run; without, it is much faster.
    recorded : bool
        Whether the event ``commands`` is reported, as of :class:`.CommandRecorder`.
    array, weight_rows
        As of :class:`ArrayGemmJob`.
    limit : int
        Cycles that a program may take.
    """

    hbm: str
    written: str
    programs: list[int]
    ids: list[int | None]
    arrivals: list[int]
    sequences: list[int]
    watched: bool = True
    recorded: bool = False
    array: tuple[int, int]
    weight_rows: int
    limit: int
    result: ClassVar[type] = ArrayRequestResult


PanelJob = ArrayGemmJob | ArrayRequestJob
"""Jobs of the prefill panel alone."""
_JOBS = {
    kind.__name__: kind
    for kind in (
        KernelJob,
        CollectiveJob,
        DecodeJob,
        GenerateJob,
        ArrayGemmJob,
        ArrayRequestJob,
    )
}


def write_job(job: MeshJob | PanelJob, folder: Path) -> dict[str, Path]:
    """Write a job into a folder, and return the environment of its testbench."""
    if isinstance(job, MeshJob) and isinstance(job.image, np.ndarray):
        image = folder / "image.npy"
        np.save(image, job.image)
        job = replace(job, image=str(image))
    path = folder / "job.json"
    path.write_bytes(msgspec.json.encode({"kind": type(job).__name__, "job": job}))
    return {JOB_VARIABLE: path}


def read_job() -> tuple[Any, Path]:
    """Return the job to which the environment points, and its folder."""
    path = Path(os.environ[JOB_VARIABLE])
    outer = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
    kind = _JOBS[msgspec.json.decode(outer["kind"])]
    return msgspec.json.decode(outer["job"], type=kind), path.parent


def result_of(job: MeshJob | PanelJob, events: list[dict[str, Any]]) -> Any:
    """Return the result of a job, among the events of its run; None if it has none."""
    found = [event["result"] for event in events if event["kind"] == "result"]
    return msgspec.convert(found[0], job.result) if found and job.result is not None else None
