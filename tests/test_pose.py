"""PoseSequence and Observations2D: checked once, NaN with a status, never zero."""

from __future__ import annotations

import numpy as np
import pytest

from egopose import BODY17, BODY17_HANDS, HAND21, JointStatus, Observations2D, PoseSequence, rigid
from egopose.errors import EgoposeError


def sequence(n: int = 6, **changes: object) -> PoseSequence:
    rng = np.random.default_rng(0)
    fields: dict = {
        "skeleton": BODY17,
        "frames": np.arange(n) * 3,
        "times_s": np.arange(n) / 10,
        "xyz": rng.normal(size=(n, 17, 3)),
        "sigma": np.full((n, 17), 0.01),
        "covariance": np.tile(np.diag([1e-4, 4e-4, 9e-4]), (n, 17, 1, 1)),
    }
    return PoseSequence(**{**fields, **changes})


def test_missing_joints_are_nan_with_a_status() -> None:
    xyz = sequence().xyz.copy()
    xyz[2, 5, 1] = np.nan
    pose = sequence(xyz=xyz)
    assert np.isnan(pose.xyz[2, 5]).all()
    assert pose.status is not None
    assert pose.status[2, 5] == JointStatus.MISSING
    assert pose.status_counts()["missing"] == 1
    assert pose.valid.sum() == 6 * 17 - 1


def test_a_point_cannot_be_called_missing() -> None:
    status = np.zeros((6, 17), dtype=np.uint8)
    status[1, 3] = JointStatus.NO_CONSENSUS
    with pytest.raises(EgoposeError, match="frame 3, joint 'left_ear' has a point but its status is NO_CONSENSUS"):
        sequence(status=status)


def test_frames_rates_and_selection() -> None:
    pose = sequence()
    assert pose.fps == pytest.approx(30)
    part = pose.select(frames=[6, 9], joints=["left_wrist", "nose"])
    np.testing.assert_array_equal(part.xyz[0, 1], pose.xyz[2, 0])
    assert part.covariance is not None
    assert part.covariance.shape == (2, 2, 3, 3)
    with pytest.raises(EgoposeError, match="frame 7 is not there"):
        pose.select(frames=[7])


def test_other_skeletons_get_missing_joints() -> None:
    full = sequence().to_skeleton(BODY17_HANDS)
    assert full.valid[:, :17].all()
    assert not full.valid[:, 17:].any()
    assert full.status_counts()["missing"] == 6 * 42
    back = full.to_skeleton(BODY17)
    np.testing.assert_array_equal(back.xyz, sequence().xyz)


def test_the_error_bar_along_each_axis_comes_from_what_says_most() -> None:
    shape = sequence().xyz.shape[:2]
    sigma = np.full(shape, 0.02, np.float32)
    covariance = np.tile(np.diag([1e-4, 4e-4, 9e-4]).astype(np.float32), (*shape, 1, 1))
    covariance[0, 0, 1, 1] = -1e-12
    assert sequence(sigma=None, covariance=None).axis_sigma is None
    alone = sequence(sigma=sigma, covariance=None).axis_sigma
    np.testing.assert_allclose(alone, np.full((*shape, 3), 0.02))
    both = sequence(sigma=sigma, covariance=covariance).axis_sigma
    assert both is not None
    np.testing.assert_allclose(both[1:], np.broadcast_to([0.01, 0.02, 0.03], both[1:].shape), rtol=1e-5)
    assert np.isnan(both[0, 0]).tolist() == [False, True, False]


def test_transforming_turns_the_error_ellipsoids_too() -> None:
    T = rigid.make_transform(rigid.rotation_from_vector([0, 0, np.pi / 2]), [1, 2, 3])
    moved = sequence().transformed(T, "head")
    assert moved.covariance is not None
    np.testing.assert_allclose(moved.covariance[0, 0], np.diag([4e-4, 1e-4, 9e-4]), atol=1e-9)
    np.testing.assert_allclose(moved.xyz, rigid.transform_points(T, sequence().xyz), atol=1e-6)
    assert moved.space == "head"
    per_frame = sequence().transformed(np.tile(T, (6, 1, 1)), "head")
    np.testing.assert_array_equal(per_frame.xyz, moved.xyz)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xyz": np.zeros((6, 5, 3))}, r"shape \(6, 5, 3\); expected \(6, 17, 3\)"),
        ({"frames": [0, 1, 2, 3, 5, 5]}, "5 follows 5"),
        ({"frames": [0, 1, 2, 3, 4, 5.5]}, "whole numbers"),
        ({"times_s": [0, 1, 2, 3, 4, np.nan]}, "finite and increase"),
        ({"sigma": -np.ones((6, 17))}, "negative"),
        ({"sigma": np.ones((6, 16))}, "sigma has shape"),
        ({"status": np.full((6, 17), 99)}, "status holds 99"),
        ({"space": "moon"}, "space is 'moon'"),
    ],
)
def test_bad_fields_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(EgoposeError, match=message):
        sequence(**changes)


def test_empty_sequences_are_allowed() -> None:
    empty = PoseSequence(HAND21, [], [], np.zeros((0, 21, 3)))
    assert empty.fps is None
    assert empty.n_frames == 0


def observations(**changes: object) -> Observations2D:
    uv = np.random.default_rng(1).uniform(0, 100, size=(2, 4, 17, 2))
    fields: dict = {"skeleton": BODY17, "views": ("a", "b"), "frames": [1, 2, 4, 8], "uv_px": uv}
    return Observations2D(**{**fields, **changes})


def test_half_an_observation_is_none() -> None:
    uv = observations().uv_px.copy()
    uv[0, 0, 0, 1] = np.nan
    uv[1, 1, 1, 0] = np.inf
    seen = observations(uv_px=uv).seen
    assert not seen[0, 0, 0]
    assert not seen[1, 1, 1]
    assert seen.sum() == seen.size - 2


def test_observations_select_and_map() -> None:
    obs = observations(score=np.ones((2, 4, 17)), sizes=((640, 480), None))
    part = obs.select(views=["b"], frames=[4, 8], joints=["nose"])
    np.testing.assert_array_equal(part.uv_px[0, :, 0], obs.uv_px[1, 2:, 0])
    assert part.sizes == (None,)
    full = obs.to_skeleton(BODY17_HANDS)
    assert full.score is not None
    assert full.score[:, :, 17:].max() == 0
    assert not full.seen[:, :, 17:].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": ("a", "a")}, "view names repeat"),
        ({"uv_px": np.zeros((2, 4, 5, 2))}, "pixels have shape"),
        ({"score": np.zeros((2, 4, 5))}, "scores have shape"),
        ({"score": np.full((2, 4, 17), -1.0)}, "must not be negative"),
        ({"fps": 0}, "fps is 0"),
        ({"sizes": ((1, 1),)}, "1 image sizes for 2 views"),
    ],
)
def test_bad_observations_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(EgoposeError, match=message):
        observations(**changes)


def test_unknown_view_is_refused() -> None:
    with pytest.raises(EgoposeError, match="no view 'c'"):
        observations().select(views=["c"])


def test_the_movement_layout() -> None:
    pytest.importorskip("xarray")
    data = sequence().to_xarray()
    assert data["position"].dims == ("time", "space", "keypoint", "individual")
    assert data["position"].sel(keypoint="nose", space="y").shape == (6, 1)
    np.testing.assert_array_equal(data["position"].sel(keypoint="nose")[..., 0], sequence().xyz[:, 0])
    assert data.attrs["fps"] == pytest.approx(30)
