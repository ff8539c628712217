# SPDX-License-Identifier: BSD-2-Clause
"""Limits of a run, in sentences made of its own figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diptych.config import TILE_MACS
from diptych_sim.report.causes import in_words
from diptych_sim.report.summary import text_of_number

__all__ = ["Finding", "findings"]


@dataclass(frozen=True)
class Finding:
    """An answer to a question that a reader has."""

    question: str
    answer: str
    more: str


def _largest(
    causes: Mapping[str, int], but: Sequence[str] = ("computing",)
) -> list[tuple[str, float]]:
    total = sum(causes.values()) or 1
    return sorted(
        ((cause, count / total) for cause, count in causes.items() if count and cause not in but),
        key=lambda item: -item[1],
    )


def _times(measured: float, bound: float) -> str:
    return f"{measured / bound:.2f} times its bound of {text_of_number(bound)}" if bound else ""


def _costliest(operations: Sequence[Mapping[str, Any]], engine: str) -> str:
    cycles: dict[str, int] = {}
    for item in operations:
        if item["engine"] == engine and "cycles" in item:
            cycles[item["operation"]] = cycles.get(item["operation"], 0) + item["cycles"]
    total = sum(cycles.values())
    if not total:
        return ""
    (first, most), *others = sorted(cycles.items(), key=lambda item: -item[1])
    sentence = f"Most time went to {first} ({most / total:.0%})"
    if others:
        sentence += f", then to {others[0][0]} ({others[0][1] / total:.0%})"
    return sentence + "."


def _prefill(result: Mapping[str, Any]) -> Finding:
    part = result["prefill"]
    causes = part["cycles_by_cause"]
    use = causes["computing"] / part["cycles"]
    (cause, share), *others = _largest(causes)
    hbm = part["bytes"]["hbm_read"] / part["cycles"]
    wide = result["config"]["hbm_bytes_per_cycle"]
    if use >= 0.5 and use > share:
        answer = f"The array itself: it takes a row in {use:.0%} of the cycles."
    else:
        answer = f"{in_words(cause).capitalize()}: {share:.0%} of the array's cycles."
    more = (
        f"{text_of_number(part['cycles'])} cycles, {_times(part['cycles'], part['bound_cycles'])}. "
        f"The array takes a row in {use:.0%} of them; it loses {share:.0%} {in_words(cause)}"
    )
    if others and others[0][1] >= 0.01:
        more += f" and {others[0][1]:.0%} {in_words(others[0][0])}"
    more += f". HBM gives {hbm:.1f} of {wide} bytes a cycle ({hbm / wide:.0%})."
    if cause == "shifting_weights":
        tokens = result["prompt_tokens"]
        rows = result["config"]["array"].split("x")[0]
        if tokens < int(rows):
            more += (
                f" A prompt of {tokens} tokens gives each tile of weights {tokens} rows of work, "
                f"and a tile takes {rows} cycles to shift in: a longer prompt would use it better."
            )
    more += " " + _costliest(part.get("operations", ()), "matrix")
    return Finding("What limited prefill?", answer, more.strip())


def _decode(result: Mapping[str, Any]) -> Finding:
    part = result["decode"]
    causes = part["cycles_by_cause"]
    total = sum(causes.values())
    use = causes["computing"] / total
    (cause, share), (cause2, share2), *_ = [*_largest(causes), ("", 0.0), ("", 0.0)]
    if use >= 0.5:
        answer = f"Computing: {use:.0%} of the mean tile's cycles."
    else:
        answer = (
            f"Not the multipliers: {1 - use:.0%} of a tile's cycles, above all {in_words(cause)}."
        )
    per_token = part["cycles_per_token"]
    bound = part["bound_cycles"] * per_token / part["cycles"]
    least = part["macs"] / (part["tiles"]["count"] * TILE_MACS)
    what = "multiplications" if least > 0.98 * part["bound_cycles"] else "ways of the reductions"
    more = (
        f"{text_of_number(per_token)} cycles a token, {_times(per_token, bound)}, which the {what} "
        f"set. The mean tile computes in {use:.0%} of the cycles"
    )
    if cause:
        more += f" and spends {share:.0%} {in_words(cause)}"
    if cause2:
        more += f", {share2:.0%} {in_words(cause2)}"
    more += f". Its multipliers do {part['mac_utilization']:.0%} of what they could. "
    more += _costliest(part.get("operations", ()), "tiles")
    return Finding("What limited decode?", answer, more.strip())


def _tile(result: Mapping[str, Any]) -> Finding | None:
    tiles = result["decode"].get("tiles")
    if not tiles:
        return None
    busy, quiet = tiles["busiest"], tiles["least_busy"]
    cycles = result["decode"]["cycles"]
    mean = result["decode"]["cycles_by_cause"]["computing"] / tiles["count"] / cycles
    above = busy["computing"] / cycles / mean - 1 if mean else 0.0
    even = "Work is dealt evenly" if above < 0.05 else "Work is dealt unevenly: others wait for it"
    return Finding(
        "Which tile was busiest?",
        f"Row {busy['row']}, column {busy['column']}: computing in "
        f"{busy['computing'] / cycles:.1%} of the cycles.",
        f"It did {text_of_number(busy['macs'])} multiplications. The mean tile computes in "
        f"{mean:.1%}, the least busy one, row {quiet['row']}, column {quiet['column']}, in "
        f"{quiet['computing'] / cycles:.1%}. {even}. Rows and columns count from 0, from the "
        "north-west.",
    )


def _layers(result: Mapping[str, Any]) -> Finding | None:
    """Say how well layers use the multipliers, and what the rest of their cycles went to."""
    layers = result["decode"].get("layers")
    if not layers:
        return None
    inner = [o for o in result["decode"]["operations"] if o["layer"] is not None]
    peak = sum(layer["macs"] / layer["mac_utilization"] for layer in layers)
    use = sum(layer["macs"] for layer in layers) / peak
    causes: dict[str, int] = {}
    for layer in layers:
        for cause, count in layer["cycles_by_cause"].items():
            causes[cause] = causes.get(cause, 0) + count
    parts = []
    for cause, share in _largest(causes):
        if share < 0.01:
            continue
        of = {o["operation"]: 0 for o in inner}
        for item in inner:
            of[item["operation"]] += item["cycles_by_cause"][cause]
        most = sorted(of, key=lambda name: -of[name])[:2]
        where = ", ".join(f"{name} {of[name] / causes[cause]:.0%}" for name in most)
        parts.append(f"{share:.0%} {in_words(cause)} ({where})")
    windows = min(o["windows"] for o in inner)  # some run twice in a layer
    cycles = sum(layer["cycles"] for layer in layers) / len(layers) / windows
    computing = causes["computing"] / sum(causes.values())
    return Finding(
        "What did layers of decode wait for?",
        f"In a layer the multipliers do {use:.0%} of their peak.",
        f"Of its tile cycles {computing:.0%} compute, {', '.join(parts)}. A layer takes {text_of_number(cycles)} cycles, the mean of {len(layers)} layers and the "
        "tokens that were recorded. In brackets, the operations that have most of a cause.",
    )


def _link(result: Mapping[str, Any]) -> Finding:
    part = result["link"]
    hidden = part["cycles_hidden"] / part["cycles"] if part["cycles"] else 1.0
    exposed = part["cycles_exposed"]
    again = f", {part['retries']} times again" if part["retries"] else ""
    return Finding(
        "Did the hand-off cost time?",
        f"{hidden:.0%} of it is hidden behind prefill; {text_of_number(exposed)} cycles are not.",
        f"{part['frames']:,} frames carried {part['payload_bytes']:,} bytes of KV cache and "
        f"{part['framing_bytes']:,} bytes of framing{again}; the link was busy for "
        f"{text_of_number(part['cycles'])} cycles.",
    )


def findings(result: Mapping[str, Any]) -> list[Finding]:
    """Return what limited prefill and decode, which tile was busiest, what the hand-off cost."""
    found = []
    if result["prefill"]:
        found.append(_prefill(result))
    if result["decode"]:
        found.append(_decode(result))
        found += [item for item in (_layers(result), _tile(result)) if item is not None]
    if result["link"]:
        found.append(_link(result))
    return found
