# SPDX-License-Identifier: BSD-2-Clause
"""Errors of model files."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ModelFileError", "file_size", "file_start"]


class ModelFileError(ValueError):
    """A model file cannot be used; the message is one line that names it and says why."""


def file_size(path: Path, words: str) -> int:
    """Return the bytes of a file; ``words`` say what it is.

    Raises
    ------
    ModelFileError
        If it is no file, or cannot be read.
    """
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "a device" if path.exists() else "missing"
            raise ModelFileError(f"{words} {path} must be a file, not {what}")
        with path.open("rb"):  # may be forbidden, which the size does not tell
            return path.stat().st_size
    except OSError as error:
        raise ModelFileError(f"{words} {path} must be readable, not: {error.strerror}") from error


def file_start(path: Path) -> bytes:
    """Return the first four bytes of a model file, which tell its format.

    Raises
    ------
    ModelFileError
        If it is no file, or cannot be read.
    """
    file_size(path, "Model file")
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise ModelFileError(
            f"Model file {path} must be readable, not: {error.strerror}"
        ) from error
