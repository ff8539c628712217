# SPDX-License-Identifier: BSD-2-Clause
"""``diptych serve``."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import click

from diptych_sim.command.options import Refused, check_file, given, write_json
from diptych_sim.command.project import COUNT, DTYPES, dtype_of
from diptych_sim.command.running import Failed, running
from diptych_sim.cost.models.load import load_shape
from diptych_sim.cost.projection.job import Job, ProjectionError
from diptych_sim.cost.projection.parameters import fitted
from diptych_sim.cost.projection.result import is_calibrated
from diptych_sim.cost.projection.split import link_of, link_share
from diptych_sim.cost.systems.load import SystemFileError, find_system, load_systems
from diptych_sim.report.console import console
from diptych_sim.report.progress import ProgressLine
from diptych_sim.report.serving import print_ratios, print_served
from diptych_sim.run.serving.costs import Costs
from diptych_sim.run.serving.machines import Fleet, Link
from diptych_sim.run.serving.machines import serve as serve_requests
from diptych_sim.run.serving.requests import (
    LENGTHS,
    Request,
    TraceError,
    poisson_requests,
    read_trace,
)
from diptych_sim.run.serving.statistics import ConservationError, Limits, summary

__all__ = ["serve"]

MACHINES = click.IntRange(1, 10_000)
OPTIONS = [
    click.option("--model", default="llama-3.1-8b", show_default=True),
    click.option("--dtype", type=click.Choice(DTYPES), help="Of weights."),
    click.option("--systems", "folder", default=None, help="Folder with further systems (.toml)."),
    click.option("--system", default=None, help="System of machines that do both phases."),
    click.option("--machines", default=1, show_default=True, type=MACHINES, help="Of --system."),
    click.option("--prefill", default=None, help="System of the prefill side."),
    click.option("--decode", default=None, help="System of the decode side."),
    click.option("--prefill-machines", default=1, show_default=True, type=MACHINES),
    click.option("--decode-machines", default=1, show_default=True, type=MACHINES),
    click.option(
        "--prefill-chips", type=COUNT, help="Of a machine; else as few as hold the model."
    ),
    click.option("--decode-chips", type=COUNT, help="Of a machine."),
    click.option("--chips", type=COUNT, help="Of a machine of --system."),
    click.option(
        "--links", default=1, show_default=True, type=MACHINES, help="Between both sides."
    ),
    click.option("--link-gbps", type=float, help="Of each; else the prefill system's network."),
    click.option(
        "--hand-off",
        default="layer-wise",
        show_default=True,
        type=click.Choice(["layer-wise", "serial"]),
    ),
    click.option(
        "--batch", default=16, show_default=True, type=COUNT, help="Most that decode together."
    ),
    click.option("--trace", default=None, help="CSV: arrival, prompt_tokens, output_tokens."),
    click.option("--rate", type=float, help="Requests a second, Poisson."),
    click.option("--requests", "count", type=click.IntRange(1, 10_000_000), help="Number [1000]."),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Of arrivals and lengths [1]."),
    click.option("--prompt-tokens", type=COUNT, help="Mean length of prompts [1024]."),
    click.option("--tokens", type=COUNT, help="Mean length of answers [256]."),
    click.option("--lengths", type=click.Choice(LENGTHS), help="Distribution of both [fixed]."),
    click.option("--prefix-cache", is_flag=True, help="Keep the beginnings that prompts share."),
    click.option("--prefix-tokens", type=COUNT, help="Tokens that all prompts begin with."),
    click.option("--ttft-limit", type=float, help="Milliseconds; for goodput."),
    click.option("--tpot-limit", type=float, help="Milliseconds; for goodput."),
    click.option(
        "--best-of", type=click.IntRange(2, 1000), help="Try all ways to split so many machines."
    ),
    click.option("--json", "json_file", default=None, help="Write the result; - for stdout."),
]


_DRAWN = ("count", "seed", "prompt_tokens", "tokens", "lengths", "prefix_tokens")
"""Options of requests that are drawn."""
_UNIFIED = ("machines", "chips")
"""Options of machines that do both phases."""
_NUMBERS = ("prefill_machines", "decode_machines")
_SPLIT = (*_NUMBERS, "prefill_chips", "decode_chips", "links", "link_gbps", "hand_off")
"""Options of machines that are split."""


def _with_options(command: Any) -> Any:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command()
@_with_options
def serve(**options: Any) -> None:
    """Serve requests in time, by machines that are split or do both phases."""
    check_file("JSON file", "--json", options["json_file"])
    _refuse(options)
    with running(SystemFileError, ProjectionError, TraceError) as progress:
        requests = _requests(options)
        fleet, calibrated = _fleet(options, requests)
        _refuse_too_long(fleet, requests)
        limits = Limits(ttft_ms=options["ttft_limit"], tpot_ms=options["tpot_limit"])
        rate = options["rate"]
        ratios: list[dict[str, Any]] = []
        figures: dict[str, Any] = {}
        try:
            if options["best_of"] is not None:
                ratios = _ratios(requests, fleet, limits, rate, options["best_of"], progress)
            else:
                progress("serving")
                figures = summary(serve_requests(requests, fleet), fleet, limits, rate)
        except ConservationError as error:
            raise Failed(str(error)) from None
    shown = {name: value for name, value in options.items() if name != "json_file"}
    result: dict[str, Any] = {"calibrated": calibrated, "config": shown}
    terminal = console(stderr=options["json_file"] == "-")
    if ratios:
        result |= {"ratios": ratios, "best": ratios[0]}
        print_ratios(terminal, ratios)
    else:
        result |= figures
        print_served(terminal, result)
    write_json(options["json_file"], result)


def _refuse(options: dict[str, Any]) -> None:
    """Refuse options that do not belong together, or are out of range."""
    split = options["prefill"] is not None or options["decode"] is not None
    if split and (options["prefill"] is None or options["decode"] is None):
        raise Refused("--prefill and --decode must be given together")
    if split == (options["system"] is not None):
        raise Refused("Either --system or both of --prefill and --decode must be given")
    if (options["trace"] is None) == (options["rate"] is None):
        raise Refused("Either --rate or --trace must be given")
    if options["trace"] is not None and (drawn := given(_DRAWN)):
        raise Refused(f"--trace excludes {', '.join(drawn)}: it has the requests")
    if split and (unused := given(_UNIFIED)):
        raise Refused(f"--prefill and --decode exclude {', '.join(unused)}")
    if not split and (unused := given(_SPLIT)):
        raise Refused(f"--system excludes {', '.join(unused)}: its machines do both phases")
    if options["best_of"] is not None and not split:
        raise Refused("--best-of requires --prefill and --decode")
    if options["best_of"] is not None and (tried := given(_NUMBERS)):
        raise Refused(f"--best-of excludes {', '.join(tried)}: it tries all numbers")
    for words, name, unit in (
        ("Rate", "rate", "requests a second"),
        ("Link", "link_gbps", "Gbit/s"),
        ("Limit of TTFT", "ttft_limit", "ms"),
        ("Limit of TPOT", "tpot_limit", "ms"),
    ):
        value = options[name]
        if value is not None and not 0 < value < 1e12:
            raise Refused(
                f"{words} (--{name.replace('_', '-')}) must be above 0 {unit} and below 1e12, not {value:g}"
            )


def _requests(options: dict[str, Any]) -> list[Request]:
    if options["trace"] is not None:
        return read_trace(options["trace"])
    # Defaults are here, so that a trace can refuse what was given beside it.
    for name, default in (
        ("count", 1000),
        ("seed", 1),
        ("prompt_tokens", 1024),
        ("tokens", 256),
        ("lengths", "fixed"),
    ):
        if options[name] is None:
            options[name] = default
    return poisson_requests(
        options["count"],
        options["rate"],
        options["seed"],
        prompt=options["prompt_tokens"],
        tokens=options["tokens"],
        lengths=options["lengths"],
        prefix_tokens=options["prefix_tokens"] or 0,
    )


def _fleet(options: dict[str, Any], requests: list[Request]) -> tuple[Fleet, bool]:
    """Return the machines, and whether all their systems are calibrated."""
    shape = load_shape(options["model"])
    job = Job(
        model=shape,
        dtype=dtype_of(shape, options["dtype"]),
        prompt_tokens=max(1, sum(r.prompt for r in requests) // len(requests)),
        tokens=max(1, sum(r.tokens for r in requests) // len(requests)),
    )
    systems, p, batch = load_systems(options["folder"]), fitted(), options["batch"]
    if options["system"] is not None:
        system = find_system(systems, options["system"])
        costs = Costs(system, job, p, options["chips"], batch=batch)
        fleet = Fleet(
            prefill=costs,
            prefill_machines=options["machines"],
            batch=batch,
            prefix_cache=options["prefix_cache"],
        )
        return fleet, is_calibrated(system, p)
    pair = [find_system(systems, options[side]) for side in ("prefill", "decode")]
    prefill = Costs(pair[0], job, p, options["prefill_chips"], batch=1)
    gbps = link_of(pair[0], prefill.chips, options["link_gbps"])
    options["link_gbps"] = gbps
    fleet = Fleet(
        prefill=prefill,
        prefill_machines=options["prefill_machines"],
        decode=Costs(pair[1], job, p, options["decode_chips"], batch=batch),
        decode_machines=options["decode_machines"],
        link=Link(
            count=options["links"],
            bytes_per_second=gbps / 8 * 1e9 * link_share(pair[0]),
            layers=shape.layers,
            layer_wise=options["hand_off"] == "layer-wise",
        ),
        batch=batch,
        prefix_cache=options["prefix_cache"],
    )
    return fleet, all(is_calibrated(system, p) for system in pair)


def _refuse_too_long(fleet: Fleet, requests: list[Request]) -> None:
    """Refuse a request that no machine could ever hold."""
    sides = [(fleet.decode or fleet.prefill, max(r.prompt + r.tokens for r in requests))]
    # The HBM of our prefill panel is as large as a run needs it.
    if not fleet.unified and fleet.prefill.system.kind != "diptych":
        sides.append((fleet.prefill, max(r.prompt for r in requests)))
    for costs, longest in sides:
        needed, there = costs.kv_bytes(longest), costs.kv_capacity
        if needed > there:
            raise Refused(
                f"{costs.chips} x {costs.system.id} has {max(0.0, there) / 1e9:,.3g} GB beside the "
                f"weights, and a request of {longest:,} positions needs {needed / 1e9:,.3g}"
            )


def _ratios(
    requests: list[Request],
    fleet: Fleet,
    limits: Limits,
    rate: float | None,
    total: int,
    progress: ProgressLine,
) -> list[dict[str, Any]]:
    """Return the outcome of each way to split ``total`` machines, the best first.

    Best is the most goodput, then the least median TTFT.
    """
    found = []
    for number in range(1, total):
        progress(f"serving, {number} of {total - 1}")
        tried = replace(fleet, prefill_machines=number, decode_machines=total - number)
        done = serve_requests(deepcopy(requests), tried)
        figures = summary(done, tried, limits, rate)
        found.append({"prefill_machines": number, "decode_machines": total - number} | figures)
    return sorted(
        found,
        key=lambda row: (
            -(row["goodput_per_second"] or row["requests_per_second"]),
            row["ttft_ms"]["p50"],
        ),
    )
