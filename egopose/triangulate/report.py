"""The numbers of a triangulated take, as plain data: residuals by camera and joint, bias, bone lengths, status."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.pose import JointStatus, PoseSequence
from egopose.triangulate.take import Take

SEGMENTS = (
    *((f"{side}_{a}", f"{side}_{b}")
      for side in ("left", "right")
      for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip"))),
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
)  # fmt: skip
"""The twelve segments of limbs and trunk that the summary's bone-length variation is the mean of."""


MOST_FRAMES = 10_000
"""Residuals of longer takes are measured on evenly spread stretches of that many frames in all."""
_STRETCH = 250
MISFIT_SHARE = 0.02
"""Median residual, as a share of the image diagonal, that no detector or worn calibration explains."""
MISFIT_AGREE, MISFIT_JOINTS = 0.25, 200
"""Where three views or more see a joint, three agree in at least this share of a sound take (so many joints needed)."""


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _quantiles(values: NDArray[np.float64]) -> dict[str, float | None]:
    values = values[np.isfinite(values)]
    if values.size == 0:
        return {"median": None, "p90": None, "mean": None}
    median, p90 = np.percentile(values, [50, 90])
    return {"median": float(median), "p90": float(p90), "mean": float(values.mean())}


GOOD_SIGMA_M, USABLE_SIGMA_M = 0.010, 0.030
"""A joint is good below the first standard deviation per axis, usable below the second, poor beyond."""


def verdict(pose: PoseSequence) -> NDArray[np.str_]:
    """(T, J) "good", "usable", "poor" or "unknown" by the joint's error bar; see the thresholds above."""
    words = np.full(pose.valid.shape, "unknown", dtype="<U7")
    if pose.sigma is None:
        return words
    with np.errstate(invalid="ignore"):
        words[pose.valid] = "poor"
        words[pose.valid & (pose.sigma <= USABLE_SIGMA_M)] = "usable"
        words[pose.valid & (pose.sigma <= GOOD_SIGMA_M)] = "good"
    return words


def _verdict_shares(words: NDArray[np.str_]) -> dict[str, float]:
    return {word: float((words == word).mean()) if words.size else 0.0
            for word in ("good", "usable", "poor", "unknown")}  # fmt: skip


def reprojection(take: Take) -> NDArray[np.float64]:
    """Signed residuals in raw pixels, reprojected minus observed, through the full lens model.

    Returns:
        (V, T, J, 2), NaN where a view sees no joint or the joint has no point.

    Raises:
        EgoposeError: The take was not solved.
    """
    pose = _pose(take)
    xyz = pose.xyz.astype(np.float64)
    return np.stack([camera.project(xyz) for camera in take.rig.cameras]) - take.observations.uv_px


def bone_lengths(pose: PoseSequence) -> list[dict[str, Any]]:
    """Length of every bone of the skeleton: frames, mean in metres and standard deviation over mean in percent."""
    rows = []
    for a, b in pose.skeleton.bones:
        rows.append(
            {"bone": [pose.skeleton.joints[a], pose.skeleton.joints[b]], **length_of(pose.xyz[:, a], pose.xyz[:, b])}
        )
    return rows


def length_of(start: NDArray[np.float32], end: NDArray[np.float32]) -> dict[str, Any]:
    """Length between two joints (T, 3) over time."""
    length = np.linalg.norm(end.astype(np.float64) - start, axis=-1)
    length = length[np.isfinite(length)]
    if length.size < 2:
        return {"frames": int(length.size), "mean_m": None, "variation_percent": None}
    return {
        "frames": int(length.size),
        "mean_m": float(length.mean()),
        "variation_percent": _number(100.0 * length.std() / length.mean()),
    }


def bone_variation(pose: PoseSequence) -> float | None:
    """Mean over limb and trunk segments of the standard deviation of their length over its mean, in percent.

    The segments are those of :data:`SEGMENTS` that the skeleton has; for a skeleton with none of them (a hand, a
    board), its own bones. None when no segment has two frames.
    """
    skeleton = pose.skeleton
    known_joints = set(skeleton.joints)
    pairs = [(skeleton.index(a), skeleton.index(b)) for a, b in SEGMENTS if {a, b} <= known_joints]
    values = [length_of(pose.xyz[:, a], pose.xyz[:, b])["variation_percent"] for a, b in pairs or skeleton.bones]
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def acceleration_jitter(pose: PoseSequence) -> float | None:
    """Median size of the second difference over consecutive frames, in millimetres per frame squared."""
    step = np.diff(pose.frames)
    if step.size < 2:
        return None
    even = (step[1:] == step[:-1]) & (step[1:] == step.min())
    second = np.linalg.norm(np.diff(pose.xyz.astype(np.float64), n=2, axis=0)[even], axis=-1)
    second = second[np.isfinite(second)]
    return float(np.median(second) * 1e3) if second.size else None


def _pose(take: Take) -> PoseSequence:
    if take.pose is None or take.used is None or take.solved is None:
        raise EgoposeError("this take was not solved; run the stages first")
    return take.pose


