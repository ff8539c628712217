# SPDX-License-Identifier: BSD-2-Clause
"""Where the decode panel keeps a model: which part of it in which tile, at which address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from diptych.mesh.isa import Type
from diptych.mesh.operand_sequencer import HELD_WORDS
from diptych_sim.compiler.decode.head_deal import HeadDeal, head_deals
from diptych_sim.golden.quantized import DEFAULT_ACTIVATION_BITS
from diptych_sim.llm.model import ModelConfig

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
    "place",
    "try_place",
]

MAX_SEQUENCES = 8
"""Sequences that a mesh decodes at once, at most."""
AT_ONCE = 4
"""Heads whose scores are on their way at once: as many as registers for their reciprocals. A buffer
of the fabric must hold as many maxima."""
FEW_HEADS = 2
"""Heads of a column for which a single sequence has registers beside its state."""
WORD_BYTES = 4
CONSTANTS = ("score_scale", "context_scale", "gate_shift", "q_epsilon", "k_epsilon")
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


class UnsupportedModelError(ValueError):
    """The decode panel cannot run a model of this shape."""


class MeshTooSmallError(ValueError):
    """A model and its KV cache do not fit into the tiles."""


def _in_memory(sequences: int, heads: int) -> frozenset[State]:
    if sequences > 1:
        return frozenset(State)
    return frozenset({State.TURN, State.SLOT} if heads > FEW_HEADS else ())


def _up(value: int, step: int = 8) -> int:
    return -(-value // step) * step


def _row(size: int) -> int:
    """Return the bytes of a row: an even number of words, where a step reads two of them."""
    return _up(size) if size <= 8 * HELD_WORDS else _up(size, 16)


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
    positions to rows in turn: position ``p`` is in slot ``p // rows`` of row ``p % rows``. A head
    may be split among neighboring columns, as many of its elements in each.
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
    """Hidden elements of a column; a multiple of 8."""
    vocabulary: int
    """Tokens of a column."""
    slots: int
    """Positions of a row, of the longest sequence. One more slot takes what is of no use."""
    value_stride: int
    """Bytes between elements of a V vector in one slot."""
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

    @property
    def in_memory(self) -> frozenset[State]:
        """Words of a sequence's state that are in memory, and in registers only for their use."""
        return _in_memory(self.sequences, self.heads)

    @property
    def activation_bytes(self) -> int:
        """Bytes of an activation."""
        return 1 << self.activation_type.value

    def at(self, name: str, sequence: int = 0) -> int:
        """Return the address of a region, of a sequence if each has its own."""
        name = _own(name, sequence)
        return (self.fixed.get(name) or self.layer[name]).address


_BYTE_OPERANDS = {"query", "rope"}
"""Second operands of bytes and of rotations: two words that a step reads are an odd
number of words apart, so that they never lie in the same bank."""
_ACTIVATIONS = {"normed", "powers", "context", "hidden"}
_MATRICES = {"output", "kqv", "wo", "w_gate_up", "w_down", "keys", "values"}
"""The first words that a step reads of both are in other pairs of banks. Keys and values of all
sequences are as far apart."""
_PAIRS = 32
"""Bytes of two pairs of banks."""


def _allocate(sizes: dict[str, int], base: int) -> tuple[dict[str, Region], int]:
    """Place regions one behind the other, so that two that are read together share no bank."""
    regions = {}
    for name, size in sizes.items():
        kind = name.partition(".")[0]
        if kind in _ACTIVATIONS:
            base = _up(base - 16, _PAIRS) + 16
        elif kind in _MATRICES:
            base = _up(base, _PAIRS)
        else:
            odd = kind in _BYTE_OPERANDS
            base = _up(base - 8 * odd, 16) + 8 * odd
        regions[name] = Region(name, base, size)
        base += _up(size)
    return regions, _up(base, _PAIRS)


def _own(name: str, sequence: int) -> str:
    """Name of a region of a sequence; those of the first one have no suffix."""
    return f"{name}.{sequence}" if sequence else name


