# SPDX-License-Identifier: BSD-2-Clause
"""Cost model of the decode panel: cycles of a token, from the tiles' program alone."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from typing import Any

import numpy as np

from diptych.mesh.isa import Function, Instruction, Op, Tail
from diptych_sim.compiler.array.commands import field_of
from diptych_sim.compiler.decode.attention import attention_end
from diptych_sim.compiler.decode.compile import DecodeProgram
from diptych_sim.compiler.decode.layer import sum_label, wide_label
from diptych_sim.compiler.decode.norm import norms_of
from diptych_sim.compiler.decode.placement import Placement, State
from diptych_sim.compiler.decode.program import suffix_of
from diptych_sim.compiler.decode.routes import Color
from diptych_sim.compiler.tile.registers import Register
from diptych_sim.cost.tile_clock import TileClock, ways

__all__ = ["WAVELET_BYTES", "decode_cost", "decode_hops", "decode_macs", "decode_rounds"]

WAVELET_BYTES = 4
_ROUND = 5
"""Cycles of a round beside those of its instructions."""


def decode_cost(program: DecodeProgram) -> int:
    """Return the cycles from the first tokens to the last one, as of :func:`decode_rounds`."""
    return sum(decode_rounds(program))


def decode_rounds(program: DecodeProgram, part: Container[int] | None = None) -> list[int]:
    """Return the cycles of each round, with ``part`` of these only, counted from 0.

    One tile stands for all: they run one program in step. It is the farthest from the middle of its
    column, and in attention the farthest of those with positions. It leaves out conflicts of reads in the
    SRAM, wavelets that wait for each other, and rows that hold fewer positions than others.
    """
    place = program.placement
    instructions = [field_of(Instruction(), bits) for bits in program.program.encoded()]
    everywhere = ways(place.rows, place.columns, place.split)
    cycles = []
    for round_, order in _slowest_rounds(program, instructions):
        if part is not None and round_ not in part:
            continue
        loads = _loads(program, round_, place.rows // 2)
        reductions = _shorter_ways(program, round_, everywhere)
        clock = TileClock(everywhere)
        registers = dict(loads[None])
        for index in order:
            i = instructions[index]
            clock.ways = reductions.get(index, everywhere)
            registers |= loads.get(i["tail"] if _is_load(i) else -1, {})
            clock.run(i, registers)
        # What is in the pipe yet holds up the next round, too.
        # The last layer's results go to all columns, which have the vocabulary.
        cycles.append(max(clock.now, clock.pipe) + _ROUND + _spared_columns(place))
    return cycles


def _spared_columns(place: Placement) -> int:
    """Return how much nearer the columns with heads are to the middle than all are."""
    return place.columns // 2 - place.column_reach


def _shorter_ways(
    program: DecodeProgram, round_: int, everywhere: Mapping[int, int]
) -> dict[int, Mapping[int, int]]:
    """Return for instructions whose reductions do not go everywhere their ways, as of :func:`.ways`.

    Those of attention along columns go to and from the rows that hold positions. Along rows only columns
    with heads have contexts, or need the residual stream next.
    """
    place, operations = program.placement, program.program.operations
    along = {**everywhere, Color.ROW_ADD: everywhere[Color.ROW_ADD] - _spared_columns(place)}
    found: dict[int, Mapping[int, int]] = {
        n: along for n, name in enumerate(operations) if name in ("output", "down")
    }
    if not place.rows_apart:
        return found
    farthest = place.rows // 2
    near = farthest - place.positions.reach(max(program.prompt_tokens) + round_ + 1)
    columns = (Color.COLUMN_ADD, Color.COLUMN_MAX)
    one, both = ({**everywhere, **{c: everywhere[c] - n * near for c in columns}} for n in (1, 2))
    for number in range(len(program.plan)):
        suffix = suffix_of(number, place)
        begin, end = (program.program.labels[n] for n in (f"layer{suffix}", attention_end(suffix)))
        for index in range(begin, end):
            found[index] = both if operations[index] == "scores" else one
    return found


def decode_macs(program: DecodeProgram, part: range | None = None) -> list[int]:
    """Return the MACs of each tile, row by row, from the first tokens to the last one.

    With ``part`` they are those of these rounds, counted from 0.

    They follow from the instructions, from the positions of its row and the tokens of its column, and from
    the layers that were wide; a step takes 8.
    """
    place = program.placement
    macs = np.zeros((place.rows, place.columns), dtype=np.int64)
    for row, columns, i, tail, registers in _ran(program, part):
        if i["op"] == Op.MATVEC.value:
            inner = i["inner"] + registers.get(tail["inner_reg"], 0)
            steps = 8 * inner * (3 if tail["planes"] else 1)
            macs[row, columns] += steps * _counts(program, columns, i, tail, registers)
    return macs.reshape(-1).tolist()


def decode_hops(program: DecodeProgram, part: range | None = None) -> int:
    """Return the bytes times hops of the wavelets of all rounds, or of those of ``part``.

    A reduction takes each link of its line twice, a token one out of the mesh; what is loaded is
    not among them.
    """
    place = program.placement
    wavelets = {
        color: np.zeros((place.rows, place.columns), dtype=np.int64) for color in range(len(Color))
    }
    for row, columns, i, tail, registers in _ran(program, part):
        op = Op(i["op"])
        if op is Op.SCALAR:
            if i["function"] == Function.SEND.value:
                wavelets[i["count"]][row, columns] += 1
            continue
        if i["sends_statistic"]:
            wavelets[tail["color"]][row, columns] += 1
        if tail["to_color"] and op is not Op.RECEIVE:
            count = _counts(program, columns, i, tail, registers)
            wavelets[tail["color"]][row, columns] += count
    hops = wavelets[Color.TOKEN][0, 0]
    for add, top in ((Color.COLUMN_ADD, Color.COLUMN_MAX), (Color.ROW_ADD, Color.ROW_MAX)):
        along, line = wavelets[add] + wavelets[top], place.rows
        if add is Color.ROW_ADD:
            along, line = along.T, place.columns
        # All tiles of a line send as many.
        hops += 2 * (line - 1) * along[0].sum()
    for first in place.span[:: place.split] if place.split > 1 else ():
        line = min(place.split, place.columns - first)
        shared = wavelets[Color.GROUP_ADD] + wavelets[Color.GROUP_MAX]
        hops += 2 * (line - 1) * shared[:, first].sum()
    return WAVELET_BYTES * int(hops)


def _counts(
    program: DecodeProgram,
    columns: range,
    i: Mapping[str, int],
    tail: Mapping[str, int],
    registers: Mapping[int, int],
) -> Any:
    """Return the elements of an instruction in columns: those of the vocabulary are of each."""
    count = i["count"] + registers.get(tail["count_reg"], 0)
    if tail["count_reg"] != Register.VOCABULARY:
        return count
    vocabulary = program.model.config.vocab
    return count + np.array([len(program.placement.tokens(c, vocabulary)) for c in columns])


def _ran(
    program: DecodeProgram, part: range | None
) -> Iterator[tuple[int, range, dict[str, int], dict[str, int], dict[int, int]]]:
    """Yield row, columns, instruction, its tail and registers, of all that tiles run in rounds.

    Registers are those that hold numbers of positions. Rows without positions multiply and send as much as
    if they ran the same.
    """
    place = program.placement
    instructions = [field_of(Instruction(), bits) for bits in program.program.encoded()]
    tails = [field_of(Tail(), i["tail"]) for i in instructions]
    for kind in place.kinds:
        for round_, order in _rounds(program, instructions, kind):
            for row in range(place.rows if part is None or round_ in part else 0):
                loads = _loads(program, round_, row)
                registers = {k: v for k, v in loads[None].items() if k != Register.VOCABULARY}
                for index in order:
                    i, tail = instructions[index], tails[index]
                    if _is_load(i):
                        registers |= loads.get(i["tail"], {})
                    yield row, kind.span, i, tail, registers


@dataclass(frozen=True)
class _Spans:
    """Instructions of a round: before the layers, of each, and behind them."""

    before: range
    layer: range
    behind: range

    def order(self, layers: Iterable[Sequence[int]]) -> list[int]:
        """Return them in the order in which they run, with those of each of ``layers``."""
        return [*self.before, *chain(*layers), *self.behind]


def _spans(
    program: DecodeProgram, instructions: Sequence[dict[str, int]], number: int, kind: Placement
) -> _Spans:
    """Return the rounds of an element of the plan in a kind of column."""
    labels, suffix = program.program.labels, suffix_of(number, kind)
    start, layer, end = (labels[f"{name}{suffix}"] for name in ("token", "layer", "over"))
    # The branch behind a layer goes back to its begin.
    branch = next(index for index in range(layer, end) if _is_branch_to(instructions[index], layer))
    return _Spans(range(start, layer), range(layer, branch + 1), range(branch + 1, end))


def _layers(
    program: DecodeProgram, layer: Sequence[int], *suffixes: str, wide: int
) -> Iterator[Sequence[int]]:
    """Yield the instructions that run in each layer, of which ``wide``; ``suffixes`` are of their labels.

    What a norm by the row's own magnitude does is skipped by others.
    """
    labels, norms = program.program.labels, norms_of(program.model)
    for index in range(program.model.config.layers):
        skipped: set[int] = set()
        for norm in (norms.attention, norms.mlp):
            for own, scaled, behind in (norm.labels(suffix) for suffix in suffixes):
                ends = (own, scaled) if norm.tops[index] else (scaled, behind)
                if own in labels:
                    skipped |= {*range(*(labels[end] for end in ends))}
        run = [instruction for instruction in layer if instruction not in skipped]
        yield _widened(program, run, *suffixes) if index < wide else run


def _widened(program: DecodeProgram, layer: list[int], *suffixes: str) -> list[int]:
    """Return what runs in a layer in which hidden elements exceed the floor of their magnitudes."""
    labels = program.program.labels
    for suffix in suffixes:
        if labels.get(sum_label(suffix)) in layer:
            at = layer.index(labels[sum_label(suffix)])
            layer = [*layer[:at], *program.program.aside(wide_label(suffix)), *layer[at:]]
    return layer


def _rounds(
    program: DecodeProgram, instructions: Sequence[dict[str, int]], kind: Placement
) -> Iterator[tuple[int, list[int]]]:
    """Yield the number of each round, and its instructions in the order in which they run."""
    round_ = 0
    for number, rounds in enumerate(program.plan):
        spans = _spans(program, instructions, number, kind)
        layers = partial(_layers, program, spans.layer, suffix_of(number, kind))
        orders = cache(lambda wide, s=spans, layers=layers: s.order(layers(wide=wide)))
        for _ in range(rounds.count):
            yield round_, orders(_wide_layers(program, round_))
            round_ += 1


def _wide_layers(program: DecodeProgram, round_: int) -> int:
    """Return how many layers are wide in a round; of one that has not run, those that have no floor."""
    if program.wide:
        return program.wide[round_]
    return sum(not layer.hidden_floor for layer in program.model.layers)


def _slowest_rounds(
    program: DecodeProgram, instructions: Sequence[dict[str, int]]
) -> Iterator[tuple[int, list[int]]]:
    """Yield as :func:`_rounds` does, of each part of a round those columns that take longest.

    Columns without heads wait for the others' contexts, and have more to do from there on.
    """
    place = program.placement
    if not place.others:
        yield from _rounds(program, instructions, place)
        return
    round_ = 0
    for number, rounds in enumerate(program.plan):
        first, other = (_spans(program, instructions, number, kind) for kind in place.programs)
        layer = [
            *range(first.layer.start, _behind_attention(program, first.layer)),
            *range(_behind_attention(program, other.layer), other.layer.stop),
        ]
        tokens = max(place.programs, key=lambda kind: kind.vocabulary)
        behind = first if tokens is place else other
        suffixes = [suffix_of(number, kind) for kind in place.programs]
        spans = _Spans(first.before, first.layer, behind.behind)
        layers = partial(_layers, program, layer, *suffixes)
        orders = cache(lambda wide, s=spans, layers=layers: s.order(layers(wide=wide)))
        for _ in range(rounds.count):
            yield round_, orders(_wide_layers(program, round_))
            round_ += 1


def _behind_attention(program: DecodeProgram, layer: range) -> int:
    """Return the first instruction of a layer behind the output projection."""
    operations = program.program.operations
    output = next(index for index in layer if operations[index] == "output")
    return next(index for index in range(output, layer.stop) if operations[index] != "output")


def _is_branch_to(i: dict[str, int], target: int) -> bool:
    branches = i["op"] == Op.SCALAR.value and i["function"] == Function.BRANCH.value
    return branches and i["tail"] == target


def _is_load(i: dict[str, int]) -> bool:
    return i["op"] == Op.SCALAR.value and i["function"] == Function.LOAD.value


def _loads(program: DecodeProgram, round_: int, row: int) -> dict[int | None, dict[int, int]]:
    """Return a row's registers of a round by the address that they are loaded from; None: from the start.

    The middle row has the most positions.
    """
    place = program.placement
    tokens = max(kind.vocabulary for kind in place.kinds)
    loads: dict[int | None, dict[int, int]] = {None: {Register.VOCABULARY: tokens}}
    for n, length in enumerate(program.prompt_tokens):
        slots = place.positions.held(row, length + round_ + 1)
        held = {State.COUNT: slots, State.WORDS: -(-slots // 8)}
        for word, value in held.items():
            register = {Register[word.name].value: value}
            if place.sequences == 1:
                loads[None] |= register
            else:
                loads[place.at("state", n) + 4 * word] = register
    return loads
