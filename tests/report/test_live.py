# SPDX-License-Identifier: BSD-2-Clause
"""Output of a terminal during a run: layers, frames, text; and its closing tables.

Mutations tried by hand and seen to fail: layers counted from 0; the end-of-text token printed.
"""

import io
import re

import pytest
from rich.console import Console

from diptych_sim.report.live import Live


class Recorded:
    """ProgressLine, as a terminal would show one after the other."""

    def __init__(self):
        self.seen = []

    def __call__(self, step):
        self.seen.append(step)

    def stop(self):
        self.seen.append("stopped")


@pytest.fixture
def out():
    return io.StringIO()


def live(out, steps, prompts, tokens):
    terminal = Console(file=out, highlight=False)
    return Live(terminal, steps, prompts=prompts, stop_ids=[2], tokens=tokens)


def token(index, number, text, sequence=0):
    return {"kind": "token", "index": index, "sequence": sequence, "token": number, "text": text}


def test_prefill_is_shown_layer_by_layer_and_the_text_token_by_token(out):
    steps = Recorded()
    show = live(out, steps, ["Once upon"], 4)
    show({"kind": "started", "cycle": 9})
    show({"kind": "layer", "layer": 0, "layers": 2, "cycle": 50})
    show({"kind": "frame_delivered", "count": 3, "cycle": 60})
    show({"kind": "layer", "layer": 1, "layers": 2, "cycle": 90})
    show({"kind": "prefill", "cycle": 95})
    show({"kind": "frame_delivered", "count": 8, "cycle": 99})
    assert steps.seen == [
        "prefill",
        "prefill, 1 of 2 layers",
        "prefill, 1 of 2 layers, 3 frames handed over",
        "prefill, 2 of 2 layers",
        "hand-off",
        "hand-off, 8 frames handed over",
    ]
    show(token(0, 5, " a"))
    assert steps.seen[-1] == "stopped"
    assert out.getvalue() == "Once upon a"
    show({"kind": "frame_delivered", "count": 9, "cycle": 120})
    assert steps.seen[-1] == "stopped"
    show(token(1, 6, " [b]time"))
    assert out.getvalue() == "Once upon a [b]time"
    show(token(2, 2, "</s>"))
    show(token(3, 7, " more"))
    show.finish(["all"], ".")
    assert out.getvalue() == "Once upon a [b]time.\n"


@pytest.mark.parametrize("finished", [False, True])
def test_a_text_that_is_cut_off_ends_its_line(out, finished):
    with live(out, Recorded(), ["Once upon"], 4) as show:
        show(token(0, 5, " a"))
        if finished:
            show.finish(["all"], ".")
    assert out.getvalue() == ("Once upon a.\n" if finished else "Once upon a\n")


def test_several_texts_are_counted_and_printed_at_the_end(out):
    steps = Recorded()
    show = live(out, steps, ["One", "Two"], 4)
    show(token(0, 5, " x"))
    show({"kind": "prefill", "cycle": 95})
    for index in range(1, 4):
        show(token(index, 5, " x", index % 2))
        show({"kind": "frame_delivered", "count": 9, "cycle": 99})
    assert steps.seen == ["hand-off", *(f"decode, {n} of 4 tokens" for n in (2, 3, 4))]
    assert out.getvalue() == ""
    show.finish([" apple", " pears"], "")
    assert re.fullmatch("One apple\nTwo pears\n", out.getvalue())
