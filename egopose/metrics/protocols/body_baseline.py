"""The body numbers as the benchmark's baseline code prints them: a mean over takes, velocity at a fixed rate.

It differs from :mod:`egopose.metrics.protocols.body`: no clip filter; means inside a take first and then over takes
(macro); the difference between stored frames times 10 whatever their gap; a joint is left out where its error is NaN,
so NaN predictions are forgiven; velocities are taken in the camera frame of each time. The baseline computes in single
precision; here it is double.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from egopose.metrics.protocols.body import Mode, _Run, align_take, check_mode, distance, scenario_of
from egopose.metrics.protocols.result import BodyResult, BodyScore
from egopose.takes import BodyTake, Floats

RATE = 10.0
"""Stored frames a second that the baseline assumes."""

CameraPoses = Mapping[str, Mapping[int, Floats]]
"""Take uid to frame number to (3, 4) world -> camera."""


def _to_camera(points: Floats, poses: Floats) -> Floats:
    """(T, J, 3) world points in the camera frame of each time; poses (T, 3, 4)."""
    return np.einsum("tij,tkj->tki", poses[:, :, :3], points) + poses[:, None, :, 3]


def _mean(values: Floats) -> float:
    """Mean of what is not NaN; NaN where nothing is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _macro(takes: list[BodyScore]) -> BodyScore:
    positions = np.array([take.mpjpe_cm for take in takes])
    velocities = np.array([take.mpjve_m_s for take in takes])
    return BodyScore(
        mpjpe_cm=float(np.mean(positions)) if takes else float("nan"),
        mpjve_m_s=float(np.mean(velocities)) if takes else float("nan"),
        joints=sum(take.joints for take in takes),
        velocities=sum(take.velocities for take in takes),
        takes=len(takes),
        frames=sum(take.frames for take in takes),
    )


def evaluate_body_baseline(
    pred: Mapping[str, BodyTake],
    truth: Mapping[str, BodyTake],
    *,
    camera_poses: CameraPoses | None = None,
    without_bouldering: bool = False,
    mode: Mode = "strict",
) -> BodyResult:
    """Score body predictions as the baseline's test script does.

    Args:
        pred: Takes by uid, world metres.
        truth: Ground truth takes by uid, in file order, world metres; NaN = missing joint.
        camera_poses: World -> camera of the wearer's camera for each take and frame. Frames without one are left
            out, as in the baseline. Without it velocities are those of the world frame, and a note says so.
        without_bouldering: Leave out takes with "bouldering" in the name, as the baseline's data set does.
        mode: "strict" refuses a missing take or frame and a wrong shape; "lenient" counts them.

    Returns:
        The mean over takes, overall and per scenario; coverage; notes.

    Raises:
        EgoposeError: Strict mode, as above; it names the take and the frame.
    """
    check_mode(mode)
    run = _Run(mode)
    run.notes.append("every take weighs the same (macro); velocities are frame-to-frame differences times 10")
    if camera_poses is None:
        run.notes.append(
            "no camera poses were given: velocities are in the world frame, the baseline's in the camera's"
        )
    takes: dict[str, BodyScore] = {}
    groups: dict[str, list[BodyScore]] = {}
    for uid, target in truth.items():
        if without_bouldering and "bouldering" in (target.take_name or "").lower():
            run.notes.append(f"take {uid} is bouldering and was left out")
            continue
        chosen = target
        poses = None
        if camera_poses is not None:
            known = camera_poses.get(uid, {})
            have = np.array([int(frame) in known for frame in target.frames], dtype=np.bool_)
            if not have.all():
                run.notes.append(f"take {uid}: {int((~have).sum())} frames have no camera pose and were left out")
            chosen = BodyTake(uid, target.take_name, target.frames[have], target.xyz[have], target.defects)
        aligned = align_take(chosen, pred.get(uid), run, clip_filter=False)
        if aligned is None or not aligned.frames.size:
            continue
        target_xyz, pred_xyz = aligned.truth, aligned.pred
        if camera_poses is not None:
            poses = np.array([camera_poses[uid][int(frame)] for frame in aligned.frames], dtype=np.float64)
            target_xyz, pred_xyz = _to_camera(target_xyz, poses), _to_camera(pred_xyz, poses)
        with np.errstate(invalid="ignore", over="ignore"):
            error = distance(pred_xyz - target_xyz)
            moved = distance(np.diff(target_xyz, axis=0) * RATE - np.diff(pred_xyz, axis=0) * RATE)
        if np.isnan(error).all():
            run.notes.append(f"take {uid} has no visible joint and was left out")
            continue
        score = BodyScore(
            mpjpe_cm=_mean(error) * 100,
            mpjve_m_s=_mean(moved),
            joints=int((~np.isnan(error)).sum()),
            velocities=int((~np.isnan(moved)).sum()),
            takes=1,
            frames=int(aligned.frames.size),
        )
        takes[uid] = score
        groups.setdefault(scenario_of(target.take_name) or "other", []).append(score)
    run.coverage.extra_takes = sum(uid not in truth for uid in pred)
    scenarios = {name: _macro(scores) for name, scores in groups.items()}
    return BodyResult("body.baseline", mode, _macro(list(takes.values())), scenarios, takes, run.coverage, run.notes)
