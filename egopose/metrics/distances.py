"""Distances between joints without a fitted rotation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from egopose.metrics.arrays import (
    CHUNK,
    Bools,
    Floats,
    Reduce,
    Root,
    check_pair,
    check_root,
    counted_joints,
    reduce_errors,
    subtract_root,
)
from egopose.metrics.fast import SMALL, frame_sums, joint_errors, reduce_sums


def joint_distances(
    pred: ArrayLike, target: ArrayLike, valid: ArrayLike | None = None, *, root: Root = None
) -> tuple[Floats, Bools]:
    """Euclidean distances (N, J) in the input's unit, and which joints count (N, J).

    With a root, a frame whose root is not counted in the target has no counted joint.

    Raises:
        EgoposeError: See :func:`mpjpe`.
    """
    p, t, mask = check_pair(pred, target, valid)
    index = check_root(root, p.shape[1])
    counted = counted_joints(t, mask)
    if index is not None:
        counted &= counted[:, index].all(axis=1, keepdims=True)
    if index is None and len(p) > SMALL:
        return joint_errors(p, t, mask, "plain"), counted
    error = np.empty(p.shape[:2])
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, len(p), CHUNK):
            part = slice(start, start + CHUNK)
            a, b = p[part].astype(np.float64), t[part].astype(np.float64)
            difference = subtract_root(a, index) - subtract_root(b, index)
            error[part] = np.sqrt(np.einsum("njk,njk->nj", difference, difference))
    return _not_finite_is_nan(error), counted


def _not_finite_is_nan(error: Floats) -> Floats:
    error[~np.isfinite(error)] = np.nan
    return error


def mpjpe(
    pred: ArrayLike,
    target: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    root: Root = None,
    reduce: Reduce = "none",
) -> Floats | float:
    """Mean per-joint position error (Ionescu et al., Human3.6M, 2014).

    Args:
        pred: (N, J, 3) joints, any floating type and unit.
        target: (N, J, 3) in the same unit and frame.
        valid: (N, J) booleans; None counts every joint with a finite target.
        root: Joint index, or several whose mean is taken, subtracted from both first.
        reduce: "none" (N,), "joint" (J,), "micro" (over joints) or "macro" (over frames).

    Returns:
        Float64 in the input's unit. A frame with no counted joint is NaN and stays out of means; a prediction that is
        not finite at a counted joint makes its frame and every mean over it NaN.

    Raises:
        EgoposeError: Shapes or types do not belong together.

    Example:
        >>> float(mpjpe([[[0.0, 0, 0], [0, 0, 0]]], [[[3.0, 4, 0], [0, 0, 1]]], reduce="micro"))
        3.0
    """
    p, t, mask = check_pair(pred, target, valid)
    if root is None and len(p) > SMALL and reduce in ("none", "micro", "macro"):
        return reduce_sums(*frame_sums(p, t, mask, "plain"), reduce)
    return reduce_errors(*joint_distances(p, t, mask, root=root), reduce)


def n_mpjpe(
    pred: ArrayLike,
    target: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    root: Root = None,
    reduce: Reduce = "none",
) -> Floats | float:
    """MPJPE after one scale per frame about the origin (Rhodin et al., CVPR 2018); give a root for it to mean much.

    The scale is ``sum <target, pred> / sum <pred, pred>`` over counted joints; a prediction at the origin gets zero.

    Args:
        pred: (N, J, 3).
        target: (N, J, 3).
        valid: (N, J) or None.
        root: See :func:`mpjpe`.
        reduce: See :func:`mpjpe`.

    Raises:
        EgoposeError: See :func:`mpjpe`.
    """
    p, t, mask = check_pair(pred, target, valid)
    index = check_root(root, p.shape[1])
    counted = counted_joints(t, mask)
    if index is not None:
        counted &= counted[:, index].all(axis=1, keepdims=True)
    error = np.empty(p.shape[:2])
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, len(p), CHUNK):
            part = slice(start, start + CHUNK)
            use = counted[part, :, None]
            a = np.where(use, subtract_root(p[part].astype(np.float64), index), 0.0)
            b = np.where(use, subtract_root(t[part].astype(np.float64), index), 0.0)
            across = np.einsum("njk,njk->n", a, b)
            within = np.einsum("njk,njk->n", a, a)
            scale = np.where(within == 0, 0.0, across / np.where(within == 0, 1.0, within))
            difference = scale[:, None, None] * a - b
            error[part] = np.sqrt(np.einsum("njk,njk->nj", difference, difference))
    return reduce_errors(_not_finite_is_nan(error), counted, reduce)
