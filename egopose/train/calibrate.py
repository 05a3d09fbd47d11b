"""Error bars that mean what they say: one factor per joint, found on people who were not trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

MOST_PER_JOINT = 200_000


def sigma_factors(error: ArrayLike, sigma: ArrayLike, seen: ArrayLike, *, share: float = 0.75) -> NDArray[np.float32]:
    """Factors on sigma after which a normal interval of the given share holds that share of the errors.

    Args:
        error: (N, J, 3) predicted minus true, metres, NaN without label.
        sigma: (N, J) predicted standard deviation per axis, metres.
        seen: (N, J) bool, whether the joint was in view.
        share: Between the 50 and 90 per cent that are reported, so that neither is favoured.

    Returns:
        (2, J) float32: row 0 for joints out of view, row 1 in view; 1 where there are fewer than 100 labels.
    """
    from scipy.stats import norm

    error, sigma, seen = np.asarray(error, float), np.asarray(sigma, float), np.asarray(seen, bool)
    target = norm.ppf(0.5 + share / 2)
    ratio = np.abs(error) / sigma[..., None]
    out = np.ones((2, sigma.shape[1]), dtype=np.float32)
    for row in range(2):
        for joint in range(sigma.shape[1]):
            some = ratio[seen[:, joint] == bool(row), joint].ravel()
            some = some[np.isfinite(some)]
            if some.size >= 100:
                out[row, joint] = np.quantile(some, share) / target
    return out


def coverage(error: ArrayLike, sigma: ArrayLike, share: float) -> float:
    """Share of coordinates inside the central normal interval of a given share."""
    from scipy.stats import norm

    error, sigma = np.asarray(error, float), np.asarray(sigma, float)
    inside = np.abs(error) <= norm.ppf(0.5 + share / 2) * sigma[..., None]
    counted = np.isfinite(error) & np.isfinite(sigma)[..., None]
    return float(inside[counted].mean()) if counted.any() else float("nan")
