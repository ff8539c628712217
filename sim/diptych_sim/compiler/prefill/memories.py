# SPDX-License-Identifier: BSD-2-Clause
"""Where a prefill keeps what, in the panel's memories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.panel import panel_sizes
from diptych.systolic.scratchpad import BANKS
from diptych_sim.compiler.array.hazards import Span
from diptych_sim.compiler.array.hbm_layout import HbmImage, Lanes, PrefillError, packs, round_up
from diptych_sim.compiler.prefill.prompts import Block, Prompts
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["MATRICES", "STAGES", "Cache", "Memories", "fitting", "span_of"]

MATRICES = ("wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down")
STAGES = 4
"""Parts of matrices that lie in the scratchpad at once, where not all do."""
_MOST_ROWS = 128
"""Rows of a block: more would not make the array busier."""


def span_of(name: str, block: Block) -> Span:
    """Return what a block's rows are of something that all rows have."""
    return Span(name, block.first, block.end)


@dataclass(frozen=True)
class Cache:
    """Keys and values that a block attends to.

    Attributes
    ----------
    planes : mapping of str to int
        For each plane of the keys, and for the values, the address of position 0.
    row : int
        Bytes from a position to the next one.
    spans : mapping of str to Span
        What is read of each.
    first : int
        Byte of a plane at which these addresses are.
    """

    planes: Mapping[str, int]
    row: int
    spans: Mapping[str, Span]
    first: int = 0


