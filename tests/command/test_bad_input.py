# SPDX-License-Identifier: BSD-2-Clause
"""A user's mistakes: one clear line on standard error, exit status 2, and nothing written."""

import re
import sys

import pytest

from diptych_sim import cli


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["diptych", *arguments])
    status = 0
    try:
        cli.main()
    except SystemExit as stopped:
        status = stopped.code
    out, err = capsys.readouterr()
    return status, out, err


DECODE = ("--engine", "lanes", "--stage", "decode")
MISTAKES = [
    (["--prompt", ""], r"Prompt \(--prompt\) must not be empty"),
    (["--prompt", "a"] * 9, "Number of prompts must be at most 8, not 9"),
    (["--prompt", "a", "--prompt", ""], r"Prompt \(--prompt\) must not be empty"),
    (
        ["--prompt", "a", "--prompt", "b", *["--tokens", "4"] * 3],
        r"Number of tokens \(--tokens\) must be given once or for each of 2 prompts, not 3 times",
    ),
    (
        ["--prompt", "a", "--prompt", "b", "--mesh", "2x2"],
        r"Mesh 2x2 has 24576 bytes .* 2 sequences of 17 positions .* need \d+ more; 5x5 would do",
    ),
    (["--prompt", "word " * 600], r"Prompt .*context of 512, not \d+"),
    (["--tokens", "0"], "Number of tokens must be at least 1, not 0"),
    (["--tokens", "-3"], "Number of tokens must be at least 1, not -3"),
    (["--tokens", "many"], ".*--tokens.*'many' is not a valid integer."),
    (["--tokens", "600"], r"Number of tokens must be at most \d+, as the prompt takes \d+ .*600"),
    (
        ["--model", "/nowhere.bin"],
        ".*must be 'builtin', 'smollm2', a file or a folder, not missing",
    ),
    (["--mesh", "0x4"], ".*--mesh.*must be RxC.*not '0x4'"),
    (["--mesh", "4x"], ".*--mesh.*must be RxC.*not '4x'"),
    (["--mesh", "4x-2"], ".*--mesh.*must be RxC.*not '4x-2'"),
    (["--mesh", "300x8"], ".*--mesh.*must be RxC.*128.*not '300x8'"),
    (["--mesh", "2x2"], r"Mesh 2x2 has 24576 bytes .* need \d+ more; \d+x\d+ would do"),
    (["--array", "0x0"], ".*--array.*must be RxC.*not '0x0'"),
    (["--array", "12x12"], ".*--array.*power of two from 4 to 128.*not '12x12'"),
    (["--array", "256x16"], ".*--array.*power of two from 4 to 128.*not '256x16'"),
    (["--sram-bytes", "100"], "SRAM must be a multiple of 256 bytes up to 65536, not 100"),
    (["--json", "/nowhere/x.json"], r"JSON file \(--json\) must be in a folder that exists, .*"),
    (["--waves", "x.txt"], r"Waveform file \(--waves\) must be .*\.fst or \.vcd, not x.txt"),
    (
        ["--waves", "x.fst", "--from", "-5"],
        r"First cycle \(--from\) must be 0 or later, counted from the start, not -5",
    ),
    (
        ["--waves", "x.fst", "--from", "9", "--to", "8"],
        r"Last cycle \(--to\) must be at least the first \(--from\), 9, not 8",
    ),
    (["--waves", "x.fst", "--to", "-1"], r"Last cycle .* must be at least the first .*0, not -1"),
    (["--resume"], r"--resume requires a file \(--checkpoint\)"),
    (
        ["--engine", "verilator", "--checkpoint", "run.checkpoint"],
        r"Checkpoint \(--checkpoint\) requires --engine lanes, not verilator",
    ),
    (
        ["--engine", "lanes", "--stage", "prefill", "--checkpoint", "run.checkpoint"],
        r"Checkpoint .* requires a stage that runs the mesh, not prefill",
    ),
    (
        ["--engine", "lanes", "--checkpoint", "run.checkpoint", "--waves", "x.fst"],
        r"Checkpoint .* excludes --waves, not x.fst",
    ),
    (
        [*DECODE, "--checkpoint", "run.checkpoint", "--resume"],
        r"Checkpoint \(--checkpoint\) must be there to resume from, not run.checkpoint",
    ),
    (
        [*DECODE, "--checkpoint", "/nowhere/run.checkpoint"],
        r"Checkpoint \(--checkpoint\) must be in a folder that exists, not /nowhere/run.checkpoint",
    ),
    (
        [*DECODE, "--checkpoint", "/dev/null"],
        r"Checkpoint \(--checkpoint\) must be a file that can be replaced, not /dev/null",
    ),
    (
        [*DECODE, "--checkpoint", "run.checkpoint", "--json", "run.checkpoint"],
        r"Checkpoint \(--checkpoint\) must not be the JSON file \(--json\), run.checkpoint",
    ),
    (["--from", "1"], r"--from requires a waveform file \(--waves\)"),
    (["--to", "1"], r"--to requires a waveform file \(--waves\)"),
    (["--wave-blocks", "host"], r"--wave-blocks requires a waveform file \(--waves\)"),
    (
        ["--waves", "x.fst", "--wave-blocks", "host,cpu"],
        r"Block \(--wave-blocks\) must be all, host, prefill, .* or tile_R_C, not 'cpu'",
    ),
    (
        ["--waves", "x.fst", "--wave-blocks", "tile_8_0"],
        r"Block .* must be tile_R_C with R and C in the mesh of 8x8, not tile_8_0",
    ),
    (
        ["--waves", "x.fst", "--stage", "decode", "--wave-blocks", "matrix"],
        r"Block .* must be all, host, decode, tiles or tile_R_C, not 'matrix'",
    ),
    (["--stage", "half"], ".*--stage.*'half'.*"),
    (["--stage", "decode", "--tokens", "1"], "Number of tokens must be at least 2 to decode.*"),
    (["--nonsense"], ".*--nonsense.*"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_generate_refuses(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, monkeypatch, "generate", *arguments)
    assert status == 2
    assert out == ""
    assert re.fullmatch(f"error: {message}\n", err), err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--windows", "0"], "Number of windows must be at least 1, not 0"),
        (["bench", "--runs", "0"], "Number of runs must be at least 1, not 0"),
        (
            ["bench", "mesh", "--json", "x.json"],
            r"A result \(--json\) is there of wafers only, which must be named",
        ),
        (["verilog", "--array", "3x3"], ".*--array.*not '3x3'"),
        (["nonsense"], "No such command 'nonsense'."),
        (["collective", "reduce", "--words", "0"], r"Words \(--words\) .* range\(1, 2049\), not 0"),
        (["collective", "scan"], ".*'scan' is not one of.*"),
        (["collective", "reduce", "--hop-cycles", "3"], ".*--hop-cycles.*3 is not in the range.*"),
        (
            ["collective", "reduce", "--combine", "argmax", "--algorithm", "tree"],
            "Algorithm of an arg-max must be fabric, not tree",
        ),
        (["collective", "reduce", "--mesh", "8x8x8"], ".*--mesh.*must be RxC.*not '8x8x8'"),
        (["gemv", "0", "5"], r"K must be in range\(1, 65537\), not 0"),
        (["gemv", "5", "0"], r"N must be in range\(1, 65537\), not 0"),
        (["gemv", "5", "x"], ".*'x' is not a valid integer."),
        (["gemv", "5", "5", "--mesh", "0x2"], ".*--mesh.*must be RxC.*not '0x2'"),
        (["gemv", "512", "512", "--mesh", "1x1"], r"Product of 512 inputs .* a 3x3 mesh would do"),
    ],
)
def test_others_refuse(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, monkeypatch, *arguments)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {message}\n", err), err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--json", "--out"])
def test_an_output_that_cannot_be_written_is_refused_first(option, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    target = "folder" if option == "--json" else "file"
    status, out, err = run(capsys, monkeypatch, "generate", option, target)
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"error: .*{option}.* must be .*{target}\n", err), err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0", "1", "1"], r"M must be in range\(1, 65537\), not 0"),
        (["1", "-2", "1"], ".*-2.*"),
        (["1", "1", "0"], r"N must be in range\(1, 65537\), not 0"),
        (["9000", "9000", "9000"], "Operands must fit into 16777216 bytes of HBM, not 162000000"),
        (["4000", "10", "4000"], "Product must fit into 16777216 bytes of HBM, and .* needs .*"),
        (["1", "1", "1", "--hbm-bytes-per-cycle", "0"], "Bandwidth .* must be 1 to 64, not 0"),
        (["1", "1", "1", "--hbm-latency", "3"], "Latency .* must be 4 to 10000 cycles, not 3"),
        (["1", "1", "1", "--weight-rows", "3"], "Weight rows .* must be 1 or 2 or 4 on 16 .* 3"),
        (
            ["1", "1", "1", "--array", "8x8", "--weight-rows", "4"],
            r"Weight rows \(--weight-rows\) must be 1 or 2 on 8 rows, not 4",
        ),
        (
            ["1", "1", "1", "--mesh", "2x2", "--hbm-latency", "50"],
            r"--hbm-latency excludes a mesh \(--mesh\)",
        ),
        (
            ["1", "1", "1", "--algorithm", "shift"],
            r"--algorithm requires a mesh \(--mesh\)",
        ),
    ],
)
def test_products_that_cannot_be(capsys, monkeypatch, arguments, message):
    status, out, err = run(capsys, monkeypatch, "gemm", *arguments)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {message}\n", err), err
