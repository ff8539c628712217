# SPDX-License-Identifier: BSD-2-Clause
"""Routes that cannot work are refused, and the message names both places.

Mutations that were tried by hand, each seen to fail: a second port not looked at; a second color
not looked at; ends not looked at; cycles not looked at; only position 0 looked at; a compiler that
does not check its routes (each of them); a tile that does not pass on what shifts by two hops.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diptych.mesh.fabric import DIRECTIONS, Combine, Port
from diptych_sim.compiler.collectives.compile import Collective, compile_collective
from diptych_sim.compiler.collectives.plan import Plan
from diptych_sim.compiler.decode import routes
from diptych_sim.compiler.decode.routes import route_tables
from diptych_sim.compiler.mesh_kernels import gemm as mesh_gemm
from diptych_sim.compiler.mesh_kernels import gemm_routes, gemv
from diptych_sim.compiler.tile import kernel as mesh_kernel
from diptych_sim.compiler.tile.kernel import load_route
from diptych_sim.compiler.tile.routes import RouteEntry, RouteError, check_routes

N, E, S, W, RAMP = Port
COLORS = 6


def entry(sources, targets, combine=Combine.FORWARD, color=1, **more):
    return RouteEntry(frozenset(sources), frozenset(targets), combine, color, **more)


def empty(rows, columns, colors=COLORS):
    return [[[RouteEntry()] * colors for _ in range(columns)] for _ in range(rows)]


def trees(rng, rows, columns):
    """Routes that work: for each color a reduction along a random tree, or a broadcast."""
    tables = empty(rows, columns)
    for color in range(COLORS):
        root = (rng.randrange(rows), rng.randrange(columns))
        parent: dict[tuple[int, int], tuple[tuple[int, int], Port] | None] = {root: None}
        while len(parent) < rng.randint(1, rows * columns):
            place, step = rng.choice(sorted(parent)), rng.choice(DIRECTIONS)
            there = (place[0] + step.step[0], place[1] + step.step[1])
            if there[0] in range(rows) and there[1] in range(columns):
                parent.setdefault(there, (place, step.opposite))
        down = rng.random() < 0.5
        for place, link in parent.items():
            children = [up[1].opposite for up in parent.values() if up and up[0] == place]
            up = [link[1]] if link else []
            if down:
                sources, targets = up or [RAMP], [*children, RAMP]
                combine = Combine.FORWARD
            else:
                sources, targets = [*children, RAMP], up or [RAMP]
                combine = rng.choice([Combine.ADD, Combine.MAX, Combine.ARGMAX])
            tables[place[0]][place[1]][color] = entry(sources, targets, combine, color)
    return tables


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 4))
def test_trees_pass(rng, rows, columns):
    check_routes(trees(rng, rows, columns))


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 3), st.integers(2, 4))
def test_a_changed_route_is_refused(rng, rows, columns):
    """Whatever is added to a tree's routes leads off the mesh, to nobody, or to a second source."""
    tables = trees(rng, rows, columns)
    used = [
        (r, c, k)
        for r in range(rows)
        for c in range(columns)
        for k in range(COLORS)
        if tables[r][c][k].sources
    ]
    r, c, k = rng.choice(used)
    old = tables[r][c][k]
    ports = [p for p in DIRECTIONS if p not in old.targets and p not in old.sources]
    # The host may send and take what it likes.
    ports = [p for p in ports if p is not W or c > 0]
    assume(ports)
    port = rng.choice(ports)
    if rng.random() < 0.5:
        new = replace(old, targets=old.targets | {port})
    else:
        new = replace(old, sources=old.sources | {port})
    tables[r][c][k] = new
    with pytest.raises(RouteError, match=r"^Color \d of tile \(\d, \d\) .*tile \(-?\d, -?\d\)"):
        check_routes(tables)


def test_decode_passes():
    for size in ((1, 1), (1, 3), (3, 1), (4, 5)):
        route_tables(*size)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 8))
