"""Tensors that pass between the network's parts; those between it and the code around it are in ``numeric``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from egopose.model.hand_head import HandEstimate


class Decoded(NamedTuple):
    """What the decoder's queries find in N frames, head motion included only as far as it helps to read them.

    Attributes:
        queries: (N, 3, C) of body, left and right hand.
        body: (N, C) what the image shows of the body, or None without images.
        hands: Per-frame hands, or None without crops.
        logit: (N, 2) that the crops show them, or None.
    """

    queries: Tensor
    body: Tensor | None
    hands: HandEstimate | None
    logit: Tensor | None


@dataclass
class FrameBatch:
    """Inputs of N frames as tensors; what is None is absent for all of them.

    Attributes:
        head: (N, HEAD_FEATURES) and head_known (N,) bool.
        imu: (N, IMU_FEATURES) and imu_known (N,) bool.
        image: (N, 3, S, S), image_rays (N, g, g, RAY_CHANNELS), image_known (N,) bool.
        hands: (N, 2, 3, s, s) left (mirrored) and right crop, hand_rays (N, 2, c, c, RAY_CHANNELS), hand_known
            (N, 2) bool, hand_axes (N, 2, 3, 3) = R_camera_crop, hand_focal (N, 2), hand_distance (N, 2).
        decoded: What these frames' images and crops said when they were looked at before, instead of them.
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
    decoded: Decoded | None = None

    def map(self, change: Any) -> FrameBatch:
        """The same batch with a function applied to each tensor that is there."""
        return FrameBatch(**{f.name: _changed(getattr(self, f.name), change) for f in fields(self)})


class HandMaps(NamedTuple):
    """What the hand encoder says of both crops of N frames.

    Attributes:
        tokens: (N, 2 * c*c, C), what the decoder reads.
        detail: (N, 2, D, d, d), a finer map that hands are corrected by.
    """

    tokens: Tensor
    detail: Tensor


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


def reshape_encoded(encoded: Encoded, lead: tuple[int, ...] | torch.Size) -> Encoded:
    """The same frames with another leading shape."""
    return Encoded(*(_changed(value, lambda t: t.reshape(*lead, *t.shape[1:])) for value in encoded))


def _changed(value: Any, change: Any) -> Any:
    """A tensor, or a named tuple of such and of None, with a function applied to each tensor."""
    if value is None:
        return None
    return type(value)(*(_changed(part, change) for part in value)) if isinstance(value, tuple) else change(value)
