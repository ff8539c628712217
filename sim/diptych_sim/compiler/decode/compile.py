# SPDX-License-Identifier: BSD-2-Clause
"""Compiles a model for the decode panel: everything that enters the mesh at its west edge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.config import DEFAULTS
from diptych.mesh.fabric import Load, header
from diptych.mesh.isa import INSTRUCTION_WORDS
from diptych_sim.compiler.decode.images import loaded_spans, tile_images
from diptych_sim.compiler.decode.kv_layout import KvLayout, kv_layout
from diptych_sim.compiler.decode.place import place
from diptych_sim.compiler.decode.placement import Placement, UnsupportedModelError, round_up
from diptych_sim.compiler.decode.program import (
    TOKEN_TASK,
    Rounds,
    decode_program,
    plan_rounds,
    suffix_of,
)
from diptych_sim.compiler.decode.routes import Color, RouteEntry, colors_of, route_tables
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.compiler.tile.registers import Register
from diptych_sim.golden.noise import key_of
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["DecodeProgram", "compile_decode"]

_MOST_INSTRUCTIONS = (2**16 - 1) // INSTRUCTION_WORDS
"""Those of the largest packet, in which a program is loaded."""


@dataclass(frozen=True, kw_only=True)
class DecodeProgram:
    """A model compiled for a mesh, and for lengths of prompts and numbers of tokens.

    ``prompts``: those that the mesh reads itself, a token in each round; then ``prompt_tokens`` are
    0, and ``tokens`` count theirs, too. ``stops``: tokens that end a sequence. ``seeds``: one for each, if
    tokens are drawn. ``wide``: in how many layers of each round of a single sequence, once it has run, hidden
    elements exceeded the floor of their magnitudes.
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
    wide: Sequence[int] = ()

    def ended(self, tokens: Sequence[int], wide: Sequence[int] = ()) -> DecodeProgram:
        """Return what ran of the program, if texts ended after so many tokens."""
        plan, done = [], 0
        for part in self.plan:
            longest = max(tokens[n] for n in part.active)
            plan.append(replace(part, count=max(0, min(part.count, longest - 1 - done))))
            done += part.count
        return replace(self, plan=plan, tokens=tokens, wide=wide)

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

    @cached_property
    def images(self) -> NDArray[np.uint32]:
        """The SRAM of all tiles, [rows, columns, words], before a KV cache is there."""
        p = self.placement
        if p.kv_only:
            return np.zeros((p.rows, p.columns, round_up(p.used_bytes) // 4), dtype=np.uint32)
        turns = [self.turns(row) for row in range(p.rows)]
        images = tile_images(self.model, p, turns=turns, prompts=self.prompts)
        for n, seed in enumerate(self.seeds):
            # Prefill has drawn the first token.
            for kind in p.kinds:
                columns = images[:, kind.span.start : kind.span.stop]
                at = kind.at("noise_key") // 4 + n
                columns[:, :, at] = key_of(seed, self.prompt_tokens[n] + 1)
        return images

    @cached_property
    def routes(self) -> list[list[Sequence[RouteEntry]]]:
        """The routes of every tile, ``[row][column][color]``."""
        p = self.placement
        return route_tables(p.rows, p.columns, p.split, first=p.span.start)

    @property
    def colors(self) -> int:
        """Colors that a router must have."""
        return colors_of(self.placement.split, normed=self.model.config.qk_norm)

    def load_packets(self, row: int, *, memory: bool = True) -> list[int]:
        """Return the load packets of a row: routes, program, registers, task, weights, tables.

        Weights and tables, all that lies in the SRAM, are left out without ``memory``.
        """
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

        words_of = [[entry.word() for entry in table[1:]] for table in self.routes[row]]
        # Tiles that are alike share a packet: along the whole row, or within groups that share heads.
        for first, end in ((0, Color.TOKEN), (Color.TOKEN, self.colors - 1)):
            for begin, stop in _runs([found[first:end] for found in words_of]):
                packet(Load.ROUTE, 1 + first, words_of[begin][first:end], begin, stop - 1)
        if p.kv_only:
            return words
        packet(Load.PROGRAM, 0, self.program.words(), 0, last)
        for kind in p.kinds:
            packet(Load.TASK, TOKEN_TASK, self._tasks(kind), kind.span[0], kind.span[-1])
        registers = [self._register_words(row, c) for c in range(p.columns)]
        for span in (range(Register.COUNT), range(Register.COUNT, Register.LEFT + 1)):
            parts = [[found[n] for n in span if n >= Register.FIRST] for found in registers]
            for begin, stop in _runs(parts):
                at = max(span[0], Register.FIRST)
                packet(Load.REGISTER, at, parts[begin], begin, stop - 1)
        for c in range(p.columns):
            for begin, end in loaded_spans(self.model, p.of_column(c)) if memory else ():
                words_of_tile = self.images[row, c, begin // 4 : end // 4]
                packet(Load.WORDS, begin, words_of_tile.tolist(), c, c)
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

    def _register_words(self, row: int, column: int) -> list[int]:
        values = self.registers(row, column)
        return [values.get(Register(n), 0) for n in range(Register.LEFT + 1)]

    def registers(self, row: int, column: int) -> dict[Register, int]:
        """Return what a tile's registers hold at first."""
        p = self.placement
        tokens = p.tokens(column, self.model.config.vocab)
        values = {
            Register.FIRST: tokens.start,
            Register.VOCABULARY: len(tokens),
            Register.LEFT: self.plan[0].count,
        }
        if p.sequences == 1:
            values[Register.COUNT], values[Register.TURN] = self.turns(row)[0]
        return values

    def turns(self, row: int) -> list[tuple[int, int]]:
        """Return, for each sequence, how many positions a row holds and in how many rounds it is due."""
        deal = self.placement.positions
        return [(deal.held(row, n), deal.due(row, n)) for n in self.prompt_tokens]

    def _tasks(self, kind: Placement) -> list[int]:
        """Return the task table of a kind of column: where the rounds of the plan begin."""
        return [self.program.place(f"token{suffix_of(n, kind)}") for n in range(len(self.plan))]


def _runs(values: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Yield the spans of equal neighbors."""
    begin = 0
    for stop in range(1, len(values) + 1):
        if stop == len(values) or values[stop] != values[begin]:
            yield begin, stop
            begin = stop


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
        As of :func:`.place`, or if the program is longer than can be loaded.
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
        one_copy=model.tie is not None,
    )
    program = decode_program(model, placement, plan, stops)
    if len(program.instructions) > _MOST_INSTRUCTIONS:
        raise UnsupportedModelError(
            f"Program of a tile must have at most {_MOST_INSTRUCTIONS} instructions, not "
            f"{len(program.instructions)}, for {len(counts)} sequences and {len(stops)} tokens that "
            f"end a text"
        )
    return DecodeProgram(
        model=model,
        placement=placement,
        program=program,
        layout=kv_layout(model.config, placement),
        plan=plan,
        prompt_tokens=lengths,
        tokens=counts,
        prompts=prompts,
        stops=stops,
        seeds=seeds,
    )
