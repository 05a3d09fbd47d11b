"""Following hands through a lens and merging them into a prediction; nets that read painted joints stand in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import egopose
from egopose import BODY17_HANDS, Clip, EgoposeError, JointStatus, Predictor, Trajectory
from egopose.camera import Camera
from egopose.detect import palm
from egopose.detect.palm import HandTracker, palm_anchors, settle_sides
from egopose.hands import HandEstimates, lift_found
from egopose.lift import adult_hand
from egopose.model.engine import TorchEngine
from egopose.model.network import build
from egopose.skeleton import HAND21
from tests.nets import TINY, shake, walk
from tests.test_lift import LENSES

LEFT = [f"left_hand_{j}" for j in HAND21.joints]
RIGHT = [f"right_hand_{j}" for j in HAND21.joints]
_KNUCKLES = HAND21.indices(["index_1", "middle_1", "ring_1", "pinky_1"])


def colour(j: int, right: bool) -> np.ndarray:
    return np.array([40 + 10 * j, 250 - 10 * j, 220 if right else 140], np.uint8)


class PaintedNets:
    """Finds joints by their colours: exact, and as blind as a real net to what is not in its picture."""

    def _read(self, picture: np.ndarray, right: bool) -> np.ndarray:
        points = np.full((21, 2), np.nan)
        for j in range(21):
            near = (np.abs(picture * 255 - colour(j, right)) < 4).all(-1)
            if near.any():
                rows, columns = np.nonzero(near)
                points[j] = np.array([columns.mean(), rows.mean()]) * 2 / picture.shape[0] - 1 + 1 / picture.shape[0]
        return points

    def palms(self, picture: np.ndarray) -> list[tuple[float, np.ndarray]]:
        found = []
        for right in (True, False):
            points = self._read(picture, right)
            if np.isfinite(points[[0, *_KNUCKLES]]).all():
                middle = points[[0, *_KNUCKLES]].mean(0)
                half = np.full(2, 0.8 * np.linalg.norm(points[_KNUCKLES[1]] - points[0]))
                found.append((0.9, np.stack([middle, half, points[0], *points[_KNUCKLES], points[1], points[2]])))
        return found

    def hand(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
        both = [self._read(picture, right) for right in (True, False)]
        seen = [np.isfinite(points).all() for points in both]
        centred = [np.abs(points.mean(0)).max() if ok else np.inf for points, ok in zip(both, seen)]
        right = centred[0] <= centred[1]
        points = both[0 if right else 1]
        if not np.isfinite(points).all():
            return np.zeros((21, 2)), np.zeros(21), 0.0, 0.5
        return points, np.zeros(21), 1.0, 0.9 if right else 0.1


def paint(camera: Camera, hands: dict[str, np.ndarray]) -> np.ndarray:
    w, h = camera.size
    image = np.zeros((h, w, 3), np.uint8)
    for side, hand in hands.items():
        for j, (u, v) in enumerate(camera.project(hand, frame="camera")):
            r, c = round(float(v)), round(float(u))
            if 4 < r < h - 5 and 4 < c < w - 5:
                spot = np.hypot(*(np.mgrid[-4:5, -4:5] - np.array([v - r, u - c])[:, None, None])) < 4
                image[r - 4 : r + 5, c - 4 : c + 5][spot] = colour(j, side == "right")
    return image


def flat_hand(side: str, place: tuple[float, float, float]) -> np.ndarray:
    """An open hand facing the camera, fingers up."""
    hand = adult_hand()[:, [1, 0, 2]] * [1.0, -1.0, 1.0]
    return hand * ([-1, 1, 1] if side == "left" else [1, 1, 1]) + np.array(place)


@pytest.mark.parametrize("lens", LENSES)
def test_hands_are_followed_through_any_lens(lens: str) -> None:
    camera = LENSES[lens]
    tracker = HandTracker(PaintedNets(), camera)
    errors = []
    for t in range(6):
        truth = {
            "right": flat_hand("right", (0.12 + 0.004 * t, 0.1, 0.4)),
            "left": flat_hand("left", (-0.12, 0.12, 0.45)),
        }
        found = tracker.update(paint(camera, truth))
        if t < 3:
            continue
        assert set(found) == {"left", "right"}
        hands = lift_found([found])
        errors += [np.linalg.norm(hands.xyz[0, i] - truth[s], axis=-1).max() for i, s in enumerate(("left", "right"))]
        assert [h.track for h in found.values()] == [found[s].track for s in found]
    assert max(errors) < 0.03


def test_a_lost_hand_is_found_again_and_an_empty_picture_has_none() -> None:
    camera = LENSES["pinhole"]
    tracker = HandTracker(PaintedNets(), camera)
    black = np.zeros((600, 800, 3), np.uint8)
    assert tracker.update(black) == {}
    there = paint(camera, {"right": flat_hand("right", (0.1, 0.1, 0.4))})
    names = [set(tracker.update(there)) for _ in range(4)]
    assert names[-1] == {"right"}
    assert tracker.update(black) == {}
    elsewhere = paint(camera, {"right": flat_hand("right", (-0.1, 0.0, 0.4))})
    assert [set(tracker.update(elsewhere)) for _ in range(4)][-1] == {"right"}


def test_a_turning_head_does_not_lose_a_hand() -> None:
    """The hand jumps across the image because the head turns; with head poses it is expected there."""
    from scipy.spatial.transform import Rotation

    camera = LENSES["fisheye"]
    world = flat_hand("right", (0.12, 0.1, 0.4))
    held = {}
    for known in (True, False):
        tracker = HandTracker(PaintedNets(), camera, search_every=1000)
        held[known] = 0
        while not tracker.update(paint(camera, {"right": world}), np.eye(4) if known else None):
            assert tracker._count < 12
        # no search from now on
        tracker._count = 1
        for t in range(1, 5):
            T = np.eye(4)
            T[:3, :3] = Rotation.from_euler("y", 0.45 * (t % 2)).as_matrix()
            held[known] += bool(tracker.update(paint(camera, {"right": world @ T[:3, :3]}), T if known else None))
            tracker._count = 1
    assert held == {True: 4, False: 0}


def test_sides_are_settled_by_the_whole_track() -> None:
    camera = LENSES["pinhole"]
    tracker = HandTracker(PaintedNets(), camera)
    frames = [dict(tracker.update(paint(camera, {"left": flat_hand("left", (-0.1, 0.1, 0.4))}))) for _ in range(5)]
    (hand,) = frames[0].values()
    # the first frame is mistaken
    frames[0] = {"right": palm.replace(hand, right=0.95)}
    assert all(set(found) == {"left"} for found in settle_sides(frames))


def test_anchors_are_the_detectors() -> None:
    anchors = palm_anchors()
    assert anchors.shape == (2016, 2)
    np.testing.assert_allclose(anchors[0], 0.5 / 24)
    np.testing.assert_allclose(anchors[-1], 11.5 / 12)


# In predictions


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.set_num_threads(1)
    return Predictor(TorchEngine(shake(build(TINY, 0))), name="tiny", notes={"trained": ["body"]})


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(palm, "HandNets", PaintedNets)


def test_prediction_with_hands(predictor: Predictor, painted: None) -> None:
    camera = LENSES["pinhole"]
    t, T = walk(8)
    hand = flat_hand("right", (0.1, 0.1, 0.4))
    frames = [paint(camera, {"right": hand})] * 8
    clip = Clip(frames, camera, Trajectory(t, T))
    out = predictor.predict(clip, hands="mediapipe", space="camera")
    joints = BODY17_HANDS.indices(RIGHT)
    # the network's own idea of the wrist has its say
    assert np.linalg.norm(out.xyz[:, joints] - hand, axis=-1).max() < 0.08
    shape = out.xyz[:, joints] - out.xyz[:, joints[:1]] - (hand - hand[0])
    assert np.linalg.norm(shape, axis=-1).max() < 0.03
    assert (np.asarray(out.status)[:, joints] == JointStatus.OK).all()
    assert (np.asarray(out.status)[:, BODY17_HANDS.indices(LEFT[1:])] == JointStatus.MISSING).all()
    assert out.provenance["inputs"] == {"images": False, "trajectory": True, "imu": False, "hands": True}
    assert out.provenance["hands"]["hands"] == "mediapipe"
    # the error is longest along the ray
    assert out.covariance is not None
    C = out.covariance[0, joints[0]].astype(float)
    ray = hand[0] / np.linalg.norm(hand[0])
    assert ray @ C @ ray == pytest.approx(np.linalg.eigvalsh(C)[-1], rel=0.05)
    world = predictor.predict(clip, hands="mediapipe")
    np.testing.assert_allclose(egopose.rigid.transform_points(T, out.xyz[:, joints]), world.xyz[:, joints], atol=1e-4)
    R = T[0, :3, :3]
    np.testing.assert_allclose(world.covariance[0, joints[0]], R @ C @ R.T, atol=1e-7)  # type: ignore[index]
    plain = predictor.predict(clip, space="camera")
    body = [j for j in range(17) if j != BODY17_HANDS.index("right_wrist")]
    np.testing.assert_array_equal(plain.xyz[:, body], out.xyz[:, body])
    # the found hand is known better than the guessed one, the rest as well as before
    assert plain.covariance is not None
    np.testing.assert_array_equal(plain.covariance[:, body], out.covariance[:, body])
    assert np.trace(plain.covariance[0, joints[0]]) > np.trace(C)


def test_streamed_hands(predictor: Predictor, painted: None) -> None:
    camera = LENSES["pinhole"]
    t, T = walk(6)
    hand = flat_hand("left", (-0.1, 0.1, 0.4))
    frames = [paint(camera, {"left": hand})] * 6
    parts = list(predictor.stream(frames, camera=camera, trajectory=iter(T), times_s=t, lookahead=2, hands="mediapipe"))
    whole = predictor.predict(Clip(frames, camera, Trajectory(t, T)), mode=2, hands="mediapipe")
    np.testing.assert_allclose(np.concatenate([p.xyz for p in parts]), whole.xyz, atol=1e-4)
    with pytest.raises(EgoposeError, match="looks at images"):
        list(predictor.stream(trajectory=iter(T), times_s=t, hands="mediapipe"))
    with pytest.raises(EgoposeError, match="need a whole clip"):
        list(predictor.stream(frames, camera=camera, trajectory=iter(T), times_s=t, hands="file.npz"))  # type: ignore[arg-type]


def test_hands_with_a_network_that_reads_images(painted: None) -> None:
    both = Predictor(TorchEngine(shake(build(TINY, 0))), name="tiny")
    camera = LENSES["pinhole"]
    t, T = walk(5)
    hand = flat_hand("right", (0.1, 0.1, 0.4))
    clip = Clip([paint(camera, {"right": hand})] * 5, camera, Trajectory(t, T))
    for mode in ("offline", "causal"):
        out = both.predict(clip, hands="mediapipe", space="camera", mode=mode)
        assert np.isfinite(out.xyz).all()
        assert out.provenance["inputs"]["images"]
        assert np.linalg.norm(out.xyz[:, BODY17_HANDS.indices(RIGHT)] - hand, axis=-1).mean() < 0.15


def test_the_networks_crops_go_where_hands_were_found() -> None:
    from egopose.model.track import FrameReader

    camera = LENSES["pinhole"]
    reader = FrameReader(camera, TINY)
    heat = np.full((2, 4, 2, 2), -9.0, np.float32)
    place = np.array([0.1, 0.1, 0.4])
    assert reader.centres(heat, None) == [None, None]
    left, right = reader.centres(heat, None, (None, place))
    assert left is None
    np.testing.assert_array_equal(right, place)
    # behind the lens is no place to look
    assert reader.centres(heat, None, (np.array([0.0, 0.0, -0.4]), None)) == [None, None]


def test_found_hands_say_where_they_are(painted: None) -> None:
    from egopose.hand_source import open_hands
    from egopose.model.session import StepInput

    camera = LENSES["fisheye"]
    source = open_hands("mediapipe")
    source.follow(camera)
    hand = flat_hand("left", (-0.1, 0.1, 0.4))
    for t in range(6):
        step = source.watch(StepInput(t / 30, paint(camera, {"left": hand})))
    left, right = step.hand_centres
    assert right is None
    assert np.linalg.norm(left - hand.mean(0)) < 0.08  # type: ignore[operator]


def test_given_hands_and_hand_files(predictor: Predictor, tmp_path: Path) -> None:
    t, T = walk(4)
    clip = Clip(trajectory=Trajectory(t, T))
    hand = flat_hand("left", (-0.1, 0.1, 0.4))
    np.savez(tmp_path / "h.npz", frame=np.arange(4), hand=np.array(["left"] * 4), xyz_camera=np.tile(hand, (4, 1, 1)))
    out = predictor.predict(clip, hands=tmp_path / "h.npz", space="camera")
    joints = BODY17_HANDS.indices(LEFT)
    np.testing.assert_allclose(
        out.xyz[:, joints] - out.xyz[:, joints[:1]], np.tile(hand - hand[0], (4, 1, 1)), atol=1e-3
    )
    assert out.provenance["hands"] == {"hands": "h.npz", "form": "xyz_camera"}
    empty = predictor.predict(clip, hands=HandEstimates.empty(4), space="camera")
    assert not empty.valid[:, joints[1:]].any()
    for bad, message in (
        (HandEstimates.empty(3), "one entry per frame"), (3, "hands is a int"), ("gone.npz", "no such file"),
        ("mediapipe", "looks at images"),
    ):  # fmt: skip
        with pytest.raises(EgoposeError, match=message):
            predictor.predict(clip, hands=bad)  # type: ignore[arg-type]
    seeing = Predictor(predictor.engine, name="tiny", notes={"trained": ["body", "hands", "images"]})
    with pytest.raises(EgoposeError, match="looks at images"):
        seeing.predict(clip, hands="mediapipe")


def test_smoothing(predictor: Predictor) -> None:
    rng = np.random.default_rng(0)
    t, T = walk(60)
    shaken = T.copy()
    shaken[:, :3, 3] += rng.normal(0, 0.01, (60, 3))
    clip = Clip(trajectory=Trajectory(t, shaken))
    raw, smooth = predictor.predict(clip), predictor.predict(clip, smooth=True)
    bend = [np.linalg.norm(np.diff(p.xyz, 2, axis=0), axis=-1)[:, : BODY17_HANDS.index("left_hand_wrist")].mean()
            for p in (raw, smooth)]  # fmt: skip
    assert bend[1] < 0.5 * bend[0]
    # nowhere far from what was said
    assert np.nanmax(np.linalg.norm(raw.xyz - smooth.xyz, axis=-1)) < 0.1
    np.testing.assert_array_equal(raw.valid, smooth.valid)
    np.testing.assert_array_equal(raw.sigma, smooth.sigma)
    assert smooth.provenance["smoothed"]["agility_m2_s3"] > 0
    head = predictor.predict(clip, smooth=True, space="camera")
    np.testing.assert_allclose(egopose.rigid.transform_points(shaken, head.xyz), smooth.xyz, atol=1e-4)


def test_smoothing_keeps_gaps_and_follows_what_is_sure() -> None:
    from egopose.postsmooth import smooth_path

    t = np.arange(50) / 30
    rng = np.random.default_rng(1)
    path = np.stack([0.3 * np.sin(3 * t), t, 0 * t], -1)[:, None]
    noisy = path + rng.normal(0, 0.02, path.shape)
    noisy[20:24] = np.nan
    C = np.tile(0.02**2 * np.eye(3), (50, 1, 1, 1))
    out = smooth_path(t, noisy, C)
    assert np.isnan(out[20:24]).all()
    ok = np.isfinite(noisy[:, 0, 0])
    assert np.linalg.norm((out - path)[ok], axis=-1).mean() < 0.6 * np.linalg.norm((noisy - path)[ok], axis=-1).mean()
    C[30] = 1e-8 * np.eye(3)
    sure = smooth_path(t, noisy, C)
    assert np.linalg.norm(sure[30] - noisy[30]) < 1e-3
    with pytest.raises(EgoposeError, match="agility"):
        smooth_path(t, noisy, C, agility=-1)


@pytest.mark.shared
def test_real_hand_video(shared_data: Path) -> None:
    """Both views of a real hand, each lifted alone, against the triangulation of the two."""
    from egopose.detect.weights import missing
    from egopose.errors import EgoposeWarning
    from egopose.io.video import read_frames
    from egopose.metrics import pa_mpjpe
    from egopose.triangulate import triangulate_points

    pytest.importorskip("ai_edge_litert")
    if missing():
        pytest.skip("the nets are not fetched")
    folder = shared_data / "handpose3d_2cam"
    with pytest.warns(EgoposeWarning, match="unit"):
        rig = egopose.load(folder / "camera_parameters", size=(720, 720))
    found = []
    for view in (0, 1):
        tracker = HandTracker(palm.HandNets(), rig.cameras[view].moved(np.eye(4)))
        found.append([tracker.update(f.image) for f in read_frames(folder / f"cam{view}_test.mp4", start=60, stop=76)])
        assert all(set(frame) == {"right"} for frame in found[view][4:])
    both = [t for t in range(16) if found[0][t] and found[1][t]]
    uv = np.stack([
        [rig.cameras[v].project(found[v][t]["right"].rays, frame="camera") for t in both] for v in (0, 1)
    ])  # fmt: skip
    solved = triangulate_points(rig.cameras, uv.reshape(2, -1, 2)).points.reshape(-1, 21, 3)
    good = np.isfinite(solved).all((1, 2))
    assert good.sum() > 8
    for view in (0, 1):
        lifted = lift_found([found[view][t] for t in both]).xyz[good, 1]
        T = rig.cameras[view].T_camera_world
        truth = egopose.rigid.transform_points(T, solved[good])
        # the rig's unit is unknown: only the shape is compared
        truth *= np.linalg.norm(lifted - lifted.mean(1, keepdims=True)) / np.linalg.norm(
            truth - truth.mean(1, keepdims=True)
        )
        assert 1000 * np.mean(pa_mpjpe(lifted, truth)) < 18
