# SPDX-License-Identifier: BSD-2-Clause
"""Where the decode panel keeps a model: which part of it in which tile, at which address."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from diptych.mesh.isa import Type
from diptych.mesh.operand_sequencer import HELD_WORDS
from diptych_sim.compiler.decode.position_deal import PositionDeal

__all__ = [
    "AT_ONCE",
    "CONSTANTS",
    "FEW_HEADS",
    "MAX_SEQUENCES",
    "WORD_BYTES",
    "MeshTooSmallError",
    "Placement",
    "Region",
    "State",
    "UnsupportedModelError",
    "allocate",
    "of_sequence",
    "round_up",
    "row_bytes",
    "states_in_memory",
]

MAX_SEQUENCES = 8
"""Sequences that a mesh decodes at once, at most."""
AT_ONCE = 4
"""Heads whose scores are on their way at once: as many as registers for their reciprocals. A buffer
of the fabric must hold as many maxima."""
FEW_HEADS = 2
"""Heads of a column for which a single sequence has registers beside its state."""
WORD_BYTES = 4
CONSTANTS = (
    *(
        "score_scale",
        "context_scale",
        "gate_word",
        "mlp_norm_top",
        "next_norm_top",
        "hidden_floor",
    ),
    *("q_epsilon", "k_epsilon"),
)
"""Words of a layer's region ``constants``; the last two are of models that normalize heads."""


class State(IntEnum):
    """Words of a sequence's region ``state``; some are there only if registers are needed."""

    COUNT = 0
    """Positions that the row holds."""
    TURN = 1
    """Tokens until it is the row's turn to hold one."""
    SLOT = 2
    """Where the row holds the current position."""
    WORDS = 3
    """Words of 8 positions that the row holds."""
    DYNAMIC = 4
    """Scale of what the next product takes."""
    LARGEST = 5
    """Largest magnitude that the residual stream had at its last norm; a single sequence's reciprocal
    is in register :attr:`.Register.INVERSE`."""


class UnsupportedModelError(ValueError):
    """The decode panel cannot run a model of this shape."""


class MeshTooSmallError(ValueError):
    """A model and its KV cache do not fit into the tiles."""


def states_in_memory(sequences: int, heads: int) -> frozenset[State]:
    """Return words of a sequence's state that have no register, where columns have so many heads."""
    if sequences > 1:
        return frozenset(State)
    return frozenset({State.TURN, State.SLOT} if heads > FEW_HEADS else ())


