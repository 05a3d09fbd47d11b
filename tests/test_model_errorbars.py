"""Axes and covariances of the network's error bars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egopose.model.errorbars import SIGMA_PER_SCALE, across, bar_axes, covariances


def drawn(seed: int, steps: int = 4, joints: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((steps, joints, 3)), rng.standard_normal((steps, 3)), rng.random((steps, joints)) < 0.5


@given(st.integers(0, 10_000))
def test_axes_are_rotations_along_the_ray_or_along_gravity(seed: int) -> None:
    xyz, up, seen = drawn(seed)
    axes = bar_axes(xyz, up, seen)
    np.testing.assert_allclose(axes @ np.swapaxes(axes, -1, -2), np.broadcast_to(np.eye(3), axes.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(axes), 1, atol=1e-9)
    rays = xyz / np.linalg.norm(xyz, axis=-1, keepdims=True)
    np.testing.assert_allclose(axes[seen][..., 2], rays[seen], atol=1e-9)
    gravity = np.broadcast_to((up / np.linalg.norm(up, axis=-1, keepdims=True))[:, None], xyz.shape)
    np.testing.assert_allclose(axes[~seen][..., 2], gravity[~seen], atol=1e-9)


def test_a_level_camera_has_its_own_axes() -> None:
    ahead = np.array([[[0.0, 0.0, 0.5], [0.0, 0.0, 0.5]]])
    axes = bar_axes(ahead, [[0.0, -1.0, 0.0]], [[True, False]])
    np.testing.assert_allclose(axes[0, 0], np.eye(3), atol=1e-12)
    # forward is the camera's z, left its -x, up its -y
    np.testing.assert_allclose(axes[0, 1], [[0, -1, 0], [0, 0, -1], [1, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_joints_straight_above_and_below_and_at_the_camera_have_axes(y: float) -> None:
    axes = bar_axes([[[0.0, y, 0.0], [0.0, 0.0, 0.0]]], [[0.0, -1.0, 0.0]], [[True, True]])
    assert np.isfinite(axes).all()
    np.testing.assert_allclose(axes[0, 0, :, 2], [0, y, 0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(axes), 1)


@given(st.integers(0, 10_000))
def test_covariances_have_the_spread_of_each_axis(seed: int) -> None:
    xyz, up, seen = drawn(seed)
    rng = np.random.default_rng(seed)
    axes, factors, scale = bar_axes(xyz, up, seen), rng.uniform(0.2, 5, xyz.shape), rng.uniform(-6, -1, seen.shape)
    covariance = covariances(scale, factors, axes)
    sigma = SIGMA_PER_SCALE * np.exp(scale)[..., None] * factors
    np.testing.assert_allclose(np.einsum("tjai,tjab,tjbi->tji", axes, covariance, axes), sigma**2, rtol=1e-7)
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance), np.sort(sigma**2, axis=-1), rtol=1e-6, atol=1e-12)
    own = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    np.testing.assert_allclose(across(axes, sigma), own, rtol=1e-9)
