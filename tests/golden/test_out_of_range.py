# SPDX-License-Identifier: BSD-2-Clause
"""Models that integers cannot hold: what is zero runs, the rest is a line with file and weight.

Mutations that were tried by hand, each seen to fail: no check of activations; scales below the
smallest refused; a loss beyond exp's range not caught.
"""

import re

import numpy as np
import pytest

from diptych_sim.golden.calibrate import quantize_loaded
from diptych_sim.golden.float_reference import FloatReference
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.llm.errors import ModelFileError
from diptych_sim.llm.load import load_model
from support.command import command
from support.hf_folder import HIDDEN, write_folder

PANEL = ("--mesh", "1x1", "--sram-bytes", "65536")
COMMANDS = [["evaluate", "--windows", "1"], ["program", *PANEL], ["generate", *PANEL]]


@pytest.mark.parametrize("value", [0.0, 1e-30])
@pytest.mark.parametrize("part", ["norm", "proj", "q_proj", "v_proj", "layers", "mlp", "embed"])
@pytest.mark.parametrize("precision", [{}, {"activation_bits": 12, "residual_bits": 26}])
def test_what_is_next_to_nothing_runs(tmp_path, part, value, precision):
    loaded = load_model(write_folder(tmp_path, weights={part: value}))
    quantized = quantize_loaded(loaded, **precision)
    tokens = [0, 70, 71, 80, 90, 70]
    found = GoldenModel(quantized).real_logits(tokens)
    expected = FloatReference(loaded.model).logits(tokens)
    assert np.abs(found - expected).max() <= 0.05 * np.abs(expected).max() + 1e-6


def test_rows_whose_sums_could_leave_32_bits_are_named(tmp_path, monkeypatch):
    """Rows of 32 times 127 and 2,047, in the place of those of 8,257."""
    loaded = load_model(write_folder(tmp_path, weights={"down_proj": 0.5}))
    most = HIDDEN * 127 * 2047
    monkeypatch.setattr("diptych_sim.golden.calibrate.rotate_residual", lambda model, seed: model)
    monkeypatch.setattr("diptych_sim.golden.quantize._LARGEST_SUM", most + 1)
    quantize_loaded(loaded, residual_bits=23)
    monkeypatch.setattr("diptych_sim.golden.quantize._LARGEST_SUM", most)
    message = rf"down_proj.weight must be rows whose sums stay below {most}, not up to {most}$"
    with pytest.raises(ModelFileError, match=message):
        quantize_loaded(loaded, residual_bits=22)


LAYER = r"model\.layers\.0\.[a-z_.]+\.weight"


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda each: each[0])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"proj": 1e20}, rf"{LAYER} must be small enough for .*"),
        ({"q_proj": 1e30, "k_proj": 1e30}, rf"{LAYER} must be small enough for .*"),
        ({"gate_proj": 1e30}, r"model\.layers\.0\.mlp\.gate_proj\.weight must be small enough .*"),
        ({"v_proj": np.nan}, "Values of layer 0 wv must be finite, not NaN or infinity"),
        ({"norm.weight": -np.inf}, "Values of .*norm must be finite, not NaN or infinity"),
    ],
)
def test_what_is_too_large_is_named(capsys, monkeypatch, tmp_path, arguments, weights, message):
    model = write_folder(tmp_path / "model", weights=weights)
    status, out, err = command(capsys, monkeypatch, *arguments, "--model", model)
    *steps, line = err.splitlines()
    assert (status, out) == (2, "")
    assert all(step.endswith(" ...") for step in steps)
    path = re.escape(f"{model}/model.safetensors")
    assert re.fullmatch(f"error: Model file {path}: {message}", line), line


def test_what_computes_no_number_is_named(capsys, monkeypatch, tmp_path):
    model = write_folder(tmp_path, config={"rms_norm_eps": 0.0}, weights={"embed": 0.0})
    status, out, err = command(capsys, monkeypatch, *COMMANDS[0], "--model", model)
    assert (status, out) == (2, "")
    message = (
        r"error: Model file .*: model\.[a-z_.]+ must let the model compute numbers, not NaN .*\n"
    )
    assert re.fullmatch(message, err.split("...\n")[-1]), err


def test_a_loss_beyond_any_perplexity_is_named(capsys, monkeypatch, tmp_path):
    model = write_folder(tmp_path, weights={"model.norm": 1e6})
    status, out, err = command(capsys, monkeypatch, "evaluate", "--windows", "1", "--model", model)
    assert (status, out) == (2, "")
    assert re.search(r"error: Model file .*: model\.norm\.weight must be .* 709 nats, not ", err)
