"""Time offsets against scenes whose cameras run late by a known amount."""

from __future__ import annotations

import numpy as np
import pytest

from egopose import rigid
from egopose.errors import EgoposeWarning
from egopose.observations import Observations2D
from egopose.triangulate import TriangulateConfig, triangulate_take
from egopose.triangulate.offsets import apply_offsets, find_offsets
from egopose.triangulate.stages import times_and_sides
from egopose.triangulate.take import prepare_take
from tests.synthetic import ring_cameras, walking_scene


def relative(found) -> np.ndarray:
    shifts = np.array(found.frames)
    return shifts - shifts[0]


@pytest.mark.parametrize("late", [(0, 2, -3, 0), (0, 0, 7, 0), (0, 0, 0, 0), (0, 0.5, -1.3, 2.25)])
def test_offsets_are_found_between_frames(late) -> None:
    scene = walking_scene(4, n_frames=150, offset_frames=late, outlier_share=0.1, missing_share=0.1, seed=1)
    found = find_offsets(scene.rig, scene.observations)
    assert all(found.reliable)
    np.testing.assert_allclose(relative(found), late, atol=0.15)
    if any(late):
        assert found.cost_after < found.cost_before


def test_the_reference_keeps_its_clock() -> None:
    scene = walking_scene(4, n_frames=120, offset_frames=(0, 3, 0, 0), dead_view=(0, 0, 40), seed=2)
    found = find_offsets(scene.rig, scene.observations)
    assert found.frames[found.views.index(found.reference)] == 0
    np.testing.assert_allclose(relative(found), (0, 3, 0, 0), atol=0.15)


def test_dropped_frames_are_no_shift() -> None:
    scene = walking_scene(4, n_frames=150, offset_frames=(0, 2, 0, 0), seed=3)
    keep = np.delete(np.arange(150), np.r_[40:44, 90:97])
    found = find_offsets(scene.rig, scene.observations.select(frames=keep))
    np.testing.assert_allclose(relative(found), (0, 2, 0, 0), atol=0.15)


def test_a_still_person_says_nothing_about_time() -> None:
    scene = walking_scene(4, n_frames=1, noise_px=0, seed=4)
    rng = np.random.default_rng(4)
    uv = np.repeat(scene.observations.uv_px, 100, axis=1) + rng.normal(0, 1, (4, 100, 17, 2)).astype(np.float32)
    still = Observations2D(scene.observations.skeleton, scene.observations.views, np.arange(100), uv, None, fps=30.0)
    found = find_offsets(scene.rig, still)
    assert found.frames == (0.0, 0.0, 0.0, 0.0)
    assert sum(found.reliable) == 1


@pytest.mark.parametrize("shape", ["two views", "two frames", "nothing seen"])
def test_too_little_gives_no_offset(shape: str) -> None:
    scene = walking_scene(2 if shape == "two views" else 4, n_frames=2 if shape == "two frames" else 40, seed=5)
    observations = scene.observations
    if shape == "nothing seen":
        observations = observations.replace(uv_px=np.full_like(observations.uv_px, np.nan))
    found = find_offsets(scene.rig, observations)
    assert not any(found.frames)
    assert sum(found.reliable) == 1


