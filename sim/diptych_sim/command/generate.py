# SPDX-License-Identifier: BSD-2-Clause
"""``diptych generate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from diptych.config import DEFAULTS, MachineConfig
from diptych_sim.account.generation import account
from diptych_sim.command.checkpoints import with_checkpoint
from diptych_sim.command.options import (
    ARRAY,
    AUTO_MESH,
    CLOCK,
    ENGINE,
    WEIGHT_ROWS,
    FiniteRange,
    Refused,
    Size,
    check_file,
    check_folder,
    check_weight_rows,
    json_text,
    load,
    with_model,
    write_json,
)
from diptych_sim.command.prompts import check_texts, encode, written
from diptych_sim.command.running import running, size_text
from diptych_sim.command.waves import plan_waves, with_waves
from diptych_sim.compiler.array.listing import command_listing
from diptych_sim.compiler.decode.listing import memory_listing, program_listing
from diptych_sim.compiler.decode.place import place, smallest_square
from diptych_sim.compiler.decode.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.cost.mesh_choice import choose_mesh
from diptych_sim.engine.lanes.checkpoint import Checkpoint
from diptych_sim.engine.names import Engine
from diptych_sim.engine.processes import is_first, processes
from diptych_sim.engine.simulate import default_seed
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.llm.load import LoadedModel
from diptych_sim.llm.tokenizer import TextStream
from diptych_sim.report.console import console
from diptych_sim.report.derived import DERIVED, REPORT, write_derived
from diptych_sim.report.layers import print_layers
from diptych_sim.report.live import Live
from diptych_sim.report.sequences import joined
from diptych_sim.report.terminal import print_accounts
from diptych_sim.report.whole_file import write_whole
from diptych_sim.run.folder import FILES, RESULT, read_run
from diptych_sim.run.generate import Generation
from diptych_sim.run.generate import generate as run_machine
from diptych_sim.silicon.baseline import slowest

__all__ = ["generate"]

BACK_DOOR = "KV cache and first token from the golden model"
PRELOADED = "weights in the tiles before the first cycle"

LISTINGS = ("decode_program.txt", "prefill_commands.txt")
FOLDER = (*FILES, *DERIVED, *LISTINGS, REPORT)
"""Files of a run folder."""


def _check_cut(top_k: int | None, top_p: float | None) -> None:
    """Refuse what an arg-max of logits with noise cannot draw from."""
    for name, value in (("top-k", top_k), ("top-p", top_p)):
        if value is not None:
            raise Refused(
                f"Tokens are drawn from all (--{name} is not to be had): the fabric finds the best "
                "of logits with noise, and not how many exceed one"
            )


def _check_run(sram_bytes: int, preloaded: bool, engine: Engine, stage: str) -> None:
    """Refuse memories that tiles cannot have, and what an engine cannot do."""
    if sram_bytes not in range(256, 65537, 256):
        raise Refused(f"SRAM must be a multiple of 256 bytes up to 65536, not {sram_bytes}")
    if preloaded and engine != "lanes":
        raise Refused(f"Weights (--weights) must be fabric with --engine {engine}, not preloaded")
    if processes() > 1 and stage != "decode":
        raise Refused(f"Processes (--processes) must be 1 with --stage {stage}, not {processes()}")


def _check_mesh(
    loaded: LoadedModel, mesh: Size, sram_bytes: int, positions: list[int], **kind: bool
) -> None:
    """Refuse a mesh that cannot hold what a stage uses, before any work is done."""
    try:
        place(loaded.model.config, *mesh, positions=positions, sram_bytes=sram_bytes, **kind)
    except (MeshTooSmallError, UnsupportedModelError) as error:
        raise Refused(str(error)) from None


def _check_files(json_file: str | None, out: str | None, waves: str | None) -> None:
    """Refuse results that cannot be written, or that would overwrite each other."""
    check_file("JSON file", "--json", json_file)
    check_folder("Result folder", "--out", out, FOLDER)
    if waves is not None and json_file == waves:
        raise Refused(f"JSON file (--json) must not be the waveform file (--waves), {waves}")


def _chosen_mesh(
    loaded: LoadedModel, sram_bytes: int, positions: list[int], max_tiles: int, **kind: bool
) -> Size:
    """Return the fastest mesh for a model, and say why."""
    if len(positions) > 1:
        raise Refused("Mesh (--mesh) must be RxC with several prompts, not auto")
    try:
        found = choose_mesh(
            loaded.model.config,
            positions=positions[0],
            sram_bytes=sram_bytes,
            max_tiles=max_tiles,
            **kind,
        )
    except (MeshTooSmallError, UnsupportedModelError) as error:
        raise Refused(str(error)) from None
    place = found.placement
    heads = f"{place.split} columns share a head" if place.split > 1 else "whole heads"
    click.echo(
        f"Mesh {size_text(found.mesh)}, {heads}: {found.cycles:,} cycles a token by the closed "
        f"form, the fewest with at most {max_tiles:,} tiles",
        err=True,
    )
    return found.mesh


def _mesh_of_keys(
    loaded: LoadedModel, mesh: Size, sram_bytes: int, positions: list[int], **kind: bool
) -> Size:
    """Return a mesh, or if it is nobody's choice and too small for a prompt, a square one."""
    if click.get_current_context().get_parameter_source("mesh") is not ParameterSource.DEFAULT:
        return mesh
    try:
        side = smallest_square(
            loaded.model.config, max(mesh), positions=positions, sram_bytes=sram_bytes, **kind
        )
    except UnsupportedModelError as error:
        raise Refused(str(error)) from None
    return mesh if side is None else (side, side)


