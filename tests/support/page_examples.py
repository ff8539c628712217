# SPDX-License-Identifier: BSD-2-Clause
"""Finds the examples of the documentation, and runs them.

``python tests/docs/examples.py FILE...`` writes what the examples of pages print into the pages.
"""

import contextlib
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Example", "commands", "examples", "pages", "run"]

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A piece of Python, and what the page says that it prints."""

    code: str
    line: int
    printed: str | None
    span: tuple[int, int] | None  # of ``printed`` in the page


def pages():
    """Return README.md, CONTRIBUTING.md and all pages of docs/."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples(text):
    """Return the Python examples of a page."""
    blocks = list(_BLOCK.finditer(text))
    found = []
    for number, block in enumerate(blocks):
        after = blocks[number + 1] if number + 1 < len(blocks) else None
        if block[1] == "python":
            if after is not None and not (after[1] == "text" and _next(text, block, after)):
                after = None
            found.append(
                Example(
                    code=block[2],
                    line=text.count("\n", 0, block.start(2)) + 1,
                    printed=after[2] if after is not None else None,
                    span=after.span(2) if after is not None else None,
                )
            )
    return found


def _next(text, block, after):
    return not text[block.end() : after.start()].strip()


def commands(text):
    """Return the shell commands of a page, without their prompt."""
    lines = [
        line
        for block in _BLOCK.finditer(text)
        if block[1] == "console"
        for line in block[2].splitlines()
    ]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def run(example, path, names):
    """Return what an example prints; ``names`` are kept from one of a page to the next."""
    out = io.StringIO()
    code = compile("\n" * (example.line - 1) + example.code, str(path), "exec")
    with contextlib.redirect_stdout(out):
        exec(code, names)  # noqa: S102 - what an example is for
    return out.getvalue()


def _update(path):
    text = path.read_text(encoding="utf-8")
    names = {}
    pieces, at = [], 0
    for example in examples(text):
        printed = run(example, path, names)
        if example.span is not None:
            pieces += [text[at : example.span[0]], printed]
            at = example.span[1]
    path.write_text("".join([*pieces, text[at:]]), encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        _update(Path(name))
