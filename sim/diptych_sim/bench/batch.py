# SPDX-License-Identifier: BSD-2-Clause
"""Several sequences at once: what a token costs, in 8x8 tiles with the bundled model."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from diptych_sim.account.generation import account
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.llm.load import load_model
from diptych_sim.report.progress import ProgressLine
from diptych_sim.run.generate import generate

__all__ = ["measure"]

TOKENS = 17
PROMPTS = (
    "In the beginning",
    "The sea",
    "Once upon a time",
    "A king",
    "And he said",
    "Two of them",
    "The house was",
    "When it rains",
)


def measure(console: Console, runs: int) -> None:
    """Print cycles a token for 1, 2, 4 and 8 sequences; cycles do not vary, so one run is enough."""
    del runs
    loaded = load_model("builtin")
    model = quantize_loaded(loaded)
    table = Table(title=f"Decode, 8x8 tiles, {TOKENS - 1} rounds", title_justify="left")
    for name in ("sequences", "cycles a token", "faster", "cycles between tokens", "MAC use"):
        table.add_column(name, justify="right")
    table.add_column("prefill cycles a prompt", justify="right")
    alone = 0.0
    progress = ProgressLine()
    for count in (1, 2, 4, 8):
        prompts = [loaded.tokenizer.encode(text) for text in PROMPTS[:count]]
        progress(f"{count} sequences")
        done = generate(model, prompts, [TOKENS] * count)
        accounts = account(done)
        decode = accounts["decode"]
        each = decode["cycles_per_token"]
        alone = alone or each
        table.add_row(
            f"{count}" if done.matches_golden else f"{count} (TOKENS DIFFER)",
            f"{each:,.0f}",
            f"{alone / each:.2f}",
            f"{accounts['tpot_cycles']:,.0f}",
            f"{decode['mac_utilization']:.1%}",
            f"{accounts['prefill']['cycles'] / count:,.0f}",
        )
    progress.stop()
    console.print(table)