def test_products_pass(rows, columns, column):
    across, down = range(columns), range(rows)
    check_routes([[gemv._routes(c, columns) for c in across]] * rows)
    check_routes([[gemm_routes.shift_routes(r, c, rows) for c in down] for r in down])
    check_routes(
        [[gemm_routes.broadcast_routes(r, c, rows, columns) for c in across] for r in down]
    )
    mesh_kernel.read_back(rows, column % columns, 0, 1, 0, 1)


def two_sources_in_a_row(column):
    if column == 0:
        return entry([RAMP], [E])
    return entry([W, RAMP], [RAMP])


def a_cycle_in_a_row(column):
    if column == 0:
        return entry([E, RAMP], [E], Combine.ADD)
    return entry([W], [W])


def off_the_mesh_in_a_row(column):
    return entry([RAMP], [E])


def compile_a_gemv(route, monkeypatch):
    monkeypatch.setattr(gemv, "_routes", lambda c, _: [load_route(c, 2), route(c), RouteEntry()])
    gemv.compile_gemv(np.zeros(8, np.int8), np.zeros((2, 8), np.int8), rows=2, columns=2)


def compile_a_gemm(algorithm):
    def build(route, monkeypatch):
        def routes(row, column, *size):
            return [load_route(column, 2), route(column), RouteEntry()]

        monkeypatch.setattr(mesh_gemm, f"{algorithm}_routes", routes)
        matrix = np.zeros((2, 2), np.int8)
        mesh_gemm.compile_mesh_gemm(matrix, matrix, mesh=(2, 2), algorithm=algorithm)

    return build


def compile_a_collective(route, monkeypatch):
    tables = [[[RouteEntry(), route(c), RouteEntry()] for c in (0, 1)] for _ in (0, 1)]
    monkeypatch.setattr(Plan, "tables", lambda _: tables)
    c = Collective(operation="reduce", algorithm="chain", rows=2, columns=2, words=1)
    compile_collective(c, np.zeros((2, 2, 1), np.uint32))


def compile_decode_routes(route, monkeypatch):
    right = routes._all_reduce

    def wrong(index, count, before, *more):
        up, down = right(index, count, before, *more)
        if before is not W:
            return up, down
        color = more[-1] - 1
        return replace(route(index), color=color), RouteEntry()

    monkeypatch.setattr(routes, "_all_reduce", wrong)
    route_tables(2, 2)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (
            two_sources_in_a_row,
            (
                r"^Color \d of tile \(0, 1\) must combine or have one source, not both the west "
                r"\(tile \(0, 0\)\) and the ramp$"
            ),
        ),
        (
            a_cycle_in_a_row,
            (
                r"^Color (\d) of tile \(0, [01]\) must not wait for color \1 of tile \(0, [01]\), "
                r"which waits for it$"
            ),
        ),
        (
            off_the_mesh_in_a_row,
            (
                r"^Color \d of tile \(0, 1\) must not go to the east: tile \(0, 2\) is outside of the "
                r"2x2 mesh$"
            ),
        ),
    ],
)
@pytest.mark.parametrize(
    "build",
    [
        compile_a_gemv,
        compile_a_gemm("shift"),
        compile_a_gemm("broadcast"),
        compile_a_collective,
        compile_decode_routes,
    ],
    ids=["gemv", "gemm-shift", "gemm-broadcast", "collective", "decode"],
)
def test_every_compiler_refuses_routes_that_do_not_work(build, route, message, monkeypatch):
    with pytest.raises(RouteError, match=message):
        build(route, monkeypatch)


def two_ports(tables):
    tables[0][0][1] = entry([RAMP], [E])
    tables[0][1][1] = entry([W, RAMP], [RAMP])


def two_colors(tables):
    tables[0][0][1] = entry([RAMP], [E], color=3)
    tables[0][0][2] = entry([RAMP], [E], color=3)
    tables[0][1][3] = entry([W], [RAMP])


def two_colors_to_the_core(tables):
    tables[1][1][1] = entry([RAMP], [RAMP], color=3)
    tables[1][1][2] = entry([RAMP], [RAMP], color=3)


