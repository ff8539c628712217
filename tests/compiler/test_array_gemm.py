# SPDX-License-Identifier: BSD-2-Clause
"""Programs of products: run here by the words of the ISA, they give what NumPy gives.

Whether commands wait for what they need is a matter of tests/systolic/test_gemm_jobs.py.

Mutations that were tried by hand, each seen to fail: last rows over each other in the accumulators, or
a row off; a later part of K that overwrites; biases of the other half; a narrow panel without its
pitch; row blocks that overlap; weights that begin in the middle of a group of lines; blocks that are held and read again.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.config import MachineConfig
from diptych.systolic.isa import Modes, Queue, Start, StoreOp, Target
from diptych.systolic.panel import panel_sizes
from diptych_sim.command.mesh_gemm import random_activations
from diptych_sim.compiler.array.commands import field_of
from diptych_sim.compiler.array_gemm import plan as gemm_plan
from diptych_sim.compiler.array_gemm.compile import GemmError
from diptych_sim.cost.array_gemm import READ_SHARE, fastest_gemm


class Panel:
    """The memories of a panel, and what commands do to them."""

    def __init__(self, hbm, rows, columns):
        self.sizes = panel_sizes(rows, columns)
        self.rows, self.columns = rows, columns
        self.hbm = bytearray(hbm)
        self.beats = 0  # beats
        self.lines = np.random.default_rng(1).integers(-2048, 2048, self.sizes.scratchpad, np.int16)
        self.sums = np.zeros((self.sizes.accumulators, columns), dtype=np.int64)
        self.biases = np.zeros((self.sizes.biases, columns), dtype=np.int64)

    def run(self, command):
        fields = dict.fromkeys(
            [
                "hbm",
                "bytes",
                "rows",
                "pitch",
                "target",
                "target_pitch",
                "total",
                "x",
                "x_row",
                "x_k",
                "w",
                "w_row",
                "w_k",
                "w_n",
                "sums",
                "sums_n",
                "tiles",
                "modes",
                "source",
                "source2",
                "first",
            ],
            0,
        )
        fields |= {name: int(getattr(v, "value", v)) for name, v in command.fields.items()}
        {Queue.LOAD: self.load, Queue.MATRIX: self.multiply, Queue.STORE: self.store}[
            command.queue
        ](command.op, fields)

    def load(self, op, f):
        total = f["total"] or f["bytes"]
        self.beats += -(-(f["hbm"] + total) // 64) - f["hbm"] // 64
        data = np.frombuffer(bytes(self.hbm[f["hbm"] : f["hbm"] + total]), np.uint8)
        if op == Target.BIASES.value:
            entries = data.view("<i4").reshape(-1, self.columns)
            self.biases[f["target"] : f["target"] + len(entries)] = entries
            return
        assert total == f["rows"] * f["bytes"]
        kind = {Target.DENSE.value: np.dtype("i1"), Target.DENSE_WIDE.value: np.dtype("<i2")}[op]
        values = data.view(kind)
        count = f["bytes"] // kind.itemsize
        line = min(64 // kind.itemsize, self.sizes.line)
        for row in range(f["rows"]):
            begin = f["target"] + row * f["target_pitch"]
            end = begin + count
            places = np.arange(begin, -(-end // line) * line) % self.sizes.scratchpad
            self.lines[places] = 0
            self.lines[places[:count]] = values[row * count : (row + 1) * count]

    def multiply(self, _op, f):
        modes = field_of(Modes(), f["modes"])
        assert modes["end_row"] == self.rows
        if modes["packed"]:
            assert f["w_row"] == self.sizes.line
            assert not any(f[name] % (2 * self.sizes.line) for name in ("w", "w_k", "w_n"))

        def piece(at, size):
            return self.lines[np.arange(at, at + size) % self.sizes.scratchpad]

        for j in range(f["tiles"] >> 16):
            for k in range(f["tiles"] & 0xFFFF):
                at = f["w"] + k * f["w_k"] + j * f["w_n"]
                tile = [piece(at + r * f["w_row"], self.columns) for r in range(self.rows)]
                xs = [
                    piece(f["x"] + k * f["x_k"] + m * f["x_row"], self.rows)
                    for m in range(f["rows"])
                ]
                first = f["sums"] + j * f["sums_n"]
                entries = self.sums[first : first + f["rows"]]
                if k == 0 and modes["start"] == Start.OVERWRITE.value:
                    entries[:] = 0
                entries += np.array(xs, np.int64) @ np.array(tile, np.int64)

    def store(self, op, f):
        for row in range(f["rows"]):
            tiles = -(-f["bytes"] // (4 * self.columns))
            words = np.array(
                [self.sums[f["source"] + row + n * f["source2"]] for n in range(tiles)]
            )
            if op == StoreOp.BIASED_SUMS.value:
                words = words + self.biases[f["first"] : f["first"] + tiles]
            at = f["hbm"] + row * f["pitch"]
            assert at % 64 == 0
            piece = (words % 2**32).astype("<u4").tobytes()[: f["bytes"]]
            self.hbm[at : at + f["bytes"]] = piece


def check(m, k, n, *, rows=16, columns=16, group=1, bias=False, bits=8, seed=1):
    rng = np.random.default_rng(seed)
    x = random_activations(rng, (m, k), bits)
    w = rng.integers(-128, 128, (k, n)).astype(np.int8)
    biases = rng.integers(-(2**31), 2**31, n).astype(np.int32) if bias else None
    compiled, cost = fastest_gemm(
        x, w, biases, MachineConfig(array=(rows, columns), weight_rows=group)
    )
    panel = Panel(compiled.program.hbm, rows, columns)
    for command in compiled.program.commands.commands:
        panel.run(command)
    expected = x.astype(np.int64) @ w.astype(np.int64) + (0 if biases is None else biases)
    for row in range(m):
        got = np.frombuffer(panel.hbm, "<u4", n, compiled.result + row * compiled.pitch)
        assert np.array_equal(got, expected[row] % 2**32), f"row {row}"
    return compiled, cost, panel


sides = st.one_of(st.integers(1, 70), st.sampled_from([15, 16, 17, 64, 100]))
arrays = st.sampled_from([(16, 16, 1), (16, 16, 4), (8, 8, 2), (4, 4, 1), (8, 16, 2), (16, 4, 2)])


@settings(max_examples=40, deadline=None)
@given(sides, sides, sides, arrays, st.booleans(), st.sampled_from([8, 12]))
def test_programs_compute_the_product(m, k, n, array, bias, bits):
    rows, columns, group = array
    check(m, k, n, rows=rows, columns=columns, group=group, bias=bias, bits=bits)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 300, 1), (300, 1, 300), (17, 300, 9)])
@pytest.mark.parametrize(
    ("array", "bits"),
    [((128, 128, 4), 8), ((64, 64, 1), 12), ((64, 128, 1), 12), ((4, 128, 1), 8)],
)
def test_wide_arrays(shape, array, bits):
    check(*shape, rows=array[0], columns=array[1], group=array[2], bias=True, bits=bits)


@pytest.mark.parametrize(
    ("shape", "bits", "share"),
    [
        ((50, 90, 70), 8, 1.85),
        ((200, 33, 40), 8, 1.06),
        ((33, 400, 70), 8, 2.31),
        ((129, 129, 129), 8, 4.11),
        ((3, 900, 20), 8, 1.01),
        ((50, 90, 70), 12, 2.17),
        ((33, 400, 70), 12, 2.97),
    ],
)
def test_operands_that_do_not_fit_are_streamed(shape, bits, share, monkeypatch):
    """``share``: how often operands are read at most; a block that stays is not read again."""

    def small(rows, columns):
        sizes = panel_sizes(rows, columns)
        return type(sizes)(
            **{**sizes.__dict__, "scratchpad": 2**13, "accumulators": 256, "biases": 8}
        )

    monkeypatch.setattr(gemm_plan, "panel_sizes", small)
    cuts = list(gemm_plan.tilings(shape, MachineConfig(array=(16, 16))))
    assert [cut.resident for cut in cuts] == [False]
    compiled, _, panel = check(*shape, bias=True, bits=bits)
    assert 64 * panel.beats <= share * compiled.operand_bytes


@pytest.mark.parametrize("shape", [(64, 64, 64), (128, 64, 192), (100, 37, 200), (16, 256, 256)])
def test_each_operand_is_read_once(shape):
    """Reads, those of the program included, stay within 1.05 times the operands."""
    compiled, cost, panel = check(*shape)
    assert cost.predicted_hbm_read <= READ_SHARE * compiled.operand_bytes
    words = sum(compiled.program.commands.encoded_words())
    assert cost.predicted_hbm_read >= 64 * panel.beats + 4 * words


@pytest.mark.parametrize("shape", [(100, 37, 53), (32, 32, 32), (17, 300, 9), (48, 16, 80)])
def test_small_operands_are_read_once(shape):
    """The program is long beside them; without it, reads stay within 1.05 times the operands."""
    compiled, _, panel = check(*shape)
    assert 64 * panel.beats <= READ_SHARE * compiled.operand_bytes


def test_what_does_not_fit_the_hbm_is_refused():
    with pytest.raises(
        GemmError, match=r"^Product must fit into \d+ bytes of HBM, and 1x1x9000000"
    ):
        fastest_gemm(np.zeros((1, 1), np.int8), np.zeros((1, 9_000_000), np.int8), None)
