"""Poses and keypoints as long tables, one row per joint; shared by CSV and Parquet.

Poses: ``frame, time_s, joint, x_m, y_m, z_m, status`` and, where known, ``sigma_m`` and ``cov_xx .. cov_zz``.
Keypoints: ``view, frame, joint, u_px, v_px`` and, where known, ``score``. An empty cell is a missing value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.io.fields import float32
from egopose.io.registry import note
from egopose.observations import Observations2D
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import (
    BLAZEPOSE33,
    BODY17,
    BODY17_HANDS,
    BODY25B,
    COCO_WHOLEBODY133,
    HALPE26,
    HOLISTIC75,
    SKELETONS,
    Skeleton,
    get_skeleton,
    point_skeleton,
)

POSE_COLUMNS = ("frame", "joint", "x_m", "y_m", "z_m")
KEYPOINT_COLUMNS = ("view", "frame", "joint", "u_px", "v_px")
_COVARIANCE = {"xx": (0, 0), "xy": (0, 1), "xz": (0, 2), "yy": (1, 1), "yz": (1, 2), "zz": (2, 2)}
_LARGER = (BODY17, BODY17_HANDS, BODY25B, HALPE26, COCO_WHOLEBODY133, BLAZEPOSE33, HOLISTIC75)
MAX_CELLS = 1 << 28

Columns = dict[str, NDArray[Any]]


def skeleton_for(joints: Sequence[str], wanted: str | Skeleton | None = None) -> Skeleton:
    """The skeleton of some joint names: the known one with these joints, part of a known one, or loose points.

    Args:
        joints: Names in order of appearance.
        wanted: A skeleton chosen by the user; it must hold all the names.

    Raises:
        EgoposeError: The wanted skeleton lacks a joint.
    """
    if wanted is not None:
        skeleton = get_skeleton(wanted) if isinstance(wanted, str) else wanted
        skeleton.indices(joints)
        return skeleton
    names = set(joints)
    for known in SKELETONS.values():
        if known.joints == tuple(joints):
            return known
    for known in SKELETONS.values():
        if set(known.joints) == names:
            return known
    for known in _LARGER:
        if names <= set(known.joints):
            return known.subset(list(joints))
    for known in _LARGER:
        strange = names - set(known.joints)
        if 10 * len(strange) < len(names):
            note(
                f"joint names {', '.join(sorted(strange)[:3])} are not of {known.name}, the other "
                f"{len(names) - len(strange)} are; all become loose points without bones or sides, check the names"
            )
            break
    return point_skeleton(joints)


def _codes(values: NDArray[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """Distinct texts in order of appearance, and each row's number among them."""
    order: dict[str, int] = {}
    codes = np.fromiter((order.setdefault(str(v), len(order)) for v in values), dtype=np.int64, count=len(values))
    return list(order), codes


def _check_cells(count: int, rows: int, where: str) -> None:
    if count > MAX_CELLS or count > 1000 * max(rows, 1000):
        raise EgoposeError(
            f"{where}: {rows} rows would fill {count} cells; most frames, views and joints of a table must be there"
        )


def _once(flat: NDArray[np.int64], where: str) -> None:
    values, counts = np.unique(flat, return_counts=True)
    if (counts > 1).any():
        row = int(np.flatnonzero(flat == values[counts > 1][0])[1])
        raise EgoposeError(f"{where}: row {row + 2} repeats the frame and joint of an earlier row; remove one")


def pose_columns(pose: PoseSequence) -> Columns:
    """A pose sequence as columns, (T * J) rows, frame by frame."""
    T, J = pose.n_frames, pose.n_joints
    names = np.array([status.name.lower() for status in JointStatus], dtype=object)
    columns: Columns = {
        "frame": np.repeat(pose.frames, J),
        "time_s": np.repeat(pose.times_s, J),
        "joint": np.tile(np.array(pose.skeleton.joints, dtype=object), T),
        **{f"{axis}_m": pose.xyz[..., i].ravel() for i, axis in enumerate("xyz")},
        "status": names[np.asarray(pose.status).ravel()],
    }
    if pose.sigma is not None:
        columns["sigma_m"] = pose.sigma.ravel()
    if pose.covariance is not None:
        for name, (a, b) in _COVARIANCE.items():
            columns[f"cov_{name}"] = pose.covariance[..., a, b].ravel()
    return columns


