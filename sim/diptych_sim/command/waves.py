# SPDX-License-Identifier: BSD-2-Clause
"""Options of waveforms: which cycles of which blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from diptych_sim.command.options import Refused, check_file
from diptych_sim.engine.processes import processes
from diptych_sim.engine.waves import WavePlan
from diptych_sim.report.save_files import write_save_files
from diptych_sim.report.wave_blocks import BLOCKS, DEFAULT_BLOCKS, Block, WaveBlockError
from diptych_sim.report.wave_blocks import choose_blocks as blocks_of

__all__ = ["Recording", "plan_waves", "with_waves"]

_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--waves", default=None, help="Waveform file to write (.fst or .vcd)."),
    click.option("--from", "first", type=int, help="First cycle of the waveform.  [default: 0]"),
    click.option("--to", "last", type=int, help="Last cycle of it.  [default: that of the run]"),
    click.option(
        "--wave-blocks",
        "blocks",
        help=f"What it shows, with commas: {', '.join(BLOCKS)} or tile_R_C.  "
        f"[default: {','.join(DEFAULT_BLOCKS)}]",
    ),
]


def with_waves(command: Any) -> Any:
    """Add the options of waveforms."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recording: its plan, and the blocks to show."""

    plan: WavePlan
    blocks: list[Block]

    def finish(self, terminal: Console) -> None:
        """Write save files for what was recorded, and say where it is."""
        if not self.plan.file.is_file():
            terminal.print(f"No waveform {self.plan.file}: the run ended before the first cycle")
            return
        saved = ", ".join(str(path) for path in write_save_files(self.plan.file, self.blocks))
        terminal.print(f"Waveform {self.plan.file}, to be viewed with {saved}")


def plan_waves(
    waves: str | None,
    first: int | None,
    last: int | None,
    blocks: str | None,
    *,
    mesh: tuple[int, int],
    decode_alone: bool,
) -> Recording | None:
    """Return what the options ask for, None for no waveform.

    Raises
    ------
    Refused
        If they contradict each other or the machine, or the file cannot be written.
    """
    if waves is None:
        given = {"--from": first, "--to": last, "--wave-blocks": blocks}
        for option, value in given.items():
            if value is not None:
                raise Refused(f"{option} requires a waveform file (--waves)")
        return None
    check_file("Waveform file", "--waves", waves, suffixes=(".fst", ".vcd"))
    if processes() > 1:
        raise Refused(f"Waveform (--waves) requires one process, not {processes()}")
    first = first or 0
    if first < 0:
        raise Refused(
            f"First cycle (--from) must be 0 or later, counted from the start, not {first}"
        )
    if last is not None and last < first:
        raise Refused(f"Last cycle (--to) must be at least the first (--from), {first}, not {last}")
    names = blocks.split(",") if blocks is not None else DEFAULT_BLOCKS
    try:
        if blocks is None and decode_alone:
            names = ("host", "tile_0_0")
        chosen = blocks_of(names, mesh=mesh, decode_alone=decode_alone)
    except WaveBlockError as error:
        raise Refused(f"Block (--wave-blocks) must be {error}") from None
    plan = WavePlan(
        file=Path(waves),
        first=first,
        last=last,
        marked=True,
        scopes=tuple(scope for block in chosen for scope in block.scopes),
    )
    return Recording(plan=plan, blocks=chosen)
