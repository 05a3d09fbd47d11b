"""Distances after the best similarity or rigid motion of each frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from egopose.metrics.arrays import CHUNK, Bools, Floats, Reduce, check_pair, counted_joints, reduce_errors
from egopose.metrics.fast import SMALL, frame_sums, joint_errors, reduce_sums


def align(pred: Floats, target: Floats, counted: Bools, *, scale: bool = True) -> Floats:
    """Predictions moved onto their targets by the least-squares similarity of each frame.

    Umeyama's solution (1991) with a proper rotation, fitted on counted joints. A prediction without spread collapses on
    the centroid of its target.

    Args:
        pred: (N, J, 3) float64.
        target: (N, J, 3) float64.
        counted: (N, J); frames in which a counted joint is not finite come back as NaN.
        scale: Fit a scale too.

    Returns:
        (N, J, 3); all joints are moved, the uncounted ones as well.
    """
    use = counted[:, :, None]
    broken = (counted & ~np.isfinite(pred).all(-1)).any(axis=1) | (counted & ~np.isfinite(target).all(-1)).any(axis=1)
    first = np.argmax(counted, axis=1)[:, None, None]
    # a shift by one joint is exact where frames lie far from the origin, and makes coincident joints exactly zero
    p0, t0 = np.take_along_axis(pred, first, axis=1), np.take_along_axis(target, first, axis=1)
    p, t = np.where(use, pred - p0, 0.0), np.where(use, target - t0, 0.0)
    p[broken], t[broken] = 0.0, 0.0
    count = np.maximum(counted.sum(axis=1), 1)[:, None, None]
    p_mean, t_mean = p.sum(axis=1, keepdims=True) / count, t.sum(axis=1, keepdims=True) / count
    p_centred, t_centred = np.where(use, p - p_mean, 0.0), np.where(use, t - t_mean, 0.0)
    # unit size on both sides: the product of tiny or huge poses would leave the range of squares
    p_size, t_size = (np.abs(a).max(axis=(1, 2), keepdims=True) for a in (p_centred, t_centred))
    p_unit = p_centred / np.where(p_size > 0, p_size, 1.0)
    t_unit = t_centred / np.where(t_size > 0, t_size, 1.0)
    U, S, Vt = np.linalg.svd(np.swapaxes(t_unit, 1, 2) @ p_unit)
    flip = np.where(np.linalg.det(U @ Vt) < 0, -1.0, 1.0)
    U[:, :, 2] *= flip[:, None]
    S[:, 2] *= flip
    R = U @ Vt
    factor = np.ones(len(pred))
    spread = np.einsum("njk,njk->n", p_unit, p_unit)
    if scale:
        factor = np.where(spread > 0, S.sum(axis=1) / np.where(spread > 0, spread, 1.0), 0.0)
        factor = factor * (t_size / np.where(p_size > 0, p_size, 1.0))[:, 0, 0]
    moved = (pred - p0 - p_mean) @ np.swapaxes(R, 1, 2) * factor[:, None, None] + t_mean + t0
    moved[broken] = np.nan
    return moved


def aligned_distances(
    pred: ArrayLike, target: ArrayLike, valid: ArrayLike | None = None, *, scale: bool = True
) -> tuple[Floats, Bools]:
    """Distances (N, J) after alignment, and which joints count (N, J).

    Raises:
        EgoposeError: See :func:`pa_mpjpe`.
    """
    p, t, mask = check_pair(pred, target, valid)
    counted = counted_joints(t, mask)
    if len(p) > SMALL:
        return joint_errors(p, t, mask, "pa" if scale else "rigid"), counted
    error = np.empty(p.shape[:2])
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, len(p), CHUNK):
            part = slice(start, start + CHUNK)
            a, b = p[part].astype(np.float64), t[part].astype(np.float64)
            difference = align(a, b, counted[part], scale=scale) - b
            error[part] = np.sqrt(np.einsum("njk,njk->nj", difference, difference))
    error[~np.isfinite(error)] = np.nan
    return error, counted


def pa_mpjpe(
    pred: ArrayLike,
    target: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    scale: bool = True,
    reduce: Reduce = "none",
) -> Floats | float:
    """MPJPE after Procrustes alignment of each frame (Umeyama, 1991): rotation, translation and, by default, scale.

    Rotations are proper: a mirrored pose is not forgiven. The fit uses counted joints only. A prediction without spread
    collapses on the centroid of its target. Where the best rotation is not unique (collinear or coincident joints, an
    inverted symmetric pose) one of the best is taken.

    Args:
        pred: (N, J, 3) joints, any floating type and unit.
        target: (N, J, 3) in the same unit.
        valid: (N, J) booleans or None.
        scale: Fit a scale; papers that say "rigid" usually do as well.
        reduce: See :func:`egopose.metrics.mpjpe`.

    Raises:
        EgoposeError: Shapes or types do not belong together.
    """
    p, t, mask = check_pair(pred, target, valid)
    if len(p) > SMALL and reduce in ("none", "micro", "macro"):
        return reduce_sums(*frame_sums(p, t, mask, "pa" if scale else "rigid"), reduce)
    return reduce_errors(*aligned_distances(p, t, mask, scale=scale), reduce)
