"""SE(3) helpers against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from egopose import rigid
from egopose.errors import EgoposeError

angles = st.floats(-10, 10, allow_nan=False)


@given(st.tuples(angles, angles, angles))
def test_rotation_vectors_and_quaternions_agree_with_scipy(v: tuple[float, float, float]) -> None:
    truth = Rotation.from_rotvec(v)
    R = rigid.rotation_from_vector(v)
    np.testing.assert_allclose(R, truth.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rigid.quaternion_to_matrix(truth.as_quat()), R, atol=1e-12)
    q = rigid.matrix_to_quaternion(R)
    assert abs(abs(q @ truth.as_quat()) - 1) < 1e-12
    assert q[3] >= 0
    np.testing.assert_allclose(rigid.rotation_from_vector(rigid.vector_from_rotation(R)), R, atol=1e-9)


@pytest.mark.parametrize("angle", [0, 1e-12, 1e-9, 1e-7, 1e-4, np.pi - 1e-9, np.pi])
def test_tiny_and_half_turns(angle: float) -> None:
    axis = np.array([0.48, -0.6, 0.64])
    R = rigid.rotation_from_vector(axis * angle)
    np.testing.assert_allclose(R, Rotation.from_rotvec(axis * angle).as_matrix(), atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(rigid.vector_from_rotation(R)), angle, atol=1e-8)


def test_transforms_compose_and_invert() -> None:
    rng = np.random.default_rng(0)
    T_a_b = rigid.make_transform(Rotation.random(5, random_state=1).as_matrix(), rng.normal(size=(5, 3)))
    T_b_c = rigid.make_transform(Rotation.random(5, random_state=2).as_matrix(), rng.normal(size=(5, 3)))
    p = rng.normal(size=(5, 7, 3))
    expected = rigid.transform_points(T_a_b, rigid.transform_points(T_b_c, p))
    np.testing.assert_allclose(rigid.transform_points(rigid.compose(T_a_b, T_b_c), p), expected, atol=1e-12)
    np.testing.assert_allclose(
        rigid.compose(T_a_b, rigid.invert(T_a_b)), np.broadcast_to(np.eye(4), (5, 4, 4)), atol=1e-12
    )
    one = rigid.transform_points(T_a_b[0], p)
    np.testing.assert_allclose(one[3, 2], T_a_b[0, :3, :3] @ p[3, 2] + T_a_b[0, :3, 3], atol=1e-12)


def test_interpolation_is_slerp_and_a_line() -> None:
    R = Rotation.random(2, random_state=3)
    T = rigid.make_transform(R.as_matrix(), [[0, 0, 0], [1, 2, 3]])
    alpha = np.linspace(0, 1, 9)
    got = rigid.interpolate(np.repeat(T[:1], 9, 0), np.repeat(T[1:], 9, 0), alpha)
    np.testing.assert_allclose(got[:, :3, :3], Slerp([0, 1], R)(alpha).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(got[:, :3, 3], alpha[:, None] * [1, 2, 3])


@pytest.mark.parametrize(
    ("R", "message"),
    [
        (np.diag([1, 1, 1.01]), "not orthonormal"),
        (np.diag([1, 1, -1]), "reflection"),
        (np.full((3, 3), np.nan), "NaN"),
        (np.eye(4), "shape"),
    ],
)
def test_bad_rotations_are_refused(R: np.ndarray, message: str) -> None:
    with pytest.raises(EgoposeError, match=f"cam01.*{message}"):
        rigid.check_rotation(R, "cam01")


def test_nearly_orthonormal_rotations_are_made_exact() -> None:
    R = rigid.rotation_from_vector([0.3, -0.2, 1.0])
    exact = rigid.check_rotation(R + 2e-5, "cam01")
    np.testing.assert_allclose(exact @ exact.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(exact, R, atol=1e-4)


def test_transposed_transforms_are_noticed() -> None:
    T = rigid.make_transform(np.eye(3), [1, 2, 3])
    with pytest.raises(EgoposeError, match="transposed"):
        rigid.check_transform(T.T, "pose")
