# SPDX-License-Identifier: BSD-2-Clause
"""Shape of a transformer, and what follows from it: weights, products, bytes of the KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from diptych_sim.llm.model import ModelConfig

__all__ = ["FORMATS", "ModelShape", "NumberFormat", "config_of", "shape_of"]


@dataclass(frozen=True)
class NumberFormat:
    """Bytes of a weight by its place, bytes of a key or value, and the arithmetic that multiplies.

    ``weight_only`` formats are widened to bf16 before they are multiplied.
    """

    expert: float
    """Of a weight of the gated network."""
    attention: float
    head: float
    kv: float
    arithmetic: str
    """``bf16``, ``fp8`` or ``fp4``; the next wider one where a system has no such peak."""
    weight_only: bool = False


FORMATS = {
    "bf16": NumberFormat(2, 2, 2, 2, "bf16"),
    "fp16": NumberFormat(2, 2, 2, 2, "bf16"),
    "fp8": NumberFormat(1, 1, 2, 1, "fp8"),
    # int8 and int4 in groups of 32 with scale and zero in bf16, as gpt-fast has them.
    "int8": NumberFormat(1, 1, 1, 2, "bf16", weight_only=True),
    "int4": NumberFormat(0.625, 0.625, 0.625, 2, "bf16", weight_only=True),
    # 4-bit floats with a byte of scale for 16 weights, and for 32.
    "fp4": NumberFormat(0.5625, 0.5625, 2, 1, "fp4"),
    "mxfp4": NumberFormat(0.53125, 2, 2, 2, "fp4"),
    # int8 weights, keys of 16 bits and values of 8.
    "own": NumberFormat(1, 1, 1, 1.5, "int8"),
}
"""Number formats by name; ``mxfp4`` is that of gpt-oss, with 4 bits in the experts only, and ``own`` that
of our machine."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Shape of a decoder with grouped-query attention and gated networks, dense or of experts.

    All sizes are at least 1. ``window`` is the number of positions that ``windowed_layers`` of the
    layers see; the others see all. ``qk_norm``: each query and key is normalized.
    """

    name: str
    layers: int
    dim: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocab: int
    tied: bool = False
    experts: int = 1
    experts_per_token: int = 1
    window: int = 0
    windowed_layers: int = 0
    qk_norm: bool = False

    @property
    def attention_weights(self) -> int:
        """Weights of the attention of a layer."""
        return self.dim * self.head_dim * 2 * (self.heads + self.kv_heads)

    @property
    def expert_weights(self) -> int:
        """Weights of one gated network."""
        return 3 * self.dim * self.hidden

    @property
    def router_weights(self) -> int:
        """Weights that choose the experts of a layer."""
        return self.dim * self.experts if self.experts > 1 else 0

    @property
    def head_weights(self) -> int:
        """Weights of the output matrix."""
        return self.dim * self.vocab

    @property
    def parameters(self) -> int:
        """All weights, but the gains of the norms."""
        layer = self.attention_weights + self.router_weights + self.experts * self.expert_weights
        return self.layers * layer + (1 if self.tied else 2) * self.head_weights

    @property
    def layer_macs(self) -> int:
        """Products with weights of one token in one layer."""
        used = self.experts_per_token * self.expert_weights
        return self.attention_weights + self.router_weights + used

    @property
    def token_macs(self) -> int:
        """Products with weights of one token, the output matrix included."""
        return self.layers * self.layer_macs + self.head_weights

    @property
    def layer_outputs(self) -> int:
        """Sums of products with weights of one token in one layer: outputs of its matrices."""
        attention = self.head_dim * (self.heads + 2 * self.kv_heads) + self.dim
        return attention + self.experts_per_token * (2 * self.hidden + self.dim)

    def experts_used(self, tokens: int) -> float:
        """Experts of a layer that ``tokens`` tokens use, if each chooses at random."""
        missed = (1 - self.experts_per_token / self.experts) ** tokens
        return self.experts * (1 - missed)

    def weight_bytes(self, form: NumberFormat, tokens: int | None = None) -> float:
        """Bytes of weights that a pass of ``tokens`` tokens reads; None: bytes of all weights."""
        used = self.experts if tokens is None else self.experts_used(tokens)
        layer = form.expert * used * self.expert_weights
        layer += form.attention * (self.attention_weights + self.router_weights)
        copies = 1 if self.tied or tokens is not None else 2
        return self.layers * layer + copies * form.head * self.head_weights

    def kv_bytes(self, form: NumberFormat, positions: float) -> float:
        """Bytes of the KV cache of a sequence of ``positions`` positions."""
        return 2 * self.kv_heads * self.head_dim * form.kv * self.seen(positions)

    def seen(self, positions: float) -> float:
        """Positions that all layers together see: ``positions`` each, or the window."""
        windowed = min(positions, self.window) if self.window else positions
        full = self.layers - self.windowed_layers
        return full * positions + self.windowed_layers * windowed

    def attention_macs(self, positions: float) -> float:
        """Products of queries with keys and of powers with values, of one token."""
        return 2 * self.heads * self.head_dim * self.seen(positions)

    def prefill_attention_macs(self, tokens: int) -> float:
        """The same of all tokens of a prompt, each with those up to itself."""
        full = (self.layers - self.windowed_layers) * tokens * tokens / 2
        seen = min(tokens, self.window)
        windowed = self.windowed_layers * (tokens * seen - seen * seen / 2)
        return 2 * self.heads * self.head_dim * (full + windowed)


def shape_of(config: ModelConfig, name: str) -> ModelShape:
    """Return the shape of a model that our machine runs."""
    return ModelShape(
        name=name,
        layers=config.layers,
        dim=config.dim,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        hidden=config.hidden,
        vocab=config.vocab,
        tied=config.tied,
        qk_norm=config.qk_norm,
    )


def config_of(shape: ModelShape, context: int) -> ModelConfig:
    """Return a model of a shape that our machine may run: its experts and windows are left out.

    Raises
    ------
    ValueError
        If a size is out of range.
    """
    return ModelConfig(
        dim=shape.dim,
        hidden=shape.hidden,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_width=shape.head_dim,
        vocab=shape.vocab,
        context=context,
        tied=shape.tied,
        qk_norm=shape.qk_norm,
    )
