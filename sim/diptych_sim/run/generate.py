# SPDX-License-Identifier: BSD-2-Clause
"""Writes text on the simulated machine, and checks it against the golden model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from diptych.config import DEFAULTS, MachineConfig
from diptych.system import System
from diptych_sim.compiler.decode.compile import DecodeProgram
from diptych_sim.compiler.prefill.compile import PrefillProgram
from diptych_sim.cost.prefill import PrefillCost
from diptych_sim.engine.build import Progress
from diptych_sim.engine.hbm_storage import HBM_VARIABLE
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.names import DEFAULT_ENGINE, Engine
from diptych_sim.engine.processes import processes
from diptych_sim.engine.simulate import Run, simulate
from diptych_sim.engine.waves import WavePlan
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.golden.sequence import GoldenSequence
from diptych_sim.host.in_process import run_in_process
from diptych_sim.host.jobs import TESTBENCH, GenerateJob, Inspected, result_of, write_job
from diptych_sim.host.public_signals import SYSTEM_PUBLIC

from .backend import OnEvent, mesh_backend, mesh_options
from .comparison import Comparison, compare
from .events import Events, Written
from .folder import trace_plan
from .programs import HandOff, Programs, Stage, compile_programs

__all__ = ["Generation", "NothingToDecodeError", "generate"]


class NothingToDecodeError(ValueError):
    """Prefill writes all of the text."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Text that the machine wrote, and the events of the run.

    When decode ran alone, the first token of each sequence is the golden model's; its cycle is that
    in which the mesh had taken all that it was loaded with.

    Attributes
    ----------
    sequences : list of Written
        Tokens after each prompt.
    events : list of dict
        As :mod:`.folder` specifies.
    run : Run
        How long it took.
    machine : MachineConfig
        The machine.
    decode : DecodeProgram
        Program of the mesh, as far as it ran.
    prefill : PrefillProgram or None
        Program of the prefill panel; None if decode ran alone.
    prefill_cost : PrefillCost or None
        What it should take.
    golden : list of GoldenSequence
        The golden model's sequences.
    inspected : Inspected
        Contents of the tiles.
    """

    sequences: list[Written]
    events: list[dict[str, Any]]
    run: Run
    machine: MachineConfig
    decode: DecodeProgram
    prefill: PrefillProgram | None
    prefill_cost: PrefillCost | None
    golden: list[GoldenSequence]
    inspected: Inspected

    @property
    def mesh_sequences(self) -> list[int]:
        """The sequence of each token that the mesh wrote, in order."""
        tokens = [event["sequence"] for event in self.events if event["kind"] == "token"]
        return tokens[len(self.sequences) :]

    @cached_property
    def comparison(self) -> Comparison:
        """Contents of the tiles, compared with the golden model."""
        return compare(self.decode, self.golden, self.mesh_sequences, self.inspected)

    @property
    def difference(self) -> str | None:
        """The first difference from the golden model, in one line; None if there is none."""
        if not all(written.matches_golden for written in self.sequences):
            return "tokens differ from the golden model"
        return self.comparison.difference

    @property
    def matches_golden(self) -> bool:
        """Whether tokens, KV cache and final norms equal the golden model's."""
        return self.difference is None

    @property
    def prompt(self) -> list[int]:
        """Tokens of the prompts, one prompt after the other."""
        return [token for written in self.sequences for token in written.prompt]

    @property
    def tokens(self) -> list[int]:
        """Tokens that were written, one sequence after the other."""
        return [token for written in self.sequences for token in written.tokens]

    @property
    def tiles(self) -> list[dict[str, int]]:
        """Counters of each tile, from reset to the last token."""
        return next(e["tiles"] for e in reversed(self.events) if e["kind"] == "counters")


