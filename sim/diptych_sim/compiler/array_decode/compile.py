# SPDX-License-Identifier: BSD-2-Clause
"""Compiles a whole request for the prefill panel: the prompts, then a program for each token.

The array decodes as it reads a prompt, with the same pieces: a token of each sequence is a row, all
weights and the KV cache of each layer come from HBM, and the new keys and values go there. Scale
words stay in the panel from the prompt on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from diptych.memory.axi import BEAT_BYTES
from diptych.systolic.isa import Queue, StoreOp, Target
from diptych_sim.compiler.array.commands import PrefillProgram
from diptych_sim.compiler.array.hazards import Span
from diptych_sim.compiler.array.hbm_layout import (
    HbmImage,
    PrefillError,
    model_image,
    rope_bytes,
    round_up,
)
from diptych_sim.compiler.array.kv_rows import KvRows
from diptych_sim.compiler.prefill.memories import MATRICES, span_of
from diptych_sim.compiler.prefill.prompts import Block, Part, Prompts
from diptych_sim.compiler.prefill.whole import PrefillCompiler
from diptych_sim.golden.quantized import QuantizedModel

__all__ = ["ArrayProgram", "compile_array", "compile_serial", "compile_step"]

_CACHES = ("k_high", "v")
"""What a layer's products read of the KV cache: keys, of whichever plane, and values."""
_EARLY = 3
"""Matrices of the next layer that are asked for before a layer's attention."""


@dataclass(frozen=True, kw_only=True)
class ArrayProgram:
    """Contents of the HBM for a request on the prefill panel alone.

    Attributes
    ----------
    hbm : bytes
        Contents of the HBM.
    prefill : PrefillProgram
        Reads the prompts; hands the first tokens to the link, and nothing else.
    steps : list of PrefillProgram
        One for each further token of every sequence.
    ids : list of int
        For each step the address of the beat that takes the tokens before it, 32 bits each.
    kv : KvRows
        Where keys and values are kept.
    """

    hbm: bytes
    prefill: PrefillProgram
    steps: list[PrefillProgram]
    ids: list[int]
    kv: KvRows


@dataclass(frozen=True)
class _Steps(Prompts):
    """A token of each sequence, all at position ``at``; their caches are ``stride`` rows apart."""

    at: int
    stride: int

    @property
    def longest(self) -> int:
        return self.at + 1

    def cache_rows(self, line: int) -> int:
        return self.count * round_up(self.stride, line)

    def parts(self, block: Block) -> Iterator[Block]:
        for n in range(block.first, block.end):
            yield Part(n, 1, n * self.stride, self.at)


class _Prompts(PrefillCompiler):
    """The prompts; keys and values go to HBM."""

    def __init__(
        self,
        model: QuantizedModel,
        array: tuple[int, int],
        prompts: Prompts,
        image: tuple[HbmImage, dict[str, int]],
        kv: KvRows,
    ) -> None:
        super().__init__(model, *array, prompts, image=image, rows_whole=True)
        self.kv = kv

    def _hand_off(self, index: int) -> None:
        self.out.label(index, "store keys and values")
        for number, prompt in enumerate(self.prompts.blocks):
            self.out.store(
                StoreOp.HBM,
                reads=[span_of(name, prompt) for name in _CACHES],
                hbm=self.kv.at(index, number, 0),
                bytes=self.memories.kept,
                rows=prompt.rows,
                pitch=self.kv.pitch,
                source=self.memories.key("k_high", prompt),
                source_pitch=self.memories.kv_row,
            )


class _Serial(_Prompts):
    """The prompts; keys and values go to HBM, and from there to the link once all are there."""

    def _best_token(self, number: int, block: Block) -> None:
        if number == 0:
            for index in range(self.model.config.layers):
                self._hand_over(index)
        super()._best_token(number, block)

    def _hand_over(self, index: int) -> None:
        memories = self.memories
        self.out.label(index, "load keys and values")
        for number, prompt in enumerate(self.prompts.blocks):
            self.out.add(
                Queue.LOAD,
                Target.SCRATCHPAD,
                writes=[span_of(name, prompt) for name in _CACHES],
                hbm=self.kv.at(index, number, 0),
                bytes=memories.kept,
                rows=prompt.rows,
                pitch=self.kv.pitch,
                target=memories.key("k_high", prompt),
                target_pitch=memories.kv_row,
            )
        PrefillCompiler._hand_off(self, index)


