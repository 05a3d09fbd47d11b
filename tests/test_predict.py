"""Prediction: whole clips and streams, frames of reference, what came in, and bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from egopose import BODY17_HANDS, Clip, EgoposeError, JointStatus, Predictor, Trajectory, rigid
from egopose.camera import Camera
from egopose.clip import Imu
from egopose.io.video import VideoWriter
from egopose.model.config import ModelConfig
from egopose.model.engine import TorchEngine
from egopose.model.network import build
from egopose.model.track import FrameReader
from egopose.predict import _floor
from tests.nets import CAMERA, TINY, pictures, shake, walk


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.set_num_threads(1)
    return Predictor(TorchEngine(shake(build(TINY, 0))), name="tiny")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with VideoWriter(path, fps=25) as writer:
        for image in pictures(12):
            writer.add(image)
    return path


def test_trajectory_alone(predictor: Predictor) -> None:
    t, T = walk(30)
    out = predictor.predict(Clip(trajectory=Trajectory(t, T)))
    assert out.xyz.shape == (30, 59, 3)
    assert out.xyz.dtype == np.float32
    assert out.skeleton is BODY17_HANDS
    assert out.space == "world"
    assert out.provenance["inputs"] == {"images": False, "trajectory": True, "imu": False}
    assert (np.asarray(out.status) == JointStatus.OUT_OF_VIEW).all()
    assert out.sigma is not None
    assert (out.sigma > 0).all()
    # the error bar as one number is that of the covariance
    assert out.covariance is not None
    assert (np.linalg.eigvalsh(out.covariance.astype(float)) > 0).all()
    np.testing.assert_allclose(out.sigma**2, np.trace(out.covariance, axis1=-2, axis2=-1) / 3, rtol=1e-4)


def test_error_bars_have_their_own_length_along_each_axis(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    t, T = walk(6)
    clip = Clip(trajectory=Trajectory(t, T))
    monkeypatch.setattr(predictor.engine, "sigma_factor", np.ones((5, 59, 3), np.float32))
    plain = predictor.predict(clip, space="head")
    monkeypatch.setattr(predictor.engine, "sigma_factor", np.tile(np.float32([1, 2, 3]), (5, 59, 1)))
    longer = predictor.predict(clip, space="head")
    assert plain.covariance is not None
    # without images the axes are those of the head frame: forward, left, up
    variance = plain.sigma.astype(float)[..., None, None] ** 2 * np.eye(3)  # type: ignore[union-attr]
    np.testing.assert_allclose(plain.covariance, variance, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(longer.covariance, variance * np.diag([1, 4, 9]), rtol=1e-4, atol=1e-7)


def test_error_bars_are_those_of_how_it_was_said(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    t, T = walk(6)
    seeing = Clip(pictures(6), CAMERA, Trajectory(t, T), times_s=t)

    def moved(row: int) -> set[str]:
        """Ways to predict whose error bars follow one row of factors."""
        found = []
        for rows in (np.ones((5, 59, 3), np.float32), np.ones((5, 59, 3), np.float32)):
            rows[row] = 1.0 + len(found)
            monkeypatch.setattr(predictor.engine, "sigma_factor", rows)
            whole = [predictor.predict(Clip(trajectory=Trajectory(t, T)), mode=m) for m in ("offline", "causal")]
            whole += [predictor.predict(seeing, mode=m) for m in ("offline", "causal", 2)]
            whole.append(list(predictor.stream(pictures(6), camera=CAMERA, trajectory=T, times_s=t))[-1])
            found.append([p.sigma for p in whole])
        names = ("poses", "poses live", "offline", "causal", "2 ahead", "stream")
        return {
            name for name, one, two in zip(names, *found, strict=True) if not np.array_equal(one, two)
        }  # fmt: skip

    live = {"causal", "2 ahead", "stream"}
    assert moved(0) == {"poses", "poses live"}
    assert moved(1) | moved(2) == {"offline"}
    assert moved(3) | moved(4) == live


def test_spaces_agree(predictor: Predictor) -> None:
    t, T = walk(20)
    clip = Clip(trajectory=Trajectory(t, T))
    world, head, camera = (predictor.predict(clip, space=s) for s in ("world", "head", "camera"))
    np.testing.assert_allclose(rigid.transform_points(T, camera.xyz), world.xyz, atol=1e-5)
    from egopose.model.headmotion import canonical_from_world

    np.testing.assert_allclose(rigid.transform_points(canonical_from_world(T), head.xyz), world.xyz, atol=1e-5)
    assert camera.space == "camera:ego"
    with pytest.raises(EgoposeError, match="space"):
        predictor.predict(clip, space="moon")


def test_the_world_may_be_turned_and_moved(predictor: Predictor) -> None:
    t, T = walk(25)
    move = np.eye(4)
    move[:3, :3] = Rotation.from_euler("Z", 2.0).as_matrix()
    move[:2, 3] = 10, -4
    a = predictor.predict(Clip(trajectory=Trajectory(t, T)))
    b = predictor.predict(Clip(trajectory=Trajectory(t, move @ T)))
    np.testing.assert_allclose(rigid.transform_points(move, a.xyz), b.xyz, atol=2e-4)


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("lookahead", [0, 3])
def test_stream_equals_offline(predictor: Predictor, images: bool, lookahead: int) -> None:
    t, T = walk(20)
    frames = pictures(20) if images else None
    whole = predictor.predict(Clip(frames, CAMERA, Trajectory(t, T)), mode=lookahead if lookahead else "causal")
    parts = list(predictor.stream(frames, camera=CAMERA, trajectory=iter(T), times_s=iter(t), lookahead=lookahead))
    assert [p.frames[0] for p in parts] == list(range(20))
    np.testing.assert_allclose(np.concatenate([p.xyz for p in parts]), whole.xyz, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([p.status for p in parts]), whole.status)


def test_a_stream_answers_before_the_next_frame_comes(predictor: Predictor) -> None:
    t, T = walk(10)
    fed = []

    def poses():
        for pose in T:
            fed.append(1)
            yield pose

    stream = predictor.stream(trajectory=poses(), times_s=t)
    next(stream)
    assert len(fed) == 1
    next(stream)
    assert len(fed) == 2


def test_video_with_and_without_trajectory(predictor: Predictor, video: Path) -> None:
    t, T = walk(60)
    a = predictor.predict(Clip(video, CAMERA, Trajectory(t, T)))
    assert a.n_frames == 12
    np.testing.assert_allclose(a.times_s, np.arange(12) / 25, atol=1e-6)
    assert a.space == "world"
    b = predictor.predict(Clip(str(video), CAMERA))
    assert b.space == "camera:ego"
    assert b.provenance["inputs"] == {"images": True, "trajectory": False, "imu": False}
    assert np.isfinite(b.xyz).all()
    with pytest.raises(EgoposeError, match="need a trajectory"):
        predictor.predict(Clip(video, CAMERA), space="world")


def test_seen_joints_are_marked(predictor: Predictor) -> None:
    t, T = walk(15)
    out = predictor.predict(Clip(pictures(15), CAMERA, Trajectory(t, T)), space="camera")
    inside = CAMERA.visible(out.xyz, frame="camera")
    assert not (np.asarray(out.status) == JointStatus.OK)[~inside].any()


def test_imu_is_used(predictor: Predictor) -> None:
    from egopose.model.imu import simulate_imu

    t, T = walk(40)
    force, turn = simulate_imu(t, T)
    without = predictor.predict(Clip(trajectory=Trajectory(t, T)))
    with_imu = predictor.predict(Clip(trajectory=Trajectory(t, T), imu=Imu(t, force, turn)))
    assert with_imu.provenance["inputs"]["imu"]
    assert np.abs(with_imu.xyz - without.xyz).max() > 1e-4


def test_simulated_imu_matches_known_motion() -> None:
    from egopose.model.imu import IMU_FEATURES, imu_features, simulate_imu

    t = np.arange(100) / 100
    T = np.tile(np.eye(4), (100, 1, 1))
    T[:, :3, :3] = Rotation.from_euler("z", 2.0 * t[:, None]).as_matrix()
    T[:, 0, 3] = 0.5 * 3.0 * t**2
    force, turn = simulate_imu(t, T)
    np.testing.assert_allclose(turn[5:-5], np.tile([0, 0, 2.0], (90, 1)), atol=1e-2)
    world = np.einsum("tij,tj->ti", T[:, :3, :3], force)
    np.testing.assert_allclose(world[5:-5], np.tile([3.0, 0, 9.81], (90, 1)), atol=1e-2)
    features, known = imu_features(np.array([0.5, 9.0]), t, force, turn)
    assert features.shape == (2, IMU_FEATURES)
    assert known.tolist() == [True, False]


def test_long_clips_are_blended_from_windows(predictor: Predictor) -> None:
    t, T = walk(700)
    out = predictor.predict(Clip(trajectory=Trajectory(t, T)))
    head = predictor.predict(Clip(trajectory=Trajectory(t[:400], T[:400])))
    # far from either end, one window holds all that a step can see
    np.testing.assert_allclose(out.xyz[:300], head.xyz[:300], atol=1e-4)
    assert np.isfinite(out.xyz).all()


def test_missing_poses_have_a_policy(predictor: Predictor) -> None:
    t, T = walk(60)
    keep = np.r_[0:20, 40:50]
    clip = Clip(trajectory=Trajectory(t[keep], T[keep]), times_s=t)
    with pytest.raises(EgoposeError, match="missing_poses='nearest'"):
        predictor.predict(clip)
    near = predictor.predict(clip, missing_poses="nearest")
    assert near.valid.all()
    absent = predictor.predict(clip, missing_poses="absent")
    assert not absent.valid[25:35].any()
    assert not absent.valid[55:].any()
    assert absent.valid[:20].all()
    early = Clip(pictures(60), CAMERA, Trajectory(t[:40], T[:40]), times_s=t)
    with pytest.raises(EgoposeError, match="lie outside"):
        predictor.predict(early)
    with pytest.raises(EgoposeError, match="missing_poses is"):
        predictor.predict(clip, missing_poses="guess")  # type: ignore[arg-type]
    with pytest.raises(EgoposeError, match="shift its clock"):
        predictor.predict(Clip(trajectory=Trajectory(t, T), times_s=t + 100), missing_poses="absent")


def test_floor_policy() -> None:
    _, T = walk(10)
    assert _floor("auto", T) == 0.0
    low = T.copy()
    low[:, 2, 3] -= 1.6
    assert _floor("auto", low) is None
    assert _floor(-1.6, low) == -1.6
    assert _floor(None, T) is None
    with pytest.raises(EgoposeError, match="floor_z"):
        _floor(float("nan"), T)


def test_a_known_floor_moves_with_the_world(predictor: Predictor) -> None:
    t, T = walk(20)
    low = T.copy()
    low[:, 2, 3] -= 1.6
    a = predictor.predict(Clip(trajectory=Trajectory(t, T)))
    b = predictor.predict(Clip(trajectory=Trajectory(t, low)), floor_z=-1.6)
    np.testing.assert_allclose(a.xyz - [0, 0, 1.6], b.xyz, atol=1e-5)


def test_untrained_parts_are_missing_and_images_unused(video: Path) -> None:
    predictor = Predictor(TorchEngine(shake(build(TINY, 0))), notes={"trained": ["body"]})
    t, T = walk(60)
    out = predictor.predict(Clip(video, None, Trajectory(t, T)))
    assert not out.provenance["inputs"]["images"]
    fingers = [j for j in BODY17_HANDS.joints if "_hand_" in j and not j.endswith("hand_wrist")]
    assert not out.valid[:, BODY17_HANDS.indices(fingers)].any()
    assert out.valid[:, BODY17_HANDS.index("left_hand_wrist")].all()
    assert np.isnan(out.sigma[:, BODY17_HANDS.indices(fingers)]).all()  # type: ignore[index]


def test_bad_clips_are_refused(predictor: Predictor, video: Path, tmp_path: Path) -> None:
    t, T = walk(60)
    trajectory = Trajectory(t, T)
    with pytest.raises(EgoposeError, match="no frames"):
        predictor.predict(Clip([], CAMERA, trajectory))
    with pytest.raises(EgoposeError, match="need their camera"):
        predictor.predict(Clip(video, None, trajectory))
    with pytest.raises(EgoposeError, match="calibrated for 640"):
        predictor.predict(Clip(video, Camera.pinhole(300, None, (640, 480)), trajectory))
    with pytest.raises(EgoposeError, match="calibrated for 640"):
        predictor.predict(Clip(pictures(60), Camera.pinhole(300, None, (640, 480)), trajectory))
    with pytest.raises(EgoposeError, match="without times"):
        predictor.predict(Clip(pictures(5), CAMERA))
    with pytest.raises(EgoposeError, match="5 images but 3 times"):
        predictor.predict(Clip(pictures(5), CAMERA, times_s=t[:3]))
    with pytest.raises(EgoposeError, match="uint8"):
        predictor.predict(Clip([np.zeros((90, 120, 3))], CAMERA, times_s=t[:1]))
    with pytest.raises(EgoposeError, match="mode"):
        predictor.predict(Clip(trajectory=trajectory), mode="fast")  # type: ignore[arg-type]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:200])
    with pytest.raises(EgoposeError, match=r"broken\.mp4"):
        predictor.predict(Clip(broken, CAMERA))
    with pytest.raises(EgoposeError, match=r"gone\.mp4"):
        predictor.predict(Clip(tmp_path / "gone.mp4", CAMERA))
    with pytest.raises(EgoposeError, match="NaN"):
        list(predictor.stream(trajectory=[np.full((4, 4), np.nan)], times_s=[0.0]))
    with pytest.raises(EgoposeError, match="times_s"):
        list(predictor.stream(pictures(2), camera=CAMERA))
    with pytest.raises(EgoposeError, match="their camera"):
        list(predictor.stream(pictures(2), fps=30))
    with pytest.raises(EgoposeError, match="neither"):
        list(predictor.stream())


def test_a_left_hand_is_the_mirror_of_a_right_one() -> None:
    """The hand branch alone: a mirrored picture and mirrored crops give mirrored hands."""
    model = shake(build(TINY, 3))
    with torch.no_grad():
        model.kind[1] = model.kind[2]
        model.queries[1] = model.queries[2]
    from egopose.model.rays import HandCrop
    from egopose.model.track import cut_crops

    picture = pictures(1, seed=9)[0]
    centre = np.array([0.08, 0.05, 0.4])
    mirrored = centre * [-1, 1, 1]
    cells = TINY.hand_px // 32
    right, _ = cut_crops(picture, CAMERA, [None, centre], TINY.hand_px, cells)
    left, _ = cut_crops(picture[:, ::-1].copy(), CAMERA, [mirrored, None], TINY.hand_px, cells)
    # remapped twice in opposite directions: equal up to rounding of the interpolation
    assert np.abs(left[0].astype(int) - right[1].astype(int)).mean() < 1.0
    a, b = HandCrop.aimed(centre), HandCrop.aimed(mirrored)
    np.testing.assert_allclose(a.token_rays(3, mirror=False), b.token_rays(3, mirror=True), atol=1e-6)


def test_crops_look_where_they_should() -> None:
    from egopose.model.rays import Fit, HandCrop, image_rays

    crop = HandCrop.aimed(np.array([0.2, 0.3, 0.4]))
    R = crop.R_camera_crop
    np.testing.assert_allclose(R.T @ R, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)
    np.testing.assert_allclose(R[:, 2], np.array([0.2, 0.3, 0.4]) / np.linalg.norm([0.2, 0.3, 0.4]))
    # a point at the hand radius, seen from the hand's distance, lands on the crop's edge
    edge = R @ np.array([0.13, 0, crop.distance_m])
    local = R.T @ edge
    assert crop.focal * local[0] / local[2] == pytest.approx(1)
    with pytest.raises(EgoposeError, match="no direction"):
        HandCrop.aimed(np.zeros(3))
    fit = Fit((120, 90), 64)
    uv = np.array([[0.0, 0.0], [119.0, 89.0], [30.5, 70.25]])
    np.testing.assert_allclose(fit.to_frame(fit.to_square(uv)), uv, atol=1e-9)
    rays = image_rays(CAMERA, fit, 8)
    assert rays[0, 0, 3] == 0
    known = rays[..., 3] == 1
    np.testing.assert_allclose(np.linalg.norm(rays[known][:, :3], axis=1), 1, atol=1e-6)
    assert known.mean() == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("size", [(1920, 1080), (1408, 1408), (512, 384), (641, 481), (1000, 2), (120, 90)])
def test_a_fitted_frame_is_the_average_of_its_pixels(size: tuple[int, int]) -> None:
    from egopose.model.rays import Fit

    fit = Fit(size, 192)
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    frame = np.stack([255 * x, 255 * y, 127 + 100 * np.sin(6 * x + 4 * y)], axis=-1).round().astype(np.uint8)
    (width, height), (left, top) = fit.inner, fit.offset
    got = fit.image(frame)
    inside = np.zeros(got.shape[:2], dtype=bool)
    inside[top : top + height, left : left + width] = True
    assert not got[~inside].any()
    # what an area filter over the whole of it gives, to rounding
    import cv2

    whole = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if fit.scale < 1 else cv2.INTER_LINEAR)
    assert np.abs(got[inside].reshape(height, width, 3).astype(int) - whole).max() <= 3


def test_hand_finder_places_a_lost_hand() -> None:
    from egopose.model.rays import Fit
    from egopose.model.track import DISTANCE_UNIT_M, heat_peaks

    fit = Fit(CAMERA.size, 64)
    truth = np.array([0.1, 0.05, 0.5])
    uv = fit.to_square(CAMERA.project(truth[None], frame="camera"))[0]
    cell = (uv + 0.5) * 4 / 64 - 0.5
    row, column = round(float(cell[1])), round(float(cell[0]))
    heat = np.full((2, 4, 4, 4), -9.0, dtype=np.float32)
    heat[1, :, row, column] = 4.0, cell[0] - column, cell[1] - row, np.log(np.linalg.norm(truth) / DISTANCE_UNIT_M)
    (((none, _),), ((there, place),)) = heat_peaks(heat, CAMERA, fit)
    assert none < 0.01
    assert there > 0.9
    np.testing.assert_allclose(place, truth, atol=1e-5)
    # a lesser top further off comes second, the slope beside the best one does not
    heat[1, 0, row, column - 1], heat[1, 0, (row + 2) % 4, column] = 3.0, 1.0
    more = heat_peaks(heat, CAMERA, fit, most=2)[1]
    np.testing.assert_allclose([p for p, _ in more], [1 / (1 + np.exp(-4.0)), 1 / (1 + np.exp(-1.0))], atol=1e-6)
    np.testing.assert_allclose(more[0][1], truth, atol=1e-5)


def test_one_hand_is_not_taken_for_both() -> None:
    from egopose.model.track import DISTANCE_UNIT_M

    reader = FrameReader(CAMERA, ModelConfig(image_px=64, hand_px=32))
    right = np.array([0.1, 0.05, 0.5])

    def heat(left: np.ndarray, left_logit: float) -> np.ndarray:
        out = np.full((2, 4, 4, 4), -9.0, dtype=np.float32)
        for side, place, logit in ((0, left, left_logit), (1, right, 3.0)):
            uv = reader.fit.to_square(CAMERA.project(place[None], frame="camera"))[0]
            cell = (uv + 0.5) * 4 / 64 - 0.5
            row, column = round(float(cell[1])), round(float(cell[0]))
            distance = np.log(np.linalg.norm(place) / DISTANCE_UNIT_M)
            out[side, :, row, column] = logit, cell[0] - column, cell[1] - row, distance
        return out

    near, beside = right + np.array([0.01, 0.0, 0.0]), right - np.array([0.12, 0.0, 0.0])
    apart = reader.centres(heat(beside, 1.0), None)
    np.testing.assert_allclose(np.stack(apart), [beside, right], atol=1e-5)
    less, more = reader.centres(heat(near, 1.0), None), reader.centres(heat(near, 4.0), None)
    assert less[0] is None
    np.testing.assert_allclose(less[1], right, atol=1e-5)
    assert more[1] is None
    np.testing.assert_allclose(more[0], near, atol=1e-5)
    # what something else has found is believed
    assert all(place is not None for place in reader.centres(heat(near, 1.0), None, (near, right)))


def test_a_crop_of_a_large_frame_skips_no_pixel() -> None:
    import cv2

    from egopose.model.rays import HandCrop

    # stripes finer than a crop's pixel: skipping gives stripes, averaging grey
    side = 1024
    camera = Camera.pinhole(900.0, [(side - 1) / 2] * 2, (side, side), name="ego")
    striped = np.zeros((side, side, 3), np.uint8)
    striped[:, ::2] = 200
    crop = HandCrop.aimed(np.array([0.02, -0.01, 0.3]))
    np.testing.assert_allclose(crop.image(striped, camera, 96, mirror=False), 100, atol=1)
    # a smooth picture comes out as a fine crop of it that is averaged, whichever way
    x, y = np.meshgrid(np.linspace(0, 20, side), np.linspace(0, 9, side))
    smooth = np.stack([127 + 100 * np.sin(x), 127 + 100 * np.cos(y), 60 + 50 * np.sin(x + y)], axis=-1).astype(np.uint8)
    for mirror in (False, True):
        fine = crop.image(smooth, camera, 768, mirror=mirror)
        mean = cv2.resize(fine, (96, 96), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(crop.image(smooth, camera, 96, mirror=mirror) - mean).max() <= 4
