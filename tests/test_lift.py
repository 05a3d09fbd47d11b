"""Hands of pictures lifted to metres, merged with the network's, and read from files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from egopose import EgoposeError
from egopose.camera import Camera
from egopose.detect.views import View, search_views
from egopose.hand_files import load_hands
from egopose.hands import HandEstimates, merge
from egopose.lift import LiftConfig, adult_hand, lengths, lift
from egopose.skeleton import BODY17_HANDS, HAND21

LENSES = {
    "pinhole": Camera.pinhole(500.0, None, (800, 600), name="ego"),
    "fisheye": Camera.from_opencv(
        np.array([[300.0, 0, 399.5], [0, 300.0, 299.5], [0, 0, 1]]), [0.02, -0.01, 0.003, 0.0], np.eye(3), np.zeros(3),
        (800, 600), fisheye=True,
    ),
}  # fmt: skip


def posed_hand(rng: np.random.Generator, distance: float = 0.4) -> np.ndarray:
    """A hand with bent fingers somewhere before the camera; bones as the template's, the palm rigid."""
    hand = adult_hand().copy()
    for finger in ("index", "middle", "ring", "pinky"):
        bend = np.cumsum(rng.uniform(0.1, 0.9, 3))
        base = HAND21.index(f"{finger}_1")
        for k in range(3):
            length = np.linalg.norm(adult_hand()[base + k + 1] - adult_hand()[base + k])
            hand[base + k + 1] = hand[base + k] + length * np.array([np.cos(bend[k]), 0, np.sin(bend[k])])
    turn = Rotation.from_euler("xyz", rng.uniform(-0.6, 0.6, 3)).as_matrix() @ np.diag([1.0, -1, -1])
    return hand @ turn.T + np.array([rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), distance])


def seen_in(hand: np.ndarray) -> tuple[View, np.ndarray, np.ndarray]:
    """A view at the hand, its points there, and depths in the same unit."""
    view = View.aimed(hand.mean(0), np.array([0.0, -1, 0]), 4.0)
    local = hand @ view.R_camera_view
    return view, view.points(hand), local[:, 2] * view.focal / local[:, 2].mean()


def test_a_hand_of_the_believed_size_is_found_again() -> None:
    rng = np.random.default_rng(0)
    for distance in (0.25, 0.4, 0.7):
        hands = [posed_hand(rng, distance) for _ in range(6)]
        views, points, depth = zip(*(seen_in(h) for h in hands))
        focal = np.array([v.focal for v in views])
        xyz, own, relative = lift(np.stack(points), np.stack(depth), focal)
        found = np.stack([x @ v.R_camera_view.T for x, v in zip(xyz, views)])
        assert np.linalg.norm(found - np.stack(hands), axis=-1).max() < 0.02
        np.testing.assert_allclose(lengths(xyz), np.broadcast_to(lengths(adult_hand()), (6, 25)), rtol=0.04)
        assert (np.linalg.eigvalsh(own) > 0).all()
        assert np.abs(relative[:, HAND21.index("wrist")]).max() < 1e-9


def test_the_solution_is_the_least_squares_one() -> None:
    """Against scipy on the same residuals, from another start."""
    rng = np.random.default_rng(1)
    view, points, depth = seen_in(posed_hand(rng))
    points = points + rng.normal(0, 0.02, points.shape)
    depth = depth + rng.normal(0, 0.1, depth.shape)
    c = LiftConfig(iterations=400, tolerance=1e-9)
    xyz, own, _ = lift(points[None], depth[None], np.array([view.focal]), config=c)
    wanted, zero = lengths(adult_hand()), depth - depth.mean()

    def residuals(flat: np.ndarray) -> np.ndarray:
        P = flat.reshape(21, 3)
        z = P[:, 2]
        return np.concatenate([
            ((view.focal * P[:, :2] / z[:, None] - points) / c.point_sd).ravel(),
            (lengths(P) - wanted) / (c.bone_sd * wanted),
            (z - z.mean() * (1 + zero / view.focal)) / c.depth_sd_m,
        ])  # fmt: skip

    start = xyz[0] * 1.03 + rng.normal(0, 0.003, (21, 3))
    best = least_squares(residuals, start.ravel(), x_scale="jac")
    assert (residuals(xyz[0].ravel()) ** 2).sum() == pytest.approx(2 * best.cost, rel=1e-6)
    np.testing.assert_allclose(xyz[0], best.x.reshape(21, 3), atol=2e-5)
    inverse = np.linalg.inv(best.jac.T @ best.jac)
    tip = HAND21.index("index_4")
    block = slice(3 * tip, 3 * tip + 3)
    expected = inverse[block, block] + c.size_sd**2 * np.outer(xyz[0, tip], xyz[0, tip])
    np.testing.assert_allclose(own[0, tip], expected, rtol=0.02, atol=1e-7)


