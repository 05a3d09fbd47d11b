"""Points from many views: the public function over the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.camera import Camera
from egopose.errors import EgoposeError
from egopose.pose import JointStatus
from egopose.triangulate.packing import PackedRig, pack_cameras, run_linear, run_robust, thread_count
from egopose.triangulate.threshold import FACTOR, RAYLEIGH_MEDIAN, SAMPLE, Threshold, estimate_threshold

MIN_ANGLE_DEG = 3.0
MAX_PAIRS = 64
WEIGHT_POWER = 2.0


@dataclass(frozen=True, eq=False)
class TriangulatedPoints:
    """N points, each with its error bar, its views and a status.

    Attributes:
        points: (N, 3) float64 world metres, NaN for the statuses NO_CONSENSUS and MISSING.
        covariance: (N, 3, 3) float64 square metres, NaN where there is no point.
        used: (C, N) bool, the views that agree and were used.
        error_px: (N,) float64 mean reprojection distance over the views used.
        status: (N,) uint8 of :class:`egopose.pose.JointStatus`.
        threshold_px: Largest residual of an agreeing view; infinite for the linear method.
        sigma_px: Pixel noise (standard deviation of a coordinate at weight 1) that the covariance assumes at least.
        threshold: How the threshold came about, with all rounds of the estimate.
        method: "robust" or "linear".
    """

    points: NDArray[np.float64]
    covariance: NDArray[np.float64]
    used: NDArray[np.bool_]
    error_px: NDArray[np.float64]
    status: NDArray[np.uint8]
    threshold_px: float
    sigma_px: float
    threshold: Threshold
    method: str = "robust"

    @property
    def sigma(self) -> NDArray[np.float64]:
        """(N,) one standard deviation per axis in metres: root of a third of the covariance's trace."""
        return np.sqrt(np.trace(self.covariance, axis1=1, axis2=2) / 3.0)

    @property
    def n_used(self) -> NDArray[np.int64]:
        """(N,) number of views used."""
        return self.used.sum(axis=0)

    def status_names(self) -> list[str]:
        """The status of every point in words, such as "ok" or "two_views"."""
        return [JointStatus(int(s)).name.lower() for s in self.status]

    def status_counts(self) -> dict[str, int]:
        """How many points have each status."""
        counts = np.bincount(self.status, minlength=len(JointStatus))
        return {status.name.lower(): int(counts[status]) for status in JointStatus if status <= JointStatus.MISSING}

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.status_counts().items() if n)
        return f"TriangulatedPoints({self.method}, {counts or 'no points'}; threshold {self.threshold_px:.3g} px)"


