# SPDX-License-Identifier: BSD-2-Clause
"""Runs the tests of a block once for each of some faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import diptych_sim
import diptych_tb
from diptych_sim.cache.store import cache_root, digest
from support import blocks

from .faults import Fault, planted
from .plugin import JOB, Call, Job, calls

__all__ = ["OUTCOMES", "BaselineError", "Campaign", "Verdict", "sources_of"]

OUTCOMES = ("killed", "too long", "survived", "no change", "invalid")
"""Of a fault: a test fails; the time limit ends the tests; all pass; all pass and the Verilog is the
original's; there is no simulator of it."""

ROOT = blocks.TESTS.parent
RTL = ROOT / "rtl"
ROOMS = {"systolic": "prefill", "mesh": "decode"}


class BaselineError(Exception):
    """Tests fail without a fault; the message ends with what pytest said."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a fault.

    Attributes
    ----------
    fault : Fault
        The fault.
    outcome : str
        One of :data:`OUTCOMES`.
    seconds : float
        Wall time.
    simulated : int
        Calls of ``simulate`` whose result was not known.
    """

    fault: Fault
    outcome: str
    seconds: float
    simulated: int


def sources_of(block: str) -> list[Path]:
    """Return the sources of a block, relative to rtl/.

    They are the file of its name, and the files of the blocks that have no tests but its test file.
    """
    names = {block}
    for other, tests in blocks.TESTED_WITH.items():
        if {Path(test.partition("::")[0]).stem for test in tests} == {f"test_{block}"}:
            names.add(other)
    files = [path.relative_to(RTL) for path in sorted(RTL.rglob("*.py"))]
    return [path for path in files if _block(path) in names]


def _block(path: Path) -> str:
    """Return the name by which the tests know a source."""
    room = ROOMS.get(path.parent.name, path.parent.name)
    if path.stem == "panel" or (room == "link" and path.stem in ("receiver", "transmitter")):
        return f"{room}_{path.stem}"
    return path.stem


class Campaign:
    """Plants faults in copies of the hardware and runs tests on them.

    Parameters
    ----------
    tests : sequence of str
        Tests, as pytest wants them; slow ones among them do not run.
    limit : float
        Seconds after which the tests of a mutant are stopped; the next run tries it again.

    Raises
    ------
    BaselineError
        If a test fails, or none runs, without a fault.
    """

    def __init__(self, tests: Sequence[str], *, limit: float) -> None:
        self._tests = tests
        self._limit = limit
        self._folder = cache_root() / "mutants"
        self._folder.mkdir(exist_ok=True)
        self._known = self._folder / "calls.jsonl"
        self._context = _context()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        with tempfile.TemporaryDirectory(dir=self._folder) as work:
            status, made = self._run(Path(work), None)
            if status != 0:
                said = (Path(work) / "pytest.log").read_text().splitlines()[-20:]
                raise BaselineError("\n".join(["Tests must pass without a fault", *said]))
        self._originals = {call.key for call in made}

    def stop(self) -> None:
        """End the tests that run; :meth:`judge` then returns, and what it says means nothing."""
        self._stopped = True
        for process in list(self._running):
            _kill(process)

    def judge(self, fault: Fault) -> Verdict:
        """Plant a fault and run the tests up to the first that fails.

        Tests of the file with the fault come first. Several threads may judge at once.
        """
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=self._folder) as work:
            status, made = self._run(Path(work), fault)
        if any(call.outcome == "invalid" for call in made) or status not in (0, 1, None):
            outcome = "invalid"
        elif status is None:
            outcome = "too long"
        elif status != 0:
            outcome = "killed"
        elif made and {call.key for call in made} <= self._originals:
            outcome = "no change"
        else:
            outcome = "survived"
        return Verdict(
            fault=fault,
            outcome=outcome,
            seconds=time.perf_counter() - started,
            simulated=sum(call.outcome == "started" for call in made),
        )

    def _run(self, work: Path, fault: Fault | None) -> tuple[int | None, list[Call]]:
        """Return pytest's status, ``None`` after too long a time, and what was simulated."""
        rtl, log = work / "rtl", work / "calls.jsonl"
        shutil.copytree(RTL, rtl, ignore=shutil.ignore_patterns("__pycache__"))
        simulators = cache_root()
        if fault is not None:
            source = rtl / fault.file
            source.write_text(planted(source.read_text(), fault))
            # Nobody needs them again; only Verilator's runtime library is the same for all.
            simulators = work / "sim"
            simulators.mkdir()
            for shared in cache_root().glob("runtime-*"):
                (simulators / shared.name).symlink_to(shared)
        first = blocks.targets(_block(fault.file)) if fault is not None else None
        job = Job(
            rtl=str(rtl),
            known=str(self._known),
            log=str(log),
            context=self._context,
            first=first or (),
        )
        path = [rtl, *(ROOT / room for room in ("sim", "tb", "tests", "docs/site"))]
        env = os.environ | {
            "DIPTYCH_CACHE": str(simulators),
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            JOB: json.dumps(vars(job)),
        }
        env.pop("PYTEST_ADDOPTS", None)
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow"),
            *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)),
            # The order of the path is ours.
            *("-o", "pythonpath=", "-p", "no:cacheprovider", "-p", f"{__package__}.plugin"),
            *self._tests,
        ]
        with (work / "pytest.log").open("w") as said:
            status = self._call(command, env, said.fileno(), fault is not None)
        return status, calls(log)

    def _call(
        self, command: Sequence[str], env: dict[str, str], out: int, limited: bool
    ) -> int | None:
        """Run a command in a process group of its own, which ends with it."""
        with subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True
        ) as process:
            self._running.add(process)
            try:
                return None if self._stopped else process.wait(self._limit if limited else None)
            except subprocess.TimeoutExpired:
                return None
            finally:
                self._running.discard(process)
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _context() -> str:
    """Return a digest of everything but the hardware that a result depends on."""
    packages = [Path(diptych_sim.__path__[0]), Path(diptych_tb.__path__[0]), blocks.TESTS]
    files = [path for package in packages for path in sorted(package.rglob("*.py"))]
    return digest([text for path in files for text in (path.name, path.read_text())])