def test_distance_follows_the_believed_size() -> None:
    view, points, depth = seen_in(posed_hand(np.random.default_rng(2)))
    focal = np.array([view.focal])
    small, *_ = lift(points[None], depth[None], focal, template=0.9 * adult_hand())
    large, *_ = lift(points[None], depth[None], focal, template=1.1 * adult_hand())
    assert large[0, 0, 2] / small[0, 0, 2] == pytest.approx(1.1 / 0.9, rel=0.02)


def test_lift_refuses_what_it_cannot_use() -> None:
    with pytest.raises(EgoposeError, match="expected"):
        lift(np.zeros((1, 20, 2)), np.zeros((1, 21)), np.ones(1))
    with pytest.raises(EgoposeError, match="finite"):
        lift(np.full((1, 21, 2), np.nan), np.zeros((1, 21)), np.ones(1))
    assert lift(np.zeros((0, 21, 2)), np.zeros((0, 21)), np.zeros(0))[0].shape == (0, 21, 3)


@pytest.mark.parametrize("lens", LENSES)
def test_views_keep_directions(lens: str) -> None:
    """A spot drawn in the frame appears where the view says."""
    camera = LENSES[lens]
    ray = np.array([0.3, 0.25, 1.0]) / np.linalg.norm([0.3, 0.25, 1.0])
    uv = camera.project(ray[None], frame="camera")[0]
    frame = np.zeros((600, 800, 3), np.uint8)
    rows, columns = np.mgrid[:600, :800]
    frame[(rows - uv[1]) ** 2 + (columns - uv[0]) ** 2 < 36] = 255
    view = View.aimed(np.array([0.2, 0.3, 1.0]), np.array([0.3, -1.0, 0.1]), 3.0)
    picture = view.image(frame, camera, 160)[..., 0]
    mass = picture / picture.sum()
    at = np.array([(mass.sum(0) @ np.arange(160)), (mass.sum(1) @ np.arange(160))])
    expected = (view.points(ray[None])[0] + 1) * 80 - 0.5
    np.testing.assert_allclose(at, expected, atol=0.5)
    np.testing.assert_allclose(view.rays(view.points(ray[None])), ray[None], atol=1e-12)
    for other in search_views(camera):
        np.testing.assert_allclose(other.R_camera_view.T @ other.R_camera_view, np.eye(3), atol=1e-12)
        assert np.linalg.det(other.R_camera_view) == pytest.approx(1)


def estimates(n: int, hand: np.ndarray, side: int, sd: float = 0.01) -> HandEstimates:
    out = HandEstimates.empty(n)
    out.xyz[:, side] = hand
    out.covariance[:, side] = out.relative[:, side] = sd**2 * np.eye(3)
    return out


def test_merging_adds_precisions() -> None:
    rng = np.random.default_rng(3)
    hand = posed_hand(rng)
    joints = BODY17_HANDS.indices([f"right_hand_{j}" for j in HAND21.joints])
    xyz = rng.normal(0, 1, (4, 59, 3))
    xyz[:, joints] = hand + np.array([0.02, 0, 0])
    covariance = np.tile(0.02**2 * np.eye(3), (4, 59, 1, 1))
    merged, spread, changed = merge(xyz, covariance, estimates(4, hand, 1))
    # variances 4 : 1, so the found hand has four fifths of the weight
    wrist = joints[HAND21.index("wrist")]
    np.testing.assert_allclose(merged[:, wrist] - hand[0], np.tile([0.004, 0, 0], (4, 1)), atol=1e-6)
    np.testing.assert_allclose(spread[:, wrist], np.tile(0.8 * 1e-4 * np.eye(3), (4, 1, 1)), rtol=1e-3, atol=1e-12)
    np.testing.assert_allclose(merged[:, joints] - merged[:, [wrist]], np.tile(hand - hand[0], (4, 1, 1)), atol=1e-6)
    np.testing.assert_array_equal(merged[:, BODY17_HANDS.index("right_wrist")], merged[:, wrist])
    assert changed.sum() == 4 * 22
    others = ~changed[0]
    np.testing.assert_array_equal(merged[:, others], xyz[:, others])


