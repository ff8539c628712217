# SPDX-License-Identifier: BSD-2-Clause
"""What users have around the command: variables, terminals, pipes, signals, caches, paths.

Mutations that were tried by hand, each seen to fail: the caller's environment passed on as it is;
no check of settings; rich's own end of a closed pipe; signals not caught; the group of a program
not ended; width as COLUMNS says; the folder of runs in a cache that is read only.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diptych_sim.cache.store import cache_root
from support.command import command, started
from support.hf_folder import write_folder

COLLECTIVE = ("collective", "allreduce", "--mesh", "1x2", "--words", "3")
EVALUATE = ("evaluate", "--windows", "1")


def ended(*arguments, **settings):
    with started(*arguments, **settings) as process:
        out, err = process.communicate(timeout=500)
    return process.returncode, out, err


HOSTILE = {
    "LD_LIBRARY_PATH": "",
    "PYTHONWARNINGS": "ignore",
    "PYTHONOPTIMIZE": "2",
    "COCOTB_TEST_FILTER": "nothing",
    "COCOTB_TESTCASE": "nothing",
    "COCOTB_TEST_MODULES": "nothing",
    "COCOTB_RANDOM_SEED": "x",
    "COCOTB_LOG_LEVEL": "nonsense",
    "COCOTB_RESULTS_FILE": "/nowhere/results.xml",
    "COCOTB_ANSI_OUTPUT": "x",
    "PYTEST_ADDOPTS": "--nonsense",
    "PYTEST_PLUGINS": "nothing",
    "VERILATOR_ROOT": "/nowhere",
    "VERILATOR_BIN": "nothing",
    "MAKEFLAGS": "-n --nonsense",
    "GPI_USERS": "nothing",
    "GPI_EXTRA": "nothing",
    "GPI_LOG_LEVEL": "nonsense",
    "LIBPYTHON_LOC": "/nowhere/libpython.so",
    "PYGPI_PYTHON_BIN": "/nowhere/python",
    "PYGPI_USERS": "nothing",
    "TOPLEVEL": "x",
    "TOPLEVEL_LANG": "vhdl",
    "TESTCASE": "x",
    "TEST_DIR": "x",
    "RANDOM_SEED": "x",
    "WAVES": "1",
    "GUI": "1",
    "CXXFLAGS": "--nonsense",
    "CPPFLAGS": "--nonsense",
    "LDFLAGS": "--nonsense",
    "PMI_RANK": "1",
    "COLUMNS": "0",
    "LINES": "0",
    "TERM": "",
}


@pytest.mark.parametrize("engine", ["verilator", "lanes"])
@pytest.mark.parametrize(
    "env", [HOSTILE, {"LD_LIBRARY_PATH": "/nowhere:"}, {"DIPTYCH_THREADS": "", "CXX": ""}]
)
def test_the_environment_changes_nothing(env, engine):
    status, out, err = ended(*COLLECTIVE, "--engine", engine, env=env)
    assert (status, out.count("equal to NumPy")) == (0, 1), err


@pytest.mark.slow
def test_the_environment_does_not_reach_compilers(tmp_path):
    # A path that make and the shell would take apart.
    cache = tmp_path / "a 'b\" $HOME #;\n"
    env = {**HOSTILE, "DIPTYCH_CACHE": cache, "CXX": "env g++ -O1 -DX='a $b'"}
    status, out, err = ended(*COLLECTIVE, "--engine", "verilator", env=env)
    assert (status, out.count("equal to NumPy")) == (0, 1), err
    assert "env g++ -O1" in next(cache.glob("decode_panel-*/build.log")).read_text()
    assert not list(cache.glob(".*"))
    assert not list((cache / "runs").iterdir())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DIPTYCH_THREADS", "abc", r"Threads .* a whole number from 1 to 1024, not 'abc'"),
        ("DIPTYCH_THREADS", "0", r"Threads .* from 1 to 1024, not '0'"),
        ("DIPTYCH_SEED", "x", r"Seed .* a whole number from 0 to 4294967295, not 'x'"),
        ("DIPTYCH_SEED", "-1", r"Seed .* not '-1'"),
        ("DIPTYCH_LANES", "100", r"Lanes .* 64, 128, 256 or 512, not 100"),
        ("DIPTYCH_LANES", "1e3", r"Lanes .* not '1e3'"),
        ("DIPTYCH_MARCH", "a b", r"Processor .* a name of GCC's -march, not 'a b'"),
        ("DIPTYCH_SIZES", "4x4 8", r"Meshes .* RxC, each from 1 to 4096, not '8'"),
        ("DIPTYCH_GROWING", "0x4", r"Meshes .* not '0x4'"),
        ("DIPTYCH_FLAT", "4x4 8x8", r"Mesh .* one of RxC, not '4x4 8x8'"),
        ("DIPTYCH_WAFER", "big", r"Meshes .* not 'big'"),
    ],
)
@pytest.mark.parametrize("arguments", [EVALUATE, COLLECTIVE], ids=["evaluate", "collective"])
def test_settings_are_checked_and_named(capsys, monkeypatch, name, value, message, arguments):
    monkeypatch.setenv(name, value)
    status, out, err = command(capsys, monkeypatch, *arguments)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {message}\n", err), err
    assert f"({name})" in err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CXX", "nothing"),
        ("CXX", "'"),
        ("CXX", "cat"),
        ("CXX", "g++ --nonsense"),
        ("DIPTYCH_MARCH", "nonsense"),
    ],
)
def test_what_cannot_compile_is_refused(capsys, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    engine = ("--engine", "lanes")
    status, out, err = command(capsys, monkeypatch, *COLLECTIVE, *engine)
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"error: .* \({name}\) must be .*, not .*\n", err.split("...\n")[-1]), err


@pytest.mark.parametrize("columns", ["0", "1", "-5", "x", "\u00b2", "999999999"])
@pytest.mark.parametrize("term", ["dumb", "unknown", "xterm"])
def test_no_terminal_loses_output(columns, term):
    env = {"COLUMNS": columns, "LINES": columns, "TERM": term}
    status, out, _ = ended(*COLLECTIVE, env=env)
    assert status == 0
    assert re.search(r"19 cycles; bound 4, .*equal to NumPy\n.*computing 6", out)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("generate", "--help"),
        ("program", "--mesh", "8x8"),
        COLLECTIVE,
        EVALUATE,
        ("gemv", "8", "8", "--mesh", "1x1", "--engine", "lanes", "--json", "-"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("errors", ["kept", "closed"])
def test_a_reader_that_has_gone_ends_a_command(arguments, errors):
    reader, writer = os.pipe()
    os.close(reader)
    stderr = writer if errors == "closed" else subprocess.PIPE
    status, _, err = ended(*arguments, stdout=writer, stderr=stderr)
    os.close(writer)
    assert status == 141
    # With --json - the tables go to the standard error.
    assert not re.search("error|Traceback|Exception", err or ""), err


@pytest.mark.parametrize("engine", [pytest.param("verilator", marks=pytest.mark.slow), "lanes"])
def test_a_reader_that_goes_ends_a_simulation(tmp_path, engine):
    model = write_folder(tmp_path / "model")
    panel = ("--mesh", "2x2", "--array", "8x8")  # which other tests build, too
    before = set((cache_root() / "runs").glob("*"))
    reader, writer = os.pipe()
    os.close(reader)
    run = ("--model", model, "--prompt", "the", *panel, "--engine", engine)
    status, _, err = ended("generate", *run, stdout=writer)
    os.close(writer)
    assert status == 141
    assert all(line.endswith(" ...") for line in err.splitlines()), err
    left = set((cache_root() / "runs").glob("system-*")) - before
    assert not left


def _running(folder):
    """Return programs that are in a folder, or work there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_text() + str((process / "cwd").readlink())
        except OSError:
            continue
        if str(folder) in text:
            found.append(text)
    return found