def round_up(value: int, step: int = 8) -> int:
    """Return the first multiple of ``step`` from ``value`` on."""
    return -(-value // step) * step


def row_bytes(size: int) -> int:
    """Return the bytes of a row of a matrix: whole words, an even number where a step reads two."""
    return round_up(size) if size <= 8 * HELD_WORDS else round_up(size, 16)


@dataclass(frozen=True)
class Region:
    """Bytes of a tile's SRAM."""

    name: str
    address: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How a model lies in a mesh; sizes in elements unless they say bytes.

    Residual elements are dealt to rows, heads, hidden elements and the vocabulary to columns, and
    positions to rows. A head may be split among neighboring columns, as many of its elements in each.

    Columns may be of two kinds, of which those without heads take more of the rest. Then this is how
    the model lies in those with heads, in the middle, and ``others`` how it lies before and behind them.
    """

    rows: int
    columns: int
    sequences: int
    """Sequences that are decoded at once, each with a KV cache of its own."""
    forced: int
    """Tokens of each prompt that the mesh reads itself, beside the first."""
    sram_bytes: int
    kv_only: bool
    """Keys and values have room, and nothing else."""
    chunk: int
    """Residual elements of a row; a multiple of 8."""
    split: int
    """Columns that share their heads."""
    width: int
    """Elements of a head in a column; a multiple of 8."""
    heads: int
    """Query heads of a column, or of the columns that share them."""
    kv_heads: int
    """KV heads of a column, or of the columns that share them."""
    hidden: int
    """Hidden elements of a column."""
    vocabulary: int
    """Tokens of a column."""
    span: range
    """Columns that lie so."""
    first_hidden: int
    """Hidden elements of the columns before these."""
    first_token: int
    """Tokens of the columns before these."""
    positions: PositionDeal
    """How positions are dealt to rows."""
    slots: int
    """Positions of a row, of the longest sequence. One more slot takes what is of no use."""
    value_stride: int
    """Bytes between elements of a V vector in one slot."""
    one_copy: bool
    """Embedding and output have the same codes."""
    tied: int
    """Elements of a column of what else makes the embedding of these codes; 0 without."""
    activation_type: Type
    """Of what matrices multiply, but for powers, which are int16."""
    kv_bytes: int
    """Bytes of a sequence's KV cache in a layer of a tile: the distance to the next one's."""
    fixed: dict[str, Region]
    layer: dict[str, Region]
    """Regions of layer 0."""
    layer_bytes: int
    """Distance from a layer to the next."""
    layers_base: int
    """Address of layer 0."""
    used_bytes: int
    """Of a tile of these columns."""
    others: tuple[Placement, ...] = ()
    """How the model lies in columns without heads, on each side; nothing if it lies alike in all. Only what
    they have differs between the sides."""

    @property
    def headless(self) -> Placement | None:
        """How the model lies in columns without heads; None if it lies alike in all."""
        return self.others[0] if self.others else None

    @property
    def programs(self) -> tuple[Placement, ...]:
        """Of columns that run the same program, how the model lies there, those with heads first."""
        return (self, *self.others[:1])

    @property
    def kinds(self) -> tuple[Placement, ...]:
        """How the model lies in all columns, from west to east."""
        return tuple(sorted((self, *self.others), key=lambda kind: kind.span.start))

    @property
    def column_reach(self) -> int:
        """How far from the middle column the columns with heads are."""
        middle = self.columns // 2
        return max(middle - self.span.start, self.span.stop - 1 - middle)

    @property
    def rows_apart(self) -> bool:
        """Whether rows that hold no position yet have a program of their own for attention."""
        return self.sequences == 1 and self.rows > 1

    @property
    def tile_bytes(self) -> int:
        """Bytes of the fullest tile."""
        return max(kind.used_bytes for kind in self.kinds)

    @property
    def reference_column(self) -> int:
        """The middle one of the columns that have a part of everything."""
        return self.span[len(self.span) // 2]

    def of_column(self, column: int) -> Placement:
        """Return how the model lies in a column."""
        return next(kind for kind in self.kinds if column in kind.span)

    def tokens(self, column: int, vocabulary: int) -> range:
        """Return the tokens of a column, of ``vocabulary`` in all."""
        kind = self.of_column(column)
        first = kind.first_token + (column - kind.span.start) * kind.vocabulary
        return range(first, max(first, min(first + kind.vocabulary, vocabulary)))

    @property
    def hidden_bytes(self) -> int:
        """Bytes of a row of the down projection: its hidden elements, in whole words."""
        return row_bytes(self.hidden)

    @property
    def in_memory(self) -> frozenset[State]:
        """Words of a sequence's state that are in memory, and in registers only for their use."""
        return states_in_memory(self.sequences, self.heads)

    @property
    def activation_bytes(self) -> int:
        """Bytes of an activation."""
        return 1 << self.activation_type.value

    def at(self, name: str, sequence: int = 0) -> int:
        """Return the address of a region, of a sequence if each has its own."""
        name = of_sequence(name, sequence)
        return (self.fixed.get(name) or self.layer[name]).address


_BYTE_OPERANDS = {"query", "rope"}
"""Second operands of bytes and of rotations: two words that a step reads are an odd
number of words apart, so that they never lie in the same bank."""
_ACTIVATIONS = {"normed", "powers", "context", "hidden"}
_MATRICES = {"output", "tie", "kqv", "wo", "w_gate_up", "w_down", "keys", "values"}
"""The first words that a step reads of both are in other pairs of banks. Keys and values of all
sequences are as far apart."""
_PAIRS = 32
"""Bytes of two pairs of banks."""


def allocate(sizes: dict[str, int], base: int) -> tuple[dict[str, Region], int]:
    """Return regions one behind the other from ``base`` on, and where the next ones may begin.

    Two that are read together share no bank.
    """
    regions = {}
    for name, size in sizes.items():
        kind = name.partition(".")[0]
        if kind in _ACTIVATIONS:
            base = round_up(base - 16, _PAIRS) + 16
        elif kind in _MATRICES:
            base = round_up(base, _PAIRS)
        else:
            odd = kind in _BYTE_OPERANDS
            base = round_up(base - 8 * odd, 16) + 8 * odd
        regions[name] = Region(name, base, size)
        base += round_up(size)
    return regions, round_up(base, _PAIRS)


def of_sequence(name: str, sequence: int) -> str:
    """Return the name of a region of a sequence; those of the first one have no suffix."""
    return f"{name}.{sequence}" if sequence else name
