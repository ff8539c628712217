# SPDX-License-Identifier: BSD-2-Clause
"""Products on the mesh: results, cycles, and programs that hang.

Mutations that were seen to fail: a reduction without its middle tile; weights in the bank of x.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.mesh.fabric import Load
from diptych.mesh.isa import Function
from diptych_sim.compiler import gemv as gemv_compiler
from diptych_sim.compiler.assembler import Assembler
from diptych_sim.compiler.gemv import compile_gemv
from diptych_sim.compiler.mesh_kernel import KernelError, packet
from diptych_sim.engine.errors import HangError
from diptych_sim.gemv import gemv
from diptych_sim.mesh_kernel import run_kernel


def operands(k, n, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.integers(-128, 128, k).astype(np.int8)
    return x, rng.integers(-128, 128, (n, k)).astype(np.int8)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (5, 3), (40, 7), (64, 33)])
def test_gemv_equals_numpy(k, n):
    done = gemv(*operands(k, n), mesh=(2, 2))
    assert done.matches_golden
    assert done.accounts["cycles_by_cause"]["bank_conflict"] == 0


def test_gemv_takes_little_more_than_its_steps():
    done = gemv(*operands(128, 64), mesh=(2, 2))
    rows, inner = 32, 8
    assert done.matches_golden
    assert done.accounts["bound_cycles"] == rows * inner
    assert done.accounts["cycles"] <= rows * inner + 16


@pytest.mark.slow
def test_gemv_1024_on_8x8_reaches_85_percent_of_peak():
    done = gemv(*operands(1024, 1024), mesh=(8, 8))
    assert done.matches_golden
    assert done.accounts["mac_utilization"] >= 0.85


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


def _broken(write):
    """Return a kernel whose program is another one."""
    kernel = compile_gemv(*operands(8, 2), rows=2, columns=2).kernel
    program = Assembler()
    write(program)
    load = [row + packet(Load.PROGRAM, 0, program.words(), 0, 1) for row in kernel.load]
    return replace(kernel, program=program, load=load, readbacks=[])


def test_a_program_that_waits_for_nothing_is_stopped():
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
        run_kernel(_broken(write), useful_macs=1)


def test_a_program_that_goes_round_in_circles_is_stopped():
    def write(program):
        program.label("again")
        program.scalar(Function.ADD, d=2, imm=1)
        program.branch(2, "again")

    with pytest.raises(HangError, match=r"it has not ended after \d+ cycles: tile \(0, 0\) in"):
        run_kernel(_broken(write), useful_macs=1)
