# SPDX-License-Identifier: BSD-2-Clause
"""Results of all sequences of a run together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["joined"]


def joined(sequences: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what a result says of all sequences: numbers added, lists and texts joined."""
    return {
        "matches_golden": all(each["matches_golden"] for each in sequences),
        "prompt_tokens": sum(each["prompt_tokens"] for each in sequences),
        "tokens": [token for each in sequences for token in each["tokens"]],
        "text": "\n".join(each["text"] for each in sequences),
        "sequences": list(sequences),
    }