class _Token(PrefillCompiler):
    """A token of each sequence."""

    prompts: _Steps

    def __init__(
        self,
        model: QuantizedModel,
        array: tuple[int, int],
        steps: _Steps,
        image: tuple[HbmImage, dict[str, int]],
        kv: KvRows,
    ) -> None:
        super().__init__(model, *array, steps, image=image, may_pair=False, rows_whole=True)
        self.kv = kv
        self.block = Block(0, steps.count)
        assert self.memories.kv_row == kv.pitch

    def run(self) -> PrefillProgram:
        c, count = self.model.config, self.count
        self._add_ids([0] * count)
        read = sum(self.image.size[f"layer{n}"] for n in range(c.layers))
        read += self.image.size["output"] + count * (c.dim + 4 + 2 * c.head_dim)
        read += c.layers * count * self.prompts.at * self.memories.kept
        for index in range(c.layers):
            self._layer(index, last=index + 1 == c.layers)
        self._best_tokens()
        return self._finish(read)

    # --- loads ---------------------------------------------------------------------------------
    def _load_prompt(self, block: Block) -> None:
        memories, out = self.memories, self.out
        self._load_rows(block)
        out.label(None, "load prompt")
        for n in range(block.rows):
            out.load(
                Target.VECTOR,
                "rope rows",
                memories.rope + n * memories.rope_row,
                fills=Span("rope", n, n + 1),
                hbm=self.image.at["rope rows"] + self.prompts.at * _rope_pitch(self),
                bytes=rope_bytes(self.model.config, self.columns),
            )
        self._load_caches(0)
        self._load_weights(0, MATRICES)

    def _load_caches(self, index: int) -> None:
        """Load keys and values of all earlier positions."""
        memories, steps = self.memories, self.prompts
        self.out.label(index, "load keys and values")
        for n in range(self.count if steps.at else 0):
            first = n * steps.stride
            self.out.add(
                Queue.LOAD,
                Target.SCRATCHPAD,
                writes=[Span(name, first, first + steps.at) for name in _CACHES],
                hbm=self.kv.at(index, n, 0),
                bytes=steps.at * self.kv.pitch,
                rows=1,
                target=memories.scratch["k_high"] + first * memories.kv_row,
            )

    # --- keys and values -----------------------------------------------------------------------
    def _target(self, name: str, block: Block, width: int) -> dict[str, int]:
        if name not in _CACHES:
            return super()._target(name, block, width)
        row = self.memories.kv_row
        return {
            "target": self.memories.scratch[name] + self.prompts.at * row,
            "target_row": self.prompts.stride * row,
            "target_n": self.columns,
        }

    def _new_rows(self, name: str) -> list[Span]:
        steps = self.prompts
        firsts = (n * steps.stride + steps.at for n in range(self.count))
        return [Span(name, first, first + 1) for first in firsts]

    def _rows_of(self, name: str, block: Block) -> list[Span]:
        return self._new_rows(name) if name in _CACHES else super()._rows_of(name, block)

    def _hand_off(self, index: int) -> None:
        self.out.label(index, "store keys and values")
        row = self.memories.kv_row
        self.out.store(
            StoreOp.HBM,
            reads=[span for name in _CACHES for span in self._new_rows(name)],
            hbm=self.kv.at(index, 0, self.prompts.at),
            bytes=self.memories.kept,
            rows=self.count,
            pitch=self.kv.sequence_pitch,
            source=self.memories.scratch["k_high"] + self.prompts.at * row,
            source_pitch=self.prompts.stride * row,
        )

    # --- a layer -------------------------------------------------------------------------------
    def _layer(self, index: int, *, last: bool) -> None:
        block = self.block
        if index == 0:
            self._load_prompt(block)
            self._embed(block)
            self._norm(0, block)
        for name in "qkv":
            self._project(index, name, block)
        if last:
            self._load_output()
        else:
            self._load_weights(index + 1, MATRICES[:_EARLY])
        self._hand_off(index)
        self._attention(index, [block])
        if not last:
            self._load_caches(index + 1)
            self._load_weights(index + 1, MATRICES[_EARLY:])
        self._gate(index, block)
        self._residual(index, "w_down", "hidden", block, dynamic=True)
        self._norm(index + 1, block)

    def _best_tokens(self) -> None:
        for number, step in enumerate(self.prompts.parts(self.block)):
            self._best_token(number, step)