def test_what_contradicts_is_charged_to_the_network() -> None:
    hand = posed_hand(np.random.default_rng(4))
    joints = BODY17_HANDS.indices([f"left_hand_{j}" for j in HAND21.joints])
    wrist = joints[0]
    xyz = np.zeros((1, 59, 3))
    covariance = np.tile(0.01**2 * np.eye(3), (1, 59, 1, 1))
    spreads = []
    # nearer than expected both count alike; from there on the factor k on the network solves apart^2 / (k + 1) = 3 sd^2
    for apart, share in ((0.02, 1 / 2), (0.3, 3 * 0.01**2 / 0.3**2)):
        xyz[0, joints] = hand + np.array([apart, 0, 0])
        merged, spread, _ = merge(xyz, covariance, estimates(1, hand, 0))
        assert merged[0, wrist, 0] - hand[0, 0] == pytest.approx(apart * share, abs=1e-4)
        spreads.append(np.sqrt(spread[0, wrist, 0, 0]))
    assert spreads[0] == pytest.approx(0.01 / np.sqrt(2), rel=0.01)
    # one of the two is wrong, and nobody knows which
    assert spreads[1] > 0.04


def test_a_hand_of_another_shape_leaves_the_found_one() -> None:
    rng = np.random.default_rng(6)
    hand, other = posed_hand(rng), posed_hand(rng)
    joints = BODY17_HANDS.indices([f"left_hand_{j}" for j in HAND21.joints])
    xyz = np.zeros((2, 59, 3))
    xyz[0, joints] = other - other[0] + hand[0]
    xyz[1, joints] = hand + rng.normal(0, 0.004, hand.shape)
    covariance = np.tile(0.004**2 * np.eye(3), (2, 59, 1, 1))
    merged, _, _ = merge(xyz, covariance, estimates(2, hand, 0, sd=0.004))
    far = np.linalg.norm(other - other[0] - (hand - hand[0]), axis=-1).max()
    assert np.linalg.norm(merged[0, joints] - hand, axis=-1).max() < 0.2 * far
    # one that agrees still counts
    offsets = xyz[1, joints] - xyz[1, joints[0]] - (hand - hand[0])
    got = merged[1, joints] - merged[1, joints[0]] - (hand - hand[0])
    np.testing.assert_allclose(got, offsets / 2, rtol=0.35, atol=1e-5)


def test_a_hand_alone_is_taken_as_it_is() -> None:
    hand = posed_hand(np.random.default_rng(5))
    xyz = np.full((2, 59, 3), np.nan)
    merged, spread, _ = merge(xyz, np.full((2, 59, 3, 3), np.nan), estimates(2, hand, 0))
    joints = BODY17_HANDS.indices([f"left_hand_{j}" for j in HAND21.joints])
    np.testing.assert_allclose(merged[1, joints], hand, atol=1e-9)
    assert np.isfinite(spread[:, joints]).all()
    assert np.isnan(merged[:, BODY17_HANDS.index("nose")]).all()
    with pytest.raises(EgoposeError, match="one entry per frame"):
        merge(xyz, np.full((2, 59, 3, 3), np.nan), HandEstimates.empty(3))


# Files of other networks


def write(path: Path, **rows: object) -> Path:
    if path.suffix == ".json":
        n = len(rows["frame"])  # type: ignore[arg-type]
        plain = {k: np.asarray(v).tolist() for k, v in rows.items()}
        path.write_text(json.dumps([{k: v[i] for k, v in plain.items()} for i in range(n)]))
    else:
        np.savez(path, **{k: np.asarray(v) for k, v in rows.items()})  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_camera_frame_hands(tmp_path: Path, suffix: str) -> None:
    hand = posed_hand(np.random.default_rng(6))
    path = write(tmp_path / f"h{suffix}", frame=[0, 3], hand=["left", "right"], xyz_camera=[hand, hand + 0.01],
                 sigma_m=[0.004, 0.008])  # fmt: skip
    out = load_hands(path, 5, None)
    np.testing.assert_allclose(out.xyz[0, 0], hand)
    np.testing.assert_allclose(out.xyz[3, 1], hand + 0.01)
    assert out.known.sum() == 2
    across = np.array([1.0, 0, 0]) - hand[0] * hand[0, 0] / (hand[0] @ hand[0])
    across /= np.linalg.norm(across)
    assert across @ out.covariance[0, 0, 0] @ across == pytest.approx(0.004**2, rel=1e-6)


@pytest.mark.parametrize("lens", LENSES)
def test_pixels_with_relative_joints(tmp_path: Path, lens: str) -> None:
    camera, rng = LENSES[lens], np.random.default_rng(7)
    hands = np.stack([posed_hand(rng, d) for d in (0.3, 0.5)])
    path = write(tmp_path / "h.npz", frame=[1, 1], hand=["left", "right"], uv_px=camera.project(hands, frame="camera"),
                 xyz_relative=hands - hands[:, :1] + rng.normal(0, 0.5, (2, 1, 3)))  # fmt: skip
    out = load_hands(path, 3, camera)
    assert np.linalg.norm(out.xyz[1] - hands, axis=-1).max() < 0.012
    with pytest.raises(EgoposeError, match="needs the clip's camera"):
        load_hands(path, 3, None)


