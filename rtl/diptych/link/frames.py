# SPDX-License-Identifier: BSD-2-Clause
"""Frames of the KV link and the words on its wires."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import data, memory

from diptych.systolic.isa import HandoffKind

__all__ = [
    "FRAME_OVERHEAD_BYTES",
    "SEQUENCE_BITS",
    "SLOTS",
    "SLOT_WORDS",
    "Answer",
    "FrameHead",
    "LinkWord",
    "add_frame_memories",
]

SLOTS = 8
"""Frames that each end can buffer: credits of the transmitter."""
SLOT_WORDS = 256
"""Payload words of a frame at most."""
SEQUENCE_BITS = 8
FRAME_OVERHEAD_BYTES = 12
"""Two words of header and one of CRC-32 (IEEE 802.3) over header and payload."""


class FrameHead(data.StructLayout):
    """The first two words of a frame; ``count`` payload words follow, then the CRC."""

    def __init__(self) -> None:
        super().__init__(
            {
                "sequence": SEQUENCE_BITS,
                "kind": HandoffKind,
                "spare": 6,
                "count": 16,
                "layer": 8,
                "position": 16,
                "prompt": 8,
            }
        )


class LinkWord(data.StructLayout):
    """A word on the forward wires; ``first`` marks the first of a frame."""

    def __init__(self) -> None:
        super().__init__({"valid": 1, "first": 1, "data": 32})


class Answer(data.StructLayout):
    """Acknowledgment of the receiver: the frame expected next, the frame to be delivered next.

    ``refused``: a frame was damaged or out of order.
    """

    def __init__(self) -> None:
        super().__init__(
            {"valid": 1, "refused": 1, "expected": SEQUENCE_BITS, "delivered": SEQUENCE_BITS}
        )


def add_frame_memories(m: Module) -> tuple[Any, Any, Any, Any]:
    """Add the frame memories of an end of the link; return their ports.

    Ports: write a word, read a word (synchronous), write a head, read a head (asynchronous).
    """
    m.submodules.words = words = memory.Memory(
        shape=unsigned(32), depth=SLOTS * SLOT_WORDS, init=[]
    )
    m.submodules.heads = heads = memory.Memory(
        shape=unsigned(FrameHead().size), depth=SLOTS, init=[]
    )
    # Amaranth names ports after these variables.
    write, read = words.write_port(), words.read_port()
    head_write, head_read = heads.write_port(), heads.read_port(domain="comb")
    return write, read, head_write, head_read
