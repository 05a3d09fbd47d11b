"""Numeric records that pass between the network and the code around it; numpy only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Flags = NDArray[np.bool_]

SIGMA_ROWS = (
    "no images", "images, out of view", "images, in view", "images as they come, out of view",
    "images as they come, in view",
)  # fmt: skip
"""Rows of the network's factors of sigma: what is said of a frame before those after it are known errs otherwise."""


class FrameArrays(NamedTuple):
    """Inputs of N frames; None means absent for all of them. See ``records.FrameBatch`` for the shapes."""

    head: Array
    head_known: Flags
    imu: Array | None = None
    imu_known: Flags | None = None
    image_tokens: Array | None = None
    image_known: Flags | None = None
    hands: Array | None = None
    hand_rays: Array | None = None
    hand_known: Flags | None = None
    hand_axes: Array | None = None
    hand_focal: Array | None = None
    hand_distance: Array | None = None


class StepArrays(NamedTuple):
    """What is kept of N frames before time enters. See ``records.Encoded`` for the shapes."""

    token: Array
    up: Array
    up_known: Flags
    height: Array
    body_query: Array | None = None
    image_known: Flags | None = None
    hand_query: Array | None = None
    hand_wrist: Array | None = None
    hand_offsets: Array | None = None
    hand_logit: Array | None = None
    hand_known: Flags | None = None


class Said(NamedTuple):
    """What the network says about T steps.

    Attributes:
        xyz: (T, 59, 3) metres, camera axes.
        log_scale: (T, 59).
        visible: (T, 59) logits.
        up: (T, 3) gravity up in camera axes.
        height: (T,) predicted camera height, metres.
        bones: (T, B) metres.
        contact: (T, 2) logits.
    """

    xyz: Array
    log_scale: Array
    visible: Array
    up: Array
    height: Array
    bones: Array
    contact: Array


def concatenate(records: list[StepArrays]) -> StepArrays:
    """Join steps along time; the same fields must be present in all of them."""
    columns = zip(*records)
    joined: list[Any] = [None if column[0] is None else np.concatenate(column) for column in columns]
    return StepArrays(*joined)


def take(record: StepArrays, at: slice) -> StepArrays:
    """Some steps."""
    part: list[Any] = [None if value is None else value[at] for value in record]
    return StepArrays(*part)
