# SPDX-License-Identifier: BSD-2-Clause
"""Instructions of a tile.

A tile has 16 registers of 32 bits (register 0 reads as 0), a program memory of 160-bit
instructions, a task table, one *main* vector pipe, one *receiver* and one *transmitter* that run
side by side.
Vector operands live in the SRAM (byte addresses, elements aligned to their size) or are colors.

Scale words and ``requantize`` are those of the arithmetic blocks. Instructions issue in order; a
vector instruction issues while its predecessor still drains, so that a reader of what the
predecessor writes carries ``fence_pipe`` (wait until the main pipe is empty), ``fence_receive``
or ``fence_transmit`` (wait until the receiver, the transmitter has nothing to do). An instruction
for the main pipe waits for its fences in a queue of one, while the program goes on, unless it reads
register 12 or 13; a RECEIVE or TRANSMIT behind it waits for it if its fence is of that engine.
"""

from __future__ import annotations

from amaranth.hdl import unsigned
from amaranth.lib import data, enum

REGISTERS = 16
TASKS = 8
INSTRUCTION_WORDS = 5
ARGUMENT = 1
"""Register that a task's activation sets."""
STATISTIC = 12
"""Register that receives a main vector instruction's statistic, if ``statistic`` is set."""
RECEIVED_MAXIMUM = 13
"""Register that receives a RECEIVE's largest magnitude, or its arg-max."""


class Op(enum.Enum, shape=unsigned(5)):
    """Operations; ``d``, ``a``, ``b`` stand for ``base + R[reg]`` (byte addresses)."""

    SCALAR = 0
    """A :class:`Function` on registers."""
    MATVEC = 1
    """``count`` rows: ``sum over inner words of dot8(W[a + row * stride + 8 k], X[b + 8 k])``,
    int32. With ``planes``, both rows hold ``inner`` words of high bytes, then of low bytes, and
    the sum is ``256 wh xh + wl xh + wh xl``. ``a_type``: X is int8; or int16 of which the lower 12
    bits count, from a multiple of 16 bytes on, not with ``planes``. ``inner`` 0 gives zeros.
    To memory (int32, step 4) or to ``color``; with ``accumulate`` each is added to the int32 that
    lies at its place in memory. Statistic: signed maximum, -2**31 without rows. A word (times 3
    with ``planes``) per cycle; up to 16 words of 8 elements of X (both planes together) are read
    once. ``accumulate`` takes the memory port of X every other
    row, a cycle more where X is not at hand."""
    REQUANTIZE = 2
    """``count`` elements of ``a_type``: ``requantize(a, word, bits, R[dynamic])``, ``word`` being
    the 32-bit word at ``b + 4 i`` (``static_memory``) or ``R[b_reg]``; to ``d_type`` in memory
    or to ``color``. Statistic: sum of ``(r * r) >> inner`` of results ``r`` of up to 16 bits, a cycle
    later than others. With ``planes``, ``fence_receive`` waits only until the last wavelets of the
    RECEIVEs are taken: they must be rounded (``bits``), and at least 8 elements be read, in the order
    in which they come. An element per cycle."""
    ROTATE = 3
    """``count`` pairs of int16 (4 bytes each) at ``a``, RoPE factors (cosine, sine: int16 each)
    at ``b``, starting over every ``inner`` pairs, one head. Head ``h``'s high bytes go to
    ``d + h * stride``, its low bytes ``2 inner`` bytes behind. Two cycles per pair."""
    EXPONENTIAL = 4
    """``count`` int32 at ``a``: ``exponential(R[b_reg] - a, R[dynamic], top)`` to int16 at ``d``, with
    a ``top`` of 255 if ``bits`` is 8, of 2047 if it is 12; then, unless ``accumulate`` is set, zeros up to a
    multiple of 8 elements. Statistic: the sum. An element per cycle."""
    GATE = 5
    """``count`` pairs (gate, up: int16 each) at ``a``: ``gate(g, u, 11 - shift)``, with the ``shift`` in bits
    25..22 of ``R[b_reg]``, to int32 at ``d``; or as another ``d_type`` re-quantized: ``requantize(gate(...),
    word, bits, R[dynamic])``, with the ``word`` in bits 21..0 of ``R[b_reg]``. Statistic: largest magnitude
    before that. A pair per cycle."""
    RECEIVE = 6
    """In the background, queued two deep: ``count`` wavelets of ``color``, each
    ``requantize(v, word, bits, R[dynamic])`` with ``word`` as in REQUANTIZE; with ``accumulate``
    added, before the clamp, to the int32 at ``d``; with ``biased`` to an int32 that stands behind
    the word, 8 bytes from a word to the next; to ``d_type`` at ``d``, step ``stride`` bytes. With
    ``statistic``: largest magnitude of what was stored. With ``argmax`` nothing is stored; register
    13 receives the largest
    ``(v << inner) + R[a_reg] - i``. With ``bits`` 0 the wavelets are kept as they are (not with
    ``accumulate``), and the statistic is their signed maximum. Registers are read at issue. A wavelet
    per cycle; with ``biased`` three in four cycles."""
    MOVE = 7
    """``count`` elements of ``a_type`` at ``a``; with ``accumulate`` each joins the next wavelet of
    color ``bits``: their sum (wrapping), or with ``argmax`` their signed maximum; ``a_type`` NONE
    is the wavelet alone. To ``d_type`` at ``d`` (NONE: not to memory), and with ``to_color`` to
    ``color``. With ``control`` the last wavelet carries the control bit. Statistic: largest
    magnitude. An element per cycle, as its wavelet comes."""
    TRANSMIT = 8
    """In the background, queued two deep: ``count`` 32-bit words at ``a`` to ``color``. A word per
    cycle, when the vector pipe and SEND leave the ramp."""
    NOISE = 9
    """``count`` int32 to ``d``, or to ``color``: :class:`~diptych.arith.noise.Noise` of the key
    ``R[b_reg]`` and the indices ``R[a_reg]``, ``R[a_reg] + 1`` ... (24 bits), shifted right by
    ``inner``. Statistic: largest magnitude. An element per cycle; the instruction behind it starts
    when all have been computed."""


