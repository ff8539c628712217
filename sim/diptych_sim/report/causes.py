# SPDX-License-Identifier: BSD-2-Clause
"""Causes of cycles in words, and in colors."""

from __future__ import annotations

__all__ = ["COLORS", "cause_color", "in_words"]

_WORDS = {
    "computing": "computing",
    "shifting_weights": "shifting weights into the array",
    "waiting_weights": "waiting for weights from the scratchpad",
    "waiting_activations": "waiting for activations",
    "waiting_hbm_read": "waiting for reads from HBM",
    "waiting_vector": "waiting for the vector unit",
    "waiting_hbm_write": "waiting for writes to HBM",
    "waiting_link": "waiting for the link",
    "draining": "draining the pipeline",
    "idle": "without a command",
    "bank_conflict": "bank conflicts in the SRAM",
    "backpressure": "backpressure of the fabric",
    "issuing": "issuing instructions",
    "waiting_receive": "waiting for wavelets of other tiles",
    "sending": "sending",
    "starting": "starting a command",
    "writing": "writing into a memory",
    "reading": "reading a memory",
    "waiting_hbm": "waiting for HBM",
    "waiting_memory": "waiting for a memory",
    "writing_hbm": "writing to HBM",
    "waiting": "waiting for delivery",
    "link_exposed": "waiting for the link alone",
}

COLORS = {
    "computing": "work",
    "shifting_weights": "load",
    "waiting_weights": "load2",
    "waiting_activations": "data",
    "waiting_hbm_read": "memory",
    "waiting_vector": "wait",
    "waiting_hbm_write": "wait2",
    "waiting_link": "block",
    "waiting_receive": "wait",
    "waiting": "wait",
    "draining": "drain",
    "issuing": "issue",
    "bank_conflict": "memory",
    "backpressure": "block",
    "link_exposed": "block",
    "sending": "work",
    "writing": "work",
    "starting": "issue",
    "waiting_hbm": "memory",
    "waiting_memory": "block",
    "reading": "load",
    "writing_hbm": "data",
    "idle": "idle",
}
"""Causes and the CSS variables, less ``--c-``, that color them."""
_REST = ("data", "load2", "wait2", "memory")


def in_words(cause: str) -> str:
    """Return a cause as part of a sentence."""
    return _WORDS.get(cause, cause.replace("_", " "))


def cause_color(cause: str) -> str:
    """Return the color of a cause as a CSS value; of one that is not known, always the same."""
    name = COLORS.get(cause) or _REST[sum(cause.encode()) % len(_REST)]
    return f"var(--c-{name})"