WAITS = """
import os, signal, threading, time
from diptych_sim.command.signals import Terminated, ended_by_signals

def send():
    time.sleep(0.5)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(100)

try:
    with ended_by_signals():
        threading.Thread(target=send, daemon=True).start()
        os.read(os.pipe()[0], 1)  # waits for ever
except Terminated as ended:
    print("ended by", ended.number)
"""


def test_a_signal_that_another_thread_gets_ends_the_main_thread():
    # Seen to fail without it: a command of several processes that went on to its end.
    done = subprocess.run(
        [sys.executable, "-c", WAITS], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"ended by {int(signal.SIGTERM)}\n"


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow), signal.SIGINT],
)
@pytest.mark.parametrize("engine", ["verilator", "lanes"])
def test_a_signal_ends_compilers_and_leaves_nothing(tmp_path, number, engine):
    shutil.copytree(cache_root() / "verilog", tmp_path / "verilog")  # begins to compile sooner
    with started(*COLLECTIVE, "--engine", engine, env={"DIPTYCH_CACHE": tmp_path}) as process:
        deadline = time.monotonic() + 120
        while not any("cc1plus" in text for text in _running(tmp_path)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert _running(tmp_path) == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path, monkeypatch):
    from diptych_sim.cache.store import temporary_folder

    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    code = (
        "import os, sys, pathlib\n"
        "from diptych_sim.cache.store import temporary_folder\n"
        "with temporary_folder(pathlib.Path(sys.argv[1]) / 'tile'):\n    os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(list(tmp_path.glob(".*"))) == 1
    with temporary_folder(tmp_path / "a") as first, temporary_folder(tmp_path / "b") as second:
        assert sorted(tmp_path.glob(".*")) == sorted([first, second])
    assert not list(tmp_path.glob(".*"))


def _mortal():
    """Drop what lets root write where it must not: CAP_DAC_OVERRIDE."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("engine", ["verilator", "lanes"])
def test_a_cache_that_is_read_only_serves_what_it_has(tmp_path, full, engine):
    cache, run = tmp_path / "cache", (*COLLECTIVE, "--engine", engine)
    cache.mkdir()
    if full:
        root = cache_root()
        assert ended(*run)[0] == 0
        kept = {"verilator": ("verilog", "decode_panel-*", "shared_tile-*"), "lanes": ("lanes*",)}
        for path in (path for name in kept[engine] for path in root.glob(name)):
            copy = shutil.copytree if path.is_dir() else shutil.copy
            if not path.name.endswith(".log"):
                copy(path, cache / path.name)
    cache.chmod(0o555)
    status, out, err = ended(*run, env={"DIPTYCH_CACHE": cache}, preexec_fn=_mortal)
    cache.chmod(0o755)
    if full:
        assert (status, out.count("equal to NumPy")) == (0, 1), err
    else:
        assert (status, out) == (2, "")
        last = err.splitlines()[-1]
        assert last.startswith(
            "error: Build cache (DIPTYCH_CACHE) must be a folder that can be "
        ), err


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/cache", "/proc/cache"])
def test_a_cache_that_cannot_be_is_named(capsys, monkeypatch, place):
    monkeypatch.setenv("DIPTYCH_CACHE", place)
    status, out, err = command(capsys, monkeypatch, *EVALUATE)
    assert (status, out) == (2, "")
    assert re.fullmatch(
        rf"error: Build cache \(DIPTYCH_CACHE\) must be a folder .*, not {place} \(.*\)\n",
        err.split("...\n")[-1],
    ), err
