# SPDX-License-Identifier: BSD-2-Clause
"""``diptych fit``."""

from __future__ import annotations

import sys

import click

from diptych.config import DEFAULTS
from diptych_sim.command.options import (
    ARRAY,
    MESH,
    Refused,
    Size,
    check_file,
    load,
    with_model,
    write_json,
)
from diptych_sim.command.running import size_text
from diptych_sim.compiler.decode.placement import UnsupportedModelError
from diptych_sim.run.fit import Fit
from diptych_sim.run.fit import fit as fit_model

__all__ = ["fit"]


@click.command()
@with_model
@click.option("--mesh", default="8x8", show_default=True, type=MESH, help="Decode panel.")
@click.option("--array", default="16x16", show_default=True, type=ARRAY, help="Prefill panel.")
@click.option(
    "--sram-bytes", default=DEFAULTS.sram_bytes, show_default=True, type=int, help="SRAM of a tile."
)
@click.option(
    "--positions",
    default=None,
    type=click.IntRange(1),
    help="Positions of the KV cache.  [default: 64, or the context if it is shorter]",
)
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def fit(
    model: str,
    tokenizer: str | None,
    mesh: Size,
    array: Size,
    sram_bytes: int,
    positions: int | None,
    json_file: str | None,
) -> None:
    """Tell what a model takes of the tiles and of the HBM; nothing is simulated.

    The exit status is 1 if the mesh does not hold it.
    """
    if sram_bytes not in range(256, 65537, 256):
        raise Refused(f"SRAM must be a multiple of 256 bytes up to 65536, not {sram_bytes}")
    check_file("JSON file", "--json", json_file)
    loaded = load(model, tokenizer)
    config = loaded.model.config
    count = min(64, config.context) if positions is None else positions
    if count > config.context:
        raise Refused(
            f"Positions (--positions) must be at most the model's context of {config.context}, "
            f"not {count}"
        )
    try:
        found = fit_model(config, mesh, array, positions=count, sram_bytes=sram_bytes)
    except UnsupportedModelError as error:
        raise Refused(str(error)) from None
    fits = found.tile_bytes <= sram_bytes
    if json_file != "-":
        _tell(found, mesh, sram_bytes, count, config.context)
    side = found.smallest_mesh
    write_json(
        json_file,
        {
            "fits": fits,
            "parameters": config.parameters,
            "tile_bytes": found.tile_bytes,
            "tile_parts": dict(found.tile_parts),
            "smallest_mesh": None if side is None else size_text((side, side)),
            "longest_context": found.longest_context,
            "hbm_parts": dict(found.hbm_parts),
            "hbm_bytes": found.hbm_bytes,
            "config": {
                "model": loaded.model.name,
                "mesh": size_text(mesh),
                "array": size_text(array),
                "sram_bytes": sram_bytes,
                "positions": count,
            },
        },
    )
    if not fits:
        sys.exit(1)


def _tell(found: Fit, mesh: Size, sram_bytes: int, positions: int, context: int) -> None:
    """Print what was found."""

    def parts(sizes: dict[str, int]) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {size:,}" for name, size in sizes.items())

    fits = "fits" if found.tile_bytes <= sram_bytes else "DOES NOT FIT"
    click.echo(
        f"tile of {size_text(mesh)}: {found.tile_bytes:,} of {sram_bytes:,} bytes for {positions} "
        f"positions, {fits}: {parts(dict(found.tile_parts))}"
    )
    side = found.smallest_mesh
    would = "none up to 128x128" if side is None else size_text((side, side))
    click.echo(f"smallest square mesh with {positions} positions: {would}")
    click.echo(
        f"longest context in {size_text(mesh)}: {found.longest_context:,} of {context:,} positions"
    )
    click.echo(f"HBM: {found.hbm_bytes:,} bytes: {parts(dict(found.hbm_parts))}")
