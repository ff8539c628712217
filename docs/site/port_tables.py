# SPDX-License-Identifier: BSD-2-Clause
"""Tables of the ports of a component, from its signature and its docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from amaranth.hdl import Elaboratable, Shape
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import Flow, Out

from diptych.precompiled import Precompiled
from diptych.systolic.vector_control import VectorSizes

__all__ = ["example", "is_component", "meaning_of", "port_table", "ports"]

_SIZES = VectorSizes()
_LINE = data.ArrayLayout(8, _SIZES.line)
_SUMS = data.ArrayLayout(32, _SIZES.lanes)
_EXAMPLES: dict[str, Any] = {
    "rows": 4,
    "columns": 4,
    "mesh_rows": 2,
    "mesh_columns": 2,
    "array_rows": 4,
    "array_columns": 4,
    "colors": 10,
    "shape": 32,
    "latency": 4,
    "sizes": _SIZES,
    "line": 16,
    "line_shape": _LINE,
    "sums_shape": _SUMS,
    "shapes": (_SUMS, _SUMS),
    "size": 4096,
    "depth": 64,
    "width": 64,
    "lanes": 8,
    "accumulators": 256,
    "unit": 1,
    "piece": 8,
    "bits": 8,
    "tag": 8,
    "words": 2,
}
"""Values of parameters without a default, by name."""


def is_component(value: object) -> bool:
    """Return whether a value is a component of the hardware whose ports are its own."""
    return (
        inspect.isclass(value)
        and issubclass(value, wiring.Component)
        and value.__module__.startswith("diptych.")
        and value is not Precompiled
    )


def example(component: type[Any]) -> tuple[Any, dict[str, Any]]:
    """Return an instance with default or example parameters, and the latter."""
    given = {
        name: _EXAMPLES[name]
        for name, parameter in inspect.signature(component).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    instance = component(**given)
    _mark_used(instance)
    return instance, given


def _mark_used(component: Elaboratable) -> None:
    """Keep Amaranth from warning of a component, and of those inside: it is not elaborated."""
    component._MustUse__used = True  # pyright: ignore[reportAttributeAccessIssue] - private
    for inner in vars(component).values():
        if isinstance(inner, Elaboratable) and not inner._MustUse__used:  # pyright: ignore[reportAttributeAccessIssue]
            _mark_used(inner)


def ports(signature: Any, flow: Flow = Out) -> Iterator[tuple[str, str, str]]:
    """Yield name, direction and shape of every port of a signature; dimensions follow a name in brackets."""
    for name, member in signature.members.items():
        suffix = "".join(f"[{size}]" for size in member.dimensions)
        outward = member.flow if flow is Out else member.flow.flip()
        if member.is_port:
            yield f"{name}{suffix}", "out" if outward is Out else "in", _shape(member.shape)
        else:
            for inner, way, shape in ports(member.signature, outward):
                yield f"{name}{suffix}.{inner}", way, shape


def _shape(shape: Any) -> str:
    width = Shape.cast(shape).width
    bits = f"{width} bit" if width == 1 else f"{width} bits"
    if isinstance(shape, data.ArrayLayout):
        return f"{shape.length} x {_shape(shape.elem_shape)}"
    if isinstance(shape, data.StructLayout) and type(shape) is not data.StructLayout:
        return f"{type(shape).__name__}, {bits}"
    if isinstance(shape, data.StructLayout):
        return f"struct {{{', '.join(str(name) for name, _ in shape)}}}, {bits}"
    if isinstance(shape, enum.EnumType):
        return f"{shape.__name__}, {bits}"
    return f"signed {bits}" if Shape.cast(shape).signed else bits


@cache
def _meanings(component: type[Any]) -> dict[str, str]:
    """Return the entries of a docstring's section Members: meaning by name; ``x, ...`` by prefix."""
    text = inspect.getdoc(component) or ""
    section = re.search(
        r"^Members\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", text, re.MULTILINE | re.DOTALL
    )
    found: dict[str, str] = {}
    for head, body in re.findall(
        r"^(\w[^\n:]*?)(?: ?:[^\n]*)?\n((?:[ ]+[^\n]*\n?|\n)+)",
        section[1] if section else "",
        re.MULTILINE,
    ):
        meaning = " ".join(body.split())
        names = [name.strip() for name in head.split(",")]
        if "..." in names:
            prefix = names[0][: names[0].find("_") + 1]
            found[f"{prefix}*"] = meaning
        found |= {name: meaning for name in names if name != "..."}
    return found


def meaning_of(component: type[Any], port: str) -> str:
    """Return what a docstring says of a port; nothing if it leaves it out."""
    known = _meanings(component)
    name = re.split(r"[.\[]", port)[0]
    if name in known:
        return known[name]
    for key, meaning in known.items():
        pattern = re.escape(key).replace("<n>", r"\d+").replace("<name>", r"\w+")
        if re.fullmatch(pattern.replace(r"\*", r"\w*"), name):
            return meaning
    return ""


def port_table(component: type[Any]) -> list[str]:
    """Return the lines of a reStructuredText table of all ports."""
    instance, given = example(component)
    lines = ["", ".. rubric:: Ports", ""]
    if plain := {name: value for name, value in given.items() if isinstance(value, int)}:
        shown = ", ".join(f"{name}={value}" for name, value in plain.items())
        lines += [f"Shapes for ``{shown}``, other parameters by default.", ""]
    lines += [
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 26 8 24 42",
        "   :class: ports",
        "",
        "   * - Port",
        "     - Flow",
        "     - Shape",
        "     - Meaning",
    ]
    before = ""
    for port, way, shape in ports(instance.signature):
        meaning = meaning_of(component, port)
        lines += [
            f"   * - ``{port}``",
            f"     - {way}",
            f"     - {shape}",
            # Ports of one stream or link share a meaning; it stands beside the first of them.
            f"     - {'' if meaning == before else meaning}",
        ]
        before = meaning
    return [*lines, ""]