class Memories:
    """Addresses in scratchpad (``scratch``, bytes), vector memory (entries) and accumulators.

    Accumulators are used in halves, in turn: the array fills one while the vector unit empties the
    other. Sums of contexts have two places of their own behind these (``contexts``), if there is
    room: else the scores that come next would wait for them. Row states ``0`` to ``count - 1`` are
    those of the layers' rows, and the second half of them, in two parts in turn, those of attention.

    Rows of keys and values are ``kv_row`` bytes apart. With ``rows_whole`` the planes of a key and
    the value of a position lie in one row, ``kept`` bytes of it as they are kept in HBM.

    If ``streamed``, weights have :data:`STAGES` stages of ``stage`` bytes, which parts of matrices
    fill in turn; else matrices of two layers, and the output, lie there as a whole.

    Raises
    ------
    PrefillError
        If something does not fit.
    """

    def __init__(
        self,
        model: QuantizedModel,
        image: HbmImage,
        *,
        array: tuple[int, int],
        prompts: Prompts,
        queries: Lanes,
        contexts: Lanes,
        paired: bool,
        rows_whole: bool = False,
        streamed: bool = False,
    ) -> None:
        self.streamed = streamed
        c = model.config
        rows, columns = array
        self.prompts = prompts
        self.sampled = model.noise_shift is not None
        self.count = count = prompts.count
        self.columns = columns
        self.sizes = panel_sizes(rows, columns)
        self.line = line = self.sizes.line
        self.dim = round_up(c.dim, line)
        self.hidden = round_up(c.hidden, line)
        self.kv = round_up(c.kv_dim, line)
        self.positions = round_up(prompts.longest, line)
        self.states = self.sizes.rows // 2
        if count > self.states:
            raise PrefillError(
                f"{self._what()} must have at most {self.states} tokens in this panel, not {count!r}"
            )
        most = self._most_rows()
        self.contexts = most * max(1, c.head_dim // columns)
        if 16 * self.contexts > self.sizes.accumulators:
            self.contexts = 0
        self.half = self.sizes.accumulators // 2 - self.contexts
        self.blocks = self._blocks()
        most = max(block.rows for block in self.blocks)
        matrices = {
            f"{name}{parity}": max(image.size[f"layer{n}.{name}"] for n in range(c.layers))
            for parity in range(min(2, c.layers))
            for name in MATRICES
        }
        rows_of = {
            "embedding": count * self.dim,
            "normed": count * self.dim,
            "q_high": count * queries.total,
            "q_low": count * queries.total,
            "context": count * contexts.total,
            "hidden": count * self.hidden,
            "powers0": self._powers(most),
            "powers1": self._powers(most),
        }
        cache_rows = prompts.cache_rows(line)
        # Planes of a key side by side, in lines of the even and of the odd heads of a pair.
        beside = ("k_even", "k_odd") if paired else ()
        self.kept = 3 * self.kv
        self.kv_row = self.kv
        caches = dict.fromkeys(("k_high", "k_low", *beside, "v"), cache_rows * self.kv)
        if rows_whole:
            self.kv_row = round_up(len(caches) * self.kv, max(line, BEAT_BYTES))
            caches = {"k_high": cache_rows * self.kv_row}
        caches |= self._head_caches()
        matrices["output"] = image.size["output"]
        if model.tie is not None:
            matrices["w_tie0"] = image.size["layer0.w_tie"]
        weights = {} if streamed else matrices
        # The array reads a row and a line of weights in each cycle: from two banks. If there is
        # room, keys and values have banks of their own, too, for the hand-off reads them meanwhile.
        parts = (rows_of, caches, weights)
        bank = self.sizes.scratchpad // BANKS
        banks = sum(
            -(-sum(round_up(size, line) for size in part.values()) // bank) for part in parts
        )
        if banks > BANKS:
            parts = (rows_of, caches | weights)
        self.scratch: dict[str, int] = {}
        base = 0
        for part in filter(None, parts):
            base = round_up(base, bank)
            for name, size in part.items():
                self.scratch[name] = base
                base = round_up(base + size, line)
        self.stage = 0
        if streamed:
            # A stage holds at least a column of tiles, and a head's queries or keys.
            widest = max(self.dim * max(1, c.head_dim // columns), self.hidden, contexts.total)
            base = self._place_stages(base, widest * columns)
        if rows_whole:
            for number, name in enumerate(("k_high", "k_low", "v", *beside)):
                self.scratch[name] = self.scratch["k_high"] + number * self.kv
        self.rope_row = max(1, c.head_dim // columns)
        self.x = 0
        self.gated = count * self.dim // columns
        self.rope = self.gated + count * self.hidden // columns
        self.heads = self.rope + count * self.rope_row
        entries = self.heads + (count * max(1, c.head_dim // columns) if c.qk_norm else 0)
        biases = 2 * (queries.total + 2 * self.kv) // columns if c.qkv_bias else 0
        logits = 1 if streamed else -(-c.vocab // columns)
        sums = max(2, self.rope_row) * most
        scales = image.size["parameters"] // 4 // columns
        if streamed:
            vocabulary = round_up(c.vocab, line) // columns
            tied = 0 if model.tie is None else self.dim // columns
            scales = 2 * (-(-(scales - vocabulary - tied) // c.layers) + tied)
        for what, needed, there in (
            ("scratchpad bytes", base, self.sizes.scratchpad),
            ("vector entries", entries, self.sizes.vectors),
            ("bias entries", biases, self.sizes.biases),
            ("accumulator entries", 2 * max(sums, logits), 2 * self.half),
            ("parameter entries", scales, self.sizes.parameters),
        ):
            if needed > there:
                raise PrefillError(
                    f"{self._subject()} needs {needed} {what} of the prefill panel, "
                    f"which has {there}"
                )

    def _place_stages(self, base: int, least: int) -> int:
        """Place the stages, of at least so many bytes, from ``base`` on; return where they end.

        They have banks of their own if there is room.
        """
        size = self.sizes.scratchpad
        start = round_up(base, size // BANKS)
        if start + STAGES * least > size:
            start = base
        self.stage = max(0, size - start) // STAGES // self.line * self.line
        for number in range(STAGES):
            self.scratch[f"stage{number}"] = start + number * self.stage
        return start + STAGES * max(self.stage, least)

    def _most_rows(self) -> int:
        """Return the most rows of a block."""
        return min(_MOST_ROWS, self.states // 2)

    def _powers(self, rows: int) -> int:
        """Return the bytes of powers of so many rows."""
        return rows * self.positions

    def _head_caches(self) -> dict[str, int]:
        """Return the sizes of what holds keys and values beside those of these rows."""
        return {}

    def _blocks(self) -> tuple[Block, ...]:
        """Split the rows: at least in two if that leaves the array full, scores fit a half."""
        side = self.line
        most = self._most_rows()
        # Where weights come with their products, a second block of rows would load them again.
        if self.count <= 2 * most and not (self.streamed and self.count <= most):
            most = max(side, round_up(-(-self.count // 2), side))
        blocks = []
        first = 0
        while first < self.count:
            rows = min(most, self.count - first)
            while rows > 1 and self._scores(first, rows) > self.half:
                rows = max(1, rows - side)
            blocks.append(Block(first, rows))
            first += rows
        return tuple(blocks)

    def _scores(self, first: int, rows: int) -> int:
        """Most accumulator entries of a head's scores in a block."""
        parts = self.prompts.parts(Block(first, rows))
        return max(part.rows * -(-part.seen.rows // self.columns) for part in parts)

    def parts(self, block: Block) -> Iterator[Block]:
        """Split a block into rows of one prompt whose scores fit a half."""
        yield from self.prompts.parts(block)

    def power_row(self, _block: Block) -> int:
        """Return the bytes from a row of powers to the next one, of rows with one head's scores."""
        return self.positions

    def cache(self, block: Block) -> Cache:
        """Return the keys and values that a block attends to; rows of one prompt."""
        names = [
            name for name in ("k_high", "k_low", "k_even", "k_odd", "v") if name in self.scratch
        ]
        return Cache(
            planes={name: self.key(name, block) for name in names},
            row=self.kv_row,
            spans={name: span_of(name, block.seen) for name in names},
        )

    def _what(self) -> str:
        return "Prompt" if len(self.prompts.tokens) == 1 else "Batch of prompts"

    def _subject(self) -> str:
        return f"{self._what()} of {self.count} tokens"

    def key(self, name: str, block: Block) -> int:
        """Address of the first key or value of a block's prompt."""
        return self.scratch[name] + block.origin * self.kv_row

    def groups(
        self, tiles: int, rows: int, depth: int, share: int = 1, unit: int = 1
    ) -> list[tuple[int, int]]:
        """Split column tiles so that the sums of a group fit ``share`` times into a half.

        Where weights are streamed, those of a group, ``depth`` rows, fit into a stage, too. Groups begin
        at multiples of ``unit`` tiles.
        """
        most = max(unit, self.half // share // rows)
        if self.streamed:
            most = min(most, self.stage // (depth * self.columns))
        return self._split(tiles, most // unit * unit)

    def output_groups(self, tiles: int) -> list[tuple[int, int]]:
        """Split the column tiles of the output so that logits, weights, scales and noise have room."""
        most = tiles
        if self.streamed:
            scales = self.sizes.parameters // 2
            most = min(self.half, scales, self.stage // (self.dim * self.columns))
        if self.sampled:
            most = min(most, self.sizes.biases)
        return self._split(tiles, most)

    def _split(self, tiles: int, most: int) -> list[tuple[int, int]]:
        return [(start, min(most, tiles - start)) for start in range(0, tiles, most)]


def fitting(memories: type[Memories], *where: Any, **rest: Any) -> Memories:
    """Return memories of a kind with whole matrices if these fit, else with stages.

    Parameters are those of the kind, but for ``streamed``.
    """
    try:
        return memories(*where, **rest)
    except PrefillError:
        if not packs(*rest["array"]):
            raise
        return memories(*where, streamed=True, **rest)
