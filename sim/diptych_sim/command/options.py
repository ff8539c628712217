# SPDX-License-Identifier: BSD-2-Clause
"""Option types, refusals and the JSON result, for all subcommands."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from diptych_sim.engine.names import DEFAULT_ENGINE, ENGINES
from diptych_sim.engine.processes import is_first, processes
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import LoadedModel, load_model

__all__ = [
    "ARRAY",
    "AUTO_MESH",
    "MESH",
    "WEIGHT_ROWS",
    "NumberRange",
    "Refused",
    "Size",
    "SizeType",
    "check_file",
    "check_folder",
    "check_weight_rows",
    "json_text",
    "load",
    "with_model",
    "write_json",
]

Size = tuple[int, int]


class SizeType(click.ParamType):
    """A size, RxC.

    Parameters
    ----------
    sides : sequence of int
        What both numbers must be one of.
    words : str
        The same in words.
    """

    name = "RxC"

    def __init__(self, sides: Sequence[int], words: str) -> None:
        self.sides = sides
        self.words = words

    def convert(self, value: Any, param: Any, ctx: Any) -> Size:
        if isinstance(value, tuple):
            return value
        # Not \d, which takes digits of other scripts; and few, as int() refuses thousands.
        match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", str(value))
        size = (int(match[1]), int(match[2])) if match is not None else None
        if size is None or not all(side in self.sides for side in size):
            self.fail(f"must be RxC, {self.words}, not {str(value)!r:.60}", param, ctx)
        return size


class MeshType(SizeType):
    """A size, or None if it is ``auto``."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return None if value in (None, "auto") else super().convert(value, param, ctx)


class NumberRange(click.FloatRange):
    """A range of numbers: neither infinity, nor what is no number and so is in any range."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r:.40} is not a number.", param, ctx)
        return found


MESH = SizeType(range(1, 129), "each from 1 to 128, as 8x8")
AUTO_MESH = MeshType(range(1, 129), "each from 1 to 128, as 8x8, or auto")
ARRAY = SizeType(
    [4, 8, 16, 32, 64, 128], "each a power of two from 4 to 128, as 16x16"
)  # as diptych.systolic.panel.panel_sizes asks for
WEIGHT_ROWS = click.option(
    "--weight-rows",
    default=1,
    show_default=True,
    type=int,
    help="Rows of weights that load in a cycle: 1, 2 or 4.",
)


def _choose_engine(context: Any, _parameter: Any, engine: str | None) -> str:
    """Return the engine; refuse several processes for a mesh that is not on lanes."""
    if engine is None:
        # Options that are given have been read before those that are not.
        engine = DEFAULT_ENGINE if context.params.get("waves") is None else "verilator"
    if processes() > 1 and engine != "lanes":
        raise Refused(
            f"Processes (--processes) must be 1 with --engine {engine}, not {processes()}"
        )
    return engine


ENGINE = click.option(
    "--engine",
    default=None,
    show_default=f"{DEFAULT_ENGINE}; verilator with --waves",
    type=click.Choice(ENGINES),
    callback=_choose_engine,
    help="What runs the machine; lanes need no Verilator, but for waves.",
)
OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--model", default="builtin", help="builtin, smollm2, a GGUF or llama2.c file, or a folder."
    ),
    click.option("--tokenizer", default=None, help="Tokenizer of a llama2.c file."),
]


def with_model(command: Any) -> Any:
    """Add the options that choose a model."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


class Refused(click.ClickException):
    """A user's mistake: one line, exit status 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {' '.join(self.message.split())}", err=True)


def check_weight_rows(weight_rows: int, array: Size) -> None:
    """Refuse more rows of weights a cycle than an array can load."""
    allowed = [number for number in (1, 2, 4) if 4 * number <= array[0]]
    if weight_rows not in allowed:
        words = " or ".join(map(str, allowed))
        raise Refused(
            f"Weight rows (--weight-rows) must be {words} on {array[0]} rows, not {weight_rows}"
        )


def load(spec: str, tokenizer: str | None) -> LoadedModel:
    """Load a model, and refuse what is none."""
    try:
        return load_model(spec, tokenizer=tokenizer, tell=lambda line: click.echo(line, err=True))
    except ModelFileError as error:
        raise Refused(str(error)) from None


def write_json(target: str | None, result: dict[str, Any]) -> None:
    """Write a result to a file, or to standard output for ``-``; one of several processes does."""
    if target is None or not is_first():
        return
    text = json_text(result)
    if target == "-":
        click.echo(text, nl=False)
    else:
        Path(target).write_text(text, encoding="utf-8")


def json_text(result: dict[str, Any]) -> str:
    """Return a result as the text of a JSON file."""
    return json.dumps(result, indent=2) + "\n"


def _stop(words: str, option: str, allowed: str, target: Path | str) -> Refused:
    return Refused(f"{words} ({option}) must be {allowed}, not {str(target) or repr('')}")


def check_file(
    words: str, option: str, target: str | None, *, suffixes: Sequence[str] = ()
) -> None:
    """Refuse a file that could not be written later; nothing is left behind by asking.

    ``target`` may be None, or ``-`` where no suffix is asked for.
    """
    if target is None or (target == "-" and not suffixes):
        return
    path = Path(target)
    if suffixes and path.suffix not in suffixes:
        raise _stop(words, option, f"a file that ends in {' or '.join(suffixes)}", target)
    try:
        if not target or path.is_dir():
            raise _stop(words, option, "a file", f"the folder {target}" if target else target)
        if not path.absolute().parent.is_dir():
            raise _stop(words, option, "in a folder that exists", target)
        if path.is_file():
            with path.open("r+b"):
                pass
        elif not path.exists():  # pipes and devices are what they are: opening one may wait
            _probe(words, option, path.absolute().parent, target)
    except OSError as error:
        raise _stop(
            words, option, "a file that can be written", f"{target} ({error.strerror})"
        ) from None


def _probe(words: str, option: str, folder: Path, target: str) -> None:
    """Refuse a folder in which no file can be made."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _stop(
            words, option, "in a folder that can be written", f"{target} ({error.strerror})"
        ) from None


def check_folder(words: str, option: str, target: str | None, files: Sequence[str]) -> None:
    """Refuse a folder in which ``files`` could not be written later; it need not exist yet."""
    if target is None:
        return
    if not target:
        raise _stop(words, option, "a folder", target)
    folder = Path(target).absolute()
    try:
        above = folder
        while not above.exists():
            above = above.parent
    except OSError as error:
        raise _stop(words, option, "a folder", f"{target} ({error.strerror})") from None
    if not above.is_dir():
        what = target if above == folder else f"{target}, as {above} is a file"
        raise _stop(words, option, "a folder", what)
    _probe(words, option, above, target)
    if above == folder:
        for name in files:
            check_file(words, option, str(folder / name))