def pose_from_columns(
    columns: Mapping[str, NDArray[Any]],
    where: str,
    *,
    fps: float | None = None,
    space: str = "world",
    skeleton: str | Skeleton | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> PoseSequence:
    """The inverse of :func:`pose_columns`; rows may come in any order and may be absent.

    Args:
        columns: The table.
        where: Named in messages.
        fps: Frame rate, when there is no ``time_s``.
        space: Frame of the coordinates.
        skeleton: Joint set, when it shall hold more than the names in the table.
        provenance: Stored with the result.

    Raises:
        EgoposeError: Repeated rows, unknown status, no times and no rate.
    """
    joints, joint_code = _codes(columns["joint"])
    found = skeleton_for(joints, skeleton)
    frames, t = np.unique(columns["frame"], return_inverse=True)
    shape = (frames.size, found.n_joints)
    _check_cells(shape[0] * shape[1], len(t), where)
    j = found.indices(joints)[joint_code]
    _once(t * found.n_joints + j, where)

    def scatter(values: Any, trailing: tuple[int, ...] = ()) -> NDArray[np.float32]:
        dense = np.full((*shape, *trailing), np.nan)
        dense[t, j] = values
        return float32(dense)

    if "time_s" in columns:
        times = np.full(frames.size, np.nan)
        times[t] = columns["time_s"]
    elif fps is None:
        raise EgoposeError(f"{where}: has no column 'time_s'; give fps=")
    elif not (np.isfinite(fps) and fps > 0):
        raise EgoposeError(f"fps is {fps}; expected a positive number")
    else:
        times = frames / fps
    status = None
    if "status" in columns:
        known = {s.name.lower(): int(s) for s in JointStatus}
        texts, code = _codes(columns["status"])
        wrong = [text for text in texts if text not in known]
        if wrong:
            raise EgoposeError(f"{where}: status {wrong[0]!r} is unknown; known: {', '.join(known)}")
        status = np.full(shape, int(JointStatus.MISSING))
        status[t, j] = np.array([known[text] for text in texts], dtype=np.int64)[code]
    covariance = None
    if all(f"cov_{name}" in columns for name in _COVARIANCE):
        values = np.empty((len(t), 3, 3))
        for name, (a, b) in _COVARIANCE.items():
            values[:, a, b] = values[:, b, a] = columns[f"cov_{name}"]
        covariance = scatter(values, (3, 3))
    xyz = scatter(np.stack([np.asarray(columns[f"{axis}_m"], dtype=np.float64) for axis in "xyz"], -1), (3,))
    return PoseSequence(
        skeleton=found,
        frames=frames,
        times_s=times,
        xyz=xyz,
        sigma=scatter(columns["sigma_m"]) if "sigma_m" in columns else None,
        covariance=covariance,
        status=None if status is None else status.astype(np.uint8),
        space=space,
        provenance=dict(provenance or {}),
    )


def keypoint_columns(observations: Observations2D) -> Columns:
    """2D keypoints as columns, one row per view, frame and joint."""
    V, T, J = observations.n_views, observations.n_frames, observations.skeleton.n_joints
    columns: Columns = {
        "view": np.repeat(np.array(observations.views, dtype=object), T * J),
        "frame": np.tile(np.repeat(observations.frames, J), V),
        "joint": np.tile(np.array(observations.skeleton.joints, dtype=object), V * T),
        "u_px": observations.uv_px[..., 0].ravel(),
        "v_px": observations.uv_px[..., 1].ravel(),
    }
    if observations.score is not None:
        columns["score"] = observations.score.ravel()
    return columns


def keypoints_from_columns(
    columns: Mapping[str, NDArray[Any]],
    where: str,
    *,
    fps: float | None = None,
    undistorted: bool = False,
    skeleton: str | Skeleton | None = None,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Observations2D:
    """The inverse of :func:`keypoint_columns`; rows may come in any order and may be absent.

    Raises:
        EgoposeError: Repeated rows, names or values that do not fit.
    """
    joints, joint_code = _codes(columns["joint"])
    views, v = _codes(columns["view"])
    found = skeleton_for(joints, skeleton)
    frames, t = np.unique(columns["frame"], return_inverse=True)
    shape = (len(views), frames.size, found.n_joints)
    _check_cells(int(np.prod(shape, dtype=np.float64)), len(t), where)
    j = found.indices(joints)[joint_code]
    _once((v * frames.size + t) * found.n_joints + j, where)
    uv = np.full((*shape, 2), np.nan)
    uv[v, t, j, 0], uv[v, t, j, 1] = columns["u_px"], columns["v_px"]
    score: NDArray[np.float32] | None = None
    if "score" in columns:
        score = np.zeros(shape, dtype=np.float32)
        score[v, t, j] = float32(columns["score"])
    return Observations2D(
        skeleton=found,
        views=tuple(views),
        frames=frames,
        uv_px=float32(uv),
        score=score,
        fps=fps,
        undistorted=undistorted,
        sizes=tuple((sizes or {}).get(view) for view in views),
        provenance=dict(provenance or {}),
    )
