# SPDX-License-Identifier: BSD-2-Clause
"""Every port of every component is in the Members section of its class, by name."""

import importlib
import inspect
import pkgutil
import re

import pytest
from port_tables import example, is_component

import diptych

COMPONENTS = [
    found
    for module in pkgutil.walk_packages(diptych.__path__, "diptych.")
    for name, found in vars(importlib.import_module(module.name)).items()
    if is_component(found) and found.__module__ == module.name and not name.startswith("_")
]


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: component.__name__)
def test_ports_are_documented(component):
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
    ports = example(component)[0].signature.members
    patterns = [port.replace("<n>", r"\d+").replace("<name>", r"\w+") for port in documented]
    assert [port for port in ports if not any(re.fullmatch(p, port) for p in patterns)] == []
    assert [p for p in patterns if not any(re.fullmatch(p, port) for port in ports)] == []
