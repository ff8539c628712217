# SPDX-License-Identifier: BSD-2-Clause
"""What the golden model hands off from prefill to decode."""

from itertools import product

from diptych_sim.compiler.decode.kv_layout import pack_bytes
from diptych_sim.golden import numbers
from diptych_sim.golden.machine import GoldenModel


def expected_handoff(model, *prompts):
    """Return kind (0 keys, 1 values, 2 token), layer, prompt, position and words of each piece."""
    goldens = [GoldenModel(model) for _ in prompts]
    first = [golden.next_token(prompt) for golden, prompt in zip(goldens, prompts, strict=True)]
    handoff = []
    for layer, (n, prompt) in product(range(model.config.layers), enumerate(prompts)):
        cache = goldens[n].cache[layer]
        for position in range(len(prompt)):
            planes = numbers.planes(cache.keys[position].reshape(-1))
            words = [word for plane in planes for word in pack_bytes(plane)]
            handoff.append((0, layer, n, position, words))
        for position in range(len(prompt)):
            words = pack_bytes(cache.values[position].reshape(-1))
            handoff.append((1, layer, n, position, words))
    for n, token in enumerate(first):
        handoff.append((2, 0, n, len(prompts[n]) - 1, [token]))
    return handoff


def expected_in_chunks(model, *prompts, size):
    """Return the same of prompts that are read one after the other, in chunks of ``size`` rows."""

    def turn(piece):
        kind, layer, prompt, position, _ = piece
        return prompt, position // size, kind == 2, layer, kind, position

    return sorted(expected_handoff(model, *prompts), key=turn)
