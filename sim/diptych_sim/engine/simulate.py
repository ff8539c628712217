# SPDX-License-Identifier: BSD-2-Clause
"""Runs cocotb testbenches on the hardware."""

import json
import os
import re
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from diptych_sim import settings
from diptych_sim.cache.store import run_folder

from .build import Build, BuildOptions, Progress, Public, build
from .emit import Hardware, Source, emit_verilog
from .environment import simulator_environment
from .errors import CheckpointError, EngineError, HangError, SimulationError, ToolError
from .processes import processes
from .random_start import run_arguments
from .tool_output import run_logged
from .waves import WavePlan

__all__ = ["EVENT_PREFIX", "Run", "default_seed", "run", "simulate"]

EVENT_PREFIX = "@diptych "
"""Prefix of a line of the log whose rest is a JSON event of the testbench."""

_TAIL = 40
_TELLING = re.compile(r"^\s*(%Error|\w*(Error|Exception|assert\w*):)|error while loading")
"""A line of the log that says why a simulation failed."""
STOPS: dict[str, type[EngineError]] = {
    "hang": HangError,
    "refused": CheckpointError,
    "failed": SimulationError,
}
"""Events with which a testbench stops a run: the ``message`` is a person's."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A simulation that passed.

    Attributes
    ----------
    folder : Path
        Its directory, with ``run.log`` and waveforms; removed already unless it was chosen.
    tests : int
        How many cocotb tests passed.
    seed : int
        The seed of every random draw.
    seconds : float
        Wall time of the simulator alone.
    cached : bool
        Whether the simulator was built before.
    names : tuple of str
        Names of the cocotb tests, with parameters: ``name/idle=0.5``; none with lanes.
    """

    folder: Path
    tests: int
    seed: int
    seconds: float
    cached: bool
    names: tuple[str, ...] = ()


def default_seed() -> int:
    """Return ``$DIPTYCH_SEED``, or 1: a failure is to be seen again by the next run."""
    return settings.seed()