@click.command()
@with_model
@click.option(
    "--prompt",
    "texts",
    default=["In the beginning"],
    show_default=True,
    multiple=True,
    help="Several times: prompts that are read and continued together.",
)
@click.option(
    "--tokens",
    "counts",
    default=[16],
    show_default=True,
    multiple=True,
    type=int,
    help="Once, or once for each prompt.",
)
@click.option(
    "--mesh",
    default="8x8",
    show_default=True,
    type=AUTO_MESH,
    help="Decode panel; auto: the fastest that holds the model. For prefill alone, larger if need be.",
)
@click.option(
    "--max-tiles",
    default=4608,
    show_default=True,
    type=click.IntRange(1, 128 * 128),
    help="Of a mesh that is chosen.",
)
@click.option("--array", default="16x16", show_default=True, type=ARRAY, help="Prefill panel.")
@WEIGHT_ROWS
@click.option(
    "--sram-bytes", default=DEFAULTS.sram_bytes, show_default=True, type=int, help="SRAM of a tile."
)
@click.option("--stage", default="all", type=click.Choice(["all", "prefill", "decode"]))
@ENGINE
@click.option(
    "--weights",
    default="fabric",
    show_default=True,
    type=click.Choice(["fabric", "preloaded"]),
    help="The mesh's come over the fabric, or are in its tiles before the first cycle.",
)
@click.option(
    "--seed", default=None, type=click.IntRange(0, 2**32 - 1), help="Seed of random draws."
)
@click.option(
    "--temperature",
    default=0.0,
    show_default=True,
    type=FiniteRange(0, 100),
    help="Draw tokens from the softmax of logits by this; 0 takes the best one.",
)
@click.option("--top-k", default=None, type=int, help="Not to be had; says why.")
@click.option("--top-p", default=None, type=float, help="Not to be had; says why.")
@click.option("--chat", is_flag=True, help="Prompts are a user's part of a chat of the model.")
@click.option("--system", default=None, help="Text of a chat's system part.")
@click.option("--ignore-eos", is_flag=True, help="Go on where the model ends a text.")
@with_waves
@with_checkpoint
@click.option(
    "--out", default=None, help="Folder for the run: result, tables, listings, what a report needs."
)
@click.option(
    "--trace/--no-trace",
    default=True,
    help="Record counters over time into --out.",
    show_default=True,
)
@CLOCK
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def generate(
    model: str,
    tokenizer: str | None,
    texts: tuple[str, ...],
    counts: tuple[int, ...],
    mesh: Size | None,
    max_tiles: int,
    array: Size,
    weight_rows: int,
    sram_bytes: int,
    stage: str,
    engine: Engine,
    weights: str,
    seed: int | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    chat: bool,
    system: str | None,
    ignore_eos: bool,
    waves: str | None,
    first: int | None,
    last: int | None,
    blocks: str | None,
    checkpoint: Checkpoint | None,
    out: str | None,
    trace: bool,
    clock_mhz: float,
    json_file: str | None,
) -> None:
    """Write text after a prompt, or several at once, every token computed by the RTL."""
    check_texts(texts, counts)
    _check_cut(top_k, top_p)
    if system is not None and not chat:
        raise Refused("System part (--system) must be used with --chat")
    check_weight_rows(weight_rows, array)
    preloaded = weights == "preloaded"
    _check_run(sram_bytes, preloaded, engine, stage)
    _check_files(json_file, out, waves)
    loaded = load(model, tokenizer)
    prompts = encode(loaded, texts, counts, stage, chat=chat, system=system)
    positions = [len(ids) + n - 1 for ids, n in zip(prompts.ids, prompts.counts, strict=True)]
    kind = {"sampled": temperature > 0, "kv_only": stage == "prefill"}
    mesh = mesh or _chosen_mesh(loaded, sram_bytes, positions, max_tiles, **kind)
    if stage == "prefill":
        mesh = _mesh_of_keys(loaded, mesh, sram_bytes, positions, **kind)
    recording = plan_waves(waves, first, last, blocks, mesh=mesh, decode_alone=stage == "decode")
    _check_mesh(loaded, mesh, sram_bytes, positions, **kind)
    terminal = console(stderr=json_file == "-")
    machine = MachineConfig(array=array, mesh=mesh, sram_bytes=sram_bytes, weight_rows=weight_rows)
    streams = [TextStream(loaded.tokenizer, ids[-1]) for ids in prompts.ids]
    stop_ids = [] if ignore_eos else sorted(loaded.tokenizer.stop_ids)
    config = {
        "model": loaded.model.name if hasattr(loaded.model, "name") else model,
        "prompt": prompts.shown[0] if len(texts) == 1 else list(prompts.shown),
        **_machine_fields(machine),
        "stage": stage,
        "engine": engine,
        "temperature": temperature,
        "weights": weights,
        "clock_mhz": clock_mhz,
    }
    back_doors = [BACK_DOOR] * (stage == "decode") + [PRELOADED] * preloaded
    folder = _emptied(out) if out is not None and is_first() else None
    options: dict[str, Any] = {
        "machine": machine,
        "stage": stage,
        "stops": stop_ids,
        "seed": seed,
        "engine": engine,
        "preloaded": preloaded,
        "checkpoint": checkpoint,
        "waves": recording and recording.plan,
        "out": folder,
        "trace": trace,
        "about": {"config": config, "prompts": prompts.shown, "stop_ids": stop_ids},
        "text_of": lambda sequence, token: streams[sequence].add(token),
    }
    with (
        running(ValueError) as progress,
        Live(
            terminal, progress, prompts=prompts.shown, stop_ids=stop_ids, tokens=sum(prompts.counts)
        ) as live,
    ):
        options |= {"progress": progress, "on_event": live}
        quantized = quantize_loaded(loaded, progress=progress)
        if temperature:
            # Each prompt draws its own tokens.
            base = default_seed() if seed is None else seed
            options["seeds"] = [(base + n) % 2**32 for n in range(len(texts))]
            quantized = quantized.sampled(temperature)
        for back_door in back_doors:
            terminal.print(f"{back_door}: a back door")
        done = run_machine(quantized, prompts.ids, prompts.counts, **options)
        sequences = written(loaded.tokenizer, prompts, done.sequences, stop_ids)
        live.finish([sequence["text"] for sequence in sequences], streams[0].finish())
        recorded = read_run(folder) if folder is not None else None
        accounts = account(done, recorded, clock_mhz=clock_mhz)
    result = {
        **joined(sequences),
        "matches_golden": done.matches_golden,
        "compared": {"tokens": len(done.tokens), **done.comparison.compared},
        "pieces": [event["text"] for event in done.events if event["kind"] == "token"],
        **accounts,
        "back_doors": back_doors,
        "wall_seconds": done.run.seconds,
        "config": config | _routed(stage) | {"colors": done.machine.colors, "seed": done.run.seed},
    }
    print_accounts(result, terminal)
    if stage == "prefill":
        print_layers(result["prefill"], terminal)
    if recording is not None:
        recording.finish(terminal)
    if folder is not None:
        _fill(folder, done, result)
    write_json(json_file, result)
    if done.difference is not None:
        click.echo(f"error: {done.difference}", err=True)
        sys.exit(1)


