# SPDX-License-Identifier: BSD-2-Clause
"""Noise, and that the golden model draws from the softmax of its logits.

Mutations that were seen to fail: a temperature of base 2, octaves beyond the table that count half.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from diptych_sim.golden.machine import GoldenModel
from diptych_sim.golden.noise import LARGEST, UNIT, key_of, noise, scrambled
from support.random_model import TINY, random_model

DRAWS = 10_000
LEAST = 1e-4
"""A chi-square test fails by chance as often as this."""


def test_speck_encrypts_as_its_paper_says():
    """The paper's rounds with another schedule: what it must do is checked by its inverse."""
    key, index = 0x19181110, np.arange(1000)
    bits = scrambled(key, index)
    x, y = bits >> 16, bits & 0xFFFF
    for n in reversed(range(8)):
        y ^= x
        y = (y >> 2 | y << 14) & 0xFFFF
        x ^= key >> 16 * (n % 2) & 0xFFFF ^ (n * 0x9E37 & 0xFFFF)
        x = x - y & 0xFFFF
        x = (x << 7 | x >> 9) & 0xFFFF
    assert np.array_equal(x << 16 | y, index)


def test_bits_are_balanced_and_do_not_depend_on_neighbors():
    bits = scrambled(key_of(1, np.arange(1000))[:, None], np.arange(500))
    for what in (
        bits,
        bits[:, 1:] ^ bits[:, :-1],
        bits[1:] ^ bits[:-1],
        bits[:, 8:] ^ bits[:, :-8],
    ):
        ones = ((what[..., None] >> np.arange(32)) & 1).mean((0, 1))
        assert np.abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(what.size)


def test_noise_has_the_distribution_of_gumbel():
    values = noise(key_of(1, np.arange(2000))[:, None], np.arange(500)).reshape(-1)
    assert values.min() >= 0
    assert values.max() <= LARGEST
    real = (values + 0.5) * UNIT * np.log(2) - 4 * np.log(2) - np.log(np.log(2))
    quantiles = np.array([0.005, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999])
    # Errors of a quantile grow with its distance from the next one.
    found, expected = np.quantile(real, quantiles), stats.gumbel_r.ppf(quantiles)
    np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_allclose(found[2:5], expected[2:5], atol=0.006)
    np.testing.assert_allclose(real.mean(), np.euler_gamma, atol=0.006)
    assert noise(5, np.arange(100), 4).tolist() == (noise(5, np.arange(100)) >> 4).tolist()


@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.5])
@pytest.mark.parametrize("vocabulary", [50, 500])
def test_draws_are_of_the_softmax(temperature, vocabulary):
    """10,000 tokens after one prompt, each with another seed."""
    config = replace(TINY, vocab=vocabulary)
    model = replace(random_model(config, 1), logit_step=1 / 500, largest_logit=4.0)
    prompt = [3, 1, 4, 1, 5]
    logits = GoldenModel(model).real_logits(prompt)[-1] / temperature
    expected = np.exp(logits - logits.max())
    expected *= DRAWS / expected.sum()
    drawn = model.sampled(temperature)
    golden = GoldenModel(drawn)
    state = golden.hidden_states(prompt)
    tokens = []
    for seed in range(DRAWS):
        golden._seed = seed
        tokens.append(int(np.argmax(golden._scores(state.values[-1:], state.dynamic[-1:])[0])))
    counts = np.bincount(tokens, minlength=vocabulary)
    # Rare ones count together.
    order = np.argsort(-expected)
    kept = order[: max(1, int((expected > 10).sum()))]
    observed = np.append(counts[kept], DRAWS - counts[kept].sum())
    wanted = np.append(expected[kept], DRAWS - expected[kept].sum())
    if wanted[-1] < 5:
        observed, wanted = observed[:-1], wanted[:-1] * observed[:-1].sum() / wanted[:-1].sum()
    assert stats.chisquare(observed, wanted).pvalue > LEAST


def test_positions_and_seeds_draw_anew():
    drawn = replace(random_model(TINY, 1), logit_step=1 / 500, largest_logit=4.0).sampled(0.8)
    texts = {tuple(GoldenModel(drawn, seed).generate([3, 1], 8)) for seed in range(50)}
    assert len(texts) > 30
    assert tuple(GoldenModel(drawn, 3).generate([3, 1], 8)) in texts


def test_a_temperature_that_integers_do_not_resolve_is_refused():
    model = replace(random_model(TINY, 1), largest_logit=4.0)
    with pytest.raises(ValueError, match=r"^Temperature must be 0, or at least 3\.4e-07 for the "):
        model.sampled(1e-8)
