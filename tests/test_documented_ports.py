# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: BSD-2-Clause
"""Every port of every component is in the Members section of its class, by name."""

import importlib
import inspect
import pkgutil
import re

import pytest
from amaranth.lib import data, wiring

import diptych
from diptych.systolic.vector_control import VectorSizes

SIZES = VectorSizes()
LINE, SUMS = data.ArrayLayout(8, 16), data.ArrayLayout(32, 16)
ARGUMENTS = {
    "BankedMemory": {"width": 8, "depth": 16},
    "ColorBuffers": {"colors": 2},
    "CommandQueues": {},
    "Credits": {"colors": 2},
    "DecodePanel": {"rows": 2, "columns": 2},
    "Delay": {"shape": 8, "latency": 2},
    "Dot8": {},
    "EntryMemory": {"shape": LINE, "depth": 4},
    "Hbm": {"size": 4096},
    "HostPort": {"colors": 2},
    "KvLink": {"rows": 2},
    "LoadEngine": {"sizes": SIZES, "shapes": (LINE, LINE, SUMS)},
    "Mesh": {"rows": 2, "columns": 2},
    "OperandFetch": {"shape": 8, "depth": 4},
    "PieceReader": {"line": 16, "size": 64, "unit": 4, "piece": 4, "tag": 1},
    "PieceWriter": {"line": 16, "size": 1024},
    "PrefillPanel": {"rows": 4, "columns": 4},
    "PrefillWithHbm": {"rows": 4, "columns": 4},
    "PrefillWithPins": {"rows": 4, "columns": 4},
    "ProcessingRow": {"columns": 4},
    "Receiver": {"colors": 2},
    "Reducer": {"lanes": 4},
    "RowStatistics": {"depth": 4},
    "RowStreamer": {"rows": 4, "size": 64, "accumulators": 4},
    "StoreEngine": {"sizes": SIZES, "line_shape": LINE, "sums_shape": SUMS},
    "StreamBuffer": {"shape": 8},
    "System": {"array_rows": 4, "array_columns": 4, "mesh_rows": 2, "mesh_columns": 2},
    "TaskScheduler": {"colors": 2},
    "TileSequencer": {"rows": 4, "columns": 4, "size": 64, "accumulators": 4},
    "VectorSequencer": {"sizes": SIZES},
    "WriteEngine": {"sizes": SIZES, "line_shape": LINE, "sums_shape": SUMS},
}
"""What a component must be told; others need nothing."""
EXCEPT = {"Precompiled"}
"""Its ports are those of its prototype."""


def components():
    for module in pkgutil.walk_packages(diptych.__path__, "diptych."):
        for name, found in vars(importlib.import_module(module.name)).items():
            is_component = inspect.isclass(found) and issubclass(found, wiring.Component)
            if is_component and found.__module__ == module.name and not name.startswith("_"):
                yield name, found


@pytest.mark.parametrize(
    ("name", "component"), [pytest.param(n, c, id=n) for n, c in components() if n not in EXCEPT]
)
def test_ports_are_documented(name, component):
    text = inspect.getdoc(component) or ""
    assert "\nMembers\n-------\n" in text
    section = re.split(r"\n(?:Attributes|Raises)\n", text.split("\nMembers\n-------\n")[1])[0]
    documented = []
    for line in re.findall(r"^\S.*$", section, re.MULTILINE):
        names, _, shapes = line.partition(" : ")
        assert re.match(r":py:`(In|Out)\(.+\)", shapes), (
            f"{line!r} must have a direction and a shape"
        )
        documented += names.split(", ")
    ports = component(**ARGUMENTS.get(name, {})).signature.members
    patterns = [port.replace("<n>", r"\d+").replace("<name>", r"\w+") for port in documented]
    assert [port for port in ports if not any(re.fullmatch(p, port) for p in patterns)] == []
    assert [p for p in patterns if not any(re.fullmatch(p, port) for port in ports)] == []
