# SPDX-License-Identifier: BSD-2-Clause
"""The engine that a command takes: what is asked for, or lanes, or Verilator where it records."""

import click
import pytest
from click.testing import CliRunner

from diptych_sim.command.options import ENGINE


@click.command()
@ENGINE
@click.option("--waves", default=None)
def run(engine, waves):
    click.echo(f"{engine} {waves}")


@pytest.mark.parametrize(
    ("words", "engine"),
    [
        ("", "lanes"),
        ("--waves x.fst", "verilator"),
        ("--engine lanes --waves x.fst", "lanes"),
        ("--waves x.fst --engine lanes", "lanes"),
        ("--engine verilator", "verilator"),
    ],
)
def test_the_engine_follows_from_the_options(words, engine):
    shown = CliRunner().invoke(run, words.split())
    assert shown.exit_code == 0
    assert shown.output.split()[0] == engine
