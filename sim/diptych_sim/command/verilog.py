# SPDX-License-Identifier: BSD-2-Clause
"""``diptych verilog``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from diptych.config import MachineConfig
from diptych.system import System
from diptych_sim.command.options import (
    ARRAY,
    MESH,
    Refused,
    Size,
    check_folder,
)
from diptych_sim.engine.emit import emit_verilog

__all__ = ["verilog"]


@click.command()
@click.option("--out", default="build/verilog", show_default=True)
@click.option("--mesh", default="8x8", show_default=True, type=MESH)
@click.option("--array", default="16x16", show_default=True, type=ARRAY)
def verilog(out: str, mesh: Size, array: Size) -> None:
    """Write the Verilog of the whole machine."""
    check_folder("Folder", "--out", out, ())
    try:
        machine = MachineConfig(array=array, mesh=mesh)
        sources = emit_verilog(
            partial(System, *array, *mesh, **machine.system_parameters), "system"
        )
    except ValueError as error:
        raise Refused(str(error)) from None
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sources:
        (folder / name).write_text(text)
        click.echo(folder / name)
