# SPDX-License-Identifier: BSD-2-Clause
"""What holds for any fleet and any requests: nothing is lost, and nothing is done twice at once.

An idle machine that is not woken, a link too many, and a queue whose last is first were planted and
seen to fail.
"""

import itertools
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from diptych_sim.run.serving.machines import Fleet, Link, serve
from diptych_sim.run.serving.requests import Request
from diptych_sim.run.serving.statistics import check_conserved


@dataclass
class Plain:
    """Costs that are easily added up: whole seconds, and memory for so many positions."""

    kv_capacity: float = 100.0
    fixed: int = 3
    each: int = 1

    def kv_bytes(self, positions):
        return positions

    def prefill(self, prompt, cached=0):
        return 2.0 * (prompt - cached)

    def step(self, batch, positions):
        return self.fixed + self.each * batch + positions / 64, batch / 64


def plain(**settings: Any) -> Any:
    return Plain(**settings)


REQUESTS = st.lists(
    st.builds(
        Request,
        st.integers(0, 60).map(float),
        st.integers(2, 30),
        st.integers(1, 30),
        st.sampled_from(["", "a", "b"]),
        st.just(1),
    ),
    min_size=1,
    max_size=25,
).map(lambda requests: sorted(requests, key=lambda request: request.arrival))
LINKS = st.builds(
    Link,
    count=st.integers(1, 2),
    bytes_per_second=st.sampled_from([1.0, 5.0, 1000.0]),
    layers=st.integers(1, 8),
    layer_wise=st.booleans(),
)


def overlap(spans):
    """Return the most spans that are open at a time."""
    ends = sorted(
        [(start, 1) for start, end in spans if end > start]
        + [(end, -1) for start, end in spans if end > start]
    )
    open_now = most = 0
    for _, change in ends:
        open_now += change
        most = max(most, open_now)
    return most


def served_in_order(requests):
    starts = [r.started for r in requests]
    return all(a <= b for a, b in itertools.pairwise(starts))


@settings(max_examples=150, deadline=None)
@given(REQUESTS, st.integers(1, 3), st.integers(1, 5), st.booleans())
def test_unified(requests, machines, batch, cache):
    fleet = Fleet(prefill=plain(), prefill_machines=machines, batch=batch, prefix_cache=cache)
    done = serve(requests, fleet)
    check_conserved(done, fleet)
    assert overlap([(r.started, r.started + r.service) for r in requests]) <= machines
    assert overlap([(r.started, r.finished) for r in requests]) <= machines * batch
    assert served_in_order(requests)
    assert done.prefill_busy + done.decode_busy <= machines * done.seconds + 1e-6
    for r in requests:
        assert r.arrival <= r.started < r.first <= r.finished


@settings(max_examples=150, deadline=None)
@given(REQUESTS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), LINKS)
def test_split(requests, prefills, decodes, batch, link):
    fleet = Fleet(
        prefill=plain(),
        prefill_machines=prefills,
        decode=plain(each=2),
        decode_machines=decodes,
        link=link,
        batch=batch,
    )
    done = serve(requests, fleet)
    check_conserved(done, fleet)
    assert overlap([(r.started, r.first) for r in requests]) <= prefills
    assert served_in_order(requests)
    handed = [r for r in requests if r.tokens > 1]
    for r in handed:
        seconds = r.prompt / link.bytes_per_second
        least = seconds / link.layers if link.layer_wise else seconds
        assert r.arrived >= r.first + least - 1e-9
        # No step takes less than its fixed part.
        assert r.finished >= r.arrived + (r.tokens - 1) * 3
    if not link.layer_wise:
        each = [(r.arrived - r.prompt / link.bytes_per_second, r.arrived) for r in handed]
        # Rounding may let one begin before another ends.
        assert overlap([(start + 1e-6, end - 1e-6) for start, end in each]) <= link.count
    assert done.decode_busy <= decodes * done.seconds + 1e-6
