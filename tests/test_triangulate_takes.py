"""What triangulation refuses, and how takes match views to cameras."""

from __future__ import annotations

import json

import numpy as np
import pytest

from egopose.camera import Camera, Rig
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.pose import JointStatus
from egopose.skeleton import BODY17
from egopose.triangulate import TriangulateConfig, build_report, triangulate_points, triangulate_take
from egopose.triangulate.report import bone_variation, reprojection
from egopose.triangulate.take import Take, solve_frames
from tests.synthetic import body_points, observe, ring_cameras, walking_scene


def frame_by_frame(rig, observations, progress=None, **settings) -> Take:
    """The solve alone, without the stages that use the whole take."""
    return triangulate_take(rig, observations, TriangulateConfig(**settings), progress, stages=(solve_frames,))


def test_undistorted_leaves_the_lens_out():
    lens = ring_cameras(4, lens="brown_conrady")
    plain = ring_cameras(4)
    rng = np.random.default_rng(30)
    points = body_points(100, rng)
    uv, _ = observe(plain, points, rng, noise_px=0)
    np.testing.assert_allclose(triangulate_points(lens, uv, threshold=3.0, undistorted=True).points, points, atol=1e-8)
    assert np.nanmax(np.abs(triangulate_points(lens, uv, threshold=90.0).points - points)) > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a | {"cameras": []}, "0 cameras"),
        (lambda a: a | {"cameras": a["cameras"][:1], "uv_px": a["uv_px"][:1]}, "1 camera given"),
        (lambda a: a | {"cameras": ["cam", "cam", "cam"]}, "expected egopose.Camera"),
        (lambda a: a | {"uv_px": a["uv_px"][:2]}, "2 views for 3 cameras"),
        (lambda a: a | {"uv_px": a["uv_px"][..., :1]}, "expected numbers"),
        (lambda a: a | {"uv_px": a["uv_px"][0]}, "expected numbers"),
        (lambda a: a | {"uv_px": np.full((3, 4, 2), "a")}, "expected numbers"),
        (lambda a: a | {"score": np.ones((3, 7))}, "scores have shape"),
        (lambda a: a | {"score": -np.ones((3, 9))}, "negative"),
        (lambda a: a | {"threshold": 0.0}, "threshold is"),
        (lambda a: a | {"threshold": float("nan")}, "threshold is"),
        (lambda a: a | {"threshold": "tight"}, "expected a number of pixels or 'auto'"),
        (lambda a: a | {"method": "magic"}, "method is"),
        (lambda a: a | {"min_angle_deg": 0}, "min_angle_deg"),
        (lambda a: a | {"max_pairs": 0}, "max_pairs"),
        (lambda a: a | {"sigma_px": -1.0}, "sigma_px"),
        (lambda a: a | {"threads": 0}, "threads"),
        (lambda a: a | {"threshold_factor": 0.0}, "threshold_factor"),
    ],
)
def test_refusals(change, message):
    cameras = ring_cameras(3)
    rng = np.random.default_rng(31)
    uv, _ = observe(cameras, body_points(9, rng), rng)
    arguments = change({"cameras": cameras, "uv_px": uv})
    with pytest.raises(EgoposeError, match=message):
        triangulate_points(arguments.pop("cameras"), arguments.pop("uv_px"), **arguments)


def test_a_calibration_with_nan_is_refused():
    with pytest.raises(EgoposeError, match="NaN"):
        Camera.from_opencv(np.full((3, 3), np.nan), None, np.eye(3), [0, 0, 0], (640, 480))


# --- takes ------------------------------------------------------------------------------------------------------------


def test_a_walk_with_every_defect():
    scene = walking_scene(
        4, n_frames=90, outlier_share=0.05, missing_share=0.05, dead_view=(3, 30, 45), swapped=(2, 60, 75), seed=1
    )
    told = []
    pose = frame_by_frame(scene.rig, scene.observations, lambda share, what: told.append((share, what))).pose
    assert told[0][0] == 0.0
    assert told[-1] == (1.0, "triangulate")
    assert pose.space == "world"
    assert pose.fps == pytest.approx(30)
    error = np.linalg.norm(pose.xyz - scene.truth.xyz, axis=-1)
    ok = pose.status == JointStatus.OK
    assert ok.mean() > 0.85
    assert np.median(error[ok]) < 4e-3
    assert (error[ok] < 0.03).mean() > 0.995
    np.testing.assert_allclose(
        pose.sigma[ok] ** 2, np.trace(pose.covariance[ok].astype(float), axis1=-2, axis2=-1) / 3, rtol=1e-4
    )
    assert pose.provenance["threshold_source"] == "estimated"
    assert pose.provenance["views"] == list(scene.rig.names)
    json.dumps(pose.provenance)


