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
    SIZE,
    Refused,
    Size,
    check_output,
    load,
    with_model,
    write_json,
)
from diptych_sim.compiler.hbm_layout import PrefillError
from diptych_sim.compiler.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.decode_only import DecodeRun, decode_only
from diptych_sim.engine.errors import BuildError, SimulationError, ToolError
from diptych_sim.generate import Machine
from diptych_sim.generate import generate as run_machine
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.llm.load import LoadedModel
from diptych_sim.llm.tokenizer import TextStream
from diptych_sim.report.save_file import write_save_file
from diptych_sim.report.terminal import print_accounts

__all__ = ["generate"]


def _finish_decode(
    done: DecodeRun, loaded: LoadedModel, ids: list[int], json_file: str | None, terminal: Console
) -> None:
    """Print and write the result of the decode panel alone."""
    stream = TextStream(loaded.tokenizer, ids[-1])
    text = "".join(stream.add(token) for token in [done.first, *done.tokens]) + stream.finish()
    count = len(done.cycles) - 1
    each = (done.cycles[-1] - done.cycles[0]) / count if count else None
    result = {
        "matches_golden": done.matches_golden,
        "prompt_tokens": len(ids),
        "tokens": [done.first, *done.tokens],
        "text": text,
        "tpot_cycles": each,
        "back_doors": ["KV cache and first token from the golden model"],
        "wall_seconds": done.run.seconds,
    }
    terminal.print(text, markup=False, soft_wrap=True)
    if each:
        terminal.print(f"TPOT {each:,.0f} cycles a token")
    write_json(json_file, result)
    if not done.matches_golden:
        click.echo("error: tokens differ from the golden model", err=True)
        sys.exit(1)


@click.command()
@with_model
@click.option("--prompt", default="In the beginning", show_default=True)
@click.option("--tokens", default=16, show_default=True, type=int)
@click.option("--mesh", default="8x8", show_default=True, type=SIZE, help="Decode panel.")
@click.option("--array", default="16x16", show_default=True, type=SIZE, help="Prefill panel.")
@click.option("--sram-bytes", default=24576, show_default=True, type=int, help="SRAM of a tile.")
@click.option("--stage", default="all", type=click.Choice(["all", "prefill", "decode"]))
@click.option("--seed", default=None, type=int, help="Seed of random draws.")
@click.option("--waves", default=None, help="Waveform file to write (.fst or .vcd).")
@click.option("--out", default=None, help="Folder for result.json and listings.")
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def generate(
    model: str,
    tokenizer: str | None,
    prompt: str,
    tokens: int,
    mesh: Size,
    array: Size,
    sram_bytes: int,
    stage: str,
    seed: int | None,
    waves: str | None,
    out: str | None,
    json_file: str | None,
) -> None:
    """Write text after a prompt, every token computed by the RTL."""
    if not prompt:
        raise Refused("Prompt must not be empty")
    if tokens < 1:
        raise Refused(f"Number of tokens must be at least 1, not {tokens}")
    if max(mesh) > 128:
        raise Refused(f"Mesh must be at most 128x128, not {mesh[0]}x{mesh[1]}")
    if sram_bytes not in range(256, 65537, 256):
        raise Refused(f"SRAM must be a multiple of 256 bytes up to 65536, not {sram_bytes}")
    check_output("JSON file", json_file)
    check_output("Waveform file", waves)
    loaded = load(model, tokenizer)
    context = loaded.model.config.context
    ids = loaded.tokenizer.encode(prompt)
    if len(ids) >= context:
        raise Refused(
            f"Prompt must have fewer tokens than the model's context of {context}, not {len(ids)}"
        )
    if stage == "prefill":
        tokens = 1
    if stage == "decode" and tokens < 2:
        raise Refused("Number of tokens must be at least 2 to decode, as prefill writes the first")
    if len(ids) + tokens > context:
        raise Refused(
            f"Number of tokens must be at most {context - len(ids)}, as the prompt takes {len(ids)} "
            f"of the model's context of {context}, not {tokens}"
        )
    terminal = Console(stderr=json_file == "-", highlight=False)
    machine = Machine(array=array, mesh=mesh, sram_bytes=sram_bytes)
    stream = TextStream(loaded.tokenizer, ids[-1])
    text: list[str] = []
    stopped = False
    status = Console(stderr=True, highlight=False)

    def show(event: dict[str, Any]) -> None:
        nonlocal stopped
        if event["kind"] == "started":
            terminal.print(prompt, end="", style="dim", markup=False, soft_wrap=True)
        elif event["kind"] == "token" and not stopped:
            stopped = event["token"] in loaded.tokenizer.stop_ids
            if not stopped:
                text.append(stream.add(event["token"]))
                terminal.print(text[-1], end="", markup=False, soft_wrap=True)

    def tell(step: str) -> None:
        status.print(f"[dim]{step} ...[/]")

    try:
        tell("quantizing the model")
        quantized = quantize_loaded(loaded)
        if stage == "decode":
            terminal.print("KV cache and first token by a back door, from the golden model")
            alone = decode_only(
                quantized,
                ids,
                tokens,
                mesh=mesh,
                sram_bytes=sram_bytes,
                seed=seed,
                waves=Path(waves) if waves else None,
                progress=tell,
            )
            _finish_decode(alone, loaded, ids, json_file, terminal)
            return
        done = run_machine(
            quantized,
            ids,
            tokens,
            machine=machine,
            seed=seed,
            waves=Path(waves) if waves else None,
            progress=tell,
            on_event=show,
        )
        text.append(stream.finish())
        terminal.print(text[-1], markup=False, soft_wrap=True)
        accounts = account(done, quantized, machine)
    except (MeshTooSmallError, UnsupportedModelError, PrefillError, ValueError) as error:
        raise Refused(str(error)) from None
    except (BuildError, ToolError, SimulationError, AccountError) as error:
        raise click.ClickException(str(error)) from None
    result = {
        "matches_golden": done.matches_golden,
        "prompt_tokens": len(ids),
        "tokens": done.tokens,
        "text": "".join(text),
        "mac_utilization": None,
        "cycles_by_cause": {},
        **accounts,
        "wall_seconds": done.run.seconds,
        "config": {
            "model": loaded.model.name if hasattr(loaded.model, "name") else model,
            "prompt": prompt,
            "array": f"{array[0]}x{array[1]}",
            "mesh": f"{mesh[0]}x{mesh[1]}",
            "sram_bytes": sram_bytes,
            "hbm_bytes_per_cycle": machine.hbm_bytes_per_cycle,
            "hbm_latency": machine.hbm_latency,
            "link_bytes_per_cycle": machine.link_bytes_per_cycle,
            "link_latency": machine.link_latency,
            "stage": stage,
            "seed": done.run.seed,
        },
    }
    print_accounts(result, terminal)
    if waves is not None:
        terminal.print(f"Waveform {waves}, save file {write_save_file(Path(waves))}")
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(str(folder / "result.json"), result)
        assert done.decode is not None
        assert done.prefill is not None
        (folder / "decode_program.txt").write_text(done.decode.listing())
        (folder / "prefill_commands.txt").write_text(done.prefill.commands.listing())
    write_json(json_file, result)
    if not done.matches_golden:
        click.echo("error: tokens differ from the golden model", err=True)
        sys.exit(1)
