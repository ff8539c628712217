# SPDX-License-Identifier: BSD-2-Clause
"""Builds the running sum with Verilator and runs its testbench."""

from running_sum import RunningSum

from diptych_sim.engine.errors import SimulationError
from diptych_sim.engine.simulate import simulate

if __name__ == "__main__":
    try:
        ran = simulate(RunningSum, name="running_sum", test_module="testbench", seed=1)
    except SimulationError as error:
        raise SystemExit(str(error)) from None
    print(f"{ran.tests} tests passed")
