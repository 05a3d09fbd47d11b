"""Other triangulators on the same arrays: cameras and pixels in, points (N, 3) out, NaN where one gives none.

The cameras are pinholes, so that every tool solves the same problem. Peers that bring heavy packages run in an
interpreter of their own: this file called with ``--serve NAME INPUT.npz OUTPUT.npz`` is that side.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def official_points(K: np.ndarray, T_camera_world: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """The rule of Ego-Exo4D's automatic annotations, written from its description.

    Normalised coordinates; for every pair of views the linear point; inliers are the pair and the views whose half
    distance is below 0.01; a set of at least the size of the best and of a lower error wins, and its error then
    counts over all views; then the linear point of the inliers and a Huber fit of the half distances.

    Args:
        K: (C, 3, 3).
        T_camera_world: (C, 3, 4).
        uv: (C, N, 2) undistorted pixels.
    """
    from scipy.optimize import least_squares

    n_views, n_points = uv.shape[:2]
    xy = np.stack([(uv[c] - K[c, :2, 2]) / [K[c, 0, 0], K[c, 1, 1]] for c in range(n_views)])

    def linear(views: list[int], x: np.ndarray) -> np.ndarray:
        rows = [r for v in views for r in (x[v, 0] * T_camera_world[v, 2] - T_camera_world[v, 0],
                                           x[v, 1] * T_camera_world[v, 2] - T_camera_world[v, 1])]  # fmt: skip
        h = np.linalg.svd(np.asarray(rows))[2][-1]
        return h[:3] / h[3]

    def half_distance(point: np.ndarray, views: list[int], x: np.ndarray) -> np.ndarray:
        camera = T_camera_world[views, :, :3] @ point + T_camera_world[views, :, 3]
        return 0.5 * np.linalg.norm(camera[:, :2] / camera[:, 2:] - x[views], axis=1)

    everything = list(range(n_views))
    result = np.full((n_points, 3), np.nan)
    for n in range(n_points):
        x = xy[:, n]
        best: list[int] = []
        best_error = np.inf
        for pair in itertools.combinations(everything, 2):
            error = half_distance(linear(list(pair), x), everything, x)
            inliers = [v for v in everything if v in pair or error[v] < 0.01]
            below = error[error < 0.01]
            if len(inliers) >= len(best) and below.size and below.mean() < best_error:
                best, best_error = inliers, error.mean()
        if len(best) >= 2:
            start = linear(best, x)
            fit = least_squares(half_distance, start, loss="huber", f_scale=1.0, method="trf", args=(best, x))
            result[n] = fit.x
    return result


def pycolmap_points(K: np.ndarray, T_camera_world: np.ndarray, uv: np.ndarray, max_error_px: float) -> np.ndarray:
    """pycolmap's LO-RANSAC on the reprojection error, one call per point as its interface has it."""
    import pycolmap

    cameras = [
        pycolmap.Camera(
            model="PINHOLE",
            width=1920,
            height=1080,
            # its pixel centres are at halves
            params=[k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5],
        )
        for k in K
    ]
    poses = [pycolmap.Rigid3d(np.asarray(T)) for T in T_camera_world]
    options = pycolmap.EstimateTriangulationOptions()
    options.residual_type = pycolmap.TriangulationResidualType.REPROJECTION_ERROR
    options.ransac.max_error = max_error_px
    result = np.full((uv.shape[1], 3), np.nan)
    shifted = np.ascontiguousarray(uv.transpose(1, 0, 2) + 0.5)
    estimate = pycolmap.estimate_triangulation
    for n in range(uv.shape[1]):
        found = estimate(shifted[n], poses, cameras, options)
        if found is not None:
            result[n] = found["xyz"]
    return result


def anipose_points(K: np.ndarray, T_camera_world: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """aniposelib's triangulate_ransac with its own settings; its undistortion is also what normalises the pixels."""
    import cv2
    from aniposelib.cameras import Camera, CameraGroup

    cameras = [
        Camera(matrix=k, dist=np.zeros(5), size=(1920, 1080), rvec=cv2.Rodrigues(T[:, :3])[0].ravel(), tvec=T[:, 3])
        for k, T in zip(K, T_camera_world)
    ]
    result = CameraGroup(cameras).triangulate_ransac(uv.copy(), undistort=True, min_cams=2)
    points = result[0] if isinstance(result, tuple) else result
    return np.asarray(points, dtype=np.float64).reshape(-1, 3)


def pose2sim_points(K: np.ndarray, T_camera_world: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Pose2Sim's function that drops cameras until the mean error is below 10 px."""
    from Pose2Sim.triangulation import triangulation_from_best_cameras

    settings = {
        "triangulation": {
            "reproj_error_threshold_triangulation": 10, "min_cameras_for_triangulation": 2, "handle_LR_swap": False,
            "undistort_points": False, "show_interp_indices": False,
        }
    }  # fmt: skip
    projections = [k @ T for k, T in zip(K, T_camera_world)]
    result = np.full((uv.shape[1], 3), np.nan)
    ones = np.ones(uv.shape[0])
    for n in range(uv.shape[1]):
        seen = (uv[:, n, 0].copy(), uv[:, n, 1].copy(), ones.copy())
        found = triangulation_from_best_cameras(settings, seen, tuple(a.copy() for a in seen), projections, {})
        result[n] = np.asarray(found[0], dtype=np.float64)[:3]
    return result


SERVED = {"aniposelib triangulate_ransac": anipose_points, "Pose2Sim best cameras": pose2sim_points}


def serve(name: str, source: str, target: str) -> None:
    """Run one peer on stored input: a warm-up on three points, then the clock."""
    data = np.load(source)
    function = SERVED[name]
    function(data["K"], data["T"], data["uv"][:, :3])
    start = time.process_time()
    points = function(data["K"], data["T"], data["uv"])
    np.savez(target, points=points, seconds=time.process_time() - start)


def run_served(
    python: str, name: str, K: np.ndarray, T_camera_world: np.ndarray, uv: np.ndarray
) -> tuple[np.ndarray, float] | str:
    """Run a peer in another interpreter; its points and seconds, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = str(Path(folder) / "in.npz"), str(Path(folder) / "out.npz")
        np.savez(source, K=K, T=T_camera_world, uv=uv)
        # one thread like everybody else
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        limits["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        environment: dict[str, Any] = {"PATH": "/usr/bin:/bin", "HOME": folder, **limits}
        done = subprocess.run(
            [python, __file__, "--serve", name, source, target], capture_output=True, text=True, env=environment
        )
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["failed"])[-1]
        with np.load(target) as result:
            return result["points"], float(result["seconds"])


if __name__ == "__main__" and sys.argv[1:2] == ["--serve"]:
    serve(*sys.argv[2:5])
