"""What a reader of the pages has: files under the names that the pages use, and arrays."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import egopose
from egopose import rigid
from egopose.camera import Camera, Rig
from egopose.demo import exo_capture
from egopose.ego_exo4d.standin import make_standin
from egopose.io.video import VideoWriter
from egopose.skeleton import BODY17, BODY25, HANDS42
from tests import io_cases

FPS = 30.0


@cache
def capture() -> Any:
    """One second of the embedded capture."""
    return exo_capture(seconds=1)


def arrays() -> dict[str, Any]:
    """Names that the Python blocks take as given."""
    found, rng = capture(), np.random.default_rng(0)
    target = found.truth.xyz.astype(np.float64)
    times_s, T_world_camera = head_path(30)
    frames = np.arange(30)
    return {
        "uv_px": found.observations.uv_px.reshape(len(found.rig), -1, 2),
        "pred": target + rng.normal(scale=0.01, size=target.shape),
        "target": target,
        "valid": np.isfinite(target).all(-1),
        "times_s": times_s,
        "T_world_camera": T_world_camera,
        "times": times_s,
        "poses": T_world_camera,
        "rig": found.rig,
        "observations": found.observations,
        "prediction": egopose.PoseSequence(BODY17, frames, frames / FPS, found.truth.to_skeleton(BODY17).xyz),
    }


def head_path(n: int) -> tuple[Any, Any]:
    """A head that moves forward at 1.6 m and looks ahead."""
    times_s = np.arange(n) / FPS
    # x right, y down, z forward of a camera that looks along the world's x
    R = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    T = np.stack([rigid.make_transform(R, [1.2 * t, 0.0, 1.6]) for t in times_s])
    return times_s, T


def _openpose(folder: Path, seen: Any) -> None:
    seen = seen.to_skeleton(BODY25)
    for v, view in enumerate(seen.views):
        place = folder / f"{view}_json"
        place.mkdir(parents=True)
        for t, frame in enumerate(seen.frames):
            uv = np.nan_to_num(np.concatenate([seen.uv_px[v, t], seen.score[v, t][:, None]], axis=1))
            hips = uv[BODY25.indices(["left_hip", "right_hip"])]
            uv[BODY25.index("mid_hip")] = hips.mean(axis=0)
            (place / f"x_{frame:012d}_keypoints.json").write_text(json.dumps(io_cases.openpose_people(uv)))


def _video(path: Path, size: tuple[int, int], n: int) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: size[1], : size[0]]
    with VideoWriter(path, FPS) as video:
        for i in range(n):
            image = (rows + columns + 4 * i + rng.integers(0, 9)) % 256
            video.add(np.repeat(image[..., None], 3, axis=2).astype(np.uint8))


def _submissions(folder: Path) -> None:
    """Body and hand submissions of one take of five seconds, with their ground truths."""
    origin = {"take_uid": "0a1b", "take_name": "takes/cooking_03"}
    rng = np.random.default_rng(1)
    frames = np.arange(0, 150, 3)
    for name, skeleton, space in (("body", BODY17, "world"), ("hands", HANDS42, "camera:aria")):
        xyz = rng.normal(scale=0.1, size=(1, skeleton.n_joints, 3)) + 0.001 * frames[:, None, None] + [0, 0, 0.5]
        more = {"space": space, "provenance": origin}
        truth = egopose.PoseSequence(skeleton, frames, frames / FPS, xyz.astype(np.float32), **more)
        moved = (xyz + rng.normal(scale=0.01, size=xyz.shape)).astype(np.float32)
        egopose.save(truth.replace(xyz=moved), folder / f"{name}.json", format=f"ego-exo4d-{name.rstrip('s')}")
        egopose.save(truth, folder / f"{name}_truth.json", format=f"ego-exo4d-{name.rstrip('s')}")
    # a ground truth of hands says which joints are valid
    path = folder / "hands_truth.json"
    content = json.loads(path.read_text())
    for frame in (frame for take in content.values() for frame in take.values()):
        frame.update({f"{side}_hand_valid_3d": [True] * 21 for side in ("left", "right")})
    path.write_text(json.dumps(content))
    (folder / "takes.json").write_bytes((folder / "body_truth.json").read_bytes())


def write_samples(folder: Path) -> None:
    """Every file that a page names and does not make itself."""
    found = capture()
    rig: Rig = found.rig
    egopose.save(rig, folder / "rig.toml")
    egopose.save(rig, folder / "calibration.toml")
    for name in ("keypoints.npz", "2d.npz"):
        egopose.save(found.observations, folder / name)
    _openpose(folder / "keypoints", found.observations)
    egopose.save(found.truth, folder / "truth.npz")
    rng = np.random.default_rng(2)
    noisy = found.truth.xyz + rng.normal(scale=0.005, size=found.truth.xyz.shape)
    sigma = np.full(found.truth.xyz.shape[:2], 0.005, dtype=np.float32)
    pose = found.truth.replace(xyz=noisy.astype(np.float32), sigma=sigma)
    for name in ("joints.npz", "pred.npz"):
        egopose.save(pose, folder / name)
    _video(folder / "cam02.mp4", rig["cam02"].size, 4)
    K = np.array([[160.0, 0, 159.5], [0, 160, 119.5], [0, 0, 1]])
    camera = Camera.from_opencv(K, [0.0] * 5, np.eye(3), np.zeros(3), (320, 240), name="head")
    egopose.save(Rig([camera]), folder / "camera.json")
    _video(folder / "clip.mp4", (320, 240), 12)
    egopose.save(egopose.Trajectory(*head_path(12)), folder / "head.npz")
    _submissions(folder)


def formats_page(folder: Path) -> None:
    """The page about formats has its keypoints in another folder."""
    (folder / "keypoints").rename(folder / "openpose")


def dataset_page(folder: Path) -> None:
    """The page about the dataset has it."""
    make_standin(folder / "ego-exo4d", takes=3, seconds=1.0, videos=True, video_height=64)
    (folder / "frames.json").write_bytes((folder / "ego-exo4d/lists/body_test_frames.json").read_bytes())


def scale_page(folder: Path) -> None:
    """Two takes and two clips in folders, and the table of the clips."""
    for i in "12":
        for place, source in (
            ("calib", "rig.toml"),
            ("kp", "keypoints.npz"),
            ("truth", "truth.npz"),
            ("clips", "clip.mp4"),
        ):
            (folder / place).mkdir(exist_ok=True)
            name = {"clips": f"walk_{i}.mp4"}.get(place, f"{i}{Path(source).suffix}")
            shutil.copy(folder / source, folder / place / name)
        # the page reads CSV
        egopose.save(capture().observations, folder / "kp" / f"{i}.csv")
    (folder / "clips.csv").write_text("name,camera\nwalk_1,camera.json\nwalk_2,camera.json\n")


PREPARE = {"docs/scale.md": scale_page, "docs/formats.md": formats_page, "docs/ego-exo4d.md": dataset_page}
