# SPDX-License-Identifier: BSD-2-Clause
"""Requests in time: queueing theory, a simulation step by step, and what must be conserved.

Each was seen to fail with a fault planted: a step too early after an interruption, half a step too
long, a hand-off that does not wait for the link, a request more than the batch, memory of
finished requests that is not free again, halves of a block that are shared out wrongly, and blocks
in the order of their sequence.
"""

from dataclasses import replace

import numpy as np
import pytest

from diptych_sim.cost.models.load import load_shape
from diptych_sim.cost.projection.job import Job
from diptych_sim.cost.projection.parameters import fitted
from diptych_sim.cost.systems.load import load_systems
from diptych_sim.run.serving.costs import Costs
from diptych_sim.run.serving.machines import Fleet, Link, serve
from diptych_sim.run.serving.requests import Request, TraceError, poisson_requests, read_trace
from diptych_sim.run.serving.statistics import ConservationError, Limits, check_conserved, summary

SYSTEMS = load_systems()
JOB = Job(model=load_shape("llama-3.1-8b"), prompt_tokens=512, tokens=64)


def costs(system="h100", batch=1):
    return Costs(SYSTEMS[system], JOB, fitted(), None, batch=batch)


def service_of(c, tokens=64):
    return c.prefill(512) + sum(c.step(1, 512 + made)[0] for made in range(1, tokens))


