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

_STREAM = ("valid", "ready", "payload")
_OBSERVED = {
    "load": (
        "axi__r__valid",
        *(
            f"{port}__{part}"
            for port in ("scratchpad", "parameters", "vectors", "dynamic", "biases")
            for part in ("en", "ready")
        ),
    ),
    "store": ("o__valid", "o__ready"),
    "matrix": ("waits", "w__en", "w__ready", "sums__en"),
    "vector": (
        *(
            f"{port}__{part}"
            for port in (
                "scratchpad_write",
                "scratchpad_read",
                "vectors_write",
                "vectors_read",
                "accumulators",
                "parameters",
                "biases",
            )
            for part in ("en", "ready")
        ),
    ),
}
"""Ports of a panel's engines that observers look at."""


def _engines(panel: str) -> tuple[tuple[str, str], ...]:
    """Return the public signals of the engines of a panel, and of their commands."""
    found: list[tuple[str, str]] = []
    for engine, ports in _OBSERVED.items():
        found += [(f"{panel}.{engine}", name) for name in ("count_*", *ports)]
        found += [(panel, f"{engine}__{part}") for part in _STREAM]
        found.append((panel, f"{engine}_done"))
    return tuple(found)


PANEL_NAME = "prefill_with_hbm"
PANEL_PUBLIC = (
    (f"{PANEL_NAME}.hbm", "clk"),
    (f"{PANEL_NAME}.hbm", "axi__*"),
    (f"{PANEL_NAME}.hbm", "count_*"),
    *_engines(f"{PANEL_NAME}.panel"),
    *(
        (f"{PANEL_NAME}.panel.{part}", "count_*")
        for part in ("queues", "scratchpad", "accumulators")
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
    *_engines(_PANEL),
    (f"{_PANEL}.queues", "count_*"),
    *(
        ("system.link", name)
        for name in ("count_*", *(f"i__{part}" for part in _STREAM), "token_valid")
    ),
    *(("system.link", f"o__*__{part}") for part in ("valid", "ready")),
    ("system.link.transmitter", "o"),
    ("system.link.transmitter", "count_*"),
    ("system.link.transmitter", "now"),
    ("system.link.transmitter", "filled"),
    *(("system.link.receiver", name) for name in ("expected", "oldest")),
)
"""Of the whole machine."""
