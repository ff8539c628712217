# SPDX-License-Identifier: BSD-2-Clause
"""The four quadrants, requests in three ways, and the border between these, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

__all__ = [
    "LETTERS",
    "QUADRANTS",
    "REQUESTS",
    "border_grids",
    "print_quadrants",
    "ratio_line",
    "top_causes",
]

QUADRANTS = {
    "prefill_array": "prefill on the array",
    "prefill_mesh": "prefill on the mesh",
    "decode_array": "decode on the array",
    "decode_mesh": "decode on the mesh",
}
"""Keys of a result, in words."""
REQUESTS = {
    "array": "array alone",
    "mesh": "mesh alone",
    "split": "split, layer by layer",
    "split_serial": "split, KV after prefill",
}
LETTERS = {"array": "A", "mesh": "M", "split": "S"}
"""Ways in the tables of the border."""
_SHOWN = 3


def top_causes(part: Mapping[str, Any]) -> str:
    """Return the largest causes of a part, in percent."""
    causes = part["cycles_by_cause"]
    total = sum(causes.values()) or 1
    largest = sorted(causes, key=lambda name: -causes[name])[:_SHOWN]
    return ", ".join(
        f"{name.replace('_', ' ')} {causes[name] / total:.0%}" for name in largest if causes[name]
    )


def ratio_line(result: Mapping[str, Any]) -> str:
    """Return the sentence that compares decode on both panels."""
    if result["decode_ratio"] is None:
        return "no token was decoded: --tokens 1"
    wide = result["weight_bandwidth"]
    return (
        f"decode on the mesh beats decode on the array by {result['decode_ratio']:.2f}; ratio of their "
        f"weight bandwidths {result['bandwidth_ratio']:.2f} ({wide['mesh']} to {wide['array']} bytes a "
        f"cycle); {result['reached']:.2f} of it"
    )


def border_grids(border: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, dict[int, str]]]:
    """Return the letter of the best way by batch and link, tokens of an answer and of a prompt."""
    grids: dict[str, dict[int, dict[int, str]]] = {}
    for point in border:
        title = f"batch {point['batch']}, link of {point['link_bytes_per_cycle']} bytes a cycle"
        row = grids.setdefault(title, {}).setdefault(point["tokens"], {})
        row[point["prompt_tokens"]] = LETTERS[point["best"]]
    return grids


def print_quadrants(console: Console, result: Mapping[str, Any]) -> None:
    """Print a result of ``diptych quadrants``."""
    config = result["config"]
    console.print(
        f"{config['model']}: {config['batch']} x {config['prompt_tokens']} tokens of a prompt, "
        f"{config['tokens']} of an answer; array {config['array']} and mesh {config['mesh']}: "
        f"{config['array_macs']} and {config['mesh_macs']} MACs a cycle, "
        f"{config['array_memory_bytes']:,} and {config['mesh_memory_bytes']:,} bytes on chip",
        soft_wrap=True,
    )
    table = _table("quadrant", "cycles", "a token", "predicted", "bound", "MAC use", left=1)
    for key, words in QUADRANTS.items():
        part = result["quadrants"][key]
        if part is None:
            continue
        tokens = part["tokens"] if key.startswith("decode") else _read(config)
        table.add_row(
            words,
            f"{part['cycles']:,}",
            f"{part['cycles'] / tokens:,.0f}",
            f"{part['predicted_cycles'] / part['cycles'] - 1:+.1%}",
            f"{part['bound_cycles']:,}",
            f"{part['mac_utilization']:.1%}",
        )
    console.print(table)
    for key, words in QUADRANTS.items():
        part = result["quadrants"][key]
        if part is not None:
            console.print(f"{words}: {top_causes(part)}", soft_wrap=True)
    console.print(ratio_line(result), soft_wrap=True)
    _print_requests(console, result)
    console.print(
        "Fastest by tokens of answer (down) and prompt (across): A array alone, M mesh alone, "
        "S split, layer by layer; from the cost model",
        soft_wrap=True,
    )
    for title, rows in border_grids(result["border"]).items():
        prompts = sorted({prompt for row in rows.values() for prompt in row})
        grid = _table(title, *map(str, prompts), left=1)
        for tokens, letters in rows.items():
            grid.add_row(str(tokens), *(letters.get(prompt, "") for prompt in prompts))
        console.print(grid)
    console.print("Measured in RTL beside predicted, in cycles:")
    table = _table("batch", "prompt", "answer", "array", "mesh", "split", "best", "predicted")
    for row in result["measured"]:
        table.add_row(
            *(str(row[name]) for name in ("batch", "prompt_tokens", "tokens")),
            *(f"{row['cycles'][way]:,}" for way in LETTERS),
            row["best"],
            row["predicted"],
        )
    console.print(table)
    verdict = "everything equals" if result["matches_golden"] else "DIFFERS FROM"
    console.print(f"{result['wall_seconds']:.1f} s of simulation; {verdict} the golden model")


def _print_requests(console: Console, result: Mapping[str, Any]) -> None:
    table = _table("request", "TTFT", "TPOT", "tokens/s", "MAC use", "MACs a token", left=1)
    moved = _table("bytes a token", "HBM", "on-chip memories", "fabric", "link", left=1)
    for key, words in REQUESTS.items():
        request = result["requests"][key]
        if request is None:
            continue
        tpot = request["tpot_cycles"]
        table.add_row(
            words,
            f"{request['ttft_cycles']:,}",
            "" if tpot is None else f"{tpot:,.0f}",
            f"{request['tokens_per_second']:,.0f}",
            f"{request['mac_utilization']:.1%}",
            f"{request['macs_per_token']:,.0f}",
        )
        moved.add_row(words, *(_moved(request, names) for names in _LEVELS))
    console.print(table)
    console.print(moved)


_LEVELS = (
    ("hbm_read", "hbm_write"),
    (
        "scratchpad_read",
        "scratchpad_write",
        "accumulator_read",
        "accumulator_write",
        "sram_read",
        "sram_write",
    ),
    ("fabric_hops",),
    ("link",),
)


def _moved(request: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the bytes a token of some levels together; nothing where there is none of them."""
    known = [request["bytes"][name] for name in names if request["bytes"][name] is not None]
    return f"{sum(known) / request['tokens']:,.0f}" if known else ""


def _read(config: Mapping[str, Any]) -> int:
    return config["batch"] * config["prompt_tokens"]


def _table(*heads: str, left: int = 0) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < left else "right", no_wrap=True)
    return table
