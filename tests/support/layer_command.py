# SPDX-License-Identifier: BSD-2-Clause
"""Runs ``diptych layer`` as a user does."""

import json
import sys

import pytest

from diptych_sim import cli

__all__ = ["run_layer_command", "write_config"]


def write_config(path, hidden):
    """Write the config.json of a small model with so many hidden elements."""
    config = {
        "hidden_size": 96,
        "intermediate_size": hidden,
        "num_hidden_layers": 9,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
    }
    path.write_text(json.dumps(config))


def run_layer_command(words, monkeypatch, capsys):
    """Run the command; return its exit status and what it has printed."""
    monkeypatch.setattr(sys, "argv", ["diptych", "layer", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr()
