# SPDX-License-Identifier: BSD-2-Clause
"""AXI4 channels, as streams; names of fields are those of the specification without prefix."""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = [
    "BEAT_BYTES",
    "MAX_BEATS",
    "PAGE_BYTES",
    "Channels",
    "ReadAddress",
    "ReadChannels",
    "ReadData",
    "WriteAddress",
    "WriteChannels",
    "WriteData",
    "WriteResponse",
]

BEAT_BYTES = 64
"""Bytes of a beat (AxSIZE 6); every burst is INCR."""


MAX_BEATS = 16
"""Beats of a burst at most, by choice."""
PAGE_BYTES = 4096
"""Bursts never cross a multiple of this (AXI4 specification, A3.4.1)."""


class ReadAddress(data.StructLayout):
    """AR: a burst of ``len + 1`` beats from byte address ``addr``."""

    def __init__(self) -> None:
        super().__init__({"addr": 32, "len": 8, "id": 2})


class ReadData(data.StructLayout):
    """R: a beat."""

    def __init__(self) -> None:
        super().__init__({"data": 8 * BEAT_BYTES, "last": 1, "id": 2})


class ReadChannels(wiring.Signature):
    """AR and R, as seen by the manager. Data arrive in the order of the requests.

    Members
    -------
    ar : :py:`Out(stream.Signature(ReadAddress()))`
        Addresses of bursts.
    r : :py:`In(stream.Signature(ReadData()))`
        Beats.
    """

    def __init__(self) -> None:
        super().__init__(
            {"ar": Out(stream.Signature(ReadAddress())), "r": In(stream.Signature(ReadData()))}
        )


class WriteAddress(data.StructLayout):
    """AW: a burst of ``len + 1`` beats to byte address ``addr``."""

    def __init__(self) -> None:
        super().__init__({"addr": 32, "len": 8, "id": 2})


class WriteData(data.StructLayout):
    """W: a beat; bit ``n`` of ``strb`` is set where byte ``n`` is written."""

    def __init__(self) -> None:
        super().__init__({"data": 8 * BEAT_BYTES, "strb": BEAT_BYTES, "last": 1})


class WriteResponse(data.StructLayout):
    """B: a burst is written; ``resp`` is 0 (OKAY)."""

    def __init__(self) -> None:
        super().__init__({"resp": 2, "id": 2})


class WriteChannels(wiring.Signature):
    """AW, W and B, as seen by the manager. Responses arrive in the order of the bursts.

    Members
    -------
    aw : :py:`Out(stream.Signature(WriteAddress()))`
        Addresses of bursts.
    w : :py:`Out(stream.Signature(WriteData()))`
        Beats.
    b : :py:`In(stream.Signature(WriteResponse()))`
        Responses.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "aw": Out(stream.Signature(WriteAddress())),
                "w": Out(stream.Signature(WriteData())),
                "b": In(stream.Signature(WriteResponse())),
            }
        )


class Channels(wiring.Signature):
    """All five channels, as seen by the manager. Reads and writes are independent.

    Members
    -------
    ar, r, aw, w, b
        As of :class:`ReadChannels` and :class:`WriteChannels`.
    """

    def __init__(self) -> None:
        super().__init__({**ReadChannels().members, **WriteChannels().members})