def triangulate_points(
    cameras: Sequence[Camera],
    uv_px: ArrayLike,
    score: ArrayLike | None = None,
    *,
    threshold: float | Literal["auto"] = "auto",
    method: Literal["robust", "linear"] = "robust",
    undistorted: bool = False,
    sigma_px: float | None = None,
    min_angle_deg: float = MIN_ANGLE_DEG,
    max_pairs: int = MAX_PAIRS,
    threshold_factor: float = FACTOR,
    seed: int = 0,
    threads: int | None = None,
) -> TriangulatedPoints:
    """3D points from their pixels in several calibrated views.

    Robust method, per point: the least-squares point of all views, when every residual is within the threshold.
    Otherwise hypotheses from pairs of views, trusted views first, each scored by capped residuals over all views
    (MSAC); the inliers of the best one are refined by Gauss-Newton on the reprojection error in raw pixels, selected
    again and refined again. At most ``max_pairs`` pairs are tried, so the cost is bounded for any number of cameras.

    Scores weight the squared residuals by ``min(score, 1) ** 2``; a score of 0 means unseen. The refinement also
    weights a view by the depth of the point in it over the mean depth, half-way between noise that is constant in
    pixels and noise that is constant in metres.

    Status of a point:
        MISSING: fewer than two views see it (finite pixel, positive score, a ray in the lens model). NaN.
        NO_CONSENSUS: no point has two views within the threshold and in front of both cameras. NaN.
        LOW_ANGLE: all rays used meet at less than ``min_angle_deg`` (or nearly face each other).
        TWO_VIEWS: exactly two views agree; others, if there are any, contradict them.
        OK: three views or more agree.

    Covariance: ``s2 * inverse(sum_v w_v J_v^T J_v)`` with J_v the (2, 3) Jacobian of view v in pixels per metre and
    ``s2 = sigma_px^2 * max(1, F / q)``, where F is the weighted mean square of the point's residuals per degree of
    freedom over ``sigma_px^2`` and q the 95 % point of what chance gives: it never claims less than the noise of the
    take and grows when the views disagree by more than that.

    Linear method: all views, weighted, no rejection; OK then only says that three views or more were there.

    Args:
        cameras: C >= 2 cameras.
        uv_px: (C, N, 2) raw pixels (centres at integers), NaN = unseen.
        score: (C, N) confidences >= 0, or None for equal ones. NaN counts as 0.
        threshold: Largest residual of an agreeing view in pixels; "auto" estimates it from the points
            (:func:`egopose.triangulate.threshold.estimate_threshold`). The linear method ignores it.
        method: "robust" or "linear".
        undistorted: The pixels belong to undistorted images with the cameras' focal lengths and centres; the lens
            model is left out.
        sigma_px: Pixel noise for the covariance; None takes the estimate, or ``threshold / (4 sqrt 2)`` for a given
            threshold.
        min_angle_deg: Rays that meet at less are LOW_ANGLE.
        max_pairs: Most pairs of views tried for a point.
        threshold_factor: The automatic threshold in units of ``sqrt(2)`` standard deviations.
        seed: Of the random part of the points that the estimate uses.
        threads: Threads; None takes all cores. No result depends on it.

    Returns:
        Points with covariance, views used, error and status.

    Raises:
        EgoposeError: Fewer than two cameras, a calibration that is not finite, wrong shapes, negative scores, or a
            setting out of range.
    """
    rig = pack_cameras(cameras, undistorted)
    uv = _check_pixels(uv_px, rig.n_cameras)
    weight = _check_scores(score, uv.shape[:2])
    if method not in ("robust", "linear"):
        raise EgoposeError(f"method is {method!r}; expected 'robust' or 'linear'")
    if not 0 < min_angle_deg < 90:
        raise EgoposeError(f"min_angle_deg is {min_angle_deg}; expected degrees between 0 and 90")
    if max_pairs < 1:
        raise EgoposeError(f"max_pairs is {max_pairs}; expected at least 1")
    if sigma_px is not None and not (np.isfinite(sigma_px) and sigma_px > 0):
        raise EgoposeError(f"sigma_px is {sigma_px}; expected a positive number of pixels or None")
    if not (np.isfinite(threshold_factor) and threshold_factor > 0):
        raise EgoposeError(f"threshold_factor is {threshold_factor}; expected a positive number")
    n_threads = thread_count(threads, uv.shape[1])
    if method == "linear":
        return _linear(rig, uv, weight, sigma_px, min_angle_deg, n_threads)
    if isinstance(threshold, str):
        if threshold != "auto":
            raise EgoposeError(f"threshold is {threshold!r}; expected a number of pixels or 'auto'")
        chosen = estimate_threshold(
            rig, uv, weight, min_angle_deg=min_angle_deg, max_pairs=max_pairs, factor=threshold_factor, seed=seed
        )
    elif isinstance(threshold, int | float | np.number) and np.isfinite(threshold) and threshold > 0:
        chosen = Threshold(float(threshold), float(threshold) / (FACTOR * np.sqrt(2.0)), "given")
    else:
        raise EgoposeError(f"threshold is {threshold}; expected a positive number of pixels or 'auto'")
    sigma = chosen.sigma_px if sigma_px is None else float(sigma_px)
    arrays = run_robust(
        rig, uv, weight, chosen.threshold_px, sigma, min_angle_deg, max_pairs, want_residual=False, threads=n_threads
    )
    return TriangulatedPoints(
        arrays.points,
        arrays.covariance,
        arrays.used,
        arrays.error_px,
        arrays.status,
        chosen.threshold_px,
        sigma,
        chosen,
    )


def _check_pixels(uv_px: ArrayLike, n_cameras: int) -> NDArray[np.float64]:
    if np.ma.isMaskedArray(uv_px):
        uv_px = np.ma.filled(uv_px.astype(np.float64), np.nan)
    uv = np.asarray(uv_px)
    if uv.dtype.kind not in "fiu" or uv.ndim != 3 or uv.shape[2] != 2:
        raise EgoposeError(
            f"pixels have shape {uv.shape} and type {uv.dtype}; expected numbers (cameras, points, 2), NaN = unseen"
        )
    if uv.shape[0] != n_cameras:
        raise EgoposeError(f"pixels of {uv.shape[0]} views for {n_cameras} cameras; expected ({n_cameras}, N, 2)")
    return np.ascontiguousarray(uv, dtype=np.float64)


def _check_scores(score: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if score is None:
        return np.empty((shape[0], 0))
    values = np.asarray(score, dtype=np.float64)
    if values.shape != shape:
        raise EgoposeError(f"scores have shape {values.shape}; expected {shape} (cameras, points)")
    if (values < 0).any():
        raise EgoposeError(f"a score of {np.nanmin(values):.3g} was found; scores must not be negative")
    return np.nan_to_num(np.minimum(values, 1.0), nan=0.0) ** WEIGHT_POWER


def _linear(
    rig: PackedRig,
    uv: NDArray[np.float64],
    weight: NDArray[np.float64],
    sigma_px: float | None,
    min_angle_deg: float,
    threads: int,
) -> TriangulatedPoints:
    arrays = run_linear(rig, uv, weight, min_angle_deg, threads)
    if sigma_px is None:
        # the median over a regular part is the take's noise as well as that over all
        step = max(1, uv.shape[1] // SAMPLE)
        views = arrays.used[:, ::step].sum(axis=0)
        correction = np.sqrt(2.0 * views / np.maximum(2.0 * views - 3.0, 1.0)) / RAYLEIGH_MEDIAN
        residual = (arrays.error_px[::step] * correction)[views >= 2]
        sigma_px = float(np.median(residual)) if residual.size else float("nan")
    covariance = arrays.covariance
    covariance *= sigma_px**2
    none = Threshold(float("inf"), sigma_px, "none")
    return TriangulatedPoints(
        arrays.points, covariance, arrays.used, arrays.error_px, arrays.status, float("inf"), sigma_px, none, "linear"
    )
