"""Checks of a submission before it is sent: shapes, NaN, frames against an index, and the frame of the coordinates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from egopose.metrics.protocols.body import scenario_of
from egopose.metrics.protocols.findings import Expected, Report, against_index, not_finite, size_findings
from egopose.skeleton import BODY17, HAND21
from egopose.takes import SIDES, BodyTake, HandTake, locate

# sizes of people in metres; generous, since only units and frames of reference are told apart
BODY_EXTENT = (0.35, 3.5)
HAND_EXTENT = (0.03, 0.4)
HEAD_REACH = 0.35
"""A nose this near the origin in every frame is one seen from the head camera."""
HAND_REACH = 1.6
"""A hand this far from its camera is not on the wearer's arm."""
LINEAR_FOCAL, LINEAR_CENTRE, LINEAR_SIZE = 150.0, 255.5, 512
"""The benchmark's undistorted ego image."""


def validate_body_takes(takes: Mapping[str, BodyTake], index: Mapping[str, Expected] | None = None) -> Report:
    """Check body takes: names, shapes, NaN, frames, and whether the joints can be world coordinates in metres.

    Args:
        takes: As read.
        index: What is asked for, by take uid; None checks the file alone.
    """
    report = Report("body", counts={"takes": len(takes), "frames": sum(int(t.frames.size) for t in takes.values())})
    if not takes:
        report.add("error", "empty", "the file has no take")
    for uid, take in takes.items():
        want = index.get(uid) if index else None
        if not take.take_name:
            report.add("error", "take-name", "take_name is missing; the server reads it", uid)
        elif want is not None and want.take_name and _bare(want.take_name) != _bare(take.take_name):
            report.add(
                "warning",
                "take-name-differs",
                f"take_name is {take.take_name!r}; the index has {want.take_name!r}",
                uid,
            )
        elif scenario_of(take.take_name) is None:
            report.add("warning", "scenario", f"take_name {take.take_name!r} shows no scenario of the benchmark", uid)
        if take.other_keys:
            report.add(
                "error",
                "frame-key",
                f"key {take.other_keys[0]!r} is no frame number (decimal, no zeros before it)",
                uid,
            )
        for frame, what in take.defects.items():
            report.add("error", "shape", f"{what}; expected 17x3 numbers", uid, frame)
        if not take.frames.size:
            report.add("warning" if index is not None and want is None else "error", "no-frame", "has no frame", uid)
        good = ~np.isin(take.frames, list(take.defects) or [-1])
        not_finite(report, uid, take.frames[good], take.xyz[good], BODY17.joints, "")
    if index is not None:
        against_index(report, takes, index, lambda uid: takes[uid].frames)
    _body_frame(report, takes, index)
    return report


def _bare(name: str) -> str:
    return name.removeprefix("takes/").strip("/").lower()