def build_report(take: Take) -> dict[str, Any]:
    """All numbers of the report.

    Residuals are reprojected minus observed in raw pixels. "All" counts every view that sees a joint with a point,
    "used" the views that agree; the signed bias is the median over all, so a wrong camera or a wrong 2D convention
    shows even where its views were rejected.

    Args:
        take: A solved take.

    Returns:
        Builtins only, with None for what cannot be measured: ``summary``, ``threshold``, ``status``, ``cameras``,
        ``joints``, ``bones``, ``notes``.

    Raises:
        EgoposeError: The take was not solved.
    """
    whole = _pose(take)
    take = _thinned(take)
    pose = _pose(take)
    assert take.used is not None
    assert take.solved is not None
    residual = reprojection(take)
    distance = np.linalg.norm(residual, axis=-1)
    seen = take.observations.seen
    used = take.used
    status = np.asarray(pose.status)
    solved = take.solved
    notes = list(take.notes)
    if whole.n_frames > pose.n_frames:
        notes.append(f"the report's figures are from {pose.n_frames} of {whole.n_frames} frames, evenly spread")
    notes += _misfit(take, distance, seen, used)
    words = verdict(pose)
    return {
        "summary": {
            "frames": whole.n_frames,
            "joints": pose.n_joints,
            "views": len(take.rig),
            "known_share": _share(whole.valid),
            "bone_variation_percent": bone_variation(pose),
            "acceleration_jitter_mm": acceleration_jitter(pose),
            "residual_used_px": _quantiles(distance[used]),
            "residual_all_px": _quantiles(distance[seen]),
            "sigma_mm": _quantiles(1e3 * pose.sigma[pose.valid].astype(np.float64)) if pose.sigma is not None else None,
        },
        "threshold": {
            "threshold_px": _number(solved.threshold_px),
            "source": solved.threshold.source,
            "sigma_px": _number(solved.sigma_px),
            "rounds_px": [float(v) for v in solved.threshold.rounds_px],
            "points": solved.threshold.n_points,
        },
        "status": status_shares(np.asarray(whole.status)),
        "quality": {
            "good_sigma_mm": 1e3 * GOOD_SIGMA_M, "usable_sigma_mm": 1e3 * USABLE_SIGMA_M, **_verdict_shares(words),
        },
        "cameras": [_camera_row(name, residual[v], distance[v], seen[v], used[v])
                    for v, name in enumerate(take.rig.names)],
        "joints": [_joint_row(pose, j, distance[:, :, j], used[:, :, j], status[:, j],
                              words[:, j])
                   for j in range(pose.n_joints)],
        "bones": bone_lengths(pose),
        "notes": notes,
    }  # fmt: skip


def _misfit(take: Take, distance: NDArray[np.float64], seen: NDArray[np.bool_], used: NDArray[np.bool_]) -> list[str]:
    """A remark when the views as a whole do not fit the cameras: no error bar can say that."""
    reasons = []
    medians = [(float(np.median(d[np.isfinite(d)])), c) for d, c in zip(distance, take.rig.cameras) if _any_finite(d)]
    share = float(np.median([median / np.hypot(*camera.size) for median, camera in medians])) if medians else 0.0
    if len(medians) >= 2 and share > MISFIT_SHARE:
        reasons.append(f"half of the 2D joints lie {100 * share:.1f} % of the image diagonal or more beside the result")
    several = seen.sum(axis=0) >= 3
    if several.sum() >= MISFIT_JOINTS:
        agree = float((used.sum(axis=0) >= 3)[several].mean())
        if agree < MISFIT_AGREE:
            reasons.append(f"only {100 * agree:.0f} % of the joints that three views see have three views that agree")
    if not reasons:
        return []
    return [
        f"the views do not fit the cameras: {' and '.join(reasons)}; the calibration is probably another capture's, a "
        "camera was moved, or views are named after the wrong cameras"
    ]


def _any_finite(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).any())


def _thinned(take: Take) -> Take:
    """A long take cut down to evenly spread stretches: its residuals would take more memory than its solve."""
    pose = _pose(take)
    T = pose.n_frames
    if T <= MOST_FRAMES:
        return take
    blocks = MOST_FRAMES // _STRETCH
    starts = np.linspace(0, T - _STRETCH, blocks).astype(int)
    index = np.unique((starts[:, None] + np.arange(_STRETCH)).ravel())
    assert take.used is not None
    return replace(
        take, pose=pose.select(frames=pose.frames[index]),
        observations=take.observations.select(frames=take.observations.frames[index]), used=take.used[:, index],
    )  # fmt: skip


def status_shares(status: NDArray[np.uint8]) -> dict[str, float]:
    """Share of the joints with each status that occurs."""
    counts = np.bincount(status.ravel(), minlength=len(JointStatus))
    return {s.name.lower(): float(counts[s]) / max(status.size, 1) for s in JointStatus if counts[s]}


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if flags.size else None


def _camera_row(
    name: str,
    residual: NDArray[np.float64],
    distance: NDArray[np.float64],
    seen: NDArray[np.bool_],
    used: NDArray[np.bool_],
) -> dict[str, Any]:
    known = np.isfinite(distance)
    bias = np.median(residual[known], axis=0) if known.any() else np.full(2, np.nan)
    return {
        "name": name,
        "seen_share": _share(seen),
        "used_share_of_seen": _share(used[seen]),
        "residual_all_px": _quantiles(distance[known]),
        "residual_used_px": _quantiles(distance[used & known]),
        "bias_u_px": _number(bias[0]),
        "bias_v_px": _number(bias[1]),
    }


def _joint_row(
    pose: PoseSequence,
    j: int,
    distance: NDArray[np.float64],
    used: NDArray[np.bool_],
    status: NDArray[np.uint8],
    words: NDArray[np.str_],
) -> dict[str, Any]:
    valid = pose.valid[:, j]
    sigma = None if pose.sigma is None or not valid.any() else float(1e3 * np.median(pose.sigma[valid, j]))
    return {
        "name": pose.skeleton.joints[j],
        "known_share": _share(valid),
        "views_used": _number(used.sum(axis=0)[valid].mean()) if valid.any() else None,
        "residual_all_px": _quantiles(distance),
        "residual_used_px": _quantiles(distance[used]),
        "sigma_mm_median": sigma,
        "quality": _verdict_shares(words),
        "status": status_shares(status),
    }
