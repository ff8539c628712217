# SPDX-License-Identifier: BSD-2-Clause
"""Markdown pages of the instruction sets and packet formats, from the layouts in ``rtl/``."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any, cast

from amaranth.hdl import Shape
from amaranth.lib import data

from diptych.link import frames
from diptych.mesh import fabric
from diptych.mesh import isa as tile_isa
from diptych.systolic import isa as panel_isa

__all__ = ["PAGES", "Page", "drawing", "page_text"]

_BIT, _ROW = 26, 60  # pixels of a bit and of a word
_WORD = 32


@dataclass(frozen=True)
class Page:
    """A page: a title, the module that it describes, and its parts in order.

    ``parts`` are names of layouts and enumerations of the module. Each of ``drawings`` is a part
    before which a word is drawn that replaces fields by others: (part, title, replacements).
    """

    title: str
    module: ModuleType
    parts: tuple[str, ...]
    drawings: tuple[tuple[str, str, Mapping[str, Any]], ...] = ()


PAGES = {
    "tile": Page(
        "ISA: tile instructions",
        tile_isa,
        ("Instruction", "Tail", "Op", "Function", "Type"),
        (
            ("Instruction", "A vector instruction", {"tail": tile_isa.Tail()}),
            (
                "Instruction",
                "A scalar instruction",
                {"count": data.StructLayout({"color": 5, "unused": 11}), "tail": "imm"},
            ),
        ),
    ),
    "prefill": Page(
        "ISA: commands of the prefill panel",
        panel_isa,
        (
            *("Program", "Packed", "Head", "Queue"),
            *("LOAD", "Target", "MATRIX", "Modes", "Causal", "Start"),
            *("VECTOR", "Flags", "VectorOp", "STORE", "StoreOp", "Handoff", "HandoffKind"),
        ),
    ),
    "fabric": Page(
        "ISA: wavelets, routes and load packets",
        fabric,
        ("Wavelet", "Route", "Port", "Combine", "Load"),
    ),
    "link": Page("ISA: frames of the KV link", frames, ("FrameHead", "LinkWord", "Answer")),
}


def page_text(page: Page) -> str:
    """Return a page as Markdown with inline SVG."""
    about = _markdown(inspect.getdoc(page.module) or "")
    title, _, rest = about.partition("\n")
    lines = [f"# {page.title}", "", title.strip(), rest, ""]
    lines += [f"Generated from `{page.module.__name__}`.", "", *_constants(page.module)]
    for name in page.parts:
        part = getattr(page.module, name)
        lines += ["", f"## {name}", "", _about(page.module, name, part), ""]
        if inspect.isclass(part) and not issubclass(part, data.Layout):
            lines += _members(page.module, part)
            continue
        layout = cast("data.StructLayout", part() if inspect.isclass(part) else part)
        for where, words, replaced in page.drawings:
            if where == name:
                lines += [f"{words}:", "", drawing(_replace(layout, replaced)), ""]
        if not any(where == name for where, _, _ in page.drawings):
            lines += [drawing(layout), ""]
        lines += _fields(layout, _attributes(page.module, name))
    return "\n".join(lines) + "\n"


def _constants(module: ModuleType) -> list[str]:
    shown = [
        (name, value)
        for name, value in vars(module).items()
        if name.isupper() and type(value) is int
    ]
    notes = _docstrings(module, None)
    lines = ["| Constant | Value | Meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {value} | {_cell(notes.get(name, ''))} |" for name, value in shown]
    return lines


def _about(module: ModuleType, name: str, part: Any) -> str:
    text = inspect.getdoc(part) if inspect.isclass(part) else _docstrings(module, None).get(name)
    return _markdown(re.split(r"\nMembers\n-+\n", inspect.cleandoc(text or ""))[0])


def _members(module: ModuleType, kind: Any) -> list[str]:
    notes = _docstrings(module, kind.__name__)
    width = Shape.cast(kind).width
    lines = ["| Code | Binary | Name | Meaning |", "|---|---|---|---|"]
    lines += [
        f"| {member.value} | `{member.value:0{width}b}` | `{member.name}` | "
        f"{_cell(notes.get(member.name, ''))} |"
        for member in kind
    ]
    return lines


def _attributes(module: ModuleType, name: str) -> dict[str, str]:
    """Return the entries of a layout's section Members."""
    text = inspect.getdoc(getattr(module, name)) or ""
    section = re.search(r"^Members\n-+\n(.*)", text, re.MULTILINE | re.DOTALL)
    pairs = re.findall(
        r"^(\w+) : [^\n]*\n((?: +[^\n]*\n?)+)", section[1] if section else "", re.MULTILINE
    )
    return {name: " ".join(body.split()) for name, body in pairs}


