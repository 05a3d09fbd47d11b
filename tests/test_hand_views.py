"""Views of a hand chosen by its 21 joints together, against scenes with a view whose hand is elsewhere."""

from __future__ import annotations

import numpy as np

from egopose.observations import Observations2D
from egopose.skeleton import BODY17_HANDS
from egopose.triangulate import TriangulateConfig, triangulate_take
from egopose.triangulate.hands import hand_sides, impossible_joints
from egopose.triangulate.handviews import body_wrists, select_hand_views
from tests.synthetic import Scene, walking_scene

CAP_PX = 16.0
SIDES = hand_sides(BODY17_HANDS)


def displaced(scene: Scene, side: str, view: int, start: int, stop: int, by_px: float = 60.0) -> Observations2D:
    uv = scene.observations.uv_px.copy()
    uv[view, start:stop][:, SIDES[side]] += by_px
    return scene.observations.replace(uv_px=uv)


def test_a_view_whose_hand_is_elsewhere_is_left_out() -> None:
    scene = walking_scene(4, n_frames=60, hands=True, seed=21)
    wrong = displaced(scene, "left", 2, 10, 40)
    chosen, report = select_hand_views(scene.rig, wrong, cap_px=CAP_PX)
    assert not report.kept["left"][2, 10:40].any()
    assert report.kept["left"][2, :10].all()
    assert report.kept["left"][[0, 1, 3]].mean() > 0.97
    assert report.kept["right"].mean() > 0.97
    assert np.isnan(chosen.uv_px[2, 10:40][:, SIDES["left"]]).all()
    body = np.setdiff1d(np.arange(59), np.concatenate(list(SIDES.values())))
    np.testing.assert_array_equal(chosen.uv_px[:, :, body], wrong.uv_px[:, :, body])
    assert report.dropped_share["cam03"]["left"] > 0.45


def test_two_views_are_never_left_with_one() -> None:
    scene = walking_scene(2, n_frames=20, hands=True, seed=22)
    wrong = displaced(scene, "left", 1, 0, 20)
    chosen, report = select_hand_views(scene.rig, wrong, cap_px=CAP_PX)
    assert chosen is wrong
    assert report.kept == {}
    four = walking_scene(4, n_frames=20, hands=True, dead_view=(0, 0, 20), seed=22)
    uv = four.observations.uv_px.copy()
    uv[1] = np.nan
    uv[2][:, SIDES["left"]] += 60
    two = four.observations.replace(uv_px=uv)
    chosen, _ = select_hand_views(four.rig, two, cap_px=CAP_PX)
    np.testing.assert_array_equal(chosen.uv_px, two.uv_px)


def test_the_votes_make_the_hand_better() -> None:
    scene = walking_scene(4, n_frames=60, hands=True, seed=23)
    wrong = displaced(scene, "right", 1, 0, 60, by_px=25.0)
    error = {}
    for votes in (False, True):
        config = TriangulateConfig(hand_views=votes, smooth=False, sides=False, time_offsets=False)
        pose = triangulate_take(scene.rig, wrong, config).pose
        distance = np.linalg.norm(pose.xyz - scene.truth.xyz, axis=-1)[:, SIDES["right"]]
        error[votes] = np.where(np.isfinite(distance), distance, 0.1).mean()
    assert error[True] <= error[False]
    assert error[True] < 5e-3


def test_no_hands_no_change() -> None:
    scene = walking_scene(4, n_frames=10, seed=24)
    chosen, report = select_hand_views(scene.rig, scene.observations, cap_px=CAP_PX)
    assert chosen is scene.observations
    assert report.kept == {}


def test_wrists_of_the_body_name_the_hand() -> None:
    scene = walking_scene(4, n_frames=10, hands=True, seed=25)
    wrists = body_wrists(scene.truth)
    for side in ("left", "right"):
        index = BODY17_HANDS.index(f"{side}_wrist")
        np.testing.assert_allclose(wrists[side], scene.truth.xyz[:, index], atol=1e-6)


def test_limits_pass_true_hands_and_catch_broken_ones() -> None:
    scene = walking_scene(4, n_frames=200, hands=True, seed=26)
    xyz = scene.truth.xyz.astype(np.float64)
    assert impossible_joints(xyz, BODY17_HANDS).mean() < 0.02
    tip, middle = (BODY17_HANDS.index(f"left_hand_index_{k}") for k in (4, 3))
    broken = xyz.copy()
    broken[:, tip] = broken[:, middle] + [0.2, 0, 0]
    assert impossible_joints(broken, BODY17_HANDS)[:, tip].all()
    lost = xyz.copy()
    lost[:, tip] = np.nan
    assert not impossible_joints(lost, BODY17_HANDS)[:, tip].any()
