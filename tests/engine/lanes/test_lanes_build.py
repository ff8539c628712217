# SPDX-License-Identifier: BSD-2-Clause
"""Building for lanes: what is missing is told in a line, and nothing half-built is kept."""

import platform
import resource
import signal
import subprocess

import pytest

from diptych_sim.engine.errors import BuildError, ToolError
from diptych_sim.engine.lanes.build import compile_driver
from diptych_sim.engine.lanes.mesh import LaneMesh
from diptych_sim.engine.lanes.tiling import block_lanes
from diptych_sim.engine.native_library import HEADERS, build_library
from diptych_sim.engine.toolchain import find_compiler
from support.mesh_jobs import random_job


def test_a_missing_compiler_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    message = r"^g\+\+ not found: install a C\+\+ compiler \(Debian: apt install g\+\+\)$"
    with pytest.raises(ToolError, match=message):
        compile_driver()


def test_what_the_compiler_refuses_is_told_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    with pytest.raises(BuildError) as refused:
        build_library("wrong", "int f() { return nothing; }\nint g() { return nothing; }\n")
    assert str(refused.value).startswith("The C++ compiler refused lanes-wrong-")
    assert "'nothing' was not declared" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("*.so"))


@pytest.mark.parametrize("limit", [1000, 100_000])
def test_a_disk_that_takes_no_more_leaves_nothing_behind(monkeypatch, tmp_path, limit):
    # A limit on the size of files ends writing as a full disk does: of the source, of the library.
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path))
    source = (
        "static const char much[] = {" + "1, " * 40_000 + "};\nconst char* f() { return much; }"
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(BuildError) as refused:
            build_library("much", source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    lines = str(refused.value).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Cannot build much for lanes: ")
    assert lines[0].endswith("File too large")
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock"}
    assert build_library("much", source).is_file()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of such processors")
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_a_bit_of_each_lane_is_one_vector_at_most(monkeypatch, processor):
    monkeypatch.setenv("DIPTYCH_MARCH", processor)
    monkeypatch.delenv("DIPTYCH_LANES", raising=False)
    options = [f"-march={processor}", "-DLANES=64", "-E", "-dM", "-x", "c++"]
    defined = subprocess.run(
        [*find_compiler(), *options, HEADERS / "lanes.h"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    long = "#define VECTOR 64\n" in defined.stdout
    assert long == (processor == "x86-64-v4")
    assert [block_lanes(tiles) for tiles in (64, 200, 4608)] == [64, 256, 512 if long else 256]


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of such processors")
def test_older_processors_give_the_same(monkeypatch):
    mesh = (3, 5)
    states = []
    for chosen in ("native", "x86-64-v3", "x86-64"):
        monkeypatch.setenv("DIPTYCH_MARCH", chosen)
        with LaneMesh(*mesh) as lanes:
            lanes.reset()
            lanes.feed(random_job(mesh, 1))
            lanes.run(2000)
            state = {**lanes.registers(), **lanes.memories()}
            states.append({name: values.tolist() for name, values in state.items()})
    assert states[1:] == [states[0]] * 2
