"""From clips to tensors: one window at a time, then stacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egopose import rigid
from egopose.model.clock import FULL, attention_masks, horizon, split_lookahead, time_rotation
from egopose.model.config import ModelConfig
from egopose.model.hand_head import HandEstimate
from egopose.model.headmotion import HEAD_FEATURES, head_features
from egopose.model.imu import IMU_FEATURES
from egopose.model.losses import Targets
from egopose.model.rays import normalise
from egopose.model.records import Decoded, FrameBatch
from egopose.skeleton import BODY17_HANDS

Array = NDArray[np.float64]

STEP_S = 0.1
"""Time between the unrelated frames of a window."""


@dataclass
class Batch:
    """What one training step needs.

    Attributes:
        frames: B * T frames.
        rotation: (B, T, 2, D/2).
        first: (B, T, T) bool mask of the first temporal layer.
        rest: (B, T, T) bool mask of the others.
        targets: Labels.
    """

    frames: FrameBatch
    rotation: Tensor
    first: Tensor
    rest: Tensor
    targets: Targets

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""

        def move(t: Tensor) -> Tensor:
            return t.to(device, non_blocking=True)

        return Batch(
            self.frames.map(move), move(self.rotation), move(self.first), move(self.rest), self.targets.map(move)
        )


def time_arrays(times_s: Array, live: NDArray[np.bool_], lookahead: int, model: ModelConfig) -> dict[str, NDArray[Any]]:
    """Rotation and masks of one window; padded steps see themselves and nothing sees them."""
    look = None if lookahead == FULL else split_lookahead(lookahead)[1]
    first, rest = attention_masks(times_s, ring=model.ring, window_s=model.window_s, lookahead=look)
    own = np.eye(times_s.size, dtype=bool)
    pair = live[:, None] & live[None, :]
    return {
        "rotation": time_rotation(times_s - times_s[0], model.dim // model.heads),
        "first": (first & pair) | own,
        "rest": (rest & pair) | own,
    }


def motion_window(
    times_s: Array,
    T_world_camera: Array,
    at: slice,
    length: int,
    *,
    lookahead: int,
    floor_known: bool,
    model: ModelConfig,
) -> dict[str, NDArray[Any]]:
    """Head features and geometry of one window with its surroundings.

    Args:
        times_s: (N,) seconds of the window and what lies around it.
        T_world_camera: (N, 4, 4), NaN where a pose is absent; floor at z = 0.
        at: The window inside those.
        length: Steps of the stacked window; shorter ones are padded at the end.
        lookahead: Steps ahead, or :data:`FULL`.
        floor_known: Whether the height above the floor is told.
        model: The network's shape.
    """
    motion = head_features(
        times_s,
        T_world_camera,
        floor_z=0.0 if floor_known else None,
        horizon_s=horizon(times_s, lookahead),
        steps=np.arange(at.start, at.stop),
    )
    n = at.stop - at.start
    live = np.arange(length) < n
    times = np.concatenate([times_s[at], times_s[at.stop - 1] + 0.03 * np.arange(1, length - n + 1)])
    out = {
        "head": pad(motion.features, length),
        "head_known": pad(motion.known, length),
        "times_s": (times - times[0]).astype(np.float32),
        "step": live,
    }
    return {**out, **time_arrays(times, live, lookahead, model)}


def pad(values: NDArray[Any], length: int) -> NDArray[Any]:
    """Repeat the last entry along the first axis up to a length."""
    short = length - values.shape[0]
    if short <= 0:
        return values
    return np.concatenate([values, np.repeat(values[-1:], short, axis=0)])


def target_arrays(
    T_world_camera: Array, joints: Array, feet: NDArray[np.int8], length: int, visible: NDArray[np.int8] | None = None
) -> dict[str, NDArray[Any]]:
    """Labels of one window from true head poses (T, 4, 4) and world joints (T, 59, 3)."""
    camera = rigid.transform_points(rigid.invert(T_world_camera), joints)
    unknown = np.full(joints.shape[:2], -1, dtype=np.int8)
    return {
        "xyz": pad(camera.astype(np.float32), length),
        "visible": pad(unknown if visible is None else visible, length),
        "T_world_camera": pad(T_world_camera.astype(np.float32), length),
        "up": pad(T_world_camera[:, 2, :3].astype(np.float32), length),
        "height": pad(T_world_camera[:, 2, 3].astype(np.float32), length),
        "contact": pad(feet, length),
    }


class WeightedDraw:
    """Draws numbers of rows by their weights; the running sum of tens of thousands is made once."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        """Keep weights (N,), in any unit."""
        self._sum = np.cumsum(weights)

    def __call__(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Numbers (count,) of rows, the same row more than once where chance has it."""
        return np.searchsorted(self._sum, self._sum[-1] * rng.random(count), side="right")


def unrelated(length: int, model: ModelConfig) -> dict[str, NDArray[Any]]:
    """A window of single frames that do not see each other, without head poses and without labels."""
    times = STEP_S * np.arange(length, dtype=np.float64)
    live = np.ones(length, dtype=bool)
    joints = BODY17_HANDS.n_joints
    return {
        "head": np.zeros((length, HEAD_FEATURES), np.float32), "head_known": ~live,
        "imu": np.zeros((length, IMU_FEATURES), np.float32), "imu_known": ~live,
        "times_s": times.astype(np.float32), "step": live, **time_arrays(times, live, FULL, model),
        "first": np.eye(length, dtype=bool), "rest": np.eye(length, dtype=bool),
        "T_world_camera": np.tile(np.eye(4, dtype=np.float32), (length, 1, 1)),
        "up": np.full((length, 3), np.nan, np.float32), "height": np.full(length, np.nan, np.float32),
        "contact": np.full((length, 2), -1, np.int8), "visible": np.full((length, joints), -1, np.int8),
        "xyz": np.full((length, joints, 3), np.nan, np.float32), "apart": np.array(True),
    }  # fmt: skip


_FRAME_KEYS = (
    "head", "head_known", "imu", "imu_known", "image", "image_rays", "image_known", "hands", "hand_rays", "hand_known",
    "hand_axes", "hand_focal", "hand_distance",
)  # fmt: skip
_DECODED_KEYS = ("queries", "body", "hand_wrist", "hand_offsets", "hand_logit")
_TARGET_KEYS = (
    "xyz", "sigma", "visible", "T_world_camera", "times_s", "step", "up", "height", "contact", "crop", "heat",
    "heat_known", "apart",
)  # fmt: skip


def stack(windows: list[dict[str, NDArray[Any]]]) -> Batch:
    """Stack windows of the same length and the same keys."""
    arrays = {key: np.stack([w[key] for w in windows]) for key in windows[0]}
    for key in ("image", "hands"):
        if key in arrays:
            arrays[key] = normalise(arrays[key])
    joined = {key: torch.from_numpy(value) for key, value in arrays.items()}
    one = {k: joined[k].flatten(0, 1) for k in (*_FRAME_KEYS, *_DECODED_KEYS) if k in joined}
    decoded = None
    if "queries" in one:
        queries, body, wrist, offsets, logit = (one.pop(k) for k in _DECODED_KEYS)
        decoded = Decoded(queries, body, HandEstimate(wrist, offsets), logit)
    frames = FrameBatch(**one, decoded=decoded)
    given: dict[str, Any] = {"sigma": None, **{k: joined[k] for k in _TARGET_KEYS if k in joined}}
    targets = Targets(**given)
    return Batch(frames, joined["rotation"], joined["first"], joined["rest"], targets)
