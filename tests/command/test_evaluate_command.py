# SPDX-License-Identifier: BSD-2-Clause
"""``diptych evaluate``: its result, which text it scores, and what it refuses.

Mutations that were tried by hand, each seen to fail: the divergence of the other direction; a text
cut in documents; tokens that are not counted from the second one of a window; the hash of the
file's name; bits not handed to the quantizer; ends of lines exchanged.
"""

import hashlib
import json
import math
import re

import numpy as np
import pytest

from diptych_sim.golden.evaluate import WINDOW, compare, cut
from diptych_sim.llm.load import load_model
from diptych_sim.llm.texts import calibration_text, held_out_text
from support.command import command
from support.tiny_models import write_gguf, write_tiny

TEXT = "the thin cat sat there\n\nthen they went to the other one\n" * 4


def result(capsys, monkeypatch, *arguments):
    status, out, err = command(capsys, monkeypatch, "evaluate", *arguments, "--json", "-")
    assert status == 0, err
    return json.loads(out)


@pytest.mark.parametrize("kind", ["llama untied", "qwen2", "qwen3"])
def test_models_of_other_kinds_are_evaluated(capsys, monkeypatch, tmp_path, kind):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    model = ["--model", str(write_tiny(tmp_path / "m", kind)), "--text", str(text)]
    wide = result(capsys, monkeypatch, *model, "--tokens", "150")
    options = ["--activation-bits", "8", "--residual-bits", "20"]
    narrow = result(capsys, monkeypatch, *model, "--tokens", "150", *options)
    for found, bits in ((narrow, (8, 20)), (wide, (12, 24))):
        assert found["tokens"] == 150
        assert (found["activation_bits"], found["residual_bits"]) == bits
        assert found["text_sha256"] == hashlib.sha256(TEXT.encode()).hexdigest()
        assert len(found["layer_errors"]) == 2
        assert all(0 < error < 0.2 for error in found["layer_errors"])
        assert found["norms_by_own_row"] in ([5] if bits[0] == 8 else [1, 2])
        assert found["norm_rows"] == 150 * (2 * 2 + 1)
        assert found["norm_rows_saturated"] <= 0.01 * found["norm_rows"]
        assert found["hidden_rows"] == (0 if bits[0] == 8 else 150 * 2)
        assert found["hidden_rows_wide"] <= 0.3 * found["hidden_rows"]
        assert 0 < found["kl_error"] < found["kl"]
        ratio = found["golden_perplexity"] / found["float_perplexity"]
        assert ratio == pytest.approx(1 + found["degradation"])
    assert wide["float_perplexity"] == narrow["float_perplexity"]
    assert wide["kl"] < narrow["kl"]
    assert sum(wide["layer_errors"]) < sum(narrow["layer_errors"])


def test_a_text_is_hashed_and_read_as_it_is(capsys, monkeypatch, tmp_path):
    data = b"\xef\xbb\xbfthe thin\r\ncat sat\rthere\n"
    (tmp_path / "text.txt").write_bytes(data)
    model = str(write_tiny(tmp_path / "m", "llama"))
    found = result(capsys, monkeypatch, "--model", model, "--text", str(tmp_path / "text.txt"))
    assert found["text_sha256"] == hashlib.sha256(data).hexdigest()
    tokens = load_model(model).tokenizer.encode(data.decode(), bos=False)
    assert found["tokens"] == len(tokens)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", "0"], r"Number of tokens \(--tokens\) must be at least 1, not 0"),
        (["--tokens", "999999"], r"Text must have at least 999999 tokens to predict, not \d+"),
        (["--text", "/nowhere"], r"Text \(--text\) /nowhere must be a file, not missing"),
        (["--text", ""], r"Text \(--text\) \. must be a file, not a folder"),
        (["--text", "{empty}"], r"Text \(--text\) must be from 1 to 67108864 bytes, not 0"),
        (["--text", "{latin}"], r"Text \(--text\) must be UTF-8, not byte 3 of .*"),
        (["--calibration", "/"], r"Text \(--calibration\) / must be a file, not a folder"),
        (["--activation-bits", "9"], r".*'9' is not one of '8', '12'\."),
        (["--residual-bits", "27"], r".*27 is not in the range 16<=x<=26\."),
    ],
)
def test_what_cannot_be_evaluated_is_refused(capsys, monkeypatch, tmp_path, arguments, message):
    for name, data in (("empty", b""), ("latin", b"caf\xe9")):
        (tmp_path / name).write_bytes(data)
    paths = {name: tmp_path / name for name in ("empty", "latin")}
    model = ["--model", str(write_gguf(tmp_path / "m.gguf", "llama"))]
    words = [argument.format(**paths) for argument in arguments]
    status, out, err = command(capsys, monkeypatch, "evaluate", *model, *words)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {message}\n", err), err


def test_divergence_is_that_of_the_other_from_the_reference():
    tokenizer = load_model("builtin").tokenizer
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.125, 0.125, 0.75])
    rows = [[0, 1, 2, 2]]
    found = compare(
        lambda tokens: np.log([p, p, p]) + 3,
        lambda tokens: np.log([q, p, p]) - 7,
        rows,
        tokenizer,
    )
    exact = float((p * np.log(p / q)).sum())
    assert found.divergences.tolist() == pytest.approx([exact, 0, 0])
    assert found.divergence == pytest.approx(exact / 3)
    assert found.divergence_error == pytest.approx(exact * math.sqrt(2) / 3 / math.sqrt(3))
    assert found.agreement == pytest.approx(2 / 3)


def test_windows_are_cut_to_the_tokens_that_are_predicted():
    rows = [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert cut(rows, 3) == [[1, 2, 3], [4, 5]]
    assert cut(rows, 4) == rows[:2]
    assert sum(len(row) - 1 for row in cut(rows, 99)) == 5
    assert load_model("builtin").model.config.context == WINDOW


def test_calibration_and_evaluation_do_not_share_a_text():
    loaded = load_model("builtin")
    held, used = held_out_text(loaded), calibration_text(loaded)
    assert used is not None
    parts = {line for line in used.splitlines() if len(line) > 40}
    assert not parts & set(held.splitlines())
