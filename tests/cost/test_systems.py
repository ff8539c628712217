# SPDX-License-Identifier: BSD-2-Clause
"""Files of systems: those of the package have a source for each figure, others are checked."""

import re

import pytest

from diptych.config import DEFAULTS
from diptych_sim.cost.projection.own_machine import machine_of
from diptych_sim.cost.systems.load import SystemFileError, find_system, load_systems
from diptych_sim.cost.systems.schema import FIELDS, REQUIRED

SYSTEMS = load_systems()
GOOD = """
name = "Mine"
kind = "accelerator"
aliases = ["my-chip"]
[fields]
bf16_tflops = { value = 100, status = "published", source = "data sheet" }
memory_gb = { value = 80, status = "published", source = "data sheet" }
memory_tbps = { value = 2, status = "derived", source = "from pins" }
watts = { status = "unknown" }
"""


def test_the_field_is_there():
    names = [
        "trn2",
        "trn3",
        "wse2",
        "wse3",
        "a100",
        "h100",
        "h200",
        "b200",
        "tpu7x",
        "mtia450",
        "mi350x",
        "mi355x",
        "broadcom",
        "diptych",
    ]
    assert set(names) <= set(SYSTEMS)
    assert SYSTEMS["broadcom"].kind == "unpublished"
    assert machine_of(SYSTEMS["diptych"]) == DEFAULTS


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=list(SYSTEMS))
def test_every_figure_has_a_source(system):
    assert not system.missing
    assert set(system.fields) <= set(FIELDS)
    for name, field in system.fields.items():
        assert (field.value is None) == (field.status == "unknown"), name
        assert field.value is None or field.source, name


def test_names_whatever_their_case():
    for name in ("WSE-3", "cs3", "wse3", "CS-3"):
        assert find_system(SYSTEMS, name).id == "wse3"
    with pytest.raises(
        SystemFileError, match=r"^System must be one of a100, .*, wse3, not 'h900'$"
    ):
        find_system(SYSTEMS, "h900")


def test_a_folder_adds_systems(tmp_path):
    (tmp_path / "mine.toml").write_text(GOOD)
    systems = load_systems(str(tmp_path))
    assert set(systems) == {*SYSTEMS, "mine"}
    assert find_system(systems, "my-chip").get("memory_tbps") == 2
    assert find_system(systems, "mine").get("watts") is None


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("value = 80", "value = -80", "memory_gb .* must be above 0 and at most 1e.09, not -80"),
        ("value = 80", "value = nan", "memory_gb .* must be above 0 .*, not nan"),
        ("value = 80", "value = 0", "memory_gb .* must be above 0 .*, not 0"),
        ("value = 80, ", "", "memory_gb must have a value, or the status unknown, not none"),
        (
            '"data sheet"',
            '""',
            "bf16_tflops must have a source where its status is published, not ''",
        ),
        ('"unknown"', '"unknown", value = 3', "watts must have no value .* unknown, not 3"),
        (
            '"unknown"',
            '"guessed"',
            "status must be one of published, derived, unknown, not 'guessed'",
        ),
        ("watts", "wats", "field must be one of bf16_tflops, .*, not 'wats'"),
        (
            '"accelerator"',
            '"gpu"',
            "kind must be one of accelerator, wafer, diptych, unpublished, not 'gpu'",
        ),
        ('name = "Mine"', "", "Object missing required field `name`"),
        ('name = "Mine"', 'name = "Mine"\nspeed = 3', "Object contains unknown field `speed`"),
        ("[fields]", "[fields", "Expected .*"),
        (
            "watts =",
            'fp8_tflops = { value = 50, status = "published", source = "x" }\nwatts =',
            "fp8_tflops must be at least bf16_tflops, 100, not 50",
        ),
        (
            'value = 2, status = "derived", source = "from pins"',
            'status = "unknown"',
            (
                "a system of kind accelerator must have values of bf16_tflops, memory_gb, memory_tbps, "
                "not none of memory_tbps"
            ),
        ),
        ('"my-chip"', '"H100"', "name 'H100' must be that of one system, not also of h100.toml"),
        (
            'kind = "accelerator"',
            'kind = "unpublished"',
            "kind must be accelerator or wafer where there are values, not 'unpublished'",
        ),
    ],
)
def test_refuses_other_files(before, after, message, tmp_path):
    assert before in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(before, after, 1))
    with pytest.raises(SystemFileError, match=f"^System file {re.escape(str(path))}: {message}$"):
        load_systems(str(tmp_path))


def test_refuses_two_of_one_name(tmp_path):
    (tmp_path / "h100.toml").write_text(GOOD)
    with pytest.raises(
        SystemFileError, match=r"name 'h100' must be that of one system, not also of h100.toml"
    ):
        load_systems(str(tmp_path))


def test_refuses_other_folders(tmp_path):
    with pytest.raises(SystemFileError, match=r"must be a folder, not missing"):
        load_systems(str(tmp_path / "none"))
    with pytest.raises(SystemFileError, match=r"must be a folder with .toml files"):
        load_systems(str(tmp_path))


def test_all_required_fields_are_fields():
    assert {name for names in REQUIRED.values() for name in names} <= set(FIELDS)
