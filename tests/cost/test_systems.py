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
            "watts: status must be one of published, derived, unknown, not 'guessed'",
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
            "watts =",
            'fp4_tflops = { value = 50, status = "published", source = "x" }\nwatts =',
            "fp4_tflops must be at least bf16_tflops, 100, not 50",
        ),
        (
            "watts =",
            'tiles = { value = 50, status = "published", source = "x" }\nwatts =',
            "tiles must be of a system of kind wafer, not accelerator",
        ),
        (
            "watts =",
            'hop_cycles = { status = "unknown" }\nwatts =',
            "hop_cycles must be of a system of kind wafer or diptych, not accelerator",
        ),
        ('"my-chip"', '"--"', "names must have letters or digits, not '--'"),
        ("value = 80", "value = true", "memory_gb: Expected `float . null`, got `bool` - .*"),
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


WAFER = """
name = "Mine"
kind = "wafer"
[fields]
""" + "".join(
    f'{name} = {{ value = {value}, status = "published", source = "x" }}\n'
    for name, value in (
        ("memory_gb", 44),
        ("on_chip_mb", 44000),
        ("clock_mhz", 1000),
        ("tiles", 900000),
        ("tile_macs", 8),
        ("hop_cycles", 2),
        ("layer_tiles", 1000),
    )
)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "value = 44,",
            "value = 45,",
            "memory_gb of a wafer must be at most on_chip_mb / 1000, 44, not 45",
        ),
        ("value = 44,", "value = 43.9,", None),
        (
            "layer_tiles = { value = 1000",
            "layer_tiles = { value = 900001",
            "layer_tiles must be at most tiles, 900000, not 900001",
        ),
        (
            "memory_gb =",
            'sram_bytes = { value = 9, status = "derived", source = "x" }\nmemory_gb =',
            "sram_bytes must be of a system of kind diptych, not wafer",
        ),
    ],
)
def test_refuses_other_wafers(before, after, message, tmp_path):
    assert before in WAFER
    path = tmp_path / "mine.toml"
    path.write_text(WAFER.replace(before, after, 1))
    if message is None:
        assert load_systems(str(tmp_path))["mine"].kind == "wafer"
        return
    with pytest.raises(SystemFileError, match=f"^System file {re.escape(str(path))}: {message}$"):
        load_systems(str(tmp_path))


@pytest.mark.parametrize("name", ["My_Chip", "my chip 2", "mine.v2", "0"])
def test_files_may_be_called_as_users_do(name, tmp_path):
    (tmp_path / f"{name}.toml").write_text(GOOD)
    assert find_system(load_systems(str(tmp_path)), name.upper()).id == name


@pytest.mark.parametrize("name", ["a:8", "-a", "a" * 65])
def test_refuses_other_names_of_files(name, tmp_path):
    (tmp_path / f"{name}.toml").write_text(GOOD)
    with pytest.raises(SystemFileError, match="name of the file must be at most 64 letters"):
        load_systems(str(tmp_path))


def test_names_of_any_script_are_told_apart(tmp_path):
    for number, name in enumerate(("芯片甲", "芯片乙")):
        text = GOOD.replace('"Mine"', f'"{name}"').replace('"my-chip"', f'"chip {number}"')
        (tmp_path / f"mine{number}.toml").write_text(text, encoding="utf-8")
    systems = load_systems(str(tmp_path))
    assert find_system(systems, "芯片乙").id == "mine1"


def test_refuses_what_cannot_be_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff")
    message = f"^System file {re.escape(str(path))} must be a TOML file that can be read, not: "
    with pytest.raises(SystemFileError, match=message + "it is not text$"):
        load_systems(str(tmp_path))
    path.unlink()
    path.mkdir()
    with pytest.raises(SystemFileError, match=message + "Is a directory$"):
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
