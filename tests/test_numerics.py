"""Numbers at their ends: NaN, infinity, denormals, a million metres away, nothing, one frame, one joint, many."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import egopose
from egopose import metrics
from egopose.errors import EgoposeError
from egopose.metrics.accumulate import Accumulator
from egopose.skeleton import Skeleton
from egopose.triangulate import triangulate, triangulate_points
from tests.io_cases import ring

PLAIN: dict[str, Callable[..., Any]] = {
    "mpjpe": metrics.mpjpe,
    "pa_mpjpe": metrics.pa_mpjpe,
    "n_mpjpe": metrics.n_mpjpe,
    "mpjve": metrics.mpjve,
    "accel_error": metrics.accel_error,
    "w_mpjpe": metrics.w_mpjpe,
    "wa_mpjpe": metrics.wa_mpjpe,
}
POINT = Skeleton("point", ("tip",), (), ())


def pair(n: int = 120, joints: int = 17, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 0.5, (n, joints, 3)) + np.linspace(0, 1, n)[:, None, None]
    return target + rng.normal(0, 0.05, target.shape), target


# metrics


@pytest.mark.parametrize("name", PLAIN)
def test_a_frame_that_is_not_finite_stays_alone(name: str) -> None:
    """Poisoned frames are NaN or skipped, the others keep their values; nothing warns (warnings are errors here)."""
    pred, target = pair()
    clean = PLAIN[name](pred, target, reduce="none")
    for value in (np.nan, np.inf, -np.inf):
        bad = pred.copy()
        bad[50, 3, 1] = value
        found = PLAIN[name](bad, target, reduce="none")
        assert found.shape == clean.shape
        assert not np.isinf(found).any()
        if name in ("mpjpe", "pa_mpjpe", "n_mpjpe"):
            assert np.isnan(found[50])
            np.testing.assert_array_equal(np.delete(found, 50), np.delete(clean, 50))
        missing = target.copy()
        missing[50, 3, 1] = value
        assert np.isfinite(PLAIN[name](pred, missing, reduce="none")[:40]).all()


# n_mpjpe scales about the origin and is another number elsewhere by definition
@pytest.mark.parametrize("name", [name for name in PLAIN if name != "n_mpjpe"])
def test_a_million_metres_away_nothing_changes(name: str) -> None:
    pred, target = pair()
    offset = np.array([1e6, -1e6, 1e6])
    near = PLAIN[name](pred, target, reduce="none")
    far = PLAIN[name](pred + offset, target + offset, reduce="none")
    # float64 keeps 1e-10 m there; the solution of a similarity squares the loss
    np.testing.assert_allclose(far, near, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-300, 1e-160, 1e150])
def test_denormal_and_huge_poses_give_finite_numbers(name: str, scale: float) -> None:
    pred, target = pair(40)
    found = PLAIN[name](pred * scale, target * scale, reduce="none")
    assert not np.isinf(found).any()
    assert (found[np.isfinite(found)] >= 0).all()


@pytest.mark.parametrize("name", PLAIN)
def test_nothing_one_frame_and_one_joint(name: str) -> None:
    metric = PLAIN[name]
    empty = np.zeros((0, 17, 3))
    assert metric(empty, empty, reduce="none").size == 0
    for reduce in ("micro", "macro"):
        assert np.isnan(metric(empty, empty, reduce=reduce))
    pred, target = pair(1)
    assert metric(pred, target, reduce="none").size <= 1
    pred, target = pair(30, 1)
    found = metric(pred, target, reduce="none")
    assert not np.isinf(found).any()
    nobody = np.full((30, 17, 3), np.nan)
    assert np.isnan(metric(nobody, nobody, reduce="none")).all()


def test_no_joint_at_all_is_refused_or_nothing() -> None:
    nothing = np.zeros((5, 0, 3))
    for metric in PLAIN.values():
        try:
            found = metric(nothing, nothing, reduce="none")
        except EgoposeError:
            continue
        assert not np.isfinite(found).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pck_and_auc_count_what_is_not_finite_as_the_rest_does(value: float) -> None:
    pred, target = pair()
    bad = pred.copy()
    bad[7] = value
    for found in (metrics.pck(bad, target, 0.1), metrics.auc(bad, target)):
        assert not np.isinf(np.asarray(found)).any()
    assert metrics.pck(target, target, 0.1) == 1


def test_accumulated_sums_are_as_tough() -> None:
    pred, target = pair(60)
    for offset, value in ((0.0, np.nan), (1e6, np.inf), (0.0, 5e-324)):
        state = Accumulator(17)
        bad = pred + offset
        bad[7, 3, 0] = value
        state.update("take", bad, target + offset, fps=30.0)
        state.update("nothing", np.zeros((0, 17, 3)), np.zeros((0, 17, 3)), fps=30.0)
        found = state.compute(skip_not_finite=True)
        assert not any(isinstance(v, float) and np.isinf(v) for v in found.values())


# triangulation


def cloud(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.3, (n, 3)) + np.array([0, 0, 1.0])


def seen(points: np.ndarray) -> tuple[list[egopose.Camera], np.ndarray]:
    rig = ring(4)
    return rig.cameras, rig.project(points)


def test_points_without_enough_finite_views_are_missing_not_wrong() -> None:
    points = cloud(50)
    cameras, uv = seen(points)
    for value in (np.nan, np.inf, -np.inf):
        bad = uv.copy()
        bad[1:, 7] = value
        bad[0, 8] = value
        found = triangulate_points(cameras, bad)
        assert np.isnan(found.points[7]).all()
        assert not found.used[1:, 7].any()
        np.testing.assert_allclose(np.delete(found.points, 7, 0), np.delete(points, 7, 0), atol=1e-5)
    huge = uv.copy()
    huge[0, 9] = 1e30
    np.testing.assert_allclose(triangulate_points(cameras, huge).points[9], points[9], atol=1e-5)
    tiny = uv.copy()
    tiny[0, 9] = 5e-324
    assert not np.isinf(triangulate_points(cameras, tiny).points).any()


def test_a_rig_a_million_metres_away_triangulates_as_well() -> None:
    points = cloud(40)
    offset = np.array([1e6, 1e6, 0.0])
    cameras, uv = seen(points)
    moved = []
    for camera in cameras:
        T = camera.T_world_camera.copy()
        T[:3, 3] += offset
        moved.append(camera.moved(T))
    found = triangulate_points(moved, uv)
    np.testing.assert_allclose(found.points - offset, points, atol=2e-3)


def test_no_points_one_point_one_camera() -> None:
    cameras, uv = seen(np.zeros((0, 3)))
    assert triangulate_points(cameras, uv).points.shape == (0, 3)
    cameras, uv = seen(np.array([[0.1, 0.2, 1.0]]))
    np.testing.assert_allclose(triangulate_points(cameras, uv).points, [[0.1, 0.2, 1.0]], atol=1e-6)
    with pytest.raises(EgoposeError):
        triangulate_points(cameras[:1], uv[:1])


@pytest.mark.parametrize("frames", [0, 1])
def test_observations_of_no_frame_one_frame_one_joint(frames: int) -> None:
    rig = ring(3)
    xyz = np.full((frames, 1, 3), 0.5)
    observations = egopose.Observations2D(POINT, tuple(rig.names), np.arange(frames), rig.project(xyz), fps=30.0)
    pose = triangulate(rig, observations)
    assert pose.xyz.shape == (frames, 1, 3)
    np.testing.assert_allclose(pose.xyz, xyz, atol=1e-4)


# prediction


def straight(n: int, offset: float = 0.0, step: float = 1 / 30) -> egopose.Trajectory:
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, :3, :3] = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    T[:, :3, 3] = [offset, offset, 1.6]
    T[:, 0, 3] += 0.02 * np.arange(n)
    return egopose.Trajectory(np.arange(n) * step, T)


@pytest.fixture(scope="module")
def predictor() -> egopose.Predictor:
    return egopose.Predictor.from_pretrained("nano")


def test_one_step_of_the_head_is_enough(predictor: egopose.Predictor) -> None:
    pose = predictor.predict(egopose.Clip(trajectory=straight(1)))
    assert pose.xyz.shape == (1, 59, 3)
    assert not np.isinf(pose.xyz).any()
    assert pose.sigma is not None
    assert not np.isinf(pose.sigma).any()


def test_a_head_a_thousand_kilometres_away_moves_the_same_body(predictor: egopose.Predictor) -> None:
    near = predictor.predict(egopose.Clip(trajectory=straight(20)))
    far = predictor.predict(egopose.Clip(trajectory=straight(20, 1e6)))
    assert not np.isinf(far.xyz).any()
    # float32 storage keeps 6 cm at a million metres
    np.testing.assert_allclose(far.xyz[..., 2], near.xyz[..., 2], atol=1e-2)
    np.testing.assert_allclose(far.xyz[..., :2] - 1e6, near.xyz[..., :2], atol=0.13)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308])
def test_head_paths_that_are_not_finite_are_refused(value: float, predictor: egopose.Predictor) -> None:
    T = straight(5).T_world_camera.copy()
    T[2, 0, 3] = value
    with contextlib.suppress(EgoposeError):
        pose = predictor.predict(egopose.Clip(trajectory=egopose.Trajectory(np.arange(5) / 30, T)))
        assert not np.isinf(pose.xyz).any()
    with pytest.raises(EgoposeError):
        egopose.Trajectory([0.0, value if np.isnan(value) else -1.0], straight(2).T_world_camera)


# many


@pytest.mark.slow
def test_ten_million_frames_from_disk_stay_small_in_memory(tmp_path: Path) -> None:
    n, joints = 10_000_000, 2
    rng = np.random.default_rng(0)
    paths = [tmp_path / "pred.npy", tmp_path / "target.npy"]
    block = rng.normal(0, 1, (2, 100_000, joints, 3)).astype(np.float32)
    for path, values in zip(paths, block):
        array = np.lib.format.open_memmap(path, "w+", np.float32, (n, joints, 3))
        for start in range(0, n, 100_000):
            array[start : start + 100_000] = values
        array.flush()
        del array
    pred, target = (np.load(path, mmap_mode="r") for path in paths)
    once = metrics.mpjpe(block[0], block[1], reduce="micro")
    aligned = metrics.pa_mpjpe(block[0], block[1], reduce="micro")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.testing.assert_allclose(metrics.mpjpe(pred, target, reduce="micro"), once, rtol=1e-9)
    np.testing.assert_allclose(metrics.pa_mpjpe(pred, target, reduce="micro"), aligned, rtol=1e-9)
    assert np.isfinite(metrics.mpjve(pred, target, fps=30.0, reduce="micro"))
    # mapped pages count too: both files are 240 MB
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 1500, f"{grown:.0f} MB"
