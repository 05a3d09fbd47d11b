"""Minimal readers of the real captures beside the repository, independent of the package's own formats."""

from __future__ import annotations

import csv
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera, Rig
from egopose.observations import Observations2D
from egopose.rigid import rotation_from_vector
from egopose.skeleton import BODY25B, HOLISTIC75

Array = NDArray[np.float64]

TRC_TO_JOINT = {
    "RHip": "right_hip", "RKnee": "right_knee", "RAnkle": "right_ankle", "RBigToe": "right_big_toe",
    "RSmallToe": "right_small_toe", "RHeel": "right_heel", "LHip": "left_hip", "LKnee": "left_knee",
    "LAnkle": "left_ankle", "LBigToe": "left_big_toe", "LSmallToe": "left_small_toe", "LHeel": "left_heel",
    "Neck": "neck", "Head": "head", "Nose": "nose", "RShoulder": "right_shoulder", "RElbow": "right_elbow",
    "RWrist": "right_wrist", "LShoulder": "left_shoulder", "LElbow": "left_elbow", "LWrist": "left_wrist",
}  # fmt: skip


@dataclass(frozen=True)
class Capture:
    """A real capture: cameras, 2D, and the 3D that another tool made of it (T, J, 3), NaN where absent."""

    rig: Rig
    observations: Observations2D
    peer: Array


def toml_cameras(path: Path, tables: list[dict] | None = None) -> list[Camera]:
    """Cameras of a TOML calibration with matrix, distortions, rotation (vector or matrix) and translation."""
    content = tomllib.loads(path.read_text())
    if tables is None:
        tables = [t for t in content.values() if isinstance(t, dict) and "matrix" in t]
    cameras = []
    for i, table in enumerate(tables):
        rotation = np.asarray(table["rotation"], dtype=np.float64)
        R = rotation if rotation.shape == (3, 3) else rotation_from_vector(rotation)
        size = tuple(int(v) for v in table["size"])
        cameras.append(
            Camera.from_opencv(
                np.array(table["matrix"]), table["distortions"], R, table["translation"], size, name=f"cam{i + 1:02d}"
            )
        )
    return cameras


def pose2sim_single(data: Path) -> Capture:
    """Four cameras, 100 frames, OpenPose BODY_25B of one person; Pose2Sim's own points."""
    folder = data / "pose2sim_single"
    cameras = toml_cameras(folder / "calibration" / "Calib_qualisys.toml")
    uv = np.full((4, 100, BODY25B.n_joints, 2), np.nan, dtype=np.float32)
    score = np.zeros(uv.shape[:3], dtype=np.float32)
    for v in range(4):
        for f, file in enumerate(sorted((folder / "pose-associated" / f"cam0{v + 1}_json").glob("*.json"))):
            people = json.loads(file.read_text()).get("people", [])
            if people and people[0]:
                values = np.array(people[0]["pose_keypoints_2d"], dtype=np.float64).reshape(-1, 3)
                seen = values[:, 2] > 0
                uv[v, f, seen], score[v, f] = values[seen, :2], values[:, 2]
    lines = (folder / "pose-3d" / "S00_P00_T01_BalancingTrial_0-100.trc").read_text().splitlines()
    names = lines[3].split("\t")[2::3]
    rows = np.array([[float(x) if x.strip() else np.nan for x in line.split("\t")[2:65]] for line in lines[5:]])
    # Y is up in the file: world (X, Y, Z) are its columns (Z, X, Y)
    values = rows.reshape(len(rows), -1, 3)[..., [2, 0, 1]]
    peer = np.full((100, BODY25B.n_joints, 3), np.nan)
    for i, name in enumerate(n for n in names if n.strip()):
        peer[:, BODY25B.index(TRC_TO_JOINT[name])] = values[:, i]
    rig = Rig(cameras)
    observations = Observations2D(BODY25B, tuple(rig.names), np.arange(100), uv, score, fps=60.0)
    return Capture(rig, observations, peer)


