# SPDX-License-Identifier: BSD-2-Clause
"""The testbench of every run: does the job to which ``$DIPTYCH_JOB`` points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cocotb
import msgspec

from .array_gemm import multiply
from .array_request import answer
from .decode import decode
from .events import report_event
from .generate import generate
from .jobs import (
    ArrayGemmJob,
    ArrayRequestJob,
    CollectiveJob,
    DecodeJob,
    GenerateJob,
    KernelJob,
    read_job,
)
from .simulator_host import SimulatorHost
from .workloads import collective, kernel


async def _kernel(dut: Any, job: KernelJob, _folder: Path) -> object:
    host = SimulatorHost(dut, job, shell=dut.mesh)
    await host.reset()
    return await kernel(host, job)


async def _collective(dut: Any, job: CollectiveJob, _folder: Path) -> object:
    host = SimulatorHost(dut, job, shell=dut.mesh)
    await host.reset()
    return await collective(host, job)


_WORKLOADS: dict[type, Any] = {
    ArrayGemmJob: multiply,
    ArrayRequestJob: answer,
    CollectiveJob: _collective,
    DecodeJob: decode,
    GenerateJob: generate,
    KernelJob: _kernel,
}


async def do_job(dut: Any, job: Any, folder: Path) -> None:
    """Run a job, and report its result, if it has one, as the event ``result``."""
    result = await _WORKLOADS[type(job)](dut, job, folder)
    if result is not None:
        report_event(kind="result", result=msgspec.to_builtins(result))


async def _does_the_job(dut: Any) -> None:
    """Run the job of the environment."""
    await do_job(dut, *read_job())


if cocotb.is_simulation:
    does_the_job = cocotb.test(name="does_the_job")(_does_the_job)
