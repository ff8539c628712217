# SPDX-License-Identifier: BSD-2-Clause
"""AXI4 channels, as streams; names of fields are those of the specification without prefix."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["BEAT_BYTES", "ReadAddress", "ReadChannels", "ReadData"]

BEAT_BYTES = 64
"""Bytes of a beat (AxSIZE 6); every burst is INCR."""


class ReadAddress(data.StructLayout):
    """AR: a burst of ``len + 1`` beats from byte address ``addr``."""

    def __init__(self) -> None:
        super().__init__({"addr": 32, "len": 8, "id": 2})


class ReadData(data.StructLayout):
    """R: a beat."""

    def __init__(self) -> None:
        super().__init__({"data": 8 * BEAT_BYTES, "last": 1, "id": 2})


class ReadChannels(wiring.Signature):
    """AR and R, seen by the manager. Answers come in the order of the requests."""

    def __init__(self) -> None:
        super().__init__(
            {"ar": Out(stream.Signature(ReadAddress())), "r": In(stream.Signature(ReadData()))}
        )
