"""Inertial samples around a step, as numbers the network takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BINS_S: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Edges of the past time bins over which samples are averaged, seconds before the step."""

IMU_FEATURES = (len(BINS_S) - 1) * 6
GRAVITY_M_S2 = 9.81


def imu_features(
    times_s: Array, sample_times_s: Array, acceleration: Array, angular_velocity: Array
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean acceleration (in g) and turn rate (rad/s) in bins before each step.

    Args:
        times_s: (T,) steps, seconds.
        sample_times_s: (N,) increasing.
        acceleration: (N, 3) specific force in camera axes, m/s^2.
        angular_velocity: (N, 3) rad/s in camera axes.

    Returns:
        (T, IMU_FEATURES) float32 and (T,) bool; a step whose newest bin is empty is unknown, an empty older bin
        takes the values of the newer one.
    """
    steps, samples = np.asarray(times_s, dtype=np.float64), np.asarray(sample_times_s, dtype=np.float64)
    values = np.concatenate([np.asarray(acceleration) / GRAVITY_M_S2, np.asarray(angular_velocity)], axis=1)
    total = np.concatenate([np.zeros((1, 6)), np.cumsum(values, axis=0)])
    blocks: list[Array] = []
    known = np.zeros(steps.size, dtype=bool)
    for i, (near, far) in enumerate(zip(BINS_S[:-1], BINS_S[1:])):
        # both ends inclusive at the near side, so that a sample at the step's own time counts
        last = np.searchsorted(samples, steps - near + 1e-9, side="right")
        first = np.searchsorted(samples, steps - far + 1e-9, side="right")
        count = last - first
        mean = (total[last] - total[first]) / np.maximum(count, 1)[:, None]
        if i == 0:
            known = count > 0
            blocks.append(np.where(known[:, None], mean, 0.0))
        else:
            blocks.append(np.where((count > 0)[:, None], mean, blocks[-1]))
    out = np.concatenate(blocks, axis=1)
    return np.where(known[:, None], out, 0.0).astype(np.float32), known


def simulate_imu(times_s: Array, T_world_camera: Array) -> tuple[Array, Array]:
    """Specific force and turn rate that a perfect sensor would report along a path of poses.

    Args:
        times_s: (T,) seconds.
        T_world_camera: (T, 4, 4), world z up.

    Returns:
        acceleration (T, 3) m/s^2 and angular velocity (T, 3) rad/s in camera axes, by central differences.
    """
    times, T = np.asarray(times_s, dtype=np.float64), np.asarray(T_world_camera, dtype=np.float64)
    if times.size < 3:
        up = T[:, 2, :3] * GRAVITY_M_S2
        return up, np.zeros_like(up)
    velocity = np.gradient(T[:, :3, 3], times, axis=0)
    force = np.gradient(velocity, times, axis=0) + np.array([0, 0, GRAVITY_M_S2])
    R = T[:, :3, :3]
    turn = np.einsum("tji,tjk->tik", R, np.gradient(R, times, axis=0))
    rate = (
        np.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], -1) / 2
    )
    return np.einsum("tji,tj->ti", R, force), rate
