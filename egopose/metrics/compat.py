"""The numbers that other code prints, by its rules; each function says how it differs from this package.

Written from descriptions of those rules. Units are as printed there; inputs are metres unless said otherwise. None of
these functions is forgiving: where the other code would raise or print NaN, so does the answer here (as NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from egopose.errors import EgoposeError
from egopose.metrics.aligned import align
from egopose.metrics.arrays import Bools, Floats, check_choice, check_fps, check_pair, check_root, subtract_root


def _pair(pred: ArrayLike, target: ArrayLike, valid: ArrayLike | None = None) -> tuple[Floats, Floats, Bools]:
    p, t, mask = check_pair(pred, target, valid)
    mask = np.ones(p.shape[:2], dtype=bool) if mask is None else mask
    return p.astype(np.float64), t.astype(np.float64), mask


def _norm(difference: Floats) -> Floats:
    return np.asarray(np.sqrt((difference**2).sum(axis=-1)))


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")


def _everything(p: Floats) -> Bools:
    return np.ones(p.shape[:2], dtype=bool)


def mmpose(
    pred: ArrayLike,
    target: ArrayLike,
    valid: ArrayLike,
    alignment: Literal["none", "procrustes", "scale"] = "none",
) -> float:
    """``keypoint_mpjpe`` of mmpose: mean over visible joints.

    Differs from :func:`egopose.metrics.pa_mpjpe` and :func:`~egopose.metrics.n_mpjpe` with ``reduce="micro"``: hidden
    joints take part in the fit and are hidden only in the mean, so wrong coordinates there change the result.

    Raises:
        EgoposeError: Shapes do not belong together, or the alignment is unknown.
    """
    check_choice(alignment, ("none", "procrustes", "scale"), "alignment")
    p, t, mask = _pair(pred, target, valid)
    if alignment == "procrustes":
        p = align(p, t, _everything(p))
    elif alignment == "scale":
        p = p * ((p * t).sum(axis=(1, 2)) / (p * p).sum(axis=(1, 2)))[:, None, None]
    return _mean(_norm(p - t)[mask])


def hmr(pred: ArrayLike, target: ArrayLike, *, pelvis: int | Sequence[int] = (11, 12)) -> dict[str, float]:
    """MPJPE and PA-MPJPE of SPIN, 4D-Humans and HaMeR in millimetres: root-centred, per frame, then over frames.

    Differs: no masks; a frame with any joint that is not finite is NaN; the aligned number is fitted on the
    root-centred pose, which changes nothing; a prediction without spread is NaN there and collapses on the centroid
    here.

    Args:
        pred: (N, J, 3) metres.
        target: (N, J, 3).
        pelvis: Root joint, or joints whose mean is taken.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    p, t, _ = _pair(pred, target)
    root = check_root(pelvis, p.shape[1])
    p, t = subtract_root(p, root), subtract_root(t, root)
    return {
        "mpjpe_mm": 1000 * _mean(_norm(p - t).mean(axis=1)),
        "pa_mpjpe_mm": 1000 * _mean(_norm(align(p, t, _everything(p)) - t).mean(axis=1)),
    }


def _chunked(p: Floats, t: Floats, chunk: int, fit: int | None) -> Floats:
    errors = []
    for start in range(0, len(p), chunk):
        a, b = p[start : start + chunk], t[start : start + chunk]
        use = np.zeros(a.shape[:2], dtype=bool)
        use[:fit] = True
        moved = align(a.reshape(1, -1, 3), b.reshape(1, -1, 3), use.reshape(1, -1)).reshape(a.shape)
        errors.append(_norm(moved - b).mean(axis=1))
    return np.concatenate(errors) if errors else np.empty(0)


