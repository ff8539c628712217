# SPDX-License-Identifier: BSD-2-Clause
"""From a float model to the machine's integers.

Weights: int8, symmetric, a scale per output channel, rounded one input column after the other with
the error passed on to the columns that follow (GPTQ, Frantar et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych_sim.golden import numbers
from diptych_sim.golden.float_reference import Activations
from diptych_sim.golden.growth import norm_top
from diptych_sim.golden.hidden_floor import hidden_floor
from diptych_sim.golden.quantized import (
    DEFAULT_ACTIVATION_BITS,
    RESIDUAL_BITS,
    QuantizedLayer,
    QuantizedModel,
)
from diptych_sim.golden.rewrite import balance_values, positive_gains
from diptych_sim.llm.model import Layer, Model, layer_shapes

Reals = NDArray[np.float64]
Progress = Callable[[str], None]
"""Is told, in a few words, what is being done, and after a comma how far."""
HEADROOM = 1.5
"""Static int16 ranges reach this far beyond the largest value seen in calibration."""
HEADROOM8 = 1.1
"""The same for static int8 ranges."""
DAMPING = 0.01
"""Share of the mean diagonal that is added to GPTQ's Hessian."""
ONE_COPY_DAMPING = 1.0
"""The same for an output whose codes are those of the embedding, too: nearer to each weight."""
ONE_COPY_ERROR = 0.02
"""Largest relative error of an embedding that is made of the output's codes."""


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
_LARGEST_GAIN = 65534.0
"""The largest scale of the norm of a query or key."""


_LARGEST_SUM = 2**31
"""Sums of products are below it."""


class Rounder:
    """Rounds matrices to int8 so that what they make of ``x`` [samples, K] changes least."""

    def __init__(self, x: NDArray[np.floating], damping: float = DAMPING) -> None:
        x = x.astype(np.float64)
        hessian = x.T @ x
        hessian += np.eye(len(hessian)) * (damping * np.trace(hessian) / len(hessian) + 1e-9)
        self._factor = _inverse_factor(hessian)

    def round(self, w: NDArray[np.floating]) -> tuple[NDArray[np.int8], Reals]:
        """Return ``q`` and ``step``, so that ``w ~ q * step[:, None]``; ``w`` is [N, K]."""
        step = np.maximum(np.abs(w).max(-1), 1e-12) / 127
        out = np.empty(w.shape, np.int8)
        for first in range(0, len(w), _ROWS):
            rows = slice(first, first + _ROWS)
            # Columns are contiguous, as one after the other is rounded.
            rest = np.ascontiguousarray(w[rows].T, np.float64)
            out[rows] = self._round(rest, step[rows]).T
        return out, step

    def _round(self, rest: Reals, step: Reals) -> NDArray[np.int8]:
        """Round columns ``rest`` [K, N], which are lost."""
        factor, width = self._factor, len(rest)
        out = np.empty(rest.shape, np.int8)
        size = _WHOLE if width <= _WHOLE else _BLOCK
        change = np.empty((min(size, width), rest.shape[1]))
        for start in range(0, width, size):
            end = min(start + size, width)
            errors = np.empty((end - start, rest.shape[1]))
            for k in range(start, end):
                q = np.clip(np.round(rest[k] / step), -127, 127)
                out[k] = q
                error = errors[k - start] = (rest[k] - q * step) / factor[k, k]
                part = change[: end - k]
                np.multiply.outer(factor[k, k:end], error, out=part)
                rest[k:end] -= part
            rest[end:] -= factor[start:end, end:].T @ errors
        return out


def _inverse_factor(hessian: Reals) -> Reals:
    """Return upper ``u`` so that ``u.T @ u`` is the inverse."""
    factor: Any
    if len(hessian) <= _WHOLE:
        factor = np.linalg.cholesky(np.linalg.inv(hessian)).T
        return factor
    # hessian = r r.T with r upper; its inverse is u. A third of the time of the above.
    from scipy.linalg import solve_triangular

    upper = np.linalg.cholesky(hessian[::-1, ::-1])[::-1, ::-1]
    factor = solve_triangular(upper, np.eye(len(upper)), check_finite=False)
    return factor


_ROWS = 4096
"""Rows of a matrix that are rounded at a time."""
_WHOLE, _BLOCK = 256, 16
"""Columns of a matrix that is rounded as one block, and of the blocks of wider ones."""


def largest_weight(model: Model, layer: int | None) -> str:
    """Return the name of the weight with the largest value in a layer, or outside of the layers."""
    if layer is None:
        arrays = {"embedding": model.embedding, "final_norm": model.final_norm}
        if model.unembedding is not None:
            arrays["unembedding"] = model.unembedding
    else:
        arrays = {name: getattr(model.layers[layer], name) for name in layer_shapes(model.config)}
    return max(arrays, key=lambda name: float(np.abs(arrays[name]).max()))


