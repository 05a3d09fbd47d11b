"""``egopose evaluate``: the official body and hand protocols, and any prediction against any reference."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from egopose import __version__
from egopose.commands.output import emit
from egopose.commands.report_page import SUFFIXES, write_evaluation_page
from egopose.errors import EgoposeError
from egopose.files import plain_json, write_json
from egopose.metrics.protocols import (
    BodyResult,
    BodyScore,
    HandResult,
    HandScore,
    evaluate_body_baseline,
    evaluate_body_official,
    evaluate_hand_official,
)

Mode = Literal["strict", "lenient"]
PathLike = str | os.PathLike[str]


def versions() -> dict[str, str]:
    """What computed the numbers."""
    return {"egopose": __version__, "numpy": np.__version__}


# body --------------------------------------------------------------------------------------------------------------


def run_evaluate_body(
    pred: PathLike,
    gt: PathLike,
    *,
    protocol: Literal["official", "baseline"] = "official",
    mode: Mode = "strict",
    camera_poses: PathLike | None = None,
    without_bouldering: bool = False,
) -> BodyResult:
    """Score a body submission file against a ground truth file.

    Args:
        pred: ``{uid: {"take_name", "body": {frame: 17x3}}}``, world metres.
        gt: The same shape; NaN = missing joint.
        protocol: "official" (joints of all takes together, short clips dropped) or "baseline" (mean over takes).
        mode: "strict" refuses what the official script refuses; "lenient" scores what is there.
        camera_poses: Baseline only: folder of ``camera_pose`` files, for velocities in the camera's frame.
        without_bouldering: Baseline only: leave out bouldering takes, as the baseline's data set does.

    Raises:
        EgoposeError: A file is refused, or strict mode refuses the prediction.
    """
    from egopose.io.ego_exo4d_files import read_body_file

    if protocol == "official":
        if camera_poses is not None or without_bouldering:
            raise EgoposeError("--camera-poses and --without-bouldering belong to --protocol baseline")
        return evaluate_body_official(read_body_file(pred), read_body_file(gt), mode=mode)
    if protocol != "baseline":
        raise EgoposeError(f"no body protocol is named {protocol!r}; there are: official, baseline")
    truth = read_body_file(gt)
    poses = None
    if camera_poses is not None:
        from egopose.io.ego_exo4d_headposes import read_head_poses

        poses = read_head_poses(camera_poses, truth)
    return evaluate_body_baseline(
        read_body_file(pred), truth, camera_poses=poses, without_bouldering=without_bouldering, mode=mode
    )


def body_table(result: BodyResult) -> str:
    """The numbers to two decimals, as the benchmark prints them, and what they rest on."""
    rows = [("overall", result.overall), *result.scenarios.items()]
    lines = [f"{result.protocol} ({result.mode})", ""]
    lines.append(f"{'':<12} {'MPJPE [cm]':>11} {'MPJVE [m/s]':>12} {'joints':>10} {'velocities':>11}")
    for name, score in rows:
        lines.append(_body_row(name, score))
    cover = result.coverage
    lines += [
        "",
        f"coverage {_percent(cover.share)} of joints; {cover.frames_scored} of {cover.frames_expected} frames; "
        f"{cover.takes_expected - len(cover.missing_takes)} of {cover.takes_expected} takes; "
        f"{cover.frames_in_short_clips} frames in short clips left out",
    ]
    trouble = {
        "missing frames": cover.missing_frames,
        "malformed frames": cover.malformed_frames,
        "predictions not finite": cover.nonfinite_predictions,
        "truth not finite in y or z": cover.nonfinite_truth,
    }
    lines += [f"{what}: {count}" for what, count in trouble.items() if count]
    return "\n".join([*lines, *[f"note: {note}" for note in result.notes]])


def _body_row(name: str, score: BodyScore) -> str:
    return f"{name:<12} {score.mpjpe_cm:>11.2f} {score.mpjve_m_s:>12.2f} {score.joints:>10} {score.velocities:>11}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def evaluate_body(
    pred: tyro.conf.Positional[Path],
    gt: tyro.conf.Positional[Path],
    *,
    protocol: Literal["official", "baseline"] = "official",
    mode: Mode = "strict",
    camera_poses: Path | None = None,
    without_bouldering: bool = False,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Score a body submission by the official Ego-Exo4D rules.

    Args:
        pred: Submission: {uid: {take_name, body: {frame: 17x3}}}, world metres.
        gt: Ground truth of the same shape; NaN = missing joint.
        protocol: official = all joints together, short clips dropped; baseline = mean over takes.
        mode: strict refuses what the official script refuses; lenient scores what is there and counts the rest.
        camera_poses: Baseline only: folder of camera_pose/<take_uid>.json, for velocities in the camera's frame.
        without_bouldering: Baseline only: leave out bouldering takes, as the baseline's data set does.
        out: Also write the result here as JSON, or as a page when the name ends in .html.
        json: Print one JSON object.
    """
    result = run_evaluate_body(
        pred, gt, protocol=protocol, mode=mode, camera_poses=camera_poses, without_bouldering=without_bouldering
    )
    _deliver(result.to_dict(), body_table(result), out, json)