def test_hamer_like_output(tmp_path: Path) -> None:
    """Their camera has another focal length; their left hands are stored as right ones."""
    camera, rng = LENSES["pinhole"], np.random.default_rng(8)
    hand = posed_hand(rng, 0.45)
    theirs = 5000.0 / 256 * 800
    local = hand - hand.mean(0)
    # far away with a long lens: the same picture up to perspective
    shift = hand.mean(0) * [theirs / 500, theirs / 500, theirs / 500]
    shift[:2] = hand.mean(0)[:2] / hand.mean(0)[2] * 500 * shift[2] / theirs
    stored = local * [-1, 1, 1]
    rows = {"frame": [0], "is_right": [0], "pred_keypoints_3d": [stored], "pred_cam_t_full": [shift],
            "focal_length": [theirs]}  # fmt: skip
    with pytest.raises(EgoposeError, match="left_flipped"):
        load_hands(write(tmp_path / "a.npz", **rows), 1, camera)
    out = load_hands(write(tmp_path / "b.npz", **rows, left_flipped=[0]), 1, camera)
    assert np.linalg.norm(out.xyz[0, 0] - hand, axis=-1).max() < 0.05
    wrist = out.xyz[0, 0] - out.xyz[0, 0, 0]
    assert np.linalg.norm(wrist - (hand - hand[0]), axis=-1).max() < 0.025


def test_pose_files_of_the_package(tmp_path: Path) -> None:
    import egopose
    from egopose.pose import PoseSequence

    hand = posed_hand(np.random.default_rng(9))
    xyz = np.full((2, 59, 3), np.nan, np.float32)
    xyz[1, BODY17_HANDS.indices([f"left_hand_{j}" for j in HAND21.joints])] = hand
    poses = PoseSequence(BODY17_HANDS, np.arange(2), np.arange(2) / 30, xyz, space="camera:ego")
    egopose.save(poses, tmp_path / "p.npz")
    np.testing.assert_allclose(load_hands(tmp_path / "p.npz", 2, None).xyz[1, 0], hand, atol=1e-6)
    egopose.save(poses.replace(space="world"), tmp_path / "w.npz")
    with pytest.raises(EgoposeError, match="camera's frame"):
        load_hands(tmp_path / "w.npz", 2, None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"frame": [7]}, "not one of the clip's frames"),
        ({"frame": [0.5]}, "not one of the clip's frames"),
        ({"hand": ["both"]}, "expected 'left' or 'right'"),
        ({"frame": [0, 0], "hand": ["left"] * 2, "xyz_camera": np.ones((2, 21, 3))}, "two left hands"),
        ({"xyz_camera": np.ones((1, 20, 3))}, "has shape"),
        ({"xyz_camera": np.full((1, 21, 3), np.nan)}, "NaN"),
        ({"xyz_camera": None}, "expected frame, hand and"),
        ({"sigma_m": [-1.0]}, "sigma_m"),
        ({"hand": None}, "neither 'hand' nor 'is_right'"),
    ],
)
def test_bad_hand_files(tmp_path: Path, rows: dict[str, object], message: str) -> None:
    whole = {"frame": [0], "hand": ["left"], "xyz_camera": np.ones((1, 21, 3)), **rows}
    path = write(tmp_path / "h.npz", **{k: v for k, v in whole.items() if v is not None})
    with pytest.raises(EgoposeError, match=message):
        load_hands(path, 3, None)


def test_files_that_are_no_hands(tmp_path: Path) -> None:
    for name, content in (("a.npz", b"nonsense"), ("b.json", b"{}"), ("c.pkl", b""), ("d.json", b"[1, 2]")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EgoposeError, match=name):
            load_hands(tmp_path / name, 1, None)
    with pytest.raises(EgoposeError, match="no such file"):
        load_hands(tmp_path / "gone.npz", 1, None)
    np.savez(tmp_path / "e.npz", frame=np.array([{}], dtype=object))
    with pytest.raises(EgoposeError, match="plain arrays"):
        load_hands(tmp_path / "e.npz", 1, None)


def test_hands_out_of_reach_are_somebody_elses(tmp_path: Path) -> None:
    hand = posed_hand(np.random.default_rng(10))
    path = write(tmp_path / "h.npz", frame=[0], hand=["left"], xyz_camera=[hand + np.array([0, 0, 3.0])])
    assert not load_hands(path, 1, None).known.any()
