"""A smoother after the network: a path that human limbs can follow, near to each prediction as far as it is trusted.

Each joint is a point whose acceleration is white noise, and each prediction a measurement of it with the prediction's
own covariance; the fixed-interval smoother of :mod:`egopose.kernels.smoothing` gives the most likely path. A joint that
is seen well (small error bar) is followed closely, one that is guessed moves smoothly, and a hand that is known less
well along the viewing ray is smoothed mostly along it. Error bars are kept: most of a network's error is slow and
stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError

Array = NDArray[np.float64]

AGILITY = 10.0
"""Density of the white acceleration, m^2/s^3: chosen on held-out people, flat between 3 and 100."""

_LEAST_SD = 1e-3


def smooth_path(
    times_s: Array, xyz: NDArray[np.floating], covariance: NDArray[np.floating], *, agility: float = AGILITY
) -> Array:
    """Smooth joints over time.

    Args:
        times_s: (T,) seconds, increasing.
        xyz: (T, J, 3) metres in a frame that does not move, NaN where a joint is not known; those stay NaN.
        covariance: (T, J, 3, 3) square metres.
        agility: Density of the acceleration, m^2/s^3; less is smoother.

    Returns:
        (T, J, 3) float64.

    Raises:
        EgoposeError: The agility is not a positive number.
    """
    if not (np.isfinite(agility) and agility > 0):
        raise EgoposeError(f"smoothing: agility is {agility}; expected a positive number of m^2/s^3")
    from egopose.kernels.smoothing import smooth_joints

    T, J = xyz.shape[:2]
    mean = np.ascontiguousarray(np.swapaxes(np.asarray(xyz, dtype=np.float64), 0, 1))
    known: NDArray[np.bool_] = np.asarray(np.isfinite(mean).all(axis=-1))
    safe = np.where(known.T[..., None, None], np.asarray(covariance, dtype=np.float64), np.eye(3))
    information = np.linalg.inv(safe + _LEAST_SD**2 * np.eye(3))
    information = np.ascontiguousarray(np.swapaxes(information, 0, 1))
    information[~known] = 0.0
    mean[~known] = np.nan
    out, spread, weight = np.empty_like(mean), np.empty_like(information), np.ones((J, T))
    smooth_joints(
        np.asarray(times_s, dtype=np.float64), mean, information, np.full(J, agility), 1.0, 0, 2.0, 2.0, 2,
        out, spread, weight,
    )  # fmt: skip
    out[~known] = np.nan
    return np.swapaxes(out, 0, 1)
