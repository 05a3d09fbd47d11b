"""The temporal transformer: one set of weights that streams, looks k steps ahead, or sees the whole clip.

Time enters as rotations of queries and keys by angles proportional to the real time stamps (rotary encoding, Su et
al., 2021, with continuous positions), so only time differences matter and any frame rate or dropped frame is
described exactly. Which steps may see which is a mask, never a weight.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate pairs of channels: x (B, H, T, D), rotation (B, T, 2, D/2)."""
    cos, sin = rotation[:, None, :, 0], rotation[:, None, :, 1]
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class TemporalLayer(nn.Module):
    """Pre-norm attention and feed-forward, with an explicit path for keys and values that come from elsewhere."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, 3 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(3 * dim, dim))
        self.drop = nn.Dropout(dropout)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Rotated keys and plain values (B, H, T, D) of tokens (B, T, C)."""
        key, value = self.key_value(self.norm1(x)).chunk(2, dim=-1)
        return rotate(self._split(key), rotation), self._split(value)

    def attend(self, x: Tensor, rotation: Tensor, key: Tensor, value: Tensor, allow: Tensor) -> Tensor:
        """Update tokens (B, Tq, C) from keys and values (B, H, Tk, D) under a mask (B, Tq, Tk), true = seen."""
        query = rotate(self._split(self.query(self.norm1(x))), rotation)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allow[:, None])
        x = x + self.drop(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.drop(self.feed(self.norm2(x)))

    def forward(self, x: Tensor, rotation: Tensor, allow: Tensor) -> Tensor:
        """Whole sequences: (B, T, C) to (B, T, C)."""
        key, value = self.keys_values(x, rotation)
        return self.attend(x, rotation, key, value, allow)


class TemporalTransformer(nn.Module):
    """A stack of :class:`TemporalLayer` with a streaming twin."""

    def __init__(self, dim: int, heads: int, layers: int, *, window_s: float, ring: int, dropout: float) -> None:
        super().__init__()
        self.dim, self.heads, self.window_s, self.ring = dim, heads, window_s, ring
        self.layers = nn.ModuleList(TemporalLayer(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        for layer in self.layers:
            assert isinstance(layer, TemporalLayer)
            # start near the identity: a deep stack then trains without a long warm-up
            last = layer.feed[-1]
            assert isinstance(last, nn.Linear)
            nn.init.normal_(layer.out.weight, std=0.02 / math.sqrt(2 * layers))
            nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * layers))

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads

    def forward(self, tokens: Tensor, rotation: Tensor, first: Tensor, rest: Tensor) -> Tensor:
        """Run whole sequences.

        Args:
            tokens: (B, T, C).
            rotation: (B, T, 2, D/2) of :func:`egopose.model.clock.time_rotation`.
            first: (B, T, T) bool mask of the first layer, [query, key].
            rest: (B, T, T) bool mask of the other layers.

        Returns:
            (B, T, C).
        """
        for i, layer in enumerate(self.layers):
            tokens = layer(tokens, rotation, first if i == 0 else rest)
        return self.norm(tokens)

    def empty_cache(self, batch: int = 1, *, device: torch.device | str = "cpu") -> Tensor:
        """A cache without steps: (layers, 2, B, H, ring, D), keys then values."""
        shape = (len(self.layers), 2, batch, self.heads, self.ring, self.head_dim)
        return torch.zeros(shape, device=device)

    def push(self, newest: Tensor, rotation: Tensor, cache: Tensor) -> Tensor:
        """The cache with the newest step's keys and values in the first layer's last place, the oldest gone."""
        key, value = self.layers[0].keys_values(newest, rotation)  # type: ignore[operator]
        first = torch.cat([cache[0, :, :, :, 1:], torch.stack([key, value])], dim=3)
        return torch.cat([first[None], cache[1:]])

    def read(
        self, query: Tensor, rotation: Tensor, first: Tensor, rest: Tensor, cache: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Finish one step from the cache.

        Args:
            query: (B, 1, C) token of the step to finish: the newest, or the one k steps before it.
            rotation: (B, 1, 2, D/2) of that step.
            first: (B, 1, ring) bool, which cached steps of the first layer it sees.
            rest: (B, 1, ring) bool, the same for the other layers, counted after this step was added.
            cache: Of :meth:`push`.

        Returns:
            The finished token (B, 1, C) and the new cache.
        """
        blocks = [cache[0]]
        x = self.layers[0].attend(query, rotation, cache[0, 0], cache[0, 1], first)  # type: ignore[operator]
        for i, layer in enumerate(self.layers):
            if i == 0:
                continue
            key, value = layer.keys_values(x, rotation)  # type: ignore[operator]
            block = torch.cat([cache[i, :, :, :, 1:], torch.stack([key, value])], dim=3)
            x = layer.attend(x, rotation, block[0], block[1], rest)  # type: ignore[operator]
            blocks.append(block)
        return self.norm(x), torch.stack(blocks)
