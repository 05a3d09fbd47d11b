"""Refinement of cameras against scenes with a known calibration error; wrong cameras named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from egopose import rigid
from egopose.camera import Camera, Rig
from egopose.errors import EgoposeError
from egopose.triangulate import TriangulateConfig, triangulate_take
from egopose.triangulate.refine import refine_rig, wrong_cameras
from tests.synthetic import Scene, ring_cameras, walking_scene


def relative_turns_deg(rig: Rig, truth: list[Camera]) -> np.ndarray:
    """How far each camera is turned against the first one, compared with the truth: free of the world frame."""
    result = []
    for camera, true in zip(rig.cameras[1:], truth[1:]):
        a = rig.cameras[0].T_world_camera[:3, :3].T @ camera.T_world_camera[:3, :3]
        b = truth[0].T_world_camera[:3, :3].T @ true.T_world_camera[:3, :3]
        result.append(np.degrees(np.linalg.norm(rigid.vector_from_rotation(a.T @ b))))
    return np.array(result)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return walking_scene(4, n_frames=150, hands=True, outlier_share=0.1, missing_share=0.1, extrinsic_error_deg=0.5,
                         seed=11)  # fmt: skip


def test_half_a_degree_is_recovered(scene: Scene) -> None:
    truth = ring_cameras(4, lens="brown_conrady")
    before = relative_turns_deg(scene.rig, truth)
    refined = refine_rig(scene.rig, scene.observations, threshold_px=40.0)
    after = relative_turns_deg(refined.rig, truth)
    assert before.max() > 0.4
    assert after.max() < 0.12
    assert refined.after_px < 2.0 < refined.before_px
    assert refined.points >= 50
    assert [row.name for row in refined.cameras] == list(scene.rig.names)
    assert refined.reference in scene.rig.names


def test_the_rig_stays_where_it_was_as_a_whole(scene: Scene) -> None:
    refined = refine_rig(scene.rig, scene.observations, threshold_px=40.0)
    before = np.stack([camera.center_world for camera in scene.rig.cameras])
    after = np.stack([camera.center_world for camera in refined.rig.cameras])
    # least squares over the rig: the mean of the centres hardly moves, and the scale is kept
    assert np.linalg.norm(after.mean(0) - before.mean(0)) < 0.03
    size = [np.linalg.norm(c - c.mean(0)) for c in (before, after)]
    assert size[1] == pytest.approx(size[0], rel=0.02)


def test_a_focal_error_is_recovered() -> None:
    scene = walking_scene(4, n_frames=150, hands=True, lens="pinhole", seed=12)
    cameras = list(scene.rig.cameras)
    params = cameras[2].params.copy()
    params[:2] *= 1.03
    cameras[2] = replace(cameras[2], params=params)
    refined = refine_rig(Rig(cameras), scene.observations, threshold_px=40.0, focal=True, reference="cam01")
    assert refined.cameras[2].focal_scale == pytest.approx(1 / 1.03, abs=0.006)
    assert refined.rig["cam03"].K[0, 0] == pytest.approx(scene.rig["cam03"].K[0, 0], rel=0.006)
    assert refined.after_px < 1.6


def test_the_same_seed_gives_the_same_rig(scene: Scene) -> None:
    one = refine_rig(scene.rig, scene.observations, threshold_px=40.0, rounds=1, samples=200)
    two = refine_rig(scene.rig, scene.observations, threshold_px=40.0, rounds=1, samples=200)
    for a, b in zip(one.rig.cameras, two.rig.cameras):
        assert np.array_equal(a.T_world_camera, b.T_world_camera)


def test_too_few_joints_are_refused() -> None:
    scene = walking_scene(4, n_frames=2, seed=13)
    with pytest.raises(EgoposeError, match="at least 50 joints"):
        refine_rig(scene.rig, scene.observations, threshold_px=40.0)


def test_a_person_who_fills_no_volume_is_refused() -> None:
    scene = walking_scene(4, n_frames=60, noise_px=0, seed=14)
    rng = np.random.default_rng(14)
    # one point, seen again and again: turning a camera about it changes nothing
    one = scene.observations.uv_px[:, :1, :1]
    uv = np.broadcast_to(one, scene.observations.uv_px.shape) + rng.normal(0, 1, scene.observations.uv_px.shape)
    still = scene.observations.replace(uv_px=uv.astype(np.float32))
    with pytest.raises(EgoposeError, match="not determined"):
        refine_rig(scene.rig, still, threshold_px=40.0)


def test_a_wrong_camera_is_named_and_left_out() -> None:
    scene = walking_scene(5, n_frames=60, seed=15)
    cameras = list(scene.rig.cameras)
    turn = rigid.make_transform(rigid.rotation_from_vector(np.radians([4.0, -6.0, 3.0])), np.zeros(3))
    cameras[3] = cameras[3].moved(cameras[3].T_world_camera @ turn)
    rig = Rig(cameras)
    assert list(wrong_cameras(rig, scene.observations, threshold_px=10.0)) == ["cam04"]
    assert wrong_cameras(scene.rig, scene.observations, threshold_px=10.0) == {}
    take = triangulate_take(rig, scene.observations)
    assert list(take.rig.names) == ["cam01", "cam02", "cam03", "cam05"]
    assert any("'cam04' left out" in note for note in take.notes)
    error = np.linalg.norm(take.pose.xyz - scene.truth.xyz, axis=-1)
    assert np.nanmedian(error) < 5e-3


def test_three_cameras_cannot_say_which_one_is_wrong() -> None:
    scene = walking_scene(3, n_frames=30, seed=16)
    assert wrong_cameras(scene.rig, scene.observations, threshold_px=0.01) == {}


def test_the_stage_reports_before_and_after(scene: Scene) -> None:
    take = triangulate_take(scene.rig, scene.observations, TriangulateConfig(refine_cameras=True, smooth=False))
    table = take.found["refinement"]
    assert table["after_px"] < table["before_px"]
    assert len(table["cameras"]) == 4
    assert any("cameras refined" in note for note in take.notes)
