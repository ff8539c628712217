# SPDX-License-Identifier: BSD-2-Clause
"""The ``diptych`` command."""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from diptych_sim.account.accounts import AccountError, account
from diptych_sim.compiler.hbm_layout import PrefillError
from diptych_sim.compiler.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.decode_only import DecodeRun, decode_only
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.errors import BuildError, SimulationError, ToolError
from diptych_sim.generate import Machine
from diptych_sim.generate import generate as run_machine
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.golden.evaluate import compare, windows
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.machine import GoldenMachine
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import LoadedModel, held_out_text, load_model
from diptych_sim.llm.tokenizer import TextStream
from diptych_sim.report.save_file import write_save_file
from diptych_sim.report.terminal import print_accounts

__all__ = ["main"]

Size = tuple[int, int]


class _SizeType(click.ParamType):
    name = "RxC"

    def convert(self, value: Any, param: Any, ctx: Any) -> Size:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)x(\d+)", str(value))
        if match is None or "0" in match.groups() or not all(map(int, match.groups())):
            self.fail(f"must be RxC with sizes of at least 1, as 8x8, not {value!r}", param, ctx)
        return int(match[1]), int(match[2])


SIZE = _SizeType()
OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--model", default="builtin", help="builtin, a llama2.c file, or a folder."),
    click.option("--tokenizer", default=None, help="Tokenizer of a llama2.c file."),
]


def _with_model(command: Any) -> Any:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


class _Refused(click.ClickException):
    """A user's mistake: one line, exit status 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {' '.join(self.message.split())}", err=True)


def _load(spec: str, tokenizer: str | None) -> LoadedModel:
    try:
        return load_model(spec, tokenizer=tokenizer)
    except ModelFileError as error:
        raise _Refused(str(error)) from None


def _write_json(target: str | None, result: dict[str, Any]) -> None:
    if target is None:
        return
    text = json.dumps(result, indent=2) + "\n"
    if target == "-":
        click.echo(text, nl=False)
    else:
        Path(target).write_text(text, encoding="utf-8")


def _check_output(name: str, target: str | None) -> None:
    if target in (None, "-"):
        return
    folder = Path(str(target)).absolute().parent
    if not folder.is_dir():
        raise _Refused(f"{name} must be in a folder that exists, not {target}")


@click.group()
@click.version_option(package_name="diptych")
def cli() -> None:
    """Language models on a simulated machine: systolic prefill, KV link, wafer-mesh decode."""


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
    _write_json(json_file, result)
    if not done.matches_golden:
        click.echo("error: tokens differ from the golden model", err=True)
        sys.exit(1)


@cli.command()
@_with_model
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
        raise _Refused("Prompt must not be empty")
    if tokens < 1:
        raise _Refused(f"Number of tokens must be at least 1, not {tokens}")
    if max(mesh) > 128:
        raise _Refused(f"Mesh must be at most 128x128, not {mesh[0]}x{mesh[1]}")
    if sram_bytes not in range(256, 65537, 256):
        raise _Refused(f"SRAM must be a multiple of 256 bytes up to 65536, not {sram_bytes}")
    _check_output("JSON file", json_file)
    _check_output("Waveform file", waves)
    loaded = _load(model, tokenizer)
    context = loaded.model.config.context
    ids = loaded.tokenizer.encode(prompt)
    if len(ids) >= context:
        raise _Refused(
            f"Prompt must have fewer tokens than the model's context of {context}, not {len(ids)}"
        )
    if stage == "prefill":
        tokens = 1
    if stage == "decode" and tokens < 2:
        raise _Refused("Number of tokens must be at least 2 to decode, as prefill writes the first")
    if len(ids) + tokens > context:
        raise _Refused(
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
        raise _Refused(str(error)) from None
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
        _write_json(str(folder / "result.json"), result)
        assert done.decode is not None
        assert done.prefill is not None
        (folder / "decode_program.txt").write_text(done.decode.listing())
        (folder / "prefill_commands.txt").write_text(done.prefill.commands.listing())
    _write_json(json_file, result)
    if not done.matches_golden:
        click.echo("error: tokens differ from the golden model", err=True)
        sys.exit(1)


@cli.command()
@_with_model
@click.option("--windows", "count", default=12, show_default=True, type=int)
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def evaluate(model: str, tokenizer: str | None, count: int, json_file: str | None) -> None:
    """Compare the golden model with the float reference on held-out text."""
    if count < 1:
        raise _Refused(f"Number of windows must be at least 1, not {count}")
    loaded = _load(model, tokenizer)
    golden = GoldenMachine(quantize_loaded(loaded))

    def predict(tokens: Any) -> Any:
        golden.reset()
        return golden.real_logits(tokens)

    rows = windows(loaded.tokenizer, held_out_text(loaded), loaded.model.config.context, count)
    found = compare(FloatReference(loaded.model).logits, predict, rows, loaded.tokenizer)
    result = {
        "tokens": found.reference.tokens,
        "float_perplexity": found.reference.perplexity,
        "golden_perplexity": found.reference.perplexity * (1 + found.degradation),
        "degradation": found.degradation,
        "agreement": found.agreement,
    }
    if json_file != "-":
        click.echo(
            f"{result['tokens']} held-out tokens: perplexity {result['float_perplexity']:.3f} in "
            f"float, {result['golden_perplexity']:.3f} in integers ({found.degradation:+.2%}); "
            f"the best token agrees in {found.agreement:.2%}"
        )
    _write_json(json_file, result)


@cli.command()
@click.option("--out", default="build/verilog", show_default=True)
@click.option("--mesh", default="8x8", show_default=True, type=SIZE)
@click.option("--array", default="16x16", show_default=True, type=SIZE)
def verilog(out: str, mesh: Size, array: Size) -> None:
    """Write the Verilog of the whole machine."""
    try:
        machine = Machine(array=array, mesh=mesh, sram_bytes=24576)
        sources = emit_verilog(machine.system(2**20), "system")
    except ValueError as error:
        raise _Refused(str(error)) from None
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sources:
        (folder / name).write_text(text)
        click.echo(folder / name)


@cli.command()
@click.option("--runs", default=3, show_default=True, type=int)
def bench(runs: int) -> None:
    """Measure the bundled model, and compare with a published peer of the same shape.

    llama2.v runs a model of these dimensions in 1,109,500 cycles and 17.1 s a token.
    """
    if runs < 1:
        raise _Refused(f"Number of runs must be at least 1, not {runs}")
    loaded = _load("builtin", None)
    quantized = quantize_loaded(loaded)
    ids = loaded.tokenizer.encode("In the beginning")
    machine = Machine(sram_bytes=24576)
    cycles, seconds = [], []
    for _ in range(runs):
        done = run_machine(quantized, ids, 17, machine=machine)
        times = [e for e in done.events if e["kind"] == "token"]
        cycles.append((times[-1]["cycle"] - times[0]["cycle"]) / 16)
        seconds.append((times[-1]["wall"] - times[0]["wall"]) / 16)
    cycle, second = statistics.median(cycles), statistics.median(seconds)
    click.echo(f"decode 8x8: {cycle:,.0f} cycles a token, {1_109_500 / cycle:,.0f} times fewer")
    click.echo(f"simulation: {second:.3f} s a token, {17.1 / second:,.0f} times less")


def main() -> None:
    """Run the command; mistakes are told in one line, with exit status 2."""
    try:
        cli.main(standalone_mode=False)
    except click.UsageError as error:
        _Refused(error.format_message()).show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
