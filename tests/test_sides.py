"""Left and right put right, against scenes whose exchanges are known."""

from __future__ import annotations

import numpy as np
import pytest

from egopose.observations import Observations2D
from egopose.skeleton import BODY17, BODY17_HANDS
from egopose.triangulate.sides import assign_sides, assignment_states
from tests.synthetic import Scene, walking_scene

CAP_PX = 8.0


def exchanged(scene: Scene, view: int, start: int, stop: int, joints: np.ndarray) -> Observations2D:
    """The observations with the given joints of one view under their partner's name."""
    uv = scene.observations.uv_px.copy()
    mirror = scene.observations.skeleton.mirror_index
    uv[view, start:stop][:, joints] = scene.observations.uv_px[view, start:stop][:, mirror[joints]]
    return scene.observations.replace(uv_px=uv)


def moved_joints(skeleton) -> np.ndarray:
    return np.flatnonzero(skeleton.mirror_index != np.arange(skeleton.n_joints))


@pytest.mark.parametrize("views", [3, 4, 5, 8])
def test_a_view_that_exchanges_the_sides_is_put_right(views: int) -> None:
    scene = walking_scene(views, n_frames=60, outlier_share=0.05, missing_share=0.05, seed=views)
    wrong = exchanged(scene, 1, 20, 45, moved_joints(BODY17))
    fixed, report = assign_sides(scene.rig, wrong, cap_px=CAP_PX)
    assert report.swapped[1, 21:44].all()
    assert not report.swapped[1, :19].any()
    assert not report.swapped[1, 46:].any()
    assert not np.delete(report.swapped, 1, axis=0).any()
    same = np.isclose(fixed.uv_px, scene.observations.uv_px, equal_nan=True).all(-1)
    assert same.mean() > 0.98
    assert report.share["cam02"]["body"] == pytest.approx(25 / 60, abs=2 / 60)


def test_one_pair_alone_is_put_right() -> None:
    scene = walking_scene(4, n_frames=60, seed=3)
    wrists = BODY17.indices(["left_wrist", "right_wrist"])
    wrong = exchanged(scene, 2, 15, 40, wrists)
    _, report = assign_sides(scene.rig, wrong, cap_px=CAP_PX)
    pair = report.pair_names.index("left_wrist")
    expected = np.zeros((4, 60), dtype=bool)
    expected[2, 15:40] = True
    assert (report.pairs[:, :, pair] == expected).mean() > 0.98
    assert not np.delete(report.pairs, pair, axis=2).any()


def test_hands_vote_together() -> None:
    scene = walking_scene(4, n_frames=60, hands=True, outlier_share=0.1, seed=4)
    hands = np.array([j for j, name in enumerate(BODY17_HANDS.joints) if "_hand_" in name])
    wrong = exchanged(scene, 0, 10, 50, hands)
    fixed, report = assign_sides(scene.rig, wrong, cap_px=CAP_PX)
    in_hand = np.array(["_hand_" in name for name in report.pair_names])
    assert report.pairs[0, 11:49][:, in_hand].all()
    assert not report.pairs[1:, :, in_hand].any()
    assert np.isclose(fixed.uv_px, scene.observations.uv_px, equal_nan=True).all(-1).mean() > 0.98


def test_a_clean_take_is_left_alone() -> None:
    scene = walking_scene(4, n_frames=60, hands=True, outlier_share=0.1, missing_share=0.1, seed=5)
    fixed, report = assign_sides(scene.rig, scene.observations, cap_px=CAP_PX)
    assert not report.swapped.any()
    assert report.pairs.mean() < 0.002
    assert np.isclose(fixed.uv_px, scene.observations.uv_px, equal_nan=True).all(-1).mean() > 0.998


def test_scores_travel_with_their_pixels() -> None:
    scene = walking_scene(4, n_frames=30, seed=6)
    joints = moved_joints(BODY17)
    wrong = exchanged(scene, 1, 0, 30, joints)
    score = scene.observations.score.copy()
    score[1][:, joints] = scene.observations.score[1][:, BODY17.mirror_index[joints]]
    fixed, _ = assign_sides(scene.rig, wrong.replace(score=score), cap_px=CAP_PX)
    np.testing.assert_array_equal(fixed.score, scene.observations.score)


def test_two_views_and_empty_takes_come_back_unchanged() -> None:
    scene = walking_scene(2, n_frames=10, seed=7)
    fixed, report = assign_sides(scene.rig, scene.observations, cap_px=CAP_PX)
    assert fixed is scene.observations
    assert not report.pairs.any()
    four = walking_scene(4, n_frames=4, seed=7)
    blind = four.observations.replace(uv_px=np.full_like(four.observations.uv_px, np.nan))
    fixed, report = assign_sides(four.rig, blind, cap_px=CAP_PX)
    assert np.isnan(fixed.uv_px).all()
    assert not report.pairs.any()


def test_states_begin_with_no_exchange_and_stay_bounded() -> None:
    for views in (3, 6, 8, 20):
        states = assignment_states(views)
        assert not states[0].any()
        assert len(np.unique(states, axis=0)) == len(states) <= 64
    assert len(assignment_states(4)) == 16