def _rope_pitch(token: PrefillCompiler) -> int:
    return round_up(rope_bytes(token.model.config, token.columns), BEAT_BYTES)


def compile_array(
    model: QuantizedModel,
    rows: int,
    columns: int,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    *,
    behind: HbmImage | None = None,
) -> ArrayProgram:
    """Compile a request of prompts of one length, ``tokens`` to be written after each.

    Its part of the HBM is behind what the image ``behind`` has, if one is given, and is added to it.

    Raises
    ------
    PrefillError
        If the prompts do not have one length, or something does not fit into the panel.
    ValueError
        If a side of the array is not a power of two from 4 to 128.
    """
    lengths = {len(prompt) for prompt in prompts}
    if len(lengths) != 1:
        raise PrefillError(
            f"Prompts of a batch must have one length on the array, not {sorted(lengths)}"
        )
    length, array = lengths.pop(), (rows, columns)
    positions = length + tokens - 1
    image, kv = _image(model, array, sequences=len(prompts), positions=positions, behind=behind)
    prefill = _Prompts(model, array, Prompts(prompts), image, kv).run()
    steps, ids = [], []
    for at in range(length, positions):
        steps.append(_Token(model, array, _steps(array, len(prompts), at), image, kv).run())
        ids.append(image[0].at["ids"])
    return ArrayProgram(hbm=bytes(image[0].data), prefill=prefill, steps=steps, ids=ids, kv=kv)


def compile_step(
    model: QuantizedModel, rows: int, columns: int, *, sequences: int, position: int
) -> PrefillProgram:
    """Compile one token of each sequence, at ``position``; raises what :func:`compile_array` does."""
    array = (rows, columns)
    image, kv = _image(model, array, sequences=sequences, positions=position + 1)
    return _Token(model, array, _steps(array, sequences, position), image, kv).run()


def _steps(array: tuple[int, int], sequences: int, at: int) -> _Steps:
    return _Steps([[0]] * sequences, at, round_up(at + 1, max(array)))


def compile_serial(
    model: QuantizedModel, rows: int, columns: int, *prompts: Sequence[int]
) -> PrefillProgram:
    """Compile prompts as :func:`.compile_prefill` does, but hand off nothing before all is computed.

    Keys and values wait in HBM. Raises what that raises.
    """
    array, of = (rows, columns), Prompts(prompts)
    image, kv = _image(model, array, sequences=len(prompts), positions=of.longest)
    return _Serial(model, array, of, image, kv).run()


def _image(
    model: QuantizedModel,
    array: tuple[int, int],
    *,
    sequences: int,
    positions: int,
    behind: HbmImage | None = None,
) -> tuple[tuple[HbmImage, dict[str, int]], KvRows]:
    """Return the model's part of the HBM with room for keys and values, and where that is."""
    columns, line, c = array[1], max(array), model.config
    image, entries = model_image(model, array=array, image=behind)
    # RoPE's factors by position, each from a beat on: loads begin at beats.
    factors = model.rope.reshape(c.context, c.head_dim).astype("<i2")
    factors = np.tile(factors, (1, max(c.head_dim, columns) // c.head_dim))
    wide = np.zeros((c.context, round_up(2 * factors.shape[1], BEAT_BYTES) // 2), dtype="<i2")
    wide[:, : factors.shape[1]] = factors
    image.add("rope rows", wide)
    kv = KvRows.add(image, c, line, sequences=sequences, positions=positions)
    return (image, entries), kv