def test_report_numbers():
    scene = walking_scene(5, n_frames=40, outlier_share=0.1, missing_share=0.05, seed=2)
    take = frame_by_frame(scene.rig, scene.observations)
    report = json.loads(json.dumps(build_report(take), allow_nan=False))
    uv, pose = scene.observations.uv_px.astype(np.float64), take.pose
    for v, camera in enumerate(scene.rig.cameras):
        row = report["cameras"][v]
        residual = camera.project(pose.xyz.astype(np.float64)) - uv[v]
        known = np.isfinite(residual[..., 0])
        assert row["name"] == camera.name
        assert row["seen_share"] == pytest.approx(np.isfinite(uv[v, ..., 0]).mean())
        assert row["bias_u_px"] == pytest.approx(np.median(residual[known][:, 0]), abs=1e-9)
        assert row["residual_all_px"]["median"] == pytest.approx(np.median(np.linalg.norm(residual[known], axis=1)))
        assert row["used_share_of_seen"] == pytest.approx(1 - scene.wrong[v].mean(), abs=0.02)
        assert row["residual_used_px"]["median"] < 1.5
    distance = np.linalg.norm(reprojection(take), axis=-1)
    j = BODY17.index("left_wrist")
    assert report["joints"][j]["name"] == "left_wrist"
    assert report["joints"][j]["residual_used_px"]["p90"] == pytest.approx(
        np.percentile(distance[:, :, j][take.used[:, :, j]], 90)
    )
    assert sum(report["status"].values()) == pytest.approx(1.0)
    assert report["status"]["ok"] == pytest.approx((pose.status == JointStatus.OK).mean())
    a, b = BODY17.bones[0]
    length = np.linalg.norm(pose.xyz[:, a].astype(float) - pose.xyz[:, b], axis=-1)
    assert report["bones"][0]["bone"] == [BODY17.joints[a], BODY17.joints[b]]
    assert report["bones"][0]["variation_percent"] == pytest.approx(100 * np.nanstd(length) / np.nanmean(length))
    assert report["summary"]["bone_variation_percent"] == pytest.approx(bone_variation(pose))
    assert bone_variation(scene.truth) < 0.1
    # the mean raw residual through the full lens model equals the solver's own error
    own = np.nanmean(take.error_px)
    again = np.nanmean(np.where(take.used, distance, np.nan))
    assert own == pytest.approx(again, rel=0.02)


def test_a_view_without_camera_is_left_out_with_a_warning():
    scene = walking_scene(4, n_frames=5)
    part = Rig(scene.rig.cameras[:3])
    with pytest.warns(EgoposeWarning, match="no camera in the rig for view cam04"):
        take = frame_by_frame(part, scene.observations)
    assert take.pose.valid.all()
    assert any("cam04" in note for note in take.notes)
    only_one = scene.observations.select(views=["cam02"])
    with pytest.raises(EgoposeError, match=r"1 of the views cam02 has a camera"):
        frame_by_frame(part, only_one)


def test_views_find_their_camera_by_name():
    scene = walking_scene(4, n_frames=5, noise_px=0)
    shuffled = Rig([scene.rig.cameras[i] for i in (2, 0, 3, 1)])
    pose = frame_by_frame(shuffled, scene.observations).pose
    np.testing.assert_allclose(pose.xyz, scene.truth.xyz, atol=1e-4)


def test_mismatches_are_named():
    scene = walking_scene(3, n_frames=5)
    sizes = ((1080, 1920), *scene.observations.sizes[1:])
    with pytest.warns(EgoposeWarning, match="calibrated for 1920x1080 but its images are 1080x1920"):
        frame_by_frame(scene.rig, scene.observations.replace(sizes=sizes))
    with pytest.raises(EgoposeError, match="undistorted images but camera 'cam01' is a raw brown_conrady one"):
        frame_by_frame(scene.rig, scene.observations.replace(undistorted=True))
    plain = Rig([camera.undistorted() for camera in scene.rig.cameras])
    with pytest.raises(EgoposeError, match="belongs to undistorted images but the 2D joints to raw ones"):
        frame_by_frame(plain, scene.observations)
    with pytest.warns(EgoposeWarning, match="assume 30 frames per second"):
        frame_by_frame(scene.rig, scene.observations.replace(fps=None))
    millimetres = []
    for camera in scene.rig.cameras:
        T = camera.T_world_camera.copy()
        T[:3, 3] *= 1000
        millimetres.append(camera.moved(T))
    with pytest.raises(EgoposeError, match=r"not in metres.*millimetres"):
        frame_by_frame(Rig(millimetres), scene.observations)


def test_min_score_hides_weak_joints():
    scene = walking_scene(4, n_frames=10)
    score = scene.observations.score.copy()
    score[1] = 0.1
    take = frame_by_frame(scene.rig, scene.observations.replace(score=score), min_score=0.3, threads=1)
    assert not take.used[1].any()
    assert take.used[[0, 2, 3]].all()


def test_raw_and_undistorted_pixels_give_the_same_joints():
    scene = walking_scene(4, n_frames=10, noise_px=0)
    plain = Rig([camera.undistorted() for camera in scene.rig.cameras])
    uv = np.stack([camera.project(scene.truth.xyz.astype(np.float64)) for camera in plain.cameras])
    flat = scene.observations.replace(uv_px=uv, undistorted=True, sizes=tuple(c.size for c in plain.cameras))
    a, b = frame_by_frame(scene.rig, scene.observations).pose, frame_by_frame(plain, flat).pose
    np.testing.assert_allclose(a.xyz, b.xyz, atol=2e-5)
