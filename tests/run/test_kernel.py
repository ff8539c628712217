# SPDX-License-Identifier: BSD-2-Clause
"""Products on the mesh: results, cycles, and programs that hang.

Mutations that were seen to fail: weights in the bank of x; a ring in the order of the tiles; a
watchdog that takes any busy tile for a hang, or reads another color; one that names tiles that have
ended before one that waits.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.mesh.fabric import Load
from diptych.mesh.isa import Function
from diptych_sim.account.mesh_kernels import account_kernel
from diptych_sim.compiler.mesh_kernels import gemv as gemv_compiler
from diptych_sim.compiler.mesh_kernels.gemm import compile_mesh_gemm
from diptych_sim.compiler.mesh_kernels.gemm_routes import _ring_step, ring_place
from diptych_sim.compiler.mesh_kernels.gemv import compile_gemv
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.kernel import KernelError, packet
from diptych_sim.engine.errors import HangError
from diptych_sim.engine.names import ENGINES
from diptych_sim.run.backend import mesh_backend
from diptych_sim.run.kernel import run_kernel
from diptych_sim.run.mesh_gemm import mesh_gemm
from diptych_sim.run.mesh_gemv import gemv


def operands(k, n, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, k).astype(np.int8)
    return x, rng.integers(-128, 128, (n, k)).astype(np.int8)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (5, 3), (40, 7), (64, 33)])
def test_gemv_equals_numpy(k, n):
    done = gemv(*operands(k, n), mesh=(2, 2))
    assert done.matches_golden
    assert account_kernel(done.kernel)["cycles_by_cause"]["bank_conflict"] == 0


def test_gemv_takes_little_more_than_its_steps():
    done = gemv(*operands(128, 64), mesh=(2, 2))
    rows, inner = 32, 8
    assert done.matches_golden
    assert account_kernel(done.kernel)["bound_cycles"] == rows * inner
    assert account_kernel(done.kernel)["cycles"] <= rows * inner + 24


def test_a_product_in_a_tile_by_itself_reaches_90_percent_of_peak():
    """16 rows, from the first cycle in which the tile is busy to the first in which it is not."""
    done = gemv(*operands(128, 16), mesh=(1, 1))
    assert done.matches_golden
    assert account_kernel(done.kernel)["mac_utilization"] >= 0.9


@pytest.mark.slow
def test_gemv_1024_on_8x8_reaches_85_percent_of_peak():
    done = gemv(*operands(1024, 1024), mesh=(8, 8), backend=mesh_backend("lanes"))
    assert done.matches_golden
    assert account_kernel(done.kernel)["mac_utilization"] >= 0.85


@given(st.integers(1, 70_000), st.integers(1, 70_000), st.integers(1, 128), st.integers(1, 128))
def test_gemv_operands_do_not_overlap_or_conflict(k, n, rows, columns):
    at = gemv_compiler._layout(k, n, rows, columns)
    assert at.inputs * columns >= k
    assert at.outputs * rows >= n
    assert at.inputs <= at.y <= at.y + 4 * at.outputs <= at.weights
    assert at.stride >= at.inputs
    assert at.end == at.weights + at.outputs * at.stride
    assert at.weights % 8 == at.y % 8 == at.stride % 8 == 0
    if at.inputs > 8:
        banks = {(at.weights + n * at.stride) // 8 % 4 for n in range(4)}
        assert 0 not in banks


def test_gemv_says_which_mesh_would_do():
    message = (
        r"^Product of 1024 inputs and 1024 outputs needs \d+ bytes of SRAM in each tile of a 2x2 "
        r"mesh, not 65536; a 5x5 mesh would do$"
    )
    with pytest.raises(KernelError, match=message):
        compile_gemv(*operands(1024, 1024), rows=2, columns=2)


def matrices(m, k, n, seed=1):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(-128, 128, (m, k)).astype(np.int8),
        rng.integers(-128, 128, (k, n)).astype(np.int8),
    )


@pytest.mark.parametrize("algorithm", ["shift", "broadcast"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (7, 20, 13), (24, 24, 24)])
def test_gemm_equals_numpy(algorithm, m, k, n):
    assert mesh_gemm(*matrices(m, k, n), mesh=(3, 3), algorithm=algorithm).matches_golden


@pytest.mark.parametrize(("algorithm", "share"), [("shift", 0.9), ("broadcast", 0.9)])
def test_gemm_of_blocks_of_24_on_3x3(algorithm, share):
    done = mesh_gemm(*matrices(72, 72, 72), mesh=(3, 3), algorithm=algorithm)
    assert done.matches_golden
    assert done.block == (24, 24, 24)
    assert account_kernel(done.kernel)["mac_utilization"] >= share


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "algorithm", "block"),
    [((2, 3), "broadcast", 16), ((4, 4), "shift", 80), ((6, 6), "shift", 24), ((1, 1), "shift", 9)],
)
def test_gemm_on_other_meshes(mesh, algorithm, block):
    m, n, k = mesh[0] * block, mesh[1] * block, mesh[1] * block
    assert mesh_gemm(*matrices(m, k, n), mesh=mesh, algorithm=algorithm).matches_golden


@given(st.integers(2, 128))
def test_the_ring_has_no_step_over_two_hops(count):
    places = [ring_place(index, count) for index in range(count)]
    assert sorted(places) == list(range(count))
    assert all(abs(_ring_step(index, count)) in (1, 2) for index in range(count))


@pytest.mark.parametrize(
    ("mesh", "algorithm", "size", "message"),
    [
        ((2, 3), "shift", 8, "Mesh of the shift algorithm must be square, not 2x3; the broadcast"),
        ((12, 12), "broadcast", 8, "Mesh of the broadcast .* at most 22 rows and columns .* 12x12"),
        ((4, 6), "broadcast", 8, r"Steps .* must fit into 256 instructions, and the 12 of a 4x6"),
        ((2, 2), "shift", 512, r"Product 512x512x512 needs \d+ bytes .* a 6x6 mesh would do"),
    ],
)
def test_gemm_refuses_what_does_not_suit(mesh, algorithm, size, message):
    with pytest.raises(KernelError, match=message):
        compile_mesh_gemm(*matrices(size, size, size), mesh=mesh, algorithm=algorithm)


def _broken(write):
    """Return a kernel whose program is another one."""
    kernel = compile_gemv(*operands(8, 2), rows=2, columns=2).kernel
    program = Assembler()
    write(program)
    load = [row + packet(Load.PROGRAM, 0, program.words(), 0, 1) for row in kernel.load]
    return replace(kernel, program=program, load=load, readbacks=[])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_that_waits_for_nothing_is_stopped(engine):
    def write(program):
        program.scalar(Function.ADD, d=2, imm=1)
        program.scalar(Function.TAKE, d=2, color=2)
        program.scalar(Function.END)

    message = (
        r"^mesh hangs, no tile made progress in 2000 cycles: tile \(0, 0\) in task 0 at "
        r"instruction 1 \(TAKE d_reg=2 count=2\) waits for a wavelet of color 2 \(SUM\); "
        r"of all tiles 4 wait for wavelet$"
    )
    with pytest.raises(HangError, match=message):
        run_kernel(_broken(write), useful_macs=1, backend=mesh_backend(engine))


def test_of_tiles_that_ended_and_one_that_waits_the_one_is_named():
    def write(program):
        program.branch(2, "ends")
        program.scalar(Function.TAKE, d=2, color=2)
        program.label("ends")
        program.scalar(Function.END)

    kernel = _broken(write)
    last = [[0, 1], [0, 0]]  # columns of each row that end at once
    load = [
        row + packet(Load.REGISTER, 2, [1], *columns)
        for row, columns in zip(kernel.load, last, strict=True)
    ]
    message = (
        r"tile \(1, 1\) in task 0 at instruction 1 \(TAKE d_reg=2 count=2\) waits for a wavelet of "
        r"color 2 \(SUM\); of all tiles 3 wait for task, 1 wait for wavelet$"
    )
    with pytest.raises(HangError, match=message):
        run_kernel(replace(kernel, load=load), useful_macs=1)


def test_a_program_that_goes_round_in_circles_is_stopped():
    def write(program):
        program.label("again")
        program.scalar(Function.ADD, d=2, imm=1)
        program.branch(2, "again")

    messages = []
    for engine in ENGINES:
        with pytest.raises(
            HangError, match=r"not ended after \d+ cycles: tile \(0, 0\) in"
        ) as hang:
            run_kernel(_broken(write), useful_macs=1, backend=mesh_backend(engine))
        messages.append(str(hang.value))
    # Where the circle is cut depends on the cycle.
    assert messages[0] == messages[1]