def run(
    built: Build,
    *,
    test_module: str,
    env: Mapping[str, object] | None = None,
    seed: int | None = None,
    test_filter: str | None = None,
    waves: WavePlan | None = None,
    folder: Path | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Run a cocotb module on a simulator.

    Warnings are errors inside the simulator. Under pytest the log goes to the standard output,
    where pytest shows it below a failure; elsewhere it goes to ``run.log`` only.

    Parameters
    ----------
    built : Build
        The simulator.
    test_module : str
        Name of the Python module with the cocotb tests.
    env : mapping, optional
        Environment variables for the testbench; values become text.
    seed : int, optional
        Seed of ``cocotb.RANDOM_SEED``; :func:`default_seed` by default.
    test_filter : str, optional
        Regular expression of the tests to run.
    waves : WavePlan, optional
        What to record; the simulator must have been built for its format.
    folder : Path, optional
        Directory to run in, which is kept; by default a temporary one.
    on_event : callable, optional
        Is given each event that the testbench reports, while the simulation runs.

    Raises
    ------
    HangError
        If a watchdog of the testbench stopped the hardware.
    CheckpointError
        If there is no checkpoint to go on from.
    SimulationError
        If a test fails, none runs, or the simulator stops early.
    """
    seed = default_seed() if seed is None else seed
    under_pytest = "PYTEST_CURRENT_TEST" in os.environ
    temporary = folder is None
    if folder is None:
        folder = run_folder(built.top)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)

    stops: list[EngineError] = []
    tail: deque[str] = deque(maxlen=_TAIL)

    def on_line(line: str) -> None:
        if line.startswith(EVENT_PREFIX):
            event = json.loads(line.removeprefix(EVENT_PREFIX))
            if (stop := STOPS.get(event.get("kind"))) is not None:
                stops.append(stop(event["message"]))
            if on_event is not None:
                on_event(event)
            return
        tail.append(line)
        if under_pytest:
            sys.stdout.write(line)

    if under_pytest:
        print(f"seed {seed} (set DIPTYCH_SEED for another)")
    results = folder / "results.xml"
    results.unlink(missing_ok=True)
    command = [str(built.folder / built.top)]
    own = dict(env or {})
    if built.random_start:
        command += run_arguments(seed)
    if waves is not None:
        waves.file.unlink(missing_ok=True)  # an old one must not be taken for the new one
        command += ["--trace", "--trace-file", str(waves.file.absolute())]
        own |= waves.environment()
    if test_filter is not None:
        own["COCOTB_TEST_FILTER"] = test_filter
    environment = simulator_environment(
        top=built.top, test_module=test_module, results=results, seed=seed, env=own
    )
    started = time.perf_counter()
    log_file = folder / "run.log"
    try:
        with log_file.open("w", encoding="utf-8") as log:
            # What failed is in the results, and if there are none, in the log.
            run_logged(command, cwd=folder, env=environment, log=log, on_line=on_line)
    except BaseException:
        if temporary:  # nobody asks why
            shutil.rmtree(folder, ignore_errors=True)
        raise
    seconds = time.perf_counter() - started
    names, failed = _results(results)
    tests = len(names)
    if stops:
        raise stops[0]
    if not tests or failed:
        what = f"{len(failed)} of {tests} tests ({', '.join(failed)})" if tests else "no test ran"
        log = "".join(tail).rstrip()
        said = next((line.strip() for line in tail if _TELLING.search(line)), "")
        raise SimulationError(
            f"Simulating {built.top} with {test_module} and seed {seed} failed: {what}"
            f"{said and f': {said}'}; log in {log_file}\n{'' if under_pytest else log}".rstrip()
        )
    if temporary:
        shutil.rmtree(folder, ignore_errors=True)
    return Run(
        folder=folder,
        tests=tests,
        names=names,
        seed=seed,
        seconds=seconds,
        cached=built.cached,
    )


def simulate(
    hardware: Hardware | Sequence[Source],
    *,
    name: str,
    test_module: str,
    env: Mapping[str, object] | None = None,
    seed: int | None = None,
    public: Sequence[Public] = (),
    waves: WavePlan | None = None,
    test_filter: str | None = None,
    options: BuildOptions | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Build hardware, unless it was built before, and run a cocotb module on it.

    Parameters
    ----------
    hardware : Hardware or sequence of Source
        A component; or what makes one, which costs less if it is a class of this project, or a
        :func:`functools.partial` of it (:func:`.emit_verilog`); or Verilog.
    name : str
        Name of the top module, by which its builds are called.
    public : sequence of Public
        Modules and variables that the testbench reads besides the ports of the top.
    waves : WavePlan, optional
        What to record.
    options : BuildOptions, optional
        What else to build.
    progress : Progress, optional
        Is called at each step of a build.
    test_module, env, seed, test_filter, folder, on_event
        As of :func:`run`.

    Raises
    ------
    BuildError, SimulationError, ToolError
        If a step fails.
    """
    if processes() > 1:
        raise ToolError(
            "Several processes require --engine lanes and a command that runs the mesh alone"
        )
    base = options or BuildOptions()
    final = BuildOptions(
        public=(*base.public, *public),
        writable=base.writable,
        shared=base.shared,
        blackbox=base.blackbox,
        waves=waves.form if waves is not None else base.waves,
        optimize=base.optimize,
        random_start=base.random_start,
        arguments=base.arguments,
    )
    if isinstance(hardware, Sequence):
        sources = list(hardware)
    else:
        sources = emit_verilog(hardware, name, progress)
    built = build(sources, name=name, options=final, progress=progress)
    return run(
        built,
        test_module=test_module,
        env=env,
        seed=seed,
        test_filter=test_filter,
        waves=waves,
        folder=folder,
        on_event=on_event,
    )


def _results(path: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the tests that ran, and of those that failed."""
    if not path.is_file():
        return (), []
    cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    ran = [case for case in cases if case.find("skipped") is None]
    bad = [
        case.get("name", "?")
        for case in ran
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return tuple(case.get("name", "?") for case in ran), bad
