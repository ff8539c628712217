# SPDX-License-Identifier: BSD-2-Clause
"""Commands of the prefill panel and the words that its blocks exchange.

The panel is an R x C weight-stationary array. A *line* is ``L = max(R, C)`` elements. Memories:

* scratchpad: elements of 12 bits: activations, powers, planes of queries and keys, values and
  weights; lines, and addresses of elements. Elements of 8 bits are in the lower bits, extended by
  their sign.
* accumulators: entries of C int32, by entry number.
* vector memory: entries of C int32 (residual stream, hidden values, RoPE factors), by entry number.
* parameters: entries of C scale words, by entry number.
* biases: entries of C int32, by entry number.
* rows: for each token row its ``largest`` (unsigned 32), ``top`` (signed 32), ``inverse`` and
  ``dynamic`` (scale words).

Engines see a command as 16 words of 32 bits: word 0 is :class:`Head`, words 1 to 13 are the fields
of its layout, words 14 and 15 the semaphores that it waits for and that it signals. In HBM a
command is shorter: a :class:`Packed` word; if ``semaphores``, a word with the waits in bits 15..0
and the signals in bits 31..16 (else there are none); then those fields that changed, lowest first:
a word each, or if ``short`` a half-word each, low half first, which is extended by its sign;
:data:`ESCAPE` says that the next two halves are the field. Fields are remembered by queue and
``set``, and are 0 when a program starts.

Four queues (:class:`Queue`) run decoupled; each takes its commands in order, and they meet at
semaphores: a command starts when each semaphore that it waits for is at least 1, takes 1 from
each, and adds 1 to each that it signals when its last write has been done.
"""

from __future__ import annotations

from amaranth.hdl import unsigned
from amaranth.lib import data, enum

COMMAND_WORDS = 16
FIELDS = 13
"""Words of a command between its head and its semaphores."""
SETS = 4
SEMAPHORES = 16


class Queue(enum.Enum, shape=unsigned(2)):
    """Which engine runs a command."""

    LOAD = 0
    MATRIX = 1
    VECTOR = 2
    STORE = 3


class Head(data.StructLayout):
    """Word 0 of a command; ``end`` marks the last command of a program.

    ``wait`` and ``signal`` are sets of semaphores, a bit each: words 14 and 15.
    """

    def __init__(self) -> None:
        super().__init__({"queue": Queue, "op": 6, "end": 1, "spare": 23})


class Program(data.StructLayout):
    """Where a program is in HBM.

    address
        A multiple of 64.
    beats
        Its length in beats of 64 bytes, at least 1: none behind them are read.
    """

    def __init__(self) -> None:
        super().__init__({"address": 32, "beats": 24})


ESCAPE = 0x8000
EPSILON_BITS = 16
"""Width of what becomes of the epsilon of a norm."""
TABLE_WORDS = 1024
"""Words of the table of the engine that loads."""


class Packed(data.StructLayout):
    """First word of a command in HBM; bit n of ``fields``: word n + 1 of the command follows."""

    def __init__(self) -> None:
        super().__init__(
            {
                "queue": Queue,
                "op": 6,
                "end": 1,
                "set": 2,
                "spare": 4,
                "fields": FIELDS,
                "semaphores": 1,
                "short": 1,
                "more": 2,
            }
        )


