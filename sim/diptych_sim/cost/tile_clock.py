# SPDX-License-Identifier: BSD-2-Clause
"""When a tile of the decode panel is done with each instruction, and when its results come back.

Of the cycle in which an instruction issues, ``now`` is the one behind. Constants are from the
contracts of the blocks: vector pipe, receiver, scalar instructions, router.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diptych.mesh.isa import Function, Op, Tail, Type
from diptych.mesh.operand_sequencer import HELD_WORDS
from diptych.mesh.register_file import ENGINE_REGISTERS
from diptych.mesh.vector_pipe_signals import STAGES
from diptych_sim.compiler.array.commands import field_of
from diptych_sim.compiler.decode.routes import Color

__all__ = ["TAKEN_EARLIER", "TileClock", "ways"]

_CYCLES_PER_ELEMENT = {Op.ROTATE: 2}
_SCALARS = {
    Function.LOAD: 4,
    Function.STORE: 3,
    Function.TAKE: 4,
    Function.TAKE_RECIPROCAL: 7,
    Function.TAKE_RSQRT: 7,
    Function.MULTIPLY: 2,
    Function.COMBINE: 2,
    Function.BRANCH: 2,
    Function.RECIPROCAL: 4,
    Function.RSQRT: 4,
    Function.TO_SCALE: 4,
}
"""Cycles of a function; those of a scale have one more with an immediate."""
_TAKES = (Function.TAKE, Function.TAKE_RECIPROCAL, Function.TAKE_RSQRT)
_SCALES = (Function.RECIPROCAL, Function.RSQRT, Function.TO_SCALE)
_OPERANDS = ("a_reg", "b_reg", "dynamic")
_PADDED = 8
"""Powers are padded to words of so many."""
_ENDS = 2
"""Cycles beside hops from a wavelet that a core announces to the core that may take it."""
_TAKE = 4
"""Cycles from there to the end of the TAKE that waits for it."""
_RECEIVED = 9
"""Cycles from the last wavelet of a RECEIVE to its end."""
TAKEN_EARLIER = 7
"""Cycles from its last wavelet to its last write, for which a REQUANTIZE need not wait."""
_KEPT = 3
"""Cycles less, where elements stay as they are."""
_READS = 2
"""Cycles before the first wavelet of a RECEIVE in which scales are read, and as many for addends."""
_READ_AHEAD = 2
"""Cycles that it gains by what it reads ahead, where a wavelet takes more than one read."""
_REDUCED = {
    Color.COLUMN_ADD: Color.COLUMN_SUM,
    Color.COLUMN_MAX: Color.COLUMN_TOP,
    Color.ROW_ADD: Color.ROW_SUM,
    Color.ROW_MAX: Color.ROW_TOP,
    Color.GROUP_ADD: Color.GROUP_SUM,
    Color.GROUP_MAX: Color.GROUP_TOP,
}
_BUFFERED = 4
"""Results that buffers hold beside those on their way, at least: those of the middle tile of a line."""
_BANKS = 4
"""Banks of the SRAM: of so many reads one waits for a vector pipe that reads in every cycle."""
_RECEIVED_READS = {int(Color.COLUMN_ADD): 1, int(Color.ROW_ADD): 2}
"""Words that the receiver of a product's results reads for each: its scale, and what it adds to."""
_SPANS = 3
"""Instructions of the vector pipe, and RECEIVEs, whose writes may yet meet."""


