# SPDX-License-Identifier: BSD-2-Clause
"""Programs of a generation, and the jobs that run them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

from diptych.config import MachineConfig
from diptych.link.layout import HEADS, Settings
from diptych.systolic.isa import Queue
from diptych_sim.compiler.array_decode.compile import compile_serial
from diptych_sim.compiler.decode.compile import DecodeProgram, compile_decode
from diptych_sim.compiler.decode.placement import UnsupportedModelError
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.prefill.compile import PrefillProgram, compile_prefill
from diptych_sim.cost.prefill import PrefillCost
from diptych_sim.cost.requests import panel_cost
from diptych_sim.golden.quantized import QuantizedModel
from diptych_sim.golden.sequence import GoldenSequence, golden_sequence
from diptych_sim.host.jobs import DecodeJob, GenerateJob, Words

from .comparison import inspection

__all__ = [
    "HandOff",
    "Programs",
    "Stage",
    "compile_programs",
    "mesh_fields",
    "with_room",
]

LINK_SIDE = 128
"""Rows and columns of a mesh that the link is tested with, at most."""

Stage = Literal["all", "prefill", "decode"]
"""Prefill, link and decode; prefill alone, the tiles being memory for keys and values; or decode
alone."""
HandOff = Literal["layer-wise", "serial"]
"""Keys and values cross the link with each layer, or once prefill has computed everything."""

_TOKEN_LIMIT = 2_000_000
"""Cycles that a token of the whole machine may take, beside those of the prompt."""
_DECODE_LIMIT = 1_000_000
"""Cycles that a token of decode alone may take."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Programs for prompts, and the golden model's tokens.

    Attributes
    ----------
    machine : MachineConfig
        The machine, large enough for the programs.
    decode : DecodeProgram
        Program of the mesh.
    prefill : PrefillProgram or None
        Program of the prefill panel; None for decode alone.
    prompts : sequence of sequence of int
        The prompts.
    golden : list of GoldenSequence
        The golden model's tokens, norms and KV cache of each.
    preloaded : bool
        Whether the weights are in the tiles before the first cycle: then jobs load everything else.
    """

    machine: MachineConfig
    decode: DecodeProgram
    prefill: PrefillProgram | None
    prompts: Sequence[Sequence[int]]
    golden: list[GoldenSequence]
    preloaded: bool = False

    @property
    def expected(self) -> list[list[int]]:
        """Tokens of the golden model after each prompt."""
        return [sequence.tokens for sequence in self.golden]

    @cached_property
    def prefill_cost(self) -> PrefillCost:
        """What the prefill program should take on the machine."""
        assert self.prefill is not None
        return panel_cost(self.prefill, self.machine)

    @property
    def _texts(self) -> dict[str, Any]:
        """Fields of a job: what to write, and what to inspect."""
        return {
            "counts": list(self.decode.tokens),
            "stops": list(self.decode.stops),
            "inspection": inspection(self.decode),
        }

    def decode_job(self, **fields: Any) -> DecodeJob:
        """Return the job of decode alone, with further fields of it.

        KV cache and first tokens are the golden model's: a back door.
        """
        first = [tokens[0] for tokens in self.expected]
        return DecodeJob(
            **mesh_fields(self.machine, self.decode),
            **self._texts,
            load=self._decode_load(first),
            first=first,
            limit=_DECODE_LIMIT,
            **fields,
        )

    def generate_job(self, **fields: Any) -> GenerateJob:
        """Return the job of the whole machine, with further fields of it."""
        assert self.prefill is not None
        return GenerateJob(
            **mesh_fields(self.machine, self.decode),
            **self._texts,
            load=self._load(),
            limit=_TOKEN_LIMIT + 4 * self.prefill_cost.predicted_cycles,
            hbm="hbm.bin",
            hbm_digest=hashlib.sha256(self.prefill.hbm).hexdigest(),
            program=self.prefill.start,
            settings=list(_link_settings(self.decode).items()),
            array=self.machine.array,
            weight_rows=self.machine.weight_rows,
            link_latency=self.machine.link_latency,
            layers=_layer_ends(self.prefill),
            **fields,
        )

    def _load(self) -> Words:
        rows = range(self.decode.placement.rows)
        return [self.decode.load_packets(row, memory=not self.preloaded) for row in rows]

    def _decode_load(self, first: Sequence[int]) -> Words:
        """Return the words of each row: program, golden KV cache, first tokens."""
        program = self.decode
        rows = range(program.placement.rows)
        load = self._load()
        for number, prompt in enumerate(self.prompts):
            for (layer, cache), position, row in itertools.product(
                enumerate(self.golden[number].cache), range(len(prompt)), rows
            ):
                keys, values = cache.keys[position], cache.values[position]
                load[row] += program.layout.packets(
                    row, layer, position, keys, values, prompt=number
                )
        for words in load:
            words += program.start_packets(*first)
        return load


def mesh_fields(machine: MachineConfig, decode: DecodeProgram) -> dict[str, Any]:
    """Return the fields of a job that runs a program of decode on a machine's mesh."""
    return {
        "mesh": machine.mesh,
        "parameters": {
            "colors": machine.colors,
            "sram_bytes": machine.sram_bytes,
            "program_depth": machine.program_depth,
        },
        "lines": decode.program.lines,
        "colors": {color.value: color.name for color in Color},
    }


