"""Project Aria machine perception files: online calibration, closed-loop trajectory, hand tracking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from egopose import rigid
from egopose.camera import Rig
from egopose.errors import EgoposeError
from egopose.files import parse_json, read_bytes
from egopose.io.ego_exo4d_cameras import quaternion_rotation
from egopose.io.fields import (
    float32,
    given_size,
    has_keys,
    header_columns,
    key,
    looks_like_json,
    mapping,
    numbers,
    read_csv,
    sequence,
    whole,
)
from egopose.io.provenance import source
from egopose.io.registry import note, reader
from egopose.io.rigs import CameraRecord, build_rig
from egopose.pose import PoseSequence
from egopose.skeleton import HAND21, HANDS42
from egopose.trajectory import Trajectory

_POSE = [f"{axis}_world_device" for axis in ("tx", "ty", "tz", "qx", "qy", "qz", "qw")]
_NAME = "FisheyeRadTanThinPrism"

LANDMARKS = (
    "thumb_4", "index_4", "middle_4", "ring_4", "pinky_4", "wrist", "thumb_2", "thumb_3", "index_1", "index_2",
    "index_3", "middle_1", "middle_2", "middle_3", "ring_1", "ring_2", "ring_3", "pinky_1", "pinky_2", "pinky_3",
)  # fmt: skip
"""Aria's hand landmarks 0 to 19 by our names; landmark 20 is the palm centre and thumb_1 is not tracked."""


def _sensor_size(table: Any, label: str, cx: float, where: str) -> tuple[int, int]:
    """The image size: stated by newer files, otherwise that of the sensor with this label."""
    stated = table.get("ImageSize") or table.get("ImageResolution")
    if stated is not None:
        return given_size(stated, f"{where}: ImageSize")
    if "rgb" in label:
        # full sensor, or binned by two as Ego-Exo4D's videos are
        return (2880, 2880) if cx > 1000 else (1408, 1408)
    if "slam" in label:
        return (640, 480)
    if "et" in label:
        return (640, 240)
    raise EgoposeError(f"{where}: no image size is stated for a camera labelled {label!r}; give size=")


@reader(
    "aria-online-calibration",
    kinds=("Rig",),
    suffixes=(".jsonl", ".json"),
    looks_for="CameraCalibrations with T_Device_Camera",
    description="Aria MPS online_calibration.jsonl: Fisheye624 cameras in the device frame",
    sniff=lambda path, head: looks_like_json(head) and has_keys(head, "CameraCalibrations"),
)
def read_online_calibration(path: Path, *, record: int = 0, time_us: int | None = None, size: Any = None) -> Rig:
    """Read one record of the calibration; the rig's world is the device frame.

    Args:
        path: JSON lines, one calibration per line.
        record: Which line, counted from 0.
        time_us: Instead of ``record``: the line whose tracking time stamp is nearest.
        size: (width, height) for every camera, where the file does not say and the label is not Aria's.

    Raises:
        EgoposeError: A bad line, no such record, another camera model.
    """
    lines = [line for line in read_bytes(path, 4 << 30).split(b"\n") if line.strip()]
    if time_us is not None:
        stamps = [
            whole(key(mapping(parse_json(line, f"{path}: line {i + 1}"), f"{path}: line {i + 1}"),
                      "tracking_timestamp_us", f"{path}: line {i + 1}"), f"{path}: line {i + 1}")
            for i, line in enumerate(lines)
        ]  # fmt: skip
        record = int(np.argmin(np.abs(np.array(stamps) - time_us))) if stamps else 0
    if not 0 <= record < len(lines):
        raise EgoposeError(f"{path}: no record {record}; there are {len(lines)}")
    where = f"{path}: line {record + 1}"
    content = mapping(parse_json(lines[record], where), where)
    wanted = None if size is None else given_size(size, where)
    records = []
    for i, entry in enumerate(sequence(key(content, "CameraCalibrations", where), f"{where}: CameraCalibrations")):
        table = mapping(entry, f"{where}: CameraCalibrations[{i}]")
        label = str(key(table, "Label", f"{where}: CameraCalibrations[{i}]"))
        at = f"{where}: {label}"
        projection = mapping(key(table, "Projection", at), f"{at}: Projection")
        if projection.get("Name") != _NAME:
            raise EgoposeError(f"{at}: camera model {projection.get('Name')!r}; expected {_NAME!r}")
        f, cx, cy, *distortion = numbers(key(projection, "Params", at), f"{at}: Params", (15,))
        pose = mapping(key(table, "T_Device_Camera", at), f"{at}: T_Device_Camera")
        quaternion = sequence(key(pose, "UnitQuaternion", at), f"{at}: UnitQuaternion")
        if len(quaternion) != 2:
            raise EgoposeError(f"{at}: UnitQuaternion is {quaternion!r}; expected [w, [x, y, z]]")
        xyzw = [*numbers(quaternion[1], f"{at}: UnitQuaternion", (3,)), float(numbers(quaternion[0], at, ()))]
        t = numbers(key(pose, "Translation", at), f"{at}: Translation", (3,))
        T_camera_device = rigid.invert(rigid.make_transform(quaternion_rotation(xyzw, at), t))
        records.append(
            CameraRecord(
                name=label,
                size=wanted or _sensor_size(table, label, cx, at),
                K=np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]]),
                distortion=np.array(distortion),
                model="fisheye624",
                R_camera_world=T_camera_device[:3, :3],
                t_camera_world=T_camera_device[:3, 3],
                where=at,
            )
        )
    return build_rig(records, str(path))


