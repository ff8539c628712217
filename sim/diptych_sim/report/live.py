# SPDX-License-Identifier: BSD-2-Clause
"""Shows a run while it runs: how far prefill and hand-off are, then the text, token by token."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console

from diptych_sim.report.progress import ProgressLine

__all__ = ["Live"]


class Live(AbstractContextManager["Live"]):
    """Is called with each event of a run, and prints what a reader wants to know of it.

    The text of one prompt is printed as it comes; several prompts are counted, as their texts would
    mix: they are printed at the end. A text that is cut off ends its line.

    Parameters
    ----------
    terminal : Console
        Gets the text.
    steps : ProgressLine
        Tells how far the run is, until the text begins.
    prompts : sequence of str
        Texts of the prompts.
    stop_ids : collection of int
        Tokens that end a text.
    tokens : int
        How many are to be written in all.
    """

    def __init__(
        self,
        terminal: Console,
        steps: ProgressLine,
        *,
        prompts: Sequence[str],
        stop_ids: Collection[int],
        tokens: int,
    ) -> None:
        self._terminal, self._steps = terminal, steps
        self._prompts, self._stop_ids, self._tokens = prompts, stop_ids, tokens
        self._stopped = False
        self._layers = ""
        self._prefilling = True
        self._writing = False
        self._line_open = False

    def __exit__(self, *_: object) -> None:
        if self._line_open:
            self._print("", end="\n")

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event."""
        kind = event["kind"]
        if kind == "token":
            self._token(event)
        elif self._writing:
            pass  # a first token may be out before the last frame is
        elif kind == "started":
            self._steps("prefill")
        elif kind == "layer":
            self._layers = f", {event['layer'] + 1} of {event['layers']} layers"
            self._steps(f"prefill{self._layers}")
        elif kind == "prefill":
            self._prefilling = False
            self._steps("hand-off")
        elif kind == "frame_delivered":
            phase = f"prefill{self._layers}" if self._prefilling else "hand-off"
            self._steps(f"{phase}, {event['count']} frames handed over")

    def _token(self, event: dict[str, Any]) -> None:
        if event["index"] < len(self._prompts) - 1:
            return
        self._writing = True
        if len(self._prompts) > 1:
            self._steps(f"decode, {event['index'] + 1} of {self._tokens} tokens")
            return
        if event["index"] == 0:
            self._steps.stop()
            self._print(self._prompts[0], style="dim")
        self._stopped = self._stopped or event["token"] in self._stop_ids
        if not self._stopped:
            self._print(event["text"])

    def finish(self, texts: Sequence[str], rest: str) -> None:
        """End the text of one prompt with the ``rest``, or print those of several."""
        self._steps.stop()
        if len(self._prompts) == 1:
            self._print(rest, end="\n")
            return
        for prompt, text in zip(self._prompts, texts, strict=True):
            self._print(prompt, style="dim")
            self._print(text, end="\n")

    def _print(self, text: str, end: str = "", style: str | None = None) -> None:
        self._line_open = not end
        self._terminal.print(text, end=end, style=style, markup=False, soft_wrap=True)