class Function(enum.Enum, shape=unsigned(5)):
    """Functions of SCALAR; ``imm`` is signed 32 bits. One cycle unless said otherwise."""

    END = 0
    """The task ends."""
    ADD = 1
    """``d = a + b + imm``."""
    SUBTRACT = 2
    """``d = a - b + imm``."""
    MULTIPLY = 3
    """``d = a[15:0] * imm[15:0] + b`` (unsigned factors). 2 cycles."""
    AND = 4
    """``d = a & (b | imm)``."""
    SHIFT_LEFT = 5
    """``d = a << imm[4:0]``."""
    SHIFT_RIGHT = 6
    """``d = a >> imm[4:0]``, logical."""
    LESS_THAN = 7
    """``d = 1 if a < b + imm else 0``, unsigned."""
    SELECT = 8
    """``d = a + imm if R[dynamic] else b``."""
    LOAD = 9
    """``d`` = 32-bit word at ``a + imm`` (multiple of 4); waits for the SRAM. 4 cycles."""
    STORE = 10
    """32-bit word at ``a + imm`` = ``b``; waits for the SRAM. 3 cycles."""
    RECIPROCAL = 11
    RSQRT = 12
    TO_SCALE = 13
    """``d = f(a + imm)``; 4 cycles, 5 unless ``imm`` is 0."""
    COMBINE = 14
    """``d = combine(a, b)``. 2 cycles."""
    SEND = 15
    """Send ``a + imm`` on ``color``; waits for a credit. After vector results of the same color.
    With ``control`` the wavelet carries the control bit."""
    TAKE = 16
    """``d`` = next wavelet of ``color``; waits for it. 4 cycles."""
    BRANCH = 17
    """Continue at instruction ``imm`` if ``a`` is not 0; a cycle later than the next one would."""
    ACTIVATE = 18
    """Task ``imm`` becomes active; register 1 is not changed."""
    BLOCK = 19
    """Task ``imm`` cannot start."""
    UNBLOCK = 20
    """Task ``imm`` can start."""
    TAKE_RECIPROCAL = 21
    TAKE_RSQRT = 22
    """``d = f(v)`` of the next wavelet ``v`` of ``color``; waits for it. 7 cycles."""


class Type(enum.Enum, shape=unsigned(3)):
    """Element types in memory."""

    INT8 = 0
    INT16 = 1
    INT32 = 2
    NONE = 3
    """Nothing is stored, or (MOVE) read."""


class Instruction(data.StructLayout):
    """160 bits in five words; loaded low word first.

    ``count`` is ``count + R[count_reg]``, ``inner`` is ``inner + R[inner_reg]``. The last word
    is ``imm`` in a SCALAR, where ``count`` is the color of SEND and TAKE. With ``continues`` the
    statistic of the vector pipe is one with that of the instruction before, of the same kind. With
    ``sends_statistic`` it leaves on ``color`` behind the instruction, whose results do not.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "op": Op,
                "function": Function,
                "fence_pipe": 1,
                "fence_receive": 1,
                "d_reg": 4,
                "a_reg": 4,
                "b_reg": 4,
                "dynamic": 4,
                "control": 1,
                "fence_transmit": 1,
                "continues": 1,
                "sends_statistic": 1,
                "a_base": 16,
                "b_base": 16,
                "d_base": 16,
                "count": 16,
                "inner": 16,
                "stride": 16,
                "tail": 32,
            }
        )


class Tail(data.StructLayout):
    """The last word of a vector instruction."""

    def __init__(self) -> None:
        super().__init__(
            {
                "color": 5,
                "count_reg": 4,
                "inner_reg": 4,
                "a_type": Type,
                "d_type": Type,
                "bits": 6,
                "to_color": 1,
                "static_memory": 1,
                "statistic": 1,
                "accumulate": 1,
                "argmax": 1,
                "planes": 1,
                "biased": 1,
            }
        )
