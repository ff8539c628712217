# SPDX-License-Identifier: BSD-2-Clause
"""Reads JSON files that somebody else wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych_sim.llm.errors import ModelFileError, file_size

__all__ = ["read_json", "read_text", "unique_keys"]

_LARGEST = 2**22
"""Bytes of a file of settings at most: what JSON becomes takes thirty times as much."""


def read_text(path: Path, words: str, largest: int = _LARGEST) -> bytes:
    """Return the content of a file of at most ``largest`` bytes; ``words`` say what it is.

    Raises
    ------
    ModelFileError
        If it cannot be read, or is too large.
    """
    size = file_size(path, words)
    if size > largest:
        raise ModelFileError(f"{words} {path} must be at most {largest} bytes, not {size}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{words} {path} must be readable, not: {error.strerror}") from error


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, for ``object_pairs_hook``.

    Raises
    ------
    ValueError
        If it has a key twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {key!r:.60} is there twice")
            seen.add(key)
    return found


def read_json(path: Path, words: str) -> Mapping[str, Any]:
    """Return the object of a JSON file; ``words`` say what it is.

    Raises
    ------
    ModelFileError
        If it is none.
    """
    try:
        settings = json.loads(read_text(path, words), object_pairs_hook=unique_keys)
    except ModelFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{words} {path} must be JSON: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(settings, dict):
        raise ModelFileError(f"{words} {path} must be an object, not {settings!r:.40}")
    return settings
