"""Errors of velocity and acceleration, and jitter."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from egopose.metrics.arrays import (
    Bools,
    Floats,
    Reduce,
    check_fps,
    check_joints,
    check_pair,
    check_valid,
    counted_joints,
    reduce_errors,
)
from egopose.metrics.fast import SMALL, motion_errors


def _difference_norms(pred, target, counted: Bools, order: int, factor: float) -> tuple[Floats, Bools]:  # type: ignore[no-untyped-def]
    """Norms (N - order, J) of the order-th difference of ``pred - target``, and where every frame of it counts."""
    n = max(len(counted) - order, 0)
    if n > SMALL:
        error = factor * motion_errors(pred, target, order)
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            difference = pred.astype(np.float64)
            if target is not None:
                difference = difference - target.astype(np.float64)
            step = np.diff(difference, n=order, axis=0)
            error = factor * np.sqrt(np.einsum("njk,njk->nj", step, step))
    error[~np.isfinite(error)] = np.nan
    both = counted[:n].copy()
    for shift in range(1, order + 1):
        both &= counted[shift : n + shift]
    return error, both


def mpjve(
    pred: ArrayLike, target: ArrayLike, valid: ArrayLike | None = None, *, fps: float = 1.0, reduce: Reduce = "none"
) -> Floats | float:
    """Mean per-joint velocity error (Pavllo et al., CVPR 2019): forward differences times the frame rate.

    Args:
        pred: (N, J, 3) consecutive frames.
        target: (N, J, 3).
        valid: (N, J) or None; a velocity counts when both of its frames do.
        fps: Frames per second; 1 gives the error per frame.
        reduce: See :func:`egopose.metrics.mpjpe`; "none" gives (N - 1,), empty for fewer than two frames.

    Returns:
        In the input's unit per second.

    Raises:
        EgoposeError: Shapes do not belong together or the rate is not positive.
    """
    p, t, mask = check_pair(pred, target, valid)
    return reduce_errors(*_difference_norms(p, t, counted_joints(t, mask), 1, check_fps(fps)), reduce)


def accel_error(
    pred: ArrayLike, target: ArrayLike, valid: ArrayLike | None = None, *, fps: float = 1.0, reduce: Reduce = "none"
) -> Floats | float:
    """Mean per-joint acceleration error (Kanazawa et al., HMMR, CVPR 2019): second differences times fps squared.

    Args:
        pred: (N, J, 3) consecutive frames.
        target: (N, J, 3).
        valid: (N, J) or None; a value counts when its three frames do.
        fps: Frames per second; 1 gives the error per frame squared, as most code of the field prints it.
        reduce: As for :func:`mpjve`; "none" gives (N - 2,).

    Raises:
        EgoposeError: As :func:`mpjve`.
    """
    p, t, mask = check_pair(pred, target, valid)
    return reduce_errors(*_difference_norms(p, t, counted_joints(t, mask), 2, check_fps(fps) ** 2), reduce)


def jitter(
    pred: ArrayLike, valid: ArrayLike | None = None, *, fps: float = 1.0, reduce: Reduce = "none"
) -> Floats | float:
    """Mean size of the jerk of a motion: third differences times fps cubed (WHAM and GVHMR print a tenth of it).

    Args:
        pred: (N, J, 3) consecutive frames.
        valid: (N, J) or None; a value counts when its four frames do.
        fps: Frames per second.
        reduce: As for :func:`mpjve`; "none" gives (N - 3,).

    Raises:
        EgoposeError: As :func:`mpjve`.
    """
    p = check_joints(pred, "pred")
    mask = check_valid(valid, p.shape[:2])
    counted = np.ones(p.shape[:2], dtype=bool) if mask is None else mask
    return reduce_errors(*_difference_norms(p, None, counted, 3, check_fps(fps) ** 3), reduce)
