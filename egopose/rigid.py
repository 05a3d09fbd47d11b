"""SE(3) on plain arrays: ``T_a_b`` (..., 4, 4) maps points in frame b to frame a; float64 throughout."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.errors import EgoposeError

Array = NDArray[np.float64]


def make_transform(R: ArrayLike, t: ArrayLike) -> Array:
    """Stack rotations (..., 3, 3) and translations (..., 3) into transforms (..., 4, 4)."""
    R, t = np.asarray(R, dtype=np.float64), np.asarray(t, dtype=np.float64)
    T = np.zeros((*np.broadcast_shapes(R.shape[:-2], t.shape[:-1]), 4, 4))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = R, t, 1.0
    return T


def invert(T: ArrayLike) -> Array:
    """Inverse of rigid transforms (..., 4, 4): ``invert(T_a_b) == T_b_a``."""
    T = np.asarray(T, dtype=np.float64)
    R_inverse = np.swapaxes(T[..., :3, :3], -1, -2)
    return make_transform(R_inverse, -np.einsum("...ij,...j->...i", R_inverse, T[..., :3, 3]))


def compose(*transforms: ArrayLike) -> Array:
    """Product of transforms: ``compose(T_a_b, T_b_c) == T_a_c``."""
    result = np.asarray(transforms[0], dtype=np.float64)
    for T in transforms[1:]:
        result = result @ np.asarray(T, dtype=np.float64)
    return result


def transform_points(T_a_b: ArrayLike, points_b: ArrayLike) -> Array:
    """Map points from frame b to frame a.

    Args:
        T_a_b: (..., 4, 4), its leading axes aligned with those of the points from the left; one transform for
            all points when it is (4, 4), one per frame when it is (T, 4, 4) and the points are (T, J, 3).
        points_b: (..., 3).

    Returns:
        Points in frame a, shape of ``points_b``.
    """
    T, points = np.asarray(T_a_b, dtype=np.float64), np.asarray(points_b, dtype=np.float64)
    extra = points.ndim - 1 - (T.ndim - 2)
    if extra < 0:
        points = np.broadcast_to(points, (*T.shape[:-2], 3))
        extra = 0
    T = T.reshape(*T.shape[:-2], *(1,) * extra, 4, 4)
    # written out instead of matmul: a NaN point must stay alone and batches need no copy
    rotated = np.einsum("...ij,...j->...i", T[..., :3, :3], points)
    return rotated + T[..., :3, 3]


def _floats(value: ArrayLike, what: str) -> Array:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EgoposeError(f"{what} is no array of numbers ({error})") from error


def check_rotation(R: ArrayLike, where: str, tolerance: float = 1e-4) -> Array:
    """Check rotations and return the nearest exact ones.

    Args:
        R: (..., 3, 3).
        where: Named in the message.
        tolerance: Largest accepted entry of ``R R^T - I``.

    Raises:
        EgoposeError: Not finite, not (..., 3, 3), not orthonormal within the tolerance, or a reflection.
    """
    R = _floats(R, f"{where}: the rotation")
    if R.shape[-2:] != (3, 3):
        raise EgoposeError(f"{where}: the rotation has shape {R.shape}; expected (..., 3, 3)")
    if not np.isfinite(R).all():
        raise EgoposeError(f"{where}: the rotation holds NaN or infinity; calibrate this camera again or leave it out")
    with np.errstate(over="ignore", invalid="ignore"):
        error = float(np.abs(R @ np.swapaxes(R, -1, -2) - np.eye(3)).max(initial=0.0))
    # turned round, so that a NaN from overflow is refused too
    if not error <= tolerance:
        raise EgoposeError(
            f"{where}: the rotation is not orthonormal (R R^T differs from the identity by {error:.3g}, at most "
            f"{tolerance:g} is accepted); check row order, units and that it is a rotation and not a projection"
        )
    if (np.linalg.det(R) < 0).any():
        raise EgoposeError(f"{where}: the rotation is a reflection (determinant -1); one axis is flipped")
    if error < 1e-14:
        # exact already: projecting again would only move the last bits, and a saved rotation must come back equal
        return R.copy()
    U, _, Vt = np.linalg.svd(R)
    return U @ Vt


def check_transform(T: ArrayLike, where: str, tolerance: float = 1e-4) -> Array:
    """Check rigid transforms (..., 4, 4) or (..., 3, 4) and return exact (..., 4, 4) ones.

    Raises:
        EgoposeError: Wrong shape, non-finite, bad rotation (:func:`check_rotation`) or last row.
    """
    T = _floats(T, f"{where}: the transform")
    if T.shape[-2:] not in ((4, 4), (3, 4)):
        raise EgoposeError(f"{where}: the transform has shape {T.shape}; expected (..., 4, 4) or (..., 3, 4)")
    if T.shape[-2] == 4 and not np.allclose(T[..., 3, :], (0, 0, 0, 1), atol=1e-6):
        raise EgoposeError(f"{where}: the last row of the transform is not 0 0 0 1; is it transposed?")
    if not np.isfinite(T).all():
        raise EgoposeError(f"{where}: the transform holds NaN or infinity")
    return make_transform(check_rotation(T[..., :3, :3], where, tolerance), T[..., :3, 3])


def quaternion_to_matrix(xyzw: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) in x, y, z, w order; they are normalised first."""
    q = np.asarray(xyzw, dtype=np.float64)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    x, y, z, w = np.moveaxis(q, -1, 0)
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1),
            np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1),
            np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )


