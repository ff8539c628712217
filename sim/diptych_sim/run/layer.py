# SPDX-License-Identifier: BSD-2-Clause
"""One layer of a model of any shape on a mesh: random weights, a token at some position."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.config import MachineConfig
from diptych_sim.compiler.decode.attention import OF_POSITIONS
from diptych_sim.compiler.decode.compile import DecodeProgram, compile_decode
from diptych_sim.compiler.decode.norm import Norms, norms_of
from diptych_sim.compiler.decode.place import place
from diptych_sim.cost.layer import layer_bound, layer_macs
from diptych_sim.cost.tile_clock import TAKEN_EARLIER
from diptych_sim.engine.build import Progress
from diptych_sim.engine.lanes.distributed import open_mesh
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.golden.random_integers import random_cache, random_integers
from diptych_sim.golden.sequence import GoldenSequence
from diptych_sim.host.jobs import DecodeJob, Inspected
from diptych_sim.host.lanes_host import LanesHost, completed
from diptych_sim.host.workloads import TokenReporter, decode_tokens, load_decode
from diptych_sim.llm.model import ModelConfig

from .comparison import Comparison, compare, inspection
from .programs import mesh_fields, with_room

__all__ = ["LayerRun", "run_layer"]

VOCABULARY = 64
"""Tokens of the model around the layer: enough to begin and to end with."""
_LIMIT = 1_000_000
"""Cycles that a token may take."""


@dataclass(frozen=True, kw_only=True)
class LayerRun:
    """A token that went through one layer, between a small embedding and a small output.

    Attributes
    ----------
    program : DecodeProgram
        What ran.
    machine : MachineConfig
        The mesh.
    golden : GoldenSequence
        The golden model's sequence.
    tokens : list of int
        The first token, and the one that the mesh wrote.
    followed : array of int
        The instructions at which two tiles were in each cycle of the token, [cycles, 2]: those in row 0
        and in the middle row of the last column with heads.
    before, after : list of dict
        Counters of each tile in the first and behind the last of these cycles.
    inspected : Inspected
        Contents of the tiles.
    """

    program: DecodeProgram
    machine: MachineConfig
    golden: GoldenSequence
    tokens: list[int]
    followed: NDArray[np.int64]
    before: list[dict[str, int]]
    after: list[dict[str, int]]
    inspected: Inspected

    @cached_property
    def comparison(self) -> Comparison:
        """KV cache and final norm, compared with the golden model."""
        return compare(self.program, [self.golden], [0], self.inspected)

    @property
    def difference(self) -> str | None:
        """The first difference from the golden model, in one line; None if there is none."""
        if self.tokens != self.golden.tokens:
            return "the token differs from the golden model's"
        return self.comparison.difference

    def _passed(self, instruction: int, tile: int = 0) -> int:
        """Return the cycle in which a followed tile went beyond an instruction."""
        return int(np.flatnonzero(self.followed[:, tile] == instruction)[-1]) + 1

    @property
    def cycles(self) -> int:
        """Cycles of the layer, as of one between others: from row to row of the residual stream.

        Both rows are those that norms divide by a magnitude. So the wait of a model's first norm, which
        takes that of its own row, does not count. Ahead of another layer it takes a few more, for
        branches. A row comes to the tiles one after the other, and results come from the last one: so it
        is one of these that counts.
        """
        return self._ended - self._passed(self._start)

    @property
    def _ended(self) -> int:
        """The cycle in which the last norm began: that by the norm before reads while the row is written."""
        return self._passed(self._end) - TAKEN_EARLIER * self._norms.final.by_before

    @property
    def _start(self) -> int:
        return self.program.program.place(self._norms.attention.row_is_there(""))

    @property
    def _end(self) -> int:
        return self.program.program.place(self._norms.final.row_is_there(""))

    @property
    def _norms(self) -> Norms:
        return norms_of(self.program.model)

    @property
    def operations(self) -> list[tuple[str, int]]:
        """Cycles of each operation of the layer, in order; they sum to :attr:`cycles`.

        An operation lasts until the first instruction of the next one has gone: in row 0, but for those
        that only rows with positions have, in the middle one.
        """
        layer = self.program.program.labels["layer"]
        # The first one is the norm, which begins when it divides.
        names, begins = ["norm"], [self._passed(self._start)]
        for first, name, looped in self.program.program.pieces():
            inside = looped and layer < first < self._end
            if inside and name != names[-1]:
                names.append(name)
                begins.append(self._passed(first, 1 if name in OF_POSITIONS else 0))
        ends = [*begins[1:], self._ended]
        return [(n, end - begin) for n, begin, end in zip(names, begins, ends, strict=True)]

    @property
    def macs(self) -> int:
        """As of :func:`.layer_macs`."""
        return layer_macs(self.program.model.config, self.program.prompt_tokens[0])

    @property
    def bound_cycles(self) -> int:
        """As of :func:`.layer_bound`."""
        config, position = self.program.model.config, self.program.prompt_tokens[0]
        return layer_bound(config, self.machine.tiles, position)


def run_layer(
    config: ModelConfig,
    *,
    machine: MachineConfig,
    position: int,
    seed: int = 1,
    progress: Progress | None = None,
) -> LayerRun:
    """Run one layer of a shape on lanes; weights and KV cache are random, and in the tiles at first.

    Parameters
    ----------
    config : ModelConfig
        The shape; its layers, vocabulary and context are not used.
    machine : MachineConfig
        The mesh; its program memory is enlarged for the program.
    position : int
        Position of the token, at least 1: so many keys and values are there.

    Raises
    ------
    MeshTooSmallError, UnsupportedModelError
        If the mesh cannot hold the layer.
    BuildError, HangError, SimulationError, ToolError
        If a step fails.
    """
    step = progress or (lambda _step: None)
    one = replace(config, layers=1, vocab=VOCABULARY, context=position + 1, tied=False)
    # What does not fit is refused before weights are drawn.
    place(one, *machine.mesh, positions=position + 1, sram_bytes=machine.sram_bytes)
    step("drawing weights")
    model = random_integers(one, seed, steady=True)
    step("compiling the layer")
    program = compile_decode(
        model, *machine.mesh, prompt_tokens=position, tokens=2, sram_bytes=machine.sram_bytes
    )
    machine = with_room(machine, program)
    images = program.images
    step("golden model")
    golden = GoldenModel(model)
    golden.cache = random_cache(one, position, seed)
    _write_cache(program, images, golden)
    golden.position = position
    first = seed % VOCABULARY
    token, norm = golden.step([first])
    expected = GoldenSequence(
        prompt=position,
        tokens=[first, token],
        norms=[norm, norm],
        cache=golden.cache,
        wide=golden.wide,
    )
    rows = range(machine.mesh[0])
    job = DecodeJob(
        **mesh_fields(machine, program),
        load=[
            program.load_packets(row, memory=False) + program.start_packets(first) for row in rows
        ],
        image=images,
        first=[first],
        counts=[2],
        stops=[],
        limit=_LIMIT,
        inspection=inspection(program),
    )
    events, followed, inspected = _run(job, program.placement.span.stop - 1, progress)
    before, after = (event["tiles"] for event in events if event["kind"] == "counters")
    return LayerRun(
        program=program,
        machine=machine,
        golden=expected,
        tokens=[event["token"] for event in events if event["kind"] == "token"],
        followed=followed,
        before=before,
        after=after,
        inspected=inspected,
    )


def _run(
    job: DecodeJob, column: int, progress: Progress | None
) -> tuple[list[dict[str, Any]], NDArray[np.int64], Inspected]:
    """Run a job on lanes; return its events, where two tiles of a column were, and what is left."""
    step = progress or (lambda _step: None)
    events: list[dict[str, Any]] = []
    followed: list[list[int]] = []
    rows = (0, job.mesh[0] // 2)

    class Followed(LanesHost):
        """Looks at these tiles in each cycle until a token comes."""

        async def until_token(self, index: int, limit: int) -> tuple[int, int]:
            for _ in range(limit):
                self.mesh.run(1, threads=self.mesh.threads)
                followed.append([self.mesh.value("core.watch_pc", r, column) for r in rows])
                for word in self.mesh.words():
                    if word.row == 0:
                        return word.cycle, word.data
            self.hang(f"token {index} has not come within {limit} cycles")

    def report(**event: Any) -> None:
        events.append(event)

    async def work(host: LanesHost) -> Inspected:
        out = TokenReporter(host, job, report)
        await load_decode(host, job, out, report)
        step("running the layer")
        return await decode_tokens(host, job, out)

    with open_mesh(*job.mesh, progress=progress, **job.parameters) as mesh:
        step("loading the mesh")
        inspected = completed(work(Followed(mesh, job)))
    return events, np.array(followed), inspected


def _write_cache(program: DecodeProgram, images: NDArray[np.uint32], golden: GoldenModel) -> None:
    """Put the golden model's KV cache into images of the tiles."""
    tiles = images.view(np.uint8)
    deal, positions = program.placement.positions, program.prompt_tokens[0]
    keys, values = (
        np.array([part[:positions] for part in each])
        for each in zip(*((c.keys, c.values) for c in golden.cache), strict=True)
    )
    for owner, addresses, contents in program.layout.cells(keys, values):
        for position in range(positions):
            mine = tiles[deal.row(position), owner.first : owner.last + 1]
            mine[:, addresses[:, position].reshape(-1)] = contents[:, position].reshape(-1)
