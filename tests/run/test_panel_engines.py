# SPDX-License-Identifier: BSD-2-Clause
"""The prefill panel without Verilator: all that a run gives is as with it."""

from dataclasses import replace

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.compiler.array_decode.compile import compile_array
from diptych_sim.cost.array_gemm import fastest_gemm
from diptych_sim.engine.errors import SimulationError
from diptych_sim.engine.names import ENGINES
from diptych_sim.engine.words.machine import WordMachine
from diptych_sim.host import scheduler
from diptych_sim.host.observers.matrix import MatrixObserver
from diptych_sim.run.array_gemm import gemm
from diptych_tb.lockstep.panel import compare_panels
from support.random_model import TINY, random_model

MACHINE = MachineConfig(array=(4, 4))


def product(m, k, n, seed=1):
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((m, k), (k, n)))
    return x, w, rng.integers(-(2**31), 2**31, n).astype(np.int32)


def test_products_agree():
    done = [gemm(*product(9, 13, 6), machine=MACHINE, engine=engine) for engine in ENGINES]
    assert all(each.matches_golden for each in done)
    assert done[0].measured == done[1].measured
    assert done[0].measured.beats_written > 0


def test_a_wrong_counter_stops_a_product(monkeypatch):
    right = MatrixObserver.judge

    def wrong(self, seen):
        first = self._blamed
        judged = right(self, seen)
        if first <= 300 < first + len(judged.causes):
            judged.causes[300 - first] ^= 1
        return judged

    monkeypatch.setattr(MatrixObserver, "judge", wrong)
    # Of windows of 64 cycles, that of cycle 300 ends here.
    with pytest.raises(SimulationError, match="counters of the matrix engine at its cycle 320"):
        gemm(*product(33, 40, 24), machine=MACHINE, engine="lanes")


def test_observers_find_the_same_however_many_cycles_they_see_at_once(monkeypatch):
    judge, run_ahead = MatrixObserver.judge, scheduler.Scheduler._run_ahead
    sizes = []

    def counted(self, seen):
        sizes.append(seen.cycles)
        return judge(self, seen)

    def watched(self):
        run_ahead(self)
        self._watch((self.engine.cycle - 1, False))

    monkeypatch.setattr(MatrixObserver, "judge", counted)
    monkeypatch.setattr(scheduler.Scheduler, "_run_ahead", watched)
    found = []
    for ahead in (1 << 13, 1, 7, 50):
        monkeypatch.setattr(scheduler, "AHEAD", ahead)
        sizes.clear()
        found.append(gemm(*product(33, 40, 24), machine=MACHINE, engine="lanes").measured)
        assert len(sizes) > min(found[0].cycles // ahead, 1)
        assert max(sizes[1:-1], default=1) <= ahead
    assert found[0].observed["macs"] > 0
    assert all(each == found[0] for each in found)


def test_a_wrong_byte_in_the_hbm_is_seen(monkeypatch):
    right = WordMachine.__init__

    def wrong(self, compiled, hbm):
        data = bytearray(hbm.read_bytes())
        data[5] ^= 1
        hbm.write_bytes(data)
        right(self, compiled, hbm)

    monkeypatch.setattr(WordMachine, "__init__", wrong)
    assert not gemm(*product(9, 13, 6), machine=MACHINE, engine="lanes").matches_golden


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_registers_equal_verilator(seed):
    rng = np.random.default_rng(seed)
    m, k, n = (int(size) for size in rng.integers(1, 40, 3))
    compiled, _ = fastest_gemm(*product(m, k, n, seed), MACHINE)
    done = compare_panels(MACHINE, compiled.program.hbm, compiled.program.start, 1500)
    assert done.first is None
    assert done.registers > 1000
    assert done.memories > 20


@pytest.mark.slow
def test_registers_equal_verilator_while_a_prompt_is_read():
    machine = replace(MACHINE, hbm_latency=7, hbm_bytes_per_cycle=33)
    program = compile_array(random_model(TINY, 4), *machine.array, [[5, 17, 3]], 1)
    done = compare_panels(machine, program.hbm, program.prefill.start, 6000)
    assert done.first is None
