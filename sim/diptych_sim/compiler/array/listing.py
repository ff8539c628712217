# SPDX-License-Identifier: BSD-2-Clause
"""Programs of the prefill panel as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from diptych.systolic.isa import (
    SEMAPHORES,
    Causal,
    Flags,
    Modes,
    Queue,
    Start,
    StoreOp,
    Target,
    VectorOp,
)
from diptych_sim.compiler.array.commands import CommandList, Label, field_of

__all__ = ["command_listing"]

_OPS: dict[Queue, Any] = {Queue.LOAD: Target, Queue.VECTOR: VectorOp, Queue.STORE: StoreOp}
_HALVES: dict[tuple[Queue, str], tuple[str, str]] = {
    (Queue.MATRIX, "tiles"): ("k_tiles", "n_tiles"),
    (Queue.MATRIX, "rows"): ("rows", "x_planes"),
    (Queue.MATRIX, "first"): ("first", "w_planes"),
    (Queue.VECTOR, "extent"): ("rows", "n_tiles"),
    (Queue.VECTOR, "first"): ("first", "first_state"),
}
"""Names of the lower and the upper half of a field."""
_EXTRA = {VectorOp.GATE: ("sums2", "parameters2"), VectorOp.ARGMAX: ("limit", "bits")}
_NAMED: dict[str, type[Enum]] = {"causal": Causal, "start": Start}


def command_listing(commands: CommandList) -> str:
    """Return a program as text: a line for each command, under what of the model it is for.

    A command shows its queue, its op, its fields that are not 0, whom it waits for and whom it
    signals (queues, by the semaphore of the two).
    """
    lines = []
    before = None
    for index, c in enumerate(commands.commands):
        if c.label != before:
            lines.append(f"; {_label(c.label)}")
        before = c.label
        ops = _OPS.get(c.queue)
        op = ops(c.op).name if ops else "MULTIPLY"
        shown = " ".join(f"{name}={value}" for name, value in _fields(c.queue, c.op, c.fields))
        waits = [Queue(n // 4).name for n in range(SEMAPHORES) if c.wait >> n & 1]
        signals = [Queue(n % 4).name for n in range(SEMAPHORES) if c.signal >> n & 1]
        after = f"; after {' '.join(waits)}" if waits else ""
        then = f"; signals {' '.join(signals)}" if signals else ""
        lines.append(f"{index:5} {c.queue.name:6} {op:14} {shown}{after}{then}")
    return "\n".join(lines) + "\n"


def _label(label: Label) -> str:
    where = [] if label.layer is None else [f"layer {label.layer}"]
    return ", ".join([*where, label.operation or "whole prompt"])


def _fields(queue: Queue, op: int, fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields that are not 0; packed ones in their parts."""
    for name, given in fields.items():
        value = int(getattr(given, "value", given))
        halves = _HALVES.get((queue, name))
        if queue is Queue.VECTOR and name == "extra":
            halves = _EXTRA.get(VectorOp(op))
        if name in ("modes", "flags"):
            layout = Modes() if name == "modes" else Flags()
            parts = list(field_of(layout, value).items())
        elif name == "layer":
            parts = [("layer", value & 0xFF), ("prompt", value >> 8)]
        elif halves:
            parts = list(zip(halves, (value & 0xFFFF, value >> 16), strict=True))
        else:
            parts = [(name, value)]
        for part, number in parts:
            if number:
                yield part, _NAMED[part](number).name if part in _NAMED else number