def wham(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    fps: float = 30.0,
    root: int = 0,
    chunk: int = 100,
    trim: bool = False,
) -> dict[str, float]:
    """World numbers of WHAM and GVHMR: W- and WA-MPJPE (mm), acceleration error (m/s^2), RTE (%) and jitter (10 m/s^3).

    Differs from :mod:`egopose.metrics`: no masks; jitter is a tenth of the jerk; the last chunk may be one frame long
    and then counts in full.

    Args:
        pred: (N, J, 3) metres, world.
        target: (N, J, 3).
        fps: WHAM's constant is 30; GVHMR passes the rate.
        root: Joint whose path gives the RTE.
        chunk: Frames of a chunk.
        trim: Drop one acceleration more at each end, as WHAM's EMDB script does.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    p, t, _ = _pair(pred, target)
    rate = check_fps(fps)
    accel = _norm(np.diff(p, n=2, axis=0) - np.diff(t, n=2, axis=0)).mean(axis=1) * rate**2
    a, b = p[:, root][None], t[:, root][None]
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = align(a, b, _everything(a), scale=False)
        travelled = _norm(np.diff(b[0], axis=0)).sum()
        rte = 100 * _norm(moved - b).mean() / travelled if len(p) else float("nan")
    return {
        "w_mpjpe_mm": 1000 * _mean(_chunked(p, t, chunk, 2)),
        "wa_mpjpe_mm": 1000 * _mean(_chunked(p, t, chunk, None)),
        "accel_m_s2": _mean(accel[1:-1] if trim else accel),
        "rte_percent": float(rte),
        "jitter_10m_s3": _mean(_norm(np.diff(p, n=3, axis=0)).mean(axis=1)) * rate**3 / 10,
    }


def videopose3d(pred: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """VideoPose3D's four protocols in the input's unit: global means over all joints and frames.

    Differs: no masks; any joint that is not finite, or a prediction without spread, makes everything NaN (it raises
    there); the scale of N-MPJPE is about the origin, so its input is meant to be root-relative; velocity is per frame.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    p, t, _ = _pair(pred, target)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (t * p).sum(axis=-1).mean(axis=1) / (p * p).sum(axis=-1).mean(axis=1)
    moved = align(p, t, _everything(p))
    moved[np.ptp(p, axis=1).max(axis=1) == 0] = np.nan
    return {
        "mpjpe": _mean(_norm(p - t)),
        "p_mpjpe": _mean(_norm(moved - t)),
        "n_mpjpe": _mean(_norm(scale[:, None, None] * p - t)),
        "mean_velocity_error": _mean(_norm(np.diff(p, axis=0) - np.diff(t, axis=0))),
    }


def freihand(
    pred: ArrayLike,
    target: ArrayLike,
    valid: ArrayLike | None = None,
    *,
    aligned: bool = False,
    hi: float = 0.05,
    steps: int = 100,
) -> dict[str, float]:
    """FreiHAND's hand numbers: error and PCK curve of each joint first, then the mean over joints.

    Differs: means are over joints of means over frames; the alignment allows reflections, so a mirrored hand costs
    nothing, is fitted on all joints of the hand, and its norms carry 1e-8; AUC is normalised by the range.

    Args:
        pred: (N, J, 3) metres.
        target: (N, J, 3).
        valid: (N, J) or None.
        aligned: Procrustes first.
        hi: Last threshold; the first is 0.
        steps: Thresholds.

    Returns:
        ``mean`` and ``median`` in centimetres, ``auc`` in [0, 1].

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    p, t, mask = _pair(pred, target, valid)
    if aligned:
        p = reflecting(p, t, epsilon=1e-8)
    error = _norm(p - t)
    limits = np.linspace(0.0, hi, steps)
    means, medians, areas = [], [], []
    for j in range(p.shape[1]):
        e = error[mask[:, j], j]
        if not e.size:
            continue
        curve = np.array([(e <= limit).mean() for limit in limits])
        means.append(e.mean())
        medians.append(np.median(e))
        areas.append(((curve[1:] + curve[:-1]) / 2 * np.diff(limits)).sum() / (limits[-1] - limits[0]))
    return {
        "mean_cm": 100 * _mean(np.array(means)),
        "median_cm": 100 * _mean(np.array(medians)),
        "auc": _mean(np.array(areas)),
    }


def reflecting(pred: ArrayLike, target: ArrayLike, *, epsilon: float = 0.0) -> Floats:
    """Predictions moved by the best similarity that may mirror them, as ``scipy.linalg.orthogonal_procrustes`` does.

    Args:
        pred: (N, J, 3).
        target: (N, J, 3).
        epsilon: Added to both norms.

    Returns:
        (N, J, 3) float64.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    p, t, _ = _pair(pred, target)
    p, middle = p - p.mean(axis=1, keepdims=True), t.mean(axis=1, keepdims=True)
    t = t - middle
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (np.sqrt((x**2).sum(axis=(1, 2), keepdims=True)) + epsilon for x in (p, t))
        p, t = p / a, t / b
    good = np.isfinite(p).all(axis=(1, 2)) & np.isfinite(t).all(axis=(1, 2))
    moved = np.full(p.shape, np.nan)
    U, S, Vt = np.linalg.svd(np.swapaxes(t[good], 1, 2) @ p[good])
    moved[good] = p[good] @ np.swapaxes(U @ Vt, 1, 2) * S.sum(axis=1)[:, None, None] * b[good] + middle[good]
    return moved