@pytest.mark.parametrize(
    ("lengths", "model", "use"),
    [("fixed", "M/D/1", 0.5), ("geometric", "M/G/1", 0.5), ("fixed", "M/D/1", 0.8)],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_one_machine_waits_as_queueing_theory_says(lengths, model, use, seed):
    c = costs()
    rate = use / service_of(c)
    requests = poisson_requests(100_000, rate, seed, prompt=512, tokens=64, lengths=lengths)
    fleet = Fleet(prefill=c, prefill_machines=1)
    found = summary(serve(requests, fleet), fleet, Limits(), rate)["queueing"]
    assert found["model"] == model
    assert found["use"] == pytest.approx(use, rel=0.02)
    assert abs(found["error"]) < 0.02


def test_a_lone_request_takes_its_service():
    c = costs()
    (request,) = requests = [Request(3.0, 512, 64)]
    serve(requests, Fleet(prefill=c, prefill_machines=1))
    assert request.first - 3 == pytest.approx(c.prefill(512))
    assert request.finished - 3 == pytest.approx(service_of(c))


def step_by_step(requests, c, batch):
    """The same as a loop over steps, for one machine that does both phases."""
    now, active, waiting, finished = 0.0, [], list(range(len(requests))), {}
    made = {}
    while waiting or active:
        if waiting and len(active) < batch and requests[waiting[0]].arrival <= now + 1e-12:
            number = waiting.pop(0)
            now += c.prefill(requests[number].prompt)
            made[number] = 1
            active.append(number)
        elif active:
            positions = sum(requests[n].prompt + made[n] for n in active)
            now += c.step(len(active), positions)[0]
            for n in active:
                made[n] += 1
        else:
            now = requests[waiting[0]].arrival
        for n in [n for n in active if made[n] == requests[n].tokens]:
            active.remove(n)
            finished[n] = now
    return [finished[n] for n in range(len(requests))]


@pytest.mark.parametrize(("system", "batch"), [("h100", 1), ("h100", 5), ("wse3", 3), ("trn2", 40)])
def test_many_steps_at_once_are_as_one_by_one(system, batch):
    c = costs(system, batch)
    rate = 1.5 / service_of(c)
    requests = poisson_requests(60, rate, 7, prompt=300, tokens=40, lengths="geometric")
    requests = [r for r in requests if r.tokens > 1]
    expected = step_by_step(requests, c, batch)
    done = serve(requests, Fleet(prefill=c, prefill_machines=1, batch=batch))
    assert [r.finished for r in requests] == pytest.approx(expected, rel=1e-9)
    assert 1 <= done.batch_steps / done.steps <= batch


def split_fleet(**settings):
    link = Link(count=1, bytes_per_second=20e9, layers=32, layer_wise=False)
    given = {
        "prefill": costs(),
        "prefill_machines": 2,
        "decode": costs("wse3", 4),
        "decode_machines": 3,
        "link": link,
        "batch": 4,
    }
    return Fleet(**{**given, **settings})


def test_a_lone_request_crosses_the_link():
    fleet = split_fleet()
    (request,) = requests = [Request(0.0, 512, 64)]
    serve(requests, fleet)
    seconds = fleet.prefill.kv_bytes(512) / 20e9
    assert request.first == pytest.approx(fleet.prefill.prefill(512))
    assert request.arrived - request.first == pytest.approx(seconds)
    assert fleet.decode is not None
    assert fleet.link is not None
    steps = sum(fleet.decode.step(1, 512 + made)[0] for made in range(1, 64))
    assert request.finished - request.arrived == pytest.approx(steps)
    layer_wise = replace(fleet, link=replace(fleet.link, layer_wise=True))
    (request,) = requests = [Request(0.0, 512, 64)]
    serve(requests, layer_wise)
    assert request.arrived - request.first == pytest.approx(seconds / 32)


def test_a_shared_link_carries_no_more_than_it_can():
    fleet = split_fleet(link=Link(count=2, bytes_per_second=2e8, layers=32, layer_wise=True))
    requests = poisson_requests(200, 10, 3, prompt=512, tokens=8)
    done = serve(requests, fleet)
    each = fleet.prefill.kv_bytes(512) / 2e8
    assert done.link_busy == pytest.approx(200 * each)
    assert done.seconds >= 200 * each / 2
    assert summary(done, fleet, Limits(), 10)["use"]["link"] <= 1


@pytest.mark.parametrize("seed", range(3))
def test_requests_tokens_and_bytes_are_conserved(seed):
    fleet = split_fleet()
    requests = poisson_requests(500, 30, seed, prompt=400, tokens=20, lengths="geometric")
    done = serve(requests, fleet)
    found = check_conserved(done, fleet)
    assert found["tokens"]["out"] == sum(r.tokens for r in requests)
    for r in requests:
        assert r.arrival <= r.started < r.first <= r.finished
        assert r.tokens == 1 or r.first < r.arrived <= r.finished
    done.tokens -= 1
    with pytest.raises(ConservationError, match=r"^tokens must be "):
        check_conserved(done, fleet)


def test_memory_bounds_the_batch():
    c = costs("h100", 64)
    full = c.kv_capacity / c.kv_bytes(40_000)
    requests = [Request(0.0, 39_000, 1_000) for _ in range(40)]
    fleet = Fleet(prefill=c, prefill_machines=1, batch=64)
    done = serve(requests, fleet)
    assert done.batch_steps / done.steps <= full < 40
    assert check_conserved(done, fleet)["requests"] == {"in": 40, "out": 40}


def test_a_prefix_cache_saves_prefill():
    c = costs()
    plain, cached = (
        serve(
            poisson_requests(50, 1, 1, prompt=2048, tokens=2, prefix_tokens=1500),
            Fleet(prefill=c, prefill_machines=1, prefix_cache=on),
        )
        for on in (False, True)
    )
    assert plain.cached_tokens == 0
    assert cached.cached_tokens == 49 * 1500
    assert cached.prefill_busy < 0.7 * plain.prefill_busy


def test_limits_count_good_requests():
    fleet = Fleet(prefill=costs(), prefill_machines=1)
    requests = poisson_requests(400, 1.2, 1, prompt=512, tokens=64)
    done = serve(requests, fleet)
    ttft = sorted(1e3 * (r.first - r.arrival) for r in requests)
    limit = ttft[299] + 1e-9
    found = summary(done, fleet, Limits(ttft_ms=limit), 1.2)
    assert found["good_share"] == sum(time <= limit for time in ttft) / 400 < 1
    assert found["ttft_ms"]["p50"] == pytest.approx(np.median(ttft))
    assert summary(done, fleet, Limits(tpot_ms=1e-3), 1.2)["good_share"] == 0


def test_arrivals_are_poisson():
    requests = poisson_requests(20_000, 5, 1, prompt=100, tokens=10, lengths="geometric")
    gaps = np.diff([r.arrival for r in requests])
    assert gaps.mean() == pytest.approx(0.2, rel=0.01)
    assert gaps.std() == pytest.approx(0.2, rel=0.02)
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.03
    sums = gaps[: 64 * 312].reshape(312, 64).sum(axis=1)  # of blocks: they follow at random
    for lag in (1, 2, 4, 8):
        assert abs(np.corrcoef(sums[lag:], sums[:-lag])[0, 1]) < 0.3
    assert np.array([r.prompt for r in requests]).std() == pytest.approx(99.5, rel=0.02)
    tokens = np.array([r.tokens for r in requests])
    assert tokens.min() == 1
    assert tokens.mean() == pytest.approx(10, rel=0.02)
    assert tokens.var() == pytest.approx(90, rel=0.05)
    assert requests != poisson_requests(20_000, 5, 2, prompt=100, tokens=10, lengths="geometric")


TRACE = "arrival,prompt_tokens,output_tokens\n0.5,100,10\n0.25,200,20\n"


def test_reads_a_trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    assert [(r.arrival, r.prompt, r.tokens) for r in read_trace(str(path))] == [
        (0.0, 200, 20),
        (0.25, 100, 10),
    ]


def test_the_clock_of_a_trace_may_count_from_long_ago(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE.replace("0.5,", "1700000000000.5,").replace("0.25,", "1700000000000.25,"))
    requests = read_trace(str(path))
    fleet = Fleet(prefill=costs(), prefill_machines=1)
    found = summary(serve(requests, fleet), fleet, Limits(), None)
    assert found["ttft_ms"]["p50"] > 1
    assert 0 < sum(found["use"].values()) <= 1
    path.write_text(TRACE.replace("0.5,", "1700000000000.5,"))
    message = f"^Trace {path}: arrivals must be within 1e\\+09 s, not from 0.25 to 1.7e\\+12$"
    with pytest.raises(TraceError, match=message):
        read_trace(str(path))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("0.5", "-0.5", "line 2: arrival must be at least 0 s, not '-0.5'"),
        ("0.5", "soon", "line 2: arrival must be at least 0 s, not 'soon'"),
        (",100", ",0", "line 2: prompt_tokens must be a whole number from 1 to .*, not '0'"),
        (",20\n", ",\n", "line 3: output_tokens must be .*, not ''"),
        (",20\n", "\n", "line 3: must have as many values as there are columns"),
        ("output_tokens", "tokens", "columns must be arrival, .*"),
        (TRACE[36:], "", "must have at least one request, not none"),
    ],
)
def test_refuses_other_traces(before, after, message, tmp_path):
    path = tmp_path / "trace.csv"
    assert before in TRACE
    path.write_text(TRACE.replace(before, after, 1))
    with pytest.raises(TraceError, match=f"^Trace {path}[:,]? ?{message}$"):
        read_trace(str(path))
