# SPDX-License-Identifier: BSD-2-Clause
"""Texts that are on every machine, to calibrate and to evaluate models on."""

from __future__ import annotations

from pydoc_data import topics

from diptych_sim.llm.load import BUILTIN_FOLDER, LoadedModel

__all__ = ["LARGE", "calibration_text", "held_out_text"]

LARGE = 10_000_000
"""Weights from which on a model is taken to know more than stories."""


def calibration_text(loaded: LoadedModel) -> str | None:
    """Text like what ``loaded`` was trained on; None if it best writes such text itself.

    Of the bundled model a part of its corpus, of large models half of Python's documentation.
    Documents have an empty line between.
    """
    if loaded.is_builtin:
        return (BUILTIN_FOLDER / "calibration.txt").read_text(encoding="utf-8")
    return _documentation(0) if loaded.model.config.parameters >= LARGE else None


def held_out_text(loaded: LoadedModel) -> str:
    """Text that ``loaded`` was neither trained nor calibrated on, as documents.

    For the bundled model the held-out part of its corpus, for large models the other half of
    Python's documentation, for others stories for children.
    """
    if loaded.model.config.parameters >= LARGE:
        return _documentation(1)
    name = "heldout.txt" if loaded.is_builtin else "stories.txt"
    return (BUILTIN_FOLDER / name).read_text(encoding="utf-8")


def _documentation(half: int) -> str:
    """Return the first or the second half of the topics that Python's help() shows."""
    names = sorted(topics.topics)
    middle = len(names) // 2
    part = names[:middle] if half == 0 else names[middle:]
    # One document each: a topic has empty lines of its own.
    return "\n\n".join(topics.topics[name].replace("\n\n", "\n") for name in part)
