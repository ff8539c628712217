# SPDX-License-Identifier: BSD-2-Clause
"""The model as the machine holds it: integers only."""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diptych_sim.golden import numbers
from diptych_sim.golden.noise import LARGEST, UNIT
from diptych_sim.llm.model import ModelConfig

DEFAULT_ACTIVATION_BITS = 12
RESIDUAL_BITS = 24
"""Bits of the numbers unless told otherwise."""
ONE_COPY = 10_000_000
"""Weights from which on the embedding and the output of a tied model share their codes."""
Bytes = NDArray[np.int8]
Words = NDArray[np.int64]


def has_one_copy(config: ModelConfig) -> bool:
    """Whether embedding and output of a model share their codes, if its weights allow it.

    Small models have room for both, and are faster with them.
    """
    return config.tied and config.parameters >= ONE_COPY


@dataclass(frozen=True, kw_only=True)
class QuantizedLayer:
    """Integers of one layer; ``*_scale`` are scale words, one per output channel.

    The RMSNorm gains are folded into the columns of the matrices that follow.
    """

    wq: Bytes
    """[heads * head_dim, dim]."""
    wk: Bytes
    """[kv_dim, dim]."""
    wv: Bytes
    """[kv_dim, dim]."""
    wo: Bytes
    """[dim, heads * head_dim]."""
    w_gate: Bytes
    """[hidden, dim]."""
    w_up: Bytes
    """[hidden, dim]."""
    w_down: Bytes
    """[dim, hidden]."""
    q_scale: Words
    """To int16; combined with the norm's dynamic scale."""
    k_scale: Words
    """To int16; combined with the norm's dynamic scale."""
    v_scale: Words
    """To int8; combined with the norm's dynamic scale."""
    o_scale: Words
    """To the residual stream."""
    gate_scale: Words
    """To int16 with ``gate_fraction`` bits of fraction; combined with the norm's dynamic scale."""
    up_scale: Words
    """To int16; combined with the norm's dynamic scale."""
    down_scale: Words
    """To the residual stream; combined with the scale word of the row's largest magnitude."""
    score_scale: int
    """Scale word: score distance to 1/256 of a power of two."""
    context_scale: int
    """Scale word: sum of exponentials times V to an activation; combined with the reciprocal of
    their sum."""
    gate_fraction: int = 11
    """Fraction bits of the gate's int16, at most 11."""
    hidden_floor: int = 0
    """The smallest magnitude by which gated elements are scaled: rows whose largest one is below it share a
    scale, which is known before that is."""
    mlp_norm_top: int = 0
    """Scale word of RMSNorm ahead of the gated network: the largest activation, over how much the
    largest magnitude of a row may have grown since the norm before. 0 if the row's own magnitude
    counts."""
    next_norm_top: int = 0
    """The same of the norm behind the layer: the next one's ahead of attention, or the last."""
    bq: Words | None = None
    """Bias [heads * head_dim], in units of the result."""
    bk: Words | None = None
    """[kv_dim]."""
    bv: Words | None = None
    """[kv_dim]."""
    q_norm: Words | None = None
    """Scale words [head_dim] of the norm of a query: from its integers to int16."""
    k_norm: Words | None = None
    """[head_dim], for keys."""
    q_epsilon: int = 0
    """Epsilon of that norm, as ``QuantizedModel.epsilon``."""
    k_epsilon: int = 0
    """For keys."""


