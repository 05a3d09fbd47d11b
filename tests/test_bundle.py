"""The bundle adjustment: its gradient against differences of its cost, clocks and focal lengths found again."""

from __future__ import annotations

import numpy as np
import pytest

from egopose.triangulate.bundle import _Problem, _State, adjust, with_focal
from tests.synthetic import body_points, ring_cameras

V, N = 4, 80


def problem(lens: str = "brown_conrady", noise_px: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    cameras = ring_cameras(V, lens=lens)
    points = body_points(N, rng)
    velocity = rng.normal(0, 0.02, (N, 3))
    uv = np.stack([camera.project(points) for camera in cameras]) + rng.normal(0, noise_px, (V, N, 2))
    weight = (rng.random((V, N)) > 0.15).astype(np.float64)
    return cameras, points, velocity, uv, weight, rng


@pytest.mark.parametrize("lens", ["pinhole", "brown_conrady", "fisheye"])
def test_the_gradient_is_that_of_the_cost(lens: str) -> None:
    cameras, points, velocity, uv, weight, rng = problem(lens, noise_px=5.0)
    uv[2, 3] = np.nan
    p = _Problem(cameras, 1, uv, weight, 3.0, True, velocity)
    poses = np.stack([camera.T_world_camera for camera in cameras])
    state = _State(poses, points + rng.normal(0, 0.01, points.shape), rng.normal(0, 0.3, V), rng.uniform(0.95, 1.05, V))
    # away from the given rig, so that the gauge speaks too
    state = p.moved(state, rng.normal(0, 0.02, V * p.P), np.zeros_like(points))
    system = p.system(state, 0.0)
    by_camera = system.rhs + np.einsum("npi,nij,nj->p", system.W, system.C_inverse, system.b)

    def slope(step: np.ndarray, points_step: np.ndarray) -> float:
        h = 1e-6
        ends = [p.cost(p.moved(state, s * h * step, s * h * points_step)) for s in (1, -1)]
        return (ends[0] - ends[1]) / (2 * h)

    for i in p.free():
        expected = slope(np.eye(V * p.P)[i], np.zeros_like(points))
        assert -2 * by_camera[i] == pytest.approx(expected, rel=1e-4, abs=1e-3 * np.abs(by_camera).max() + 1e-2)
    for i in (0, 17, 55):
        for k in range(3):
            step = np.zeros_like(points)
            step[i, k] = 1
            assert -2 * system.b[i, k] == pytest.approx(slope(np.zeros(V * p.P), step), rel=1e-4, abs=0.05)


def test_late_cameras_and_a_wrong_focal_length_are_found() -> None:
    cameras, points, velocity, _, _, rng = problem()
    late = np.array([0.0, 0.4, -0.3, 0.2])
    uv = np.stack([camera.project(points - d * velocity) for camera, d in zip(cameras, late)])
    uv += rng.normal(0, 0.5, uv.shape)
    given = [cameras[0], cameras[1], with_focal(cameras[2], 1.03), cameras[3]]
    done = adjust(given, 0, uv, np.ones((V, N)), points + 0.01, loss_px=3.0, focal=True, velocity=velocity)
    assert (np.abs(done.clocks - late) < 5 * done.clock_sd + 1e-9).all()
    assert done.clock_sd.max() < 0.1
    assert done.focal[2] == pytest.approx(1 / 1.03, abs=0.01)
    assert done.sigma_px == pytest.approx(0.5, rel=0.15)
    assert np.array_equal(done.cameras[0].T_world_camera, cameras[0].T_world_camera)
    assert done.sd[0].max() == 0 < done.sd[1:].min()


def test_the_stated_deviations_are_those_of_repeated_takes() -> None:
    errors, stated = [], []
    for seed in range(30):
        cameras, points, velocity, uv, weight, _ = problem(seed=100 + seed)
        done = adjust(cameras, 0, uv, weight, points, loss_px=30.0, velocity=velocity)
        errors.append(done.clocks)
        stated.append(done.clock_sd)
    ratio = np.std(errors, axis=0)[1:] / np.mean(stated, axis=0)[1:]
    assert (ratio > 0.6).all()
    assert (ratio < 1.5).all()


def test_a_view_that_does_not_count_changes_nothing() -> None:
    cameras, points, _, uv, weight, _ = problem()
    weight[3, :40] = 0
    spoiled = uv.copy()
    spoiled[3, :40] += 500
    one = adjust(cameras, 0, uv, weight, points, loss_px=3.0)
    two = adjust(cameras, 0, spoiled, weight, points, loss_px=3.0)
    assert all(np.array_equal(a.T_world_camera, b.T_world_camera) for a, b in zip(one.cameras, two.cameras))
    assert np.isnan(one.residual_px[3, :40]).all()
