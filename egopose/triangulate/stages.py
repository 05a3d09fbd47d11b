"""The stages of a take beyond the frame-by-frame solve: when, which side, where, which views, over time.

Order: time offsets (with cameras refined in private, so that a calibration error is not taken for an offset) and sides;
cameras that are simply wrong; the refinement of the cameras when asked for; the solve; the hands' views; the smoothing.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace

import numpy as np

from egopose.errors import EgoposeWarning
from egopose.triangulate.handviews import body_wrists, select_hand_views
from egopose.triangulate.offsets import TimeOffsets, apply_offsets, find_offsets
from egopose.triangulate.overtime import smooth_take
from egopose.triangulate.refine import refine_rig, wrong_cameras
from egopose.triangulate.sides import assign_sides
from egopose.triangulate.solve import triangulate_points
from egopose.triangulate.take import Progress, Stage, Take, TriangulateConfig, solve_frames

_CAP_FACTOR = 0.6
_LEAST_CAP_PX = 6.0
# a hand proposed by two views alone is rough: a view must be this far off before it is left out
_LEAST_HAND_CAP_PX = 16.0
_SAMPLE = 20_000


def stages_for(config: TriangulateConfig) -> tuple[Stage, ...]:
    """The stages that a configuration asks for."""
    if config.raw or config.method == "linear":
        return (solve_frames,)
    stages: list[Stage] = []
    if config.time_offsets or config.sides:
        stages.append(times_and_sides)
    if config.drop_wrong_cameras:
        stages.append(drop_wrong_cameras)
    if config.refine_cameras:
        stages.append(refine_cameras)
    stages.append(solve_frames)
    if config.hand_views:
        stages.append(hand_views)
    if config.smooth:
        stages.append(smooth)
    return tuple(stages)


def _cap(take: Take) -> float:
    """Beyond this distance a ray is wrong, from a sample of the take as it stands."""
    if not isinstance(take.config.threshold_px, str):
        return max(take.config.threshold_px, _LEAST_CAP_PX)
    observations = take.observations
    V = observations.n_views
    uv = observations.uv_px.reshape(V, -1, 2)
    score = None if observations.score is None else observations.score.reshape(V, -1)
    step = max(1, uv.shape[1] // _SAMPLE)
    solved = triangulate_points(
        take.rig.cameras, uv[:, ::step], None if score is None else score[:, ::step], seed=take.config.seed,
        threshold_factor=take.config.threshold_factor,
    )  # fmt: skip
    return max(_CAP_FACTOR * solved.threshold_px, _LEAST_CAP_PX)


def times_and_sides(take: Take, progress: Progress) -> Take:
    """Find time offsets and left/right exchanges, and put the observations right.

    The two are mixed up with each other: sides first, then offsets, then sides again on the aligned observations.
    """
    config = take.config
    given = take.observations
    sided, report = given, None
    cap = _cap(take)
    if config.sides:
        sided, report = assign_sides(take.rig, given, cap_px=cap)
        progress(0.3, "sides")
    offsets = None
    if config.time_offsets:
        offsets = find_offsets(take.rig, sided, seed=config.seed)
        progress(0.7, "time offsets")
    if offsets is not None and any(offsets.frames):
        sided = apply_offsets(given, offsets)
        if config.sides:
            sided, report = assign_sides(take.rig, sided, cap_px=cap)
    progress(1.0, "sides")
    take = replace(take, observations=sided)
    found = dict(take.found)
    if offsets is not None:
        found["time_offsets"] = asdict(offsets)
        late = [f"{name} {shift:+.2f}" for name, shift in zip(offsets.views, offsets.frames) if shift]
        if late:
            take = take.noted(f"time offsets found, frames: {', '.join(late)} (reference {offsets.reference})")
        take = _doubts(take, offsets)
    if report is not None:
        found["sides"] = report.share
        for name, share in report.share.items():
            if share["pairs"] > 0.005 or share["hands"] > 0.02:
                take = take.noted(
                    f"{name}: left and right exchanged in {100 * share['pairs']:.1f} % of its body pairs and "
                    f"{100 * share['hands']:.1f} % of its hands"
                )
    return replace(take, found=found)


def _doubts(take: Take, offsets: TimeOffsets) -> Take:
    """Say where the time offsets cannot be trusted."""
    unknown = [name for name, reliable in zip(offsets.views, offsets.reliable) if not reliable]
    if unknown and len(offsets.views) >= 3:
        take = take.noted(
            f"the time offset of {', '.join(unknown)} is not determined by these keypoints and stays 0 (too few "
            "joints, too little motion, or a motion that a turned camera would explain as well)"
        )
    if not offsets.clear and offsets.runner_up is not None:
        other = ", ".join(f"{name} {shift:+.1f}" for name, shift in zip(offsets.views, offsets.runner_up))
        note = (
            f"the time offsets are not clear: {other} frames fit nearly as well ({offsets.runner_up_cost:.2f} px "
            f"against {offsets.cost_after:.2f} px); start the cameras together or record an irregular motion"
        )
        warnings.warn(note, EgoposeWarning, stacklevel=2)
        take = take.noted(note)
    return take


def drop_wrong_cameras(take: Take, progress: Progress) -> Take:
    """Leave out cameras that nearly never agree with the others, and say so."""
    wrong = wrong_cameras(take.rig, take.observations, threshold_px=_cap(take) / _CAP_FACTOR)
    progress(1.0, "cameras")
    if not wrong or len(take.observations.views) - len(wrong) < 2:
        return take
    views = [view for view in take.observations.views if view not in wrong]
    for name, reason in wrong.items():
        take = take.noted(f"camera {name!r} left out: {reason}; its calibration or its video is wrong")
    return replace(
        take, rig=take.rig.subset(views), observations=take.observations.select(views=views),
        found={**take.found, "wrong_cameras": wrong},
    )  # fmt: skip


def refine_cameras(take: Take, progress: Progress) -> Take:
    """Refine the cameras from the keypoints; refused when they are not determined."""
    refined = refine_rig(
        take.rig, take.observations, threshold_px=_cap(take) / _CAP_FACTOR, focal=take.config.refine_focal,
        seed=take.config.seed,
    )  # fmt: skip
    progress(1.0, "cameras")
    take = take.noted(
        f"cameras refined from {refined.points} joints: median residual {refined.before_px:.1f} to "
        f"{refined.after_px:.1f} px"
    )
    table = {
        "before_px": refined.before_px, "after_px": refined.after_px, "reference": refined.reference,
        "cameras": [asdict(row) for row in refined.cameras],
    }  # fmt: skip
    return replace(take, rig=refined.rig, found={**take.found, "refinement": table})


def hand_views(take: Take, progress: Progress) -> Take:
    """Let the 21 joints of each hand choose their views together, then solve again where views were left out."""
    before, pose = take.solved, take.pose
    assert before is not None
    assert pose is not None
    cap = max(_CAP_FACTOR * before.threshold_px, _LEAST_HAND_CAP_PX)
    observations, report = select_hand_views(take.rig, take.observations, cap_px=cap, body=body_wrists(pose))
    if not report.kept:
        return take
    progress(0.5, "hand views")
    changed = observations.seen != take.observations.seen
    take = replace(take, found={**take.found, "hand_views_dropped": report.dropped_share})
    if not changed.any():
        return take
    # the threshold and the noise belong to the whole take: they are kept
    again = solve_frames(replace(take, observations=observations), lambda *_: None, solved_before=before)
    assert again.pose is not None
    assert again.solved is not None
    pose = again.pose.replace(provenance=pose.provenance)
    solved = replace(again.solved, threshold=before.threshold)
    progress(1.0, "hand views")
    return replace(again, pose=pose, solved=solved, config=take.config)


def smooth(take: Take, progress: Progress) -> Take:
    """Solve over time."""
    assert take.pose is not None
    assert take.solved is not None
    if take.pose.n_frames < 3 or not np.isfinite(take.solved.sigma_px):
        return take
    pose, notes = smooth_take(take.rig, take.observations, take.pose, take.solved.sigma_px, take.config.smoothing)
    progress(1.0, "smooth")
    return replace(take, pose=pose, unsmoothed=take.pose, found={**take.found, "smoothing": notes})
