# SPDX-License-Identifier: BSD-2-Clause
"""Stimulus of the arithmetic blocks, and what the golden model says to it.

The draws lean to where results change: rounding ties, the edges of saturation, zero, extremes.
Uniform operands would saturate nearly always, and a missing rounding would not be seen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Shape, ShapeLike, signed
from amaranth.lib import data
from numpy.random import Generator
from numpy.typing import NDArray

from diptych.arith.scale import ScaleWord
from diptych.config import ACTIVATION_BITS
from diptych_sim.golden import numbers
from diptych_sim.golden.noise import noise, scrambled

__all__ = ["BLOCKS", "Block", "Columns", "Ints"]

Ints = NDArray[np.int64]
Columns = dict[str, Ints]
"""Values of each port, one row per element; an array port has a column per item."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block under test.

    Parameters
    ----------
    inputs, outputs : dict
        Shapes of the data ports by name.
    draw : callable
        Makes inputs, given a generator and how many.
    golden : callable
        Computes the outputs of inputs.
    """

    inputs: dict[str, ShapeLike]
    outputs: dict[str, ShapeLike]
    draw: Callable[[Generator, int], Columns]
    golden: Callable[[Columns], Columns]


def _pick(rng: Generator, *choices: Ints) -> Ints:
    """Take each row from a random one of equally long columns."""
    stacked = np.stack(choices)
    return stacked[rng.integers(len(choices), size=stacked.shape[1]), np.arange(stacked.shape[1])]


def _magnitudes(rng: Generator, count: int, bits: int) -> Ints:
    """Unsigned integers with a uniform number of bits, often a power of two or next to one."""
    width = rng.integers(0, bits + 1, count)
    top = np.int64(1) << width
    draws = [rng.integers(0, top), top - 1, top // 2, np.maximum(top // 2 - 1, 0), top // 2 + 1]
    return np.minimum(_pick(rng, *draws), 2**bits - 1)


def _signed(rng: Generator, count: int, bits: int) -> Ints:
    values = _magnitudes(rng, count, bits - 1) * rng.choice([-1, 1], count)
    extremes = rng.choice([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, -1, 1], count)
    return np.where(rng.random(count) < 0.1, extremes, values)


def _mantissas(rng: Generator, count: int) -> Ints:
    return _pick(
        rng,
        rng.integers(2**15, 2**16, count),
        rng.integers(0, 2**16, count),
        rng.choice([0, 1, 2, 0x8000, 0xFFFF, 0xC000], count),
    )


def _words(rng: Generator, count: int, shifts: Ints | None = None) -> Ints:
    """Scale words; near the given shifts if there are any."""
    free = rng.integers(0, 64, count)
    if shifts is not None:
        free = np.where(rng.random(count) < 0.9, shifts, free)
    return _mantissas(rng, count) | np.clip(free, 0, 63) << 16


def _tamed(words: Ints) -> Ints:
    """Replace the shift 63, which overflows the golden model's int64; 62 leaves nothing, too."""
    return np.where(words >> 16 == 63, (words & 0xFFFF) | 62 << 16, words)


def _log2(values: Ints) -> Ints:
    return np.frexp(np.abs(values).astype(np.float64))[1].astype(np.int64)


def _draw_requantizer(rng: Generator, count: int) -> Columns:
    value = _signed(rng, count, 32)
    bits = rng.choice([8, 16, 32, *range(9, 33)], count)
    # Where the result is about as wide as the clamp, with a dynamic shift in between.
    dynamic = _words(rng, count, 15 + rng.integers(-4, 12, count))
    dynamic = np.where(rng.random(count) < 0.3, numbers.UNITY, dynamic)
    wanted = _log2(value) + 32 - bits + rng.integers(-2, 4, count) - (dynamic >> 16)
    word = _words(rng, count, wanted + 0)
    # A power of two makes ties.
    ties = (rng.random(count) < 0.2) & (word >> 16 > 0)
    word = np.where(ties, (word & ~0xFFFF) | 0x8000, word)
    # Results at the edges of the clamp and next to them: twice as much, times a half.
    limit = (np.int64(1) << (bits - 1)) - 1
    edge = (rng.random(count) < 0.3) & (bits < 30)
    signs = rng.choice([-1, 1], count)
    twice = signs * (2 * limit + rng.integers(-3, 4, count))
    value = np.where(edge, twice, value)
    word = np.where(edge, 0x8000 | 16 << 16, word)
    dynamic = np.where(edge, numbers.UNITY, dynamic)
    return {"value": value, "word": word, "dynamic": dynamic, "bits": bits}


