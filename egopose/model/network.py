"""The network: a frame's images and sensors become one token, the tokens of a clip become joints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egopose.model.config import ModelConfig
from egopose.model.encoder import MobileEncoder
from egopose.model.headmotion import HEAD_FEATURES
from egopose.model.heads import N_JOINTS, HandEstimate, HandHead, Output, StepHeads
from egopose.model.imu import IMU_FEATURES
from egopose.model.numeric import SIGMA_ROWS
from egopose.model.rays import RAY_CHANNELS
from egopose.model.temporal import TemporalTransformer
from egopose.model.vit import VisionTransformer

SIDES = 2
FINDER_CHANNELS = 64
"""Width of the part of the hand finder that sees both maps at once."""

HEAT_CHANNELS = 4
"""Per hand and cell of the hand finder: heat logit, shift right, shift down (cells), log distance."""


@dataclass
class FrameBatch:
    """Inputs of N frames as tensors; what is None is absent for all of them.

    Attributes:
        head: (N, HEAD_FEATURES) and head_known (N,) bool.
        imu: (N, IMU_FEATURES) and imu_known (N,) bool.
        image: (N, 3, S, S), image_rays (N, g, g, RAY_CHANNELS), image_known (N,) bool.
        hands: (N, 2, 3, s, s) left (mirrored) and right crop, hand_rays (N, 2, c, c, RAY_CHANNELS), hand_known
            (N, 2) bool, hand_axes (N, 2, 3, 3) = R_camera_crop, hand_focal (N, 2), hand_distance (N, 2).
    """

    head: Tensor
    head_known: Tensor
    imu: Tensor | None = None
    imu_known: Tensor | None = None
    image: Tensor | None = None
    image_rays: Tensor | None = None
    image_known: Tensor | None = None
    hands: Tensor | None = None
    hand_rays: Tensor | None = None
    hand_known: Tensor | None = None
    hand_axes: Tensor | None = None
    hand_focal: Tensor | None = None
    hand_distance: Tensor | None = None

    def map(self, change: Any) -> FrameBatch:
        """The same batch with a function applied to each tensor that is there."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {k: None if v is None else change(v) for k, v in values.items()}
        return FrameBatch(**changed)


