"""What a body obeys: bones keep their length, and a foot on the ground stays where it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.errors import EgoposeError
from egopose.metrics.arrays import Bools, Floats, check_fps, check_joints, check_pair, check_valid, counted_joints


def _bones(bones: ArrayLike, joints: int) -> NDArray[np.int64]:
    pairs = np.asarray(bones)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise EgoposeError(f"bones have shape {pairs.shape}; expected pairs of joint indices (B, 2)")
    if pairs.size and (pairs.min() < 0 or pairs.max() >= joints):
        raise EgoposeError(f"a bone names joint {pairs.max()}; there are {joints} joints")
    return pairs.astype(np.int64)


def bone_lengths(points: ArrayLike, bones: ArrayLike) -> Floats:
    """Lengths (N, B) of bones given as pairs of joint indices (B, 2); NaN where an end is not finite.

    Raises:
        EgoposeError: Shapes or indices do not fit.
    """
    p = check_joints(points, "points").astype(np.float64)
    pairs = _bones(bones, p.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.linalg.norm(p[:, pairs[:, 0]] - p[:, pairs[:, 1]], axis=-1)
    return np.asarray(np.where(np.isfinite(length), length, np.nan))


def bone_length_error(pred: ArrayLike, target: ArrayLike, bones: ArrayLike, valid: ArrayLike | None = None) -> Floats:
    """Mean absolute error of each bone's length (B,) over frames where both its ends count.

    A prediction that is not finite at a counted end makes the bone NaN; a bone that never counts is NaN.

    Raises:
        EgoposeError: Shapes or indices do not fit.
    """
    p, t, mask = check_pair(pred, target, valid)
    pairs = _bones(bones, p.shape[1])
    counted = np.asarray(counted_joints(t, mask)[:, pairs].all(-1))
    error = np.abs(bone_lengths(p, pairs) - bone_lengths(t, pairs))
    return _mean(np.where(counted, error, 0.0), counted)


def bone_length_variation(points: ArrayLike, bones: ArrayLike, valid: ArrayLike | None = None) -> Floats:
    """Standard deviation over mean of each bone's length (B,), over frames where both ends are valid and finite.

    NaN for a bone that is seen in fewer than two frames; infinite for one of zero mean length that varies.

    Raises:
        EgoposeError: Shapes or indices do not fit.
    """
    p = check_joints(points, "points")
    pairs = _bones(bones, p.shape[1])
    length = bone_lengths(p, pairs)
    seen = np.isfinite(length)
    mask = check_valid(valid, p.shape[:2])
    if mask is not None:
        seen &= mask[:, pairs].all(-1)
    mean = _mean(np.where(seen, length, 0.0), seen)
    spread = np.sqrt(_mean(np.where(seen, (length - mean) ** 2, 0.0), seen))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(mean == 0, np.where(spread == 0, 0.0, np.inf), spread / mean)
    return np.where(seen.sum(0) >= 2, ratio, np.nan)


def _mean(total: Floats, counted: Bools) -> Floats:
    n = counted.sum(axis=0)
    return np.where(n > 0, total.sum(axis=0) / np.maximum(n, 1), np.nan)


def contacts(
    points: ArrayLike,
    feet: Sequence[int],
    *,
    fps: float,
    speed: float = 0.3,
    height: float | None = None,
    up: int = 2,
    valid: ArrayLike | None = None,
) -> Bools:
    """Frames (N, F) in which a foot joint stands: slow, and low when a height is given.

    The speed of a frame is that of the step to the next one; the last frame repeats the one before.

    Args:
        points: (N, J, 3) in a world frame.
        feet: Joint indices.
        fps: Frames per second.
        speed: Units per second below which a joint stands (WHAM's 1 cm per frame at 30 fps is 0.3 m/s).
        height: Below which it may stand; None asks for no height.
        up: Axis that points up.
        valid: (N, J) or None; an unseen joint is not in contact.

    Raises:
        EgoposeError: Shapes, indices or the rate do not fit.
    """
    p = check_joints(points, "points").astype(np.float64)
    index = list(feet)
    if not index or min(index) < 0 or max(index) >= p.shape[1]:
        raise EgoposeError(f"feet are {index}; expected joint indices below {p.shape[1]}")
    if up not in (0, 1, 2):
        raise EgoposeError(f"up is {up!r}; expected an axis 0, 1 or 2")
    mask = check_valid(valid, p.shape[:2])
    f = p[:, index]
    seen = np.asarray(np.isfinite(f).all(-1))
    if mask is not None:
        seen &= mask[:, index]
    if len(p) < 2:
        return np.zeros(seen.shape, dtype=bool)
    with np.errstate(invalid="ignore", over="ignore"):
        slow = np.linalg.norm(np.diff(f, axis=0), axis=-1) * check_fps(fps) < speed
    slow &= seen[1:] & seen[:-1]
    standing = np.concatenate([slow, slow[-1:]])
    if height is not None:
        standing &= f[:, :, up] < height
    return np.asarray(standing & seen)


def foot_skate(
    pred: ArrayLike,
    target: ArrayLike,
    feet: Sequence[int],
    valid: ArrayLike | None = None,
    *,
    fps: float,
    speed: float = 0.3,
) -> float:
    """Mean speed of predicted feet while the target's stand, in units per second (after Shin et al., WHAM, 2024).

    Divide by fps for the displacement per frame that WHAM prints. NaN when no foot ever stands, or where the prediction
    of a standing foot is not finite.

    Args:
        pred: (N, J, 3) in a world frame.
        target: (N, J, 3).
        feet: Joint indices.
        valid: (N, J) or None.
        fps: Frames per second.
        speed: Units per second below which a target's joint stands.

    Raises:
        EgoposeError: Shapes, indices or the rate do not fit.
    """
    p, t, mask = check_pair(pred, target, valid)
    standing = contacts(t, feet, fps=fps, speed=speed, valid=mask)[:-1]
    if not standing.any():
        return float("nan")
    moved = np.linalg.norm(np.diff(p[:, list(feet)].astype(np.float64), axis=0), axis=-1) * fps
    return float(moved[standing].mean())


def contact_agreement(
    pred: ArrayLike, target: ArrayLike, feet: Sequence[int], valid: ArrayLike | None = None, *, fps: float,
    speed: float = 0.3,
) -> dict[str, float]:  # fmt: skip
    """How well the prediction's contacts match the target's: precision, recall, F1 and accuracy over counted feet.

    Raises:
        EgoposeError: Shapes, indices or the rate do not fit.
    """
    p, t, mask = check_pair(pred, target, valid)
    counted = counted_joints(t, mask)[:, list(feet)]
    a, b = (contacts(x, feet, fps=fps, speed=speed)[counted] for x in (p, t))
    both, said, true = int((a & b).sum()), int(a.sum()), int(b.sum())
    nan = float("nan")
    return {
        "precision": both / said if said else nan,
        "recall": both / true if true else nan,
        "f1": 2 * both / (said + true) if said + true else nan,
        "accuracy": float((a == b).mean()) if a.size else nan,
    }
