"""Error bars of the network's joints: along which axes they are measured, and their covariances.

One camera knows across a viewing ray far better than along it, and the head's motion tells the height of a joint better
than how far ahead it is. The network says one scale per joint; factors per axis, found on people who were not trained
on, turn it into a covariance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.model.headmotion import canonical_rotation
from egopose.model.rays import ray_axes

Array = NDArray[np.float64]

SIGMA_PER_SCALE = 2.0
"""Per-axis standard deviation of the density exp(-r / b) in space, over b."""


def bar_axes(xyz: ArrayLike, up: ArrayLike, seen: ArrayLike) -> Array:
    """The axes of each joint's error bars in camera axes, as columns (T, J, 3, 3).

    Args:
        xyz: (T, J, 3) predicted joints, metres, camera axes.
        up: (T, 3) gravity up in camera axes, any length.
        seen: (T, J) bool, whether the joint is said to be in view.

    Returns:
        Where ``seen``: right and down across the viewing ray, and along it; elsewhere: forward, left, up of the
        gravity-aligned head frame. Orthonormal; those of a joint at the camera itself are of the head frame.
    """
    points, visible = np.asarray(xyz, dtype=np.float64), np.asarray(seen, dtype=bool)
    head = np.swapaxes(canonical_rotation(np.asarray(up, dtype=np.float64)), -1, -2)
    axes = np.broadcast_to(head[:, None], (*points.shape, 3)).copy()
    far = np.linalg.norm(points, axis=-1)
    rays = visible & (far > 1e-6) & np.isfinite(far)
    axes[rays] = ray_axes(points[rays] / far[rays][:, None])
    return axes


def covariances(log_scale: ArrayLike, factors: ArrayLike, axes: Array) -> Array:
    """Covariances (T, J, 3, 3) in the frame of the axes, square metres.

    Args:
        log_scale: (T, J) of the network.
        factors: (T, J, 3) along each axis.
        axes: (T, J, 3, 3), columns.
    """
    sigma = SIGMA_PER_SCALE * np.exp(np.asarray(log_scale, dtype=np.float64))[..., None] * np.asarray(factors, float)
    return np.asarray((axes * sigma[..., None, :] ** 2) @ np.swapaxes(axes, -1, -2))


def across(axes: Array, sigma: Array) -> Array:
    """Standard deviations (..., 3) along the frame's coordinate axes of such (..., 3) along other axes (..., 3, 3)."""
    return np.asarray(np.sqrt(((axes * sigma[..., None, :]) ** 2).sum(axis=-1)))