def _routed(stage: str) -> dict[str, Any]:
    """Return the slowest block of the panels that run, and its clock on an FPGA."""
    rooms = {"prefill": ["systolic"], "decode": ["mesh"]}.get(stage, ["systolic", "link", "mesh"])
    block, clock = slowest(rooms) or (None, None)
    return {"routed_block": block, "routed_mhz": clock}


def _machine_fields(machine: MachineConfig) -> dict[str, Any]:
    """Return the machine's part of the result's ``config``."""
    return {
        "array": size_text(machine.array),
        "mesh": size_text(machine.mesh),
        "sram_bytes": machine.sram_bytes,
        "hbm_bytes_per_cycle": machine.hbm_bytes_per_cycle,
        "hbm_latency": machine.hbm_latency,
        "weight_rows": machine.weight_rows,
        "link_bytes_per_cycle": machine.link_bytes_per_cycle,
        "link_latency": machine.link_latency,
        "hop_cycles": machine.hop_cycles,
        "colors": machine.colors,
        "positions": machine.positions,
    }


def _emptied(out: str) -> Path:
    """Return the run folder, without files of an earlier run."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FOLDER:
        (folder / name).unlink(missing_ok=True)
    return folder


def _fill(folder: Path, done: Generation, result: dict[str, Any]) -> None:
    """Write the result, the programs of both panels, and what follows from the run."""
    tiles, panel = (folder / name for name in LISTINGS)
    tiles.write_text(memory_listing(done.decode) + program_listing(done.decode))
    if done.prefill is not None:
        panel.write_text(command_listing(done.prefill.commands))
    write_whole(folder / RESULT, json_text(result))
    write_derived(read_run(folder))
