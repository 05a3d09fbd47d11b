"""Head poses in time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from egopose import Trajectory, rigid
from egopose.errors import EgoposeError


def path(n: int = 11, step: float = 0.1) -> Trajectory:
    R = Rotation.from_rotvec(np.outer(np.arange(n) * step, [0.1, -0.4, 0.7]))
    t = np.outer(np.arange(n) * step, [1.0, 2.0, 0.5])
    return Trajectory(np.arange(n) * step, rigid.make_transform(R.as_matrix(), t))


def test_constant_motion_is_reproduced_between_samples() -> None:
    times = np.linspace(0, 1, 37)
    poses = path().at(times)
    np.testing.assert_allclose(poses[:, :3, 3], np.outer(times, [1.0, 2.0, 0.5]), atol=1e-12)
    truth = Slerp([0, 1], Rotation.from_rotvec([[0, 0, 0], [0.1, -0.4, 0.7]]))(times).as_matrix()
    np.testing.assert_allclose(poses[:, :3, :3], truth, atol=1e-12)
    assert path().at(0.25).shape == (4, 4)


def test_outside_is_refused_unless_asked() -> None:
    with pytest.raises(EgoposeError, match=r"2 of 3 times lie outside.*spans 0\.000000 s to 1\.000000 s"):
        path().at([0.5, 1.5, -1.0])
    np.testing.assert_allclose(path().at([1.5], extrapolate=True)[0], path().at(1.0))
    assert np.isnan(path().at([0.5, 1.5], outside="nan")[1]).all()
    with pytest.raises(EgoposeError, match="lie outside"):
        path().at([np.nan])


def test_half_a_step_beyond_the_ends_is_inside() -> None:
    np.testing.assert_allclose(path().at(1.04), path().at(1.0))


def test_gaps_are_known_and_have_a_policy() -> None:
    whole = path(31)
    keep = np.r_[0:10, 25:31]
    holed = Trajectory(whole.times_s[keep], whole.T_world_camera[keep], max_gap_s=0.5)
    [(start, end)] = holed.gaps()
    assert (round(start, 6), round(end, 6)) == (0.9, 2.5)
    with pytest.raises(EgoposeError, match=r"gap from 0\.9.* to 2\.5.*policy"):
        holed.at([1.5])
    np.testing.assert_allclose(holed.at([1.0], gaps="nearest")[0], holed.at(0.9))
    np.testing.assert_allclose(holed.at([2.4], gaps="nearest")[0], holed.at(2.5))
    assert np.isnan(holed.at([1.5], gaps="nan")).all()
    # the poses on the rim of a gap are known
    np.testing.assert_allclose(holed.at([0.9, 2.5])[:, :3, 3], np.outer([0.9, 2.5], [1, 2, 0.5]), atol=1e-12)


@pytest.mark.parametrize(
    ("times", "poses", "message"),
    [
        ([], np.zeros((0, 4, 4)), "at least one time"),
        ([0, 1], np.eye(4)[None], "2 times but poses of shape"),
        ([0, 0], np.tile(np.eye(4), (2, 1, 1)), "entry 1 .* is not after entry 0"),
        ([0, np.nan], np.tile(np.eye(4), (2, 1, 1)), "time 1 is not finite"),
        ([0, 1], np.stack([np.eye(4), np.full((4, 4), np.nan)]), "1 poses hold NaN.*entry 1"),
        ([0], 2 * np.eye(4)[None], "last row"),
        ([0], np.diag([1, 1, 2, 1.0])[None], "not orthonormal"),
    ],
)
def test_bad_input_is_one_clear_error(times: list[float], poses: np.ndarray, message: str) -> None:
    with pytest.raises(EgoposeError, match=message):
        Trajectory(times, poses)


def test_moving_to_a_device_and_a_new_world() -> None:
    T_camera_device = rigid.make_transform(rigid.rotation_from_vector([0.1, 0.2, 0.3]), [0.01, 0.02, 0.03])
    T_new_world = rigid.make_transform(rigid.rotation_from_vector([0, 0, 1.0]), [5, 5, 0])
    moved = path().moved(T_camera_device).in_world(T_new_world).shifted(2.0)
    np.testing.assert_allclose(moved.at(2.5), T_new_world @ path().at(0.5) @ T_camera_device, atol=1e-12)
    assert len(path()) == 11


def test_one_pose_answers_for_its_own_time_only() -> None:
    single = Trajectory([1.0], np.eye(4)[None])
    np.testing.assert_array_equal(single.at(1.0), np.eye(4))
    with pytest.raises(EgoposeError, match="lie outside"):
        single.at(1.1)
