"""What the path of a head says, made independent of place and heading: the input of the temporal network.

The canonical frame of a time step has its origin on the floor below the camera, z up along gravity, x along the
heading and y to the left. The heading comes from the camera's right axis, which stays horizontal however far the
wearer looks up or down. Every feature of a step is expressed in its own canonical frame, so a walk to the north in
one corner of a room and a walk to the east in another look the same (the invariance argument of EgoAllo, Yi et al.,
CVPR 2025, with a floor-aligned frame).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LAGS_S: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Distances in time, seconds, at which the earlier and the later head pose is described."""

PER_LAG = 10
"""Numbers per lag: displacement (3), forward axis (3), right axis (3), whether the pose is known (1)."""

N_STATIC = 9
"""Numbers about the step itself: height, whether it is known, up in camera axes, forward axis, climb to the top."""

TOP_S = 4.0
"""The highest head of this long a past is one of the features: it hints at stature, seconds."""

BENDS: tuple[tuple[int, int], ...] = tuple(
    (i, k) for i, near in enumerate(LAGS_S) for k, far in enumerate(LAGS_S) if abs(far - 2 * near) < 1e-9
)
"""Pairs of lags of which the second is twice the first: they give accelerations, where the small bob and sway of a
gait stand out from the large way that the head travels."""

PER_BEND = 7
"""Numbers per pair: acceleration of position (3) and of the forward axis (3), whether it is known (1)."""

HEAD_FEATURES = N_STATIC + 2 * (len(LAGS_S) * PER_LAG + len(BENDS) * PER_BEND)
"""Length of the feature vector of a step."""

NOMINAL_HEIGHT_M = 1.55
"""Subtracted from heights, so that a standing adult is near zero."""


def heading_axes(up: Array, right: Array) -> tuple[Array, Array]:
    """Horizontal forward and left axes of a camera.

    Args:
        up: (..., 3) unit, gravity up, in any frame.
        right: (..., 3) unit, the camera's x axis in the same frame.

    Returns:
        forward and left, (..., 3) unit, orthogonal to ``up``. A camera rolled by 90 degrees has no heading in this
        sense; any horizontal axis is returned then.
    """
    left = -(right - np.sum(right * up, axis=-1, keepdims=True) * up)
    norm = np.linalg.norm(left, axis=-1, keepdims=True)
    # an axis that is never parallel to up, for the degenerate roll
    spare = np.where(np.abs(up[..., :1]) < 0.9, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]))
    spare = np.cross(up, spare)
    left = np.where(norm > 1e-6, left / np.maximum(norm, 1e-6), spare / np.linalg.norm(spare, axis=-1, keepdims=True))
    return np.cross(left, up), left


def canonical_rotation(up_camera: Array) -> Array:
    """Rotation R_canonical_camera (..., 3, 3) from gravity up in camera axes (..., 3), any length."""
    up = np.asarray(up_camera, dtype=np.float64)
    up = up / np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-12)
    right = np.zeros_like(up)
    right[..., 0] = 1.0
    forward, left = heading_axes(up, right)
    return np.stack([forward, left, up], axis=-2)


def canonical_from_world(T_world_camera: Array, floor_z: float = 0.0) -> Array:
    """Transforms T_world_canonical (T, 4, 4) of head poses (T, 4, 4) in a world with z up.

    Args:
        T_world_camera: Head camera poses, metres; NaN poses give NaN frames.
        floor_z: Height of the floor in the world, metres.
    """
    T = np.asarray(T_world_camera, dtype=np.float64)
    up = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (*T.shape[:-2], 3))
    forward, left = heading_axes(up, T[..., :3, 0])
    result = np.zeros((*T.shape[:-2], 4, 4))
    result[..., :3, 0], result[..., :3, 1], result[..., :3, 2] = forward, left, up
    result[..., :2, 3] = T[..., :2, 3]
    result[..., 2, 3] = floor_z
    result[..., 3, 3] = 1.0
    result[~np.isfinite(T).all(axis=(-2, -1))] = np.nan
    return result


@dataclass(frozen=True)
class HeadMotion:
    """Features of T steps.

    Attributes:
        features: (T, HEAD_FEATURES) float32, zeros where unknown.
        known: (T,) bool, whether the step has a head pose.
    """

    features: NDArray[np.float32]
    known: NDArray[np.bool_]


