# SPDX-License-Identifier: BSD-2-Clause
"""A model in floating point, as loaded from a file: Llama and its near relatives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of a model: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

    Parameters
    ----------
    dim : int
        Width of the residual stream; a multiple of ``heads`` without ``head_width``.
    hidden : int
        Width of the gated network; at least 1.
    layers : int
        Number of layers; at least 1.
    heads : int
        Number of query heads; a multiple of ``kv_heads``.
    kv_heads : int
        Number of key and value heads; at least 1.
    vocab : int
        Number of tokens; at least 2.
    context : int
        Largest number of positions; at least 2.
    rope_theta : float
        Base of the rotary angles: pair ``i`` turns by ``rope_theta ** (-2 i / head_dim)`` a
        position; greater than 0.
    norm_eps : float
        Added to the mean square in RMSNorm; at least 0.
    head_width : int, optional
        Width of a head; even. Without it ``dim / heads``.
    tied : bool
        Whether the output matrix is the embedding.
    qkv_bias : bool
        Whether queries, keys and values have a bias (Qwen2).
    qk_norm : bool
        Whether the head of each query and key is normalized ahead of its rotation (Qwen3).
    rope_divisors : tuple of float, optional
        Pair ``i`` turns slower by ``rope_divisors[i]``, greater than 0; without them, all by 1.

    Raises
    ------
    ValueError
        If a parameter is outside its range.
    """

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    head_width: int | None = None
    tied: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False
    rope_divisors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for words, value, least in (
            ("Model width", self.dim, 1),
            ("Hidden width", self.hidden, 1),
            ("Number of layers", self.layers, 1),
            ("Number of heads", self.heads, 1),
            ("Number of KV heads", self.kv_heads, 1),
            ("Vocabulary size", self.vocab, 2),
            ("Context length", self.context, 2),
        ):
            if value < least:
                raise ValueError(f"{words} must be at least {least}, not {value!r}")
        if self.head_width is None and self.dim % self.heads:
            raise ValueError(
                f"Model width must be a multiple of the number of heads {self.heads!r}, "
                f"not {self.dim!r}"
            )
        if self.head_dim % 2 or self.head_dim < 2:
            raise ValueError(
                f"Head width must be even, for rotary pairs, not {self.head_dim!r} "
                f"(model width {self.dim!r}, {self.heads!r} heads)"
            )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"Number of heads must be a multiple of the number of KV heads {self.kv_heads!r}, "
                f"not {self.heads!r}"
            )
        if not 0 < self.rope_theta < float("inf"):
            raise ValueError(f"Rotary base must be greater than 0, not {self.rope_theta!r}")
        if not 0 <= self.norm_eps < float("inf"):
            raise ValueError(f"Norm epsilon must be at least 0, not {self.norm_eps!r}")
        if self.rope_divisors and len(self.rope_divisors) != self.head_dim // 2:
            raise ValueError(
                f"Number of rotary divisors must be {self.head_dim // 2!r}, "
                f"not {len(self.rope_divisors)!r}"
            )
        for divisor in self.rope_divisors:
            if not 0 < divisor < float("inf"):
                raise ValueError(f"Rotary divisor must be greater than 0, not {divisor!r}")

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.dim // self.heads if self.head_width is None else self.head_width

    @property
    def q_dim(self) -> int:
        """Width of all queries of one position in one layer."""
        return self.heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of all keys, or all values, of one position in one layer."""
        return self.kv_heads * self.head_dim

    @property
    def parameters(self) -> int:
        """Number of weights; an embedding that is the output, too, counts once."""
        layer = sum(math.prod(shape) for shape in layer_shapes(self).values())
        outside = self.vocab * self.dim * (1 if self.tied else 2)
        return outside + self.layers * layer + self.dim


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Weights of one layer; a matrix is [outputs, inputs].

    ``wq`` and ``wk`` are for rotary pairs (2i, 2i + 1) within each head.
    """

    attention_norm: Floats
    """[dim]."""
    wq: Floats
    """[heads * head_dim, dim]."""
    wk: Floats
    """[kv_dim, dim]."""
    wv: Floats
    """[kv_dim, dim]."""
    wo: Floats
    """[dim, heads * head_dim]."""
    mlp_norm: Floats
    """[dim]."""
    w_gate: Floats
    """[hidden, dim]."""
    w_up: Floats
    """[hidden, dim]."""
    w_down: Floats
    """[dim, hidden]."""
    bq: Floats | None = None
    """[heads * head_dim], if there are biases."""
    bk: Floats | None = None
    """[kv_dim]."""
    bv: Floats | None = None
    """[kv_dim]."""
    q_norm: Floats | None = None
    """Gain [head_dim] of the norm of each query, if there is one; in rotary pairs."""
    k_norm: Floats | None = None
    """[head_dim], for keys."""


def layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every array that a :class:`Layer` of such a model has, by name."""
    dim, hidden, q_dim, kv_dim = config.dim, config.hidden, config.q_dim, config.kv_dim
    shapes: dict[str, tuple[int, ...]] = {
        "attention_norm": (dim,),
        "wq": (q_dim, dim),
        "wk": (kv_dim, dim),
        "wv": (kv_dim, dim),
        "wo": (dim, q_dim),
        "mlp_norm": (dim,),
        "w_gate": (hidden, dim),
        "w_up": (hidden, dim),
        "w_down": (dim, hidden),
    }
    if config.qkv_bias:
        shapes |= {"bq": (q_dim,), "bk": (kv_dim,), "bv": (kv_dim,)}
    if config.qk_norm:
        shapes |= {"q_norm": (config.head_dim,), "k_norm": (config.head_dim,)}
    return shapes


@dataclass(frozen=True, kw_only=True)
class Model:
    """Weights of a model, float32.

    Raises
    ------
    ValueError
        If an array has another shape or type than ``config`` asks for, or a value that is not
        finite.
    """

    config: ModelConfig
    name: str
    embedding: Floats
    """[vocab, dim]."""
    layers: tuple[Layer, ...]
    final_norm: Floats
    """[dim]."""
    unembedding: Floats | None = None
    """[vocab, dim], the output matrix of a model that is not tied."""

    def __post_init__(self) -> None:
        c = self.config
        if len(self.layers) != c.layers:
            raise ValueError(f"Layers must be {c.layers!r}, not {len(self.layers)!r}")
        _check("embedding", self.embedding, (c.vocab, c.dim))
        _check("final_norm", self.final_norm, (c.dim,))
        if (self.unembedding is None) != c.tied:
            raise ValueError(f"Output matrix must be {'left out' if c.tied else 'given'}")
        if self.unembedding is not None:
            _check("output", self.unembedding, (c.vocab, c.dim))
        shapes = layer_shapes(c)
        for index, layer in enumerate(self.layers):
            for name in Layer.__dataclass_fields__:
                array = getattr(layer, name)
                if (array is None) != (name not in shapes):
                    words = "given" if name in shapes else "left out"
                    raise ValueError(f"Array {name} of layer {index} must be {words}")
                if array is not None:
                    _check(f"layer {index} {name}", array, shapes[name])

    @property
    def output(self) -> Floats:
        """The output matrix [vocab, dim]."""
        return self.embedding if self.unembedding is None else self.unembedding


def _check(name: str, array: Floats, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"Shape of {name} must be {shape!r}, not {array.shape!r}")
    if array.dtype != np.float32:
        raise ValueError(f"Type of {name} must be float32, not {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"Values of {name} must be finite, not NaN or infinity")
