"""Error bars of labels that know of a detector's slow errors.

The smoother takes the errors of 2D joints as independent from frame to frame. A detector's are not: in one view a joint
sits beside its place for as long as the pose and the clothes look the same, so that frames average out nothing and the
error bars of a smoothed take come out several times too small. What stays in the residuals over half a second measures
that part, joint by joint: the views contradict each other by it. What all views have in common leaves no residual. It
can only be told from other takes with known truth, see :data:`COMMON_M`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from egopose.pose import PoseSequence
from egopose.triangulate.take import ASSUMED_FPS, Take

Array = NDArray[np.float64]

WINDOW_S = 0.5
"""Errors that last this long are slow."""
LEAST_FRAMES = 5
COMMON_M: Mapping[str, Mapping[str, float]] = {
    "blazepose": {"face": 0.016, "body": 0.0055, "hand": 0.0035},
    "blazepose-high": {"face": 0.0035, "body": 0.0, "hand": 0.004},
}
"""Detector: part of the body: standard deviation per axis of the error that views share. Those with which 50 % and 90 %
bars hold best on rendered bodies that no other figure is taken from (12 bodies, hands 3)."""


def slow_noise(take: Take) -> tuple[Array, Array]:
    """Standard deviations of the slow and of the fast errors of a view, for each joint.

    The mean residual of a view over a window has the variance of the slow errors plus a share of the fast ones. A joint
    follows the slow errors of its n views, which leave 2 n - 3 of 2 n parts of themselves; it does not follow the fast.

    Args:
        take: A solved take.

    Returns:
        Two arrays (J,), metres across the line of sight; NaN where no joint had three views.
    """
    residual, seen, _ = _residuals(take)
    n = _window(take)
    kernel = np.ones(n)

    def sums(x: Array) -> Array:
        return np.apply_along_axis(lambda row: np.convolve(row, kernel, "same"), 1, x)

    count = sums(seen.astype(np.float64))
    mean = np.stack([sums(residual[..., i]) for i in range(2)], -1) / np.maximum(count, 1)[..., None]
    slow = np.where(seen, (mean**2).sum(-1), 0.0).sum(axis=0)
    fast = np.where(seen, ((residual - mean) ** 2).sum(-1), 0.0).sum(axis=0)
    # what fast errors leave in a mean of that many
    share = np.where(seen, 1 / np.maximum(count, 1), 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    views = seen.sum(axis=0)
    free = np.where(views >= 3, 2 * views - 3, 0).astype(np.float64)
    out = np.full((2, seen.shape[2]), np.nan)
    for j in range(seen.shape[2]):
        good = free[:, j] > 0
        if good.sum() < LEAST_FRAMES:
            continue
        total = free[good, j].sum()
        left = share[good, j].mean()
        fast_variance = fast[good, j].sum() / (2 * views[good, j].sum()) / max(1 - left, 1 / n)
        out[0, j] = np.sqrt(
            max(slow[good, j].sum() / total - left * fast_variance * 2 * views[good, j].sum() / total, 0.0)
        )
        out[1, j] = np.sqrt(fast_variance)
    return out[0], out[1]


def with_slow_errors(take: Take, common_m: float | Array = 0.0) -> PoseSequence:
    """The take's joints with error bars widened by slow errors.

    Args:
        take: A solved take.
        common_m: Standard deviation per axis, metres, of what the views' errors have in common: a number or (J,).

    Returns:
        The same joints; covariance and sigma are larger where the views contradict each other slowly.
    """
    pose = take.pose
    assert pose is not None
    assert pose.covariance is not None
    slow, _ = slow_noise(take)
    known = np.isfinite(slow)
    slow = np.where(known, slow, np.median(slow[known]) if known.any() else 0.0)
    _, seen, information = _residuals(take)
    enough = seen.sum(axis=0) >= 2
    # joints without two views of their own: as sharp as the take's typical joint
    typical = np.median(information[enough], axis=0) if enough.any() else np.eye(3)
    information = np.where(enough[..., None, None], information, typical)
    added = slow[None, :, None, None] ** 2 * np.linalg.inv(information)
    added = added + np.broadcast_to(np.asarray(common_m, dtype=np.float64) ** 2, slow.shape)[:, None, None] * np.eye(3)
    covariance = pose.covariance.astype(np.float64) + added
    sigma = np.sqrt(np.trace(covariance, axis1=-2, axis2=-1) / 3)
    return pose.replace(covariance=covariance.astype(np.float32), sigma=sigma.astype(np.float32))


def common_errors(detector: str | None, joints: tuple[str, ...], kind: str) -> Array:
    """What is known of a detector's common errors, (J,) metres; zero where nothing is.

    Args:
        detector: Name of a detector; None when the 2D joints are not a detector's.
        joints: Names of joints.
        kind: "body" or "hand".
    """
    table = COMMON_M.get(detector or "", {})
    face = ("nose", "_eye", "_ear")
    parts = [kind if kind == "hand" or not name.endswith(face) else "face" for name in joints]
    return np.array([table.get(part, 0.0) for part in parts])


def _window(take: Take) -> int:
    frames = take.observations.frames
    step = float(np.median(np.diff(frames))) if frames.size > 1 else 1.0
    return max(3, round(WINDOW_S * (take.observations.fps or ASSUMED_FPS) / step))


def _residuals(take: Take) -> tuple[Array, NDArray[np.bool_], Array]:
    """Residuals (V, T, J, 2) in metres at the joint, which of them count, and (T, J, 3, 3) sums over views of what a
    view of unit noise says about the place."""
    pose, observations, used = take.pose, take.observations, take.used
    assert pose is not None
    assert used is not None
    xyz = pose.xyz.astype(np.float64)
    residual, information = np.zeros((*used.shape, 2)), np.zeros((*xyz.shape, 3))
    seen = used.copy()
    step = 1e-3
    for v, name in enumerate(observations.views):
        camera = take.rig[name]
        ray = xyz - camera.center_world
        ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
        across = np.cross(ray, np.where(np.abs(ray[..., :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]))
        across /= np.linalg.norm(across, axis=-1, keepdims=True)
        uv = camera.project(xyz)
        pixels_per_metre = np.linalg.norm(camera.project(xyz + step * across) - uv, axis=-1) / step
        with np.errstate(invalid="ignore", divide="ignore"):
            residual[v] = (observations.uv_px[v] - uv) / pixels_per_metre[..., None]
        seen[v] &= np.isfinite(residual[v]).all(axis=-1)
        information[seen[v]] += np.eye(3) - ray[seen[v]][:, :, None] * ray[seen[v]][:, None, :]
    residual[~seen] = 0.0
    return residual, seen, information
