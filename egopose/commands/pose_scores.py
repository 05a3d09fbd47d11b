"""Any prediction against any reference: frames by number, joints by name, all metrics, coverage, calibration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.pose import JointStatus, PoseSequence

PCK_MM = (50, 100, 150)
AUC_MM = (0, 150)
MM = 1000.0
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pair:
    """One take: prediction and reference on common frames and joints.

    Attributes:
        frames: (T,) common frame numbers.
        rate: Frames a second of the reference, or None when it has one frame.
        pred: (T, J, 3) metres.
        target: (T, J, 3) metres.
        sigma: (T, J, 3) standard deviations, or None.
        status: (T, J) of the prediction.
        missing_frames: Frames of the reference that the prediction lacks.
        extra_frames: The other way round.
    """

    frames: NDArray[np.int64]
    rate: float | None
    pred: Floats
    target: Floats
    sigma: Floats | None
    status: NDArray[np.uint8]
    missing_frames: int
    extra_frames: int

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(T, J) joints that both know."""
        return np.asarray(np.isfinite(self.pred).all(-1) & np.isfinite(self.target).all(-1))


def common_joints(pred: PoseSequence, gt: PoseSequence, joints: Sequence[str], where: str) -> tuple[str, ...]:
    """Joints of the reference that the prediction has, or the ones asked for.

    Raises:
        EgoposeError: There is none, or one that was asked for is missing.
    """
    source = pred.skeleton.map_to(gt.skeleton)
    shared = tuple(name for name, index in zip(gt.skeleton.joints, source) if index >= 0)
    absent = [name for name in joints if name not in shared]
    if absent or not shared:
        what = f"joint {absent[0]!r} is not in both" if absent else "no joint name is in both"
        raise EgoposeError(
            f"{where}: {what}; the prediction ({pred.skeleton.name}) has {', '.join(pred.skeleton.joints[:20])}; the "
            f"reference ({gt.skeleton.name}) has {', '.join(gt.skeleton.joints[:20])}"
        )
    return tuple(joints) or shared


def pair_up(pred: PoseSequence, gt: PoseSequence, joints: Sequence[str], where: str) -> Pair:
    """Put two sequences side by side.

    Raises:
        EgoposeError: They share no frame.
    """
    frames = np.intersect1d(pred.frames, gt.frames)
    if not frames.size:
        raise EgoposeError(
            f"{where}: no frame number is in both: the prediction has {_span(pred)}, the reference {_span(gt)}"
        )
    a, b = pred.select(frames=frames, joints=joints), gt.select(frames=frames, joints=joints)
    return Pair(
        frames, gt.fps, a.xyz.astype(np.float64), b.xyz.astype(np.float64), a.axis_sigma, np.asarray(a.status),
        gt.n_frames - frames.size, pred.n_frames - frames.size,
    )  # fmt: skip


def _span(sequence: PoseSequence) -> str:
    return f"{sequence.n_frames} frames {sequence.frames[0]} to {sequence.frames[-1]}" if sequence.n_frames else "none"


def _even(pair: Pair) -> tuple[Floats, Floats, NDArray[np.bool_], float] | None:
    """Frames at one even step, an uncounted frame wherever the step breaks; and the rate. None without two frames."""
    if pair.frames.size < 2 or pair.rate is None:
        return None
    gaps = np.diff(pair.frames)
    steps, counts = np.unique(gaps, return_counts=True)
    step = int(steps[counts.argmax()])
    breaks = np.flatnonzero(gaps != step) + 1
    counted = np.insert(pair.counted, breaks, False, axis=0)
    pred, target = (np.insert(np.nan_to_num(x), breaks, 0.0, axis=0) for x in (pair.pred, pair.target))
    return pred, target, counted, pair.rate / step


def _motion(pairs: Sequence[Pair]) -> dict[str, float]:
    """Velocity and acceleration errors, means over all joints of all takes."""
    from egopose.metrics import accel_error, mpjve

    parts = [part for part in map(_even, pairs) if part is not None]
    result = {"mpjve_m_s": float("nan"), "accel_error_m_s2": float("nan")}
    for name, metric, span in (("mpjve_m_s", mpjve, 2), ("accel_error_m_s2", accel_error, 3)):
        total, count = 0.0, 0
        for pred, target, counted, rate in parts:
            if len(pred) < span:
                continue
            windows = np.logical_and.reduce([counted[i : len(counted) - span + 1 + i] for i in range(span)])
            n = int(windows.sum())
            if n:
                total += n * float(metric(pred, target, counted, fps=rate, reduce="micro"))
                count += n
        if count:
            result[name] = total / count
    return result