def _golden_requantizer(x: Columns) -> Columns:
    wide = _tamed(numbers.combine(x["word"], x["dynamic"]))
    shift = numbers.shift_of(wide)
    exact = (x["value"] * numbers.mantissa_of(wide) + (np.int64(1) << shift >> 1)) >> shift
    result = numbers.multiply(x["value"], wide)
    for bits in range(2, 33):
        rows = x["bits"] == bits
        result[rows] = numbers.clamp(result[rows], bits)
    return {"result": result, "saturated": (result != exact).astype(np.int64)}


def _draw_function(rng: Generator, count: int) -> Columns:
    value = _magnitudes(rng, count, 32)
    # Upper 16 bits that are ones, which a rounding would carry out of.
    value = np.where(rng.random(count) < 0.05, (0xFFFF8000 >> rng.integers(0, 16, count)), value)
    return {"select": rng.integers(0, 3, count), "value": value}


def _golden_function(x: Columns) -> Columns:
    value = x["value"]
    words = [
        numbers.reciprocal(value),
        numbers.rsqrt(value),
        numbers.to_scale(value),
    ]
    return {"word": np.select([x["select"] == f for f in range(3)], words)}


def _draw_exponential(rng: Generator, count: int) -> Columns:
    distance = _magnitudes(rng, count, 32)
    # Where t is below 4096, mostly.
    word = _words(rng, count, np.maximum(_log2(distance) + 16 - rng.integers(0, 14, count), 0))
    return {"distance": distance, "word": word}


def _exponential(top: int) -> Block:
    def draw(rng: Generator, count: int) -> Columns:
        return {**_draw_exponential(rng, count), "is_byte": np.full(count, top == 255, np.int64)}

    return Block(
        inputs={"distance": 32, "word": _WORD, "is_byte": 1},
        outputs={"power": 11},
        draw=draw,
        golden=lambda x: {"power": numbers.exponential(x["distance"], _tamed(x["word"]), top)},
    )


def _draw_gate(rng: Generator, count: int) -> Columns:
    gate = _pick(rng, rng.integers(-(2**14) - 99, 2**14 + 99, count), _signed(rng, count, 16))
    up = _pick(rng, rng.integers(-(2**15), 2**15, count), _signed(rng, count, 16))
    shift = rng.integers(0, 12, count)
    gate = np.where(rng.random(count) < 0.5, gate >> shift, gate)
    return {"gate": gate, "up": up, "shift": shift}


def _golden_gate(x: Columns) -> Columns:
    return {"result": numbers.gate(x["gate"], x["up"], numbers.GATE_FRACTION - x["shift"])}


def _draw_rotate(rng: Generator, count: int) -> Columns:
    angle = rng.uniform(0, 2 * np.pi, count)
    # Factors that no rotation has; half of one makes ties.
    free = rng.random(count) < 0.3
    factors = {}
    for name, values in (("cosine", np.cos(angle)), ("sine", np.sin(angle))):
        odd = rng.choice([-(2**14), 2**14, 2**13, -(2**13), 0, 1], count)
        factors[name] = np.where(free, odd, np.round(values * 2**14).astype(np.int64))
    columns = {"a": _signed(rng, count, 16), "b": _signed(rng, count, 16), **factors}
    # Results at the edges of the clamp: the limit, and some halves.
    edge = rng.random(count) < 0.3
    limit = rng.choice([-1, 1], count) * (numbers.LIMIT16 + rng.integers(-1, 3, count))
    few = rng.integers(-2, 3, count)
    swap = rng.random(count) < 0.5
    edges = {
        "a": np.where(swap, few, limit),
        "b": np.where(swap, limit, few),
        "cosine": np.where(swap, 2**13, 2**14) * rng.choice([-1, 1], count),
        "sine": np.where(swap, 2**14, 2**13) * rng.choice([-1, 1], count),
    }
    return {name: np.where(edge, edges[name], values) for name, values in columns.items()}


def _golden_rotate(x: Columns) -> Columns:
    first, second = numbers.rotate(x["a"], x["b"], x["cosine"], x["sine"])
    return {"rotated_a": first, "rotated_b": second}


