# SPDX-License-Identifier: BSD-2-Clause
"""Options of ``generate`` that draw tokens and end texts, and of ``gemm`` for wider activations."""

import json
import re

import pytest

from support.command import command
from support.tiny_models import write_tiny


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--top-k", "5"),
            r"Tokens are drawn from all \(--top-k is not to be had\): the fabric .*",
        ),
        (("--top-p", "0.9"), r"Tokens are drawn from all \(--top-p is not to be had\): the .*"),
        (("--temperature", "-1"), r".*--temperature.*"),
        (("--temperature", "nan"), r".*--temperature.*: must be a number, not nan"),
        (("--clock-mhz", "inf"), r".*--clock-mhz.*(range|number).*"),
        (("--temperature", "1e-9"), r"Temperature must be 0, or at least .* model, not 1e-09"),
    ],
)
def test_what_cannot_be_drawn_is_refused(capsys, monkeypatch, arguments, message):
    arguments = ("generate", "--stage", "decode", *arguments)
    status, out, err = command(capsys, monkeypatch, *arguments)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {message}", err.strip().splitlines()[-1]), err


def test_products_of_bytes_and_of_twelve_bits_on_a_mesh(capsys, monkeypatch, tmp_path):
    cycles = {}
    for bits in (8, 12):
        for algorithm in ("shift", "broadcast"):
            file = tmp_path / "result.json"
            arguments = ["gemm", "24", "24", "24", "--mesh", "2x2", "--engine", "lanes"]
            arguments += ["--algorithm", algorithm, "--activation-bits", bits, "--json", file]
            status, *_ = command(capsys, monkeypatch, *map(str, arguments))
            assert status == 0
            result = json.loads(file.read_text())
            assert result["matches_golden"]
            assert result["config"]["activation_bits"] == bits
            cycles[bits, algorithm] = result["cycles"]
    assert cycles[8, "shift"] <= cycles[12, "shift"] < 1.1 * cycles[8, "shift"]


@pytest.mark.slow
def test_products_of_bytes_and_of_twelve_bits_on_the_array(capsys, monkeypatch, tmp_path):
    found = {}
    for bits in (8, 12):
        file = tmp_path / "result.json"
        arguments = ["gemm", "24", "40", "24", "--array", "8x8", "--activation-bits", bits]
        status, *_ = command(capsys, monkeypatch, *map(str, arguments), "--json", str(file))
        assert status == 0
        found[bits] = json.loads(file.read_text())
        assert found[bits]["matches_golden"]
        assert found[bits]["config"]["activation_bits"] == bits
    assert found[8]["cycles"] <= found[12]["cycles"] < 1.05 * found[8]["cycles"]
    read = {bits: each["bytes"]["hbm_read"] - each["program_bytes"] for bits, each in found.items()}
    assert read == {8: 24 * 40 + 40 * 24, 12: 2 * 24 * 40 + 40 * 24}


def test_prefill_alone_asks_the_mesh_for_keys_and_values_only(capsys, monkeypatch):
    """The bundled model does not fit into one tile, but keys and values of some positions do."""
    arguments = ("generate", "--prompt", "In the", "--mesh", "1x1", "--sram-bytes")
    status, _, err = command(capsys, monkeypatch, *arguments, "24576")
    assert status == 2
    assert err.startswith("error: Mesh 1x1 has 24576 bytes of SRAM in a tile, and ")
    status, _, err = command(capsys, monkeypatch, *arguments, "256", "--stage", "prefill")
    assert status == 2
    assert err.startswith("error: Mesh 1x1 has 256 bytes of SRAM in a tile, and ")


PREFILL = ["--prompt", "a thin thing", "--sram-bytes", "256", "--array", "8x8", "--engine", "lanes"]


def test_prefill_alone_needs_no_mesh(capsys, monkeypatch, tmp_path):
    """That of 8x8, which it has if none is named, does not hold keys and values of this prompt."""
    made = []

    def run(model, prompts, tokens, *, machine, **options):
        made.append(machine.mesh)
        raise ValueError("no run")

    monkeypatch.setattr("diptych_sim.command.generate.run_machine", run)
    arguments = ["generate", "--model", str(write_tiny(tmp_path / "m", "llama")), *PREFILL]
    for more in (
        ["--mesh", "8x8", "--stage", "prefill"],
        ["--sram-bytes", "2048", "--tokens", "2"],
    ):
        status, _, err = command(capsys, monkeypatch, *arguments, *more)
        assert (status, made) == (2, [])
        assert re.fullmatch(r"error: Mesh 8x8 has .* need \d+ more; \d+x\d+ would do\n", err), err
    command(capsys, monkeypatch, *arguments, "--stage", "prefill")
    assert made == [(11, 11)]


@pytest.mark.slow
def test_prefill_runs_with_the_mesh_that_it_needs(capsys, monkeypatch, tmp_path):
    file = tmp_path / "result.json"
    arguments = ["generate", "--model", str(write_tiny(tmp_path / "m", "llama")), *PREFILL]
    arguments += ["--stage", "prefill", "--json", str(file)]
    status, _, err = command(capsys, monkeypatch, *arguments)
    assert status == 0, err
    result = json.loads(file.read_text())
    assert result["matches_golden"]
    assert result["config"]["mesh"] == "11x11"
