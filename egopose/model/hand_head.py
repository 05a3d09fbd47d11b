"""Hands as the crops of one frame show them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from egopose.skeleton import HAND21

N_HAND = HAND21.n_joints

READ_CHANNELS, REFINER_WIDTH, REFINEMENTS = 12, 160, 2
"""What a joint reads of the maps at its place, hidden width of what corrects the hand, how often it is corrected."""

NEAREST_M = 0.02
"""Joints that are said to be nearer than this, or behind the camera, are looked for as if they were here."""


class HandEstimate(NamedTuple):
    """Hands as one frame's crops show them, left then right.

    Attributes:
        wrist: (..., 2, 3) metres, camera axes.
        offsets: (..., 2, 20, 3) wrist-relative joints, metres, camera axes.
    """

    wrist: Tensor
    offsets: Tensor


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers; the last one starts small."""
    last = nn.Linear(hidden, outputs)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), last)


class HandRefiner(nn.Module):
    """Looks at a crop's maps where its joints were seen, and corrects them (Zhang et al., PyMAF, 2021: pixel-aligned
    feedback). It corrects nothing at first."""

    def __init__(self, dim: int, detail: int) -> None:
        super().__init__()
        # each joint reads the maps in its own way
        self.read = nn.Parameter(torch.randn(N_HAND, dim + detail, READ_CHANNELS) * (dim + detail) ** -0.5)
        self.change = mlp(N_HAND * READ_CHANNELS + dim + 3 * N_HAND, REFINER_WIDTH, 3 * N_HAND)
        nn.init.zeros_(self.change[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, hand: Tensor, uv: Tensor, tokens: Tensor, detail: Tensor) -> Tensor:
        """Change of an estimate.

        Args:
            x: (..., C) query.
            hand: (..., 63) the estimate: u, v, log of the distance over the crop's, joints in crop axes.
            uv: (..., 21, 2) where its joints are in the crop, in half sides.
            tokens: (..., C, c, c) of the crop.
            detail: (..., D, d, d) its finer map.
        """
        seen = torch.cat([read_at(tokens, uv), read_at(detail, uv)], dim=-1)
        seen = torch.einsum("...jc,jcr->...jr", seen, self.read).flatten(-2)
        change: Tensor = self.change(torch.cat([nn.functional.gelu(seen), x, hand], dim=-1))
        return change


class HandHead(nn.Module):
    """One hand from its query: wrist by direction and distance, joints in the crop's axes; a left hand mirrored."""

    def __init__(self, dim: int, detail: int) -> None:
        super().__init__()
        self.wrist = mlp(dim, dim, 3)
        self.joints = mlp(dim, dim, (N_HAND - 1) * 3)
        self.mean = nn.Parameter(torch.zeros(N_HAND - 1, 3))
        self.seen = mlp(dim, dim // 2, 1)
        self.refine = HandRefiner(dim, detail)

    def forward(
        self, x: Tensor, tokens: Tensor, detail: Tensor, R_camera_crop: Tensor, focal: Tensor, distance: Tensor
    ) -> tuple[HandEstimate, Tensor]:
        """Hands in camera axes and whether each crop shows one.

        Args:
            x: (..., 2, C) left and right query.
            tokens: (..., 2, C, c, c) of the crops.
            detail: (..., 2, D, d, d) their finer maps.
            R_camera_crop: (..., 2, 3, 3).
            focal: (..., 2) in half sides of the crop.
            distance: (..., 2) metres.
        """
        # metres times ten, so that all numbers have about one size
        hand = torch.cat([self.wrist(x), 10 * (self.joints(x) + self.mean.flatten())], dim=-1)
        for _ in range(REFINEMENTS):
            # where it looks is given, not learnt
            uv = _in_crop(*_crop_points(hand.detach(), focal, distance), focal)
            hand = hand + self.refine(x, hand, uv, tokens, detail)
        wrist, joints = _crop_points(hand, focal, distance)
        return place_hands(wrist, joints, R_camera_crop), self.seen(x)[..., 0]


def _crop_points(hand: Tensor, focal: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Wrist (..., 3) and joints (..., 20, 3) relative to it, metres in crop axes, of (..., 63)."""
    u, v, ratio = hand[..., :3].unbind(-1)
    ray = torch.stack([u / focal, v / focal, torch.ones_like(u)], dim=-1)
    wrist = ray * (distance * torch.exp(ratio.clamp(-2, 2)))[..., None]
    return wrist, hand[..., 3:].unflatten(-1, (N_HAND - 1, 3)) / 10


def _in_crop(wrist: Tensor, joints: Tensor, focal: Tensor) -> Tensor:
    """(..., 21, 2) where a hand's joints are in its crop, in half sides."""
    points = torch.cat([wrist[..., None, :], wrist[..., None, :] + joints], dim=-2)
    return focal[..., None, None] * points[..., :2] / points[..., 2:].clamp_min(NEAREST_M)


def read_at(maps: Tensor, uv: Tensor) -> Tensor:
    """Values (..., J, C) of maps (..., C, s, s) at places (..., J, 2), right and down from the middle in half sides;
    bilinear, and beyond the border as at it."""
    side = maps.shape[-1]
    at = ((uv + 1) * (side / 2) - 0.5).clamp(0, side - 1)
    near = (1 - (at[..., None] - torch.arange(side, device=at.device, dtype=at.dtype)).abs()).clamp_min(0)
    share = near[..., 1, :, None] * near[..., 0, None, :]
    return share.flatten(-2) @ maps.flatten(-2).transpose(-1, -2)


def mirror_left(points: Tensor, axis: int, hand_dim: int) -> Tensor:
    """Flip one coordinate of the left hand (index 0 along ``hand_dim``) of points (..., 3)."""
    sign = points.new_ones(2, 3)
    sign[0, axis] = -1.0
    shape = [1] * points.ndim
    shape[hand_dim], shape[-1] = 2, 3
    return points * sign.reshape(shape)


def place_hands(wrist: Tensor, joints: Tensor, R_camera_crop: Tensor) -> HandEstimate:
    """Undo the mirror and turn crop axes into camera axes."""
    wrist = mirror_left(wrist, 0, wrist.ndim - 2)
    joints = mirror_left(joints, 0, joints.ndim - 3)
    return HandEstimate(
        torch.einsum("...ij,...j->...i", R_camera_crop, wrist),
        torch.einsum("...ij,...kj->...ki", R_camera_crop, joints),
    )