def _fields(layout: data.StructLayout, notes: Mapping[str, str]) -> list[str]:
    lines = ["| Bits | Field | Width or type |", "|---|---|---|"]
    if notes:
        lines = ["| Bits | Field | Width or type | Meaning |", "|---|---|---|---|"]
    for name, field in layout:
        first, last = field.offset, field.offset + field.width - 1
        bits = f"{last}:{first}" if field.width > 1 else f"{first}"
        shape: Any = field.shape
        kind = type(shape).__name__ if isinstance(shape, data.Layout) else None
        kind = shape.__name__ if inspect.isclass(shape) else kind
        line = f"| {bits} | `{name}` | {f'`{kind}`' if kind else field.width} |"
        lines.append(f"{line} {_cell(notes.get(str(name), ''))} |" if notes else line)
    return lines


def _replace(layout: data.StructLayout, replaced: Mapping[str, Any]) -> data.StructLayout:
    fields: dict[str, Any] = {}
    for name, field in layout:
        new = replaced.get(str(name))
        if isinstance(new, data.StructLayout):
            fields |= {str(inner): part.shape for inner, part in new}
        else:
            fields[new or str(name)] = field.shape
    return data.StructLayout(fields)


# --- drawings ---------------------------------------------------------------------------------
def drawing(layout: data.StructLayout) -> str:
    """Return the fields of a layout as SVG, a row for each 32-bit word, bit 31 at the left."""
    words = -(-layout.size // _WORD)
    left = 70 if words > 1 else 4
    width, height = left + _WORD * _BIT + 4, words * (_ROW + 22) + 6
    parts = [f'<svg class="bits" viewBox="0 0 {width} {height}" width="{width}" role="img">']
    for word in range(words):
        if words > 1:
            y = word * (_ROW + 22) + 16 + _ROW // 2 + 4
            parts.append(f'<text x="0" y="{y}">word {word}</text>')
    for name, field in layout:
        for word in range(words):
            low = max(field.offset, word * _WORD)
            high = min(field.offset + field.width, (word + 1) * _WORD)
            if low < high:
                parts += _box(str(name), low % _WORD, high - low, left, word * (_ROW + 22) + 16)
    return "\n".join([*parts, "</svg>"])


def _box(name: str, low: int, bits: int, left: int, y: int) -> Iterable[str]:
    high = low + bits - 1
    x, wide = left + (_WORD - 1 - high) * _BIT, bits * _BIT
    yield f'<rect x="{x}" y="{y}" width="{wide}" height="{_ROW}"/>'
    ends = [(high, x + 2, "start"), (low, x + wide - 2, "end")]
    if bits == 1:
        ends = [(low, x + wide // 2, "middle")]
    for bit, at, anchor in ends:
        yield f'<text class="bit" x="{at}" y="{y - 4}" text-anchor="{anchor}">{bit}</text>'
    middle, center = x + wide / 2, y + _ROW / 2
    size, turn = 12, ""
    if len(name) * 7 > wide:
        turn = f' transform="rotate(-90 {middle:g} {center:g})"'
        size = min(12, int(1.7 * _ROW / len(name)))
    yield (
        f'<text x="{middle:g}" y="{center + 4:g}" text-anchor="middle" '
        f'style="font-size: {size}px"{turn}>{name}</text>'
    )


# --- docstrings -------------------------------------------------------------------------------
@cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


def _docstrings(module: ModuleType, scope: str | None) -> dict[str, str]:
    """Return the string behind each assignment of a class, or of the module."""
    body = _tree(module).body
    if scope is not None:
        body = next(n for n in body if isinstance(n, ast.ClassDef) and n.name == scope).body
    return {
        before.targets[0].id: str(node.value.value)
        for before, node in pairwise(body)
        if isinstance(before, ast.Assign)
        and isinstance(before.targets[0], ast.Name)
        and isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
    }


def _markdown(text: str) -> str:
    text = re.sub(r":(?:py:)?[a-z]+:`[~.]*([^`]*)`", r"`\1`", text)
    return text.replace("``", "`")


def _cell(text: str) -> str:
    return _markdown(" ".join(text.split())).replace("|", "\\|")