@dataclass(frozen=True, kw_only=True)
class QuantizedModel:
    """Integers of a whole model.

    ``residual_step`` and ``logit_steps`` are for reports alone.
    """

    config: ModelConfig
    name: str
    embedding: Bytes
    """[vocab, dim]."""
    embedding_scale: Words
    """[vocab], to the residual stream."""
    layers: tuple[QuantizedLayer, ...]
    output: Bytes
    """[vocab, dim], the final norm's gain folded in."""
    output_scale: Words
    """[vocab], to a logit of ``logit_bits``."""
    logit_bits: int
    """Signed bits of a logit: 32 minus the bits of a token number."""
    rope: Words
    """[context, head_dim / 2, 2]: cosine and sine, Q14."""
    square_shift: int
    """Bits dropped from each square in RMSNorm."""
    epsilon: int
    """Root of RMSNorm's epsilon times the elements of a row, in units of the residual stream: one
    more element of each row."""
    residual_step: float
    """Real value of one unit of the residual stream."""
    logit_step: float
    """Real value of one unit of a logit, before the norm's dynamic scale."""
    largest_logit: float
    """Largest magnitude of a real logit of the calibration: room for sampling, alone."""
    activation_bits: int = DEFAULT_ACTIVATION_BITS
    """Of what matrices multiply: 8 or 12."""
    residual_bits: int = RESIDUAL_BITS
    """Of the residual stream, 16 to 26. More would leave scale words."""
    rotation: int | None = None
    """Seed of the rotation that the residual stream was turned by; for reports alone."""
    noise_shift: int | None = None
    """Bits that noise drops, of a model whose tokens are drawn; None if the best one is taken."""
    tie: Bytes | None = None
    """[dim, dim] of a model whose ``embedding`` has the codes of ``output``, else None: a row of codes
    times its scale and, added to it, times this matrix is what enters the residual stream."""
    tie_scale: Words | None = None
    """[dim], to the residual stream; combined with the token's ``embedding_scale``."""
    tie_ratio: int = 0
    """Scale word that makes ``embedding_scale`` of ``output_scale``, unless tokens are drawn."""

    @property
    def has_floors(self) -> bool:
        """Whether some layer has a floor of the magnitudes of hidden elements."""
        return any(layer.hidden_floor for layer in self.layers)

    @property
    def norm_tops(self) -> list[int]:
        """Scale words of the norms behind the first one, in order; 0 for those by their own rows."""
        return [top for w in self.layers for top in (w.mlp_norm_top, w.next_norm_top)]

    def sampled(self, temperature: float) -> QuantizedModel:
        """Return the model whose tokens are drawn from the softmax of logits by ``temperature``.

        Its logits are scaled by the norm, too, and in the unit of the noise that is added to them:
        a power of two below that of :data:`.UNIT`, so that both fit into ``logit_bits``, logits of
        twice the largest one of the calibration included.

        Raises
        ------
        ValueError
            If no such unit resolves them.
        """
        room = 2 ** (self.logit_bits - 1) - 1
        reach = 2 * self.largest_logit / math.log(2)
        least = reach / (room - LARGEST * UNIT)
        if not temperature >= least:  # it may be no number
            raise ValueError(
                f"Temperature must be 0, or at least {least:.2g} for the integers of this model, "
                f"not {temperature:g}"
            )
        finest = round(-math.log2(UNIT))
        fraction = min(finest, math.floor(math.log2(room / (reach / temperature + LARGEST * UNIT))))
        factor = self.logit_step * 2**fraction / (temperature * math.log(2))
        return replace(
            self,
            output_scale=numbers.scale_word(numbers.real_of(self.output_scale) * factor),
            logit_step=math.nan,
            noise_shift=finest - fraction,
        )

    def to_bytes(self) -> bytes:
        """Return all of it as the content of an ``.npz`` file."""
        arrays: dict[str, Any] = {}
        plain: list[dict[str, Any]] = []
        for number, part in enumerate((self, *self.layers)):
            plain.append({})
            for name in (field.name for field in fields(part)):
                value = getattr(part, name)
                if isinstance(value, np.ndarray):
                    arrays[f"{number}.{name}"] = value
                elif name not in ("config", "layers"):
                    plain[-1][name] = value
        text = json.dumps({"config": asdict(self.config), "plain": plain})
        content = io.BytesIO()
        np.savez(content, about=np.frombuffer(text.encode(), np.uint8), **arrays)
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return what :meth:`to_bytes` has made bytes of."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(arrays.pop("about").tobytes())
        model, *layers = about["plain"]
        for name, array in arrays.items():
            number, _, name = name.partition(".")
            about["plain"][int(number)][name] = array
        about["config"]["rope_divisors"] = tuple(about["config"]["rope_divisors"])
        return cls(
            config=ModelConfig(**about["config"]),
            layers=tuple(QuantizedLayer(**layer) for layer in layers),
            **model,
        )
