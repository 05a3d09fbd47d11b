"""Real captures: parity with other tools, the board as independent truth, bone lengths that must be constant."""

from __future__ import annotations

import json

import numpy as np
import pytest

from egopose.pose import JointStatus
from egopose.triangulate import TriangulateConfig, build_report, triangulate_points, triangulate_take
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
