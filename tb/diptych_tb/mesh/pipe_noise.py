# SPDX-License-Identifier: BSD-2-Clause
"""NOISE for the testbench of the vector pipe."""

from __future__ import annotations

import random

from diptych.mesh.isa import STATISTIC, Op
from diptych_sim.compiler.tile.assembler import Assembler
from diptych_sim.golden.noise import noise

from .tile_bench import OUT, Bench, D, Expected, send_memory, send_registers

__all__ = ["noise_operation"]


def noise_operation(bench: Bench, program: Assembler, rng: random.Random) -> tuple[Expected, int]:
    """Append two instructions that follow each other; the second may go on from the first."""
    goes_on, to_color = rng.random() < 0.5, rng.random() < 0.4
    counts = [rng.randint(1, 12), rng.randint(goes_on, 12)]
    keys = [rng.getrandbits(32), rng.getrandbits(32)]
    starts = [rng.choice([rng.getrandbits(24), rng.getrandbits(8), 2**24 - 3]) for _ in counts]
    bench.registers({n + 2: value for n, value in enumerate([*keys, *starts])})
    out: list[int] = []
    largest = 0
    for n, (count, key, start) in enumerate(zip(counts, keys, starts, strict=True)):
        continues = bool(n) and goes_on
        begin, shift = starts[0] + counts[0] if continues else start, rng.randrange(10)
        values = [int(noise(key, (begin + i) % 2**24, shift)) for i in range(count)]
        largest = max([largest * continues, *values])
        program.vector(
            Op.NOISE,
            a_reg=4 + n,
            b_reg=2 + n,
            d_base=D + 4 * len(out),
            count=count,
            inner=shift,
            to_color=to_color,
            color=OUT,
            statistic=1,
            continues=continues,
        )
        out += values
    if not to_color:
        send_memory(program, D, len(out))
    send_registers(program, [STATISTIC])
    return [*out, largest], len(out) + 1