# numbers beyond any range are judged like other wrong ones
@np.errstate(over="ignore", invalid="ignore")
def _body_frame(report: Report, takes: Mapping[str, BodyTake], index: Mapping[str, Expected] | None) -> None:
    """Whether the coordinates can be world metres (z up, origin anywhere)."""
    usable = [take.xyz[np.isfinite(take.xyz).all((1, 2))] for take in takes.values()]
    usable = [xyz for xyz in usable if len(xyz)]
    if not usable:
        return
    xyz = np.concatenate(usable)
    zero = (xyz == 0).all(-1)
    if zero.mean() > 0.01:
        j = BODY17.joints[int(zero.sum(0).argmax())]
        report.add(
            "warning",
            "zeros",
            f"{int(zero.sum())} joints are exactly 0, 0, 0 (most often {j}): missing joints written as zeros?",
        )
    if zero.all(1).mean() > 0.5:
        return
    extent = np.linalg.norm(xyz.max(1) - xyz.min(1), axis=-1)
    if not size_findings(report, extent, BODY_EXTENT, "the body"):
        return
    hips = xyz[:, BODY17.indices(["left_hip", "right_hip"])].mean(1)
    nose = xyz[:, BODY17.index("nose")]
    feet = xyz[:, BODY17.indices(["left_ankle", "right_ankle"])].mean(1)
    if len(xyz) >= 10 and (np.abs(hips) < 1e-6).all():
        report.add(
            "error", "root-relative", "the hips are at the origin in every frame: add the position in the world back"
        )
        return
    up = nose - feet
    upright = float(np.mean(up[:, 2] > 0.5 * np.linalg.norm(up, axis=-1)))
    near = float(np.mean(np.linalg.norm(nose, axis=-1) < HEAD_REACH))
    if near > 0.95 and upright < 0.5 and len(xyz) >= 10:
        report.add(
            "error", "camera-frame",
            "the head is at the origin in every frame and z does not point up: these are camera coordinates; the body "
            "track wants the world: apply the inverse of the camera's extrinsics to every frame",
        )  # fmt: skip
    elif near > 0.95 and len(xyz) >= 10:
        report.add(
            "warning", "head-frame", "the head is at the origin in every frame: are these really world coordinates?"
        )
    elif upright < 0.5:
        report.add(
            "warning",
            "not-upright",
            f"z points up from the feet to the nose in {100 * upright:.0f}% of frames only: is z up?",
        )
    far = []
    for uid, take in takes.items():
        want = (index or {}).get(uid)
        if want is None or want.xyz is None or want.frames is None:
            continue
        where = locate(take.frames, want.frames)
        error = np.linalg.norm(take.xyz[where[where >= 0]] - want.xyz[where >= 0], axis=-1)
        error = error[np.isfinite(error)]
        if error.size and float(np.median(error)) > 3:
            far.append((uid, float(np.median(error))))
    for uid, distance in far:
        report.add(
            "warning",
            "far-from-truth",
            f"the joints are {distance:.1f} m (median) from the reference: another frame?",
            uid,
        )


def validate_hand_takes(takes: Mapping[str, HandTake], index: Mapping[str, Expected] | None = None) -> Report:
    """Check hand takes: shapes, NaN, hands asked for, and whether the joints can be landscape camera metres.

    Args:
        takes: As read.
        index: What is asked for, by take uid; None checks the file alone.
    """
    n_hands = sum(int(take.present.sum()) for take in takes.values())
    report = Report("hand", counts={"takes": len(takes), "hands": n_hands})
    if not takes:
        report.add("error", "empty", "the file has no take")
    elif not n_hands:
        report.add("error", "no-hand", "no frame has a hand (left_hand_3d or right_hand_3d with 21 joints)")
    for uid, take in takes.items():
        keys = [key for key in take.other_keys if key not in ("metadata", "take_name", "take_uid")]
        if keys:
            report.add("warning", "frame-key", f"key {keys[0]!r} is no frame number and will be ignored", uid)
        for (frame, side), what in take.defects.items():
            report.add("error", "shape", f"{side} hand {what}; expected 21x3 numbers", uid, frame)
        for s, side in enumerate(SIDES):
            rows = take.present[:, s]
            not_finite(report, uid, take.frames[rows], take.xyz[rows, s], HAND21.joints, f"{side} hand, ")
    if index is not None:
        against_index(report, takes, index, lambda uid: takes[uid].frames)
        for uid, want in index.items():
            if uid in takes and want.frames is not None and want.hands is not None:
                _missing_hands(report, takes[uid], want)
    _hand_frame(report, takes, index)
    return report


def _missing_hands(report: Report, take: HandTake, want: Expected) -> None:
    assert want.frames is not None
    assert want.hands is not None
    where = locate(take.frames, want.frames)
    there = np.zeros_like(want.hands)
    there[where >= 0] = take.present[where[where >= 0]]
    listed = {(int(f), s) for f, side in take.defects for s in range(2) if side == SIDES[s]}
    for t, s in np.argwhere(want.hands & ~there):
        frame = int(want.frames[t])
        if (frame, int(s)) not in listed:
            what = "the frame is missing" if where[t] < 0 else f"the {SIDES[s]} hand is missing or empty"
            report.add(
                "error", "missing-hand", f"{what}; one missing hand stops the official evaluation", take.uid, frame
            )


