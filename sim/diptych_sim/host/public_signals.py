# SPDX-License-Identifier: BSD-2-Clause
"""Signals that testbenches read besides the ports of the top: modules and variables to publish."""

from diptych.mesh.waits import WATCHED

__all__ = ["PANEL_NAME", "PANEL_PUBLIC", "SYSTEM_PUBLIC", "TILE_PUBLIC"]

TILE_PUBLIC = (
    ("tile.core", "count_*"),
    ("tile.router", "count_*"),
    *(("tile.core", f"watch_{name}") for name in WATCHED),
    ("tile.core.sram", "bank_*"),
)
"""Of a mesh: counters, the registers of the watchdog, the SRAM."""

PANEL_NAME = "prefill_with_hbm"
PANEL_PUBLIC = (
    (f"{PANEL_NAME}.hbm", "clk"),
    (f"{PANEL_NAME}.hbm", "axi__*"),
    (f"{PANEL_NAME}.hbm", "count_*"),
    *(
        (f"{PANEL_NAME}.panel.{part}", "count_*")
        for part in (
            "queues",
            "matrix",
            "vector",
            "load",
            "store",
            "scratchpad",
            "accumulators",
        )
    ),
)
"""Of a prefill panel with its HBM; the same for all testbenches, so that they share builds."""

_PANEL = "system.prefill.panel"
SYSTEM_PUBLIC = (
    *TILE_PUBLIC,
    ("tile.router", "*_o__valid"),
    ("system.prefill.hbm", "count_*"),
    ("system.prefill.hbm", "axi__*"),
    (_PANEL, "count_*"),
    *((f"{_PANEL}.scratchpad", name) for name in ("count_*", "*__en", "*__ready", "*__mask")),
    (f"{_PANEL}.scratchpad", "read_x__data"),
    *((f"{_PANEL}.accumulators", name) for name in ("count_*", "*__en", "*__ready")),
    *((f"{_PANEL}.accumulators", name) for name in ("sums__start", "read__data")),
    *((f"{_PANEL}.{engine}", "count_*") for engine in ("matrix", "vector", "load", "store")),
    (f"{_PANEL}.queues", "count_*"),
    ("system.link", "count_*"),
    ("system.link.transmitter", "count_*"),
    ("system.link.transmitter", "now"),
    ("system.link.transmitter", "filled"),
    *(("system.link.receiver", name) for name in ("expected", "oldest")),
)
"""Of the whole machine."""
