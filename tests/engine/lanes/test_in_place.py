# SPDX-License-Identifier: BSD-2-Clause
"""Registers that change where they are: nothing may read them afterwards in a cycle."""

from hypothesis import given
from hypothesis import strategies as st

from diptych.mesh.tile import Tile
from diptych_sim.engine.lanes.clusters import plan
from diptych_sim.engine.lanes.commits import Commit
from diptych_sim.engine.lanes.in_place import changed_in_place, readers_first
from diptych_sim.engine.lanes.lower import Register, lower
from diptych_sim.engine.lanes.netlist import read_netlist
from diptych_sim.engine.lanes.partition import partition
from diptych_sim.engine.lanes.ports import neighbors

LARGEST = 8


@st.composite
def clusters(draw):
    """Clusters in a random order; each waits for some of those before, and reads registers of any."""
    count = draw(st.integers(1, LARGEST))
    order = draw(st.permutations(range(count)))
    pairs = st.sets(st.tuples(*2 * [st.integers(0, count - 1)]), max_size=3 * count)
    waits, reads = [[set() for _ in range(count)] for _ in range(2)]
    for early, late in draw(pairs):
        if order[early] < order[late]:
            waits[late].add(early)
    for reader, writer in draw(pairs):
        reads[reader].add(writer)
    return order, waits, reads


def _place(done):
    return {k: at for at, k in enumerate(done)}


@given(clusters())
def test_each_follows_those_that_it_waits_for(drawn):
    order, waits, reads = drawn
    # Register n is the one that cluster n changes.
    done = readers_first(waits, reads, [{k} for k in range(len(order))], lambda _: 1)
    assert sorted(done) == list(range(len(order)))
    at = _place(done)
    assert all(at[other] < at[k] for k, wait in enumerate(waits) for other in wait)


@given(clusters())
def test_all_registers_are_read_first_where_an_order_allows_it(drawn):
    order, waits, reads = drawn
    possible = [{w for w in nodes if order[k] <= order[w]} for k, nodes in enumerate(reads)]
    at = _place(readers_first(waits, possible, [{k} for k in range(len(order))], lambda _: 1))
    assert all(at[k] <= at[writer] for k, nodes in enumerate(possible) for writer in nodes)


def test_the_largest_registers_are_read_first():
    # Each reads what the other changes.
    sizes = {0: 32, 1: 8}
    for exchanged in (False, True):
        changes = [{int(exchanged)}, {int(not exchanged)}]
        order = readers_first([set(), set()], changes[::-1], changes, sizes.__getitem__)
        assert changes[order[-1]] == {0}


def _commit(*changes, reads=()):
    registers = [Register("", 0, 0, node, init=0, resets=False) for node in changes]
    return Commit(0, 1, [(node, None, True) for node in reads], registers=registers)


def _reads(commit):
    return {node for node, _, _ in commit.needs}


def test_a_cluster_reads_before_it_changes():
    # 3 takes 2, 2 takes 1, and 1 what it was and more.
    shifts = [_commit(3, reads=[2]), _commit(2, reads=[1]), _commit(1, reads=[1])]
    assert changed_in_place(shifts, _reads) == {1, 2, 3}
    assert changed_in_place(shifts[::-1], _reads) == {3}
    together = [_commit(1, 2, 3, reads=[1, 5])]
    assert changed_in_place(together, _reads) == {2, 3}


def test_most_of_a_tile_changes_in_place():
    design = read_netlist(Tile(), "tile")
    low = lower(design, partition(design, list(neighbors())))
    found = plan(low)
    size = {node: low.graph.nodes[node].width for c in found.clusters for node in c.changes}
    aside = sum(size[node] for k in range(len(found.clusters)) for node in found.aside(k))
    assert 0 < aside < 0.3 * sum(size.values())
    for node in found.in_place:
        (writer,) = (k for k, c in enumerate(found.clusters) if node in c.changes)
        assert all(reader <= writer for reader in found.users.get(node, ()))