def off_the_mesh(tables):
    tables[1][0][1] = entry([RAMP], [S])


def from_off_the_mesh(tables):
    tables[0][1][1] = entry([E], [RAMP])


def a_cycle(tables):
    tables[0][0][1] = entry([S, RAMP], [E], Combine.ADD, color=2)
    tables[0][1][2] = entry([W], [S], color=1)
    tables[1][1][1] = entry([N], [W], color=1)
    tables[1][0][1] = entry([E], [N], color=1)


def nobody_takes(tables):
    tables[0][0][1] = entry([RAMP], [E], color=2)
    tables[0][1][1] = entry([W], [RAMP])
    tables[0][0][2] = entry([RAMP], [E], color=1)


def nobody_sends(tables):
    tables[0][0][1] = entry([E, RAMP], [RAMP], Combine.MAX)


def at_another_position(tables):
    tables[0][0][1] = entry([RAMP], [], next=1, then=(entry([RAMP], [E]),))
    tables[0][1][1] = entry([S], [RAMP])
    tables[1][1][1] = entry([RAMP], [N])


def no_such_position(tables):
    tables[0][0][1] = entry([RAMP], [RAMP], next=2, then=(entry([RAMP], []),))


def no_such_color(tables):
    tables[0][0][1] = entry([RAMP], [RAMP], color=9)


def too_many_positions(tables):
    tables[0][0][1] = entry([RAMP], [], then=(entry([RAMP], []),) * 4)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            two_ports,
            (
                "Color 1 of tile (0, 1) must combine or have one source, not both the west "
                "(tile (0, 0)) and the ramp"
            ),
        ),
        (
            two_colors,
            (
                "Color 3 of tile (0, 1) must come from one color, not both color 1 and color 2 of "
                "tile (0, 0)"
            ),
        ),
        (
            two_colors_to_the_core,
            (
                "Color 3 of the ramp must come from one color, not both color 1 and color 2 of "
                "tile (1, 1)"
            ),
        ),
        (
            off_the_mesh,
            (
                "Color 1 of tile (1, 0) must not go to the south: tile (2, 0) is outside of the 2x2 "
                "mesh"
            ),
        ),
        (
            from_off_the_mesh,
            (
                "Color 1 of tile (0, 1) must not come from the east: tile (0, 2) is outside of the "
                "2x2 mesh"
            ),
        ),
        (
            a_cycle,
            "Color 1 of tile (1, 0) must not wait for color 1 of tile (0, 0), which waits for it",
        ),
        (
            nobody_takes,
            (
                "Color 1 of tile (0, 0) must not go to the east: tile (0, 1) never takes color 2 from "
                "there"
            ),
        ),
        (
            nobody_sends,
            "Color 1 of tile (0, 0) must not wait for the east: tile (0, 1) never sends it",
        ),
        (
            at_another_position,
            (
                "Color 1 of tile (0, 0) must not go to the east: tile (0, 1) never takes color 1 from "
                "there"
            ),
        ),
        (
            no_such_position,
            "Color 1 of tile (0, 0) must move to a position in range(2), not 2",
        ),
        (no_such_color, "Color 1 of tile (0, 0) must be sent as a color in range(6), not 9"),
        (too_many_positions, "Color 1 of tile (0, 0) must have at most 4 positions, not 5"),
    ],
)
def test_refusals(break_it, message):
    tables = empty(2, 2)
    break_it(tables)
    with pytest.raises(RouteError, match=f"^{re.escape(message)}$"):
        check_routes(tables)


def test_words_of_positions():
    switch = entry([RAMP], [W], color=7, next=1, then=(entry([E], [W], Combine.ADD, color=7),))
    assert switch.words(3) == [
        (3, 1 << 4 | 1 << 3 + 5 | 7 << 12 | 1 << 17 | 1 << 19),
        (3 + 32, 1 << 1 | 1 << 3 + 5 | 1 << 10 | 7 << 12),
    ]