# numbers beyond any range are judged like other wrong ones
@np.errstate(over="ignore", invalid="ignore")
def _hand_frame(report: Report, takes: Mapping[str, HandTake], index: Mapping[str, Expected] | None) -> None:
    """Whether the coordinates can be metres in the un-rotated camera frame (z forward)."""
    parts = [take.xyz[take.present] for take in takes.values()]
    xyz = np.concatenate(parts) if parts else np.zeros((0, HAND21.n_joints, 3))
    xyz = xyz[np.isfinite(xyz).all((1, 2))]
    if not len(xyz):
        return
    wrist = xyz[:, HAND21.index("wrist")]
    flat = (xyz == xyz[:, :1]).all((1, 2))
    if flat.any():
        report.add(
            "error", "flat", f"{int(flat.sum())} hands have all joints at one point: the official alignment stops there"
        )
    extent = np.linalg.norm(xyz - wrist[:, None], axis=-1).max(-1)[~flat]
    if not size_findings(report, extent, HAND_EXTENT, "a hand, from the wrist,"):
        return
    if (np.linalg.norm(wrist, axis=-1) < 1e-4).mean() > 0.9:
        report.add(
            "warning", "wrist-relative",
            "the wrist is at the origin: joints relative to the wrist are scored right only where the evaluator adds "
            "the true wrist (egopose evaluate hand --offset); else give camera coordinates",
        )  # fmt: skip
        return
    front = float((xyz[..., 2] > 0).mean())
    reach = float(np.median(np.linalg.norm(wrist, axis=-1)))
    if front < 0.9:
        report.add(
            "error", "behind-camera",
            f"{100 * front:.0f}% of joints have z > 0; in the camera frame (x right, y down, z forward of the "
            "un-rotated sensor) the wearer's hands are in front: are these world coordinates?",
        )  # fmt: skip
    elif reach > HAND_REACH:
        report.add(
            "error",
            "world-frame",
            f"wrists are {reach:.2f} m (median) from the origin, farther than an arm: world coordinates?",
        )
    elif index is not None:
        _against_boxes(report, takes, index)


def _against_boxes(report: Report, takes: Mapping[str, HandTake], index: Mapping[str, Expected]) -> None:
    """Project onto the undistorted image: in which orientation do hands fall into the boxes of the index?"""
    inside = {"landscape": 0, "portrait": 0}
    total = 0
    for uid, want in index.items():
        take = takes.get(uid)
        if take is None or want.frames is None or want.boxes is None:
            continue
        where = locate(take.frames, want.frames)
        rows = np.argwhere((where >= 0)[:, None] & np.isfinite(want.boxes).all(-1))
        centre = np.median(take.xyz[where[rows[:, 0]], rows[:, 1]], axis=1)
        boxes = want.boxes[rows[:, 0], rows[:, 1]]
        ok = np.isfinite(centre).all(-1) & (centre[:, 2] > 0.01)
        centre, boxes = centre[ok], boxes[ok]
        u, v = (LINEAR_FOCAL * centre[:, a] / centre[:, 2] + LINEAR_CENTRE for a in (0, 1))
        total += len(centre)
        # the portrait image is the landscape one turned by 90 degrees clockwise
        for name, (x, y) in {"landscape": (u, v), "portrait": (v, LINEAR_SIZE - 1 - u)}.items():
            margin = 0.25 * (boxes[:, 2:] - boxes[:, :2])
            low, high = boxes[:, :2] - margin, boxes[:, 2:] + margin
            inside[name] += int(((x >= low[:, 0]) & (x <= high[:, 0]) & (y >= low[:, 1]) & (y <= high[:, 1])).sum())
    if total < 20:
        return
    share = {name: count / total for name, count in inside.items()}
    report.counts["hands-in-boxes-percent"] = round(100 * share["landscape"])
    if share["portrait"] > 0.5 and share["portrait"] > 2 * share["landscape"]:
        report.add(
            "error", "portrait",
            f"hands fall into the boxes of the index in {100 * share['portrait']:.0f}% of cases when turned by 90 "
            f"degrees, {100 * share['landscape']:.0f}% as they are: these are portrait "
            "coordinates, landscape ones are wanted",
        )  # fmt: skip
    elif share["landscape"] < 0.3:
        report.add(
            "warning", "outside-boxes",
            f"only {100 * share['landscape']:.0f}% of hands project into the boxes of the index: another frame, camera "
            "or order of frames?",
        )  # fmt: skip