def with_room(machine: MachineConfig, decode: DecodeProgram) -> MachineConfig:
    """Return a machine whose tiles have room for a program and its routes."""
    return replace(
        machine,
        program_depth=max(machine.program_depth, decode.program_depth),
        colors=max(machine.colors, decode.colors),
    )


def compile_programs(
    model: QuantizedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    *,
    machine: MachineConfig,
    stage: Stage,
    hand_off: HandOff = "layer-wise",
    stops: Sequence[int] = (),
    seeds: Sequence[int] = (),
    preloaded: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Programs:
    """Compile a model for prompts.

    Parameters
    ----------
    model : QuantizedModel
        The model.
    prompts : sequence of sequence of int
        One to eight prompts, each of at least one token: their sequences are written together.
    tokens : sequence of int
        Tokens to write for each, at least 1; prompt and tokens fit into the context.
    machine : MachineConfig
        The machine; HBM and program memories are enlarged for the programs.
    stage : str
        With ``prefill`` one token is written for each prompt, and the mesh need not hold the model.
        With ``decode`` the golden model reads the prompts and writes each one's first token: a
        back door.
    hand_off : str
        When keys and values cross the link: as of :data:`.HandOff`.
    stops : sequence of int
        Tokens that end a sequence before it has all its tokens.
    seeds : sequence of int
        One for each prompt, of a model whose tokens are drawn.
    preloaded : bool
        Whether the weights are in the tiles' memories before the first cycle, as those of the HBM
        are: a back door, of lanes only. Otherwise they come over the fabric.
    progress : callable, optional
        Is told what is done.

    Raises
    ------
    MeshTooSmallError, PrefillError, UnsupportedModelError
        If the machine cannot run the model or the prompt.
    """
    step = progress or (lambda _step: None)
    step("compiling the model")
    decode = compile_decode(
        model,
        *machine.mesh,
        prompt_tokens=[len(prompt) for prompt in prompts],
        tokens=tokens,
        sram_bytes=machine.sram_bytes,
        stops=stops,
        seeds=seeds,
        kv_only=stage == "prefill",
    )
    machine = with_room(machine, decode)
    prefill = None
    if stage != "decode":
        if max(machine.mesh) > LINK_SIDE:
            raise UnsupportedModelError(
                f"Rows and columns of a mesh behind the link must be at most {LINK_SIDE}, "
                f"not {max(machine.mesh)}"
            )
        if len(decode.layout.heads) > HEADS:
            raise UnsupportedModelError(
                f"KV heads, each counted for all columns that share it, must be at most {HEADS}, "
                f"not {len(decode.layout.heads)}"
            )
        compiler: Callable[..., PrefillProgram] = compile_serial
        if hand_off == "layer-wise":
            compiler = partial(compile_prefill, seeds=seeds)
        prefill = compiler(model, *machine.array, *map(list, prompts))
        machine = machine.with_hbm(len(prefill.hbm))
    golden: list[GoldenSequence] = []
    for prompt, count in zip(prompts, tokens, strict=True):
        done = sum(tokens[: len(golden)])
        golden.append(
            golden_sequence(
                model,
                prompt,
                count,
                stops=stops,
                seed=seeds[len(golden)] if seeds else 0,
                progress=lambda n, done=done: step(f"golden tokens, {done + n} of {sum(tokens)}"),
            )
        )
    return Programs(
        machine=machine,
        decode=decode,
        prefill=prefill,
        prompts=prompts,
        golden=golden,
        preloaded=preloaded,
    )


def _layer_ends(prefill: PrefillProgram) -> list[int]:
    """Return for each layer the number of its last MATRIX command; layers of a chunk after those before."""
    matrix = [c for c in prefill.commands.commands if c.queue is Queue.MATRIX]
    of_layers = ((n, c.label.layer) for n, c in enumerate(matrix) if c.label.layer is not None)
    return [list(numbers)[-1][0] for _, numbers in itertools.groupby(of_layers, lambda it: it[1])]


def _link_settings(decode: DecodeProgram) -> dict[int, int]:
    """Return the link's settings for a compiled mesh."""
    layout = decode.layout
    settings = {
        Settings.ROWS: layout.positions.rows,
        Settings.LAST_COLUMN: decode.placement.columns - 1,
        Settings.LAYER_STRIDE: layout.layer_stride,
        Settings.VALUE_STRIDE: layout.value_stride,
        Settings.HEAD_WORDS: layout.head_dim // 4,
        Settings.HEAD_COUNT: len(layout.heads),
        Settings.ACTIVATES: int(max(decode.tokens) > 1),
        Settings.PROMPT_STRIDE: layout.prompt_stride,
        Settings.LAST_PROMPT: len(decode.tokens) - 1,
        Settings.BLOCK: layout.positions.block.bit_length() - 1,
    }
    if len(decode.tokens) > 1:
        settings[Settings.TOKENS] = decode.placement.at("arguments")
    for place in layout.heads:
        base = Settings.HEAD + place.head * Settings.HEAD_STEP
        settings[base] = place.first | place.last << 16
        settings[base + 1] = place.keys
        settings[base + 2] = place.values
    return settings
