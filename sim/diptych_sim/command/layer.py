# SPDX-License-Identifier: BSD-2-Clause
"""``diptych layer``."""

from __future__ import annotations

import click

from diptych.config import MachineConfig
from diptych_sim.account.layer import account_layer
from diptych_sim.command.array_layer import array_layer
from diptych_sim.command.options import (
    ARRAY,
    Refused,
    Size,
    SizeType,
    check_file,
    given,
)
from diptych_sim.command.running import close_compared, running, size_text
from diptych_sim.compiler.decode.placement import MeshTooSmallError, UnsupportedModelError
from diptych_sim.cost.layer import fastest_part
from diptych_sim.cost.models.load import load_shape, model_names
from diptych_sim.cost.models.shape import ModelShape, config_of
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.model import ModelConfig
from diptych_sim.report.console import console
from diptych_sim.run.layer import run_layer

__all__ = ["layer"]

WAFER = SizeType(range(1, 1025), "each from 1 to 1024, as 256x256")
LONGEST = 2**15
"""Positions at most."""
MESH_ONLY = ("mesh", "part", "position", "sram_bytes")
ARRAY_ONLY = ("tokens",)
"""Options that only one of the panels has."""
BACK_DOOR = "weights and KV cache in the tiles before the first cycle"


def _config(model: str) -> tuple[ModelShape, ModelConfig]:
    try:
        shape = load_shape(model)
    except ModelFileError as error:
        raise Refused(str(error)) from None
    if shape.experts > 1:
        raise Refused(f"Model {shape.name} must have dense layers, not {shape.experts} experts")
    try:
        return shape, config_of(shape, LONGEST)
    except ValueError as error:
        raise Refused(f"Model {shape.name}: {error}") from None


@click.command()
@click.option("--model", required=True, help=f"A config.json, or {', '.join(model_names())}.")
@click.option("--mesh", default="64x64", show_default=True, type=WAFER, help="Decode panel.")
@click.option(
    "--part",
    default="fastest",
    show_default=True,
    type=click.Choice(["fastest", "all"]),
    help="Tiles of the mesh that the layer uses: those that compute it fastest, by the cost model.",
)
@click.option("--position", default=64, show_default=True, type=int, help="Of the token.")
@click.option("--sram-bytes", default=49152, show_default=True, type=int, help="SRAM of a tile.")
@click.option("--array", default=None, type=ARRAY, help="Prefill panel, instead of a mesh.")
@click.option(
    "--tokens",
    default=64,
    show_default=True,
    type=int,
    help="Of a prompt that the prefill panel reads, in chunks that fit.",
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**32 - 1))
@click.option("--json", "json_file", default=None, help="Write the result; - for stdout.")
def layer(
    model: str,
    mesh: Size,
    part: str,
    position: int,
    sram_bytes: int,
    array: Size | None,
    tokens: int,
    seed: int,
    json_file: str | None,
) -> None:
    """Run one layer of a model's shape on a panel, bit for bit, and time it.

    Weights, and the KV cache of earlier positions, are random integers that are in the tiles before
    the first cycle. Biases are left out. The mesh runs on lanes. On large meshes fewer tiles are faster:
    results go to the farthest one and back.

    With --array a prompt goes through a layer on the prefill panel, and as far through a second one
    as shows what the first has computed; what a prompt takes in the whole model is predicted.
    """
    for flag in given(ARRAY_ONLY if array is None else MESH_ONLY):
        raise Refused(f"{flag} {'requires' if array is None else 'excludes'} --array")
    if tokens not in range(1, LONGEST + 1):
        raise Refused(f"Tokens (--tokens) must be in range(1, {LONGEST + 1}), not {tokens}")
    if position not in range(1, LONGEST + 1):
        raise Refused(f"Position (--position) must be in range(1, {LONGEST + 1}), not {position}")
    if sram_bytes not in range(256, 65537, 256):
        raise Refused(f"SRAM must be a multiple of 256 bytes up to 65536, not {sram_bytes}")
    check_file("JSON file", "--json", json_file)
    shape, config = _config(model)
    if array is not None:
        array_layer(shape, config, array=array, tokens=tokens, seed=seed, json_file=json_file)
        return
    used = mesh
    if part == "fastest":
        found = fastest_part(config, mesh, position=position, sram_bytes=sram_bytes)
        used = mesh if found is None else found.mesh
    machine = MachineConfig(mesh=used, sram_bytes=sram_bytes)
    with running(MeshTooSmallError, UnsupportedModelError) as progress:
        done = run_layer(config, machine=machine, position=position, seed=seed, progress=progress)
        accounts = account_layer(done)
    size, place = size_text(mesh), done.program.placement
    result = {
        "matches_golden": done.difference is None,
        "compared": {"tokens": 1, **done.comparison.compared},
        **accounts,
        "back_doors": [BACK_DOOR],
        "config": {
            "model": shape.name,
            "mesh": size,
            "part": size_text(used),
            "position": position,
            "sram_bytes": sram_bytes,
            "hop_cycles": machine.hop_cycles,
            "colors": done.machine.colors,
            "columns_per_head": place.split,
            "tile_bytes": place.tile_bytes,
            "seed": seed,
        },
    }
    terminal = console(stderr=json_file == "-")
    terminal.print(f"{BACK_DOOR}: a back door")
    if used != mesh:
        terminal.print(f"On {size_text(used)} of {size} tiles: more are slower, by the cost model")
    terminal.print(
        f"A layer of {shape.name} on {size_text(used)} at position {position}: {result['cycles']:,} cycles, "
        f"bound {result['bound_cycles']:,}; {result['mac_utilization']:.1%} of peak"
    )
    for each in result["operations"]:
        terminal.print(f"  {each['operation']:<24} {each['cycles']:>7,}")
    equal = "KV cache, final norm and token equal the golden model"
    close_compared(terminal, result, done.difference, equal, json_file)