@reader(
    "aria-trajectory",
    kinds=("Trajectory",),
    suffixes=(".csv",),
    looks_for="the columns tracking_timestamp_us and tx_world_device",
    description="Aria MPS closed_loop_trajectory.csv: the wearer's path",
    sniff=lambda path, head: {"tracking_timestamp_us", "tx_world_device"} <= header_columns(head),
)
def read_trajectory(
    path: Path,
    *,
    calibration: str | Path | None = None,
    camera: str = "camera-rgb",
    T_device_camera: ArrayLike | None = None,
    start_us: int | None = None,
) -> Trajectory:
    """Read the trajectory; times are tracking time stamps in seconds.

    The file holds poses of the device. A camera sits elsewhere on the frame: give its place to get the camera's.

    Args:
        path: The csv.
        calibration: ``online_calibration.jsonl`` that says where the camera is.
        camera: Its label there.
        T_device_camera: (4, 4) instead of a calibration file.
        start_us: Time stamp that becomes 0 s; the file's own clock by default.

    Raises:
        EgoposeError: Missing columns, times that repeat or run back, bad quaternions.
    """
    table = read_csv(path, ["tracking_timestamp_us", *_POSE], what="closed_loop_trajectory.csv")
    pose = table.xyz(_POSE)
    bad = np.flatnonzero(~np.isfinite(pose).all(axis=1))
    if bad.size:
        raise EgoposeError(f"{path}: row {int(bad[0]) + 2}: the pose holds NaN; drop that row")
    with np.errstate(over="ignore"):
        length = np.linalg.norm(pose[:, 3:], axis=1)
    off = np.flatnonzero(np.abs(length - 1) > 1e-3)
    if off.size:
        row = int(off[0])
        raise EgoposeError(f"{path}: row {row + 2}: the quaternion has length {length[row]:.4g}; expected 1")
    T = rigid.make_transform(rigid.quaternion_to_matrix(pose[:, 3:]), pose[:, :3])
    stamps = table.integers("tracking_timestamp_us")
    times = (stamps - (start_us or 0)) * 1e-6
    back = np.flatnonzero(np.diff(stamps) <= 0)
    if back.size:
        raise EgoposeError(f"{path}: row {int(back[0]) + 3}: the time stamp does not increase; sort the file")
    if calibration is not None and T_device_camera is None:
        rig = read_online_calibration(Path(calibration))
        if camera not in rig.names:
            raise EgoposeError(f"{calibration}: no camera {camera!r}; it has: {', '.join(rig.names)}")
        T_device_camera = rig.cameras[rig.names.index(camera)].T_world_camera
    if T_device_camera is None:
        note(f"{path}: these are poses of the device, not of a camera; give calibration= or T_device_camera=")
        return Trajectory(times, T)
    return Trajectory(times, T).moved(T_device_camera)


@reader(
    "aria-hand-tracking",
    kinds=("PoseSequence",),
    suffixes=(".csv",),
    looks_for="the columns left_tracking_confidence and tx_left_landmark_0_device",
    description="Aria MPS hand_tracking_results.csv: 20 of our 21 joints of each hand, device frame",
    sniff=lambda path, head: {"left_tracking_confidence", "tx_left_landmark_0_device"} <= header_columns(head),
)
def read_hand_tracking(path: Path, *, min_confidence: float = 0.0) -> PoseSequence:
    """Read hand landmarks as both hands of :data:`HANDS42`, in the frame ``camera:device``.

    Aria does not track the thumb's base (``thumb_1``), which stays missing. Frames are numbered by row.

    Args:
        path: The csv.
        min_confidence: Hands below it are missing; -1 marks hands that were not seen.

    Raises:
        EgoposeError: Missing columns, times that repeat or run back.
    """
    columns = {
        (side, i): [f"{axis}_{side}_landmark_{i}_device" for axis in ("tx", "ty", "tz")]
        for side in ("left", "right")
        for i in range(len(LANDMARKS))
    }
    wanted = [name for names in columns.values() for name in names]
    confidences = [f"{side}_tracking_confidence" for side in ("left", "right")]
    table = read_csv(path, ["tracking_timestamp_us", *confidences, *wanted], what="hand_tracking_results.csv")
    xyz = np.full((table.n_rows, HANDS42.n_joints, 3), np.nan)
    for (side, i), names in columns.items():
        seen = table.floats(f"{side}_tracking_confidence") >= max(min_confidence, 0.0)
        xyz[seen, HANDS42.index(f"{side}_hand_{LANDMARKS[i]}")] = table.xyz(names)[seen]
    missing = sorted(set(HAND21.joints) - set(LANDMARKS))
    return PoseSequence(
        skeleton=HANDS42,
        frames=np.arange(table.n_rows),
        times_s=table.integers("tracking_timestamp_us").astype(np.float64) * 1e-6,
        xyz=float32(xyz),
        space="camera:device",
        provenance=source(path, "aria-hand-tracking", not_tracked=missing),
    )
