# SPDX-License-Identifier: BSD-2-Clause
# pyright: reportMissingImports=false
# Only the recipe needs torch, which the development tools leave out.
"""The Llama architecture in torch, for training only."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from diptych_sim.llm.model import ModelConfig


class Norm(nn.Module):
    """RMSNorm over the last axis."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.gain.shape, self.gain, self.epsilon)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding of ``x`` [..., T, head_dim] by interleaved pairs."""
    even, odd = x[..., 0::2], x[..., 1::2]
    pairs = (even * cosine - odd * sine, even * sine + odd * cosine)
    return torch.stack(pairs, dim=-1).flatten(-2)


class Block(nn.Module):
    """One layer: attention, then the gated network, each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_norm = Norm(config.dim, config.norm_eps)
        self.wq = nn.Linear(config.dim, config.heads * config.head_dim, bias=False)
        self.wk = nn.Linear(config.dim, config.kv_dim, bias=False)
        self.wv = nn.Linear(config.dim, config.kv_dim, bias=False)
        self.wo = nn.Linear(config.heads * config.head_dim, config.dim, bias=False)
        self.mlp_norm = Norm(config.dim, config.norm_eps)
        self.w_gate = nn.Linear(config.dim, config.hidden, bias=False)
        self.w_up = nn.Linear(config.dim, config.hidden, bias=False)
        self.w_down = nn.Linear(config.hidden, config.dim, bias=False)

    def _heads(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        return x.view(batch, length, -1, self.config.head_dim).transpose(1, 2)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        q = rotate(self._heads(self.wq(normed)), cosine, sine)
        k = rotate(self._heads(self.wk(normed)), cosine, sine)
        v = self._heads(self.wv(normed))
        share = self.config.heads // self.config.kv_heads
        context = functional.scaled_dot_product_attention(
            q, k.repeat_interleave(share, 1), v.repeat_interleave(share, 1), is_causal=True
        )
        x = x + self.wo(context.transpose(1, 2).flatten(2))
        normed = self.mlp_norm(x)
        return x + self.w_down(functional.silu(self.w_gate(normed)) * self.w_up(normed))


class Network(nn.Module):
    """Token numbers [B, T] -> logits [B, T, vocab]; output tied to the embedding."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = Norm(config.dim, config.norm_eps)
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
        angles = torch.outer(
            torch.arange(config.context, dtype=torch.float64), config.rope_theta**-exponents
        )
        self.register_buffer("cosine", angles.cos().float(), persistent=False)
        self.register_buffer("sine", angles.sin().float(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02 if name.startswith("embedding") else 0.08)
            if name.endswith(("wo.weight", "w_down.weight")):
                weight.data /= math.sqrt(2 * config.layers)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        length = tokens.shape[1]
        for block in self.blocks:
            x = block(x, self.cosine[:length], self.sine[:length])
        return functional.linear(self.final_norm(x), self.embedding.weight)
