# SPDX-License-Identifier: BSD-2-Clause
"""Where the decode panel keeps a model: which part of it in which tile, at which address."""

from __future__ import annotations

from dataclasses import dataclass

from diptych.mesh.steps import HELD_WORDS
from diptych_sim.llm.model import ModelConfig

__all__ = ["MeshTooSmallError", "Placement", "Region", "UnsupportedModelError", "place"]


class UnsupportedModelError(ValueError):
    """The decode panel cannot run a model of this shape."""


class MeshTooSmallError(ValueError):
    """A model and its KV cache do not fit into the tiles."""


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
    positions to rows in turn: position ``p`` is in slot ``p // rows`` of row ``p % rows``.
    """

    rows: int
    columns: int
    sram_bytes: int
    chunk: int
    """Residual elements of a row; a multiple of 8."""
    heads: int
    """Query heads of a column."""
    kv_heads: int
    """KV heads of a column."""
    hidden: int
    """Hidden elements of a column; a multiple of 8."""
    vocabulary: int
    """Tokens of a column."""
    slots: int
    """Positions of a row. One more slot takes what is of no use."""
    value_stride: int
    """Bytes between elements of a V vector in one slot."""
    fixed: dict[str, Region]
    layer: dict[str, Region]
    """Regions of layer 0."""
    layer_bytes: int
    """Distance from a layer to the next."""
    layers_base: int
    """Address of layer 0."""
    used_bytes: int

    def at(self, name: str) -> int:
        """Return the address of a region."""
        return (self.fixed.get(name) or self.layer[name]).address


_SECOND_OPERANDS = {"normed", "query", "powers", "context", "hidden", "rope"}
"""What meets weights, keys, values and what is rotated: two words that a step reads are an odd
number of words apart, so that they never lie in the same bank."""


def _allocate(sizes: dict[str, int], base: int) -> tuple[dict[str, Region], int]:
    """Place regions one behind the other, second operands at odd words, others at even ones."""
    regions = {}
    for name, size in sizes.items():
        odd = name.partition(".")[0] in _SECOND_OPERANDS
        base = _up(base - 8 * odd, 16) + 8 * odd
        regions[name] = Region(name, base, size)
        base += _up(size)
    return regions, _up(base, 16)


def _arrange(c: ModelConfig, rows: int, columns: int, positions: int, sram_bytes: int) -> Placement:
    d = c.head_dim
    group = c.heads // c.kv_heads
    heads = -(-c.heads // columns)
    while heads % group and group % heads:
        heads += 1
    kv_heads = max(1, heads // group)
    chunk = _row(-(-c.dim // rows))
    hidden = _row(-(-c.hidden // columns))
    vocabulary = -(-c.vocab // columns)
    slots = -(-positions // rows)
    value_stride = _row(slots + 1)
    qk = (heads + kv_heads) * d
    fixed, base = _allocate(
        {
            "x": 2 * chunk,
            "normed": chunk,
            "qk": 2 * qk,
            "query": 2 * heads * d,
            "scores": 4 * min(heads, 4) * slots,
            "powers": _up(slots),
            "context": heads * d,
            "gate_up": 4 * hidden,
            "gated": 2 * hidden,
            "hidden": hidden,
            "rope": 2 * d,
            "rope_table": 2 * d * slots,
            "embedding": vocabulary * chunk,
            "embedding_scale": 4 * vocabulary,
            "output": vocabulary * chunk,
            "output_scale": 4 * vocabulary,
        },
        0,
    )
    layer, end = _allocate(
        {
            "qkv": (qk + kv_heads * d) * chunk,
            "qkv_scale": 4 * (qk + kv_heads * d),
            "wo": chunk * heads * d,
            "o_scale": 4 * chunk,
            "w_gate_up": 2 * hidden * chunk,
            "gate_up_scale": 8 * hidden,
            "w_down": chunk * hidden,
            "down_scale": 4 * chunk,
            "constants": 12,
            "keys": kv_heads * (slots + 1) * 2 * d,
            "values": kv_heads * d * value_stride,
        },
        base,
    )
    layer_bytes = end - base
    return Placement(
        rows=rows,
        columns=columns,
        sram_bytes=sram_bytes,
        chunk=chunk,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        vocabulary=vocabulary,
        slots=slots,
        value_stride=value_stride,
        fixed=fixed,
        layer=layer,
        layer_bytes=layer_bytes,
        layers_base=base,
        used_bytes=base + layer_bytes * c.layers,
    )


def place(
    config: ModelConfig, rows: int, columns: int, *, positions: int, sram_bytes: int
) -> Placement:
    """Place a model in a mesh, with a KV cache of ``positions``.

    Raises
    ------
    UnsupportedModelError
        If the head dimension is no multiple of 8.
    MeshTooSmallError
        If it does not fit; the message says what is missing and which square mesh would do.
    """
    if config.head_dim % 8:
        raise UnsupportedModelError(
            f"Head dimension must be a multiple of 8, not {config.head_dim!r}"
        )
    placement = _arrange(config, rows, columns, positions, sram_bytes)
    missing = placement.used_bytes - sram_bytes
    if missing > 0:
        sizes = (
            n
            for n in range(2, 129)
            if _arrange(config, n, n, positions, sram_bytes).used_bytes <= sram_bytes
        )
        size = next(sizes, None)
        would = f"{size}x{size} would do" if size else "no mesh up to 128x128 would do"
        raise MeshTooSmallError(
            f"Mesh {rows}x{columns} has {sram_bytes} bytes of SRAM in a tile, and {positions} "
            f"positions of this model need {missing} more; {would}"
        )
    return placement
