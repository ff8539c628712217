# SPDX-License-Identifier: BSD-2-Clause
"""Runs a testbench that writes down the state of hardware in Verilator."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diptych_tb.lockstep
from diptych_sim.engine.simulate import simulate
from diptych_sim.engine.toolchain import find_compiler, find_toolchain

__all__ = ["states_in_verilator"]


def states_in_verilator(
    hardware: Any,
    job: Mapping[str, Any],
    folder: Path,
    *,
    names: Sequence[str],
    cycles: Sequence[int],
    digests: bool,
    env: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return what a testbench has written down: ``states`` by name, and names of ``registers``.

    Parameters
    ----------
    hardware, job
        The hardware, and what the testbench is told to run, beside what follows.
    folder : Path
        Folder of its files; with ``digests`` it gets a file of that name.
    names : sequence of str
        Registers and memories.
    cycles : sequence of int
        Cycles since the end of reset that have led to each state.
    digests : bool
        Whether digests of all registers are taken in each cycle.
    env, options
        As of :func:`.simulate`.
    """
    library = folder / "digest.so"
    if digests:
        source = Path(diptych_tb.lockstep.__path__[0]) / "digest.cpp"
        include = find_toolchain().root / "include" / "vltstd"
        command = [*find_compiler(), "-O2", "-shared", "-fPIC", f"-I{include}", str(source)]
        subprocess.run([*command, "-o", str(library)], check=True)
    file, out = folder / "job.json", folder / "out.json"
    more = {
        "names": names,
        # The testbench sees at an edge what the cycles before it have left.
        "cycles": [cycle + 1 for cycle in cycles],
        "out": str(out),
        "digests": str(folder / "digests") if digests else None,
        "library": str(library),
    }
    file.write_text(json.dumps({**job, **more}))
    simulate(hardware, env={"DIPTYCH_STATE": file, **(env or {})}, **options)
    return json.loads(out.read_text())
