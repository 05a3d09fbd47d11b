"""The overlay: joints land where the lens puts them, the hands are enlarged, wrong input is refused before writing."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from egopose.camera import Camera
from egopose.demo import ring_rig, walking_person
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.io.video import VideoWriter, probe, read_frames
from egopose.pose import JointStatus, PoseSequence
from egopose.rig import Rig
from egopose.skeleton import BODY17, BODY17_HANDS
from egopose.trajectory import Trajectory
from egopose.view.clip_video import embed_clip
from egopose.view.overlay import (
    COLOURS,
    choose_camera,
    draw_joints,
    joints_in_camera,
    overlay_frame,
    overlay_video,
    own_camera,
)
from egopose.view.scene import joint_sides

SIZE = (320, 180)


def small_rig() -> Rig:
    return Rig([camera.scaled(SIZE) for camera in ring_rig(2).cameras])


def walk(n: int = 20, fps: float = 30.0) -> PoseSequence:
    t = np.arange(n) / fps
    return PoseSequence(BODY17_HANDS, np.arange(n), t, walking_person(t))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A grey video whose brightness tells the frame."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 30.0, crf=10) as video:
        for k in range(20):
            video.add(np.full((SIZE[1], SIZE[0], 3), 60 + 4 * k, dtype=np.uint8))
    return path


def coloured(image: np.ndarray) -> np.ndarray:
    """Pixels that are not grey."""
    return (image.max(axis=-1).astype(int) - image.min(axis=-1)) > 60


def test_every_joint_is_drawn_where_the_lens_puts_it() -> None:
    fisheye = Camera.from_opencv(
        np.array([[250.0, 0, 319.5], [0, 250, 319.5], [0, 0, 1]]), [0.05, -0.01, 0.003, 0.0], np.eye(3), np.zeros(3),
        (640, 640), fisheye=True, name="ego",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-1, 1, (17, 3)) + np.array([0, 0, 1.2])
    uv = fisheye.project(xyz, frame="camera")
    image = np.full((640, 640, 3), 128, dtype=np.uint8)
    draw_joints(image, fisheye, xyz, BODY17, np.zeros(17, dtype=np.uint8), thick=2.0)
    for j, (u, v) in enumerate(uv):
        if 8 < u < 631 and 8 < v < 631:
            near = np.linalg.norm(uv - uv[j], axis=1) < 16
            if near.sum() == 1:
                assert np.abs(image[round(v), round(u)].astype(int) - COLOURS[joint_sides(BODY17)[j]]).max() < 12


def test_bones_are_curves_in_a_wide_lens() -> None:
    fisheye = Camera.from_opencv(
        np.array([[150.0, 0, 319.5], [0, 150, 319.5], [0, 0, 1]]), [0.0, 0.0, 0.0, 0.0], np.eye(3), np.zeros(3),
        (640, 640), fisheye=True, name="ego",
    )  # fmt: skip
    xyz = np.full((17, 3), np.nan)
    a, b = BODY17.index("left_hip"), BODY17.index("left_knee")
    xyz[a], xyz[b] = [-2.0, 0.8, 0.6], [2.0, 0.8, 0.6]
    image = np.zeros((640, 640, 3), dtype=np.uint8)
    draw_joints(image, fisheye, xyz, BODY17, np.zeros(17, dtype=np.uint8))
    middle = fisheye.project(0.5 * (xyz[a] + xyz[b]), frame="camera")
    ends = fisheye.project(xyz[[a, b]], frame="camera").mean(axis=0)
    assert abs(middle[1] - ends[1]) > 30  # the chord and the curve are far apart
    # pieces: the middle of the bone is at a joint of the polyline, so it is hit exactly
    assert image[round(middle[1]), round(middle[0])].max() > 100
    assert image[round(ends[1]), round(ends[0])].max() == 0


def test_joints_behind_the_camera_or_unknown_draw_nothing() -> None:
    camera = small_rig().cameras[0]
    xyz = np.full((17, 3), np.nan)
    xyz[:8] = [0.1, 0.1, -1.0]
    image = np.full((180, 320, 3), 90, dtype=np.uint8)
    draw_joints(image, camera, xyz, BODY17, np.zeros(17, dtype=np.uint8), sigma=np.full(17, 0.1))
    assert (image == 90).all()


def test_far_outside_the_image_does_not_wrap_around() -> None:
    camera = small_rig().cameras[0]
    xyz = np.full((17, 3), np.nan)
    xyz[BODY17.index("left_hip")], xyz[BODY17.index("left_knee")] = [8000.0, 0, 0.01], [9000.0, 5.0, 0.01]
    image = np.full((180, 320, 3), 90, dtype=np.uint8)
    draw_joints(image, camera, xyz, BODY17, np.zeros(17, dtype=np.uint8))
    assert (image == 90).all()


def test_hands_are_enlarged_in_the_lower_corners() -> None:
    camera = ring_rig(1).cameras[0]
    pose = walk(1)
    xyz, _ = joints_in_camera(pose, camera)
    image = np.full((720, 1280, 3), 90, dtype=np.uint8)
    status = np.zeros(59, dtype=np.uint8)
    plain = overlay_frame(image, camera, xyz[0], pose.skeleton, status, hands=False)
    zoomed = overlay_frame(image, camera, xyz[0], pose.skeleton, status)
    assert (image == 90).all()
    panel = 720 // 3
    for corner in (slice(0, panel), slice(1280 - panel, 1280)):
        before, after = plain[-panel:, corner], zoomed[-panel:, corner]
        assert coloured(after).sum() > 3 * coloured(before).sum() + 500
    assert np.array_equal(plain[: 720 - panel], zoomed[: 720 - panel])


def test_the_enlarged_hand_is_the_same_place() -> None:
    """A mark painted into the image under a finger tip stays under it in the inset."""
    from egopose.view.overlay import _hand_inset, hand_joints

    camera = ring_rig(1).cameras[0]
    pose = walk(1)
    xyz = joints_in_camera(pose, camera)[0][0]
    u, v = camera.project(xyz[BODY17_HANDS.index("left_hand_index_4")], frame="camera")
    image = np.zeros((720, 1280, 3), dtype=np.uint8)
    image[round(v), round(u)] = (0, 255, 0)
    lonely = np.full_like(xyz, np.nan)
    hand = hand_joints(BODY17_HANDS, "left")
    lonely[hand] = xyz[hand]
    # draw nothing over it: unknown status joints are still drawn, so compare the green mark with the projection
    inset = _hand_inset(image, camera, lonely, BODY17_HANDS, np.zeros(59, np.uint8), None, None, "left", 240)
    bare = _hand_inset(0 * image, camera, lonely, BODY17_HANDS, np.zeros(59, np.uint8), None, None, "left", 240)
    where = np.argwhere(np.abs(inset.astype(int) - bare).sum(axis=-1) > 0)
    uv = camera.project(lonely[hand], frame="camera")
    low, high = uv.min(axis=0), uv.max(axis=0)
    half = max(0.65 * (high - low).max(), 12.0)
    zoom = 240 / (2 * half)
    expected = (np.array([round(u), round(v)]) - (0.5 * (low + high) - half) + 0.5) * zoom - 0.5
    assert len(where)
    # the dot on top hides the middle of the mark; what is left surrounds the expected place
    assert np.abs(where - expected[::-1]).max() < 1.5 * zoom + 1


def test_the_video_follows_the_clock_of_the_joints(clip: Path, tmp_path: Path) -> None:
    rig, pose = small_rig(), walk(20)
    later = pose.select(frames=np.arange(5, 15))
    told = overlay_video(tmp_path / "o.mp4", clip, later, rig=rig, camera=rig.names[1])
    assert told == {"frames": 10, "with_joints": 10}
    info = probe(tmp_path / "o.mp4")
    assert info.size == SIZE
    assert info.n_frames == 10
    frames = [f.image for f in read_frames(tmp_path / "o.mp4")]
    for k, image in enumerate(frames):
        # background tells the source frame, colours tell the joints
        assert abs(float(np.median(image)) - (60 + 4 * (k + 5))) < 4
        uv = rig.cameras[1].project(pose.xyz[k + 5].astype(float))
        hips = uv[BODY17_HANDS.indices(["left_hip", "right_hip", "left_knee", "right_knee"])].round().astype(int)
        assert all(coloured(image[v - 2 : v + 3, u - 2 : u + 3]).any() for u, v in hips)


def test_a_moving_camera_uses_its_trajectory(clip: Path, tmp_path: Path) -> None:
    rig, pose = small_rig(), walk(20)
    camera = rig.cameras[0]
    T = np.repeat(camera.T_world_camera[None], 20, axis=0)
    T[:, 0, 3] += 0.01 * np.arange(20)
    path = Trajectory(pose.times_s[:15], T[:15])
    xyz, known = joints_in_camera(pose, camera.moved(np.eye(4)), path)
    assert known.tolist() == [True] * 15 + [False] * 5
    for t in (0, 14):
        expected = (pose.xyz[t] - T[t, :3, 3]) @ T[t, :3, :3]
        assert np.allclose(xyz[t], expected, atol=1e-6)
    told = overlay_video(tmp_path / "o.mp4", clip, pose, rig=Rig([camera]), trajectory=path)
    assert told == {"frames": 20, "with_joints": 15}


def test_cameras_are_chosen_or_refused() -> None:
    rig = small_rig()
    with pytest.raises(EgoposeError, match="choose one with --camera: cam01, cam02"):
        choose_camera(rig, None, SIZE, "clip")
    with pytest.raises(EgoposeError, match="no camera 'x'; it has: cam01, cam02"):
        choose_camera(rig, "x", SIZE, "clip")
    with pytest.raises(EgoposeError, match="no camera; give the file"):
        choose_camera(None, None, SIZE, "clip")
    with pytest.raises(EgoposeError, match="images are 180 x 320, camera 'cam01' is calibrated for 320 x 180"):
        choose_camera(rig, "cam01", (180, 320), "clip")
    assert choose_camera(rig, "cam01", SIZE, "clip") is rig.cameras[0]
    with pytest.warns(EgoposeWarning, match="scaled"):
        twice = choose_camera(rig, "cam01", (640, 360), "clip")
    assert twice.K[0, 0] == pytest.approx(2 * rig.cameras[0].K[0, 0])
    with pytest.warns(EgoposeWarning, match="filling of a codec"):
        cut = choose_camera(rig, "cam01", (312, 180), "clip")
    assert np.allclose(cut.K, rig.cameras[0].K)
    pose = walk(1)
    assert own_camera(pose.replace(space="camera:cam02"), rig, None) == "cam02"
    assert own_camera(pose, rig, None) is None
    with pytest.raises(EgoposeError, match="'head'; expected 'world'"):
        joints_in_camera(pose.replace(space="head"), rig.cameras[0])


def test_refusals_leave_nothing(clip: Path, tmp_path: Path) -> None:
    rig, pose = small_rig(), walk(5)
    late = pose.replace(times_s=pose.times_s + 100)
    with pytest.raises(EgoposeError, match="share one clock"):
        overlay_video(tmp_path / "o.mp4", clip, late, rig=rig, camera="cam01")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:300])
    with pytest.raises(EgoposeError, match="truncated or damaged"):
        overlay_video(tmp_path / "o.mp4", broken, pose, rig=rig, camera="cam01")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.mp4", "clip.mp4"]


def test_a_weak_joint_is_hollow() -> None:
    camera = small_rig().cameras[0]
    xyz = np.full((17, 3), np.nan)
    xyz[0] = [0, 0, 2.0]
    u, v = camera.project(xyz[0], frame="camera").round().astype(int)
    pictures = []
    for code in (JointStatus.OK, JointStatus.TWO_VIEWS):
        image = np.full((180, 320, 3), 90, dtype=np.uint8)
        draw_joints(image, camera, xyz, BODY17, np.full(17, code, dtype=np.uint8), thick=3.0)
        pictures.append(image[v, u].astype(int))
    assert pictures[0].min() > 200  # the nose has no side: white
    assert pictures[1].max() < 60


def test_the_clip_inside_the_page_is_small_and_on_time(clip: Path) -> None:
    import base64

    times = np.arange(5, 15) / 30
    told = embed_clip(clip, times)
    data = base64.b64decode(told["source"])
    assert told["start_s"] == pytest.approx(5 / 30)
    path = clip.parent / "small.mp4"
    path.write_bytes(data)
    frames = list(read_frames(path))
    for frame in frames:
        # brightness of the frame shown at that time in the original
        expected = 60 + 4 * round((told["start_s"] + frame.time_s) * 30)
        assert abs(float(np.median(frame.image)) - expected) <= 5
    with pytest.raises(EgoposeError, match="share one clock"):
        embed_clip(clip, times + 50)
    with pytest.raises(EgoposeError, match="do not fit into"):
        embed_clip(clip, times, max_bytes=100)


@pytest.mark.shared
def test_real_joints_lie_on_the_person(shared_data: Path, tmp_path: Path) -> None:
    from egopose.commands.view import run_view
    from egopose.io import save
    from egopose.triangulate import triangulate
    from tests.real_captures import pose2sim_single

    capture = pose2sim_single(shared_data)
    pose = triangulate(capture.rig, capture.observations)
    save(pose, tmp_path / "joints.npz")
    folder = shared_data / "pose2sim_single"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EgoposeWarning)
        told = run_view(
            tmp_path / "joints.npz", html=tmp_path / "a.html", video=tmp_path / "a.mp4", camera="cam_02",
            rig=folder / "calibration" / "Calib_qualisys.toml", clip=folder / "videos" / "cam02.mp4",
        )  # fmt: skip
    assert told["video"]["with_joints"] == 100
    source = next(f.image for f in read_frames(folder / "videos" / "cam02.mp4", start=40))
    drawn = next(f.image for f in read_frames(tmp_path / "a.mp4", start=40))
    changed = np.abs(source.astype(int) - drawn).max(axis=-1) > 60
    seen = capture.observations.uv_px[1, 40]
    names = capture.observations.skeleton.indices(["left_hip", "right_hip", "left_knee", "right_shoulder"])
    for u, v in seen[names].round().astype(int):
        assert changed[v - 16 : v + 17, u - 16 : u + 17].any()
