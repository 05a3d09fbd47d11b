"""Ego-Exo4D body and hand annotation files: one take, ``{frame: [{annotation3D, annotation2D}]}``.

Frame keys come unsorted, lists may be empty, a missing joint's key is absent, coordinates may be bare ``NaN``: all
of that is normal. 3D is in the recording's world (metres, z up); 2D is in the pixels of *undistorted* images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egopose.errors import EgoposeError
from egopose.files import read_json
from egopose.io.fields import float32, has_keys, looks_like_json, mapping, numbers, sequence
from egopose.io.provenance import source
from egopose.io.registry import note, reader
from egopose.observations import Observations2D
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import BODY17, HAND21, HANDS42, Skeleton

HAND_NAMES = {f"{side}_{joint}": f"{side}_hand_{joint}" for side in ("left", "right") for joint in HAND21.joints}
BODY_NAMES = {joint.replace("_", "-"): joint for joint in BODY17.joints} | {joint: joint for joint in BODY17.joints}
Joints = Mapping[str, Mapping[str, Any]]


def pick_kind(names: Iterable[str], kind: str | None, where: str) -> tuple[Skeleton, dict[str, str]]:
    """Body or hand from the joint names, and the map from file names to ours.

    Raises:
        EgoposeError: A joint belongs to neither, or the kind is unknown.
    """
    found = set(names)
    tables = {"body": (BODY17, BODY_NAMES), "hand": (HANDS42, HAND_NAMES)}
    if kind is None:
        # left_wrist alone fits both; the body writes left-wrist
        kind = "hand" if found <= set(HAND_NAMES) else "body"
        if not found <= set(tables[kind][1]):
            unknown = sorted(found - set(BODY_NAMES) - set(HAND_NAMES)) or sorted(found - set(BODY_NAMES))
            raise EgoposeError(f"{where}: joint {unknown[0]!r} is no body joint and no hand joint of Ego-Exo4D")
    if kind not in tables:
        raise EgoposeError(f"kind is {kind!r}; expected 'body' or 'hand'")
    skeleton, table = tables[kind]
    strange = sorted(found - set(table))
    if strange:
        raise EgoposeError(f"{where}: joint {strange[0]!r} is no {kind} joint of Ego-Exo4D")
    return skeleton, table


def _entries(content: Any, path: Path) -> dict[int, Mapping[str, Any]]:
    """The annotation of each frame, sorted by frame; an empty list is an annotation without joints."""
    result: dict[int, Mapping[str, Any]] = {}
    crowded = 0
    for name, value in mapping(content, str(path)).items():
        where = f"{path}: frame {name}"
        if not re.fullmatch(r"\d{1,12}", name):
            if name == "metadata":
                continue
            raise EgoposeError(f"{path}: key {name!r}; expected frame numbers")
        people = [mapping(person, where) for person in sequence(value, where)]
        crowded += len(people) > 1
        if int(name) in result:
            raise EgoposeError(f"{where}: the frame stands twice, as numbers with and without leading zeros")
        result[int(name)] = people[0] if people else {}
    if crowded:
        note(f"{path}: {crowded} frames hold several people; the first was taken")
    if not result:
        raise EgoposeError(f"{path}: no frame in it; nothing to read")
    return dict(sorted(result.items()))


def _joints(entry: Mapping[str, Any], name: str, where: str) -> Joints:
    value = entry.get(name) or {}
    return {joint: mapping(point, f"{where}: {joint}") for joint, point in mapping(value, f"{where}: {name}").items()}


def _coordinates(point: Mapping[str, Any], axes: str, where: str) -> np.ndarray:
    values = [point.get(axis) for axis in axes]
    return numbers([np.nan if value is None else value for value in values], where, (len(axes),), finite=False)


def _read_3d(
    entries: dict[int, Mapping[str, Any]], path: Path, kind: str | None, fps: float, min_views: int
) -> PoseSequence:
    per_frame = {f: _joints(entry, "annotation3D", f"{path}: frame {f}") for f, entry in entries.items()}
    skeleton, names = pick_kind((n for joints in per_frame.values() for n in joints), kind, str(path))
    xyz = np.full((len(per_frame), skeleton.n_joints, 3), np.nan)
    views = np.full(xyz.shape[:2], np.nan)
    for t, (frame, joints) in enumerate(per_frame.items()):
        for name, point in joints.items():
            where = f"{path}: frame {frame}, {name}"
            j = skeleton.index(names[name])
            xyz[t, j] = _coordinates(point, "xyz", where)
            count = point.get("num_views_for_3d")
            if count is not None:
                views[t, j] = float(numbers(count, f"{where}: num_views_for_3d", (), finite=False))
    if min_views > 0:
        xyz[~(views >= min_views)] = np.nan
    xyz = float32(xyz)
    known = np.isfinite(xyz).all(axis=-1)
    status = np.where(known, np.where(views <= 2, JointStatus.TWO_VIEWS, JointStatus.OK), JointStatus.MISSING)
    frames = np.array(list(per_frame), dtype=np.int64)
    return PoseSequence(
        skeleton=skeleton,
        frames=frames,
        times_s=frames / fps,
        xyz=xyz,
        status=status.astype(np.uint8),
        space="world",
        provenance=source(path, "ego-exo4d-annotation", take_uid=path.stem, min_views=min_views),
    )


def _read_2d(
    entries: dict[int, Mapping[str, Any]],
    path: Path,
    kind: str | None,
    fps: float,
    manual_only: bool,
    auto_score: float,
) -> Observations2D:
    flat: list[tuple[str, int, str, Mapping[str, Any]]] = []
    for t, (frame, entry) in enumerate(entries.items()):
        where = f"{path}: frame {frame}"
        for view, value in mapping(entry.get("annotation2D") or {}, f"{where}: annotation2D").items():
            joints = _joints({"annotation2D": value}, "annotation2D", f"{where}, {view}")
            flat += [(view, t, joint, point) for joint, point in joints.items()]
    skeleton, names = pick_kind((joint for _, _, joint, _ in flat), kind, str(path))
    views = sorted({view for view, *_ in flat})
    frames = np.array(list(entries), dtype=np.int64)
    uv = np.full((len(views), frames.size, skeleton.n_joints, 2), np.nan)
    score = np.zeros(uv.shape[:3])
    row = {view: v for v, view in enumerate(views)}
    for view, t, joint, point in flat:
        placement = point.get("placement")
        if manual_only and placement != "manual":
            continue
        j = skeleton.index(names[joint])
        uv[row[view], t, j] = _coordinates(point, "xy", f"{path}: frame {frames[t]}, {view}, {joint}")
        score[row[view], t, j] = auto_score if placement == "auto" else 1.0
    score[~np.isfinite(uv).all(axis=-1)] = 0
    return Observations2D(
        skeleton=skeleton,
        views=tuple(views),
        frames=frames,
        uv_px=float32(uv),
        score=float32(score),
        fps=fps,
        undistorted=True,
        provenance=source(path, "ego-exo4d-annotation", take_uid=path.stem, manual_only=manual_only),
    )


@reader(
    "ego-exo4d-annotation",
    kinds=("PoseSequence", "Observations2D"),
    suffixes=(".json",),
    looks_for="annotation3D or annotation2D under frame numbers",
    description="Ego-Exo4D body and hand annotation: part=3d (world), part=2d (undistorted pixels)",
    sniff=lambda path, head: (
        looks_like_json(head) and (has_keys(head, "annotation3D") or has_keys(head, "annotation2D"))
    ),
)
def read(
    path: Path,
    *,
    part: str = "3d",
    kind: str | None = None,
    fps: float = 30.0,
    min_views: int = 0,
    manual_only: bool = False,
    auto_score: float = 0.5,
) -> PoseSequence | Observations2D:
    """Read one take's annotation.

    Args:
        path: ``<take_uid>.json`` of an ``annotation`` or ``automatic`` folder.
        part: "3d" or "2d".
        kind: "body" or "hand"; the joint names decide by default.
        fps: Rate of the frame numbers, for times.
        min_views: 3D joints from fewer views are missing (the hand protocol uses 3 for manual annotation).
        manual_only: 2D points that were not clicked by an annotator ("auto" points are reprojections) are left out.
        auto_score: Score of the "auto" 2D points; clicked ones have 1.

    Returns:
        A pose sequence of 17 body joints or both hands in the world, or keypoints with ``undistorted=True``.

    Raises:
        EgoposeError: Not such a file, unknown joints, coordinates that are no numbers.
    """
    path = Path(path)
    if not (np.isfinite(fps) and fps > 0):
        raise EgoposeError(f"fps is {fps}; expected a positive number")
    if not 0 <= auto_score <= 1:
        raise EgoposeError(f"auto_score is {auto_score}; expected 0 to 1")
    if part not in ("3d", "2d"):
        raise EgoposeError(f"part is {part!r}; expected '3d' or '2d'")
    entries = _entries(read_json(path), path)
    if part == "3d":
        return _read_3d(entries, path, kind, fps, min_views)
    return _read_2d(entries, path, kind, fps, manual_only, auto_score)