class Encoded(NamedTuple):
    """What is kept of N frames before time enters.

    Attributes:
        token: (N, C).
        body_query: (N, C) or None, and image_known (N,) bool or None.
        hand_query: (N, 2, C) or None.
        hands: Per-frame hands or None.
        hand_logit: (N, 2) or None.
        hand_known: (N, 2) bool or None.
        heat: (N, 2, HEAT_CHANNELS, g, g) or None.
        up: (N, 3) gravity up in camera axes, and up_known (N,) bool.
        height: (N,) camera height minus the nominal one, zero when unknown.
    """

    token: Tensor
    body_query: Tensor | None
    image_known: Tensor | None
    hand_query: Tensor | None
    hands: HandEstimate | None
    hand_logit: Tensor | None
    hand_known: Tensor | None
    heat: Tensor | None
    up: Tensor
    up_known: Tensor
    height: Tensor


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the tokens of the frame."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_self, self.norm_cross, self.norm_feed = (nn.LayerNorm(dim) for _ in range(3))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out_self = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out_cross = nn.Linear(dim, dim)
        self.feed = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Of tokens (N, M, C), (N, heads, M, C / heads) each."""
        k, v = (self._split(part) for part in self.key_value(memory).chunk(2, dim=-1))
        return k, v

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(N, Q, C) queries, and what :meth:`keys_values` made of the tokens."""
        q, k, v = (self._split(part) for part in self.qkv(self.norm_self(x)).chunk(3, dim=-1))
        x = x + self.out_self(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        q = self._split(self.query(self.norm_cross(x)))
        x = x + self.out_cross(F.scaled_dot_product_attention(q, keys, values).transpose(1, 2).flatten(2))
        return x + self.feed(self.norm_feed(x))


class BodyReader(nn.Module):
    """The body's query looks at the image once more, by the keys and values of the decoder's last layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(N, C) of queries (N, C), keys and values (N, heads, M, C / heads)."""
        q = self.query(x).unflatten(-1, (self.heads, 1, -1))
        return self.norm(x + self.out(F.scaled_dot_product_attention(q, keys, values).flatten(1)))


class EgoPoseNet(nn.Module):
    """Body and hands of the wearer from a monocular ego clip, at every step."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.head_in = nn.Sequential(
            nn.Linear(HEAD_FEATURES, 2 * dim), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(2 * dim, dim)
        )
        # centre and spread of the head features in the training data
        self.head_mean: Tensor
        self.head_std: Tensor
        self.register_buffer("head_mean", torch.zeros(HEAD_FEATURES))
        self.register_buffer("head_std", torch.ones(HEAD_FEATURES))
        self.imu_in = nn.Sequential(nn.Linear(IMU_FEATURES, dim), nn.GELU(), nn.Linear(dim, dim))
        self.no_head = nn.Parameter(torch.zeros(dim))
        self.no_imu = nn.Parameter(torch.zeros(dim))
        self.no_image = nn.Parameter(torch.zeros(dim))
        self.no_hand = nn.Parameter(torch.zeros(dim))
        if config.encoder == "mobile":
            self.image_encoder: nn.Module = MobileEncoder(dim, config.encoder_width)
            self.hand_encoder: nn.Module = MobileEncoder(dim, config.encoder_width)
            fine = self.image_encoder.fine_channels
        else:
            # one transformer sees the image and the crops: user weights load once
            self.image_encoder = VisionTransformer(
                layout=config.vit_layout, dim=config.vit_dim, depth=config.vit_depth, heads=config.vit_heads,
                patch=config.vit_patch, grid=config.image_px // config.vit_patch, out_dim=dim,
            )  # fmt: skip
            self.hand_encoder = self.image_encoder
            fine = config.vit_dim
        self.heat = nn.Conv2d(fine, SIDES * HEAT_CHANNELS, 1)
        # the finer map says where a hand is, the coarser one, which sees the arms, whose
        self.heat_context = nn.Conv2d(dim, SIDES * HEAT_CHANNELS, 1, bias=False)
        # hands are read at the finer stride, what the coarser map says added (Lin et al., feature pyramids, 2017)
        self.hand_fine = nn.Conv2d(fine, dim, 1) if config.fine_stride < config.stride else None
        with torch.no_grad():
            # almost every cell is empty: start there, or the finder's loss drowns all others at first
            self.heat.bias.zero_()  # type: ignore[union-attr]
            self.heat.bias[::HEAT_CHANNELS] = -4.6  # type: ignore[index]
        self.ray_in = nn.Sequential(nn.Linear(RAY_CHANNELS, dim), nn.GELU(), nn.Linear(dim, dim))
        self.kind = nn.Parameter(torch.randn(5, dim) * 0.02)
        self.queries = nn.Parameter(torch.randn(1 + SIDES, dim) * 0.02)
        self.decoder = nn.ModuleList(DecoderLayer(dim, config.heads) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(dim)
        self.memory_norm = nn.LayerNorm(dim)
        self.fuse_body = nn.Linear(dim, dim, bias=False)
        self.fuse_hands = nn.Linear(SIDES * dim, dim, bias=False)
        self.hand_head = HandHead(dim)
        self.temporal = TemporalTransformer(
            dim, config.heads, config.temporal_layers,
            window_s=config.window_s, ring=config.ring, dropout=config.dropout,
        )  # fmt: skip
        self.heads = StepHeads(dim)
        # factors of sigma along each axis of errorbars.bar_axes, found on held-out subjects
        self.register_buffer("sigma_factor", torch.ones(len(SIGMA_ROWS), N_JOINTS, 3))
        # what both maps say of hands together, over neighbouring cells; built last, so that a seed gives all other
        # parts what it gave them before this one came
        wide = FINDER_CHANNELS
        self.heat_joint = nn.Sequential(
            nn.Conv2d(fine + dim, wide, 1), nn.Hardswish(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.Hardswish(),
            nn.Conv2d(wide, SIDES * HEAT_CHANNELS, 1, bias=False),
        )  # fmt: skip
        self.body_reader = BodyReader(dim, config.heads)
        # images start as a correction of zero to what the head's motion says, what sharpens them at zero too
        for layer in (self.fuse_body, self.fuse_hands, self.heat_context, self.heat_joint[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        if self.hand_fine is not None:
            nn.init.zeros_(self.hand_fine.weight)
            nn.init.zeros_(self.hand_fine.bias)  # type: ignore[arg-type]

    @property
    def image_cells(self) -> int:
        """Token cells along one side of the image."""
        return self.config.image_px // self.config.stride

    @property
    def hand_cells(self) -> int:
        """Token cells along one side of a hand crop."""
        return self.config.hand_px // self.config.fine_stride

    def sensors(self, batch: FrameBatch) -> tuple[Tensor, Tensor]:
        """Head-motion token and IMU token, (N, C) each, learned ones where absent."""
        features = ((batch.head - self.head_mean) / self.head_std).clamp(-6, 6)
        head = torch.where(batch.head_known[:, None], self.head_in(features), self.no_head)
        if batch.imu is None or batch.imu_known is None:
            imu = self.no_imu.expand_as(head)
        else:
            imu = torch.where(batch.imu_known[:, None], self.imu_in(batch.imu), self.no_imu)
        return head, imu

    def _finer(self, tokens: Tensor) -> Tensor:
        """A map at the coarser stride, at the finer one."""
        factor = self.config.stride // self.config.fine_stride
        return tokens if factor == 1 else F.interpolate(tokens, scale_factor=float(factor), mode="nearest")

    def see(self, image: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, g*g, C) of whole images and the hand finder's map (N, 2, HEAT_CHANNELS, f, f)."""
        tokens, fine = self.image_encoder(image)
        both = self.heat_joint(torch.cat([fine, self._finer(tokens)], dim=1))
        heat = self.heat(fine) + self._finer(self.heat_context(tokens)) + both
        heat = heat.unflatten(1, (SIDES, HEAT_CHANNELS))
        return tokens.flatten(2).transpose(1, 2) + self.ray_in(rays).flatten(1, 2) + self.kind[0], heat

    def see_hands(self, hands: Tensor, rays: Tensor, known: Tensor, *, skip_absent: bool = False) -> Tensor:
        """Tokens (N, 2 * c*c, C) of the hand crops; crops that are not known are not looked at with ``skip_absent``."""
        n, there = hands.shape[0], known.flatten()
        crops, lines = hands.flatten(0, 1), rays.flatten(0, 1)
        if skip_absent and not there.all():
            tokens = self.no_hand.expand(there.shape[0], self.hand_cells**2, -1).clone()
            if there.any():
                tokens[there] = self._hand_tokens(crops[there], lines[there])
        else:
            tokens = torch.where(there[:, None, None], self._hand_tokens(crops, lines), self.no_hand)
        return (tokens.unflatten(0, (n, SIDES)) + self.kind[1:3, None]).flatten(1, 2)

    def _hand_tokens(self, crops: Tensor, rays: Tensor) -> Tensor:
        """Tokens (M, c*c, C) of M crops."""
        tokens, fine = self.hand_encoder(crops)
        if self.hand_fine is not None:
            tokens = self._finer(tokens) + self.hand_fine(fine)
        return tokens.flatten(2).transpose(1, 2) + self.ray_in(rays).flatten(1, 2)

    def fuse(
        self, batch: FrameBatch, image_tokens: Tensor | None, hand_tokens: Tensor | None, heat: Tensor | None
    ) -> Encoded:
        """Join what the frame's modalities say into its token."""
        head, imu = self.sensors(batch)
        token = head + imu
        body = image_known = query = hands = logit = None
        if image_tokens is not None or hand_tokens is not None:
            n = head.shape[0]
            if image_tokens is None:
                image_tokens = (self.no_image + self.kind[0]).expand(n, 1, -1)
            else:
                image_known = torch.ones_like(batch.head_known) if batch.image_known is None else batch.image_known
                image_tokens = torch.where(image_known[:, None, None], image_tokens, self.no_image + self.kind[0])
            cells = image_tokens.shape[1]
            memory = [image_tokens, (head + self.kind[3])[:, None], (imu + self.kind[4])[:, None]]
            if hand_tokens is not None:
                memory.append(hand_tokens)
            tokens = self.memory_norm(torch.cat(memory, dim=1))
            x = self.queries.expand(n, -1, -1)
            for layer in self.decoder:
                keys, values = layer.keys_values(tokens)  # type: ignore[operator]
                x = layer(x, keys, values)
            x = self.decoder_norm(x)
            change = self.fuse_body(x[:, 0])
            token = token + (change if batch.image_known is None else change * batch.image_known[:, None])
            if image_known is not None:
                body = self.body_reader(x[:, 0], keys[:, :, :cells], values[:, :, :cells])
            if hand_tokens is not None:
                assert batch.hand_known is not None
                query = x[:, 1:]
                hands, logit = self.hand_head(query, batch.hand_axes, batch.hand_focal, batch.hand_distance)
                token = token + self.fuse_hands((query * batch.hand_known[..., None]).flatten(1))
        known = batch.head_known
        return Encoded(
            token, body, image_known, query, hands, logit, batch.hand_known if hand_tokens is not None else None, heat,
            up=batch.head[:, 2:5], up_known=known, height=batch.head[:, 0] * known,
        )  # fmt: skip

    def encode(self, batch: FrameBatch) -> Encoded:
        """All of a frame before time enters, for N frames at once."""
        image_tokens = hand_tokens = heat = None
        if batch.image is not None:
            assert batch.image_rays is not None
            image_tokens, heat = self.see(batch.image, batch.image_rays)
        if batch.hands is not None:
            assert batch.hand_rays is not None
            assert batch.hand_known is not None
            hand_tokens = self.see_hands(batch.hands, batch.hand_rays, batch.hand_known)
        return self.fuse(batch, image_tokens, hand_tokens, heat)

    def read(self, finished: Tensor, encoded: Encoded) -> Output:
        """Joints of finished steps; ``encoded`` has the same leading shape as ``finished``."""
        return self.heads(
            finished, up=encoded.up, up_known=encoded.up_known, height=encoded.height,
            body_query=encoded.body_query, image_known=encoded.image_known, hands=encoded.hands,
            hand_query=encoded.hand_query, hand_known=encoded.hand_known, hand_logit=encoded.hand_logit,
        )  # fmt: skip

    def forward(self, batch: FrameBatch, rotation: Tensor, first: Tensor, rest: Tensor) -> tuple[Output, Encoded]:
        """Whole windows.

        Args:
            batch: B * T frames, windows one after another.
            rotation: (B, T, 2, D/2).
            first: (B, T, T) bool mask of the first layer.
            rest: (B, T, T) bool mask of the other layers.

        Returns:
            :class:`Output` with leading shape (B, T), and what was encoded, (B, T) too.
        """
        windows = rotation.shape[:2]
        encoded = reshape_encoded(self.encode(batch), windows)
        finished = self.temporal(encoded.token, rotation, first, rest)
        return self.read(finished, encoded), encoded


def reshape_encoded(encoded: Encoded, lead: tuple[int, ...] | torch.Size) -> Encoded:
    """The same frames with another leading shape."""

    def change(value: Any) -> Any:
        if isinstance(value, HandEstimate):
            return HandEstimate(*(change(v) for v in value))
        return None if value is None else value.reshape(*lead, *value.shape[1:])

    return Encoded(*(change(value) for value in encoded))


def build(config: ModelConfig, seed: int | None = None) -> EgoPoseNet:
    """A fresh network; with a seed its weights are the same every time and the global generator is left alone."""
    if seed is None:
        return EgoPoseNet(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EgoPoseNet(config)
