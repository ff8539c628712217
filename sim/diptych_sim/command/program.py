# SPDX-License-Identifier: BSD-2-Clause
"""``diptych program``."""

from __future__ import annotations

import re

import click

from diptych.config import DEFAULTS
from diptych_sim.command.options import ARRAY, MESH, Refused, Size, load, with_model
from diptych_sim.command.prompts import check_texts, encode
from diptych_sim.command.running import running
from diptych_sim.compiler.array.listing import command_listing
from diptych_sim.compiler.decode.compile import compile_decode
from diptych_sim.compiler.decode.listing import memory_listing, program_listing, tile_listing
from diptych_sim.compiler.decode.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.compiler.prefill.compile import PrefillError, compile_prefill
from diptych_sim.golden.calibrate import quantize_loaded

__all__ = ["program"]


def _tile(text: str, mesh: Size) -> Size:
    match = re.fullmatch(r"([0-9]{1,3}),([0-9]{1,3})", text)
    tile = (int(match[1]), int(match[2])) if match else mesh
    if tile[0] >= mesh[0] or tile[1] >= mesh[1]:
        raise Refused(
            f"Tile (--tile) must be R,C in mesh {mesh[0]}x{mesh[1]}, counted from 0, not {text!r}"
        )
    return tile


@click.command()
@with_model
@click.option("--panel", default="decode", type=click.Choice(["decode", "prefill"]))
@click.option("--prompt", "texts", default=["In the beginning"], multiple=True, show_default=True)
@click.option("--tokens", "counts", default=[16], multiple=True, type=int, show_default=True)
@click.option("--mesh", default="8x8", show_default=True, type=MESH, help="Decode panel.")
@click.option("--array", default="16x16", show_default=True, type=ARRAY, help="Prefill panel.")
@click.option(
    "--sram-bytes", default=DEFAULTS.sram_bytes, show_default=True, type=int, help="SRAM of a tile."
)
@click.option("--tile", default=None, help="R,C: registers and routes of this tile, too.")
def program(
    model: str,
    tokenizer: str | None,
    panel: str,
    texts: tuple[str, ...],
    counts: tuple[int, ...],
    mesh: Size,
    array: Size,
    sram_bytes: int,
    tile: str | None,
) -> None:
    """Print what a panel runs, with the operations of the model that it is for."""
    check_texts(texts, counts)
    place = _tile(tile, mesh) if tile is not None else None
    loaded = load(model, tokenizer)
    prompts = encode(loaded, texts, counts, "all")
    with running() as progress:
        quantized = quantize_loaded(loaded, progress=progress)
    try:
        if panel == "prefill":
            prefill = compile_prefill(quantized, *array, *prompts.ids)
            click.echo(command_listing(prefill.commands), nl=False)
            return
        compiled = compile_decode(
            quantized,
            *mesh,
            prompt_tokens=[len(ids) for ids in prompts.ids],
            tokens=prompts.counts,
            sram_bytes=sram_bytes,
            stops=sorted(loaded.tokenizer.stop_ids),
        )
    except (MeshTooSmallError, UnsupportedModelError, PrefillError, ValueError) as error:
        raise Refused(str(error)) from None
    if place is not None:
        click.echo(tile_listing(compiled, *place))
    click.echo(memory_listing(compiled))
    click.echo(program_listing(compiled), nl=False)
