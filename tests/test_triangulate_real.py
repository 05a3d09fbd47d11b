"""Real captures: parity with other tools, the board as independent truth, bone lengths that must be constant."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from egopose.pose import JointStatus
from egopose.skeleton import BODY17
from egopose.triangulate import TriangulateConfig, build_report, triangulate_points, triangulate_take
from egopose.triangulate.refine import refine_rig
from egopose.triangulate.report import bone_variation
from egopose.triangulate.take import Take, solve_frames
from tests.real_captures import caliscope_charuco4, pose2sim_single, pyxy3d_holistic4

pytestmark = pytest.mark.shared


def frame_by_frame(capture, **settings) -> Take:
    """The solve alone, without the stages that use the whole take."""
    return triangulate_take(capture.rig, capture.observations, TriangulateConfig(**settings), stages=(solve_frames,))


def test_linear_solve_agrees_with_pose2sim(shared_data):
    capture = pose2sim_single(shared_data)
    # the peer ignores 2D joints below a likelihood of 0.3
    take = frame_by_frame(capture, method="linear", min_score=0.3)
    difference = np.linalg.norm(take.pose.xyz - capture.peer, axis=-1)
    assert np.isfinite(difference).mean() > 0.8
    assert np.nanmedian(difference) < 1.2e-3


def test_bone_lengths_vary_less_with_the_estimated_threshold(shared_data):
    capture = pose2sim_single(shared_data)
    variation = {}
    for threshold in ("auto", 15.0):
        take = frame_by_frame(capture, threshold_px=threshold)
        variation[threshold] = bone_variation(take.pose)
    assert variation["auto"] <= 4.6
    assert variation[15.0] > 8.0


def test_report_shows_the_biased_cameras(shared_data):
    capture = pose2sim_single(shared_data)
    report = build_report(frame_by_frame(capture))
    json.dumps(report, allow_nan=False)
    rows = {row["name"]: row for row in report["cameras"]}
    # reprojected minus observed: the opposite sign of "the 2D lies 14 px to the left"
    assert abs(rows["cam01"]["bias_u_px"]) > 8
    assert abs(rows["cam03"]["bias_u_px"]) > 8
    assert report["threshold"]["source"] == "estimated"
    assert 30 < report["threshold"]["threshold_px"] < 100


def test_refined_cameras_halve_what_the_calibration_adds(shared_data):
    capture = pose2sim_single(shared_data)
    views = capture.observations.n_views
    uv = capture.observations.uv_px.reshape(views, -1, 2).astype(float)
    score = capture.observations.score.reshape(views, -1).astype(float)
    refined = refine_rig(capture.rig, capture.observations, threshold_px=60.0)

    def medians(cameras, least: float) -> tuple[float, float]:
        seen = np.where((score >= least)[..., None], uv, np.nan)
        solved = triangulate_points(cameras, seen, score, threshold=25.0)
        distance = np.linalg.norm(np.stack([c.project(solved.points) for c in cameras]) - seen, axis=-1)
        return float(np.median(distance[solved.used])), float(solved.used.sum() / np.isfinite(distance).sum())

    # 9.8 px is the median over the views that agree within 25 px
    before, agreeing_before = medians(capture.rig.cameras, 0.0)
    after, agreeing_after = medians(refined.rig.cameras, 0.0)
    assert before == pytest.approx(9.8, abs=0.05)
    assert after <= 6.75
    # more views agree, and better
    assert agreeing_after > agreeing_before + 0.05
    assert medians(refined.rig.cameras, 0.5)[0] <= 6.25
    assert medians(refined.rig.cameras, 0.6)[0] <= 5.75


def test_refined_cameras_on_the_joints_of_the_package(shared_data):
    capture = pose2sim_single(shared_data)
    observations = capture.observations.to_skeleton(BODY17)
    seen = np.where((observations.score >= 0.3)[..., None], observations.uv_px, np.nan)
    some = replace(observations, uv_px=seen.astype(np.float32))
    refined = refine_rig(capture.rig, some, threshold_px=60.0)
    uv, score = seen.reshape(len(seen), -1, 2).astype(float), some.score.reshape(len(seen), -1).astype(float)

    def median(cameras) -> float:
        solved = triangulate_points(cameras, uv, score, threshold=25.0)
        residual = np.stack([camera.project(solved.points) for camera in cameras]) - uv
        return float(np.nanmedian(np.linalg.norm(residual, axis=-1)))

    assert median(capture.rig.cameras) == pytest.approx(9.8, abs=0.15)
    assert median(refined.rig.cameras) <= 6.1


@pytest.mark.parametrize("method", ["robust", "linear"])
def test_board_distances(shared_data, method):
    board = caliscope_charuco4(shared_data)
    solved = triangulate_points(board.cameras, board.uv_px, method=method)
    error = board.distance_errors(solved.points)
    assert error.size > 3000
    assert error.mean() <= 0.84e-3
    assert board.distance_errors(board.peer).mean() == pytest.approx(0.82e-3, abs=0.01e-3)


def test_holistic_agrees_with_the_peer_and_every_hand_joint_has_a_status(shared_data):
    capture = pyxy3d_holistic4(shared_data)
    skeleton = capture.observations.skeleton
    hands = np.array([("hand_" in joint) for joint in skeleton.joints])
    linear = frame_by_frame(capture, method="linear")
    robust = frame_by_frame(capture)
    for take in (linear, robust):
        difference = np.linalg.norm(take.pose.xyz - capture.peer, axis=-1)
        assert np.nanmedian(difference[:, ~hands]) < 6e-3
    status = robust.pose.status[:, hands]
    known = np.isfinite(robust.pose.xyz[:, hands]).all(axis=-1)
    with_point = np.isin(status, (JointStatus.OK, JointStatus.TWO_VIEWS, JointStatus.LOW_ANGLE))
    assert np.array_equal(known, with_point)
    assert (status[capture.observations.seen[:, :, hands].sum(axis=0) < 2] == JointStatus.MISSING).all()
