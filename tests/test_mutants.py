# SPDX-License-Identifier: BSD-2-Clause
"""``make mutants``: faults are found, planted, and judged by what the tests say.

Mutations that were tried by hand, each seen to fail: a seed that is ignored; a fault drawn twice; defaults,
checks of parameters or assertions that are changed; no term dropped from a condition; a fault that is not
written; Verilog of the original that is not recognized; results that are not kept; tests in their own
order; verdicts in the order in which they came.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from support import blocks
from support.mutants import plugin
from support.mutants.__main__ import main
from support.mutants.campaign import RTL, BaselineError, Campaign, sources_of
from support.mutants.faults import Fault, draw, faults_of, planted

BUFFER = Path("diptych/stream_buffer.py")
TEST = """
from functools import partial
from diptych.stream_buffer import StreamBuffer
from diptych_sim.engine.simulate import simulate
from diptych_tb.stream_buffer import PAYLOAD

def test_buffer():
    simulate(
        partial(StreamBuffer, PAYLOAD),
        name="stream_buffer",
        test_module="diptych_tb.stream_buffer",
        test_filter="{}",
    )
"""
SOURCE = '''
class Block(Component):
    """Has 3 words."""

    def __init__(self, size: int = 4) -> None:
        if size < 1:
            raise ValueError(f"Size must be at least {1}")

    def elaborate(self, platform):
        with m.If(a & ~b):
            m.d.sync += [c.eq(Mux(a, b, Cause.IDLE)), d.eq(Cause.BUSY)]
        m.d.comb += e.eq(f[:5])
        m.d.sync += Assert(a < 2)
'''
FAULTS = """
10 operator: a & ~b -> (a | ~b)
10 condition: a & ~b -> (a)
10 condition: a & ~b -> (~b)
10 condition: a & ~b -> ~(a & ~b).bool()
10 condition: a & ~b -> 1
10 condition: a & ~b -> 0
10 operator: ~b -> b
11 dropped: c.eq(Mux(a, b, Cause.IDLE)) -> *()
11 dropped: d.eq(Cause.BUSY) -> *()
11 width: Mux(a, b, Cause.IDLE) -> (Mux(a, b, Cause.IDLE))[:-1]
11 exchanged: Mux(a, b, Cause.IDLE) -> Mux(a, Cause.IDLE, b)
11 exchanged: Cause.IDLE -> Cause.BUSY
11 width: Cause.BUSY -> (Cause.BUSY)[:-1]
11 exchanged: Cause.BUSY -> Cause.IDLE
12 dropped: m.d.comb += e.eq(f[:5]) -> pass
12 width: f[:5] -> (f[:5])[:-1]
12 constant: 5 -> 6
12 constant: 5 -> 4
"""


def buffer_fault(old: str, new: str) -> Fault:
    """Return the fault of the stream buffer that replaces a text."""
    text = (RTL / BUFFER).read_text()
    return next(f for f in faults_of(BUFFER, text) if (f.old, f.new) == (old, new))


def buffer_campaign(folder: Path, test_filter: str) -> Campaign:
    test = folder / "test_buffer.py"
    test.write_text(TEST.format(test_filter))
    return Campaign([str(test)], limit=600)


def test_finds_the_faults_of_a_source():
    found = faults_of(Path("block.py"), SOURCE)
    lines = [f"{fault.line} {fault}" for fault in found]
    assert sorted(lines) == sorted(FAULTS.strip().splitlines())
    for fault in found:
        text = planted(SOURCE, fault)
        compile(text, "block.py", "exec")
        assert text != SOURCE
        assert text.count("\n") == SOURCE.count("\n")


def test_draws_by_seed_and_never_twice():
    faults = faults_of(Path("block.py"), SOURCE)
    assert draw(faults, 6, 1) == draw(faults, 6, 1) != draw(faults, 6, 2)
    assert sorted(map(str, draw(faults, 99, 1))) == sorted(map(str, faults))


def test_a_block_has_its_own_sources():
    assert [path.name for path in sources_of("router")] == [
        "color_arbiter.py",
        "combiner.py",
        "combiner_tree.py",
        "input_port.py",
        "route_table.py",
        "router.py",
    ]
    assert sources_of("credits") == [Path("diptych/mesh/credits.py")]
    assert sources_of("tasks") == [Path("diptych/mesh/tasks.py")]
    assert sources_of("link_receiver") == [Path("diptych/link/receiver.py")]
    assert sources_of("receiver") == [Path("diptych/mesh/receiver.py")]


@pytest.mark.slow
def test_a_fault_survives_where_the_test_for_it_is_removed(tmp_path):
    before = {path: path.read_bytes() for path in RTL.rglob("*.py")}
    lost = buffer_fault("spare.eq(self.i.payload)", "*()")
    removed = buffer_campaign(tmp_path, "passes_a_beat_per_cycle")
    assert removed.judge(lost).outcome == "survived"
    there = buffer_campaign(tmp_path, "takes_two_beats_while_stalled")
    assert there.judge(lost).outcome == "killed"
    again = there.judge(lost)
    assert (again.outcome, again.simulated) == ("killed", 0)
    same = replace(buffer_fault("0", "1"), new="2")  # written to one bit
    assert there.judge(same).outcome == "no change"
    nonsense = buffer_fault("self.i.payload", "(self.i.payload)[:-1]")
    assert there.judge(nonsense).outcome == "invalid"
    assert {path: path.read_bytes() for path in RTL.rglob("*.py")} == before


def test_tests_of_the_file_with_the_fault_come_first(monkeypatch):
    first = blocks.targets("tasks")
    assert first is not None
    job = plugin.Job(rtl="", known="", log="", context="", first=first)
    monkeypatch.setenv(plugin.JOB, json.dumps(vars(job)))
    names = [
        "test_tile.py::test_programs[core]",
        "test_tile.py::test_programs[tasks]",
        "test_sram.py::test_a",
    ]
    places = [name.split("::") for name in [*names, "test_task_scheduler.py::test_b"]]
    items = [SimpleNamespace(path=blocks.TESTS / "mesh" / file, name=n) for file, n in places]
    plugin.pytest_collection_modifyitems(items)
    assert [item.name for item in items] == [
        "test_programs[tasks]",
        "test_b",
        "test_programs[core]",
        "test_a",
    ]


@pytest.mark.slow
def test_faults_are_judged_one_or_two_at_once_alike(capsys):
    printed = []
    for jobs in ("2", "1"):
        assert main("stream_buffer", "3", "3", "600", jobs) == 0
        out, _err = capsys.readouterr()
        printed.append(re.sub(r", \d+ s:", ":", out))
    assert printed[0] == printed[1]
    found = re.findall(
        r"^(\d)/3 \w[\w ]*: rtl/diptych/stream_buffer.py:\d+: ", printed[0], re.MULTILINE
    )
    assert found == ["1", "2", "3"]


def test_tests_that_fail_without_a_fault_give_no_verdict(tmp_path):
    with pytest.raises(BaselineError, match=r"^Tests must pass without a fault\n[^$]*no test ran"):
        buffer_campaign(tmp_path, "no_such_test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), r"BLOCK must be one of .* router .*, not 'nothing'"),
        (("report",), r"BLOCK must be one of .* router .*, not 'report'"),
        (("router", "0"), "N must be an integer of at least 1, not '0'"),
        (("router", "5", "x"), "SEED must be an integer of at least 0, not 'x'"),
        (("router", "5", "1", ""), "LIMIT must be an integer of at least 1, not ''"),
        (("router", "5", "1", "9", "0"), "JOBS must be an integer of at least 1, not '0'"),
    ],
)
def test_refuses(arguments, message, capsys):
    assert main(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"error: {message}\n", err)
    assert blocks.targets("report") is not None