def procrustes_disparity(pred: ArrayLike, target: ArrayLike) -> Floats:
    """Disparity (N,) of ``scipy.spatial.procrustes`` and of torchmetrics: 1 - (sum of singular values)^2.

    Differs: both poses are scaled to unit norm, the answer is a sum of squares without unit, and mirroring is free.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    p, t, _ = _pair(pred, target)
    unit = t - t.mean(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = unit / np.sqrt((unit**2).sum(axis=(1, 2), keepdims=True))
    return np.asarray(((reflecting(p, unit) - unit) ** 2).sum(axis=(1, 2)))


def superposed_rmsd(pred: ArrayLike, target: ArrayLike) -> Floats:
    """RMSD (N,) after the best rigid motion, as MDTraj and structural biology mean it, in the input's unit.

    Differs from :func:`egopose.metrics.pa_mpjpe` with ``scale=False``: the root of the mean square, not the mean.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    p, t, _ = _pair(pred, target)
    moved = align(p, t, _everything(p), scale=False)
    return np.asarray(np.sqrt(((moved - t) ** 2).sum(axis=-1).mean(axis=1)))


def slahmr(tracks: Sequence[tuple[ArrayLike, ArrayLike]]) -> dict[str, float]:
    """SLAHMR's numbers in millimetres: one similarity from the first frame, from all frames, from each frame.

    Differs: the mean is over tracks of their means over frames and joints; the acceleration error is a norm of second
    differences, per frame squared.

    Args:
        tracks: (pred, target) pairs of (N, J, 3) metres, valid frames only.

    Raises:
        EgoposeError: There is no track or shapes do not belong together.
    """
    if not len(tracks):
        raise EgoposeError("there are no tracks; expected (pred, target) pairs")
    rows = []
    for pred, target in tracks:
        p, t, _ = _pair(pred, target)
        rows.append((
            _mean(_chunked(p, t, max(len(p), 1), 1)),
            _mean(_chunked(p, t, max(len(p), 1), None)),
            _mean(_norm(align(p, t, _everything(p)) - t)),
            _mean(_norm(np.diff(p, n=2, axis=0) - np.diff(t, n=2, axis=0))),
        ))  # fmt: skip
    names = ("first_aligned_mm", "globally_aligned_mm", "pa_mpjpe_mm", "accel_mm")
    return {name: 1000 * float(np.mean(column)) for name, column in zip(names, zip(*rows))}