class Target(enum.Enum, shape=unsigned(6)):
    """Op of a LOAD command: which memory it fills."""

    SCRATCHPAD = 0
    PARAMETERS = 1
    """C words an entry."""
    VECTOR = 2
    """C int16 an entry, extended by their sign."""
    DYNAMIC = 3
    """A word a row: its ``dynamic``."""
    GATHER = 4
    """As SCRATCHPAD, but row ``i`` starts at ``hbm + pitch * id[i]``, ``id`` being 32-bit token
    numbers at ``ids``."""
    GATHER_DYNAMIC = 5
    """As DYNAMIC, each row's word at ``hbm + pitch * id[i]``."""
    TABLE = 6
    """A word an entry of the engine's own table, of :data:`TABLE_WORDS`."""
    PICK_DYNAMIC = 7
    """As DYNAMIC, row ``i``'s word being entry ``id[i]`` of the table."""
    DENSE = 8
    """As SCRATCHPAD, but the pieces, ``total`` bytes, follow each other in HBM without a gap, from
    any byte on, and zeros fill the last line of each (of 64 bytes, if lines are longer). If
    ``total`` is 0, there is one piece."""
    BIASES = 9
    """C int32 an entry."""
    DENSE_WIDE = 10
    """As DENSE, of elements of two bytes, low byte first, of which the lower 12 bits are kept.
    ``hbm``, ``bytes`` and ``total`` count bytes, and are even; ``target`` and ``target_pitch`` count
    elements; the last line is filled up to 32 elements, if lines are longer."""


def _layout(names: str) -> data.StructLayout:
    fields = dict.fromkeys(names.split(), 32)
    for index in range(13 - len(fields)):
        fields[f"spare_{index}"] = 32
    return data.StructLayout({"head": Head(), **fields, "wait": 32, "signal": 32})


LOAD = _layout("hbm bytes rows pitch target target_pitch ids total")
"""``rows`` pieces of ``bytes`` bytes from HBM address ``hbm``, ``pitch`` apart, to ``target``
(byte address, or entry number), ``target_pitch`` apart.

``hbm`` (but of dense pieces), ``pitch`` and ``ids`` are multiples of 64; scratchpad targets are
multiples of a line, and there ``bytes`` may end anywhere, elsewhere it is a multiple of an entry.
``rows`` is at least 1. A gather has at most 16 rows, its token numbers are below 2**16, its
``pitch`` too."""


class Causal(enum.Enum, shape=unsigned(2)):
    """Which rows of a MATRIX command are skipped."""

    NO = 0
    BY_N = 1
    """Column tile ``j`` skips the rows before ``max(0, j * C - first)``."""
    BY_K = 2
    """The same with row tile ``k`` and ``k * R``."""


MATRIX = _layout("x x_row x_k w w_row w_k w_n sums sums_n tiles rows modes first")
"""For each of N column tiles ``j``, for each of K row tiles ``k``: load the R x C weight tile, then
stream ``rows`` rows of activations and add into the accumulators.

``x``: byte address; row ``m`` of tile ``k`` is the R bytes at ``x + m * x_row + k * x_k``.
``w``: weight row ``r`` of tile (k, j) is the C bytes at ``w + k * w_k + j * w_n + r * w_row``; when
transposed, weight column ``c`` is the R bytes at ``w + k * w_k + j * w_n + c * w_row``.
``sums``: row ``m`` of column tile ``j`` adds into entry ``sums + j * sums_n + m``.
``tiles``: K in bits 15..0, N in bits 31..16. ``rows``: number of rows in bits 15..0.
``modes``: :class:`Modes`. ``first``: position of row 0, for causal skipping, in bits 15..0.
With ``modes.planes`` each column tile is the product of 16-bit numbers in two planes of bytes, but
for the product of the low planes: (x, w) as OVERWRITE, (x, w's other plane) as ADD_TO_HIGH, (x's
other plane, w) as ADD. The other planes are ``rows`` bits 31..16 and ``first`` bits 31..16 lines
behind x and w.
If ``modes.start`` is ADD as well, planes are paired: beside its
``D = end_row - first_row`` elements a row of x has their other plane, in the other half of 2 D
lanes. Then there are two products: (x, w) as OVERWRITE, (x, w's other plane) as ADD_TO_HIGH with
all 2 D weight rows.
All addresses are multiples of R (C for untransposed weights).
"""


class Start(enum.Enum, shape=unsigned(2)):
    """Use of the old sums by the first row tile of a MATRIX command."""

    OVERWRITE = 0
    ADD = 1
    ADD_TO_HIGH = 2
    """Adds to 256 times the old sum."""