def _draw_dot(rng: Generator, count: int, lanes: int) -> Columns:
    def column(low: int, high: int) -> Ints:
        uniform = rng.integers(low, high + 1, count)
        return _pick(rng, uniform, uniform, rng.choice([low, high, 0], count))

    extreme = rng.random(count) < 0.1
    activations = [np.where(extreme, -2048, column(-2048, 2047)) for _ in range(lanes)]
    weights = [np.where(extreme, -128, column(-128, 127)) for _ in range(lanes)]
    return {
        "activations": np.stack(activations, 1),
        "weights": np.stack(weights, 1),
    }


def _golden_dot(x: Columns) -> Columns:
    return {"total": (x["activations"] * x["weights"]).sum(1)}


def _draw_square(rng: Generator, count: int) -> Columns:
    return {"value": _signed(rng, count, 16), "shift": rng.integers(0, 32, count)}


def _golden_square(x: Columns) -> Columns:
    square = [
        int(numbers.sum_of_squares([v], s)) for v, s in zip(x["value"], x["shift"], strict=True)
    ]
    return {"square": np.array(square), "magnitude": np.abs(x["value"])}


def _draw_planes(rng: Generator, count: int) -> Columns:
    free = rng.integers(-numbers.LIMIT16, numbers.LIMIT16 + 1, count)
    extreme = rng.choice([-numbers.LIMIT16, numbers.LIMIT16, 127, 128, -128, -129], count)
    return {"value": _pick(rng, free, free, extreme)}


def _dot(lanes: int) -> Block:
    return Block(
        inputs={
            "activations": data.ArrayLayout(signed(ACTIVATION_BITS), lanes),
            "weights": data.ArrayLayout(signed(8), lanes),
        },
        outputs={"total": signed(32)},
        draw=lambda rng, count: _draw_dot(rng, count, lanes),
        golden=_golden_dot,
    )


def _draw_noise(rng: Generator, count: int) -> Columns:
    # Key and shift are constant while elements are under way, so they are for the whole draw.
    key, shift = int(rng.integers(0, 2**32)), int(rng.integers(0, 8))
    every = np.arange(2**20)
    bits = scrambled(key, every)
    # Those of the rarest octaves, of both halves.
    rare = every[np.argsort(bits & 0x7FFFFFFF)[:count]]
    index = _pick(rng, rng.integers(0, 2**24, count), np.arange(count), rng.permutation(rare))
    index[: count // 50] = rare[: count // 50]
    columns = {"key": key, "index": index, "shift": shift}
    return {name: np.broadcast_to(value, count).copy() for name, value in columns.items()}


# A scale word is driven and read as the number that it is packed into.
_WORD = Shape.cast(ScaleWord)

BLOCKS = {
    "requantizer": Block(
        inputs={"value": signed(32), "word": _WORD, "dynamic": _WORD, "bits": 6},
        outputs={"result": signed(32), "saturated": 1},
        draw=_draw_requantizer,
        golden=_golden_requantizer,
    ),
    "scale_function": Block(
        inputs={"select": 2, "value": 32},
        outputs={"word": _WORD},
        draw=_draw_function,
        golden=_golden_function,
    ),
    "exponential": _exponential(2047),
    "exponential_of_bytes": _exponential(255),
    "gate": Block(
        inputs={"gate": signed(16), "up": signed(16), "shift": 4},
        outputs={"result": signed(32)},
        draw=_draw_gate,
        golden=_golden_gate,
    ),
    "rotate": Block(
        inputs={"a": signed(16), "b": signed(16), "cosine": signed(16), "sine": signed(16)},
        outputs={"rotated_a": signed(16), "rotated_b": signed(16)},
        draw=_draw_rotate,
        golden=_golden_rotate,
    ),
    "dot8_of_1": _dot(1),
    "dot8_of_5": _dot(5),
    "dot8_of_8": _dot(8),
    "square": Block(
        inputs={"value": signed(16), "shift": 5},
        outputs={"square": 31, "magnitude": 16},
        draw=_draw_square,
        golden=_golden_square,
    ),
    "noise": Block(
        inputs={"key": 32, "index": 24, "shift": 4},
        outputs={"noise": 16},
        draw=_draw_noise,
        golden=lambda x: {"noise": noise(x["key"], x["index"], x["shift"])},
    ),
    "planes": Block(
        inputs={"value": signed(16)},
        outputs={"high": signed(8), "low": signed(8)},
        draw=_draw_planes,
        golden=lambda x: dict(zip(("high", "low"), numbers.planes(x["value"]), strict=True)),
    ),
}
"""Every block, by name."""
