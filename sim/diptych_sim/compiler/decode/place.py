# SPDX-License-Identifier: BSD-2-Clause
"""Deals a model to the tiles of a mesh: what each column has, and where it lies there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf

from diptych.mesh.isa import Type
from diptych_sim.compiler.decode.head_deal import HeadDeal, head_deals
from diptych_sim.compiler.decode.placement import (
    AT_ONCE,
    CONSTANTS,
    MAX_SEQUENCES,
    WORD_BYTES,
    MeshTooSmallError,
    Placement,
    State,
    UnsupportedModelError,
    allocate,
    of_sequence,
    round_up,
    row_bytes,
    states_in_memory,
)
from diptych_sim.golden.quantized import DEFAULT_ACTIVATION_BITS, has_one_copy
from diptych_sim.llm.model import ModelConfig

__all__ = ["place", "placed_or_smallest", "smallest_square", "try_place"]


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What is to be placed, and where."""

    config: ModelConfig
    rows: int
    columns: int
    positions: tuple[int, ...]
    """Of each sequence."""
    sram_bytes: int
    activation_bits: int = DEFAULT_ACTIVATION_BITS
    forced: int = 0
    sampled: bool = False
    kv_only: bool = False
    one_copy: bool = False

    @property
    def chunk(self) -> int:
        return row_bytes(-(-self.config.dim // self.rows))

    @property
    def tied(self) -> int:
        """As of :class:`Placement`."""
        return -(-self.config.dim // self.columns) if self.one_copy else 0

    @property
    def activation_type(self) -> Type:
        return Type.INT8 if self.activation_bits == 8 else Type.INT16

    @property
    def token_bytes(self) -> int:
        """Bytes that a token takes in a tile of its column."""
        copies = self.chunk + WORD_BYTES + (self.chunk if not self.one_copy else 0)
        scale = not self.one_copy or self.sampled
        return copies + (WORD_BYTES if scale else 0) + (WORD_BYTES if self.sampled else 0)


@dataclass(frozen=True, kw_only=True)
class _Share:
    """What each of some columns has, as of :class:`Placement`."""

    heads: HeadDeal
    hidden: int
    vocabulary: int
    span: range
    first_hidden: int = 0
    first_token: int = 0

    def slots(self, task: _Task) -> int:
        return self.heads.positions.held(task.rows // 2, max(task.positions))


_OF_HEADS = {
    *("kq", "query", "scores", "powers", "context", "rope", "rope_table"),
    *("kqv", "kqv_scale", "q_norm", "k_norm", "wo", "keys", "values"),
}
"""Regions that columns without heads do not have."""


def _buffers(task: _Task, share: _Share) -> dict[str, int]:
    """Return the bytes of what lies in a tile of each sequence, beside its state."""
    chunk, hidden, vocabulary = task.chunk, share.hidden, share.vocabulary
    slots = share.slots(task)
    sequences, heads = len(task.positions), share.heads.heads
    d = task.config.head_dim // share.heads.split
    each = 1 << task.activation_type.value
    own = {
        "x": 4 * chunk + 4,  # and the epsilon of its norm
        "normed": each * chunk,
        "kq": 2 * (share.heads.heads + share.heads.kv_heads) * d,
        "query": 2 * heads * d,
        "context": each * heads * d,
        "gate_up": 4 * hidden,
        "gated": 4 * hidden,
        "hidden": each * row_bytes(hidden),
        "rope": 2 * d,
        **({"noise": 4 * vocabulary} if task.sampled else {}),
    }
    at_once = min(sequences * heads, AT_ONCE)
    buffers: dict[str, int] = {}
    for n in range(sequences):
        for name, size in own.items():
            buffers[of_sequence(name, n)] = size
            if (name, n) == ("query", 0):
                buffers |= {"scores": 4 * at_once * slots, "powers": 2 * at_once * round_up(slots)}
    return buffers


def _embedding(task: _Task, share: _Share) -> dict[str, int]:
    """Return the bytes of what makes the embedding, beside the output."""
    vocabulary, chunk, tied = share.vocabulary, task.chunk, task.tied
    scale = {"embedding_scale": WORD_BYTES * vocabulary}
    if not task.one_copy:
        return {"embedding": vocabulary * chunk, **scale}
    return {
        "tie": tied * chunk,
        "tie_scale": WORD_BYTES * tied,
        # Zeros before and behind what is sent on, for the rows that it is not for.
        "tied": WORD_BYTES * (chunk + tied + chunk),
        "tied_place": WORD_BYTES,
        **(scale if task.sampled else {}),
    }


def _arrange(task: _Task, share: _Share) -> Placement:
    """Place what columns have in their tiles."""
    c, rows, chunk, slots = task.config, task.rows, task.chunk, share.slots(task)
    sequences = len(task.positions)
    split, heads, kv_heads = share.heads.split, share.heads.heads, share.heads.kv_heads
    d = c.head_dim // split
    hidden, vocabulary = share.hidden, share.vocabulary
    value_stride = row_bytes(slots + 1)
    kq = (heads + kv_heads) * d
    buffers, embedding = _buffers(task, share), _embedding(task, share)
    states = {of_sequence("state", n): WORD_BYTES * len(State) for n in range(sequences)}

    def kept(sizes: dict[str, int]) -> dict[str, int]:
        """What has room; first tokens come over the link as keys and values do."""
        if not heads:
            return {name: size for name, size in sizes.items() if name not in _OF_HEADS}
        names = ("keys", "values", "arguments")
        whole = {name: size for name, size in sizes.items() if name.partition(".")[0] in names}
        return dict.fromkeys(sizes, 0) | whole if task.kv_only else sizes

    fixed, base = allocate(
        kept(
            {
                **buffers,
                **({"arguments": WORD_BYTES * sequences} if sequences > 1 else {}),
                **({"prompts": WORD_BYTES * task.forced * sequences} if task.forced else {}),
                "rope_table": 2 * d * slots,
                **({"noise_key": WORD_BYTES * sequences} if task.sampled else {}),
                **embedding,
                "output": vocabulary * chunk,
                "output_scale": WORD_BYTES * vocabulary,
                **(states if states_in_memory(sequences, heads) else {}),
            }
        ),
        0,
    )
    caches = {"keys": kv_heads * (slots + 1) * 2 * d, "values": kv_heads * d * value_stride}
    layer, end = allocate(
        kept(
            {
                "kqv": (kq + kv_heads * d) * chunk,
                "kqv_scale": (8 if c.qkv_bias else 4) * (kq + kv_heads * d),
                **(dict.fromkeys(("q_norm", "k_norm"), 4 * d) if c.qk_norm else {}),
                "wo": chunk * heads * d,
                "o_scale": 4 * chunk,
                "w_gate_up": 2 * hidden * chunk,
                "gate_up_scale": 8 * hidden,
                "w_down": chunk * row_bytes(hidden),
                "down_scale": 4 * chunk,
                "constants": 4 * (len(CONSTANTS) - (0 if c.qk_norm else 2)),
                **{
                    of_sequence(name, n): size
                    for n in range(sequences)
                    for name, size in caches.items()
                },
            }
        ),
        base,
    )
    layer_bytes = end - base
    return Placement(
        rows=rows,
        columns=task.columns,
        sequences=sequences,
        forced=task.forced,
        sram_bytes=task.sram_bytes,
        kv_only=task.kv_only,
        chunk=chunk,
        split=split,
        width=d,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        vocabulary=vocabulary,
        span=share.span,
        first_hidden=share.first_hidden,
        first_token=share.first_token,
        positions=share.heads.positions,
        slots=slots,
        value_stride=value_stride,
        one_copy=task.one_copy,
        tied=task.tied,
        activation_type=task.activation_type,
        kv_bytes=layer["keys.1"].address - layer["keys"].address if sequences > 1 else 0,
        fixed=fixed,
        layer=layer,
        layer_bytes=layer_bytes,
        layers_base=base,
        used_bytes=base + layer_bytes * c.layers,
    )


def _even(task: _Task, deal: HeadDeal) -> Placement:
    """Place a model alike in all columns."""
    c, columns = task.config, task.columns
    share = _Share(
        heads=deal,
        hidden=row_bytes(-(-c.hidden // columns)),
        vocabulary=-(-c.vocab // columns),
        span=range(columns),
    )
    return _arrange(task, share)


def _with_heads(task: _Task, deal: HeadDeal) -> int:
    """Return how many columns have heads."""
    return deal.split * -(-task.config.heads // deal.heads)


def _apart(task: _Task, deal: HeadDeal) -> Placement:
    """Place a model alike in all columns but for its heads, which those in the middle have."""
    c, columns = task.config, task.columns
    hidden, tokens = (-(-each // columns) for each in (c.hidden, c.vocab))
    return _in_the_middle(task, deal, hidden=(hidden, hidden), tokens=(tokens, tokens))


_STEPS = 6
"""Numbers of hidden elements of columns with heads that are tried, about."""


def _uneven(task: _Task, deal: HeadDeal, most: float) -> Iterator[Placement]:
    """Yield placements whose columns without heads have more of the rest, the fastest first.

    Those that take more than ``most`` bytes without tokens are left out.

    The fewer hidden elements columns with heads have, the more have the others, and the less fast.
    Tokens make tiles of both kinds about as full.
    """
    c, columns = task.config, task.columns
    with_heads = _with_heads(task, deal)
    without = columns - with_heads
    if without < 1:
        return
    even = max(1, c.hidden // columns)
    for hidden in range(even, 0, -max(1, even // _STEPS)):
        rest = max(1, -(-(c.hidden - with_heads * hidden) // without))
        bare = _in_the_middle(task, deal, hidden=(hidden, rest), tokens=(0, 0))
        used = [kind.used_bytes for kind in bare.programs]
        if max(used) > most:
            continue
        whole = with_heads * used[0] + without * used[1] + c.vocab * task.token_bytes
        tokens = max(0, (whole // columns - used[0]) // task.token_bytes)
        tokens = min(tokens, -(-c.vocab // with_heads))
        others = max(0, -(-(c.vocab - with_heads * tokens) // without))
        yield _in_the_middle(task, deal, hidden=(hidden, rest), tokens=(tokens, others))


def _in_the_middle(
    task: _Task, deal: HeadDeal, *, hidden: tuple[int, int], tokens: tuple[int, int]
) -> Placement:
    """Place a model with heads in the middle columns.

    ``hidden`` and ``tokens`` are those of a column with heads, and of one without.
    """
    count = _with_heads(task, deal)
    before = (task.columns - count) // 2
    headless = replace(deal, heads=0, kv_heads=0)
    shares = []
    first_hidden = first_token = 0
    for begin, end in pairwise((0, before, before + count, task.columns)):
        other = begin != before
        share = _Share(
            heads=headless if other else deal,
            hidden=hidden[other],
            vocabulary=tokens[other],
            span=range(begin, end),
            first_hidden=first_hidden,
            first_token=first_token,
        )
        first_hidden += len(share.span) * share.hidden
        first_token += len(share.span) * share.vocabulary
        if share.span:
            shares.append(share)
    shares.sort(key=lambda share: share.heads is headless)
    placed, *sides = (_arrange(task, share) for share in shares)
    return replace(placed, others=tuple(sides))


def _ways(task: _Task, most: float = inf) -> Iterator[Placement]:
    """Yield the ways to place a model, the fastest first; some that take more bytes are left out."""
    c = task.config
    positions, sequences = max(task.positions), len(task.positions)
    deals = head_deals(c, task.rows, task.columns, positions=positions, sequences=sequences)
    if task.kv_only or sequences > 1:
        yield from (_even(task, deal) for deal in deals)
        return
    for deal in deals:
        yield _apart(task, deal) if _with_heads(task, deal) < task.columns else _even(task, deal)
    for deal in deals:
        yield from _uneven(task, deal, most)


def _first(task: _Task) -> Placement:
    """Return the fastest placement that fits, or else the smallest."""
    smallest = None
    for way in _ways(task):
        if way.tile_bytes <= task.sram_bytes:
            return way
        if smallest is None or way.tile_bytes < smallest.tile_bytes:
            smallest = way
    assert smallest is not None
    return smallest


def try_place(
    config: ModelConfig, rows: int, columns: int, *, positions: int, sram_bytes: int, **kind: bool
) -> Placement | None:
    """Place a model as :func:`place` does; return None, and look no further, if it does not fit.

    ``kind``: its ``sampled`` and ``kv_only``.
    """
    if not kind.get("kv_only") and _weight_bytes(config, rows) > columns * sram_bytes:
        return None
    task = _task_of(config, rows, columns, positions, sram_bytes, **kind)
    ways = _ways(task, most=sram_bytes)
    return next((way for way in ways if way.tile_bytes <= sram_bytes), None)


def _weight_bytes(config: ModelConfig, rows: int) -> int:
    """Return the bytes that weights take in the tiles of a row, at least, however they are dealt.

    Each output has its inputs of a row in one tile, a chunk of them.
    """
    chunk = row_bytes(-(-config.dim // rows))
    layer = 2 * config.q_dim + 2 * config.kv_dim + 3 * config.hidden
    return chunk * (config.vocab + config.layers * layer)


def placed_or_smallest(
    config: ModelConfig, rows: int, columns: int, *, positions: int, sram_bytes: int, **kind: bool
) -> Placement:
    """Place a model as :func:`place` does, or if it does not fit, in the smallest tiles.

    Raises
    ------
    UnsupportedModelError
        If the head dimension is no multiple of 8.
    """
    return _first(_task_of(config, rows, columns, positions, sram_bytes, **kind))


def _task_of(
    config: ModelConfig, rows: int, columns: int, positions: int, sram_bytes: int, **kind: bool
) -> _Task:
    _check_heads(config)
    return _Task(
        config=config,
        rows=rows,
        columns=columns,
        positions=(positions,),
        sram_bytes=sram_bytes,
        one_copy=has_one_copy(config),
        **kind,
    )


def smallest_square(
    config: ModelConfig, least: int, *, positions: Sequence[int], sram_bytes: int, **kind: bool
) -> int | None:
    """Return the side, at least ``least``, of the smallest square mesh that holds a model.

    None if there is none. ``positions`` are those of each sequence; ``kind``: as of
    :func:`try_place`.

    Raises
    ------
    UnsupportedModelError
        If the head dimension is no multiple of 8.
    """
    _check_heads(config)
    return _smallest_square(
        _Task(
            config=config,
            rows=least,
            columns=least,
            positions=tuple(positions),
            sram_bytes=sram_bytes,
            one_copy=has_one_copy(config),
            **kind,
        ),
        least,
    )


def _smallest_square(task: _Task, least: int) -> int | None:
    squares = (replace(task, rows=n, columns=n) for n in range(least, 129))
    return next((s.rows for s in squares if _first(s).tile_bytes <= task.sram_bytes), None)


def _check_heads(config: ModelConfig) -> None:
    if config.head_dim % 8:
        raise UnsupportedModelError(
            f"Head dimension must be a multiple of 8, not {config.head_dim!r}"
        )


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
    one_copy: bool | None = None,
) -> Placement:
    """Place a model in a mesh, with a KV cache of ``positions``, or one for each of several.

    ``forced``: as of :class:`Placement`. ``sampled``: tokens are drawn, with noise for each.
    ``kv_only``: there is room for nothing else. ``one_copy``: embedding and output have the same
    codes; without it, if the model's shape says so.

    Raises
    ------
    UnsupportedModelError
        If the head dimension is no multiple of 8, or there are too many sequences.
    MeshTooSmallError
        If it does not fit; the message says what is missing and which square mesh would do.
    """
    _check_heads(config)
    each = (positions,) if isinstance(positions, int) else tuple(positions)
    if len(each) > MAX_SEQUENCES:
        raise UnsupportedModelError(
            f"Number of sequences must be at most {MAX_SEQUENCES}, not {len(each)!r}"
        )

    task = _Task(
        config=config,
        rows=rows,
        columns=columns,
        positions=each,
        sram_bytes=sram_bytes,
        activation_bits=activation_bits,
        forced=forced,
        sampled=sampled,
        kv_only=kv_only,
        one_copy=has_one_copy(config) if one_copy is None else one_copy,
    )
    placement = _first(task)
    missing = placement.tile_bytes - sram_bytes
    if missing > 0:
        size = _smallest_square(task, 2)
        would = f"{size}x{size} would do" if size else "no mesh up to 128x128 would do"
        what = f"{max(each)} positions"
        if len(each) > 1:
            what = f"{len(each)} sequences of {what}"
        raise MeshTooSmallError(
            f"Mesh {rows}x{columns} has {sram_bytes} bytes of SRAM in a tile, and {what} of this "
            f"model need {missing} more; {would}"
        )
    return placement
