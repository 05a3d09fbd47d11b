"""Ego-Exo4D cameras: ``gopro_calibs.csv`` (raw images) and the ``camera_pose`` JSON (undistorted images).

The two describe the same exo cameras in different pixels. ``gopro_calibs.csv`` holds the raw Kannala-Brandt
calibration. The ``camera_pose`` file holds the intrinsics of the *undistorted* images, in which all released 2D
annotations live, next to the *raw* distortion: applying that distortion with those intrinsics is wrong, so it is
not read. Extrinsics are world to camera; the csv has camera to world.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egopose import rigid
from egopose.camera import Rig
from egopose.errors import EgoposeError
from egopose.files import read_json
from egopose.io.fields import (
    Size,
    Table,
    given_size,
    has_keys,
    header_columns,
    looks_like_json,
    mapping,
    numbers,
    read_csv,
    whole,
)
from egopose.io.registry import note, reader
from egopose.io.rigs import CameraRecord, build_rig
from egopose.trajectory import Trajectory

_POSE = [f"{axis}_world_cam" for axis in ("tx", "ty", "tz", "qx", "qy", "qz", "qw")]
_INTRINSICS = [f"intrinsics_{i}" for i in range(8)]
GOPRO_COLUMNS = ("cam_uid", *_POSE, "image_width", "image_height", "intrinsics_type", *_INTRINSICS)
GOOD = 1


def quaternion_rotation(xyzw: Any, where: str) -> np.ndarray:
    """A rotation matrix from a unit quaternion that is checked first.

    Raises:
        EgoposeError: Not finite or not of length 1 within 1e-3.
    """
    q = numbers(xyzw, f"{where}: quaternion", (4,))
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(q))
    if abs(length - 1) > 1e-3:
        raise EgoposeError(f"{where}: the quaternion has length {length:.4g}; expected 1 (order x, y, z, w)")
    return rigid.quaternion_to_matrix(q)


def _rows_at(table: Table, frame: int | None) -> list[int]:
    """Rows valid at a frame (or for the whole recording); one per camera."""
    names = table.text("cam_uid")
    spans = [("start_frame_idx", -1), ("end_frame_idx", -1)]
    start, end = (
        table.integers(name) if name in table else np.full(table.n_rows, default, dtype=np.int64)
        for name, default in spans
    )
    chosen: dict[str, int] = {}
    for row, name in enumerate(names):
        whole_video = start[row] < 0 or end[row] < 0
        if frame is not None and not whole_video and not start[row] <= frame <= end[row]:
            continue
        if name in chosen:
            raise EgoposeError(
                f"{table.path}: camera {name!r} has several calibrations (row {chosen[name] + 2}: frames "
                f"{start[chosen[name]]} to {end[chosen[name]]}, row {row + 2}: {start[row]} to {end[row]}); give frame="
            )
        chosen[name] = row
    return list(chosen.values())


@reader(
    "ego-exo4d-gopro-calibs",
    kinds=("Rig",),
    suffixes=(".csv",),
    looks_for="the columns cam_uid, tx_world_cam and intrinsics_0",
    description="Ego-Exo4D gopro_calibs.csv: the raw exo cameras",
    sniff=lambda path, head: {"cam_uid", "tx_world_cam", "intrinsics_0"} <= header_columns(head),
)
def read_gopro_calibs(path: Path, *, min_quality: int = GOOD, frame: int | None = None) -> Rig:
    """Read ``gopro_calibs.csv``.

    Args:
        path: The file.
        min_quality: Cameras below it are left out and named (1 good, 0 bad, -1 unknown).
        frame: Frame of the recording, where a camera has several calibrations.

    Raises:
        EgoposeError: Missing columns, another camera model, NaN, no camera left.
    """
    table = read_csv(path, GOPRO_COLUMNS, what="gopro_calibs.csv")
    rows = _rows_at(table, frame)
    quality = table.integers("quality") if "quality" in table else np.full(table.n_rows, GOOD, dtype=np.int64)
    dropped = [table.text("cam_uid")[row] for row in rows if quality[row] < min_quality]
    kept = [row for row in rows if quality[row] >= min_quality]
    if dropped:
        note(
            f"{path}: left out {', '.join(dropped)}: calibration quality below {min_quality} "
            "(give min_quality=-1 to keep them)"
        )
    if not kept:
        raise EgoposeError(f"{path}: no camera of quality {min_quality} or better; give min_quality=-1 to read all")
    pose, intrinsics = table.xyz(_POSE), table.xyz(_INTRINSICS)
    size = table.xyz(["image_width", "image_height"])
    records = []
    for row in kept:
        name = table.text("cam_uid")[row]
        where = f"{path}: row {row + 2}, camera {name!r}"
        kind = table.text("intrinsics_type")[row].strip()
        if kind != "KANNALABRANDTK3":
            raise EgoposeError(f"{where}: camera model {kind!r}; expected 'KANNALABRANDTK3'")
        T_world_camera = rigid.make_transform(quaternion_rotation(pose[row, 3:], where), numbers(pose[row, :3], where))
        T_camera_world = rigid.invert(T_world_camera)
        fx, fy, cx, cy, *distortion = numbers(intrinsics[row], f"{where}: intrinsics")
        records.append(
            CameraRecord(
                name=name,
                size=given_size(size[row], where),
                K=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
                distortion=np.array(distortion),
                fisheye=True,
                R_camera_world=T_camera_world[:3, :3],
                t_camera_world=T_camera_world[:3, 3],
                where=where,
            )
        )
    return build_rig(records, str(path))


def _is_pose_entry(value: Any) -> bool:
    return isinstance(value, Mapping) and "camera_intrinsics" in value and "camera_extrinsics" in value


def _sniff_camera_pose(path: Path, head: bytes) -> bool:
    return looks_like_json(head) and (has_keys(head, "camera_extrinsics") or has_keys(head, "camera_intrinsics"))


@reader(
    "ego-exo4d-camera-pose",
    kinds=("Rig", "Trajectory"),
    suffixes=(".json",),
    looks_for="camera_intrinsics and camera_extrinsics per camera",
    description="Ego-Exo4D camera_pose: undistorted exo cameras (part=rig), the wearer's path (part=trajectory)",
    sniff=_sniff_camera_pose,
)
def read_camera_pose(
    path: Path, *, part: str = "rig", camera: str | None = None, fps: float = 30.0, size: Any = None
) -> Rig | Trajectory:
    """Read a ``camera_pose`` file.

    Args:
        path: The JSON file.
        part: "rig" the static exo cameras, "trajectory" the head camera's poses, "ego_camera" a rig with the head
            camera's intrinsics at the identity pose.
        camera: Name of the head camera; the first key with "aria" by default.
        fps: Rate of the frame numbers, for the times of the trajectory.
        size: (width, height) of the exo images, when it is not twice the principal point.

    Returns:
        A rig of undistorted pinhole cameras, or the trajectory ``T_world_camera`` of the landscape sensor frame;
        frames that the file leaves out stay gaps.

    Raises:
        EgoposeError: The part is not there, or holds NaN, bad rotations or wrong shapes.
    """
    if part not in ("rig", "trajectory", "ego_camera"):
        raise EgoposeError(f"part is {part!r}; expected 'rig', 'trajectory' or 'ego_camera'")
    content = mapping(read_json(path), str(path))
    entries = {name: entry for name, entry in content.items() if _is_pose_entry(entry)}
    if not entries:
        have = ", ".join(list(content)[:8]) or "nothing"
        raise EgoposeError(f"{path}: no camera with camera_intrinsics and camera_extrinsics; it has: {have}")
    wanted = None if size is None else given_size(size, str(path))
    if part == "rig":
        static = {n: e for n, e in entries.items() if not isinstance(e["camera_extrinsics"], Mapping)}
        if not static:
            raise EgoposeError(f"{path}: no static camera, only {', '.join(entries)}; give part='trajectory'")
        records = [_undistorted(name, entry, f"{path}: {name}", wanted) for name, entry in static.items()]
        return build_rig(records, str(path))
    name = camera or next((n for n in entries if "aria" in n), None)
    if name is None or name not in entries:
        raise EgoposeError(f"{path}: no head camera {name or 'with aria in its name'!r}; it has: {', '.join(entries)}")
    if part == "ego_camera":
        record = _undistorted(
            name, {**entries[name], "camera_extrinsics": np.eye(3, 4).tolist()}, f"{path}: {name}", wanted
        )
        return build_rig([record], str(path))
    return _trajectory(entries[name]["camera_extrinsics"], f"{path}: {name}", fps)


def _undistorted(name: str, entry: Mapping[str, Any], where: str, size: Size | None) -> CameraRecord:
    K = numbers(entry["camera_intrinsics"], f"{where}: camera_intrinsics", (3, 3))
    pose = numbers(entry["camera_extrinsics"], f"{where}: camera_extrinsics", (3, 4))
    if size is None:
        # exo principal points are forced to W / 2, the ego one to (W - 1) / 2; images have even sizes
        # given_size refuses what overflows
        with np.errstate(over="ignore", invalid="ignore"):
            twice = np.round(2 * K[:2, 2])
            twice += twice % 2
        size = given_size(twice, f"{where}: twice the principal point")
    return CameraRecord(
        name=name,
        size=size,
        K=K,
        distortion=np.zeros(0),
        R_camera_world=pose[:, :3],
        t_camera_world=pose[:, 3],
        image_space="undistorted",
        where=where,
    )


def _trajectory(extrinsics: Any, where: str, fps: float) -> Trajectory:
    if not (np.isfinite(fps) and fps > 0):
        raise EgoposeError(f"fps is {fps}; expected a positive number")
    table = mapping(extrinsics, f"{where}: camera_extrinsics")
    if not table:
        raise EgoposeError(f"{where}: no frame in camera_extrinsics; the head camera has no poses")
    wrong = next((frame for frame in table if not re.fullmatch(r"\d{1,12}", str(frame))), None)
    if wrong is not None:
        raise EgoposeError(f"{where}: camera_extrinsics has the key {wrong!r}; expected frame numbers")
    frames = np.array([whole(frame, where) for frame in table], dtype=np.int64)
    order = np.argsort(frames)
    poses = np.stack([numbers(pose, f"{where}: frame {frame}", (3, 4)) for frame, pose in table.items()])
    T_camera_world = rigid.check_transform(poses[order], where, tolerance=1e-3)
    if (np.diff(frames[order]) == 0).any():
        raise EgoposeError(f"{where}: a frame number stands twice in camera_extrinsics")
    return Trajectory(frames[order] / fps, rigid.invert(T_camera_world))


def read_ego_poses(path: Path, *, camera: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Frame numbers (T,) int64 and ``T_world_camera`` (T, 4, 4) of the head camera in a ``camera_pose`` file."""
    trajectory = read_camera_pose(path, part="trajectory", camera=camera, fps=1.0)
    assert isinstance(trajectory, Trajectory)
    return np.round(trajectory.times_s).astype(np.int64), np.asarray(trajectory.T_world_camera)