def ego_exo4d_body(takes: Sequence[tuple[ArrayLike, ArrayLike, ArrayLike]], *, clips: bool = True) -> dict[str, float]:
    """The official Ego-Exo4D body numbers from arrays: micro means, velocity by gap.

    Differs: a joint counts by the x of its target alone; runs of frames (gaps up to 3) shorter than 120 frames are
    dropped; a NaN prediction makes the position NaN but only drops velocities where its x is NaN. For files use
    :func:`egopose.metrics.protocols.evaluate_body_official`.

    Args:
        takes: (frames (N,), pred (N, J, 3), target (N, J, 3)) by take; frame numbers at 30 per second, metres.
        clips: Drop short runs.

    Returns:
        ``mpjpe_cm`` and ``mpjve_m_s``.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    error, n, speed, k = 0.0, 0, 0.0, 0
    for frames, pred, target in takes:
        f = np.asarray(frames)
        p, t, _ = _pair(pred, target)
        if f.shape != (len(p),):
            raise EgoposeError(f"frames have shape {f.shape}; expected {(len(p),)}")
        order = np.argsort(f, kind="stable")
        f, p, t = f[order], p[order], t[order]
        if clips and len(f):
            cuts = np.flatnonzero(np.diff(f) > 3) + 1
            runs = np.split(np.arange(len(f)), cuts)
            kept = np.concatenate([r for r in runs if f[r[-1]] - f[r[0]] + 3 >= 120] or [np.empty(0, int)])
            f, p, t = f[kept], p[kept], t[kept]
        seen = ~np.isnan(t[:, :, 0])
        error += float(_norm(p - t)[seen].sum())
        n += int(seen.sum())
        gap = np.diff(f)
        near = gap < 10
        moved = _norm(np.diff(t, axis=0) - np.diff(p, axis=0))[near] * (30 / gap[near])[:, None]
        both = (seen[1:] & seen[:-1] & ~np.isnan(p[1:, :, 0]) & ~np.isnan(p[:-1, :, 0]))[near]
        speed += float(moved[both].sum())
        k += int(both.sum())
    nan = float("nan")
    return {"mpjpe_cm": 100 * error / n if n else nan, "mpjve_m_s": speed / k if k else nan}


def ego_exo4d_body_baseline(takes: Sequence[tuple[ArrayLike, ArrayLike]]) -> dict[str, float]:
    """The numbers of Ego-Exo4D's body baseline: mean inside a take, then over takes; velocity is a difference times 10.

    Differs: NaN errors are left out; the gap between frames is ignored; the velocity is in metres per second although
    printed as cm. Positions are the same in world and camera frame, velocities are not: give what the baseline
    used, camera coordinates.

    Args:
        takes: (pred, target) pairs of (N, J, 3) metres.

    Returns:
        ``mpjpe_cm`` and ``mpjve_m_s``.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    rows = []
    for pred, target in takes:
        p, t, _ = _pair(pred, target)
        e, v = _norm(p - t), _norm(np.diff(p, axis=0) - np.diff(t, axis=0)) * 10
        if np.isfinite(e).any():
            rows.append((_mean(e[~np.isnan(e)]), _mean(v[~np.isnan(v)])))
    if not rows:
        return {"mpjpe_cm": float("nan"), "mpjve_m_s": float("nan")}
    return {"mpjpe_cm": 100 * float(np.mean([r[0] for r in rows])), "mpjve_m_s": float(np.mean([r[1] for r in rows]))}


def ego_exo4d_hand(
    pred: ArrayLike, target: ArrayLike, valid: ArrayLike, *, offset: bool = False, wrist: int = 0
) -> dict[str, float]:
    """The official Ego-Exo4D hand numbers in millimetres: mean over hands of means over valid joints.

    Differs from ``reduce="macro"`` only in the offset: it moves the prediction's joints by the target's wrist, as for
    wrist-relative submissions, and the wrist, which then costs nothing, still counts. A prediction without spread or
    not finite raises there and is NaN here.

    Args:
        pred: (N, 21, 3) metres, one hand per row.
        target: (N, 21, 3).
        valid: (N, 21).
        offset: Add the target's wrist to the prediction.
        wrist: Index of the wrist.

    Raises:
        EgoposeError: Shapes do not belong together.
    """
    p, t, mask = _pair(pred, target, valid)
    if offset:
        p = p + t[:, wrist : wrist + 1]
    plain, aligned = [], []
    moved = align(p, t, mask)
    for i in range(len(p)):
        use = mask[i]
        plain.append(_mean(_norm(p[i, use] - t[i, use])))
        spread = use.any() and np.ptp(p[i, use], axis=0).max() > 0
        aligned.append(_mean(_norm(moved[i, use] - t[i, use])) if spread else float("nan"))
    return {"mpjpe_mm": 1000 * _mean(np.array(plain)), "pa_mpjpe_mm": 1000 * _mean(np.array(aligned))}
