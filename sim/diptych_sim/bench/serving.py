# SPDX-License-Identifier: BSD-2-Clause
"""Requests in time beside queueing theory, and how long 100,000 of them take."""

from __future__ import annotations

import time

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from diptych.config import MachineConfig
from diptych_sim.cost.models.load import load_shape
from diptych_sim.cost.projection.job import Job
from diptych_sim.cost.projection.parameters import fitted
from diptych_sim.cost.systems.load import load_systems
from diptych_sim.golden.random_weights import random_model
from diptych_sim.llm.model import ModelConfig
from diptych_sim.report.progress import ProgressLine
from diptych_sim.run.serving.costs import Costs
from diptych_sim.run.serving.machines import Fleet, Link, serve
from diptych_sim.run.serving.requests import LENGTHS, poisson_requests
from diptych_sim.run.serving.rtl import Arrival, array_timeline, served_timeline
from diptych_sim.run.serving.statistics import Limits, summary

__all__ = ["measure"]

REQUESTS = 100_000
PROMPT, TOKENS = 512, 128
CONFIG = ModelConfig(dim=32, hidden=40, layers=2, heads=4, kv_heads=2, vocab=50, context=64)
SECOND = (15_000, 60_000)
"""When the second request comes: the machine writes the first, or has nothing to do."""


def measure(console: Console, runs: int) -> None:
    """Print waits of one machine beside Pollaczek and Khinchine's, for ``runs`` seeds, and a split."""
    job = Job(model=load_shape("llama-3.1-8b"), prompt_tokens=PROMPT, tokens=TOKENS)
    systems, p = load_systems(), fitted()
    costs = Costs(systems["h100"], job, p, None, batch=1)
    service = costs.prefill(PROMPT) + sum(
        costs.step(1, PROMPT + made)[0] for made in range(1, TOKENS)
    )
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("lengths", "use", "seed", "wait", "by theory", "error", "seconds"):
        table.add_column(heading, justify="right")
    for lengths in LENGTHS:
        for seed in range(1, runs + 1):
            rate = 0.5 / service
            requests = poisson_requests(
                REQUESTS, rate, seed, prompt=PROMPT, tokens=TOKENS, lengths=lengths
            )
            fleet = Fleet(prefill=costs, prefill_machines=1)
            clock = time.perf_counter()
            done = serve(requests, fleet)
            took = time.perf_counter() - clock
            found = summary(done, fleet, Limits(), rate)["queueing"]
            table.add_row(
                f"{lengths}, {found['model']}",
                f"{found['use']:.1%}",
                str(seed),
                f"{found['wait_ms']:.1f} ms",
                f"{found['theory_wait_ms']:.1f} ms",
                f"{found['error']:+.2%}",
                f"{took:.1f}",
            )
    console.print(table)
    fleet = Fleet(
        prefill=costs,
        prefill_machines=2,
        decode=Costs(systems["wse3"], job, p, None, batch=16),
        decode_machines=2,
        link=Link(count=1, bytes_per_second=25e9, layers=32, layer_wise=True),
        batch=16,
    )
    requests = poisson_requests(REQUESTS, 20, 1, prompt=PROMPT, tokens=TOKENS, lengths="geometric")
    clock = time.perf_counter()
    summary(serve(requests, fleet), fleet, Limits(), 20)
    took = time.perf_counter() - clock
    console.print(
        f"{REQUESTS:,} requests on 2 + 2 machines and a link: {took:.1f} s, all conserved"
    )
    _beside_rtl(console)


def _beside_rtl(console: Console) -> None:
    """Print two timelines of two requests on one array, each in RTL and as served."""
    model = random_model(CONFIG, 1)
    machine = MachineConfig(array=(4, 4))
    for second in SECOND:
        arrivals = [Arrival(0, [1] * 12, 4), Arrival(second, [1] * 5, 3)]
        served = served_timeline(model, arrivals, machine)
        progress = ProgressLine()
        try:
            measured = array_timeline(model, arrivals, machine, progress)
        finally:
            progress.stop()
        for number, ((first, last), rtl) in enumerate(zip(served, measured, strict=True)):
            console.print(
                f"In RTL, array 4x4, request {number + 1} of cycle {arrivals[number].cycle:,}: "
                f"first token in cycle {rtl.first:,} ({first / rtl.first - 1:+.2%} as served), "
                f"last in {rtl.last:,} ({last / rtl.last - 1:+.2%}); "
                f"{'equal to' if rtl.matches_golden else 'DIFFERENT FROM'} the golden model",
                soft_wrap=True,
                highlight=False,
            )