class Modes(data.StructLayout):
    """``modes`` of a MATRIX command.

    ``first_row`` and ``end_row``: weight rows outside ``range(first_row, end_row)`` count as 0.
    ``end_column``: valid weight columns in the last column tile (0: all); others count as 0.
    ``start``: a :class:`Start`.
    ``planes``: see :data:`MATRIX`, also for ``start`` then.
    ``packed``: weight rows of a tile lie line after line (``w_row`` is a line), from a multiple of
    4 lines on, so that an array that can takes several a cycle; not with ``transposed``.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "causal": Causal,
                "start": Start,
                "transposed": 1,
                "planes": 1,
                "packed": 1,
                "spare": 1,
                "first_row": 8,
                "end_row": 8,
                "end_column": 8,
            }
        )


class VectorOp(enum.Enum, shape=unsigned(6)):
    """Op of a VECTOR command, run for each row ``m`` and, inside it, each column tile ``j``.

    ``acc`` is accumulator entry ``sums + j * sums_n + m``, ``acc2`` the same from ``sums2``;
    ``word`` is the parameter entry ``parameters + j`` (``parameters2 + j`` for acc2), ``bias`` the
    lower 16 bits, signed, of bias entry ``scale + j`` with ``flags.biased``, else 0; ``dyn`` is
    the row's ``dynamic`` if ``flags.dynamic``, else UNITY; ``sp`` is the scratchpad line piece of
    C elements at ``target + m * target_row + j * target_n``; ``vm`` the vector memory entry
    ``vector + m * vector_row + j``. Lanes outside ``range(first_lane, end_lane)`` write nothing.

    Ops with a statistic keep the row's ``largest`` magnitude over its tiles, which begins at 0, or of
    GATE at ``target``, with ``flags.restart``, else goes on from what is stored; at the end of each row
    ``inverse = reciprocal(largest)``.
    """

    REQUANTIZE = 0
    """``sp = clamp(bias + requantize(acc, word, 32, dyn), bits)``."""
    ROTATE = 1
    """``clamp(bias + requantize(acc, word, 32, dyn), 16)``, RoPE between lanes 2i and 2i + 1 with the factors in
    vector memory entry ``rope + m * rope_row + j % rope_row`` (cosine, sine, cosine, ...), split
    into planes: high bytes to ``sp``, low bytes to ``sp + planes``. With ``flags.pair`` = D both
    lines have both planes: in ``sp``, the even groups of D lanes keep their high bytes, and the
    group behind each has its low bytes; in ``sp + planes``, the odd groups keep theirs, and the
    group before each has its low bytes. ``flags.low_first`` exchanges high and low."""
    ADD = 2
    """``vm = clamp(vm + requantize(acc, word, 32, dyn), bits)``, with the statistic."""
    GATE = 3
    """``vm = gate(requantize(acc, word, 16, dyn), requantize(acc2, word2, 16, dyn), 11 - scale)``,
    with the statistic; with ``flags.low_first`` at the end of each row also ``dynamic =
    to_scale(largest)``: in the last part of a row only, for others need ``dyn`` as it is."""
    EMBED = 4
    """``vm = requantize(sp, UNITY, bits, row's dynamic)`` of int8 ``sp``, with the statistic."""
    NORM = 5
    """``sp = requantize(vm, scale, bits, row's inverse)``; at the end of each row
    ``dynamic = rsqrt(sum of (r * r) >> square_shift)`` of all results ``r`` of the row, and of what
    becomes of one more element, ``epsilon``, with :data:`EPSILON_BITS`, which is not written. With
    ``flags.dynamic`` it is ``dynamic`` of the row state that is half of all states away."""
    VALUES = 6
    """``vm = requantize(acc, word, bits, dyn)``, with the statistic."""
    QUANTIZE = 7
    """``sp = requantize(vm, scale, bits, row's inverse)``."""
    TOP = 8
    """``top`` = largest of the row's unmasked ``acc``: lane ``c`` of tile ``j`` is position
    ``j * C + c``, masked when above ``first + m``; masked tiles are not read."""
    EXPONENTIAL = 9
    """``sp = exponential(top - acc, scale, most)``, with a ``most`` of 255 if ``bits`` is 8, of 2047
    if it is 12; masked lanes 0, for every tile that begins below ``first + m + 1`` rounded up to a
    multiple of L; at the end of the row ``dynamic = reciprocal(their sum)``."""
    ARGMAX = 10
    """Row 0 only: the lane number ``(vector + j) * C + c`` of the largest
    ``requantize(acc, word, bits, dyn)`` of the first ``limit`` lanes, lowest of equals, to the
    panel's token register; with ``flags.biased`` of ``clamp(bias + requantize(acc, word, 32, dyn),
    bits)``. With ``vector`` 0 it begins; else it goes on from the ARGMAX before, with which no other
    op has come between."""
    ROTATE_AGAIN = 11
    """As ROTATE without biases, of ``requantize(sp, word, 16, dyn)``, ``sp`` being read ahead of what is
    written there."""


VECTOR = _layout(
    "sums sums_n extent parameters target target_row target_n vector vector_row extra flags scale "
    "first"
)
"""``extent``: rows in bits 15..0, column tiles in bits 31..16. ``extra``: ``bits`` in bits 31..16
but for ROTATE and GATE; in bits 15..0 ``limit`` (ARGMAX). GATE: ``sums2`` in bits 15..0 and
``parameters2`` in 31..16; ROTATE: ``planes``, a distance. ``epsilon`` is ``sums``. ``first``:
position of row 0 in bits 15..0, and in bits 31..16 the number of the row state that row 0 has. For
ROTATE ``vector`` and ``vector_row`` are ``rope`` and ``rope_row``."""


class Flags(data.StructLayout):
    """``flags`` of a VECTOR command; ``end_lane`` applies to every tile (C: all lanes).

    ``biased``: of REQUANTIZE, ROTATE and ARGMAX. ``low_first``: see ROTATE and GATE. ``pair``: see
    ROTATE; 0, or a power of two from 2 below C.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "first_lane": 8,
                "end_lane": 8,
                "dynamic": 1,
                "restart": 1,
                "square_shift": 5,
                "pair": 7,
                "low_first": 1,
                "biased": 1,
            }
        )


class StoreOp(enum.Enum, shape=unsigned(6)):
    """Op of a STORE command."""

    HBM = 0
    """``rows`` pieces of ``bytes`` bytes from scratchpad ``source``, ``source_pitch`` apart, to HBM
    address ``hbm``, ``pitch`` apart."""
    KEYS = 1
    """For each row (position ``first + m``): ``bytes`` high bytes at ``source + m * source_pitch``
    and as many low bytes at ``source2 + m * source_pitch``, to the link as keys of ``layer[7:0]``
    and prompt ``layer[15:8]``."""
    VALUES = 2
    """The same with one plane, as values."""
    TOKEN = 3
    """The vector unit's token register to the link: the first token of prompt ``layer[15:8]``."""
    SUMS = 4
    """As HBM, the words of row ``m`` being accumulator entries ``source + m``,
    ``source + m + source2``, ``source + m + 2 source2`` ..."""
    BIASED_SUMS = 5
    """As SUMS, with biases ``first``, ``first + 1`` ... added to them."""


STORE = _layout("hbm bytes rows pitch source source_pitch source2 layer first")


class HandoffKind(enum.Enum, shape=unsigned(2)):
    """Contents of a frame for the link."""

    KEYS = 0
    VALUES = 1
    TOKEN = 2


class Handoff(data.StructLayout):
    """Payload of the panel's stream to the link: a 32-bit word of one position's keys or values.

    For KEYS the words of the high plane (4 bytes each, lowest address first), then those of the
    low plane; for TOKEN one word, the token number. ``last`` marks a position's last word,
    ``prompt`` counts the prompts that are read together.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "data": 32,
                "kind": HandoffKind,
                "layer": 8,
                "position": 16,
                "prompt": 8,
                "last": 1,
            }
        )