_STREAM = ("middle", "residual")
"""Activations that are the residual stream, in the order in which a layer makes them."""


def _check_finite(model: Model, number: int, acts: Activations) -> None:
    """Refuse activations of a step that are no numbers, and name the weight that has made them so.

    Step 0 is the embedding, then come the layers, then what is behind them.
    """
    for name, rows in acts.items():
        if name in _STREAM or np.isfinite(rows).all():
            continue  # of the residual stream, the norm behind it tells where
        layer = number - 1
        if name.endswith("attention_normed") or name == "final_normed":
            layer -= 1
        elif name == "logits":
            layer = -1
        which = layer if layer >= 0 else None
        raise WeightError(
            which,
            largest_weight(model, which),
            "must let the model compute numbers, not NaN or infinity",
        )


@dataclass(frozen=True, kw_only=True)
class _Rounded:
    """A layer's matrices, with what makes scale words of them once all of the model was seen."""

    weights: Layer
    """What was rounded."""
    matrices: dict[str, NDArray[np.int8]]
    steps: dict[str, Reals]
    """Real value of a unit of each row of a matrix."""
    units: dict[str, float]
    """Real value of a unit of an activation."""
    floor: float
    """Of the magnitudes of hidden elements."""
    dead: frozenset[str]
    """Activations that are always nothing."""


@dataclass(frozen=True)
class _OneCopy:
    """Codes of an output that are those of the embedding, too."""

    codes: NDArray[np.int8]
    step: Reals
    """Real value of a unit of each row of the output."""
    mean: float
    """Real value, of a unit of the output, of a unit of the embedding."""
    rest: Reals
    """[dim, dim]: what makes the embedding of the output but for ``mean``."""


