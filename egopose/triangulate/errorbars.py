"""Error bars that know of a detector's slow errors.

The smoother takes the errors of 2D joints as independent from frame to frame. A detector's are not: in one view a joint
sits beside its place for as long as the pose and the clothes look the same, so that frames average out nothing and the
error bars of a smoothed take come out several times too small. What stays in the residuals over half a second measures
that part, joint by joint: the views contradict each other by it. What all views have in common leaves no residual. It
can only be told from other takes with known truth, see :data:`COMMON_M`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from egopose.pose import PoseSequence
from egopose.triangulate.take import ASSUMED_FPS, Take

Array = NDArray[np.float64]

WINDOW_S = 0.5
"""Errors that last this long are slow."""
LEAST_FRAMES = 5
CHUNK = 2000
"""Frames worked on together."""
COMMON_M: Mapping[str, Mapping[str, float]] = {
    "blazepose": {"face": 0.016, "body": 0.0055, "hand": 0.0035},
    "blazepose-high": {"face": 0.0035, "body": 0.0, "hand": 0.004},
}
"""Detector: part of the body: standard deviation per axis of the error that views share. Those with which 50 % and 90 %
bars hold best on rendered bodies that no other figure is taken from (12 bodies, hands 3)."""


@dataclass
class _Sums:
    """What the slow and fast parts of the residuals of each joint add up to, over frames with three views or more."""

    slow: Array
    fast: Array
    left: Array
    free: Array
    views: Array
    frames: Array

    @classmethod
    def empty(cls, joints: int) -> _Sums:
        return cls(*(np.zeros(joints) for _ in range(6)))

    def add(self, residual: Array, seen: NDArray[np.bool_], window: int) -> None:
        """Take in residuals (V, T, J, 2) and which of them count."""
        kernel = np.ones(min(window, seen.shape[1]))

        def sums(x: Array) -> Array:
            return np.apply_along_axis(lambda row: np.convolve(row, kernel, "same"), 1, x)

        count = np.maximum(sums(seen.astype(np.float64)), 1)
        mean = np.stack([sums(residual[..., i]) for i in range(2)], -1) / count[..., None]
        views = seen.sum(axis=0)
        good = views >= 3
        self.slow += (np.where(seen, (mean**2).sum(-1), 0.0).sum(axis=0) * good).sum(axis=0)
        self.fast += (np.where(seen, ((residual - mean) ** 2).sum(-1), 0.0).sum(axis=0) * good).sum(axis=0)
        # what fast errors leave in a mean of that many
        self.left += (np.where(seen, 1 / count, 0.0).sum(axis=0) / np.maximum(views, 1) * good).sum(axis=0)
        self.free += ((2 * views - 3) * good).sum(axis=0)
        self.views += (views * good).sum(axis=0)
        self.frames += good.sum(axis=0)


def slow_noise(take: Take) -> tuple[Array, Array]:
    """Standard deviations of the slow and of the fast errors of a view, for each joint.

    The mean residual of a view over a window has the variance of the slow errors plus a share of the fast ones. A joint
    follows the slow errors of its n views, which leave 2 n - 3 of 2 n parts of themselves; it does not follow the fast.

    Args:
        take: A solved take.

    Returns:
        Two arrays (J,), metres across the line of sight; NaN where too few frames of a joint had three views.
    """
    n = _window(take)
    sums: _Sums | None = None
    for rows in _chunks(take):
        residual, seen, _ = _residuals(take, rows)
        sums = sums or _Sums.empty(seen.shape[2])
        sums.add(residual, seen, n)
    assert sums is not None
    enough = sums.frames >= LEAST_FRAMES
    with np.errstate(invalid="ignore", divide="ignore"):
        left = sums.left / sums.frames
        fast = sums.fast / (2 * sums.views) / np.maximum(1 - left, 1 / n)
        slow = np.maximum(sums.slow / sums.free - left * fast * 2 * sums.views / sums.free, 0.0)
    return np.where(enough, np.sqrt(slow), np.nan), np.where(enough, np.sqrt(fast), np.nan)


def with_slow_errors(take: Take, common_m: float | Array = 0.0) -> PoseSequence:
    """The take's joints with error bars widened by slow errors.

    Args:
        take: A solved take with covariances.
        common_m: Standard deviation per axis, metres, of what the views' errors have in common: a number or (J,).

    Returns:
        The same joints; covariance and sigma are larger where the views contradict each other slowly.
    """
    return _widened(take, slow_noise(take)[0], common_m)


def _widened(take: Take, slow: Array, common_m: float | Array) -> PoseSequence:
    """The joints with bars that know of slow errors (J,) of a view."""
    pose = take.pose
    assert pose is not None
    assert pose.covariance is not None
    known = np.isfinite(slow)
    slow = np.where(known, slow, np.median(slow[known]) if known.any() else 0.0)
    common = np.broadcast_to(np.asarray(common_m, dtype=np.float64) ** 2, slow.shape)[:, None, None] * np.eye(3)
    covariance = np.empty(pose.covariance.shape, dtype=np.float32)
    for rows in _chunks(take):
        _, seen, information = _residuals(take, rows)
        enough = seen.sum(axis=0) >= 2
        # joints without two views of their own: as sharp as the typical joint around them
        typical = np.median(information[enough], axis=0) if enough.any() else np.eye(3)
        information = np.where(enough[..., None, None], information, typical)
        added = slow[None, :, None, None] ** 2 * np.linalg.inv(information) + common
        covariance[rows] = pose.covariance[rows] + added
    sigma = np.sqrt(np.trace(covariance, axis1=-2, axis2=-1) / 3)
    return pose.replace(covariance=covariance, sigma=sigma.astype(np.float32))


def honest_bars(take: Take) -> Take:
    """A take whose 2D joints a detector found, with error bars that know of the detector's slow errors.

    Other takes, and those that were not smoothed, come back as they are: without smoothing nothing is averaged.
    """
    provenance = take.observations.provenance
    if provenance.get("source") != "detect" or "smoothing" not in take.found:
        return take
    if take.pose is None or take.pose.covariance is None or take.used is None:
        return take
    common = common_errors(provenance.get("detector"), take.pose.skeleton.joints)
    slow, fast = slow_noise(take)
    if not np.isfinite(slow).any():
        return take
    found = {"slow_mm": float(1000 * np.nanmedian(slow)), "fast_mm": float(1000 * np.nanmedian(fast))}
    wider = replace(take, pose=_widened(take, slow, common), found={**take.found, "detector_errors": found})
    return wider.noted(
        f"errors of the detector in a view: {found['slow_mm']:.0f} mm that stay for half a second and more, "
        f"{found['fast_mm']:.0f} mm that do not; error bars know of both"
    )


def common_errors(detector: str | None, joints: tuple[str, ...], kind: str = "body") -> Array:
    """What is known of a detector's common errors, (J,) metres; zero where nothing is.

    Args:
        detector: Name of a detector; None when the 2D joints are not a detector's.
        joints: Names of joints.
        kind: "body", with or without hands in the skeleton, or "hand".
    """
    table = COMMON_M.get(detector or "", {})
    face = ("nose", "_eye", "_ear")

    def part(name: str) -> str:
        return "hand" if kind == "hand" or "_hand_" in name else "face" if name.endswith(face) else "body"

    return np.array([table.get(part(name), 0.0) for name in joints])


def _chunks(take: Take) -> Iterator[slice]:
    """Frames that are worked on together: a long take must not lie in memory several times."""
    assert take.pose is not None
    for start in range(0, take.pose.n_frames, CHUNK):
        yield slice(start, min(start + CHUNK, take.pose.n_frames))


def _window(take: Take) -> int:
    frames = take.observations.frames
    step = float(np.median(np.diff(frames))) if frames.size > 1 else 1.0
    return max(3, round(WINDOW_S * (take.observations.fps or ASSUMED_FPS) / step))


def _residuals(take: Take, rows: slice) -> tuple[Array, NDArray[np.bool_], Array]:
    """Residuals (V, T, J, 2) in metres at the joint, which of them count, and (T, J, 3, 3) sums over views of what a
    view of unit noise says about the place; of some frames."""
    pose, observations, used = take.pose, take.observations, take.used
    assert pose is not None
    assert used is not None
    xyz, used = pose.xyz[rows].astype(np.float64), used[:, rows]
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
            residual[v] = (observations.uv_px[v, rows] - uv) / pixels_per_metre[..., None]
        seen[v] &= np.isfinite(residual[v]).all(axis=-1)
        information[seen[v]] += np.eye(3) - ray[seen[v]][:, :, None] * ray[seen[v]][:, None, :]
    residual[~seen] = 0.0
    return residual, seen, information
