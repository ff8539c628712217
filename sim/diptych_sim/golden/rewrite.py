# SPDX-License-Identifier: BSD-2-Clause
"""The same model with other weights, which integers hold better: algebra that needs no hardware.

In real numbers each of these computes what the model did.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diptych_sim.llm.model import Floats, Layer, Model, ModelConfig

__all__ = ["balance_values", "embedding_of_output", "positive_gains", "rotate_residual", "rotation"]


def rotation(dim: int, seed: int) -> NDArray[np.float64]:
    """Random rotation [dim, dim] of rows, the same for a seed."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))
    return turn


def rotate_residual(model: Model, seed: int = 0) -> Model:
    """Turn the residual stream by a random rotation, which spreads its outliers over all channels.

    What writes to the stream is turned, and what reads it back; between them RMSNorm does not
    change with a rotation once its gain is folded into the matrix behind it (QuaRot, Ashkboos et
    al. 2024). The output is then no longer tied to the embedding.
    """
    dim = model.config.dim
    turn = rotation(dim, seed)
    gain = np.ones(dim, np.float32)

    def reads(matrix: Floats, norm: Floats) -> Floats:
        return _times(matrix, turn, norm)

    def writes(matrix: Floats) -> Floats:
        return np.ascontiguousarray(_times(matrix.T, turn).T)

    def layer(w: Layer) -> Layer:
        return replace(
            w,
            attention_norm=gain,
            wq=reads(w.wq, w.attention_norm),
            wk=reads(w.wk, w.attention_norm),
            wv=reads(w.wv, w.attention_norm),
            wo=writes(w.wo),
            mlp_norm=gain,
            w_gate=reads(w.w_gate, w.mlp_norm),
            w_up=reads(w.w_up, w.mlp_norm),
            w_down=writes(w.w_down),
        )

    return replace(
        model,
        config=replace(model.config, tied=False),
        embedding=_times(model.embedding, turn),
        layers=tuple(map(layer, model.layers)),
        final_norm=gain,
        unembedding=reads(model.output, model.final_norm),
    )


def embedding_of_output(gains: NDArray[np.floating], seed: int = 0) -> NDArray[np.float64]:
    """Return what a turned model's output is to be multiplied with to be its embedding.

    ``gains`` are those of the final norm, none of them 0, of a model that was tied before.
    """
    turn = rotation(len(gains), seed)
    return turn.T @ (turn / gains[:, None])


_ROWS = 4096


def _times(matrix: Floats, turn: NDArray[np.float64], gain: Floats | None = None) -> Floats:
    """``matrix * gain @ turn``, computed in float64, some rows at a time."""
    out = np.empty(matrix.shape, np.float32)
    turn = turn if gain is None else gain[:, None] * turn
    for start in range(0, len(matrix), _ROWS):
        out[start : start + _ROWS] = matrix[start : start + _ROWS].astype(np.float64) @ turn
    return out


def balance_values(
    config: ModelConfig, w: Layer, largest: NDArray[np.floating]
) -> tuple[Layer, NDArray[np.float64], NDArray[np.float64]]:
    """Give all channels of a layer's values one range; the matrix behind takes it back.

    ``largest`` is the largest magnitude of each channel [kv_dim]. Beside the layer returns what the
    channels of values [kv_dim], and of contexts [heads * head_dim], are divided by.
    """
    c = config
    scale = _scale(largest)
    heads = np.broadcast_to(
        scale.reshape(c.kv_heads, 1, c.head_dim), (c.kv_heads, c.heads // c.kv_heads, c.head_dim)
    )
    behind = heads.reshape(-1)
    layer = replace(
        w,
        wv=(w.wv / scale[:, None]).astype(np.float32),
        bv=None if w.bv is None else (w.bv / scale).astype(np.float32),
        wo=(w.wo * behind).astype(np.float32),
    )
    return layer, scale, behind


def positive_gains(config: ModelConfig, w: Layer) -> Layer:
    """Give the norms of queries and keys gains of at least 0; rows in front take their signs.

    A norm does not see the signs of what it normalizes, and scale words have none.
    """
    if w.q_norm is None or w.k_norm is None:
        return w
    q, k = (np.where(gain < 0, -1, 1).astype(np.float32) for gain in (w.q_norm, w.k_norm))
    q, k = np.tile(q, config.heads), np.tile(k, config.kv_heads)
    return replace(
        w,
        wq=w.wq * q[:, None],
        wk=w.wk * k[:, None],
        bq=None if w.bq is None else w.bq * q,
        bk=None if w.bk is None else w.bk * k,
        q_norm=np.abs(w.q_norm),
        k_norm=np.abs(w.k_norm),
    )


def _scale(peak: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return factors around 1 in proportion to ``peak``; channels that are nothing count as small."""
    least = max(float(peak.max()) * 1e-3, 1e-9)
    safe = np.maximum(peak.astype(np.float64), least)
    return safe / np.exp(np.log(safe).mean())
