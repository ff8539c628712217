# SPDX-License-Identifier: BSD-2-Clause
"""Compiles a model for the decode panel: everything that enters the mesh at its west edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diptych.config import DEFAULTS
from diptych.mesh.fabric import Load, header
from diptych_sim.compiler.decode.kv_layout import KvLayout, kv_layout, pack_bytes
from diptych_sim.compiler.decode.placement import Placement, State, UnsupportedModelError, place
from diptych_sim.compiler.decode.program import TOKEN_TASK, Rounds, decode_program, plan_rounds
from diptych_sim.compiler.decode.routes import Color, route_tables
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.registers import Register
from diptych_sim.golden import numbers
from diptych_sim.golden.noise import key_of
from diptych_sim.golden.quantized import QuantizedLayer, QuantizedModel

__all__ = ["DecodeProgram", "compile_decode"]

_WORDS = np.dtype("<u4")


@dataclass(frozen=True, kw_only=True)
class DecodeProgram:
    """A model compiled for a mesh, and for lengths of prompts and numbers of tokens.

    ``prompts``: those that the mesh reads itself, a token in each round; then ``prompt_tokens`` are
    0, and ``tokens`` count theirs, too. ``stops``: tokens that end a sequence. ``seeds``: one for each, if
    tokens are drawn.
    """

    model: QuantizedModel
    placement: Placement
    program: Assembler
    layout: KvLayout
    plan: Sequence[Rounds]
    prompt_tokens: Sequence[int]
    tokens: Sequence[int]
    prompts: Sequence[Sequence[int]] = ()
    stops: Sequence[int] = ()
    seeds: Sequence[int] = ()

    def ended(self, tokens: Sequence[int]) -> DecodeProgram:
        """Return what ran of the program, if texts ended after so many tokens."""
        plan, done = [], 0
        for part in self.plan:
            longest = max(tokens[n] for n in part.active)
            plan.append(replace(part, count=max(0, min(part.count, longest - 1 - done))))
            done += part.count
        return replace(self, plan=plan, tokens=tokens)

    @property
    def program_depth(self) -> int:
        """Instructions that the program memory of a tile must hold: a power of two."""
        return max(256, 1 << (len(self.program.instructions) - 1).bit_length())

    @property
    def round_ends(self) -> list[int]:
        """The number of the token with which each round ends, counted from 0 over all sequences.

        Round 0 are the first tokens, which prefill writes; rounds that write nothing are left out.
        """
        ends = [len(self.tokens) - 1]
        for part in self.plan:
            for _ in range(0 if part.forced else part.count):
                ends.append(ends[-1] + sum(self.tokens[n] > len(ends) for n in part.active))
        return ends

    def load_packets(self, row: int) -> list[int]:
        """Return the load packets of a row: routes, program, registers, task, weights, tables."""
        p = self.placement
        last = p.columns - 1
        words: list[int] = []

        def packet(kind: Load, address: int, payload: list[int], first: int, last: int) -> None:
            words.extend(
                header(
                    kind,
                    count=len(payload),
                    first_column=first,
                    last_column=last,
                    address=address,
                )
            )
            words.extend(payload)

        for c, table in enumerate(route_tables(p.rows, p.columns)[row]):
            packet(Load.ROUTE, 1, [entry.word() for entry in table[1:]], c, c)
        if p.kv_only:
            return words
        packet(Load.PROGRAM, 0, self.program.words(), 0, last)
        packet(Load.TASK, TOKEN_TASK, self._tasks(), 0, last)
        for c in range(p.columns):
            values = self.registers(row, c)
            span = range(min(values), max(values) + 1)
            packet(Load.REGISTER, span[0], [values.get(Register(n), 0) for n in span], c, c)
            image = self._image(row, c)
            for begin, end in self._loaded():
                packet(Load.WORDS, begin, image[begin // 4 : end // 4].tolist(), c, c)
        return words

    def start_packets(self, *tokens: int) -> list[int]:
        """Return the packets, the same for each row, that start decoding after the first tokens."""
        last = self.placement.columns - 1
        *others, final = tokens
        words = []
        if others:
            at = self.placement.at("arguments")
            words += header(
                Load.WORDS, count=len(others), first_column=0, last_column=last, address=at
            )
        start = header(Load.ACTIVATE, count=1, first_column=0, last_column=last, address=TOKEN_TASK)
        return [*words, *others, *start, final]

    def registers(self, row: int, column: int) -> dict[Register, int]:
        """Return what a tile's registers hold at first."""
        p = self.placement
        first = column * p.vocabulary
        values = {
            Register.FIRST: first,
            Register.VOCABULARY: max(0, min(p.vocabulary, self.model.config.vocab - first)),
            Register.LEFT: self.plan[0].count,
            # Where sums of columns end, so that no row waits for it.
            Register.HAS_EPSILON: int(row == p.rows // 2),
        }
        if p.sequences == 1:
            values[Register.COUNT], values[Register.TURN] = self.turns(row)[0]
        return values

    def turns(self, row: int) -> list[tuple[int, int]]:
        """Return, for each sequence, how many positions a row holds and in how many rounds it is due."""
        rows = self.placement.rows
        return [(len(range(row, n, rows)), (row - n) % rows) for n in self.prompt_tokens]

    def _tasks(self) -> list[int]:
        """Return the task table: where the rounds of the plan begin."""
        names = [f"token.{n}" if n else "token" for n in range(len(self.plan))]
        return [self.program.place(name) for name in names]

    def _loaded(self) -> list[tuple[int, int]]:
        """Spans of addresses that are loaded: neither KV caches nor buffers, but for epsilons."""
        p = self.placement
        first = p.at("prompts") if p.forced else p.at("rope_table")
        spans = [(first, p.layers_base)]
        for n in range(p.sequences):
            end = p.at("x", n) + 4 * p.chunk
            spans.append((end, end + 4))
        for layer in range(self.model.config.layers):
            base = layer * p.layer_bytes
            spans.append((base + p.at("qkv"), base + p.at("keys")))
        return spans

    def _image(self, row: int, column: int) -> NDArray[np.uint32]:
        """Return a tile's memory as words."""
        m, p = self.model, self.placement
        image = np.zeros(-(-p.used_bytes // 8) * 2, dtype=_WORDS)

        def write(address: int, words: list[int]) -> None:
            image[address // 4 : address // 4 + len(words)] = words

        for n in range(p.sequences):
            write(p.at("x", n) + 4 * p.chunk, [m.epsilon])
        mine = _Part(m, p, row, column)
        tokens = slice(column * p.vocabulary, (column + 1) * p.vocabulary)
        factors = m.rope[row :: p.rows][: p.slots]
        for n, prompt in enumerate(self.prompts if p.forced else ()):
            write(p.at("prompts") + 4 * p.forced * n, list(prompt[1:]))
        write(p.at("rope_table"), pack_bytes(_split16(factors.reshape(-1))))
        for n, seed in enumerate(self.seeds):
            # Prefill has drawn the first token.
            write(p.at("noise_key") + 4 * n, [int(key_of(seed, self.prompt_tokens[n] + 1))])
        write(p.at("embedding"), pack_bytes(mine.inputs(m.embedding[tokens])))
        write(p.at("embedding_scale"), m.embedding_scale[tokens].tolist())
        write(p.at("output"), pack_bytes(mine.inputs(m.output[tokens])))
        write(p.at("output_scale"), m.output_scale[tokens].tolist())
        for n in range(p.sequences if p.sequences > 1 else 0):
            state = [0] * len(State)
            state[State.COUNT], state[State.TURN] = self.turns(row)[n]
            write(p.at("state", n), state)
        for index, layer in enumerate(m.layers):
            for name, words in mine.layer(layer).items():
                write(p.at(name) + index * p.layer_bytes, words)
        return image


class _Part:
    """The part of matrices that a tile holds."""

    def __init__(self, model: QuantizedModel, place: Placement, row: int, column: int) -> None:
        c = model.config
        d = c.head_dim
        group = c.heads // c.kv_heads
        self.place = place
        self.rows = slice(row * place.chunk, (row + 1) * place.chunk)
        first = min(column * place.heads, c.heads)
        end = min(first + place.heads, c.heads)
        self.q = slice(first * d, end * d)
        kv_end = -(-end // group)
        self.kv = slice(min(first // group, kv_end) * d, kv_end * d)
        if first == end:
            self.kv = slice(0, 0)
        self.hidden = slice(column * place.hidden, (column + 1) * place.hidden)
        self.head_dim = d

    def inputs(self, matrix: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the columns of the tile's residual elements, zeros behind."""
        return _pad(matrix[:, self.rows], matrix.shape[0], self.place.chunk)

    def layer(self, w: QuantizedLayer) -> dict[str, list[int]]:
        """Return the words of the regions of a layer."""
        p, d = self.place, self.head_dim
        q, kv = p.heads * d, p.kv_heads * d
        qkv = [
            _pad(self.inputs(matrix[span]), size, p.chunk)
            for matrix, span, size in ((w.wq, self.q, q), (w.wk, self.kv, kv), (w.wv, self.kv, kv))
        ]
        scales = [
            _pad1(scale[span], size)
            for scale, span, size in (
                (w.q_scale, self.q, q),
                (w.k_scale, self.kv, kv),
                (w.v_scale, self.kv, kv),
            )
        ]
        gate, up = (
            _pad(self.inputs(matrix[self.hidden]), p.hidden, p.chunk)
            for matrix in (w.w_gate, w.w_up)
        )
        pair = np.stack([gate, up], axis=1).reshape(2 * p.hidden, p.chunk)
        pair_scale = np.stack(
            [_pad1(scale[self.hidden], p.hidden) for scale in (w.gate_scale, w.up_scale)], axis=1
        )
        return {
            "qkv": pack_bytes(np.concatenate(qkv)),
            "qkv_scale": self._with_biases(np.concatenate(scales), w),
            **self._head_norms(w),
            "wo": pack_bytes(_pad(w.wo[self.rows, self.q], p.chunk, q)),
            "o_scale": _pad1(w.o_scale[self.rows], p.chunk).tolist(),
            "w_gate_up": pack_bytes(pair),
            "gate_up_scale": pair_scale.reshape(-1).tolist(),
            "w_down": pack_bytes(_pad(w.w_down[self.rows, self.hidden], p.chunk, p.hidden)),
            "down_scale": _pad1(w.down_scale[self.rows], p.chunk).tolist(),
            "constants": [
                int(w.score_scale),
                int(w.context_scale),
                numbers.GATE_FRACTION - w.gate_fraction,
                *([] if w.q_norm is None else [w.q_epsilon, w.k_epsilon]),
            ],
        }

    def _with_biases(self, scales: NDArray[np.int64], w: QuantizedLayer) -> list[int]:
        """Return scale words of queries, keys and values, each with its bias if there are any."""
        if w.bq is None or w.bk is None or w.bv is None:
            return scales.tolist()
        q, kv = self.place.heads * self.head_dim, self.place.kv_heads * self.head_dim
        parts = ((w.bq[self.q], q), (w.bk[self.kv], kv), (w.bv[self.kv], kv))
        biases = np.concatenate([_pad1(part, size) for part, size in parts])
        return (np.stack([scales, biases], axis=1).reshape(-1) & 0xFFFFFFFF).tolist()

    def _head_norms(self, w: QuantizedLayer) -> dict[str, list[int]]:
        if w.q_norm is None or w.k_norm is None:
            return {}
        return {"q_norm": w.q_norm.tolist(), "k_norm": w.k_norm.tolist()}


def _pad(matrix: NDArray[np.int8], rows: int, columns: int) -> NDArray[np.int8]:
    return np.pad(matrix, ((0, rows - matrix.shape[0]), (0, columns - matrix.shape[1])))


def _pad1(values: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.pad(values, (0, size - len(values)))


def _split16(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack([values & 0xFF, values >> 8 & 0xFF], axis=-1).reshape(-1)


def compile_decode(
    model: QuantizedModel,
    rows: int,
    columns: int,
    *,
    prompt_tokens: int | Sequence[int],
    tokens: int | Sequence[int],
    sram_bytes: int = DEFAULTS.sram_bytes,
    prompts: Sequence[Sequence[int]] = (),
    stops: Sequence[int] = (),
    seeds: Sequence[int] = (),
    kv_only: bool = False,
) -> DecodeProgram:
    """Compile a model for a mesh of ``rows`` x ``columns`` tiles.

    ``tokens`` are written in all, of which prefill writes the first: the KV cache has room for
    ``prompt_tokens + tokens - 1`` positions. Several sequences are decoded at once if the numbers
    of each are given. Of ``prompts`` that the mesh reads itself, all ``prompt_tokens`` and all
    ``tokens`` must be the same; then it writes the first token, too. Tokens of ``stops`` end a
    sequence before (:func:`.decode_program`). Of a model whose tokens are drawn, each sequence has
    one of ``seeds``. With ``kv_only`` the mesh holds keys and values, and nothing runs.

    Raises
    ------
    MeshTooSmallError, UnsupportedModelError
        As of :func:`.place`.
    """
    lengths = [prompt_tokens] if isinstance(prompt_tokens, int) else list(prompt_tokens)
    counts = [tokens] if isinstance(tokens, int) else list(tokens)
    positions = [a + b - 1 for a, b in zip(lengths, counts, strict=True)]
    assert len(seeds) == (0 if model.noise_shift is None else len(lengths))
    forced, plan = 0, plan_rounds(counts)
    if prompts:
        assert not seeds
        if len({*lengths}) != 1 or len({*counts}) != 1:
            raise UnsupportedModelError(
                f"Prompts that the mesh reads together must have one length, not {lengths}"
            )
        active = tuple(range(len(prompts)))
        forced, plan = lengths[0] - 1, [Rounds(active, counts[0])]
        if forced:
            plan.insert(0, Rounds(active, forced, forced=True))
        counts = [a + b for a, b in zip(lengths, counts, strict=True)]
        lengths = [0] * len(lengths)
    placement = place(
        model.config,
        rows,
        columns,
        positions=positions,
        sram_bytes=sram_bytes,
        forced=forced,
        activation_bits=model.activation_bits,
        sampled=bool(seeds),
        kv_only=kv_only,
    )
    assert len(Color) <= 10
    return DecodeProgram(
        model=model,
        placement=placement,
        program=decode_program(model, placement, plan, stops),
        layout=kv_layout(model.config, placement),
        plan=plan,
        prompt_tokens=lengths,
        tokens=counts,
        prompts=prompts,
        stops=stops,
        seeds=seeds,
    )
