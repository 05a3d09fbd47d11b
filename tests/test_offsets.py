"""Time offsets against scenes whose cameras run late by a known amount."""

from __future__ import annotations

import numpy as np
import pytest

from egopose.observations import Observations2D
from egopose.triangulate import TriangulateConfig, triangulate_take
from egopose.triangulate.offsets import apply_offsets, find_offsets
from tests.synthetic import walking_scene

CAP_PX = 8.0


def relative(found) -> np.ndarray:
    shifts = np.array(found.frames)
    return shifts - shifts[0]


@pytest.mark.parametrize("late", [(0, 2, -3, 0), (0, 0, 7, 0), (0, 0, 0, 0), (0, 0.5, -1.3, 2.25)])
def test_offsets_are_found_between_frames(late) -> None:
    scene = walking_scene(4, n_frames=150, offset_frames=late, outlier_share=0.1, missing_share=0.1, seed=1)
    found = find_offsets(scene.rig, scene.observations, cap_px=CAP_PX)
    assert all(found.reliable)
    np.testing.assert_allclose(relative(found), late, atol=0.15)
    if any(late):
        assert found.cost_after < found.cost_before


def test_the_reference_keeps_its_clock() -> None:
    scene = walking_scene(4, n_frames=120, offset_frames=(0, 3, 0, 0), dead_view=(0, 0, 40), seed=2)
    found = find_offsets(scene.rig, scene.observations, cap_px=CAP_PX)
    assert found.frames[found.views.index(found.reference)] == 0
    np.testing.assert_allclose(relative(found), (0, 3, 0, 0), atol=0.15)


def test_dropped_frames_are_no_shift() -> None:
    scene = walking_scene(4, n_frames=150, offset_frames=(0, 2, 0, 0), seed=3)
    keep = np.delete(np.arange(150), np.r_[40:44, 90:97])
    found = find_offsets(scene.rig, scene.observations.select(frames=keep), cap_px=CAP_PX)
    np.testing.assert_allclose(relative(found), (0, 2, 0, 0), atol=0.15)


def test_a_still_person_says_nothing_about_time() -> None:
    scene = walking_scene(4, n_frames=1, noise_px=0, seed=4)
    rng = np.random.default_rng(4)
    uv = np.repeat(scene.observations.uv_px, 100, axis=1) + rng.normal(0, 1, (4, 100, 17, 2)).astype(np.float32)
    still = Observations2D(scene.observations.skeleton, scene.observations.views, np.arange(100), uv, None, fps=30.0)
    found = find_offsets(scene.rig, still, cap_px=CAP_PX)
    assert found.frames == (0.0, 0.0, 0.0, 0.0)
    assert sum(found.reliable) == 1


@pytest.mark.parametrize("shape", ["two views", "two frames", "nothing seen"])
def test_too_little_gives_no_offset(shape: str) -> None:
    scene = walking_scene(2 if shape == "two views" else 4, n_frames=2 if shape == "two frames" else 40, seed=5)
    observations = scene.observations
    if shape == "nothing seen":
        observations = observations.replace(uv_px=np.full_like(observations.uv_px, np.nan))
    found = find_offsets(scene.rig, observations, cap_px=CAP_PX)
    assert not any(found.frames)
    assert sum(found.reliable) == 1


def test_applied_offsets_read_the_same_moment() -> None:
    late = (0, 2, -1, 0)
    scene = walking_scene(4, n_frames=60, noise_px=0, offset_frames=late, seed=6)
    exact = walking_scene(4, n_frames=60, noise_px=0, seed=6)
    found = find_offsets(scene.rig, scene.observations, cap_px=CAP_PX)
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
