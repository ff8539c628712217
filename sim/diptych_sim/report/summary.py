# SPDX-License-Identifier: BSD-2-Clause
"""The figures of a run, once: terminal and HTML print them from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "LEVEL_NAMES",
    "PARTS",
    "Figure",
    "key_figures",
    "panel_rows",
    "text_of_number",
    "time_text",
]

PARTS = ("prefill", "link", "decode")
LEVEL_NAMES: dict[str, str] = {
    "hbm_read": "HBM read",
    "hbm_write": "HBM written",
    "scratchpad_read": "scratchpad read",
    "scratchpad_write": "scratchpad written",
    "accumulator_read": "accumulators read",
    "accumulator_write": "accumulators written",
    "sram_read": "tile SRAM read",
    "sram_write": "tile SRAM written",
    "fabric_hops": "fabric, bytes x hops",
    "link": "KV link",
}


@dataclass(frozen=True)
class Figure:
    """A number of the result: its place (``decode.cycles``), its name, its value, its text."""

    key: str
    name: str
    value: float | int | None
    text: str


def text_of_number(value: float | None) -> str:
    """Return a whole number with separators; nothing for None."""
    return "" if value is None else f"{value:,.0f}"


def time_text(seconds: float | None) -> str:
    """Return seconds with the unit that suits them, four digits."""
    if seconds is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("\N{MICRO SIGN}s", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds / 1e-9:.4g} ns"


def key_figures(result: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of the whole run."""
    clock = result["config"]["clock_mhz"]
    routed, block = (result["config"].get(f"routed_{key}") for key in ("mhz", "block"))
    figures = [
        Figure("cycles", "whole run, cycles", result["cycles"], text_of_number(result["cycles"])),
    ]
    for short, unit in (("TTFT", "cycles"), ("TPOT", "cycles a token")):
        cycles, seconds = (result[f"{short.lower()}_{kind}"] for kind in ("cycles", "seconds"))
        if cycles:
            figures += [
                Figure(
                    f"{short.lower()}_cycles", f"{short}, {unit}", cycles, text_of_number(cycles)
                ),
                Figure(
                    f"{short.lower()}_seconds",
                    f"{short} at {clock:,g} MHz, assumed",
                    seconds,
                    time_text(seconds),
                ),
            ]
        if cycles and routed:
            figures.append(
                Figure(
                    f"{short.lower()}_routed_seconds",
                    f"{short} at {routed:,g} MHz ({block}, routed on an ECP5-85)",
                    cycles / (1e6 * routed),
                    time_text(cycles / (1e6 * routed)),
                )
            )
    return figures


def panel_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each part that ran: ``name``, ``figures``, ``causes`` and ``bytes``.

    ``causes`` are (cause, cycles, part of all), largest first; ``bytes`` a list of
    :class:`Figure`, of the levels that the part has.
    """
    rows = []
    for part in PARTS:
        account = result.get(part)
        if not account:
            continue
        use = account.get("mac_utilization")
        figures = [
            Figure(f"{part}.{key}", name, account.get(key), text_of_number(account.get(key)))
            for key, name in (
                ("cycles", "measured"),
                ("predicted_cycles", "predicted"),
                ("bound_cycles", "bound"),
            )
        ]
        figures.append(
            Figure(f"{part}.mac_utilization", "MAC use", use, "" if use is None else f"{use:.1%}")
        )
        causes = account["cycles_by_cause"]
        total = sum(causes.values()) or 1
        rows.append(
            {
                "name": part,
                "figures": figures,
                "causes": [
                    (cause, count, count / total)
                    for cause, count in sorted(causes.items(), key=lambda item: -item[1])
                    if count
                ],
                "bytes": [
                    Figure(f"{part}.bytes.{level}", LEVEL_NAMES[level], n, f"{n:,}")
                    for level, n in account["bytes"].items()
                    if n is not None
                ],
            }
        )
    return rows
