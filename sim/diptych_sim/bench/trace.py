# SPDX-License-Identifier: BSD-2-Clause
"""Cost of observation: simulation time with and without a trace, size of the report, time to open it."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from diptych.config import DEFAULTS
from diptych_sim.account.generation import account
from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.llm.load import load_model
from diptych_sim.llm.tokenizer import TextStream
from diptych_sim.report.progress import ProgressLine
from diptych_sim.report.sequences import joined
from diptych_sim.run.folder import RESULT, read_run
from diptych_sim.run.generate import Generation, generate

__all__ = ["measure"]

PROMPT, TOKENS = "In the beginning", 32
MODES = {
    "no run folder": (False, False),
    "run folder, --no-trace": (True, False),
    "run folder with a trace": (True, True),
}
"""Whether each has a folder, and a trace in it."""
OPENED = """<title>-</title><script>
addEventListener("load", () => document.title = `opened ${performance.now()} ms`);
</script><iframe src="report.html" style="width:1366px;height:768px"></iframe>"""
"""A page around the report, which tells when the report has been drawn."""


def measure(console: Console, runs: int) -> None:
    """Print what each mode costs, medians of ``runs`` that take turns, and their ratio.

    Seconds are those that the simulator computed, whoever else uses the machine.
    """
    loaded = load_model("builtin")
    model = quantize_loaded(loaded)
    prompt = loaded.tokenizer.encode(PROMPT)
    progress = ProgressLine()
    seconds: dict[str, list[float]] = {name: [] for name in MODES}
    with tempfile.TemporaryDirectory(prefix="diptych-") as name:
        folder = Path(name)
        config = {
            "model": "builtin",
            "prompt": PROMPT,
            "array": "16x16",
            "mesh": "8x8",
            "hbm_bytes_per_cycle": DEFAULTS.hbm_bytes_per_cycle,
            "stage": "all",
            "clock_mhz": 1000.0,
            "seed": 1,
        }

        def run(mode: str, tokens: int = TOKENS) -> Generation:
            wanted, trace = MODES[mode]
            stream = TextStream(loaded.tokenizer, prompt[-1])
            return generate(
                model,
                [prompt],
                [tokens],
                out=folder if wanted else None,
                trace=trace,
                about={"config": config, "prompts": [PROMPT]},
                text_of=lambda _, token: stream.add(token),
                progress=progress,
            )

        try:
            done = run("no run folder", 2)  # builds the simulator
            for turn in range(runs):
                for mode in MODES:
                    progress(f"{mode}, {turn + 1} of {runs}")
                    before = _simulated()
                    done = run(mode)
                    seconds[mode].append(_simulated() - before)
        finally:
            progress.stop()
        _print_seconds(console, seconds)
        accounts = account(done, read_run(folder))
        result = {
            **joined([{"matches_golden": True, "prompt_tokens": 0, "tokens": [], "text": ""}]),
            **accounts,
            "wall_seconds": done.run.seconds,
            "config": config,
        }
        (folder / RESULT).write_text(json.dumps(result))
        _measure_report(console, folder, runs)


def _simulated() -> float:
    """Return the seconds that child processes, which are simulators, have computed."""
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return use.ru_utime + use.ru_stime


def _print_seconds(console: Console, seconds: dict[str, list[float]]) -> None:
    table = Table(title=f"{TOKENS} tokens, 8x8 tiles, 16x16 array: seconds of simulation")
    for heading in ("mode", "median", "from", "to", "ratio"):
        table.add_column(heading, justify="left" if heading == "mode" else "right")
    first, *_ = (median(each) for each in seconds.values())
    for mode, each in seconds.items():
        middle = median(each)
        figures = (middle, min(each), max(each), middle / first)
        table.add_row(mode, *(f"{figure:.2f}" for figure in figures))
    console.print(table)


def _measure_report(console: Console, folder: Path, runs: int) -> None:
    # Not above: what draws takes a second to import, which other commands need not wait for.
    from diptych_sim.report.html import html_report

    before = time.perf_counter()
    page = html_report(read_run(folder))
    console.print(f"Report drawn in {time.perf_counter() - before:.2f} s: {len(page):,} bytes")
    (folder / "report.html").write_text(page, encoding="utf-8")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        console.print("No chromium: how long it takes to open is not measured")
        return
    (folder / "around.html").write_text(OPENED)
    times = [_open(browser, folder) for _ in range(runs)]
    console.print(f"Opened in headless Chromium in {median(times):.2f} s, median of {runs}")


def _open(browser: str, folder: Path) -> float:
    """Return the seconds until the report is drawn, the browser's own start not counted."""
    options: list[Any] = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    options.append(f"--user-data-dir={folder / 'profile'}")
    done = subprocess.run(
        [browser, *options, (folder / "around.html").as_uri()],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"opened ([\d.]+) ms", done.stdout)
    assert found is not None, done.stdout[:500]
    return float(found[1]) / 1000
