# SPDX-License-Identifier: BSD-2-Clause
"""What subcommands share: types of options, refusals, and the JSON result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import LoadedModel, load_model

__all__ = ["SIZE", "Refused", "Size", "check_output", "load", "with_model", "write_json"]

Size = tuple[int, int]


class SizeType(click.ParamType):
    name = "RxC"

    def convert(self, value: Any, param: Any, ctx: Any) -> Size:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)x(\d+)", str(value))
        if match is None or "0" in match.groups() or not all(map(int, match.groups())):
            self.fail(f"must be RxC with sizes of at least 1, as 8x8, not {value!r}", param, ctx)
        return int(match[1]), int(match[2])


SIZE = SizeType()
OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--model", default="builtin", help="builtin, a llama2.c file, or a folder."),
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


def load(spec: str, tokenizer: str | None) -> LoadedModel:
    """Load a model, and refuse what is none."""
    try:
        return load_model(spec, tokenizer=tokenizer)
    except ModelFileError as error:
        raise Refused(str(error)) from None


def write_json(target: str | None, result: dict[str, Any]) -> None:
    """Write a result to a file, or to standard output for ``-``."""
    if target is None:
        return
    text = json.dumps(result, indent=2) + "\n"
    if target == "-":
        click.echo(text, nl=False)
    else:
        Path(target).write_text(text, encoding="utf-8")


def check_output(name: str, target: str | None) -> None:
    """Refuse an output file in a folder that does not exist."""
    if target in (None, "-"):
        return
    folder = Path(str(target)).absolute().parent
    if not folder.is_dir():
        raise Refused(f"{name} must be in a folder that exists, not {target}")