# hand --------------------------------------------------------------------------------------------------------------


def run_evaluate_hand(pred: PathLike, gt: PathLike, *, offset: bool = False, mode: Mode = "strict") -> HandResult:
    """Score a hand submission file against a ground truth file.

    Args:
        pred: ``{uid: {frame: {"left_hand_3d": 21x3 or [], "right_hand_3d": ...}}}``, camera frame, metres.
        gt: The same with ``*_valid_3d``.
        offset: Add the ground truth's wrist to the prediction (joints relative to the wrist).
        mode: "strict" refuses what the official script refuses; "lenient" scores what is there.

    Raises:
        EgoposeError: A file is refused, or strict mode refuses the prediction.
    """
    from egopose.io.ego_exo4d_files import read_hand_file

    return evaluate_hand_official(read_hand_file(pred), read_hand_file(gt), offset=offset, mode=mode)


def hand_table(result: HandResult) -> str:
    """The numbers to two decimals, as the benchmark prints them, and what they rest on."""
    rows = [("overall", result.overall), *result.sides.items()]
    lines = [f"{result.protocol} ({result.mode})", "", f"{'':<8} {'MPJPE [mm]':>11} {'PA-MPJPE [mm]':>14} {'hands':>8}"]
    lines += [_hand_row(name, score) for name, score in rows]
    cover = result.coverage
    lines += ["", f"coverage {_percent(cover.share)} of joints; {cover.hands_scored} of {cover.hands_expected} hands"]
    trouble = {
        "missing takes": len(cover.missing_takes),
        "missing hands": cover.missing_hands,
        "malformed hands": cover.malformed_hands,
        "hands without a valid joint": cover.unscorable_hands,
        "predictions not finite": cover.nonfinite_predictions,
        "truth not finite": cover.nonfinite_truth,
        "predictions at one point": cover.flat_predictions,
    }
    lines += [f"{what}: {count}" for what, count in trouble.items() if count]
    return "\n".join([*lines, *[f"note: {note}" for note in result.notes]])


def _hand_row(name: str, score: HandScore) -> str:
    return f"{name:<8} {score.mpjpe_mm:>11.2f} {score.pa_mpjpe_mm:>14.2f} {score.hands:>8}"


def evaluate_hand(
    pred: tyro.conf.Positional[Path],
    gt: tyro.conf.Positional[Path],
    *,
    offset: bool = False,
    mode: Mode = "strict",
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Score a hand submission by the official Ego-Exo4D rules.

    Args:
        pred: Submission: {uid: {frame: {left_hand_3d: 21x3 or [], right_hand_3d: ...}}}, camera frame, metres.
        gt: Ground truth with left_hand_valid_3d and right_hand_valid_3d.
        offset: Add the ground truth's wrist to the prediction, for joints relative to the wrist.
        mode: strict refuses what the official script refuses; lenient scores what is there and counts the rest.
        out: Also write the result here as JSON, or as a page when the name ends in .html.
        json: Print one JSON object.
    """
    result = run_evaluate_hand(pred, gt, offset=offset, mode=mode)
    _deliver(result.to_dict(), hand_table(result), out, json)


# any pose ----------------------------------------------------------------------------------------------------------


def evaluate_pose(
    pred: tyro.conf.Positional[Path],
    gt: tyro.conf.Positional[Path],
    *,
    joints: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = (),
    root: str | None = None,
    take: str | None = None,
    sums: bool = False,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Score any 3D joints against any reference: same frame numbers, joints of the same names.

    Args:
        pred: Any file with 3D joints that egopose reads.
        gt: The reference, likewise.
        joints: Only these joints.
        root: Also report errors after subtracting this joint.
        take: Uid or name of the take, for files with several.
        sums: Also give the sums behind the scores, which add up exactly over takes.
        out: Also write the result here as JSON, or as a page when the name ends in .html.
        json: Print one JSON object.
    """
    from egopose.commands.pose_scores import pose_table, run_evaluate_pose

    result = run_evaluate_pose(pred, gt, joints=joints, root=root, take=take, sums=sums)
    _deliver(result, pose_table(result), out, json, (pred, gt), take)


def _deliver(
    result: Mapping[str, Any],
    text: str,
    out: Path | None,
    as_json: bool,
    files: tuple[Path, Path] | None = None,
    take: str | None = None,
) -> None:
    document = {**result, "versions": versions()}
    if out is not None and out.suffix.lower() in SUFFIXES:
        write_evaluation_page(out, plain_json(document), title=f"Evaluation: {out.stem}", files=files, take=take)
    elif out is not None:
        write_json(out, plain_json(document))
    emit(document, text, as_json)


__all__: Sequence[str] = [
    "body_table", "evaluate_body", "evaluate_hand", "evaluate_pose", "hand_table", "run_evaluate_body",
    "run_evaluate_hand", "versions",
]  # fmt: skip
