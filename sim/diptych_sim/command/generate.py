# SPDX-License-Identifier: BSD-2-Clause
"""``diptych generate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from diptych_sim.account.accounts import AccountError, account
from diptych_sim.command.options import (
    ARRAY,
    ENGINE,
    MESH,
    WEIGHT_ROWS,
    Refused,
    Size,
    check_engine,
    check_file,
    check_folder,
    check_weight_rows,
    json_text,
    load,
    with_model,
    write_json,
    write_whole,
)
from diptych_sim.command.prompts import (
    Prompts,
    check_texts,
    encode,
    joined,
    text_of,
    written,
)
from diptych_sim.command.waves import plan_waves, with_waves
from diptych_sim.compiler.command_listing import command_listing
from diptych_sim.compiler.hbm_layout import PrefillError
from diptych_sim.compiler.listing import memory_listing, program_listing
from diptych_sim.compiler.placement import MeshTooSmallError, UnsupportedModelError, place
from diptych_sim.decode_only import DecodeRun, decode_only
from diptych_sim.engine.errors import BuildError, SimulationError, ToolError
from diptych_sim.engine.kind import Engine
from diptych_sim.generate import Machine
from diptych_sim.generate import generate_batch as run_machine
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.llm.load import LoadedModel
from diptych_sim.llm.tokenizer import TextStream
from diptych_sim.report.layers import layers_csv, print_layers
from diptych_sim.report.operations import operation_rows, operations_csv
from diptych_sim.report.progress import Steps
from diptych_sim.report.terminal import print_accounts
from diptych_sim.report.timeline import TIMELINE, write_timeline
from diptych_sim.trace import FILES, read_run

__all__ = ["generate"]

RESULTS = (
    *FILES,
    TIMELINE,
    "prefill_layers.csv",
    "operations.csv",
    "decode_program.txt",
    "prefill_commands.txt",
)
"""Files of ``--out``."""


def _finish_decode(
    done: DecodeRun,
    loaded: LoadedModel,
    prompts: Prompts,
    targets: tuple[str | None, str | None],
    terminal: Console,
) -> None:
    """Print and write the result of the decode panel alone."""
    sequences = []
    for n, first in enumerate(done.first):
        tokens, cycles = [first, *done.tokens[n]], done.cycles[n]
        count = len(cycles) - 1
        sequences.append(
            {
                "prompt": prompts.shown[n],
                "prompt_tokens": len(prompts.ids[n]),
                "tokens": tokens,
                "text": text_of(loaded.tokenizer, prompts.ids[n], tokens),
                "matches_golden": done.tokens[n] == done.expected[n],
                "tpot_cycles": (cycles[-1] - cycles[0]) / count if count > 0 else None,
            }
        )
    times = [each["tpot_cycles"] for each in sequences if each["tpot_cycles"]]
    each = sum(times) / len(times) if times else None
    result = {
        **joined(sequences),
        "tpot_cycles": each,
        "back_doors": ["KV cache and first token from the golden model"],
        "wall_seconds": done.run.seconds,
    }
    for sequence in sequences:
        terminal.print(sequence["text"], markup=False, soft_wrap=True)
    if each:
        terminal.print(f"TPOT {each:,.0f} cycles a token")
    json_file, out = targets
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(str(Path(out) / RESULTS[0]), result)
    write_json(json_file, result)
    if not done.matches_golden:
        click.echo("error: tokens differ from the golden model", err=True)
        sys.exit(1)


def _check_mesh(loaded: LoadedModel, mesh: Size, sram_bytes: int, positions: list[int]) -> None:
    """Refuse a mesh that cannot hold the model, before any work is done."""
    try:
        place(loaded.model.config, *mesh, positions=positions, sram_bytes=sram_bytes)
    except (MeshTooSmallError, UnsupportedModelError) as error:
        raise Refused(str(error)) from None


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
@click.option("--mesh", default="8x8", show_default=True, type=MESH, help="Decode panel.")
@click.option("--array", default="16x16", show_default=True, type=ARRAY, help="Prefill panel.")
@WEIGHT_ROWS
@click.option("--sram-bytes", default=24576, show_default=True, type=int, help="SRAM of a tile.")
@click.option("--stage", default="all", type=click.Choice(["all", "prefill", "decode"]))
@ENGINE
@click.option(
    "--seed", default=None, type=click.IntRange(0, 2**32 - 1), help="Seed of random draws."
)
@with_waves
@click.option(
    "--out", default=None, help="Folder for the run: result, tables, listings, what a report needs."
)
@click.option(
    "--trace/--no-trace",
    default=True,
    help="Record counters over time into --out.",
    show_default=True,
)
@click.option(
    "--clock-mhz",
    default=1000.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Clock that turns cycles into seconds.",
)
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def generate(
    model: str,
    tokenizer: str | None,
    texts: tuple[str, ...],
    counts: tuple[int, ...],
    mesh: Size,
    array: Size,
    weight_rows: int,
    sram_bytes: int,
    stage: str,
    engine: Engine,
    seed: int | None,
    waves: str | None,
    first: int | None,
    last: int | None,
    blocks: str | None,
    out: str | None,
    trace: bool,
    clock_mhz: float,
    json_file: str | None,
) -> None:
    """Write text after a prompt, or several at once, every token computed by the RTL."""
    check_texts(texts, counts)
    check_weight_rows(weight_rows, array)
    if sram_bytes not in range(256, 65537, 256):
        raise Refused(f"SRAM must be a multiple of 256 bytes up to 65536, not {sram_bytes}")
    if engine == "lanes" and stage != "decode":
        raise Refused(f"Engine lanes runs --stage decode, not {stage}")
    check_engine(engine, waves)
    check_file("JSON file", "--json", json_file)
    check_file("Waveform file", "--waves", waves, suffixes=(".fst", ".vcd"))
    check_folder("Result folder", "--out", out, RESULTS)
    recording = plan_waves(waves, first, last, blocks, mesh=mesh, decode_alone=stage == "decode")
    if waves is not None and json_file == waves:
        raise Refused(f"JSON file (--json) must not be the waveform file (--waves), {waves}")
    loaded = load(model, tokenizer)
    prompts = encode(loaded, texts, counts, stage)
    positions = [len(ids) + n - 1 for ids, n in zip(prompts.ids, prompts.counts, strict=True)]
    _check_mesh(loaded, mesh, sram_bytes, positions)
    single = len(texts) == 1
    terminal = Console(stderr=json_file == "-", highlight=False, emoji=False)
    machine = Machine(array=array, mesh=mesh, sram_bytes=sram_bytes, weight_rows=weight_rows)
    streams = [TextStream(loaded.tokenizer, ids[-1]) for ids in prompts.ids]
    stopped = False
    tell = Steps()

    def show(event: dict[str, Any]) -> None:
        nonlocal stopped
        kind = event["kind"]
        if kind == "started":
            tell("prefill")
        elif kind == "layer":
            tell(f"prefill, layer {event['layer'] + 1} of {event['layers']}")
        elif kind == "prefill":
            tell("hand-off")
        elif kind == "token" and single and not stopped:
            if event["index"] == 0:
                tell.stop()
                terminal.print(prompts.shown[0], end="", style="dim", markup=False, soft_wrap=True)
            stopped = event["token"] in loaded.tokenizer.stop_ids
            if not stopped:
                terminal.print(event["text"], end="", markup=False, soft_wrap=True)

    config = {
        "model": loaded.model.name if hasattr(loaded.model, "name") else model,
        "prompt": prompts.shown[0] if single else list(prompts.shown),
        "array": f"{array[0]}x{array[1]}",
        "mesh": f"{mesh[0]}x{mesh[1]}",
        "sram_bytes": sram_bytes,
        "hbm_bytes_per_cycle": machine.hbm_bytes_per_cycle,
        "hbm_latency": machine.hbm_latency,
        "weight_rows": machine.weight_rows,
        "link_bytes_per_cycle": machine.link_bytes_per_cycle,
        "link_latency": machine.link_latency,
        "stage": stage,
        "clock_mhz": clock_mhz,
    }
    folder = None
    if out is not None and stage != "decode":
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        for name in RESULTS:
            (folder / name).unlink(missing_ok=True)  # what an earlier run left
    try:
        tell("quantizing the model")
        quantized = quantize_loaded(loaded)
        if stage == "decode":
            terminal.print("KV cache and first token by a back door, from the golden model")
            alone = decode_only(
                quantized,
                prompts.ids,
                prompts.counts,
                mesh=mesh,
                sram_bytes=sram_bytes,
                seed=seed,
                engine=engine,
                waves=recording and recording.plan,
                progress=tell,
            )
            if recording is not None:
                recording.finish(terminal)
            _finish_decode(alone, loaded, prompts, (json_file, out), terminal)
            return
        done = run_machine(
            quantized,
            prompts.ids,
            prompts.counts,
            machine=machine,
            seed=seed,
            waves=recording and recording.plan,
            out=folder,
            trace=trace and single,
            about={
                "config": config,
                "prompt": "\n".join(prompts.shown),
                "stop_ids": sorted(loaded.tokenizer.stop_ids),
            },
            text_of=lambda sequence, token: streams[sequence].add(token),
            progress=tell,
            on_event=show,
        )
        sequences = written(loaded.tokenizer, prompts, done.sequences)
        tell.stop()
        if single:
            terminal.print(streams[0].finish(), markup=False, soft_wrap=True)
        for sequence in [] if single else sequences:
            terminal.print(sequence["prompt"], end="", style="dim", markup=False, soft_wrap=True)
            terminal.print(sequence["text"], markup=False, soft_wrap=True)
        recorded = read_run(folder) if folder is not None and trace and single else None
        accounts = account(done, quantized, machine, recorded, clock_mhz=clock_mhz)
    except (MeshTooSmallError, UnsupportedModelError, PrefillError, ValueError) as error:
        raise Refused(str(error)) from None
    except (BuildError, ToolError, SimulationError, AccountError) as error:
        raise click.ClickException(str(error)) from None
    finally:
        tell.stop()
    result = {
        **joined(sequences),
        "pieces": [event["text"] for event in done.events if event["kind"] == "token"],
        **accounts,
        "wall_seconds": done.run.seconds,
        "config": config | {"seed": done.run.seed},
    }
    print_accounts(result, terminal)
    if stage == "prefill":
        print_layers(result["prefill"], terminal)
    if recording is not None:
        recording.finish(terminal)
    if folder is not None:
        assert done.decode is not None
        assert done.prefill is not None
        (folder / RESULTS[-2]).write_text(
            memory_listing(done.decode) + program_listing(done.decode)
        )
        (folder / RESULTS[-1]).write_text(command_listing(done.prefill.commands))
        write_whole(folder / RESULTS[-4], layers_csv(result["prefill"]))
        write_whole(folder / RESULTS[-3], operations_csv(operation_rows(result)))
        write_whole(folder / RESULTS[0], json_text(result))
        write_timeline(read_run(folder), folder / TIMELINE)
    write_json(json_file, result)
    if not done.matches_golden:
        click.echo("error: tokens differ from the golden model", err=True)
        sys.exit(1)
