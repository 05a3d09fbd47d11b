"""A small complete stand-in for Ego-Exo4D in its true layout, with exact truth aside.

Nothing of the dataset is in it: people, cameras and defects are computed from a seed. It carries the tests and lets
every command of the dataset run for those who do not hold it.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from egopose import rigid
from egopose.ego_exo4d.aria import linear_camera
from egopose.ego_exo4d.cameras import official_undistorted
from egopose.ego_exo4d.layout import EGO_POSE, FPS, KINDS, SOURCES, annotation_path, camera_pose_path
from egopose.ego_exo4d.standin_annotations import DEFECTS, annotation
from egopose.ego_exo4d.standin_lists import write_lists
from egopose.ego_exo4d.standin_world import BAD, EXO, MISSING, PORTRAIT, World, build_world
from egopose.errors import EgoposeError
from egopose.files import atomic_write

TRUTH = "truth"
MANUAL_STEP = 3
TAIL_ROWS = 30
TRAJECTORY_HZ = 1000


def _json(path: Path, value: Any) -> None:
    with atomic_write(path, "w") as stream:
        # bare NaN as in the real files
        json.dump(value, stream, allow_nan=True)


def _csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with atomic_write(path, "w") as stream:
        stream.write(text.getvalue())


def _gopro_calibs(path: Path, world: World) -> None:
    names = ["tx", "ty", "tz", "qx", "qy", "qz", "qw"]
    header = [
        "cam_uid", "graph_uid", *(f"{n}_world_cam" for n in names), "image_width", "image_height", "intrinsics_type",
        *(f"intrinsics_{i}" for i in range(8)), "start_frame_idx", "end_frame_idx", "quality",
    ]  # fmt: skip
    rows = []
    for name, camera in world.cameras.items():
        if name == MISSING:
            continue
        T = camera.T_world_camera
        q = rigid.matrix_to_quaternion(T[:3, :3])
        rows.append(
            [name, "graph0", *(f"{v:.9f}" for v in (*T[:3, 3], *q)), *camera.size, "KANNALABRANDTK3",
             *(f"{v:.6f}" for v in camera.params), -1, -1, 0 if name == BAD else 1]
        )  # fmt: skip
    _csv(path, header, rows)


def _closed_loop(path: Path, world: World) -> None:
    """Device poses at 1 kHz over the take and half a second around it."""
    step = 1.0 / TRAJECTORY_HZ
    seconds = np.arange(-0.5, (world.n_frames - 1) / FPS + 0.5, step)
    T = world.aria_at(seconds) @ rigid.invert(world.aria_rgb.T_world_camera)
    start_us = int(world.row_ns(np.array(world.start_row + 1))) // 1000
    stamps = start_us + np.round(seconds * 1e6).astype(np.int64)
    q = rigid.matrix_to_quaternion(T[:, :3, :3])
    v = np.gradient(T[:, :3, 3], step, axis=0)
    v_device = np.einsum("tji,tj->ti", T[:, :3, :3], v)
    pose = [f"{a}_world_device" for a in ("tx", "ty", "tz", "qx", "qy", "qz", "qw")]
    header = [
        "graph_uid", "tracking_timestamp_us", "utc_timestamp_ns", *pose,
        *(f"device_linear_velocity_{a}_device" for a in "xyz"), *(f"gravity_{a}_world" for a in "xyz"),
        "quality_score", "geo_available",
    ]  # fmt: skip
    numbers = np.concatenate([T[:, :3, 3], q, v_device], axis=1)
    rows = [
        ["graph0", stamp, stamp * 1000 + 1_600_000_000_000_000_000, *(f"{x:.9g}" for x in row), 0, 0, -9.81, 1, 0]
        for stamp, row in zip(stamps.tolist(), numbers)
    ]
    _csv(path, header, rows)


def _online_calibration(path: Path, world: World) -> None:
    camera = world.aria_rgb
    x, y, z, w = rigid.matrix_to_quaternion(camera.T_world_camera[:3, :3]).tolist()
    entry = {
        "Label": "camera-rgb",
        "Projection": {"Name": "FisheyeRadTanThinPrism", "Params": camera.params[1:].tolist()},
        "T_Device_Camera": {
            "Translation": camera.T_world_camera[:3, 3].tolist(),
            "UnitQuaternion": [w, [x, y, z]],
        },
    }
    stamp = int(world.row_ns(np.array(world.start_row + 1))) // 1000
    line = json.dumps({"tracking_timestamp_us": stamp, "CameraCalibrations": [entry]})
    with atomic_write(path, "w") as stream:
        stream.write(line + "\n")


def _timesync(path: Path, worlds: Sequence[World]) -> None:
    rows_needed = max(world.start_row + 1 + world.n_frames for world in worlds) + TAIL_ROWS
    rows = np.arange(rows_needed)
    stamps = worlds[0].row_ns(rows).tolist()
    exo = [name for name in EXO if name != MISSING]
    header = ["aria01_214-1_capture_timestamp_ns", *(f"{name}_frame_number" for name in exo)]
    _csv(path, header, [[stamp, *([row] * len(exo))] for row, stamp in zip(rows.tolist(), stamps)])


def gap_frames(world: World) -> np.ndarray:
    """Frames without a pose of the head camera: one alone and a run of three."""
    n = world.n_frames
    return np.array(sorted({n // 3, *(n // 2 + i for i in range(3))}), dtype=np.int64)


def _camera_pose(path: Path, world: World) -> None:
    document: dict[str, Any] = {"metadata": {"take_name": world.name, "take_uid": world.uid}}
    for name, camera in world.cameras.items():
        if name == MISSING:
            continue
        document[name] = {
            "camera_intrinsics": official_undistorted(camera).K.tolist(),
            "camera_extrinsics": camera.T_camera_world[:3].tolist(),
            "distortion_coeffs": camera.dist.tolist(),
        }
    gone = set(gap_frames(world).tolist())
    T = rigid.invert(world.T_world_aria)[:, :3]
    document["aria01"] = {
        "camera_intrinsics": linear_camera().K.tolist(),
        "camera_extrinsics": {str(t): T[t].tolist() for t in range(world.n_frames) if t not in gone},
    }
    _json(path, document)


def _take_entry(world: World) -> dict[str, Any]:
    cameras = [{"cam_id": name, "is_ego": False, "device_type": "gopro"} for name in EXO]
    cameras.append({"cam_id": "aria01", "is_ego": True, "device_type": "aria"})
    return {
        "take_uid": world.uid, "take_name": world.name, "root_dir": f"takes/{world.name}", "task_id": world.task_id,
        "parent_task_name": world.task, "best_exo": "cam01", "duration_sec": world.n_frames / FPS,
        "capture": {"capture_name": world.capture, "cameras": cameras},
        "frame_aligned_videos": {
            **{name: {"0": {"cam_id": name, "is_ego": False,
                            "relative_path": f"frame_aligned_videos/{name}.mp4"}} for name in EXO},
            "aria01": {"rgb": {"cam_id": "aria01", "is_ego": True,
                               "relative_path": "frame_aligned_videos/aria01_214-1.mp4"}},
        },
        "timesync_start_idx": world.start_row, "timesync_end_idx": world.start_row + 1 + world.n_frames,
    }  # fmt: skip


def _metadata(out: Path, worlds: Sequence[World], seed: int) -> None:
    _json(out / "takes.json", [_take_entry(world) for world in worlds])
    captures = sorted({world.capture for world in worlds})
    _json(out / "captures.json", [{"capture_name": name, "root_dir": f"captures/{name}"} for name in captures])
    for name in ("participants", "physical_setting", "visual_objects"):
        _json(out / f"{name}.json", [])
    _json(out / "metadata.json", {"source": "egopose stand-in", "seed": seed, "defects": list(DEFECTS)})
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for world in worlds:
        splits[world.split].append(world.uid)
    _json(
        out / "annotations" / "splits.json",
        {
            "take_uid_to_split": {world.uid: world.split for world in worlds},
            "split_to_take_uids": splits,
            "take_uid_to_benchmark": {world.uid: ["ego_pose", "body_pose", "hand_pose"] for world in worlds},
            "ds": "stand-in",
        },
    )


def make_standin(
    out: str | os.PathLike[str],
    *,
    takes: int = 3,
    seed: int = 0,
    seconds: float = 6.0,
    videos: bool | Literal["ego"] = False,
    video_height: int = 448,
    progress: Callable[[float, str], None] | None = None,
) -> Mapping[str, Any]:
    """Write the stand-in.

    The exact joints of each take lie aside in ``truth/<take_uid>.npz`` (59 joints, every frame, world), and the exact
    ground truth files of both protocols in ``truth/{body,hand}_{train,val,test}.json``. ``lists`` holds what the
    challenge publishes of its test split: frames of the body track, frames and boxes of the hand track.

    Args:
        out: A folder that does not exist yet or is empty.
        takes: Number of takes; they go to train, val, test in turn, two to a capture.
        seed: Everything follows from it.
        seconds: Length of a take.
        videos: Render the exo cameras and the head camera as mp4; "ego" the head camera alone.
        video_height: Height of those videos; 448 as in the downscaled release.
        progress: Called with the share done and the name of the take.

    Returns:
        What was written, as plain data.

    Raises:
        EgoposeError: The folder has something in it, or the numbers make no take.
    """
    root = Path(out)
    if takes < 1 or seconds < 1:
        raise EgoposeError(f"{takes} takes of {seconds:g} s; a stand-in needs one take of one second or more")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise EgoposeError(f"{root}: is not empty; give a new folder")
    worlds = [build_world(i, seed, seconds) for i in range(takes)]
    # both takes of a capture run on its one clock
    for i in range(1, takes, 2):
        first = worlds[i - 1]
        worlds[i] = replace(worlds[i], first_ns=first.first_ns, start_row=first.start_row + first.n_frames + 40)
    for capture in sorted({world.capture for world in worlds}):
        _timesync(root / "captures" / capture / "timesync.csv", [w for w in worlds if w.capture == capture])
    for i, world in enumerate(worlds):
        if progress is not None:
            progress(i / takes, world.name)
        _write_take(root, world)
        if videos:
            from egopose.ego_exo4d.standin_video import write_videos

            write_videos(root / "takes" / world.name, world, video_height, exo=videos is True)
    write_lists(root, worlds)
    # last: a folder without takes.json is not complete
    _metadata(root, worlds, seed)
    if progress is not None:
        progress(1.0, "done")
    return {
        "root": str(root),
        "takes": [{"take_uid": w.uid, "take_name": w.name, "split": w.split, "frames": w.n_frames} for w in worlds],
        "portrait_camera": PORTRAIT, "bad_camera": BAD, "missing_camera": MISSING, "defects": list(DEFECTS),
    }  # fmt: skip


def _write_take(root: Path, world: World) -> None:
    from egopose.io import save

    trajectory = root / "takes" / world.name / "trajectory"
    _gopro_calibs(trajectory / "gopro_calibs.csv", world)
    _closed_loop(trajectory / "closed_loop_trajectory.csv", world)
    _online_calibration(trajectory / "online_calibration.jsonl", world)
    _camera_pose(root / camera_pose_path(world.split, world.uid), world)
    save(world.truth, root / TRUTH / f"{world.uid}.npz")
    if world.split == "test":
        # no body or hand folder is ever published for the test split
        return
    every = np.arange(world.n_frames)
    for kind in KINDS:
        for source in SOURCES:
            frames = every[::MANUAL_STEP] if source == "manual" else every
            _json(root / annotation_path(world.split, kind, source, world.uid), annotation(world, kind, source, frames))


__all__ = ["EGO_POSE", "TRUTH", "gap_frames", "make_standin"]
