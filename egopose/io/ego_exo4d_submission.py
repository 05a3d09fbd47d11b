"""Ego-Exo4D body and hand files of many takes as pose sequences: submissions and ground truth, both ways.

A file holds several takes: ``load`` gives a dict from take uid to :class:`PoseSequence` (in file order), or one
sequence with ``take=`` (uid or name). ``save`` takes such a dict, or one sequence whose provenance has ``take_uid``.
Body joints are in the world, hands in the frame of the head camera's landscape sensor (``camera:aria``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import atomic_write
from egopose.io.ego_exo4d_files import read_body_file, read_hand_file
from egopose.io.fields import float32, has_keys, looks_like_json
from egopose.io.provenance import source
from egopose.io.registry import reader, writer
from egopose.io.rigs import names_of
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17, HAND21, HANDS42, Skeleton
from egopose.takes import SIDES, BodyTake, HandTake

HAND_SPACE = "camera:aria"
Poses = dict[str, PoseSequence]


def _sequence(
    frames: NDArray[np.int64],
    xyz: NDArray[np.float64],
    skeleton: Skeleton,
    space: str,
    fps: float,
    origin: dict[str, Any],
) -> PoseSequence:
    order = np.argsort(frames, kind="stable")
    return PoseSequence(
        skeleton=skeleton,
        frames=frames[order],
        times_s=frames[order] / fps,
        xyz=float32(xyz[order]),
        space=space,
        provenance=origin,
    )


def _pick(takes: Mapping[str, Any], take: str | None, path: Path) -> Mapping[str, Any]:
    """All takes, or the one with that uid or name."""
    if not takes:
        raise EgoposeError(f"{path}: no take in it; nothing to read")
    if take is None:
        return takes
    hits = {
        uid: t for uid, t in takes.items() if take in (uid, t.take_name, (t.take_name or "").removeprefix("takes/"))
    }
    if len(hits) != 1:
        found = "no take" if not hits else f"{len(hits)} takes"
        raise EgoposeError(f"{path}: {found} with the uid or name {take!r}; it has: {names_of(takes, 4)}")
    return hits


def _result(poses: Poses, take: str | None) -> Poses | PoseSequence:
    return poses if take is None else next(iter(poses.values()))


def _check_fps(fps: float) -> None:
    if not (np.isfinite(fps) and fps > 0):
        raise EgoposeError(f"fps is {fps}; expected a positive number")


@reader(
    "ego-exo4d-body",
    kinds=("dict", "PoseSequence"),
    suffixes=(".json",),
    looks_for="takes with take_name and body",
    description="Ego-Exo4D body submission or ground truth: many takes, world",
    sniff=lambda path, head: looks_like_json(head) and has_keys(head, "body") and not has_keys(head, "annotation3D"),
)
def read_body(path: Path, *, take: str | None = None, fps: float = 30.0) -> Poses | PoseSequence:
    """Read a body file.

    Args:
        path: ``{uid: {"take_name", "body": {frame: 17 x 3}}}``.
        take: Uid or name of the only take wanted.
        fps: Rate of the frame numbers, for times.

    Returns:
        Take uid to pose sequence, or one pose sequence when ``take`` is given.

    Raises:
        EgoposeError: Not such a file, a frame that is not 17 x 3 numbers, no such take.
    """
    _check_fps(fps)
    takes: Mapping[str, BodyTake] = _pick(read_body_file(path), take, path)
    poses = {}
    for uid, entry in takes.items():
        for frame, what in entry.defects.items():
            raise EgoposeError(f"{path}: take {uid}, frame {frame}: {what}; expected {BODY17.n_joints}x3 numbers")
        _check_frames(entry.frames, f"{path}: take {uid}")
        origin = source(path, "ego-exo4d-body", take_uid=uid, take_name=entry.take_name)
        poses[uid] = _sequence(entry.frames, entry.xyz, BODY17, "world", fps, origin)
    return _result(poses, take)


def _check_frames(frames: NDArray[np.int64], where: str) -> None:
    values, counts = np.unique(frames, return_counts=True)
    if (counts > 1).any():
        raise EgoposeError(f"{where}: frame {values[counts > 1][0]} stands twice")


@reader(
    "ego-exo4d-hand",
    kinds=("dict", "PoseSequence"),
    suffixes=(".json",),
    looks_for="left_hand_3d or right_hand_3d under frame numbers",
    description="Ego-Exo4D hand submission or ground truth: many takes, head camera",
    sniff=lambda path, head: (
        looks_like_json(head)
        and (has_keys(head, "left_hand_3d") or has_keys(head, "right_hand_3d") or has_keys(head, "right_hand_bbox"))
    ),
)
def read_hand(
    path: Path, *, take: str | None = None, fps: float = 30.0, only_valid: bool = False
) -> Poses | PoseSequence:
    """Read a hand file.

    Args:
        path: ``{uid: {frame: {"left_hand_3d": 21 x 3 or [], "right_hand_3d": ...}}}``.
        take: Uid or name of the only take wanted.
        fps: Rate of the frame numbers, for times.
        only_valid: Joints whose ``*_valid_3d`` flag is false are missing (ground truth keeps an unconfirmed wrist).

    Returns:
        Take uid to pose sequence of both hands in ``camera:aria``, or one when ``take`` is given.

    Raises:
        EgoposeError: Not such a file, a hand that is not 21 x 3 numbers, no such take.
    """
    _check_fps(fps)
    takes: Mapping[str, HandTake] = _pick(read_hand_file(path), take, path)
    poses = {}
    for uid, entry in takes.items():
        for (frame, side), what in entry.defects.items():
            raise EgoposeError(f"{path}: take {uid}, frame {frame}, {side} hand: {what}; expected 21x3 numbers or []")
        _check_frames(entry.frames, f"{path}: take {uid}")
        xyz = np.full((entry.frames.size, HANDS42.n_joints, 3), np.nan)
        for s, side in enumerate(SIDES):
            points = entry.xyz[:, s]
            if only_valid:
                points = np.where(entry.valid[:, s, :, None], points, np.nan)
            xyz[:, HANDS42.indices([f"{side}_hand_{joint}" for joint in HAND21.joints])] = points
        origin = source(path, "ego-exo4d-hand", take_uid=uid, take_name=entry.take_name)
        poses[uid] = _sequence(entry.frames, xyz, HANDS42, HAND_SPACE, fps, origin)
    return _result(poses, take)


def _takes_of(obj: Any, path: Path) -> Poses:
    """A dict of takes from what is to be written."""
    if isinstance(obj, PoseSequence):
        uid = obj.provenance.get("take_uid")
        if not isinstance(uid, str) or not uid:
            raise EgoposeError(
                f"{path}: the sequence does not say its take (provenance take_uid); write {{uid: sequence}}"
            )
        return {uid: obj}
    for uid, pose in obj.items():
        if not isinstance(uid, str) or not isinstance(pose, PoseSequence):
            raise EgoposeError(f"{path}: {uid!r} is a {type(pose).__name__}; expected take uid to PoseSequence")
    if not obj:
        raise EgoposeError(f"{path}: no take to write")
    return dict(obj)


def _rows(points: NDArray[np.float32]) -> list[list[float]]:
    """Numbers with the shortest text that reads back to the same float32."""
    return [[float(str(value)) for value in row] for row in points]


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path, "w") as stream:
        # bare NaN where it was asked for: the field's own files have it
        json.dump(content, stream, allow_nan=True, separators=(",", ":"))


def _check_missing(missing: str) -> None:
    if missing not in ("error", "nan"):
        raise EgoposeError(f"missing is {missing!r}; expected 'error' or 'nan'")


def _only(
    pose: PoseSequence, skeleton: Skeleton, where: str, in_space: Callable[[str], bool], wanted: str
) -> PoseSequence:
    if not in_space(pose.space):
        raise EgoposeError(f"{where}: joints are in {pose.space!r}; this file wants them in {wanted}")
    absent = [joint for joint in skeleton.joints if joint not in pose.skeleton.joints]
    if absent:
        raise EgoposeError(
            f"{where}: skeleton {pose.skeleton.name!r} has {pose.n_joints} joints and lacks {names_of(absent, 5)}; "
            f"this file wants the {skeleton.n_joints} joints of {skeleton.name!r}"
        )
    return pose.to_skeleton(skeleton)


@writer("ego-exo4d-body", kinds=("PoseSequence", "dict"), suffixes=(".json",), description="Ego-Exo4D body submission")
def write_body(obj: Any, path: Path, *, take_names: Mapping[str, Any] | None = None, missing: str = "error") -> None:
    """Write a body submission.

    Args:
        obj: Take uid to pose sequence in the world, or one sequence with ``take_uid`` in its provenance.
        path: The file.
        take_names: Take uid to name; by default ``take_name`` of the provenance. The evaluator needs it.
        missing: A joint that is not known is an "error" (the official score would become NaN), or is written as
            "nan" (for ground truth).

    Raises:
        EgoposeError: Another space, missing joints, no take name.
    """
    path = Path(path)
    _check_missing(missing)
    content: dict[str, Any] = {}
    for uid, pose in _takes_of(obj, path).items():
        where = f"{path}: take {uid}"
        body = _only(pose, BODY17, where, lambda space: space == "world", "'world'")
        name = (take_names or {}).get(uid) or pose.provenance.get("take_name")
        if not isinstance(name, str) or not name:
            raise EgoposeError(f"{where}: has no take_name (give take_names={{uid: name}}); the evaluator needs it")
        if missing == "error" and not body.valid.all():
            t, j = np.argwhere(~body.valid)[0]
            raise EgoposeError(
                f"{where}: {int((~body.valid).sum())} joints are missing, the first is {BODY17.joints[j]} in frame "
                f"{body.frames[t]}; fill them, or give missing='nan'"
            )
        rows = {str(frame): _rows(points) for frame, points in zip(body.frames.tolist(), body.xyz)}
        content[uid] = {"take_name": name, "body": rows}
    _write(path, content)


@writer("ego-exo4d-hand", kinds=("PoseSequence", "dict"), suffixes=(".json",), description="Ego-Exo4D hand submission")
def write_hand(obj: Any, path: Path, *, missing: str = "error") -> None:
    """Write a hand submission; a hand without any joint is an empty list.

    Args:
        obj: Take uid to pose sequence with both hands in a camera's frame, or one with ``take_uid`` in its provenance.
        path: The file.
        missing: A hand that is known in part is an "error", or its missing joints are written as "nan".

    Raises:
        EgoposeError: Another space, another skeleton, hands known in part.
    """
    path = Path(path)
    _check_missing(missing)
    content: dict[str, Any] = {}
    for uid, pose in _takes_of(obj, path).items():
        where = f"{path}: take {uid}"
        hands = _only(pose, HANDS42, where, lambda space: space.startswith("camera:"), "the head camera's frame")
        frames: dict[str, dict[str, Any]] = {str(frame): {} for frame in hands.frames.tolist()}
        for side in SIDES:
            columns = HANDS42.indices([f"{side}_hand_{joint}" for joint in HAND21.joints])
            points, known = hands.xyz[:, columns], hands.valid[:, columns]
            some = [bool(row.any()) for row in known]
            partly = np.flatnonzero(known.any(axis=1) & ~known.all(axis=1))
            if missing == "error" and partly.size:
                raise EgoposeError(
                    f"{where}: frame {hands.frames[partly[0]]}: the {side} hand has {int(known[partly[0]].sum())} of "
                    f"{HAND21.n_joints} joints ({partly.size} such frames); fill them, or give missing='nan'"
                )
            for frame, rows, any_known in zip(frames.values(), points, some):
                frame[f"{side}_hand_3d"] = _rows(rows) if any_known else []
        content[uid] = frames
    _write(path, content)
