# SPDX-License-Identifier: BSD-2-Clause
"""The tokenizers library in a process of its own.

A ``tokenizer.json`` has patterns and replacements that somebody else wrote: they may take forever, or
all memory, and the library may panic. In a process with bounds that is an error like others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Encoded", "TokenizerProcess"]

_SECONDS = 2
"""Of the processor, that a step may take; and 1 more for each so many characters, of a file or a text."""
_LONG_FILE, _LONG_TEXT = 2**23, 2**18
_BYTES = 3 * 2**28
_PROGRAM = Path(__file__).with_name("tokenizer_child.py")


class Encoded(NamedTuple):
    """Tokens of a text, where each is in it, and which are marks that were added."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    added: list[bool]


class TokenizerProcess:
    """A ``tokenizer.json`` that runs with bounds of time and memory.

    Attributes
    ----------
    numbers : mapping of str to int
        All tokens.
    marks : mapping of int to (str, bool)
        Those that were added to the vocabulary: their texts, and whether they are special.

    Raises
    ------
    ValueError
        If the library does not take the file, or takes too long; by any method.
    """

    numbers: Mapping[str, int]
    marks: Mapping[int, tuple[str, bool]]

    def __init__(self, source: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM), str(_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"},
        )
        weakref.finalize(self, _end, self._process)
        self.load(source)

    def load(self, source: str) -> None:
        """Take another tokenizer."""
        numbers, added = self._ask(len(source) // _LONG_FILE, source)
        self.numbers = numbers
        self.marks = {number: (text, special) for number, text, special in added}

    def encode(self, text: str, *, marks: bool = False, added: bool = False) -> Encoded:
        """Return the tokens of a text; ``marks`` in it are such, ``added`` are those around it."""
        return Encoded(*self._ask(len(text) // _LONG_TEXT, text, marks, added))

    def _ask(self, more: int, *request: Any) -> Any:
        seconds = _SECONDS + more
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([seconds, *request]).encode() + b"\n")
            self._process.stdin.flush()
            kind, answer = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):  # it was ended
            raise ValueError(f"it took more than {seconds} s or {_BYTES >> 20} MB") from None
        if kind == "error":
            raise ValueError(" ".join(answer.split()))
        return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()
