"""Error bars that mean what they say: factors per joint and axis, found on people who were not trained on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.model.errorbars import across

Array = NDArray[np.float64]


class Errors(NamedTuple):
    """Errors of N frames with what was said about them, factors of error bars all 1.

    Attributes:
        error: (N, J, 3) predicted minus true, metres, along the axes on which intervals are reported; NaN without
            label.
        sigma: (N, J) metres.
        axes: (N, J, 3, 3) of the error bars, columns, in the same frame.
        said: (N, J) bool, said to be in view.
        seen: (N, J) bool, in view.
    """

    error: Array
    sigma: Array
    axes: Array
    said: NDArray[np.bool_]
    seen: NDArray[np.bool_]

    @property
    def along(self) -> Array:
        """Errors along the axes of the error bars."""
        return np.asarray(np.einsum("njba,njb->nja", self.axes, self.error))

    def frame_sigma(self, factors: NDArray[np.float32]) -> Array:
        """Standard deviations like ``error`` with factors (2, J, 3) for out of view and in view."""
        return across(self.axes, self.sigma[..., None] * np.where(self.said[..., None], factors[1], factors[0]))


def fitted_factors(found: Errors) -> NDArray[np.float32]:
    """Factors (2, J, 3) of error bars out of view and in view: each joint's and axis's own, times common ones."""
    factors = sigma_factors(found.along, found.sigma, found.said)
    scales = common_scales(found.error, found.frame_sigma(factors), found.said, found.seen)
    return factors * np.array(scales, dtype=np.float32)[:, None, None]


def sigma_factors(error: ArrayLike, sigma: ArrayLike, seen: ArrayLike, *, share: float = 0.75) -> NDArray[np.float32]:
    """Factors on sigma after which a normal interval of the given share holds that share of the errors.

    Args:
        error: (N, J, 3) predicted minus true along the axes of the error bars, metres, NaN without label.
        sigma: (N, J) predicted standard deviation per axis, metres.
        seen: (N, J) bool, whether the joint was in view.
        share: Between the 50 and 90 per cent that are reported, so that neither is favoured.

    Returns:
        (2, J, 3) float32, per axis: row 0 for joints out of view, row 1 in view; 1 where there are fewer than
        :data:`FEWEST` labels.
    """
    from scipy.stats import norm

    error, sigma, seen = np.asarray(error, float), np.asarray(sigma, float), np.asarray(seen, bool)
    target = norm.ppf(0.5 + share / 2)
    ratio = np.abs(error) / sigma[..., None]
    out = np.ones((2, *error.shape[1:]), dtype=np.float32)
    for row in range(2):
        for joint in range(sigma.shape[1]):
            some = ratio[seen[:, joint] == bool(row), joint]
            some = some[np.isfinite(some).all(axis=-1)]
            if len(some) >= FEWEST:
                out[row, joint] = np.quantile(some, share, axis=0) / target
    return out


FEWEST = 30
"""Labels below which a joint keeps its own sigma."""

ASKED = ((0.5, 0.05), (0.9, 0.05))
"""Shares that are reported, and by how much each may be off."""

SCALES = np.exp(np.linspace(-0.6, 0.6, 49))
"""Common factors that are tried, 1 among them."""


def common_scales(error: ArrayLike, sigma: ArrayLike, said: ArrayLike, seen: ArrayLike) -> tuple[float, float]:
    """One factor for all joints that are said to be out of view, and one for those said to be in view.

    Errors have longer tails than a normal law, and what is said to be in view is not all that is: so each joint's own
    factor can leave all intervals of those truly in view a little wide and the others narrow. These two make the
    largest of the four misses (50 and 90 per cent, truly in and out of view) as small as it gets.

    Args:
        error: (N, J, 3) predicted minus true, metres, along the axes on which intervals are reported; NaN without
            label.
        sigma: (N, J, 3) standard deviation along them, metres, with the joints' own factors.
        said: (N, J) bool, whether the joint is said to be in view.
        seen: (N, J) bool, whether it is.

    Returns:
        Factors for joints said to be out of view and in view.
    """
    from scipy.stats import norm

    error, sigma = np.asarray(error, float), np.asarray(sigma, float)
    said, seen = np.asarray(said, bool), np.asarray(seen, bool)
    ratio = np.abs(error) / sigma
    # of those said to be out of view and in view: how many lie inside at each scale
    inside = np.zeros((2, 2, len(ASKED), SCALES.size))
    total = np.zeros((2, 2))
    for i in range(2):
        for k in range(2):
            some = ratio[(said == bool(i)) & (seen == bool(k))]
            some = np.sort(some[np.isfinite(some)])
            total[i, k] = some.size
            for a, (share, _) in enumerate(ASKED):
                inside[i, k, a] = np.searchsorted(some, SCALES * norm.ppf(0.5 + share / 2), side="right")
    worst = np.zeros((SCALES.size, SCALES.size))
    for k in range(2):
        if not total[:, k].sum():
            continue
        for a, (share, margin) in enumerate(ASKED):
            held = (inside[0, k, a][:, None] + inside[1, k, a][None, :]) / total[:, k].sum()
            worst = np.maximum(worst, np.abs(held - share) / margin)
    # among equals the smallest change
    change = np.abs(np.log(SCALES))
    best = np.unravel_index(np.argmin(worst + 1e-6 * (change[:, None] + change[None, :])), worst.shape)
    return float(SCALES[best[0]]), float(SCALES[best[1]])


def coverage(error: ArrayLike, sigma: ArrayLike, share: float) -> float:
    """Share of coordinates (N, J, 3) inside the central normal interval of a given share; sigma (N, J, 3)."""
    from scipy.stats import norm

    error, sigma = np.asarray(error, float), np.asarray(sigma, float)
    inside = np.abs(error) <= norm.ppf(0.5 + share / 2) * sigma
    counted = np.isfinite(error) & np.isfinite(sigma)
    return float(inside[counted].mean()) if counted.any() else float("nan")
