# SPDX-License-Identifier: BSD-2-Clause
"""From a float model to the machine's integers.

Weights: int8, symmetric, a scale per output channel, rounded one input column after the other with
the error passed on to the columns that follow (GPTQ, Frantar et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych_sim.golden import numbers
from diptych_sim.golden.quantized import QuantizedLayer, QuantizedModel
from diptych_sim.llm.model import Layer, Model

Reals = NDArray[np.float64]
HEADROOM = 1.5
"""Static int16 ranges reach this far beyond the largest value seen in calibration."""
HEADROOM8 = 1.1
"""The same for static int8 ranges."""
DAMPING = 0.01
"""Share of the mean diagonal that is added to GPTQ's Hessian."""


class WeightError(ValueError):
    """Weights that integers cannot hold: which, ``(layer or None, name)``, and why."""

    def __init__(self, layer: int | None, name: str, why: str) -> None:
        super().__init__(why)
        self.layer, self.name = layer, name


_NOTHING = 1e-6
"""Activations below it are 0."""
_SMALLEST = 2.0**-48
"""A scale below it makes 0 of any integer, also with a row's largest magnitude of 2**15."""


def _scale(value: ArrayLike, layer: int | None, name: str) -> NDArray[np.int64]:
    """Return the scale words of a weight's results, 0 for those that round to 0 anyway.

    Raises
    ------
    WeightError
        If one is too large for a scale word, or no number.
    """
    real = np.asarray(value, np.float64)
    if not np.all(np.isfinite(real)) or np.any(real >= _LARGEST):
        raise WeightError(
            layer, name, f"must be small enough for integers, not up to a scale of {real.max():.3g}"
        )
    return numbers.scale_word(np.where(real < _SMALLEST, 0.0, real))


_LARGEST = 65535.0
"""The largest scale word, with shift 0."""


def quantize_matrix(w: NDArray[np.floating], x: Reals) -> tuple[NDArray[np.int8], Reals]:
    """Round ``w`` [N, K] to int8 so that ``x @ w.T`` changes least, x [samples, K] -> (q, step).

    ``w ~ q * step[:, None]``.
    """
    step = np.maximum(np.abs(w).max(-1), 1e-12) / 127
    hessian = x.T @ x
    hessian += np.eye(len(hessian)) * (DAMPING * np.trace(hessian) / len(hessian) + 1e-9)
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T
    rest = w.astype(np.float64).copy()
    out = np.zeros(w.shape, np.int8)
    for k in range(w.shape[1]):
        q = np.clip(np.round(rest[:, k] / step), -127, 127)
        out[:, k] = q
        error = (rest[:, k] - q * step) / factor[k, k]
        rest[:, k:] -= np.outer(error, factor[k, k:])
    return out, step


def largest_weight(model: Model, layer: int | None) -> str:
    """Return the name of the weight with the largest value in a layer, or outside of the layers."""
    if layer is None:
        arrays = {"embedding": model.embedding, "final_norm": model.final_norm}
    else:
        arrays = {name: getattr(model.layers[layer], name) for name in Layer.__dataclass_fields__}
    return max(arrays, key=lambda name: float(np.abs(arrays[name]).max()))


def _check_finite(model: Model, acts: Mapping[str, Reals]) -> None:
    """Refuse activations that are no numbers, and name the weight that has made them so."""
    for name, rows in acts.items():
        if name == "residual" or np.isfinite(rows).all():
            continue  # of the residual stream, the norm behind it tells where
        number, _, part = name.rpartition(".")
        layer = int(number) if number else None
        if part == "attention_normed" and layer is not None:
            layer = layer - 1 if layer else None
        elif part == "final_normed":
            layer = model.config.layers - 1
        raise WeightError(
            layer,
            largest_weight(model, layer),
            "must let the model compute numbers, not NaN or infinity",
        )


