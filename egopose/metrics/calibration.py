"""Whether predicted sigmas mean what they say."""

from __future__ import annotations

from math import erf, log, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from egopose.errors import EgoposeError
from egopose.metrics.arrays import check_pair, counted_joints


def coverage(pred: ArrayLike, target: ArrayLike, valid: ArrayLike | None = None) -> float:
    """Share of counted joints whose prediction is finite; NaN without counted joints.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    p, t, mask = check_pair(pred, target, valid)
    counted = counted_joints(t, mask)
    n = int(counted.sum())
    return float((counted & np.isfinite(p).all(-1)).sum() / n) if n else float("nan")


def sigma_calibration(
    pred: ArrayLike, target: ArrayLike, sigma: ArrayLike, valid: ArrayLike | None = None
) -> dict[str, Any]:
    """Compare errors with the predicted 1-sigma per axis, as a Gaussian.

    Args:
        pred: (N, J, 3).
        target: (N, J, 3).
        sigma: (N, J) or (N, J, 3), the same unit, positive where it counts.
        valid: (N, J) or None.

    Returns:
        ``coverage_50`` and ``coverage_90``: share of coordinates within the central 50 and 90 % interval;
        ``ball_50`` and ``ball_90``: share of joints within the sphere that a chi distribution with three degrees of
        freedom says; ``nll``: mean negative log likelihood of a coordinate, in nats; ``ratio``: root mean square of
        error over sigma, 1 when honest; ``count``: joints. Joints whose prediction or sigma is not finite count as not
        covered and are left out of ``nll`` and ``ratio``; their number is ``not_finite``.

    Raises:
        EgoposeError: Shapes do not belong together, or a counted sigma is zero or negative.
    """
    p, t, mask = check_pair(pred, target, valid)
    s = np.asarray(sigma, dtype=np.float64)
    if s.shape == p.shape[:2]:
        s = np.repeat(s[:, :, None], 3, axis=2)
    if s.shape != p.shape:
        raise EgoposeError(f"sigma has shape {s.shape}; expected {p.shape[:2]} or {p.shape}")
    counted = counted_joints(t, mask)
    if (s[counted] <= 0).any():
        raise EgoposeError("a counted joint has a sigma of zero or less; expected positive numbers (NaN for unknown)")
    n = int(counted.sum())
    z = np.abs(p[counted].astype(np.float64) - t[counted].astype(np.float64)) / s[counted]
    fine = np.isfinite(z).all(-1) & np.isfinite(s[counted]).all(-1)
    nan = float("nan")
    if not n:
        return {k: nan for k in ("coverage_50", "coverage_90", "ball_50", "ball_90", "nll", "ratio")} | {
            "count": 0, "not_finite": 0,
        }  # fmt: skip
    zf = z[fine]
    radius = np.sqrt((zf**2).sum(-1))
    likelihood = 0.5 * zf**2 + np.log(s[counted][fine]) + 0.5 * log(2 * pi)
    return {
        "coverage_50": float((zf <= _inverse(lambda x: erf(x / sqrt(2)), 0.5)).sum() / (3 * n)),
        "coverage_90": float((zf <= _inverse(lambda x: erf(x / sqrt(2)), 0.9)).sum() / (3 * n)),
        "ball_50": float((radius <= _inverse(_ball, 0.5)).sum() / n),
        "ball_90": float((radius <= _inverse(_ball, 0.9)).sum() / n),
        "nll": float(likelihood.mean()) if len(zf) else nan,
        "ratio": float(np.sqrt((zf**2).mean())) if len(zf) else nan,
        "count": n,
        "not_finite": int(n - fine.sum()),
    }


def _ball(x: float) -> float:
    """Share of a 3D standard Gaussian within a radius (Maxwell's distribution)."""
    return erf(x / sqrt(2)) - sqrt(2 / pi) * x * np.exp(-x * x / 2)


def _inverse(share: Any, level: float) -> float:
    lo, hi = 0.0, 10.0
    for _ in range(80):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if share(middle) < level else (lo, middle)
    return hi
