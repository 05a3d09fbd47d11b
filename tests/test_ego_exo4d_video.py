"""Videos of the stand-in: they show the figure where the truth says it is, in every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egopose import Camera, load
from egopose.ego_exo4d import EgoExo4D, make_standin
from egopose.ego_exo4d.aria import ego_undistorter, linear_camera
from egopose.ego_exo4d.standin_figure import Figure
from egopose.ego_exo4d.standin_video import ROOM_M, Room
from egopose.ego_exo4d.standin_world import MISSING, PORTRAIT, build_world
from egopose.io.video import probe, read_frames
from egopose.rigid import make_transform, rotation_from_vector
from egopose.skeleton import BODY17_HANDS
from egopose.train.synthetic.render import SKIN


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EgoExo4D:
    folder = tmp_path_factory.mktemp("ego")
    make_standin(folder / "data", takes=1, seed=4, seconds=1.0, videos=True)
    return EgoExo4D(folder / "data", cache=folder / "cache")


LIMITS = ((-ROOM_M[0], ROOM_M[0]), (-ROOM_M[1], ROOM_M[1]), (0.0, ROOM_M[2]))
KNUCKLES = BODY17_HANDS.indices(["left_hand_middle_1", "right_hand_middle_1"])


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    """Colour of the wearer's skin, its brightness taken out."""
    world = build_world(0, 4, 1.0)
    colour = Figure(world.body, world.seed).materials.tones[SKIN].mean(0)
    return colour / colour.sum()


def skin(colour: np.ndarray, tone: np.ndarray) -> bool:
    light = (colour / 255.0) ** 2.2
    return bool(np.abs(light / max(light.sum(), 1e-6) - tone).max() < 0.05)


def test_frames_and_sizes(data: EgoExo4D) -> None:
    take = next(iter(data))
    for name in [*take.exo_names, take.aria_name]:
        info = probe(take.video(name))
        assert info.n_frames == 30
        assert info.fps == pytest.approx(30)
        expected = {"aria01": (448, 448), PORTRAIT: (252, 448)}.get(name, (796, 448))
        assert info.size == expected
    assert "downscaled/448" in take.video(MISSING).as_posix()


def test_exo_videos_show_the_hands(data: EgoExo4D, tone: np.ndarray) -> None:
    take = next(iter(data))
    joints = load(data.root / "truth" / f"{take.uid}.npz").xyz.astype(np.float64)
    found, beside = {}, 0
    for name in ("cam01", "cam02", "cam03", PORTRAIT, "cam07"):
        path = take.video(name)
        camera = take.exo_cameras[name].raw.scaled(probe(path).size)
        found[name] = 0
        for frame in read_frames(path):
            for u, v in np.round(camera.project(joints[frame.index, KNUCKLES])).astype(int):
                found[name] += skin(frame.image[v, u], tone)
                beside += skin(frame.image[v + 40, u], tone)
    # the body hides some of them
    assert min(found.values()) > 0.1 * 60
    assert sum(found.values()) > 0.45 * 60 * len(found)
    assert beside < 0.2 * sum(found.values())


def test_ego_video_shows_the_hands_and_its_undistorted_frame_too(data: EgoExo4D, tone: np.ndarray) -> None:
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
        for point in joints[frame.index, KNUCKLES]:
            uv, uv_flat = upright.project(point), linear_camera(pose).project(point)
            if not (np.isfinite(uv).all() and np.linalg.norm(uv - 223.5) < 190):
                continue
            tried += 1
            u, v = np.round(uv).astype(int)
            hit += skin(frame.image[v, u], tone)
            u, v = np.round(uv_flat).astype(int)
            hit_flat += skin(flat[v, u], tone)
    assert tried >= 10
    assert hit > 0.9 * tried
    assert hit_flat > 0.9 * tried
    # the hand track sees images only
    clip = take.clip("hand")
    assert clip.trajectory is None
    assert clip.path == take.video(take.aria_name)
    assert Path(clip.path).name == "aria01_214-1.mp4"


def test_room_equals_a_plain_reading() -> None:
    room, rng = Room(3), np.random.default_rng(0)
    T = make_transform(rotation_from_vector([0.4, -0.9, 0.2]), [0.3, -0.8, 1.5])
    camera = Camera.pinhole(200.0, None, (64, 48), T)
    rays = rng.normal(size=(40, 50, 3))
    rays[0, 0] = np.nan
    image = room.image(rays, camera).astype(int)
    assert (image[0, 0] == 0).all()
    R, p = camera.T_world_camera[:3, :3], camera.center_world
    for row, column in rng.integers(1, 40, (300, 2)):
        d = R @ rays[row, column]
        walls = [((room_m if d[a] > 0 else low) - p[a]) / d[a] for a, (low, room_m) in enumerate(LIMITS)]
        axis = int(np.argmin(walls))
        hit = p + walls[axis] * d
        hit[axis] = LIMITS[axis][int(d[axis] > 0)]
        if axis == 2:
            colour = room.floor if d[2] < 0 else np.array([214, 214, 210])
            tone = 0.86 + 0.16 * (sum(np.floor(hit[:2] / 0.5)) % 2) if d[2] < 0 else 1.0
        else:
            colour = room.walls[2 * axis + int(d[axis] > 0)]
            tone = 0.94 + 0.06 * (np.floor(hit[1 - axis] / 0.35) % 2) - 0.25 * (hit[2] < 0.12)
        i, j, k = (int(v) for v in np.floor(hit * 23))
        expected = np.clip(colour * tone + room.grain[(i + 7 * k) % 64, (j + 3 * k) % 64], 0, 255)
        assert np.abs(image[row, column] - expected).max() <= 1
