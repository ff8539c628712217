# SPDX-License-Identifier: BSD-2-Clause
"""A mesh on several processes is the mesh on one; a process that dies ends the run."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diptych_sim.engine.errors import BuildError
from diptych_sim.engine.lanes.distributed import cut
from diptych_sim.engine.processes import launch

PROCESS = [sys.executable, "-m", "support.mesh_process"]
MPIRUN = str(Path(sys.executable).with_name("mpirun"))
DIPTYCH = str(Path(sys.executable).with_name("diptych"))


def output(*command):
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300
    ).stdout.splitlines()


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_digest_equals_that_of_one_process(count):
    alone = output(*PROCESS)
    assert len(alone) == 1
    assert output(MPIRUN, "-n", str(count), *PROCESS) == alone * count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("die", "error: an MPI process has died, and the run with it (status 9)\n"),
        ("raise", "error: process 1: MemoryError: no more\n"),
    ],
)
def test_a_process_that_dies_ends_the_run_with_one_line(capfd, how, error):
    assert launch(2, [*PROCESS, how]) == 1
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", error)


def _running(folder):
    """Return the processes whose program lies in a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder) in file.read_text():
                found.append(int(file.parent.name))
    return found


@pytest.mark.slow
def test_processes_end_with_the_command_that_was_killed(tmp_path):
    program = tmp_path / "wait.py"
    program.write_text("import time\nprint('here', flush=True)\ntime.sleep(100)\n")
    start = "import sys; from diptych_sim.engine.processes import launch; launch(2, sys.argv[1:])"
    command = [sys.executable, "-c", start, sys.executable, str(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        # Who writes to one that is gone ends by itself.
        assert "".join(launcher.stdout.readline() for _ in range(2)).count("here") == 2
        assert len(_running(tmp_path)) > 2
        launcher.kill()
    deadline = time.monotonic() + 20
    while _running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _running(tmp_path) == []


ALARM = """
import os, signal, threading, time
from diptych_sim.engine.lanes.distributed import open_mesh

class Alarm(BaseException):
    pass

def ring(number, frame):
    raise Alarm

signal.signal(signal.SIGALRM, ring)
threading.Timer(60, os._exit, (1,)).start()
with open_mesh(4, 4) as lanes:
    lanes.reset()
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        lanes.run(10**12)
    except Alarm:
        print("ended", flush=True)
    time.sleep(100)
"""


def test_what_a_signal_raises_ends_a_run(tmp_path):
    # Seen to fail: ctypes drops what is raised while borders are exchanged, and the run goes on.
    program = tmp_path / "alarm.py"
    program.write_text(ALARM)
    start = "import sys; from diptych_sim.engine.processes import launch; launch(2, sys.argv[1:])"
    command = [sys.executable, "-c", start, sys.executable, str(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        # Lines of two processes may be mixed.
        assert sorted(launcher.stdout.read(12)) == sorted("ended\n" * 2)
        launcher.kill()


def _simulating(folder):
    """Return the processes whose program lies in a folder and that have loaded a mesh."""
    found = []
    for number in _running(folder):
        with contextlib.suppress(OSError):
            if "lanes-tile" in Path(f"/proc/{number}/maps").read_text():
                found.append(number)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_its_processes(tmp_path, number):
    # Seen to fail: mpirun not ended with the command, which then waits for it.
    file = tmp_path / "result.json"
    # 28,784 cycles, so that a signal comes before they are over.
    steps = ("gemm", "384", "384", "384", "--mesh", "16x16", "--engine", "lanes")
    with subprocess.Popen(
        [DIPTYCH, "--processes", "2", *steps, "--json", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline = time.monotonic() + 120
        while len(_simulating(tmp_path)) < 2:
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(number)
        out, err = running.communicate(timeout=30)
    assert running.returncode == -number
    assert (out, [line for line in err.splitlines() if not line.endswith(" ...")]) == ("", [])
    deadline = time.monotonic() + 20
    while _running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _running(tmp_path) == []
    assert not file.exists()


@pytest.mark.slow
def test_command_on_several_processes_gives_the_same(tmp_path):
    command = ("gemv", "40", "50", "--mesh", "2x2", "--engine", "lanes", "--json")
    results = []
    for count in ("1", "2"):
        file = tmp_path / f"{count}.json"
        output(DIPTYCH, "--processes", count, *command, str(file))
        results.append({**json.loads(file.read_text()), "wall_seconds": 0})
    assert results[0] == results[1]
    assert results[0]["matches_golden"]


def test_verilator_is_refused():
    done = subprocess.run(
        [DIPTYCH, "--processes", "2", "gemv", "40", "50", "--engine", "verilator"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines == ["error: Processes (--processes) must be 1 with --engine verilator, not 2"]


@pytest.mark.parametrize(
    ("mesh", "count", "first", "last"),
    [
        ((64, 64), 2, (0, 0, 64, 32), (0, 32, 64, 32)),
        ((64, 64), 4, (0, 0, 32, 32), (32, 32, 32, 32)),
        ((750, 994), 64, (0, 0, 93, 124), (656, 869, 94, 125)),
        ((3, 1), 3, (0, 0, 1, 1), (2, 0, 1, 1)),
    ],
)
def test_rectangles_cover_the_mesh(mesh, count, first, last):
    rows, columns = mesh
    parts = cut(rows, columns, count)
    assert (parts[0], parts[-1]) == (first, last)
    assert sum(part.rows * part.columns for part in parts) == mesh[0] * mesh[1]


def test_a_mesh_that_cannot_be_cut_is_refused():
    with pytest.raises(BuildError, match=r"^A mesh of 2x3 cannot be cut for 7 processes$"):
        cut(2, 3, 7)