def head_features(
    times_s: Array,
    T_world_camera: Array,
    *,
    floor_z: float | None = 0.0,
    horizon_s: Array | None = None,
    max_gap_s: float = 0.5,
    steps: NDArray[np.int64] | None = None,
) -> HeadMotion:
    """Describe each step by the head poses around it, in its canonical frame.

    Args:
        times_s: (T,) seconds, increasing.
        T_world_camera: (T, 4, 4), world z up, metres; NaN where a pose is missing.
        floor_z: Height of the floor in the world; None when it is not known (the height features are then zero and
            say so).
        horizon_s: (T,) latest time that a step may look at; None lets each step see everything. Its own time makes
            the features causal.
        max_gap_s: A lag that falls between poses further apart than this is unknown.
        steps: (S,) which steps to describe, by default all; the others serve as surroundings.

    Returns:
        :class:`HeadMotion` of the steps.
    """
    times = np.asarray(times_s, dtype=np.float64)
    T = np.asarray(T_world_camera, dtype=np.float64)
    asked = np.arange(times.size) if steps is None else np.asarray(steps)
    alive = np.asarray(np.isfinite(T).all(axis=(-2, -1)))
    known = alive[asked]
    out = np.zeros((asked.size, HEAD_FEATURES))
    if not known.any():
        return HeadMotion(out.astype(np.float32), known)
    # one row per pose that is there: position, forward axis, right axis
    rows = np.concatenate([T[alive][:, :3, 3], T[alive][:, :3, 2], T[alive][:, :3, 0]], axis=1)
    row_times = times[alive]
    here = asked[known]
    own = T[here]
    frames = canonical_from_world(own)[:, :3, :3]
    place = np.flatnonzero(known)
    if floor_z is not None:
        out[place, 0] = own[:, 2, 3] - floor_z - NOMINAL_HEIGHT_M
        out[place, 1] = 1.0
    out[place, 2:5] = own[:, 2, :3]
    out[place, 5:8] = np.einsum("tji,tj->ti", frames, own[:, :3, 2])
    out[place, 8] = _past_top(row_times, rows[:, 2], times[here]) - own[:, 2, 3]
    horizon = np.full(times.size, np.inf) if horizon_s is None else np.asarray(horizon_s, dtype=np.float64)
    lags = np.array([-lag for lag in LAGS_S] + list(LAGS_S))
    values, found = _sample(row_times, rows, times[here, None] + lags, horizon[here], max_gap_s)
    delta = values[..., :3] - own[:, None, :3, 3]
    local = np.concatenate(
        [np.einsum("tji,tlj->tli", frames, part) for part in (delta, values[..., 3:6], values[..., 6:9])], axis=-1
    )
    block = np.concatenate([np.where(found[..., None], local, 0.0), found[..., None].astype(np.float64)], axis=-1)
    out[place, N_STATIC : N_STATIC + lags.size * PER_LAG] = block.reshape(place.size, -1)
    out[place, N_STATIC + lags.size * PER_LAG :] = _bends(local, found, out[place, 5:8]).reshape(place.size, -1)
    return HeadMotion(out.astype(np.float32), known)


def _bends(local: Array, found: NDArray[np.bool_], forward: Array) -> Array:
    """Second differences (T, 2 * BENDS, PER_BEND) over the past and the future lags."""
    near = np.array([i for i, _ in BENDS])
    far = np.array([k for _, k in BENDS])
    both = np.concatenate([near, near + len(LAGS_S)]), np.concatenate([far, far + len(LAGS_S)])
    seconds = np.tile(np.array(LAGS_S)[near], 2)[:, None]
    known = found[:, both[0]] & found[:, both[1]]
    position = local[:, both[1], :3] - 2 * local[:, both[0], :3]
    axis = local[:, both[1], 3:6] - 2 * local[:, both[0], 3:6] + forward[:, None]
    bend = np.concatenate([position, axis], axis=-1) / seconds**2
    return np.concatenate([np.where(known[..., None], bend, 0.0), known[..., None]], axis=-1)


def _past_top(times: Array, heights: Array, at: Array) -> Array:
    """Largest height within the last :data:`TOP_S` seconds up to each asked time (a subset of ``times``)."""
    first = np.searchsorted(times, at - TOP_S - 1e-9)
    last = np.searchsorted(times, at + 1e-9)
    return np.array([heights[a:b].max() for a, b in zip(first, last)])


def _sample(
    times: Array, rows: Array, wanted: Array, horizon: Array, max_gap_s: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Rows linearly interpolated at (T, L) wanted times, and which of them are inside the record and the horizon."""
    n = times.size
    if n == 1:
        return np.repeat(rows[:, None], wanted.shape[1], axis=1), np.zeros(wanted.shape, dtype=bool)
    right = np.clip(np.searchsorted(times, wanted, side="left"), 1, n - 1)
    t0, t1 = times[right - 1], times[right]
    alpha = np.clip((wanted - t0) / (t1 - t0), 0.0, 1.0)[..., None]
    values = (1 - alpha) * rows[right - 1] + alpha * rows[right]
    inside = (wanted >= times[0] - 1e-9) & (wanted <= times[-1] + 1e-9) & (t1 - t0 <= max_gap_s)
    # the later neighbour itself must be allowed, or the value would leak from beyond the horizon
    later = np.where(alpha[..., 0] > 1e-9, t1, t0)
    return values, inside & (later <= horizon[:, None] + 1e-9)