def _arrange(
    c: ModelConfig,
    rows: int,
    columns: int,
    deal: HeadDeal,
    positions: Sequence[int],
    sram_bytes: int,
    activation_bits: int,
    forced: int,
    *,
    sampled: bool,
    kv_only: bool,
) -> Placement:
    d = c.head_dim // deal.split
    sequences = len(positions)
    heads, kv_heads = deal.heads, deal.kv_heads
    chunk = _row(-(-c.dim // rows))
    hidden = _row(-(-c.hidden // columns))
    vocabulary = -(-c.vocab // columns)
    slots = -(-max(positions) // rows)
    value_stride = _row(slots + 1)
    kq = (heads + kv_heads) * d
    activation_type = Type.INT8 if activation_bits == 8 else Type.INT16
    each = 1 << activation_type.value
    own = {
        # One more: the epsilon of its norm, for which ``normed`` has room, too.
        "x": 4 * chunk + 4,
        "normed": each * chunk + 2,
        "kq": 2 * kq,
        "query": 2 * heads * d,
        "context": each * heads * d,
        "gate_up": 4 * hidden,
        "gated": 4 * hidden,
        "hidden": each * hidden,
        "rope": 2 * d,
        **({"noise": 4 * vocabulary} if sampled else {}),
    }
    at_once = min(sequences * heads, AT_ONCE)
    buffers: dict[str, int] = {}
    for n in range(sequences):
        for name, size in own.items():
            buffers[_own(name, n)] = size
            if (name, n) == ("query", 0):
                buffers |= {"scores": 4 * at_once * slots, "powers": 2 * at_once * _up(slots)}
    states = {_own("state", n): WORD_BYTES * len(State) for n in range(sequences)}

    def kept(sizes: dict[str, int]) -> dict[str, int]:
        """What has room; first tokens come over the link as keys and values do."""
        names = ("keys", "values", "arguments")
        whole = {name: size for name, size in sizes.items() if name.partition(".")[0] in names}
        return dict.fromkeys(sizes, 0) | whole if kv_only else sizes

    fixed, base = _allocate(
        kept(
            {
                **buffers,
                **({"arguments": WORD_BYTES * sequences} if sequences > 1 else {}),
                **({"prompts": WORD_BYTES * forced * sequences} if forced else {}),
                "rope_table": 2 * d * slots,
                **({"noise_key": WORD_BYTES * sequences} if sampled else {}),
                "embedding": vocabulary * chunk,
                "embedding_scale": 4 * vocabulary,
                "output": vocabulary * chunk,
                "output_scale": 4 * vocabulary,
                **(states if _in_memory(sequences, heads) else {}),
            }
        ),
        0,
    )
    caches = {"keys": kv_heads * (slots + 1) * 2 * d, "values": kv_heads * d * value_stride}
    layer, end = _allocate(
        kept(
            {
                "kqv": (kq + kv_heads * d) * chunk,
                "kqv_scale": (8 if c.qkv_bias else 4) * (kq + kv_heads * d),
                **(dict.fromkeys(("q_norm", "k_norm"), 4 * d) if c.qk_norm else {}),
                "wo": chunk * heads * d,
                "o_scale": 4 * chunk,
                "w_gate_up": 2 * hidden * chunk,
                "gate_up_scale": 8 * hidden,
                "w_down": chunk * hidden,
                "down_scale": 4 * chunk,
                "constants": 4 * (5 if c.qk_norm else 3),
                **{_own(name, n): size for n in range(sequences) for name, size in caches.items()},
            }
        ),
        base,
    )
    layer_bytes = end - base
    return Placement(
        rows=rows,
        columns=columns,
        sequences=sequences,
        forced=forced,
        sram_bytes=sram_bytes,
        kv_only=kv_only,
        chunk=chunk,
        split=deal.split,
        width=d,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        vocabulary=vocabulary,
        slots=slots,
        value_stride=value_stride,
        activation_type=activation_type,
        kv_bytes=layer["keys.1"].address - layer["keys"].address if sequences > 1 else 0,
        fixed=fixed,
        layer=layer,
        layer_bytes=layer_bytes,
        layers_base=base,
        used_bytes=base + layer_bytes * c.layers,
    )


_WHOLE = {"sampled": False, "kv_only": False}
"""What a placement is for: decode of the best tokens."""


def _smallest(
    config: ModelConfig,
    rows: int,
    columns: int,
    positions: Sequence[int],
    sram_bytes: int,
    activation_bits: int,
    forced: int,
    **kind: bool,
) -> Placement:
    """Place the heads in the fastest way that fits, or else in the smallest."""
    slots = -(-max(positions) // rows)
    ways = [
        _arrange(
            config, rows, columns, deal, positions, sram_bytes, activation_bits, forced, **kind
        )
        for deal in head_deals(config, rows, columns, slots=slots)
    ]
    smallest = min(ways, key=lambda way: way.used_bytes)
    return next((way for way in ways if way.used_bytes <= sram_bytes), smallest)


def try_place(
    config: ModelConfig, rows: int, columns: int, *, positions: int, sram_bytes: int, **kind: bool
) -> Placement | None:
    """Place a model as :func:`place` does; return None, and look no further, if it does not fit.

    ``kind``: its ``sampled`` and ``kv_only``.
    """
    found = _smallest(
        config, rows, columns, (positions,), sram_bytes, DEFAULT_ACTIVATION_BITS, 0, **_WHOLE | kind
    )
    return found if found.used_bytes <= sram_bytes else None


def place(
    config: ModelConfig,
    rows: int,
    columns: int,
    *,
    positions: int | Sequence[int],
    sram_bytes: int,
    forced: int = 0,
    activation_bits: int = DEFAULT_ACTIVATION_BITS,
    sampled: bool = False,
    kv_only: bool = False,
) -> Placement:
    """Place a model in a mesh, with a KV cache of ``positions``, or one for each of several.

    ``forced``: as of :class:`Placement`. ``sampled``: tokens are drawn, with noise for each.
    ``kv_only``: there is room for nothing else.

    Raises
    ------
    UnsupportedModelError
        If the head dimension is no multiple of 8, or there are too many sequences.
    MeshTooSmallError
        If it does not fit; the message says what is missing and which square mesh would do.
    """
    if config.head_dim % 8:
        raise UnsupportedModelError(
            f"Head dimension must be a multiple of 8, not {config.head_dim!r}"
        )
    each = (positions,) if isinstance(positions, int) else tuple(positions)
    if len(each) > MAX_SEQUENCES:
        raise UnsupportedModelError(
            f"Number of sequences must be at most {MAX_SEQUENCES}, not {len(each)!r}"
        )

    def arranged(rows: int, columns: int) -> Placement:
        numbers = (each, sram_bytes, activation_bits, forced)
        return _smallest(config, rows, columns, *numbers, sampled=sampled, kv_only=kv_only)

    placement = arranged(rows, columns)
    missing = placement.used_bytes - sram_bytes
    if missing > 0:
        sizes = (n for n in range(2, 129) if arranged(n, n).used_bytes <= sram_bytes)
        size = next(sizes, None)
        would = f"{size}x{size} would do" if size else "no mesh up to 128x128 would do"
        what = f"{max(each)} positions"
        if len(each) > 1:
            what = f"{len(each)} sequences of {what}"
        raise MeshTooSmallError(
            f"Mesh {rows}x{columns} has {sram_bytes} bytes of SRAM in a tile, and {what} of this "
            f"model need {missing} more; {would}"
        )
    return placement