def pyxy3d_holistic4(data: Path) -> Capture:
    """Four cameras, 267 frames, MediaPipe body 33 + right hand 21 + left hand 21; pyxy3d's own points."""
    folder = data / "pyxy3d_holistic4"
    content = tomllib.loads((folder / "config.toml").read_text())
    tables = [content[f"cam_{i}"] for i in range(4)]
    cameras = toml_cameras(folder / "config.toml", tables)

    def place(point: int) -> int | None:
        if point < 33:
            return point
        for start, offset in ((100, 33), (200, 54)):
            if start <= point < start + 21:
                return offset + point - start
        return None

    with open(folder / "xy_HOLISTIC.csv") as stream:
        rows = [
            (int(r["sync_index"]), int(r["port"]), p, float(r["img_loc_x"]), float(r["img_loc_y"]))
            for r in csv.DictReader(stream)
            if (p := place(int(r["point_id"]))) is not None
        ]
    frames = np.unique([r[0] for r in rows])
    where = {f: i for i, f in enumerate(frames)}
    uv = np.full((4, frames.size, HOLISTIC75.n_joints, 2), np.nan, dtype=np.float32)
    for f, port, p, x, y in rows:
        uv[port, where[f], p] = x, y
    peer = np.full((frames.size, HOLISTIC75.n_joints, 3), np.nan)
    with open(folder / "xyz_HOLISTIC.csv") as stream:
        for r in csv.DictReader(stream):
            p = place(int(r["point_id"]))
            if p is not None and int(r["sync_index"]) in where:
                peer[where[int(r["sync_index"])], p] = float(r["x_coord"]), float(r["y_coord"]), float(r["z_coord"])
    rig = Rig(cameras)
    return Capture(rig, Observations2D(HOLISTIC75, tuple(rig.names), frames, uv, fps=24.0), peer)


@dataclass(frozen=True)
class Board:
    """ChArUco corners: cameras, pixels (C, N, 2), frame (N,), place on the board (N, 3), the peer's points (N, 3)."""

    cameras: list[Camera]
    uv_px: Array
    frame: NDArray[np.int64]
    board: Array
    peer: Array

    def distance_errors(self, points: Array) -> Array:
        """Absolute error in metres of every corner-to-corner distance within a frame."""
        errors = []
        for f in np.unique(self.frame):
            i = np.flatnonzero((self.frame == f) & np.isfinite(points[:, 0]))
            a, b = np.triu_indices(i.size, 1)
            measured = np.linalg.norm(points[i[a]] - points[i[b]], axis=1)
            errors.append(np.abs(measured - np.linalg.norm(self.board[i[a]] - self.board[i[b]], axis=1)))
        return np.concatenate(errors)


def caliscope_charuco4(data: Path) -> Board:
    """Four cameras, a ChArUco board of 54 mm squares in 57 frames."""
    folder = data / "caliscope_charuco4"
    content = tomllib.loads((folder / "camera_array.toml").read_text())["cameras"]
    cameras = toml_cameras(folder / "camera_array.toml", [content[str(i)] for i in range(4)])
    points: dict[tuple[int, int], int] = {}
    rows = []
    with open(folder / "xy_CHARUCO.csv") as stream:
        for r in csv.DictReader(stream):
            key = (int(r["sync_index"]), int(r["keypoint_id"]))
            n = points.setdefault(key, len(points))
            rows.append((n, int(r["cam_id"]), [float(r[f"img_loc_{a}"]) for a in "xy"],
                         [float(r[f"obj_loc_{a}"]) for a in "xyz"]))  # fmt: skip
    uv = np.full((4, len(points), 2), np.nan)
    board, peer = np.full((len(points), 3), np.nan), np.full((len(points), 3), np.nan)
    for n, c, pixel, place in rows:
        uv[c, n], board[n] = pixel, place
    with open(folder / "xyz_CHARUCO.csv") as stream:
        for r in csv.DictReader(stream):
            n = points.get((int(r["sync_index"]), int(r["keypoint_id"])))
            if n is not None:
                peer[n] = [float(r[f"{a}_coord"]) for a in "xyz"]
    return Board(cameras, uv, np.array([f for f, _ in points]), board, peer)
