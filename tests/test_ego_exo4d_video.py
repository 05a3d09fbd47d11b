"""Videos of the stand-in: they show the figure where the truth says it is, in every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egopose import load
from egopose.ego_exo4d import EgoExo4D, make_standin
from egopose.ego_exo4d.aria import ego_undistorter, linear_camera
from egopose.ego_exo4d.standin_world import MISSING, PORTRAIT
from egopose.io.video import probe, read_frames
from egopose.skeleton import BODY17_HANDS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EgoExo4D:
    folder = tmp_path_factory.mktemp("ego")
    make_standin(folder / "data", takes=1, seed=4, seconds=1.0, videos=True)
    return EgoExo4D(folder / "data", cache=folder / "cache")


def skin(colour: np.ndarray) -> bool:
    red, green, blue = colour.astype(float)
    return red > 100 and red > 1.15 * green and green > 1.05 * blue


def test_frames_and_sizes(data: EgoExo4D) -> None:
    take = next(iter(data))
    for name in [*take.exo_names, take.aria_name]:
        info = probe(take.video(name))
        assert info.n_frames == 30
        assert info.fps == pytest.approx(30)
        expected = {"aria01": (448, 448), PORTRAIT: (252, 448)}.get(name, (796, 448))
        assert info.size == expected
    assert "downscaled/448" in take.video(MISSING).as_posix()


@pytest.mark.parametrize("name", ["cam01", "cam02", "cam03", PORTRAIT])
def test_exo_videos_show_the_forearms(data: EgoExo4D, name: str) -> None:
    take = next(iter(data))
    joints = load(data.root / "truth" / f"{take.uid}.npz").xyz.astype(np.float64)
    path = take.video(name)
    camera = take.exo_cameras[name].raw.scaled(probe(path).size)
    found = 0
    for frame in read_frames(path):
        for side in ("left", "right"):
            elbow, wrist = joints[frame.index, BODY17_HANDS.indices([f"{side}_elbow", f"{side}_wrist"])]
            u, v = np.round(camera.project((elbow + 2 * wrist) / 3)).astype(int)
            found += skin(frame.image[v, u])
    # the body hides some of them
    assert found > 0.45 * 60


def test_ego_video_shows_the_hands_and_its_undistorted_frame_too(data: EgoExo4D) -> None:
    take = next(iter(data))
    joints = load(data.root / "truth" / f"{take.uid}.npz").xyz.astype(np.float64)
    frames, T = take.head_poses(policy="skip")
    raw = take.clip("body", policy="interpolate")
    table = ego_undistorter(take.aria_camera, size=448)
    assert raw.camera.size == (448, 448)
    tried = hit = hit_flat = 0
    for frame in read_frames(take.video(take.aria_name)):
        if frame.index not in frames:
            continue
        pose = T[np.searchsorted(frames, frame.index)]
        upright = raw.camera.moved(raw.trajectory.T_world_camera[frame.index])
        flat = table.apply(np.ascontiguousarray(frame.image))
        for side in ("left", "right"):
            elbow, wrist = joints[frame.index, BODY17_HANDS.indices([f"{side}_elbow", f"{side}_wrist"])]
            point = 0.3 * elbow + 0.7 * wrist
            uv, uv_flat = upright.project(point), linear_camera(pose).project(point)
            if not (np.isfinite(uv).all() and np.linalg.norm(uv - 223.5) < 190):
                continue
            tried += 1
            u, v = np.round(uv).astype(int)
            hit += skin(frame.image[v, u])
            u, v = np.round(uv_flat).astype(int)
            hit_flat += skin(flat[v, u])
    assert tried >= 10
    assert hit > 0.9 * tried
    assert hit_flat > 0.9 * tried
    # the hand track sees images only
    clip = take.clip("hand")
    assert clip.trajectory is None
    assert clip.path == take.video(take.aria_name)
    assert Path(clip.path).name == "aria01_214-1.mp4"
