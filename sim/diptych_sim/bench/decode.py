# SPDX-License-Identifier: BSD-2-Clause
"""Decoding the bundled model, beside a published peer of the same shape."""

from __future__ import annotations

import statistics

from rich.console import Console

from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.llm.load import load_model
from diptych_sim.run.generate import generate

__all__ = ["measure"]

PEER_CYCLES = 1_109_500
"""Cycles a token of llama2.v, a model of the same dimensions on one core."""
PEER_SECONDS = 17.1
"""Seconds of simulation a token of llama2.v, with cocotb and Verilator."""


def measure(console: Console, runs: int) -> None:
    """Print cycles and seconds a token, medians of ``runs``, and their ratios to llama2.v."""
    loaded = load_model("builtin")
    quantized = quantize_loaded(loaded)
    ids = loaded.tokenizer.encode("In the beginning")
    cycles, seconds = [], []
    for _ in range(runs):
        done = generate(quantized, [ids], [17])
        times = [e for e in done.events if e["kind"] == "token"]
        cycles.append((times[-1]["cycle"] - times[0]["cycle"]) / 16)
        seconds.append((times[-1]["wall"] - times[0]["wall"]) / 16)
    cycle, second = statistics.median(cycles), statistics.median(seconds)
    console.print(
        f"decode 8x8: {cycle:,.0f} cycles a token, {PEER_CYCLES / cycle:,.0f} times fewer"
    )
    console.print(f"simulation: {second:.3f} s a token, {PEER_SECONDS / second:,.0f} times less")
