"""What a network of a given size is made of."""

from __future__ import annotations

from typing import Literal

from egopose.config import Config
from egopose.errors import EgoposeError


class ModelConfig(Config, frozen=True, kw_only=True):
    """Shape of the network; stored inside every weights file.

    Attributes:
        name: Size name, such as "nano".
        image_px: Side of the square the whole image is fitted into, pixels; a multiple of the encoder's stride.
        hand_px: Side of a hand crop, pixels.
        encoder: "mobile" (inverted-residual convolutions of our own) or "vit" (a DINOv2 or DINOv3 transformer).
        encoder_width: Channel multiplier of the mobile encoder.
        vit_layout: Which ViT is built: "dinov2" (learned positions, layer scale) or "dinov3" (rotary positions,
            register tokens).
        vit_dim: Width of the ViT.
        vit_depth: Blocks of the ViT.
        vit_heads: Attention heads of the ViT.
        vit_patch: Patch side of the ViT, pixels.
        dim: Width of the tokens that the decoder and the temporal part see.
        heads: Attention heads of decoder and temporal part; divides dim into an even width.
        decoder_layers: Cross-attention layers of the per-frame queries.
        temporal_layers: Layers of the temporal transformer.
        window_s: Steps further apart than this do not see each other in one layer, seconds.
        ring: Steps kept in the streaming cache.
        dropout: In the temporal part and the head-motion embedding, in training only.
    """

    name: str = "nano"
    image_px: int = 192
    hand_px: int = 96
    encoder: Literal["mobile", "vit"] = "mobile"
    encoder_width: float = 0.75
    vit_layout: Literal["dinov2", "dinov3"] = "dinov2"
    vit_dim: int = 384
    vit_depth: int = 12
    vit_heads: int = 6
    vit_patch: int = 14
    dim: int = 192
    heads: int = 4
    decoder_layers: int = 2
    temporal_layers: int = 3
    window_s: float = 2.0
    ring: int = 120
    dropout: float = 0.1

    @property
    def stride(self) -> int:
        """Pixels along a side of an image token."""
        return 32 if self.encoder == "mobile" else self.vit_patch

    @property
    def fine_stride(self) -> int:
        """Pixels along a side of a cell of the finer map: the hand finder's cells and the tokens of hand crops."""
        return 16 if self.encoder == "mobile" else self.vit_patch

    def __post_init__(self) -> None:
        if min(self.heads, self.dim, self.vit_patch, self.vit_heads) < 1:
            raise EgoposeError("model: dim, heads, vit_patch and vit_heads must be positive")
        # the settings of a weights file say how large a network is built: bounded, far above any size of today
        limits = {"decoder_layers": 128, "temporal_layers": 128, "vit_depth": 128, "dim": 8192, "vit_dim": 8192,
                  "image_px": 4096, "hand_px": 4096, "ring": 100_000, "vit_heads": 8192, "vit_patch": 4096}  # fmt: skip
        for key, limit in limits.items():
            if getattr(self, key) > limit:
                raise EgoposeError(f"model.{key} is {getattr(self, key)}; expected at most {limit}")
        if not 0 < self.encoder_width <= 16:
            raise EgoposeError(f"model.encoder_width is {self.encoder_width}; expected a number above 0, at most 16")
        stride = self.stride
        for key in ("image_px", "hand_px"):
            value = getattr(self, key)
            if value <= 0 or value % stride:
                raise EgoposeError(f"model.{key} is {value}; expected a positive multiple of the stride {stride}")
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise EgoposeError(f"model.dim {self.dim} does not split into {self.heads} heads of even width")
        if min(self.decoder_layers, self.temporal_layers, self.ring) < 1 or self.window_s <= 0:
            raise EgoposeError("model: decoder_layers, temporal_layers, ring and window_s must be positive")
        if not 0 <= self.dropout < 1:
            raise EgoposeError(f"model.dropout is {self.dropout}; expected a number in [0, 1)")
