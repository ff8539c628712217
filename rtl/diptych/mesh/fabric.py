# SPDX-License-Identifier: BSD-2-Clause
"""Words of the fabric: wavelets, links, routes, and the packets that load a tile."""

from __future__ import annotations

from amaranth.hdl import unsigned
from amaranth.lib import data, enum
from amaranth.lib.wiring import In, Out, Signature

DATA_BITS = 32
COLOR_BITS = 5
MAX_COLORS = 24
POSITION_BITS = 2
POSITIONS = 1 << POSITION_BITS
"""Switch positions that a color of a router may have."""
BUFFER_DEPTH = 8
"""Wavelets that a buffer of one color holds, at the ramp and where a hop takes one cycle."""
LOAD_COLOR = 0
"""The color of load packets: after reset it is routed from west to ramp and east."""


def buffer_depth(hop_cycles: int) -> int:
    """Wavelets that each (input port, color) buffer holds: the credits a sender starts with.

    A credit may be used again 3 cycles after the choice that took it, 4 if wavelets are delayed
    (:class:`.Router`), and 2 later with a register in each direction of the link. The rest is for
    operands that wait for each other.
    """
    return BUFFER_DEPTH * hop_cycles


class Port(enum.IntEnum, shape=unsigned(3)):
    """Ports of a router; also bit numbers of the masks in a :class:`Route`."""

    NORTH = 0
    EAST = 1
    SOUTH = 2
    WEST = 3
    RAMP = 4

    @property
    def label(self) -> str:
        """Name of the port in the names of signals and counters."""
        return self.name.lower()

    @property
    def opposite(self) -> Port:
        """Port of the neighbor that this direction leads to.

        Raises
        ------
        KeyError
            If the port is the ramp.
        """
        return _OPPOSITE[self]

    @property
    def step(self) -> tuple[int, int]:
        """Rows down and columns right to the neighbor.

        Raises
        ------
        KeyError
            If the port is the ramp.
        """
        return _STEP[self]


_OPPOSITE = {
    Port.NORTH: Port.SOUTH,
    Port.EAST: Port.WEST,
    Port.SOUTH: Port.NORTH,
    Port.WEST: Port.EAST,
}
_STEP = {
    Port.NORTH: (-1, 0),
    Port.EAST: (0, 1),
    Port.SOUTH: (1, 0),
    Port.WEST: (0, -1),
}

DIRECTIONS = tuple(_OPPOSITE)
"""Ports that lead to neighbors."""
DIRECTION_NAMES = tuple(port.label for port in DIRECTIONS)
PORT_NAMES = tuple(port.label for port in Port)


class Combine(enum.Enum, shape=unsigned(2)):
    """Operation of a router on the wavelets of a color's sources."""

    FORWARD = 0
    """One source: pass on."""
    ADD = 1
    """The int32 sum (wrapping) of one wavelet from every source."""
    MAX = 2
    """The signed maximum of one wavelet from every source."""
    ARGMAX = 3
    """Wavelets come in pairs, a signed key and an unsigned index. One pair of every source makes
    one pair: the largest key, and the smallest of the indices that came with it."""


class Wavelet(data.StructLayout):
    """Payload of a link: 32 bits of data, a color, and the control bit (moves switches)."""

    def __init__(self) -> None:
        super().__init__({"data": DATA_BITS, "color": COLOR_BITS, "control": 1})


class Route(data.StructLayout):
    """Route of one color in one router at one switch position; 20 bits, loaded as one word.

    Members
    -------
    sources : 5 bits
        Ports (by :class:`Port`) that the color comes from; one, or several when they combine.
    targets : 5 bits
        Ports that each resulting wavelet goes to, all at once; none discards it.
    combine : :class:`Combine`
        Operation on the wavelets of the sources.
    color : 5 bits
        Color of the outgoing wavelet.
    next : 2 bits
        Switch position that the color moves to, and
    advances : 1 bit
        whether it does, when a wavelet with the control bit has passed.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "sources": 5,
                "targets": 5,
                "combine": Combine,
                "color": COLOR_BITS,
                "next": POSITION_BITS,
                "advances": 1,
            }
        )


class LinkSignature(Signature):
    """One direction of a link, as seen by its sender; every member is a register of its driver.

    A wavelet is announced in one cycle, and its data follow three cycles later: the receiver chooses
    where it goes, and reads its buffer, while they are still on their way, so that a hop takes one
    cycle in spite of four stages. A sender holds a credit counter per color, :func:`buffer_depth` after reset, takes one for
    each wavelet that it announces, and announces a color only while it has one. After a control
    wavelet it announces the color only when it has all its credits back. ``credit`` bit ``k`` is
    high for one cycle for each wavelet of color ``k`` that the receiver has chosen to pass on.

    Members
    -------
    announced : :py:`Out(colors)`
        A bit per color, at most one: a wavelet of that color comes; the receiver cannot refuse it.
    announced_control : :py:`Out(colors)`
        The same, if it is a control wavelet.
    valid, wavelet : :py:`Out(1)`, :py:`Out(Wavelet())`
        The wavelet that was announced three cycles ago.
    credit : :py:`In(colors)`
        Credits returned.
    """

    def __init__(self, colors: int) -> None:
        super().__init__(
            {
                "announced": Out(colors),
                "announced_control": Out(colors),
                "valid": Out(1),
                "wavelet": Out(Wavelet()),
                "credit": In(colors),
            }
        )


class Load(enum.Enum, shape=unsigned(4)):
    """Kinds of load packets.

    A packet on :data:`LOAD_COLOR` is three header wavelets, then ``count`` payload wavelets:
    ``kind[3:0] | step[15:4] | count[31:16]``; ``first_column[15:0] | last_column[31:16]``;
    ``address``. Tiles outside the columns skip it.
    """

    NOTHING = 0
    WORDS = 1
    """Each payload word to the SRAM at ``address`` (bytes, multiple of 4), then 4 further on."""
    BYTES = 2
    """The 4 bytes of each payload word, low byte first, each to the SRAM at ``address``, then
    ``step`` bytes further on."""
    PROGRAM = 3
    """Payload words to the program memory from instruction ``address``, low word first."""
    ROUTE = 4
    """A payload word is the :class:`Route` of color ``address[4:0]`` at switch position
    ``address[6:5]``, then of the next address. A color is at position 0 once that is written."""
    REGISTER = 5
    """A payload word is the value of register ``address``, then of the next."""
    TASK = 6
    """A payload word is the entry of task ``address``: ``pc[15:0] | blocked[16] | bound[17] |
    color[22:18] | control[23]``; a bound task starts when a wavelet of its color waits: with
    ``control`` a control wavelet, else another one."""
    ACTIVATE = 7
    """Task ``address`` becomes active; a payload word, if any, goes to register 1 first."""


HEADER_WORDS = 3


def header(
    kind: Load, *, count: int, first_column: int, last_column: int, address: int, step: int = 0
) -> list[int]:
    """Header words of a load packet.

    Raises
    ------
    ValueError
        If a field does not fit its bits.
    """
    for name, value, bits in (
        ("Count", count, 16),
        ("First column", first_column, 16),
        ("Last column", last_column, 16),
        ("Step", step, 12),
        ("Address", address, 32),
    ):
        if value not in range(2**bits):
            raise ValueError(f"{name} must be in range({2**bits}), not {value!r}")
    return [
        kind.value | step << 4 | count << 16,
        first_column | last_column << 16,
        address,
    ]