def quantize(
    model: Model, acts: Mapping[str, Reals], progress: Callable[[str], None] | None = None
) -> QuantizedModel:
    """Quantize ``model``; ``acts`` are its float activations on calibration tokens.

    ``progress`` is told each layer.

    Keys of ``acts`` (each [samples, width]): ``residual``, ``final_normed``, ``logits``, and for
    each layer ``i``: ``{i}.attention_normed``, ``{i}.q``, ``{i}.k`` (rotated), ``{i}.v``,
    ``{i}.context``, ``{i}.mlp_normed``, ``{i}.up``, ``{i}.hidden``; normed values without gain.

    Raises
    ------
    WeightError
        If a scale of the model does not fit a scale word, or what it computes is no number.
    """
    c = model.config
    progress = progress or (lambda _step: None)
    _check_finite(model, acts)

    def largest(name: str, headroom: float) -> float:
        return max(float(np.abs(acts[name]).max()) * headroom, _NOTHING)

    def of_act(name: str, value: ArrayLike) -> ArrayLike:
        """Return a scale to an activation, which may be anything if that is always nothing."""
        dead = float(np.abs(acts[name]).max()) < _NOTHING
        return np.minimum(value, 2.0**15) if dead else value

    residual_step = largest("residual", HEADROOM) / 32767
    square_shift = max(0, math.ceil(math.log2(c.dim)) - 1)
    # x / rms = values * (max|x| / 127) / sqrt(sum / dim), sums counted after dropped bits.
    norm_step = math.sqrt(c.dim / 2.0**square_shift) / 127
    epsilon = round(c.norm_eps * c.dim / residual_step**2 / 2.0**square_shift)

    layers = []
    for i, w in enumerate(model.layers):
        progress(f"quantizing the model, {i} of {c.layers} layers")
        an, mn = acts[f"{i}.attention_normed"], acts[f"{i}.mlp_normed"]
        wq, sq = quantize_matrix(w.wq * w.attention_norm, an)
        wk, sk = quantize_matrix(w.wk * w.attention_norm, an)
        wv, sv = quantize_matrix(w.wv * w.attention_norm, an)
        wo, so = quantize_matrix(w.wo, acts[f"{i}.context"])
        wg, sg = quantize_matrix(w.w_gate * w.mlp_norm, mn)
        wu, su = quantize_matrix(w.w_up * w.mlp_norm, mn)
        wd, sd = quantize_matrix(w.w_down, acts[f"{i}.hidden"])
        q_step = largest(f"{i}.q", HEADROOM) / numbers.LIMIT16
        k_step = largest(f"{i}.k", HEADROOM) / numbers.LIMIT16
        v_step = largest(f"{i}.v", HEADROOM8) / 127
        context_step = largest(f"{i}.context", HEADROOM8) / 127
        up_step = largest(f"{i}.up", HEADROOM) / 32767
        hidden_step = largest(f"{i}.hidden", 2 * HEADROOM) / 32767
        gate_step = 2.0**-numbers.GATE_FRACTION
        score_step = 256 * q_step * k_step / math.sqrt(c.head_dim)
        layers.append(
            QuantizedLayer(
                wq=wq,
                wk=wk,
                wv=wv,
                wo=wo,
                w_gate=wg,
                w_up=wu,
                w_down=wd,
                q_scale=_scale(of_act(f"{i}.q", sq * norm_step / q_step), i, "wq"),
                k_scale=_scale(of_act(f"{i}.k", sk * norm_step / k_step), i, "wk"),
                v_scale=_scale(of_act(f"{i}.v", sv * norm_step / v_step), i, "wv"),
                o_scale=_scale(so * context_step / residual_step, i, "wo"),
                gate_scale=_scale(sg * norm_step / gate_step, i, "w_gate"),
                up_scale=_scale(of_act(f"{i}.up", su * norm_step / up_step), i, "w_up"),
                down_scale=_scale(sd * hidden_step / 127 / residual_step, i, "w_down"),
                score_scale=int(_scale(score_step * math.log2(math.e) * 256, i, "wq")),
                context_scale=int(_scale(v_step / context_step, i, "wv")),
                hidden_scale=int(_scale(gate_step * up_step / hidden_step, i, "w_up")),
            )
        )

    output, so = quantize_matrix(model.output * model.final_norm, acts["final_normed"])
    logit_bits = 32 - max(1, math.ceil(math.log2(c.vocab)))
    top = largest("logits", 2 * HEADROOM)  # twice: a logit leaves out `dynamic`, at least 0.7
    logit_step = top / (2 ** (logit_bits - 1) - 1)
    embedding_step = np.maximum(np.abs(model.embedding).max(-1), 1e-12) / 127
    embedding = np.round(model.embedding / embedding_step[:, None]).astype(np.int8)
    return QuantizedModel(
        config=c,
        name=model.name,
        embedding=embedding,
        embedding_scale=_scale(embedding_step / residual_step, None, "embedding"),
        layers=tuple(layers),
        output=output,
        output_scale=_scale(of_act("logits", so * norm_step / logit_step), None, "final_norm"),
        logit_bits=logit_bits,
        rope=numbers.rope_table(c.context, c.head_dim, c.rope_theta),
        square_shift=square_shift,
        epsilon=epsilon,
        residual_step=residual_step,
        logit_step=logit_step,
    )
