# SPDX-License-Identifier: BSD-2-Clause
"""What to send into a mesh: a real decode, or random programs on random tiles."""

import random

import numpy as np

from diptych.config import DEFAULTS, MachineConfig
from diptych.mesh.fabric import Load, header
from support.random_model import TINY, random_model


def decode_job(mesh, tokens=6, sram_bytes=DEFAULTS.sram_bytes):
    """Return the words of each row, and the tokens that the golden model writes after the first."""
    from diptych_sim.run.programs import compile_programs  # here only, as most users need no runs

    prompt = np.random.default_rng(1).integers(0, TINY.vocab, 5).tolist()
    model = random_model(TINY, 1)
    machine = MachineConfig(mesh=mesh, sram_bytes=sram_bytes)
    programs = compile_programs(model, [prompt], [tokens], machine=machine, stage="decode")
    return programs.decode_job().load, programs.expected[0][1:]


def random_job(mesh, seed, sram_bytes=DEFAULTS.sram_bytes):
    """Return the words of each row: random routes, data and instructions, and tasks to run them.

    Instructions are biased to few colors, small counts and addresses inside the SRAM, so that
    most of them end; what they mean does not matter.
    """
    rng = random.Random(seed)
    rows, columns = mesh

    def instruction():
        op = rng.choice([0, 0, 0, 1, 2, 3, 4, 5, 6, 7])
        word = rng.getrandbits(160)
        # The opcode is in the low bits; counts and strides are kept small.
        word = (word & ~31) | op
        keep = sum(0xFF07 << 16 * n for n in range(10))
        return (word & keep) | op if rng.random() < 0.8 else word

    load = []
    for _ in range(rows):
        words = []

        def packet(kind, payload, address=0, step=0, words=words):
            first = rng.randrange(columns)
            last = rng.randrange(first, columns)
            words += header(
                kind,
                count=len(payload),
                first_column=first,
                last_column=last,
                address=address,
                step=step,
            )
            words += payload

        for _ in range(3):
            packet(Load.WORDS, [rng.getrandbits(32) for _ in range(60)], rng.randrange(64) * 4)
            packet(Load.BYTES, [rng.getrandbits(32) for _ in range(9)], rng.randrange(512), 3)
            packet(Load.REGISTER, [rng.getrandbits(10) for _ in range(15)], 1)
            packet(Load.ROUTE, [rng.getrandbits(17) for _ in range(9)], 1)
            code = [instruction() for _ in range(24)]
            packet(Load.PROGRAM, [w >> 32 * n & 2**32 - 1 for w in code for n in range(5)])
            packet(
                Load.TASK,
                [rng.randrange(24) | rng.getrandbits(2) << 16 | rng.randrange(10) << 18],
                rng.randrange(8),
            )
            for _ in range(6):
                packet(Load.ACTIVATE, [rng.getrandbits(16)], rng.randrange(8))
        load.append(words)
    return load