def ways(rows: int, columns: int, split: int) -> dict[int, int]:
    """Return by color the cycles from a wavelet that all tiles announce to its reduction at all.

    That is ``max(root, n - 1 - root)`` hops to the middle of a line, a cycle there, where two
    directions meet, as many hops back, and the ramps.
    """
    found: dict[int, int] = {}
    for first, hops in (
        (Color.COLUMN_ADD, max(rows // 2, rows - 1 - rows // 2)),
        (Color.ROW_ADD, max(columns // 2, columns - 1 - columns // 2)),
    ):
        for color in (first, first + 2):
            found[color] = 2 * hops + _ENDS
    found[Color.GROUP_ADD] = found[Color.GROUP_MAX] = 2 * (split // 2) + _ENDS
    return found


def _row_conflicts(i: Mapping[str, int], tail: Mapping[str, int], inner: int) -> int:
    """Return how many words of a row wait, as both operands are in one bank.

    That is of the first row, if the pipe holds X for the others. Registers beside the bases, and rows, are
    multiples of all banks.
    """
    wide = tail["a_type"] == Type.INT16.value
    apart = (i["a_base"] >> 3) - (i["b_base"] >> 3)
    # Eight elements of two bytes are in two words.
    return sum(
        (apart + k - (2 * k if wide else k)) % _BANKS in ((0, 1) if wide else (0,))
        for k in range(inner)
    )


@dataclass
class _Receive:
    """A RECEIVE: its wavelets, reads for each, and whether they stay as they are or are not stored."""

    count: int
    reads: float
    delay: int
    """Cycles until its first reads are done."""
    kept: bool
    stored: bool

    def last(self, first: int, streams: int) -> int:
        """Return when it takes its last wavelet, the first one then, if a wavelet comes in each cycle.

        Until ``streams`` the vector pipe reads in every cycle.
        """
        beside = min(self.count, max(0, streams - first))
        slower = max(0, -int(-(self.reads - 1) * self.count // 1) - _READ_AHEAD)
        return first + self.count - 1 + slower + int(self.reads * beside / _BANKS)

    @property
    def ends(self) -> int:
        """Cycles from the last wavelet to the end."""
        return _RECEIVED - (_KEPT if self.kept else 0)


@dataclass(eq=False)
class _Span:
    """When an instruction of the vector pipe has its first and its last result; whether in memory."""

    start: int
    end: int
    writes: bool
    sends: bool
    """One leaves in each of these cycles."""


@dataclass
class _Results:
    """Vector results of an instruction, on their way."""

    last: int
    """When the last one may be taken."""
    left: int
    """How many have no RECEIVE yet."""
    spacing: int
    """Cycles from one to the next."""
    span: _Span
    """Of the instruction."""
    way: int
    """Cycles from one that is sent to where it may be taken."""


@dataclass
class _Line:
    """Results of a color that have no RECEIVE yet, or the RECEIVE that waits for them."""

    results: deque[_Results] = field(default_factory=deque)
    owed: int = 0
    """Results that the RECEIVE takes and nobody has sent."""
    waiting: _Receive | None = None


@dataclass
class TileClock:
    """Where a tile is that runs a decode program as all others do.

    ``ways`` are as of :func:`ways`.
    """

    ways: Mapping[int, int]
    now: int = 0
    op: Op = Op.MATVEC
    """What the vector pipe does."""
    started: int = 0
    """When its last instruction has left the queue."""
    pipe: int = 0
    """From when on it has no step left."""
    piped: int = 0
    """From when on all its results are where they belong."""
    settled: int = 0
    """From when on it has no statistic left, either."""
    unsent: set[int] = field(default_factory=set)
    """Colors on which it sends, since it was idle."""
    spans: deque[_Span] = field(default_factory=lambda: deque(maxlen=_SPANS))
    """Of its last instructions."""
    taken: int = 0
    """When the last RECEIVE takes its last wavelet."""
    received: int = 0
    """From when on all RECEIVEs are over."""
    receiver_writes: deque[tuple[int, int, int]] = field(
        default_factory=lambda: deque(maxlen=_SPANS)
    )
    """When the last RECEIVEs write their first and last element, and cycles between these."""
    singles: dict[int, deque[int]] = field(default_factory=lambda: defaultdict(deque))
    """When wavelets of SEND may be taken that have not been."""
    lines: dict[int, _Line] = field(default_factory=lambda: defaultdict(_Line))

    def run(self, i: Mapping[str, int], registers: Mapping[int, int]) -> None:
        """Run an instruction; ``registers`` are those that others than it wrote."""
        op, tail = Op(i["op"]), field_of(Tail(), i["tail"])
        for_pipe = op not in (Op.SCALAR, Op.RECEIVE, Op.TRANSMIT)
        used = {i[name] for name in _OPERANDS}
        if op is not Op.SCALAR:
            used |= {i["d_reg"], tail["count_reg"], tail["inner_reg"]}
        reads_engine = bool(used & set(ENGINE_REGISTERS))
        # Others for the pipe wait for their fences in its queue.
        waits = not for_pipe or reads_engine
        loaded = self.now + reads_engine
        if i["fence_pipe"] and waits:
            self.now = max(self.now, self.settled - 1)
        if i["fence_receive"] and waits:
            self.now = max(self.now, self.received)
        self.now = max(self.now, loaded) + 1
        if op is Op.SCALAR:
            self._scalar(i)
            return
        count = i["count"] + registers.get(tail["count_reg"], 0)
        if op is Op.RECEIVE:
            self._receive(count, tail)
        elif for_pipe:
            inner = i["inner"] + registers.get(tail["inner_reg"], 0)
            self._compute(op, i, tail, count, inner, waits=waits)

    def _scalar(self, i: Mapping[str, int]) -> None:
        function, color = Function(i["function"]), i["count"]
        self.now += _SCALARS.get(function, 1) - 1 + (function in _SCALES and i["tail"] != 0)
        if function is Function.STORE:
            self.now = self._unwritten(self.now - 2) + 2
        elif function is Function.SEND:
            if color in self.unsent:
                self.now = max(self.now, self.settled)
            for span in self.spans:
                if span.sends and span.start <= self.now <= span.end:
                    self.now = span.end + 1
            if color in self.ways:
                self.singles[_REDUCED[Color(color)]].append(self.now + self.ways[color])
        elif function in _TAKES and self.singles[color]:
            self.now = max(self.now, self.singles[color].popleft() + _SCALARS[function])

    def _unwritten(self, cycle: int) -> int:
        """Return the first cycle from there on in which nobody else writes to memory."""
        for first, last, spacing in sorted(
            [*((s.start, s.end, 1) for s in self.spans if s.writes), *self.receiver_writes]
        ):
            if spacing == 1 and first <= cycle <= last:
                cycle = last + 1
        return cycle

    # --- RECEIVE -------------------------------------------------------------------------------
    def _receive(self, count: int, tail: Mapping[str, int]) -> None:
        scales, adds = tail["static_memory"], tail["accumulate"]
        receive = _Receive(
            count=count,
            reads=adds + scales * (1 if tail["biased"] else 0.5),
            delay=_READS * (scales + adds),
            kept=tail["bits"] == 0,
            stored=not tail["argmax"] and tail["d_type"] != Type.NONE.value,
        )
        # It begins when the one before has its last wavelet.
        begin = max(self.now, self.taken + 1)
        last = receive.last(begin + receive.delay, self.pipe)
        line, singles = self.lines[tail["color"]], self.singles[tail["color"]]
        alone = min(count, len(singles))
        for _ in range(alone):
            last = max(last, singles.popleft())
        line.owed += count - alone
        if not line.results:
            line.waiting = receive
            self.taken = last
            self.received = max(self.received, last + receive.ends)
        self._match(line, receive, last)

    def _match(self, line: _Line, receive: _Receive, last: int) -> None:
        """Let a RECEIVE that could take its last wavelet then take what is on its way."""
        while line.results and line.owed:
            results = line.results[0]
            count = min(results.left, line.owed)
            results.left -= count
            line.owed -= count
            came = results.last - results.spacing * results.left
            last = max(last, self._taken(receive, came, results.spacing))
            if results.span in self.spans:
                # The last ones leave when there are credits for them.
                self._hold(results.span, last - max(0, results.way + _BUFFERED - results.left))
            if not line.owed:
                self._end(receive, last, results.spacing)
            if not results.left:
                line.results.popleft()

    def _taken(self, receive: _Receive, came: int, spacing: int) -> int:
        """Return when the last wavelet is taken that comes then, the others before it."""
        first = came - spacing * (receive.count - 1)
        return max(came, receive.last(first, self.pipe))

    def _end(self, receive: _Receive, last: int, spacing: int) -> None:
        """Note a RECEIVE that takes its last wavelet then; the vector pipe waits for its writes."""
        self.taken = last
        self.received = max(self.received, last + receive.ends)
        if receive.stored and not receive.kept and receive.count:
            end = last + _RECEIVED - 2
            self.receiver_writes.append((end - spacing * (receive.count - 1), end, spacing))
            self._wait_for_writes(self.spans, *self.receiver_writes[-1])

    def _wait_for_writes(self, spans: Sequence[_Span], first: int, last: int, spacing: int) -> None:
        """Delay results of the vector pipe where the receiver writes, which comes first.

        It writes from ``first`` to ``last``, every ``spacing`` cycles.
        """
        for span in spans:
            begin = max(span.start, first)
            if span.writes and begin <= min(span.end, last):
                busy, left = (last - begin) // spacing + 1, span.end - begin + 1
                waits = busy if spacing == 1 else min(busy, -(-left // (spacing - 1)))
                self._hold(span, span.end + waits)

    def _hold(self, held: _Span, end: int) -> None:
        """Delay the last result of an instruction of the vector pipe, and those behind it."""
        free, ended = 0, self.spans[-1].end
        for span in self.spans:
            shift = max(0, free - span.start)
            span.start += shift
            span.end += shift
            if span is held:
                span.end = max(span.end, end)
            free = span.end + 1
        waits = self.spans[-1].end - ended
        self.pipe += waits
        self.piped += waits
        self.settled += waits

    # --- vector pipe ---------------------------------------------------------------------------
    def _compute(
        self,
        op: Op,
        i: Mapping[str, int],
        tail: Mapping[str, int],
        count: int,
        inner: int,
        *,
        waits: bool,
    ) -> None:
        if op is Op.EXPONENTIAL and not tail["accumulate"]:
            count = -(-count // _PADDED) * _PADDED
        elements, color = count, tail["color"]
        reduces = tail["to_color"] and color in self.ways
        if op is Op.MATVEC:
            count *= max(1, inner * (3 if tail["planes"] else 1))
            conflicts = _row_conflicts(i, tail, inner) if elements else 0
            if inner > HELD_WORDS:
                # Every row reads both operands, and the receiver's reads take turns with these.
                reads = _RECEIVED_READS.get(color, 0) if tail["to_color"] else 0
                conflicts = elements * max(conflicts, reads)
            count += conflicts
        self.now = max(self.now, self.started + 1)
        start = max(self.now, self.pipe + (0 if op is self.op else STAGES[self.op]))
        if self.now > self.settled:
            self.unsent.clear()
        if tail["to_color"] or i["sends_statistic"]:
            self.unsent.add(color)
        if not waits:
            early = TAKEN_EARLIER if op is Op.REQUANTIZE and tail["planes"] else 0
            received = self.received - early
            start = max(start, i["fence_pipe"] * (self.piped - 1), i["fence_receive"] * received)
        self.op, self.started = op, start
        steps = count * _CYCLES_PER_ELEMENT.get(op, 1)
        self.pipe = start + 1 + steps
        self.piped = self.pipe + STAGES[op] + 1
        squares = op is Op.REQUANTIZE
        self.settled = self.piped + (1 + squares if tail["statistic"] else 0)
        writes = (not tail["to_color"] or op is Op.MOVE) and steps <= 2 * elements
        sends = bool(tail["to_color"]) and steps == elements
        self.spans.append(_Span(start + STAGES[op] + 1, self.piped - 2, writes, sends))
        for write in self.receiver_writes:
            self._wait_for_writes([self.spans[-1]], *write)
        if i["sends_statistic"]:
            self.singles[_REDUCED[Color(color)]].append(self.piped + squares + self.ways[color])
        if reduces:
            line = self.lines[_REDUCED[Color(color)]]
            spacing = max(1, count // max(1, elements))
            way = self.ways[color]
            last = self.piped - 1 + way
            line.results.append(_Results(last, elements, spacing, self.spans[-1], way))
            if line.owed and line.waiting is not None:
                self._match(line, line.waiting, 0)
