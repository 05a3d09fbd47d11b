"""Shares of correct joints."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from egopose.errors import EgoposeError
from egopose.metrics.aligned import aligned_distances
from egopose.metrics.arrays import Bools, Floats, Root, check_choice
from egopose.metrics.distances import joint_distances

Align = Literal["pa", "rigid"] | None


def _distances(
    pred: ArrayLike, target: ArrayLike, valid: ArrayLike | None, align: Align, root: Root
) -> tuple[Floats, Bools]:
    check_choice(align, (None, "pa", "rigid"), "align")
    if align is None:
        return joint_distances(pred, target, valid, root=root)
    if root is not None:
        raise EgoposeError("root and align were both given; an aligned pose has no root, choose one")
    return aligned_distances(pred, target, valid, scale=align == "pa")


def pck(
    pred: ArrayLike,
    target: ArrayLike,
    threshold: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    align: Align = None,
    root: Root = None,
) -> Floats | float:
    """Share of counted joints within a distance (Mehta et al., 3DV 2017); a distance equal to it is within.

    Args:
        pred: (N, J, 3).
        target: (N, J, 3).
        threshold: Distance in the input's unit, or several.
        valid: (N, J) or None.
        align: None, "pa" (similarity) or "rigid" for each frame.
        root: See :func:`egopose.metrics.mpjpe`; not together with ``align``.

    Returns:
        A float, or one per threshold. A prediction that is not finite is not correct. NaN without counted joints.

    Raises:
        EgoposeError: Shapes do not belong together, a threshold is negative or not finite.
    """
    limits = np.asarray(threshold, dtype=np.float64)
    if not np.isfinite(limits).all() or (limits < 0).any():
        raise EgoposeError(f"threshold is {threshold!r}; expected distances of at least zero")
    error, counted = _distances(pred, target, valid, align, root)
    values = np.sort(error[counted])
    if not values.size:
        return np.full(limits.shape, np.nan) if limits.ndim else float("nan")
    # NaN sorts last: those joints are never within
    share = np.searchsorted(values[np.isfinite(values)], limits, side="right") / values.size
    return share if limits.ndim else float(share)


def auc(
    pred: ArrayLike,
    target: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    lo: float = 0.0,
    hi: float = 0.05,
    steps: int = 100,
    align: Align = None,
    root: Root = None,
) -> float:
    """Normalised area under the PCK curve (Zimmermann and Brox, ICCV 2017): trapezium rule over even thresholds.

    Args:
        pred: (N, J, 3).
        target: (N, J, 3).
        valid: (N, J) or None.
        lo: First threshold, in the input's unit.
        hi: Last threshold; the default is 50 mm for metres.
        steps: Number of thresholds.
        align: See :func:`pck`.
        root: See :func:`pck`.

    Returns:
        In [0, 1]; NaN without counted joints.

    Raises:
        EgoposeError: As :func:`pck`, or the range is empty.
    """
    if not (np.isfinite(lo) and np.isfinite(hi) and 0 <= lo < hi) or int(steps) != steps or steps < 2:
        raise EgoposeError(f"thresholds from {lo} to {hi} in {steps} steps; expected 0 <= lo < hi and at least 2 steps")
    limits = np.linspace(lo, hi, int(steps))
    share = np.asarray(pck(pred, target, limits, valid, align=align, root=root))
    return float(((share[1:] + share[:-1]) / 2).sum() * (limits[1] - limits[0]) / (hi - lo))
