# SPDX-License-Identifier: BSD-2-Clause
"""pytest plugin of the tests of a mutant: simulates no Verilog whose result is known.

Every call of ``simulate`` is noted in a file, with a digest of the Verilog, of what the call asks
for, and of the testbenches. A simulation ends with its first test that fails.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diptych
from diptych_sim.cache.store import digest
from diptych_sim.engine import simulate as engine
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.errors import BuildError, EngineError, SimulationError

__all__ = ["JOB", "Call", "Job", "calls", "note"]

JOB = "MUTANT_JOB"
"""Environment variable with a :class:`Job` as JSON."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the tests of a mutant are told.

    Attributes
    ----------
    rtl : str
        Folder that must have the package ``diptych`` that is tested.
    known, log : str
        Files of calls: those of all earlier runs, and those of this one.
    context : str
        Digest of everything but the hardware.
    first : sequence of str
        Tests that run before the others, as pytest wants them.
    """

    rtl: str
    known: str
    log: str
    context: str
    first: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of ``simulate``.

    Attributes
    ----------
    key : str
        What was simulated, and how.
    outcome : str
        "started", "passed", "failed" or "invalid": no simulator can be made.
    names : sequence of str
        cocotb tests that passed.
    message : str
        What was wrong.
    """

    key: str
    outcome: str
    names: Sequence[str] = ()
    message: str = ""


def note(file: Path, call: Call) -> None:
    """Append a call to a file."""
    with file.open("a") as stream:
        stream.write(json.dumps(vars(call)) + "\n")


def calls(file: Path) -> list[Call]:
    """Return the calls in a file; a line that was cut off counts for nothing."""
    found = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        try:
            found.append(Call(**json.loads(line)))
        except ValueError:
            continue
    return found


class _Simulate:
    """Stands in for ``simulate``."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._log = Path(job.log)
        self._known = {call.key: call for call in calls(Path(job.known))}
        self._original = engine.simulate

    def __call__(self, hardware: Any, *, name: str, **options: Any) -> engine.Run:
        if isinstance(hardware, Sequence):
            sources = list(hardware)
        else:
            try:
                sources = emit_verilog(hardware, name, options.get("progress"))
            except Exception:
                note(self._log, Call(key="", outcome="invalid"))
                raise
        asked = [repr((key, value)) for key, value in sorted(options.items()) if key != "progress"]
        seed = str(engine.default_seed())
        key = digest([self._job.context, name, seed, *asked, *(t for s in sources for t in s)])
        # A caller that looks at events or files needs the run itself.
        whole = not {"on_event", "folder", "waves"} & options.keys()
        if whole and key in self._known:
            return self._as_before(self._known[key])
        note(self._log, Call(key=key, outcome="started"))
        options["env"] = {**(options.get("env") or {}), "COCOTB_MAX_FAILURES": 1}
        try:
            ran = self._original(sources, name=name, **options)
        except EngineError as error:
            outcome = "invalid" if isinstance(error, BuildError) else "failed"
            self._keep(Call(key=key, outcome=outcome, message=str(error)), whole)
            raise
        self._keep(Call(key=key, outcome="passed", names=ran.names), whole)
        return ran

    def _keep(self, call: Call, whole: bool) -> None:
        note(self._log, call)
        if whole:
            note(Path(self._job.known), call)

    def _as_before(self, call: Call) -> engine.Run:
        note(self._log, call)
        if call.outcome != "passed":
            error = BuildError if call.outcome == "invalid" else SimulationError
            raise error(f"As in an earlier run: {call.message}")
        return engine.Run(
            folder=Path(),
            tests=len(call.names),
            names=tuple(call.names),
            seed=engine.default_seed(),
            seconds=0.0,
            cached=True,
        )


def pytest_configure() -> None:
    """Put the stand-in where the tests import from."""
    job = _job()
    package = Path(diptych.__path__[0])
    if package.parent != Path(job.rtl):
        raise RuntimeError(f"Package diptych must be that of {job.rtl}, not {package}")
    engine.simulate = _Simulate(job)  # pyright: ignore[reportAttributeAccessIssue]


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Begin with the tests that are most likely to see the fault."""
    first = tuple(_job().first)
    items.sort(key=lambda item: not f"{item.path}::{item.name}".startswith(first))


def _job() -> Job:
    return Job(**json.loads(os.environ[JOB]))
