"""The inlier threshold, estimated from the take itself.

A fixed number of pixels suits no two captures: noise, image size and calibration quality differ by a factor of ten.
The estimate starts wide and repeats: solve, measure the residuals of all views (also the rejected ones), set the
threshold to a multiple of their spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose.triangulate.packing import PackedRig, SolvedArrays, run_robust

START_PX = 15.0
FACTOR = 4.0
"""Threshold over ``sqrt(2)`` standard deviations."""
RAYLEIGH_MEDIAN = 1.1774100225154747
"""Median distance of a 2D normal deviate of unit variance, sqrt(2 ln 2)."""
NORMAL_MEDIAN = 0.6744897501960817
"""Median absolute value of a normal deviate of unit variance."""
ROUNDS = 8
SAMPLE = 2500
FLOOR_PX = 0.5
TAIL = 2.0
"""Largest ratio of the root mean square to the median that widens the threshold."""
DIAGONAL_SHARE = 0.05
"""No threshold is wider than this share of the largest image diagonal."""
ENOUGH = 60
"""Residuals needed for an estimate; with fewer the starting value stays."""


@dataclass(frozen=True)
class Threshold:
    """An inlier threshold and the pixel noise that goes with it.

    Attributes:
        threshold_px: Largest residual of an agreeing view.
        sigma_px: Standard deviation of one pixel coordinate (with weight 1), corrected for the fitted parameters.
        source: "estimated", "given", "default" (too few observations for an estimate) or "none" (linear method).
        rounds_px: The thresholds of all rounds.
        n_points: Points the estimate used.
    """

    threshold_px: float
    sigma_px: float
    source: str
    rounds_px: tuple[float, ...] = ()
    n_points: int = 0


def sample_points(seen: NDArray[np.bool_], seed: int, size: int = SAMPLE) -> NDArray[np.int64]:
    """Indices of at most ``size`` points with the most useful number of views: three or more, else two.

    Args:
        seen: (C, N) bool.
        seed: Of the random choice.
        size: Largest number of points.
    """
    count = seen.sum(axis=0)
    candidates = np.flatnonzero(count >= 3)
    if candidates.size * 3 < ENOUGH:
        candidates = np.flatnonzero(count >= 2)
    if candidates.size > size:
        candidates = np.sort(np.random.default_rng(seed).choice(candidates, size, replace=False))
    return candidates


def noise_of(arrays: SolvedArrays, weight: NDArray[np.float64]) -> float | None:
    """Pixel noise of the agreeing views: median weighted residual, corrected for the three fitted parameters."""
    used = arrays.used
    count = used.sum(axis=0)
    good = used & (count >= 2)
    if good.sum() < ENOUGH:
        return None
    # n views have 2 n - 3 degrees of freedom spread over 2 n coordinates; two views leave one of four
    correction = np.sqrt(2.0 * count / np.maximum(2.0 * count - 3.0, 1.0))
    residual = arrays.residual_px * correction
    if weight.size:
        residual = residual * np.sqrt(weight)
    median_of = np.where(count == 2, NORMAL_MEDIAN * np.sqrt(2.0), RAYLEIGH_MEDIAN)
    return float(np.median((residual / median_of)[good]))


def estimate_threshold(
    rig: PackedRig,
    uv_px: NDArray[np.float64],
    weight: NDArray[np.float64],
    *,
    min_angle_deg: float,
    max_pairs: int,
    factor: float = FACTOR,
    seed: int = 0,
) -> Threshold:
    """Estimate the threshold of a take on a bounded random part of it.

    Each round solves with the current threshold and sets it to ``factor * sqrt(2) * spread``. The spread is the median
    residual over all seen views, rejected ones included, over 1.1774 (the median distance of a 2D normal deviate of
    unit variance). Where the views used have heavier tails than that, as blur or calibration errors give, it is their
    root mean square per coordinate instead, up to twice the median's value: a threshold inside the tail of good views
    throws geometry away. It ends after eight rounds or when the value moves by less than one percent.

    Args:
        rig: The cameras.
        uv_px: (C, N, 2) pixels, NaN = unseen.
        weight: (C, N) weights or (C, 0).
        min_angle_deg: As in the solve.
        max_pairs: As in the solve.
        factor: Multiple of sqrt(2) sigma.
        seed: Of the random part.

    Returns:
        The threshold; the starting value of 15 px with source "default" when there is too little to measure.
    """
    seen = np.isfinite(uv_px[..., 0]) & np.isfinite(uv_px[..., 1])
    if weight.size:
        seen &= weight > 0
    index = sample_points(seen, seed)
    default = Threshold(START_PX, START_PX / (FACTOR * np.sqrt(2.0)), "default")
    if seen[:, index].sum() < ENOUGH:
        return default
    uv = np.ascontiguousarray(uv_px[:, index])
    part = np.ascontiguousarray(weight[:, index]) if weight.size else weight
    ceiling = max(START_PX, DIAGONAL_SHARE * rig.diagonal_px)
    only_two = int(seen[:, index].sum(axis=0).max()) == 2
    threshold, rounds, sigma = START_PX, [START_PX], default.sigma_px
    for _ in range(ROUNDS):
        # two views only: nothing can be rejected, every pair must leave its residual to be measured
        limit = ceiling * 1e3 if only_two else threshold
        arrays = run_robust(rig, uv, part, limit, sigma, min_angle_deg, max_pairs, want_residual=True, threads=1)
        residual = arrays.residual_px[np.isfinite(arrays.residual_px)]
        if residual.size < ENOUGH:
            return default
        median_of = NORMAL_MEDIAN / np.sqrt(2.0) if only_two else RAYLEIGH_MEDIAN
        spread = float(np.median(residual)) / median_of
        used = arrays.residual_px[arrays.used]
        if used.size >= ENOUGH and not only_two:
            # heavy tails that still agree: the root mean square of the used views sees them, the median does not
            spread = float(np.clip(np.sqrt(np.mean(used**2) / 2.0), spread, TAIL * spread))
        threshold = float(np.clip(factor * np.sqrt(2.0) * spread, FLOOR_PX, ceiling))
        sigma = max(noise_of(arrays, part) or spread, FLOOR_PX / (factor * np.sqrt(2.0)))
        rounds.append(threshold)
        if only_two or abs(rounds[-1] - rounds[-2]) < 0.01 * threshold:
            break
    return Threshold(threshold, sigma, "estimated", tuple(rounds), int(index.size))