def matrix_to_quaternion(R: ArrayLike) -> Array:
    """Quaternions (..., 4), x, y, z, w with w >= 0, of rotation matrices (..., 3, 3).

    Takes the largest of the four squared components first (Shepperd, 1978), so no angle loses precision.
    """
    R = np.asarray(R, dtype=np.float64)
    m00, m11, m22 = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    squared = np.stack([1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22, 1 + m00 + m11 + m22], -1)
    a, b, c = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    xy, xz, yz = R[..., 0, 1] + R[..., 1, 0], R[..., 0, 2] + R[..., 2, 0], R[..., 1, 2] + R[..., 2, 1]
    rows = np.stack(
        [
            np.stack([squared[..., 0], xy, xz, a], -1),
            np.stack([xy, squared[..., 1], yz, b], -1),
            np.stack([xz, yz, squared[..., 2], c], -1),
            np.stack([a, b, c, squared[..., 3]], -1),
        ],
        -2,
    )
    best = np.argmax(squared, axis=-1)[..., None, None]
    q = np.take_along_axis(rows, best, axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return np.where(q[..., 3:] < 0, -q, q)


def rotation_from_vector(vector: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3), radians (Rodrigues' formula)."""
    v = np.asarray(vector, dtype=np.float64)
    angle = np.linalg.norm(v, axis=-1)
    half = angle / 2
    # sin(a/2)/a by its series near zero
    scale = np.where(angle > 1e-6, np.sin(half) / np.where(angle > 0, angle, 1), 0.5 - angle**2 / 48)
    return quaternion_to_matrix(np.concatenate([v * scale[..., None], np.cos(half)[..., None]], -1))


def vector_from_rotation(R: ArrayLike) -> Array:
    """Axis-angle vectors (..., 3), radians in [0, pi], of rotation matrices (..., 3, 3)."""
    q = matrix_to_quaternion(R)
    norm = np.linalg.norm(q[..., :3], axis=-1)
    angle = 2 * np.arctan2(norm, q[..., 3])
    scale = np.where(norm > 1e-12, angle / np.where(norm > 0, norm, 1), 2.0)
    return q[..., :3] * scale[..., None]


def interpolate(T0: ArrayLike, T1: ArrayLike, alpha: ArrayLike) -> Array:
    """Between two poses: geodesic (slerp) in rotation, straight line in translation.

    Args:
        T0: (..., 4, 4) at alpha 0.
        T1: (..., 4, 4) at alpha 1.
        alpha: (...) weights.

    Returns:
        (..., 4, 4).
    """
    T0, T1, alpha = (np.asarray(a, dtype=np.float64) for a in (T0, T1, alpha))
    R0 = T0[..., :3, :3]
    turn = vector_from_rotation(np.swapaxes(R0, -1, -2) @ T1[..., :3, :3])
    R = R0 @ rotation_from_vector(turn * alpha[..., None])
    t = T0[..., :3, 3] + alpha[..., None] * (T1[..., :3, 3] - T0[..., :3, 3])
    return make_transform(R, t)