def test_applied_offsets_read_the_same_moment() -> None:
    late = (0, 2, -1, 0)
    scene = walking_scene(4, n_frames=60, noise_px=0, offset_frames=late, seed=6)
    exact = walking_scene(4, n_frames=60, noise_px=0, seed=6)
    found = find_offsets(scene.rig, scene.observations)
    moved = apply_offsets(scene.observations, found)
    inner = slice(4, 56)
    np.testing.assert_allclose(moved.uv_px[:, inner], exact.observations.uv_px[:, inner], atol=1.5)
    # beyond the ends of a video there is nothing to read
    assert np.isnan(moved.uv_px[1, -2:]).all()
    assert (moved.score[1, -2:] == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_calibration_error_is_not_taken_for_time(seed: int) -> None:
    scene = walking_scene(4, n_frames=150, extrinsic_error_deg=0.5, seed=seed)
    take = triangulate_take(scene.rig, scene.observations, TriangulateConfig(smooth=False))
    shifts = take.found["time_offsets"]["frames"]
    assert np.abs(shifts).max() < 0.3


def test_offsets_are_found_under_a_calibration_error() -> None:
    late = (0, 2, -2, 0)
    scene = walking_scene(4, n_frames=240, offset_frames=late, extrinsic_error_deg=0.5, outlier_share=0.1, seed=8)
    take = triangulate_take(scene.rig, scene.observations, TriangulateConfig(smooth=False))
    shifts = np.array(take.found["time_offsets"]["frames"])
    np.testing.assert_allclose(shifts - shifts[0], late, atol=0.3)
    assert any("time offsets found" in note for note in take.notes)


@pytest.mark.parametrize(("cameras", "seed"), [(3, 0), (3, 1), (4, 0), (4, 1), (4, 2), (5, 1)])
def test_any_offsets_of_turned_cameras(cameras: int, seed: int) -> None:
    late = np.random.default_rng([cameras, seed]).uniform(-5, 5, cameras)
    late = np.round(late) if seed % 2 else late
    scene = walking_scene(
        cameras, n_frames=240, fps=60.0, hands=True, offset_frames=tuple(late - late[0]), extrinsic_error_deg=0.5,
        outlier_share=0.2, missing_share=0.1, seed=10 * cameras + seed,
    )  # fmt: skip
    found = find_offsets(scene.rig, scene.observations)
    assert all(found.reliable)
    assert found.clear
    np.testing.assert_allclose(relative(found), late - late[0], atol=0.1)
    assert max(found.sd_frames) < 0.1


def observed(points: np.ndarray, noise_px: float = 1.0, seed: int = 0):
    """A rig of four, what it sees of joints (T, 17, 3), and the observations."""
    scene = walking_scene(4, n_frames=4, lens="pinhole")
    cameras = ring_cameras(4)
    rng = np.random.default_rng(seed)
    uv = np.stack([camera.project(points) for camera in cameras]) + rng.normal(0, noise_px, (4, *points.shape[:2], 2))
    observations = scene.observations
    return scene.rig, Observations2D(
        observations.skeleton, observations.views, np.arange(len(points)), uv.astype(np.float32), None, fps=30.0
    )


def test_a_statue_on_a_turntable_says_nothing_about_time() -> None:
    # turning a camera about the axis is exactly the same as reading it later
    statue = walking_scene(4, n_frames=1, seed=3).truth.xyz[0].astype(np.float64)
    angle = 0.02 * np.arange(150)
    turn = rigid.rotation_from_vector(np.stack([0 * angle, 0 * angle, angle], -1))
    rig, observations = observed(np.einsum("tij,nj->tni", turn, statue))
    found = find_offsets(rig, observations)
    assert sum(found.reliable) == 1
    assert not any(found.frames)
    take = times_and_sides(prepare_take(rig, observations), lambda *_: None)
    assert any("is not determined" in note for note in take.notes)


def test_a_motion_that_repeats_is_not_clear() -> None:
    still = walking_scene(4, n_frames=1, seed=3).truth.xyz[0].astype(np.float64)
    rng = np.random.default_rng(0)
    phase, size = rng.uniform(0, 2 * np.pi, (17, 3)), rng.uniform(0.05, 0.15, (17, 3))
    period = 9
    t = np.arange(150)[:, None, None]
    rig, observations = observed(still + size * np.sin(2 * np.pi * t / period + phase))
    found = find_offsets(rig, observations)
    assert not found.clear
    assert found.runner_up is not None
    jump = np.abs(np.subtract(found.frames, found.runner_up))
    np.testing.assert_allclose(jump - period * np.round(jump / period), 0, atol=0.1)
    # the given clocks are as good as any
    assert not any(found.frames)
    with pytest.warns(EgoposeWarning, match="not clear"):
        take = times_and_sides(prepare_take(rig, observations), lambda *_: None)
    assert any("not clear" in note for note in take.notes)
