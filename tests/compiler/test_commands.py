# SPDX-License-Identifier: BSD-2-Clause
"""Programs of the prefill panel: what is stored, who waits for whom, and what must wait at all.

Mutations that were tried by hand, each seen to fail: fields compared across sets; a field bit
shifted by one; ``end`` on every command; reads that do not
wait for writes; an access forgotten that a write covers in part only.
"""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diptych.systolic.isa import COMMAND_WORDS, LOAD, MATRIX, STORE, VECTOR, Queue
from diptych_sim.compiler.array.commands import CommandError, CommandList, pack_fields
from diptych_sim.compiler.array.hazards import Hazards, Span

LAYOUTS = {Queue.LOAD: LOAD, Queue.MATRIX: MATRIX, Queue.VECTOR: VECTOR, Queue.STORE: STORE}
FIELD_NAMES = {
    queue: [name for name, _ in layout if name not in ("head", "wait", "signal")]
    for queue, layout in LAYOUTS.items()
}


@st.composite
def commands(draw):
    """(queue, op, set, fields by number, earlier commands to wait for)."""
    made = []
    for number in range(draw(st.integers(1, 30))):
        queue = draw(st.sampled_from(list(Queue)))
        values = st.sampled_from([0, 1, 2, 0x7FFF, 0x8000, 0x12345678, 2**32 - 0x7FFF, 2**32 - 1])
        fields = draw(st.dictionaries(st.integers(0, 8), values, max_size=6))
        after = draw(st.lists(st.integers(0, number - 1), max_size=3)) if number else []
        made.append((queue, draw(st.integers(0, 63)), draw(st.integers(0, 3)), fields, after))
    return made


def built(made):
    program = CommandList()
    for queue, op, remember, fields, after in made:
        names = FIELD_NAMES[queue]
        given = {names[n]: value for n, value in fields.items()}
        program.add(queue, op, after=after, remember=remember, **given)
    return program


def next_half(halves, words):
    """Return the next half-word, low halves first, and those that are left of its word."""
    for half in halves:
        return half, halves
    word = next(words)
    return word & 0xFFFF, iter((word >> 16,))


def unpacked(words):
    """Read a program as the text of the ISA says: (queue, op, end, fields, wait, signal)."""
    remembered = {}
    words = iter(words)
    for first in words:
        queue, op, end, group = first & 3, first >> 2 & 63, first >> 8 & 1, first >> 9 & 3
        semaphores = next(words) if first >> 28 & 1 else 0
        fields = remembered.setdefault((queue, group), [0] * 13)
        halves = iter(())
        for n in range(13):
            if not first >> 15 + n & 1:
                continue
            if not first >> 29 & 1:
                fields[n] = next(words)
                continue
            half, halves = next_half(halves, words)
            if half == 0x8000:
                low, halves = next_half(halves, words)
                high, halves = next_half(halves, words)
                fields[n] = low | high << 16
            else:
                fields[n] = half if half < 0x8000 else half + 0xFFFF0000
        yield queue, op, end, list(fields), semaphores & 0xFFFF, semaphores >> 16


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(commands())
def test_what_is_stored_unpacks_to_the_commands(made):
    program = built(made)
    found = list(unpacked(program.words()))
    assert len(found) == len(made)
    for index, (command, (queue, op, end, fields, wait, signal)) in enumerate(
        zip(program.commands, found, strict=True)
    ):
        assert (queue, op) == (command.queue.value, command.op)
        assert end == (index == len(made) - 1)
        assert (wait, signal) == (command.wait, command.signal)
        bits = pack_fields(LAYOUTS[command.queue], command.fields, "test")
        assert fields == [bits >> 32 * n & 0xFFFFFFFF for n in range(1, COMMAND_WORDS - 2)]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(commands(), st.randoms())
def test_commands_wait_for_those_they_come_after(made, rng):
    program = built(made)
    queues = {q: [n for n, c in enumerate(program.commands) if c.queue is q] for q in Queue}
    semaphores = [0] * 16
    ran: list[int] = []
    while any(queues.values()):
        ready = [
            numbers[0]
            for numbers in queues.values()
            if numbers
            and all(semaphores[s] for s in range(16) if program.commands[numbers[0]].wait >> s & 1)
        ]
        assert ready, "every queue waits"
        number = rng.choice(ready)
        command = program.commands[number]
        queues[command.queue].pop(0)
        assert set(made[number][4]) <= set(ran), f"{number} ran before {made[number][4]}"
        for s in range(16):
            semaphores[s] += (command.signal >> s & 1) - (command.wait >> s & 1)
        ran.append(number)


def test_a_value_that_does_not_fit_is_refused():
    program = CommandList()
    program.add(Queue.LOAD, 0, hbm=2**32)
    message = "Command 0 (LOAD): hbm must be in range(4294967296), not 4294967296"
    with pytest.raises(CommandError, match=f"^{re.escape(message)}$"):
        program.words()


def test_a_semaphore_that_would_overflow_is_refused():
    program = CommandList()
    for _ in range(60):
        program.add(Queue.LOAD, 0)
    for number in range(60):
        program.add(Queue.MATRIX, 0, after=[number])
    message = "Command 50: semaphore 1 must be ahead by at most 50, not 51"
    with pytest.raises(CommandError, match=f"^{re.escape(message)}$"):
        program.words()


spans = st.builds(
    lambda memory, start, size: Span(memory, start, start + size),
    st.sampled_from("ab"),
    st.integers(0, 6),
    st.integers(1, 4),
)


@given(st.lists(st.tuples(st.lists(spans, max_size=2), st.lists(spans, max_size=2)), max_size=25))
def test_whatever_conflicts_is_ordered(accesses):
    hazards = Hazards()
    before: list[set[int]] = []  # all that a command comes after, also through others
    for number, (reads, writes) in enumerate(accesses):
        direct = hazards.before(reads, writes)
        hazards.add(number, reads, writes)
        before.append(set(direct).union(*(before[n] for n in direct)))

    def entries(spans):
        return {(s.memory, n) for s in spans for n in range(s.start, s.end)}

    for later, (reads, writes) in enumerate(accesses):
        for earlier, (earlier_reads, earlier_writes) in enumerate(accesses[:later]):
            conflict = (entries(writes) & (entries(earlier_reads) | entries(earlier_writes))) | (
                entries(reads) & entries(earlier_writes)
            )
            if conflict:
                assert earlier in before[later]