def calibration(pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """Whether the error bars say what the errors do: shares inside 50 and 90 % intervals, and the likelihood.

    Per axis, for a normal error of the stated standard deviation; None when no take has error bars.
    """
    zs, sigmas = [], []
    for pair in pairs:
        if pair.sigma is None:
            continue
        good = pair.counted & np.isfinite(pair.sigma).all(-1) & (pair.sigma > 0).all(-1)
        zs.append(((pair.pred - pair.target) / np.where(good[..., None], pair.sigma, 1.0))[good].ravel())
        sigmas.append(pair.sigma[good].ravel())
    z = np.concatenate(zs) if zs else np.zeros(0)
    if not z.size:
        return None
    sigma = np.concatenate(sigmas)
    return {
        "coverage_50": float((np.abs(z) <= 0.6744897501960817).mean()),
        "coverage_90": float((np.abs(z) <= 1.6448536269514722).mean()),
        "nll_nats_per_axis": float((0.5 * z * z + np.log(sigma) + 0.5 * np.log(2 * np.pi)).mean()),
        "rms_error_over_sigma": float(np.sqrt((z * z).mean())),
        "joints": int(z.size // 3),
    }


def _coverage(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Joints of the reference by the status that the prediction gives them."""
    known = [np.isfinite(pair.target).all(-1) for pair in pairs]
    expected = sum(int(mask.sum()) for mask in known)
    scored = sum(int(pair.counted.sum()) for pair in pairs)
    by_status: dict[str, Any] = {}
    for status in JointStatus:
        masks = [mask & (pair.status == status) for pair, mask in zip(pairs, known)]
        n = sum(int(mask.sum()) for mask in masks)
        if not n:
            continue
        errors = [
            np.linalg.norm(pair.pred - pair.target, axis=-1)[mask & pair.counted] for pair, mask in zip(pairs, masks)
        ]
        every = np.concatenate(errors)
        by_status[status.name.lower()] = {
            "joints": n,
            "share": n / expected,
            "mpjpe_mm": float(every.mean() * MM) if every.size else float("nan"),
        }
    return {
        "share": scored / expected if expected else float("nan"),
        "joints_expected": expected,
        "joints_scored": scored,
        "frames_scored": sum(pair.frames.size for pair in pairs),
        "missing_frames": sum(pair.missing_frames for pair in pairs),
        "extra_frames": sum(pair.extra_frames for pair in pairs),
        "by_status": by_status,
    }


def score_pairs(pairs: Sequence[Pair], names: Sequence[str], root: str | None = None) -> dict[str, Any]:
    """All metrics over some takes.

    Args:
        pairs: At least one.
        names: The joints.
        root: Joint to subtract for root-relative and scale-normalised errors; None leaves these out.
    """
    from egopose.metrics import auc, mpjpe, n_mpjpe, pa_mpjpe, pck

    pred, target = (np.concatenate([np.nan_to_num(getattr(p, x)) for p in pairs]) for x in ("pred", "target"))
    counted = np.concatenate([p.counted for p in pairs])
    metrics: dict[str, float] = {
        "mpjpe_mm": float(mpjpe(pred, target, counted, reduce="micro")) * MM,
        "mpjpe_macro_mm": float(mpjpe(pred, target, counted, reduce="macro")) * MM,
        "pa_mpjpe_mm": float(pa_mpjpe(pred, target, counted, reduce="micro")) * MM,
        "pa_mpjpe_rigid_mm": float(pa_mpjpe(pred, target, counted, scale=False, reduce="micro")) * MM,
    }
    if root is not None:
        j = list(names).index(root)
        seen = counted & counted[:, j : j + 1]
        metrics["root_mpjpe_mm"] = float(mpjpe(pred, target, seen, root=j, reduce="micro")) * MM
        relative = pred - pred[:, j : j + 1], target - target[:, j : j + 1]
        metrics["n_mpjpe_mm"] = float(n_mpjpe(*relative, seen, reduce="micro")) * MM
    metrics |= _motion(pairs)
    for threshold in PCK_MM:
        metrics[f"pck_{threshold}mm"] = float(pck(pred, target, threshold / MM, counted))
    metrics[f"auc_{AUC_MM[0]}_{AUC_MM[1]}mm"] = float(auc(pred, target, counted, lo=AUC_MM[0] / MM, hi=AUC_MM[1] / MM))
    per_joint = np.asarray(mpjpe(pred, target, counted, reduce="joint")) * MM
    return {
        "metrics": metrics,
        "per_joint_mm": dict(zip(names, map(float, per_joint))),
        "coverage": _coverage(pairs),
        "sigma": calibration(pairs),
    }


def _takes(value: Any, path: str | os.PathLike[str]) -> dict[str, PoseSequence]:
    if isinstance(value, PoseSequence):
        return {"": value}
    if isinstance(value, Mapping) and value and all(isinstance(v, PoseSequence) for v in value.values()):
        return dict(value)
    raise EgoposeError(f"{path}: holds a {type(value).__name__}; expected 3D joints (a pose sequence)")


def run_evaluate_pose(
    pred: str | os.PathLike[str],
    gt: str | os.PathLike[str],
    *,
    joints: Sequence[str] = (),
    root: str | None = None,
    take: str | None = None,
    sums: bool = False,
) -> dict[str, Any]:
    """Score a file of 3D joints against another.

    Args:
        pred: Any file with 3D joints that :func:`egopose.load` reads.
        gt: The reference, likewise. Files with several takes are matched by take uid.
        joints: Only these joints; empty = all that both have.
        root: Also report errors after subtracting this joint.
        take: Uid or name of the take, for files with several.
        sums: Also give the sums behind the scores; see :mod:`egopose.commands.pooled`.

    Returns:
        Metrics, error per joint, coverage by status, calibration of the error bars, notes; numbers may be NaN.

    Raises:
        EgoposeError: Not 3D joints, or no take, frame or joint in common.
    """
    import egopose

    sides = [_takes(egopose.load(path), path) for path in (pred, gt)]
    if take is not None:
        sides = [_named(side, take, path) for side, path in zip(sides, (pred, gt))]
    ours, theirs = sides
    if len(ours) == 1 and len(theirs) == 1:
        keys = [(next(iter(ours)), next(iter(theirs)))]
    else:
        keys = [(uid, uid) for uid in theirs if uid in ours]
        if not keys:
            raise EgoposeError(f"{pred}: no take uid is in both files; give --take, or files of one take")
    notes = []
    first = keys[0]
    names = common_joints(ours[first[0]], theirs[first[1]], joints, str(pred))
    if root is not None and root not in names:
        raise EgoposeError(f"root joint {root!r} is not among the joints scored: {', '.join(names)}")
    pairs = []
    for a, b in keys:
        if ours[a].space != theirs[b].space:
            notes.append(
                f"the prediction is in {ours[a].space!r}, the reference in {theirs[b].space!r}: only aligned "
                "metrics can be compared"
            )
        pairs.append(pair_up(ours[a], theirs[b], names, f"{pred}{': take ' + a if a else ''}"))
    missing = [uid for uid in theirs if len(theirs) > 1 and uid not in ours]
    if missing:
        notes.append(f"{len(missing)} takes of the reference are not in the prediction (first: {missing[0]})")
    more = {}
    if sums:
        from egopose.commands.pooled import pair_sums

        more["sums"] = pair_sums(pairs, names, root)
    return {
        "protocol": "pose",
        **score_pairs(pairs, names, root),
        **more,
        "joints": list(names),
        "takes": len(pairs),
        "notes": list(dict.fromkeys(notes)),
    }


def _named(takes: dict[str, PoseSequence], take: str, path: str | os.PathLike[str]) -> dict[str, PoseSequence]:
    if len(takes) == 1:
        return takes
    hits = {uid: pose for uid, pose in takes.items() if take in (uid, pose.provenance.get("take_name"))}
    if len(hits) != 1:
        raise EgoposeError(f"{path}: {len(hits)} takes have the uid or name {take!r}")
    return hits


def pose_table(result: Mapping[str, Any]) -> str:
    """The result for people."""
    cover = result["coverage"]
    lines = [f"{cover['frames_scored']} frames, {len(result['joints'])} joints, {result['takes']} takes", ""]
    lines += [f"{name:<22} {value:>10.3f}" for name, value in result["metrics"].items()]
    lines += ["", f"coverage {100 * cover['share']:.2f}% of the joints of the reference"]
    for name, row in cover["by_status"].items():
        lines.append(f"  {name:<20} {100 * row['share']:>6.2f}%  {row['mpjpe_mm']:>9.2f} mm")
    for what in ("missing_frames", "extra_frames"):
        if cover[what]:
            lines.append(f"{what.replace('_', ' ')}: {cover[what]}")
    if result["sigma"]:
        bars = result["sigma"]
        lines.append(
            f"error bars: {100 * bars['coverage_50']:.1f}% inside 50%, {100 * bars['coverage_90']:.1f}% inside 90%, "
            f"error / sigma {bars['rms_error_over_sigma']:.2f}, {bars['nll_nats_per_axis']:.3f} nats per axis"
        )
    lines += ["", "MPJPE by joint [mm]"]
    lines += [f"  {name:<22} {value:>8.2f}" for name, value in result["per_joint_mm"].items()]
    return "\n".join([*lines, *[f"note: {note}" for note in result["notes"]]])