def generate(
    model: QuantizedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    *,
    machine: MachineConfig = DEFAULTS,
    stage: Stage = "all",
    hand_off: HandOff = "layer-wise",
    stops: Sequence[int] = (),
    seeds: Sequence[int] = (),
    preloaded: bool = False,
    damage: float = 0.0,
    waves: WavePlan | None = None,
    out: Path | None = None,
    trace: bool = True,
    about: Mapping[str, Any] | None = None,
    text_of: Callable[[int, int], str] | None = None,
    seed: int | None = None,
    engine: Engine = DEFAULT_ENGINE,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    on_event: OnEvent | None = None,
) -> Generation:
    """Run prefill, link and decode in one simulation, or decode alone.

    Parameters
    ----------
    model, prompts, tokens, machine, stage, hand_off, stops, seeds, preloaded
        As of :func:`.compile_programs`.
    damage : float
        Probability that a word on the link is damaged.
    waves : WavePlan, optional
        What to record, in time since the start.
    out : Path, optional
        Folder that gets the events of the run, as :mod:`.folder` specifies.
    trace : bool
        Whether it gets samples of counters, too.
    about : mapping, optional
        Further fields of the event ``run``.
    text_of : callable, optional
        Called with sequence and token for each token; returns the ``text`` of the event ``token``.
    seed : int, optional
        Seed of every random draw.
    engine : Engine
        What runs the machine. Lanes run the mesh, and words all else, in this process; waves need
        Verilator, which then runs all but the mesh.
    checkpoint : Checkpoint, optional
        Where the run is saved, with lanes: once the mesh is all that works.
    progress, on_event
        Called at steps of the build, and for events of the simulation.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is not of this run.
    MeshTooSmallError, PrefillError, UnsupportedModelError
        If the machine cannot run the model or the prompt.
    NothingToDecodeError
        If decode is to run alone, and each sequence ends with its first token.
    BuildError, HangError, SimulationError, ToolError
        If a step fails.
    """
    programs = compile_programs(
        model,
        prompts,
        tokens,
        machine=machine,
        stage=stage,
        hand_off=hand_off,
        stops=stops,
        seeds=seeds,
        preloaded=preloaded,
        progress=progress,
    )
    if stage == "decode":
        _check_goes_on(programs)
    machine, decode = programs.machine, programs.decode
    traced = out is not None and trace and processes() == 1
    plan = trace_plan(decode, mesh=machine.mesh) if traced else None
    shown: dict[str, Any] = {"waves": waves, "seed": seed, "progress": progress}
    fields: dict[str, Any] = {
        "checkpoint": checkpoint,
        "trace": plan,
        "folder": str(out.absolute()) if out is not None else None,
    }
    if preloaded:
        fields["image"] = decode.images
    with Events(out, text_of=text_of, on_event=on_event) as events:
        array = machine.array if stage != "decode" else None
        events.start(decode, prompts, about, array=array, mesh=machine.mesh, plan=plan)
        if stage == "decode":
            backend = mesh_backend(engine, sampled=plan is not None, **shown)
            inspected, run = backend.run(programs.decode_job(**fields), events)
        else:
            job = programs.generate_job(**fields, damage=damage, cosimulated=engine == "lanes")
            inspected, run = _run_system(programs, job, events=events, **shown)
    sequences = events.written(prompts, programs.expected)
    return Generation(
        golden=programs.golden,
        inspected=inspected,
        sequences=sequences,
        events=events.all,
        run=run,
        machine=machine,
        decode=decode.ended([len(each.tokens) for each in sequences], _wide_layers(programs)),
        prefill=programs.prefill,
        prefill_cost=programs.prefill_cost if programs.prefill is not None else None,
    )


def _wide_layers(programs: Programs) -> list[int]:
    """Return the number of wide layers in each round of a single sequence, as the golden model has them."""
    if len(programs.golden) > 1:
        return []
    (golden,) = programs.golden
    return golden.wide_layers(golden.prompt)


def _check_goes_on(programs: Programs) -> None:
    if all(len(tokens) < 2 for tokens in programs.expected):
        raise NothingToDecodeError(
            "Text must go on behind its first token, which prefill writes, to be decoded; the "
            "model ends it there (--ignore-eos goes on)"
        )


def _run_system(
    programs: Programs,
    job: GenerateJob,
    *,
    waves: WavePlan | None,
    seed: int | None,
    progress: Progress | None,
    events: OnEvent,
) -> tuple[Inspected, Run]:
    """Run the whole machine in one simulation."""
    machine = programs.machine
    assert programs.prefill is not None
    if job.cosimulated:
        sizes: dict[str, Any] = job.parameters
        LaneMesh(*job.mesh, progress=progress, **sizes).close()  # builds it
    if job.checkpoint is not None:
        job = replace(job, checkpoint=job.checkpoint.absolute())
    results: list[dict[str, Any]] = []

    def listen(event: dict[str, Any]) -> None:
        results.append(event) if event["kind"] == "result" else events(event)

    with TemporaryDirectory(prefix="diptych-") as name:
        folder = Path(name)
        (folder / job.hbm).write_bytes(programs.prefill.hbm)
        hardware = partial(
            System,
            *machine.array,
            *machine.mesh,
            **machine.system_parameters | {"hbm_bytes": None},
            mesh_as_blackbox=job.cosimulated,
        )
        shown: dict[str, Any] = {"seed": seed, "progress": progress, "on_event": listen}
        if job.cosimulated and waves is None:
            run = run_in_process(
                hardware, "system", job, folder, public=SYSTEM_PUBLIC, outside="mesh", **shown
            )
        else:
            run = simulate(
                hardware,
                name="system",
                test_module=TESTBENCH,
                env={**write_job(job, folder), HBM_VARIABLE: folder / job.hbm},
                public=SYSTEM_PUBLIC,
                options=mesh_options(job.cosimulated),
                waves=waves,
                **shown,
            )
    return result_of(job, results), run
