# SPDX-License-Identifier: BSD-2-Clause
"""Layers on meshes as large as wafers, beside published silicon; how cycles grow with the mesh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from diptych.config import DEFAULTS, MachineConfig
from diptych_sim.account.layer import account_layer
from diptych_sim.cost.layer import fastest_part, layer_bound, layer_cost
from diptych_sim.cost.models.load import load_shape
from diptych_sim.cost.models.shape import config_of
from diptych_sim.llm.model import ModelConfig
from diptych_sim.run.layer import run_layer
from diptych_sim.silicon.baseline import slowest

__all__ = ["Published", "compared", "measure", "scale_law"]

SRAM_BYTES = 49152
"""Of a tile, as on the wafers."""
RTL_TILES = 64 * 64
"""Tiles of a mesh whose layer runs within a minute or two."""
LONGEST = 2**15


@dataclass(frozen=True)
class Published:
    """A layer of a model, and cycles that were published for it.

    Attributes
    ----------
    model : str
    mesh : (int, int)
        Tiles that compute the layer.
    position : int
    cycles : int or None
        None if nothing was published at this position.
    differs : str
        What is not as here.
    """

    model: str
    mesh: tuple[int, int]
    position: int
    cycles: int | None
    differs: str


_WSE2 = "WSE-2, fp16, built; derived from tokens/s of WaferLLM, OSDI 2025"
_CS3 = "CS-3, bf16, built; a mesh each for attention and feed-forward; public laboratory notes"
PUBLISHED = (
    Published("llama-3-8b", (360, 360), 4096, None, _WSE2),
    Published("llama-3-8b", (420, 420), 4096, 12_732, _WSE2),
    # Those of a token by its 36 layers, and of one layer measured alone.
    Published("qwen3-4b", (256, 256), 512, 672_193 // 36, f"{_CS3}; a token's by 36 layers"),
    Published("qwen3-4b", (256, 256), 2048, 17_688, _CS3),
    Published("qwen3-4b", (256, 256), 8192, None, _CS3),
)
_LAW = ("smollm2-135m", "qwen3-4b", "llama-3-8b")
_LAW_POSITION = 512
SIDES = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512)


def _config(model: str) -> ModelConfig:
    return config_of(load_shape(model), LONGEST)


def compared(rows: Sequence[Published]) -> Iterator[dict[str, Any]]:
    """Yield each layer, by the cost model, beside what was published."""
    _, clock = slowest(["mesh"]) or ("", 0.0)
    for row in rows:
        config = _config(row.model)
        cost = layer_cost(config, *row.mesh, position=row.position, sram_bytes=SRAM_BYTES)
        if cost is None:
            continue
        part = fastest_part(config, row.mesh, position=row.position, sram_bytes=SRAM_BYTES)
        assert part is not None
        tiles = row.mesh[0] * row.mesh[1]
        yield {
            "model": row.model,
            "mesh": f"{row.mesh[0]}x{row.mesh[1]}",
            "position": row.position,
            "bound_cycles": layer_bound(config, tiles, row.position),
            "predicted_cycles": cost.cycles,
            "routed_microseconds": round(cost.cycles / clock, 2) if clock else None,
            "columns_per_head": cost.placement.split,
            "tile_bytes": cost.placement.tile_bytes,
            "fastest_part": f"{part.mesh[0]}x{part.mesh[1]}",
            "fastest_part_cycles": part.cycles,
            "published_cycles": row.cycles,
            "published_differs": row.differs,
        }


def scale_law(
    model: str, sides: Sequence[int], *, position: int = _LAW_POSITION, rtl_tiles: int = RTL_TILES
) -> Iterator[dict[str, Any]]:
    """Yield the cycles of a layer on square meshes, in RTL up to ``rtl_tiles`` tiles.

    Meshes that do not hold the layer are there without cycles.

    Raises
    ------
    AssertionError
        If the RTL differs from the golden model.
    """
    config = _config(model)
    for side in sides:
        cost = layer_cost(config, side, side, position=position, sram_bytes=SRAM_BYTES)
        found: dict[str, Any] = {
            "model": model,
            "mesh": f"{side}x{side}",
            "position": position,
            "bound_cycles": layer_bound(config, side * side, position),
            "predicted_cycles": cost and cost.cycles,
            "rtl_cycles": None,
        }
        if cost is not None and side * side <= rtl_tiles:
            machine = MachineConfig(mesh=(side, side), sram_bytes=SRAM_BYTES)
            done = run_layer(config, machine=machine, position=position)
            if done.difference is not None:
                raise AssertionError(f"{model} on {found['mesh']}: {done.difference}")
            accounts = account_layer(done)
            found |= {"rtl_cycles": done.cycles, "operations": accounts["operations"]}
        yield found


def _text(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)


def measure(console: Console, _runs: int) -> dict[str, Any]:
    """Print layers beside published silicon, and the scale law; return both."""
    columns = {
        "model": "model",
        "mesh": "tiles",
        "position": "at",
        "bound_cycles": "bound",
        "predicted_cycles": "cycles",
        "routed_microseconds": "µs",
        "fastest_part": "part",
        "fastest_part_cycles": "cycles",
        "published_cycles": "published",
    }
    wafers = list(compared(PUBLISHED))
    table = Table(*columns.values())
    for row in wafers:
        table.add_row(*(_text(row[key]) for key in columns))
    console.print(table)
    console.print(
        f"One layer more, by the cost model, at hops of {DEFAULTS.hop_cycles} cycle, on all tiles and on the "
        "part that is fastest; µs at the clock of the tile on an ECP5-85. Ours: int8 weights, "
        f"activations of 12 bits, simulated. Published: {_WSE2}; {_CS3}."
    )
    laws = []
    for model in _LAW:
        law = list(scale_law(model, SIDES))
        laws += law
        table = Table("mesh", "bound", "predicted", "in RTL", title=f"{model} at {_LAW_POSITION}")
        for row in law:
            values = (row["bound_cycles"], row["predicted_cycles"], row["rtl_cycles"])
            table.add_row(row["mesh"], *(_text(value) for value in values))
        console.print(table)
        most = (SIDES[-1], SIDES[-1])
        part = fastest_part(_config(model), most, position=_LAW_POSITION, sram_bytes=SRAM_BYTES)
        assert part is not None
        size = f"{part.mesh[0]}x{part.mesh[1]}"
        console.print(f"Fastest on {size}, {part.cycles:,} cycles; more tiles make it slower.")
    return {"published": wafers, "scale_law": laws, "sram_bytes": SRAM_BYTES}
