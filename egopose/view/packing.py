"""Joints over time as small integers in base64, for the 3D page."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.pose import PoseSequence

ABSENT = -32768
NO_SIGMA = 65535
LIMIT = 32000
FINEST_M = 1e-4
"""Finest step of a stored position and the step of stored sigmas, metres."""
FAR_M = 30.0
"""Joints further from the middle of the body than this are not drawn, metres."""


def encode(array: NDArray[Any]) -> str:
    """Little-endian bytes in base64."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()).decode("ascii")


def pack_positions(xyz: NDArray[np.float64]) -> tuple[str, str, int]:
    """Positions as 16-bit steps from the middle of the body in each frame.

    Args:
        xyz: (T, J, 3) metres, relative to the centre of the scene, NaN where unknown.

    Returns:
        Base64 of (T, J, 3) int16, base64 of (T, 4) float32 (middle x, y, z and step in metres), and how many
        joints lie too far away to be drawn.
    """
    known: NDArray[np.bool_] = np.all(np.isfinite(xyz), axis=-1)
    filled = np.where(known[..., None], xyz, np.nan)
    middle = np.full((len(xyz), 3), np.nan)
    some: NDArray[np.bool_] = np.any(known, axis=1)
    if some.any():
        middle[some] = np.nanmedian(filled[some], axis=1)
    middle = middle.astype(np.float32).astype(np.float64)
    offset = filled - middle[:, None]
    far = known & (np.abs(np.where(known[..., None], offset, 0)).max(axis=-1) > FAR_M)
    drawn = known & ~far
    reach = np.abs(np.where(drawn[..., None], offset, 0)).max(axis=(1, 2), initial=0.0)
    step = np.maximum(FINEST_M, reach / LIMIT).astype(np.float32)
    steps = np.where(drawn[..., None], np.rint(np.where(drawn[..., None], offset, 0) / step[:, None, None]), ABSENT)
    origin = np.concatenate([middle, step[:, None]], axis=1).astype(np.float32)
    return encode(steps.astype(np.int16)), encode(origin), int(far.sum())


def cholesky_factor(covariance: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Lower factors (..., 6) l00 l10 l11 l20 l21 l22 of covariances (..., 3, 3); NaN where not positive semidefinite.

    A tiny ridge keeps flat covariances factorable.
    """
    C = np.asarray(covariance, dtype=np.float64)
    C = 0.5 * (C + np.swapaxes(C, -1, -2))
    finite: NDArray[np.bool_] = np.all(np.isfinite(C), axis=(-1, -2))
    C = np.where(finite[..., None, None], C, np.eye(3))
    ridge = 1e-12 + 1e-9 * np.trace(C, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        l00 = np.sqrt(C[..., 0, 0] + ridge)
        l10, l20 = C[..., 1, 0] / l00, C[..., 2, 0] / l00
        l11 = np.sqrt(C[..., 1, 1] + ridge - l10**2)
        l21 = (C[..., 2, 1] - l20 * l10) / l11
        l22 = np.sqrt(C[..., 2, 2] + ridge - l20**2 - l21**2)
    L = np.stack([l00, l10, l11, l20, l21, l22], axis=-1)
    return np.where((finite & np.isfinite(L).all(axis=-1))[..., None], L, np.nan)


def pack_uncertainty(pose: PoseSequence, rotation: NDArray[np.float64]) -> dict[str, str | None]:
    """Error bars in steps of :data:`FINEST_M`, at most 3.2 m: Cholesky factors of covariances, else sigmas.

    Args:
        pose: Its covariance is preferred to its sigma.
        rotation: (3, 3) from the pose's axes to the page's.

    Returns:
        ``factor``: base64 of (T, J, 6) int16, or None; ``sigma``: base64 of (T, J) uint16, or None.
    """
    if pose.covariance is not None and np.isfinite(pose.covariance).any():
        L = cholesky_factor(rotation @ pose.covariance.astype(np.float64) @ rotation.T)
        rows: NDArray[np.bool_] = np.all(np.isfinite(L), axis=-1)
        known = rows[..., None]
        steps = np.where(known, np.clip(np.rint(np.where(known, L, 0) / FINEST_M), -LIMIT, LIMIT), ABSENT)
        return {"factor": encode(steps.astype(np.int16)), "sigma": None}
    if pose.sigma is not None and np.isfinite(pose.sigma).any():
        known = np.isfinite(pose.sigma)
        sigma = np.where(known, pose.sigma, 0).astype(np.float64)
        steps = np.where(known, np.clip(np.rint(sigma / FINEST_M), 0, LIMIT), NO_SIGMA)
        return {"factor": None, "sigma": encode(steps.astype(np.uint16))}
    return {"factor": None, "sigma": None}
