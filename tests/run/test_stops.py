# SPDX-License-Identifier: BSD-2-Clause
"""Texts end on the wafer: with a token of the stop set no further round starts.

Mutations that were seen to fail: only the first of two stops is compared; a round starts in spite
of the comparison; a sequence that has ended sends on; the host waits as long for many stops as for few.
"""

from dataclasses import replace

import numpy as np
import pytest

from diptych.config import MachineConfig
from diptych_sim.compiler.decode.placement import UnsupportedModelError
from diptych_sim.golden.machine import GoldenModel
from diptych_sim.run.generate import NothingToDecodeError, generate
from support.random_model import TINY, random_model
from support.tile_sizes import LARGE_TILE

MODEL = random_model(TINY, 1)
MACHINE = MachineConfig(mesh=(2, 2), array=(8, 8))


def prompts(*lengths):
    rng = np.random.default_rng(1)
    return [rng.integers(0, TINY.vocab, length).tolist() for length in lengths]


def written(prompt, count):
    return list(GoldenModel(MODEL).generate(prompt, count))


def end_of(tokens, stops):
    return next((n for n, token in enumerate(tokens, 1) if token in stops), len(tokens))


@pytest.mark.parametrize("engine", ["verilator", "lanes"])
@pytest.mark.parametrize("at", [1, 3])
def test_a_text_ends_with_any_of_its_stops(engine, at):
    (prompt,) = prompts(5)
    whole = written(prompt, 8)
    # The other stops come first in the set, and never in the text.
    others = [token for token in range(TINY.vocab) if token not in whole][:2]
    stops = [*others, whole[at]]
    assert end_of(whole, stops) == at + 1
    done = generate(
        MODEL, [prompt], [8], machine=MACHINE, stage="decode", stops=stops, engine=engine
    )
    assert done.matches_golden
    assert done.tokens == whole[: at + 1]
    assert [done.decode.tokens, done.decode.round_ends] == [[at + 1], list(range(at + 1))]


@pytest.mark.parametrize("engine", ["verilator", "lanes"])
def test_the_host_waits_until_a_token_is_compared_with_all_of_many_stops(engine):
    (prompt,) = prompts(5)
    whole = written(prompt, 8)
    others = [token for token in range(TINY.vocab + 60) if token not in whole][:60]
    done = generate(
        MODEL,
        [prompt],
        [8],
        machine=MACHINE,
        stage="decode",
        stops=[*others, whole[1]],
        engine=engine,
    )
    assert done.matches_golden
    assert done.tokens == whole[:2]


def test_stops_for_which_a_program_has_no_room_are_refused():
    asked, counts, stops = prompts(*range(1, 9)), range(3, 11), range(100)
    message = (
        r"^Program of a tile must have at most 13107 instructions, not \d+, for 8 sequences and 100 "
        r"tokens that end a text$"
    )
    with pytest.raises(UnsupportedModelError, match=message):
        generate(MODEL, asked, counts, machine=MachineConfig(mesh=(4, 4)), stops=stops)


@pytest.mark.parametrize("engine", ["lanes", pytest.param("verilator", marks=pytest.mark.slow)])
def test_a_sequence_that_ends_leaves_the_others_undisturbed(engine):
    """One ends by a stop in the first part of the plan, one at its length, one in a later part."""
    asked = prompts(5, 1, 7, 3)
    counts = [6, 4, 12, 9]
    whole = [written(prompt, count) for prompt, count in zip(asked, counts, strict=True)]
    stops = _ends_some(whole)
    ends = [end_of(tokens, stops) for tokens in whole]
    machine = replace(MACHINE, **LARGE_TILE)
    done = generate(
        MODEL, asked, counts, machine=machine, stage="decode", stops=stops, engine=engine
    )
    assert done.matches_golden
    assert [each.tokens for each in done.sequences] == [
        tokens[:end] for tokens, end in zip(whole, ends, strict=True)
    ]
    assert done.decode.round_ends[-1] + 1 == sum(ends)
    assert sum(part.count for part in done.decode.plan) == max(ends) - 1


def _ends_some(whole):
    """Return two stops: some sequences end early, with the first token and later, and some do not."""
    tokens = sorted({token for tokens in whole for token in tokens})
    for a in tokens:
        for b in tokens:
            ends = [end_of(each, (a, b)) for each in whole]
            early = [n for n, each in zip(ends, whole, strict=True) if n < len(each)]
            if len(early) in (2, 3) and min(early) == 1 and max(early) > 3:
                return [a, b]
    raise AssertionError("no such stops")


def test_a_text_may_end_with_the_token_of_prefill():
    """The mesh starts no round then, though the link activates it."""
    (prompt,) = prompts(5)
    (first,) = written(prompt, 1)
    done = generate(MODEL, [prompt], [4], machine=MACHINE, stops=[first])
    assert done.matches_golden
    assert done.tokens == [first]
    counts = {tile["computing"] for tile in done.tiles}
    assert counts == {0}
    with pytest.raises(NothingToDecodeError, match=r"^Text must go on behind its first token, "):
        generate(MODEL, [prompt], [4], machine=MACHINE, stage="decode", stops=[first])
