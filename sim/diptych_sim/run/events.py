# SPDX-License-Identifier: BSD-2-Clause
"""Collects the events of a run, and writes them into its folder while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych_sim.compiler.decode.compile import DecodeProgram

from .folder import EVENTS

__all__ = ["Events", "OnEvent", "Written"]

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Written:
    """Tokens that the machine wrote after a prompt, and their cycles."""

    prompt: list[int]
    expected: list[int]
    tokens: list[int]
    cycles: list[int]

    @property
    def matches_golden(self) -> bool:
        """Whether every token equals the golden model's."""
        return self.tokens == self.expected

    @property
    def cycles_per_token(self) -> float | None:
        """Mean cycles from a token to the next one; None if there is no next one."""
        count = len(self.cycles) - 1
        return (self.cycles[-1] - self.cycles[0]) / count if count else None


class Events(AbstractContextManager["Events"]):
    """Is called with each event of a run.

    Attributes
    ----------
    all : list of dict
        All events so far.

    Parameters
    ----------
    out : Path or None
        Folder that gets them, as :mod:`diptych_sim.run.folder` specifies.
    text_of : callable, optional
        Called for each token with its sequence and itself; what it returns is its ``text``.
    on_event : callable, optional
        Called with each event.
    """

    def __init__(
        self,
        out: Path | None,
        *,
        text_of: Callable[[int, int], str] | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self.all: list[dict[str, Any]] = []
        self._file = (out / EVENTS).open("w", encoding="utf-8") if out is not None else None
        self._text_of, self._on_event = text_of, on_event
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event."""
        if event["kind"] == "token" and self._text_of is not None:
            event["text"] = self._text_of(event["sequence"], event["token"])
        event["wall"] = round(time.perf_counter() - self._began, 6)
        self.all.append(event)
        if self._file is not None:
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()
        if self._on_event is not None:
            self._on_event(event)

    def start(
        self,
        decode: DecodeProgram,
        prompts: Sequence[Sequence[int]],
        about: Mapping[str, Any] | None,
        *,
        array: tuple[int, int] | None,
        mesh: tuple[int, int],
        plan: dict[str, Any] | None,
    ) -> None:
        """Take the event ``run``, the first of all."""
        self(
            {
                "kind": "run",
                **(about or {}),
                "prompt_ids": [list(prompt) for prompt in prompts],
                "tokens": sum(decode.tokens),
                "array": array,
                "mesh": mesh,
                "layers": decode.model.config.layers,
                "plan": plan,
            }
        )

    def written(
        self, prompts: Sequence[Sequence[int]], expected: Sequence[list[int]]
    ) -> list[Written]:
        """Return what was written after each prompt."""
        came = [event for event in self.all if event["kind"] == "token"]
        of = [[event for event in came if event["sequence"] == n] for n in range(len(prompts))]
        return [
            Written(
                prompt=list(prompt),
                expected=wanted,
                tokens=[event["token"] for event in own],
                cycles=[event["cycle"] for event in own],
            )
            for prompt, wanted, own in zip(prompts, expected, of, strict=True)
        ]
