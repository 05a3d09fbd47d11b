"""Ego-Exo4D body and hand annotation files: one take, ``{frame: [{annotation3D, annotation2D}]}``.

Frame keys come unsorted, lists may be empty, a missing joint's key is absent, coordinates may be bare ``NaN``: all
of that is normal. 3D is in the recording's world (metres, z up); 2D is in the pixels of *undistorted* images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.io.ego_exo4d_annotation_arrays import AUTO, MANUAL, AnnotationArrays, read_annotation_arrays
from egopose.io.fields import float32, has_keys, looks_like_json
from egopose.io.provenance import source
from egopose.io.registry import note, reader
from egopose.observations import Observations2D
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import BODY17, HAND21, HANDS42, Skeleton

HAND_NAMES = {f"{side}_{joint}": f"{side}_hand_{joint}" for side in ("left", "right") for joint in HAND21.joints}
BODY_NAMES = {joint.replace("_", "-"): joint for joint in BODY17.joints} | {joint: joint for joint in BODY17.joints}


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


def _columns(arrays_joints: tuple[str, ...], skeleton: Skeleton, names: Mapping[str, str]) -> NDArray[np.int64]:
    """Our joint of each joint of the file."""
    return np.array([skeleton.index(names[joint]) for joint in arrays_joints], dtype=np.int64)


def _read_3d(arrays: AnnotationArrays, path: Path, kind: str | None, fps: float, min_views: int) -> PoseSequence:
    skeleton, names = pick_kind(arrays.joints, kind, str(path))
    columns = _columns(arrays.joints, skeleton, names)
    xyz = np.full((arrays.frames.size, skeleton.n_joints, 3), np.nan)
    views = np.full(xyz.shape[:2], np.nan)
    xyz[:, columns], views[:, columns] = arrays.xyz, arrays.num_views
    if min_views > 0:
        xyz[~(views >= min_views)] = np.nan
    stored = float32(xyz)
    known = np.isfinite(stored).all(axis=-1)
    status = np.where(known, np.where(views <= 2, JointStatus.TWO_VIEWS, JointStatus.OK), JointStatus.MISSING)
    return PoseSequence(
        skeleton=skeleton,
        frames=arrays.frames,
        times_s=arrays.frames / fps,
        xyz=stored,
        status=status.astype(np.uint8),
        space="world",
        provenance=source(path, "ego-exo4d-annotation", take_uid=path.stem, min_views=min_views),
    )


def _read_2d(
    arrays: AnnotationArrays, path: Path, kind: str | None, fps: float, manual_only: bool, auto_score: float
) -> Observations2D:
    skeleton, names = pick_kind(arrays.joints2d, kind, str(path))
    columns = _columns(arrays.joints2d, skeleton, names)
    uv = np.full((len(arrays.views), arrays.frames.size, skeleton.n_joints, 2), np.nan)
    score = np.zeros(uv.shape[:3])
    uv[:, :, columns] = arrays.uv_px
    score[:, :, columns] = np.where(arrays.placement == AUTO, auto_score, 1.0)
    if manual_only:
        clicked = np.zeros(score.shape, dtype=np.bool_)
        clicked[:, :, columns] = arrays.placement == MANUAL
        uv[~clicked] = np.nan
    score[~np.isfinite(uv).all(axis=-1)] = 0
    return Observations2D(
        skeleton=skeleton,
        views=arrays.views,
        frames=arrays.frames,
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
    arrays = read_annotation_arrays(path)
    if arrays.crowded:
        note(f"{path}: {arrays.crowded} frames hold several people; the first was taken")
    if part == "3d":
        return _read_3d(arrays, path, kind, fps, min_views)
    return _read_2d(arrays, path, kind, fps, manual_only, auto_score)
