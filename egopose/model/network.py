"""The network: a frame's images and sensors become one token, the tokens of a clip become joints."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egopose.model.config import ModelConfig
from egopose.model.encoder import MobileEncoder
from egopose.model.hand_head import HandHead
from egopose.model.headmotion import HEAD_FEATURES
from egopose.model.heads import N_JOINTS, Output, StepHeads
from egopose.model.imu import IMU_FEATURES
from egopose.model.numeric import SIGMA_ROWS
from egopose.model.rays import RAY_CHANNELS
from egopose.model.records import Decoded, Encoded, FrameBatch, HandMaps, reshape_encoded
from egopose.model.temporal import TemporalTransformer
from egopose.model.vit import VisionTransformer

SIDES = 2
FINDER_CHANNELS = 64
"""Width of the part of the hand finder that sees both maps at once."""

HEAT_CHANNELS = 4
"""Per hand and cell of the hand finder: heat logit, shift right, shift down (cells), log distance."""


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
            fine, detail = self.image_encoder.fine_channels, self.hand_encoder.detail_channels
        else:
            # one transformer sees the image and the crops: user weights load once
            self.image_encoder = VisionTransformer(
                layout=config.vit_layout, dim=config.vit_dim, depth=config.vit_depth, heads=config.vit_heads,
                patch=config.vit_patch, grid=config.image_px // config.vit_patch, out_dim=dim,
            )  # fmt: skip
            self.hand_encoder = self.image_encoder
            fine = detail = config.vit_dim
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
        self.hand_head = HandHead(dim, detail)
        self.temporal = TemporalTransformer(
            dim, config.heads, config.temporal_layers,
            window_s=config.window_s, ring=config.ring, dropout=config.dropout,
        )  # fmt: skip
        self.heads = StepHeads(dim)
        # factors of sigma along each axis of errorbars.bar_axes, found on held-out subjects
        self.register_buffer("sigma_factor", torch.ones(len(SIGMA_ROWS), N_JOINTS, 3))
        # what both maps say of hands together, over neighbouring cells
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
        tokens, fine, _ = self.image_encoder(image)
        both = self.heat_joint(torch.cat([fine, self._finer(tokens)], dim=1))
        heat = self.heat(fine) + self._finer(self.heat_context(tokens)) + both
        heat = heat.unflatten(1, (SIDES, HEAT_CHANNELS))
        return tokens.flatten(2).transpose(1, 2) + self.ray_in(rays).flatten(1, 2) + self.kind[0], heat

    def see_hands(self, hands: Tensor, rays: Tensor, known: Tensor, *, skip_absent: bool = False) -> HandMaps:
        """Of crops (N, 2, 3, s, s); those that are not known are not looked at with ``skip_absent``."""
        n, there = hands.shape[0], known.flatten()
        crops, lines = hands.flatten(0, 1), rays.flatten(0, 1)
        if skip_absent and not there.all():
            tokens = self.no_hand.expand(there.shape[0], self.hand_cells**2, -1).clone()
            detail = tokens.new_zeros(there.shape[0], *self._detail_shape)
            if there.any():
                tokens[there], detail[there] = self._hand_maps(crops[there], lines[there])
        else:
            tokens, detail = self._hand_maps(crops, lines)
            tokens = torch.where(there[:, None, None], tokens, self.no_hand)
            detail = torch.where(there[:, None, None, None], detail, torch.zeros_like(detail))
        tokens = (tokens.unflatten(0, (n, SIDES)) + self.kind[1:3, None]).flatten(1, 2)
        return HandMaps(tokens, detail.unflatten(0, (n, SIDES)))

    @property
    def _detail_shape(self) -> tuple[int, int, int]:
        encoder = self.hand_encoder
        side = self.config.hand_px // encoder.detail_stride  # type: ignore[operator]
        return (encoder.detail_channels, side, side)  # type: ignore[return-value]

    def _hand_maps(self, crops: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (M, c*c, C) and detail (M, D, d, d) of M crops."""
        tokens, fine, detail = self.hand_encoder(crops)
        if self.hand_fine is not None:
            tokens = self._finer(tokens) + self.hand_fine(fine)
        return tokens.flatten(2).transpose(1, 2) + self.ray_in(rays).flatten(1, 2), detail

    def fuse(
        self, batch: FrameBatch, image_tokens: Tensor | None, hand_maps: HandMaps | None, heat: Tensor | None
    ) -> Encoded:
        """Join what the frame's modalities say into its token."""
        head, imu = self.sensors(batch)
        decoded = None
        if image_tokens is not None or hand_maps is not None:
            decoded = self.decode(batch, head, imu, image_tokens, hand_maps)
        return self._join(batch, head + imu, decoded, heat)

    def decode(
        self, batch: FrameBatch, head: Tensor, imu: Tensor, image_tokens: Tensor | None, hand_maps: HandMaps | None
    ) -> Decoded:
        """What the queries find in the tokens of each frame."""
        n, body, hands = head.shape[0], None, None
        image_known = torch.ones_like(batch.head_known) if batch.image_known is None else batch.image_known
        if image_tokens is None:
            tokens = (self.no_image + self.kind[0]).expand(n, 1, -1)
        else:
            tokens = torch.where(image_known[:, None, None], image_tokens, self.no_image + self.kind[0])
        cells = tokens.shape[1]
        memory = [tokens, (head + self.kind[3])[:, None], (imu + self.kind[4])[:, None]]
        if hand_maps is not None:
            memory.append(hand_maps.tokens)
        memory_tokens = self.memory_norm(torch.cat(memory, dim=1))
        x = self.queries.expand(n, -1, -1)
        for layer in self.decoder:
            keys, values = layer.keys_values(memory_tokens)  # type: ignore[operator]
            x = layer(x, keys, values)
        x = self.decoder_norm(x)
        if image_tokens is not None:
            body = self.body_reader(x[:, 0], keys[:, :, :cells], values[:, :, :cells])
        if hand_maps is None:
            return Decoded(x, body, None, None)
        maps = hand_maps.tokens.unflatten(1, (SIDES, self.hand_cells, self.hand_cells)).movedim(-1, 2)
        hands, logit = self.hand_head(
            x[:, 1:], maps, hand_maps.detail, batch.hand_axes, batch.hand_focal, batch.hand_distance
        )
        return Decoded(x, body, hands, logit)

    def _join(self, batch: FrameBatch, token: Tensor, decoded: Decoded | None, heat: Tensor | None) -> Encoded:
        """The sensors' token (N, C) with what the queries found."""
        known = batch.head_known
        geometry = {"up": batch.head[:, 2:5], "up_known": known, "height": batch.head[:, 0] * known}
        if decoded is None:
            return Encoded(token, None, None, None, None, None, None, heat, **geometry)
        change = self.fuse_body(decoded.queries[:, 0])
        token = token + (change if batch.image_known is None else change * batch.image_known[:, None])
        image_known = query = None
        if decoded.body is not None:
            image_known = torch.ones_like(known) if batch.image_known is None else batch.image_known
        if decoded.hands is not None:
            assert batch.hand_known is not None
            query = decoded.queries[:, 1:]
            token = token + self.fuse_hands((query * batch.hand_known[..., None]).flatten(1))
        return Encoded(
            token, decoded.body, image_known, query, decoded.hands, decoded.logit,
            None if query is None else batch.hand_known, heat, **geometry,
        )  # fmt: skip

    def encode(self, batch: FrameBatch) -> Encoded:
        """All of a frame before time enters, for N frames at once."""
        image_tokens = hand_maps = heat = None
        if batch.decoded is not None:
            head, imu = self.sensors(batch)
            return self._join(batch, head + imu, batch.decoded, None)
        if batch.image is not None:
            assert batch.image_rays is not None
            image_tokens, heat = self.see(batch.image, batch.image_rays)
        if batch.hands is not None:
            assert batch.hand_rays is not None
            assert batch.hand_known is not None
            hand_maps = self.see_hands(batch.hands, batch.hand_rays, batch.hand_known)
        return self.fuse(batch, image_tokens, hand_maps, heat)

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


def build(config: ModelConfig, seed: int | None = None) -> EgoPoseNet:
    """A fresh network; with a seed its weights are the same every time and the global generator is left alone."""
    if seed is None:
        return EgoPoseNet(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EgoPoseNet(config)