class _Quantizer:
    """Makes a :class:`QuantizedModel`, one layer after the other."""

    def __init__(
        self, model: Model, activation_bits: int, residual_bits: int, tie: Reals | None
    ) -> None:
        self._model = model
        self._tie = tie
        self._bits = activation_bits
        self._residual_bits = residual_bits
        self._top = 2 ** (activation_bits - 1) - 1

    def _rounded(self, index: int, acts: Activations) -> _Rounded:
        w, acts = self._balanced(index, acts)
        matrices, steps = {}, {}

        def largest(name: str, headroom: float) -> float:
            return max(float(np.abs(acts[f"{index}.{name}"]).max()) * headroom, _NOTHING)

        for names, source, gain in (
            (("wq", "wk", "wv"), "attention_normed", w.attention_norm),
            (("wo",), "context", None),
            (("w_gate", "w_up"), "mlp_normed", w.mlp_norm),
            (("w_down",), "hidden", None),
        ):
            rounder = Rounder(acts[f"{index}.{source}"])
            for name in names:
                matrix = getattr(w, name)
                matrix = matrix if gain is None else matrix * gain
                matrices[name], steps[name] = rounder.round(matrix)
                self._check_sums(matrices[name], index, name)
        gate = 2.0**-numbers.GATE_FRACTION
        over = largest("gate", HEADROOM) / (32767 * gate)
        gate *= 2.0 ** max(0, math.ceil(math.log2(over)))
        if gate > 1:
            most = largest("gate", 1.0)
            why = f"must be small enough for integers, not for gates of up to {most:.3g}"
            raise WeightError(index, "w_gate", why)
        units = {
            "q": largest("q", HEADROOM) / numbers.LIMIT16,
            "k": largest("k", HEADROOM) / numbers.LIMIT16,
            "v": largest("v", HEADROOM8) / 127,
            "context": largest("context", HEADROOM8) / self._top,
            "gate": gate,
            "up": largest("up", HEADROOM) / 32767,
        }
        if self._model.config.qk_norm:
            units |= {f"{n}_plain": largest(f"{n}_plain", HEADROOM) / 32767 for n in "qk"}
            # Of wide heads no element comes near the length of all: the scale word sets the unit.
            length = math.sqrt(self._model.config.head_dim)
            for n in "qk":
                gains = getattr(w, f"{n}_norm")
                units[n] = max(units[n], float(gains.max()) * length / _LARGEST_GAIN)
        dead = frozenset(
            name.partition(".")[2]
            for name, rows in acts.items()
            if float(np.abs(rows).max()) < _NOTHING
        )
        floor = hidden_floor(np.abs(acts[f"{index}.hidden"]).max(-1), self._bits)
        return _Rounded(
            weights=w, matrices=matrices, steps=steps, units=units, floor=floor, dead=dead
        )

    def _check_sums(self, codes: NDArray[np.int8], layer: int | None, name: str) -> None:
        """Refuse rows so long that some activations would leave the sums of the hardware."""
        most = int(np.abs(codes).sum(-1, dtype=np.int64).max()) * self._top
        if most >= _LARGEST_SUM:
            raise WeightError(
                layer, name, f"must be rows whose sums stay below {_LARGEST_SUM}, not up to {most}"
            )

    def _balanced(self, index: int, acts: Activations) -> tuple[Layer, Activations]:
        """Return a layer, and its activations, with channels of values of one range."""
        w = positive_gains(self._model.config, self._model.layers[index])
        peak = np.abs(acts[f"{index}.v"]).max(0)
        w, values, contexts = balance_values(self._model.config, w, peak)
        more = {"v": values, "context": contexts}
        scaled = {f"{index}.{n}": acts[f"{index}.{n}"] / scale for n, scale in more.items()}
        return w, acts | scaled

    def _layer(self, i: int, part: _Rounded, norm: float, residual: float) -> QuantizedLayer:
        c, w, unit, step = self._model.config, part.weights, part.units, part.steps

        def of_act(name: str, value: ArrayLike) -> ArrayLike:
            """Return a scale to an activation, which may be anything if that is always nothing."""
            return np.minimum(value, 2.0**15) if name in part.dead else value

        def bias(name: str, array: NDArray[np.float32] | None) -> NDArray[np.int64] | None:
            if array is None:
                return None
            return np.round(np.clip(array / unit[name], -32767, 32767)).astype(np.int64)

        q, k = ("q_plain", "k_plain") if c.qk_norm else ("q", "k")
        hidden = unit["gate"] * unit["up"] * 2.0**16
        score = 256 * unit["q"] * unit["k"] / math.sqrt(c.head_dim)
        more: dict[str, Any] = {}
        if c.qk_norm:
            for name in "qk":
                gain = getattr(w, f"{name}_norm") * math.sqrt(c.head_dim) / unit[name]
                more[f"{name}_norm"] = _scale(of_act(name, gain), i, f"{name}_norm")
                root = math.sqrt(c.norm_eps * c.head_dim) / unit[f"{name}_plain"]
                more[f"{name}_epsilon"] = round(min(root, 2.0**31 - 1))
        return QuantizedLayer(
            **part.matrices,
            q_scale=_scale(of_act(q, step["wq"] * norm / unit[q]), i, "wq"),
            k_scale=_scale(of_act(k, step["wk"] * norm / unit[k]), i, "wk"),
            v_scale=_scale(of_act("v", step["wv"] * norm / unit["v"]), i, "wv"),
            o_scale=_scale(step["wo"] * unit["context"] / residual, i, "wo"),
            gate_scale=_scale(step["w_gate"] * norm / unit["gate"], i, "w_gate"),
            up_scale=_scale(of_act("up", step["w_up"] * norm / unit["up"]), i, "w_up"),
            down_scale=_scale(step["w_down"] * hidden / self._top / residual, i, "w_down"),
            score_scale=int(_scale(score * math.log2(math.e) * 256, i, "wq")),
            context_scale=int(_scale(unit["v"] / unit["context"], i, "wv")),
            gate_fraction=-round(math.log2(unit["gate"])),
            hidden_floor=round(min(2.0**16 * part.floor / hidden, 2.0**31 - 1)),
            bq=bias(q, w.bq),
            bk=bias(k, w.bk),
            bv=bias("v", w.bv),
            **more,
        )

    def quantize(self, steps: Iterable[Activations], progress: Progress) -> QuantizedModel:
        model, c = self._model, self._model.config
        parts: list[_Rounded] = []
        acts, largest = {}, []
        for number, acts in enumerate(steps):
            _check_finite(model, number, acts)
            largest += [np.abs(acts[name]).max(-1) for name in _STREAM if name in acts]
            if 1 <= number <= c.layers:
                progress(f"quantizing the model, {number - 1} of {c.layers} layers")
                parts.append(self._rounded(number - 1, acts))
        peak = max(float(rows.max()) for rows in largest)
        tops = [norm_top(*pair, self._bits) for pair in pairwise(largest)]
        residual = max(peak * _RESIDUAL_HEADROOM, _NOTHING) / (2 ** (self._residual_bits - 1) - 1)
        # Of a row, and of its epsilon, which saturates at 16 bits.
        squares = c.dim * self._top**2 + 32767**2
        square_shift = max(0, math.ceil(math.log2(squares)) - 32)
        norm = math.sqrt(c.dim / 2.0**square_shift)
        epsilon = round(min(math.sqrt(c.norm_eps * c.dim) / residual, 2.0**31 - 1))
        progress(f"quantizing the model, {c.layers} of {c.layers} layers")
        one = self._one_copy(acts)
        if one is None:
            output, step = Rounder(acts["final_normed"]).round(model.output * model.final_norm)
        else:
            output, step = one.codes, one.step
        self._check_sums(output, None, "final_norm")
        logit_bits = 32 - max(1, math.ceil(math.log2(c.vocab)))
        top = self._largest_logit(acts, norm)
        logit_step = top / (2 ** (logit_bits - 1) - 1)
        scale = step * norm / logit_step
        if float(acts["logits"].max()) < _NOTHING:
            scale = np.minimum(scale, 2.0**15)
        output_scale = _scale(scale, None, "final_norm")
        return QuantizedModel(
            config=c,
            name=model.name,
            **self._embedding(one, output_scale, logit_step / norm, residual),
            layers=tuple(
                replace(
                    self._layer(i, part, norm, residual),
                    mlp_norm_top=tops[2 * i],
                    next_norm_top=tops[2 * i + 1],
                )
                for i, part in enumerate(parts)
            ),
            output=output,
            output_scale=output_scale,
            logit_bits=logit_bits,
            rope=numbers.rope_table(c.context, c.head_dim, c.rope_theta, c.rope_divisors or 1.0),
            square_shift=square_shift,
            epsilon=epsilon,
            residual_step=residual,
            logit_step=logit_step,
            largest_logit=max(float(np.abs(acts["logits"]).max()), _NOTHING),
            activation_bits=self._bits,
            residual_bits=self._residual_bits,
        )

    def _one_copy(self, acts: Activations) -> _OneCopy | None:
        """Round the output so that the embedding can have its codes; None if it must not or cannot."""
        model, tie = self._model, self._tie
        if tie is None or np.trace(tie) <= 0:
            return None
        rounder = Rounder(acts["final_normed"], ONE_COPY_DAMPING)
        codes, step = rounder.round(model.output * model.final_norm)
        wrong = whole = 0.0
        for first in range(0, len(codes), _ROWS):
            rows = slice(first, first + _ROWS)
            wanted = model.embedding[rows].astype(np.float64)
            wrong += float(np.sum((codes[rows] * step[rows, None] @ tie - wanted) ** 2))
            whole += float(np.sum(wanted**2))
        if not wrong <= ONE_COPY_ERROR**2 * whole:  # it may be no number
            return None
        mean = float(np.trace(tie)) / len(tie)
        return _OneCopy(codes, step, mean, (tie - mean * np.eye(len(tie))).T)

    def _embedding(
        self, one: _OneCopy | None, output_scale: NDArray[np.int64], unit: float, residual: float
    ) -> dict[str, Any]:
        """Return the embedding; ``unit`` is what a unit of ``output_scale`` is of a step."""
        if one is None:
            weights = self._model.embedding
            step = np.maximum(np.abs(weights).max(-1), 1e-12) / 127
            return {
                "embedding": np.round(weights / step[:, None]).astype(np.int8),
                "embedding_scale": _scale(step / residual, None, "embedding"),
            }
        ratio = int(_scale(one.mean * unit / residual, None, "embedding"))
        step = np.maximum(np.abs(one.rest).max(-1), 1e-12) / 127
        return {
            "embedding": one.codes,
            "embedding_scale": numbers.combine(output_scale, ratio),
            "tie": np.round(one.rest / step[:, None]).astype(np.int8),
            "tie_scale": _scale(step / one.mean, None, "embedding"),
            "tie_ratio": ratio,
        }

    def _largest_logit(self, acts: Activations, norm: float) -> float:
        """Return the largest magnitude of a logit without the norm's dynamic scale."""
        rows = acts["final_normed"]
        dynamic = np.abs(rows).max(-1) / self._top / norm
        plain = acts["logits"][:, 0] / np.maximum(dynamic, _NOTHING)
        return max(float(plain.max()) * 2 * HEADROOM, _NOTHING)


_RESIDUAL_HEADROOM = 8.0
"""How far the residual stream reaches beyond the largest value seen."""


def quantize(
    model: Model,
    steps: Iterable[Activations],
    progress: Progress | None = None,
    *,
    activation_bits: int = DEFAULT_ACTIVATION_BITS,
    residual_bits: int = RESIDUAL_BITS,
    tie: Reals | None = None,
) -> QuantizedModel:
    """Quantize ``model``; ``steps`` are its float activations on calibration tokens.

    They come as :meth:`.FloatReference.activations` gives them; normed values are without gain.
    ``progress`` is told each layer. With ``tie``, by which the output becomes the embedding, both
    have the same codes if the embedding is hardly worse for it.

    Raises
    ------
    WeightError
        If a scale of the model does not fit a scale word, or what it computes is no number.
    """
    quantizer = _Quantizer(model, activation_bits, residual_bits, tie)
    return quantizer.quantize(steps, progress or (lambda _step: None))
