# SPDX-License-Identifier: BSD-2-Clause
"""ISA pages have every code and field of the hardware; tables of ports have every port.

Seen to fail: a page without an enumeration, a layout without its last field, a table without the
ports of arrays, a port without a meaning.
"""

import importlib
import inspect
import pkgutil
import re
from typing import Any

import pytest
from amaranth.hdl import Shape
from amaranth.lib import data, enum
from isa_pages import PAGES, page_text
from port_tables import example, is_component, meaning_of, port_table

import diptych

COMPONENTS = [
    value
    for info in pkgutil.walk_packages(diptych.__path__, "diptych.")
    for name, value in vars(importlib.import_module(info.name)).items()
    if is_component(value) and value.__module__ == info.name and not name.startswith("_")
]


def _section(text, name):
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_isa_page_has_every_code_and_field(page):
    text = page_text(page)
    for name, value in vars(page.module).items():
        if inspect.isclass(value):
            if value.__module__ != page.module.__name__ or not issubclass(
                value, (data.StructLayout, enum.Enum)
            ):
                continue
            make: Any = value
            kind = make() if issubclass(value, data.StructLayout) else value
        elif isinstance(value, data.StructLayout):
            kind = value
        else:
            continue
        section = _section(text, name)
        if isinstance(kind, data.StructLayout):
            for field_name, field in kind:
                last = field.offset + field.width - 1
                bits = f"{last}:{field.offset}" if field.width > 1 else f"{last}"
                assert f"| {bits} | `{field_name}` |" in section
                # SCALAR instructions are drawn with their own names, too.
                assert f">{field_name}</text>" in section or field_name == "tail"
        else:
            for member in kind:
                binary = f"{member.value:0{Shape.cast(kind).width}b}"
                assert f"| {member.value} | `{binary}` | `{member.name}` |" in section


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: c.__name__)
def test_table_has_every_port(component):
    instance, _ = example(component)
    rows = [line for line in port_table(component) if line.startswith("   * - ``")]
    shown = {re.sub(r"\[\d+\]", "", line.split("``")[1]) for line in rows}
    want = {
        ".".join(str(part) for part in path if not isinstance(part, int))
        for path, _, _ in instance.signature.flatten(instance)
    }
    assert shown == want
    assert [port for port in sorted(shown) if not meaning_of(component, port)] == []
