"""World metrics: one alignment for many frames, so that drift shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from egopose.errors import EgoposeError
from egopose.metrics.aligned import align
from egopose.metrics.arrays import Bools, Floats, Reduce, check_joints, check_pair, counted_joints, reduce_errors


def _segment_errors(
    pred: ArrayLike, target: ArrayLike, valid: ArrayLike | None, segment: int, fit_frames: int | None
) -> tuple[Floats, Bools]:
    p, t, mask = check_pair(pred, target, valid)
    if int(segment) != segment or segment < 1:
        raise EgoposeError(f"segment is {segment!r}; expected a number of frames, at least 1")
    counted = counted_joints(t, mask)
    error = np.full(p.shape[:2], np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, len(p), int(segment)):
            part = slice(start, min(start + int(segment), len(p)))
            a, b, use = p[part].astype(np.float64), t[part].astype(np.float64), counted[part]
            fit = use.copy()
            if fit_frames is not None:
                fit[fit_frames:] = False
            # all frames of the segment become one long frame: one similarity for all of them
            shape = (1, -1, 3)
            moved = align(a.reshape(shape), b.reshape(shape), fit.reshape(1, -1)).reshape(a.shape)
            difference = moved - b
            error[part] = np.sqrt(np.einsum("njk,njk->nj", difference, difference))
            if not fit.any():
                # nothing to align on: the segment says nothing
                counted[part] = False
    error[~np.isfinite(error)] = np.nan
    return error, counted


def w_mpjpe(
    pred: ArrayLike,
    target: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    segment: int = 100,
    reduce: Reduce = "none",
) -> Floats | float:
    """World MPJPE: segments aligned on their first two frames (Shin et al., WHAM, CVPR 2024), scale included.

    The last segment may be short. A segment with no counted joint in its first two frames has no counted joint.

    Args:
        pred: (N, J, 3) consecutive frames in a world frame.
        target: (N, J, 3).
        valid: (N, J) or None.
        segment: Frames per segment.
        reduce: See :func:`egopose.metrics.mpjpe`.

    Raises:
        EgoposeError: Shapes do not belong together or the segment is empty.
    """
    return reduce_errors(*_segment_errors(pred, target, valid, segment, 2), reduce)


def wa_mpjpe(
    pred: ArrayLike,
    target: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    segment: int = 100,
    reduce: Reduce = "none",
) -> Floats | float:
    """World-aligned MPJPE: each segment aligned as a whole (Ye et al., SLAHMR, CVPR 2023), scale included.

    Args:
        pred: (N, J, 3) consecutive frames in a world frame.
        target: (N, J, 3).
        valid: (N, J) or None.
        segment: Frames per segment; the last may be short.
        reduce: See :func:`egopose.metrics.mpjpe`.

    Raises:
        EgoposeError: As :func:`w_mpjpe`.
    """
    return reduce_errors(*_segment_errors(pred, target, valid, segment, None), reduce)


def rte(pred: ArrayLike, target: ArrayLike, valid: ArrayLike | None = None, *, root: int = 0) -> float:
    """Root translation error in percent of the path length (WHAM, CVPR 2024), after one rigid alignment of the take.

    Args:
        pred: (N, 3) root positions, or (N, J, 3) joints.
        target: The same shape.
        valid: (N,) or (N, J), or None.
        root: Which joint, for (N, J, 3).

    Returns:
        ``100 * mean distance / path length of the target`` over counted frames; infinite when the target stands still
        and the prediction does not agree, NaN without counted frames or with a prediction that is not finite.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    p, t = np.asarray(pred), np.asarray(target)
    mask = None if valid is None else np.asarray(valid)
    if p.ndim == 2 and t.ndim == 2:
        p, t, root = p[:, None], t[:, None], 0
        mask = None if mask is None else mask[:, None]
    p, t = check_joints(p, "pred"), check_joints(t, "target")
    p, t, mask = check_pair(p, t, mask)
    if not -p.shape[1] <= root < p.shape[1]:
        raise EgoposeError(f"root is {root}; there are {p.shape[1]} joints")
    use = counted_joints(t, mask)[:, root]
    a, b = p[use, root].astype(np.float64), t[use, root].astype(np.float64)
    if not len(a):
        return float("nan")
    moved = align(a[None], b[None], np.ones((1, len(a)), dtype=bool), scale=False)[0]
    error = float(np.linalg.norm(moved - b, axis=-1).mean())
    length = float(np.linalg.norm(np.diff(b, axis=0), axis=-1).sum())
    if not np.isfinite(error):
        return float("nan")
    if length == 0:
        return 0.0 if error == 0 else float("inf")
    return 100.0 * error / length
