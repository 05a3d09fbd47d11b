"""Cameras as plain arrays, and the calls into the kernels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import MODELS, Camera
from egopose.errors import EgoposeError

CHUNK = 8192
"""Points of one kernel call; memory and threads only, never the result."""


@dataclass(frozen=True, eq=False)
class PackedRig:
    """C cameras as arrays, in a world frame moved to the middle of the cameras.

    Attributes:
        models: (C,) int64 model codes.
        params: (C, 20) float64.
        T_camera_world: (C, 3, 4) float64, world origin at ``origin``.
        origin: (3,) the mean of the camera centres: large world coordinates would cost digits.
        diagonal_px: Largest image diagonal.
    """

    models: NDArray[np.int64]
    params: NDArray[np.float64]
    T_camera_world: NDArray[np.float64]
    origin: NDArray[np.float64]
    diagonal_px: float

    @property
    def n_cameras(self) -> int:
        """Number of cameras."""
        return self.models.size


@dataclass(frozen=True, eq=False)
class SolvedArrays:
    """What the kernels write; world coordinates."""

    points: NDArray[np.float64]
    covariance: NDArray[np.float64]
    used: NDArray[np.bool_]
    error_px: NDArray[np.float64]
    status: NDArray[np.uint8]
    residual_px: NDArray[np.float64]


def thread_count(threads: int | None, n_points: int) -> int:
    """Threads worth starting: what the process may use, but at least 20,000 points each."""
    if threads is not None and threads < 1:
        raise EgoposeError(f"threads is {threads}; expected a positive number or None for all cores")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(threads or available, -(-n_points // 20_000)))


def run_chunks(work: Any, n_points: int, threads: int) -> None:
    """Call ``work(start, stop)`` for all chunks, on some threads; kernels release the interpreter lock."""
    starts = range(0, n_points, CHUNK)
    if threads == 1:
        for start in starts:
            work(start, min(start + CHUNK, n_points))
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, start, min(start + CHUNK, n_points)) for start in starts]:
            future.result()


def run_robust(
    rig: PackedRig,
    uv_px: NDArray[np.float64],
    weight: NDArray[np.float64],
    threshold_px: float,
    sigma_px: float,
    min_angle_deg: float,
    max_pairs: int,
    *,
    want_residual: bool,
    threads: int,
) -> SolvedArrays:
    """Robust kernel over all points; arrays as :func:`egopose.kernels.triangulation.robust_points`."""
    from egopose.kernels.triangulation import robust_points

    c, n = uv_px.shape[:2]
    points, covariance = np.empty((n, 3)), np.empty((n, 3, 3))
    used, error, status = np.empty((c, n), dtype=bool), np.empty(n), np.empty(n, dtype=np.uint8)
    residual = np.empty((c, n if want_residual else 0))
    min_sin2 = float(np.sin(np.radians(min_angle_deg)) ** 2)

    def work(start: int, stop: int) -> None:
        robust_points(
            rig.models, rig.params, rig.T_camera_world, uv_px, weight, threshold_px, sigma_px, min_sin2, max_pairs,
            0.5 * rig.diagonal_px, start, stop, points, covariance, used, error, status, residual,
        )  # fmt: skip
        points[start:stop] += rig.origin

    run_chunks(work, n, threads)
    return SolvedArrays(points, covariance, used, error, status, residual)


def run_linear(
    rig: PackedRig, uv_px: NDArray[np.float64], weight: NDArray[np.float64], min_angle_deg: float, threads: int
) -> SolvedArrays:
    """Linear kernel over all points; the covariance is that of a pixel noise of 1."""
    from egopose.kernels.dlt import linear_points, normalise_pixels
    from egopose.kernels.triangulation import linear_status

    c, n = uv_px.shape[:2]
    points, covariance = np.empty((n, 3)), np.empty((n, 3, 3))
    used, error, status = np.empty((c, n), dtype=bool), np.empty(n), np.empty(n, dtype=np.uint8)
    focal = np.sqrt(rig.params[:, 0] * rig.params[:, 1])
    min_sin2 = float(np.sin(np.radians(min_angle_deg)) ** 2)

    def work(start: int, stop: int) -> None:
        xy = np.empty((c, 2, stop - start))
        for i in range(c):
            normalise_pixels(rig.models[i], rig.params[i], uv_px[i, start:stop], xy[i])
        part = np.ascontiguousarray(weight[:, start:stop]) if weight.size else weight
        here = points[start:stop]
        linear_points(rig.T_camera_world, focal, xy, part, here, covariance[start:stop], error[start:stop])
        linear_status(rig.T_camera_world, xy, part, points, min_sin2, start, used, status)
        here += rig.origin

    run_chunks(work, n, threads)
    return SolvedArrays(points, covariance, used, error, status, np.empty((c, 0)))


def pack_cameras(cameras: Sequence[Camera], undistorted: bool) -> PackedRig:
    """Cameras as arrays.

    Args:
        cameras: C cameras.
        undistorted: Leave the lens out: pixels belong to an undistorted image of the same focal length and centre.

    Raises:
        EgoposeError: Fewer than two cameras, something that is no camera, or a calibration that is not finite.
    """
    cameras = list(cameras)
    if len(cameras) < 2:
        raise EgoposeError(f"{len(cameras)} camera{'' if cameras else 's'} given; triangulation needs at least two")
    for i, camera in enumerate(cameras):
        if not isinstance(camera, Camera):
            raise EgoposeError(f"camera {i} is a {type(camera).__name__}; expected egopose.Camera")
    packed = [camera.packed() for camera in cameras]
    models = np.array([code for code, _, _ in packed], dtype=np.int64)
    params = np.stack([p for _, p, _ in packed]).astype(np.float64)
    if undistorted:
        models[:] = MODELS["pinhole"][0]
        params[:, 4:] = 0.0
    T = np.stack([t for _, _, t in packed]).astype(np.float64)
    origin = np.mean([camera.center_world for camera in cameras], axis=0)
    T[:, :, 3] += T[:, :, :3] @ origin
    if not (np.isfinite(params).all() and np.isfinite(T).all()):
        raise EgoposeError("a calibration holds NaN or infinity; calibrate that camera again or leave it out")
    diagonal = max(float(np.hypot(*camera.size)) for camera in cameras)
    return PackedRig(models, params, np.ascontiguousarray(T), origin, diagonal)
