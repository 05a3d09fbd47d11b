"""The official Ego-Exo4D automatic annotation as a mode, so that users can compare like with like.

Gates on confidence: body joints 0.6; hand joints 0.5 from a whole-body detector and 0.3 from a hand detector, which is
what runs here. The inlier rule is in :mod:`egopose.kernels.official`. Error bars are ours: the published pipeline gives
none.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from egopose.pose import JointStatus, PoseSequence
from egopose.triangulate.hands import hand_sides
from egopose.triangulate.solve import TriangulatedPoints
from egopose.triangulate.take import ASSUMED_FPS, Progress, Take
from egopose.triangulate.threshold import RAYLEIGH_MEDIAN, Threshold

BODY_GATE = 0.6
HAND_GATE = 0.3
LIMIT = 0.01


def triangulate_official(take: Take, progress: Progress) -> Take:
    """A stage that solves every joint by the official rule."""
    from egopose.kernels.official import official_points

    observations = take.observations
    V, T, J = observations.uv_px.shape[:3]
    gate = np.full(J, BODY_GATE)
    for indices in hand_sides(observations.skeleton).values():
        gate[indices] = HAND_GATE
    score = np.ones((V, T, J)) if observations.score is None else observations.score.astype(np.float64)
    uv = np.where((score > gate)[..., None], observations.uv_px.astype(np.float64), np.nan)
    xy = np.empty((V, T * J, 2))
    P = np.empty((V, 3, 4))
    for v, camera in enumerate(take.rig.cameras):
        rays = camera.unproject(uv[v].reshape(-1, 2))
        xy[v] = rays[:, :2] / rays[:, 2:]
        P[v] = camera.T_camera_world[:3]
    progress(0.2, "triangulate")
    n = T * J
    points, normals = np.empty((n, 3)), np.empty((n, 3, 3))
    used, error = np.zeros((V, n), dtype=bool), np.empty(n)
    official_points(P, xy, score.reshape(V, n), LIMIT, points, normals, used, error, 0, n)
    known = np.isfinite(points[:, 0])
    focal = float(np.mean([0.5 * (c.K[0, 0] + c.K[1, 1]) for c in take.rig.cameras]))
    noise = float(np.median(error[known]) / RAYLEIGH_MEDIAN) if known.any() else np.nan
    covariance = np.full((n, 3, 3), np.nan)
    covariance[known] = noise**2 * np.linalg.inv(normals[known] + 1e-9 * np.eye(3))
    views = used.sum(0)
    status = np.where(known, np.where(views > 2, JointStatus.OK, JointStatus.TWO_VIEWS), JointStatus.MISSING)
    threshold = Threshold(2 * LIMIT * focal, noise * focal, "the official rule: 0.02 in normalised coordinates")
    solved = TriangulatedPoints(
        points, covariance, used, error * focal, status.astype(np.uint8), threshold.threshold_px, threshold.sigma_px,
        threshold, "ego-exo4d",
    )  # fmt: skip
    fps = observations.fps or ASSUMED_FPS
    pose = PoseSequence(
        observations.skeleton, observations.frames, observations.frames / fps,
        points.reshape(T, J, 3).astype(np.float32), solved.sigma.reshape(T, J).astype(np.float32),
        covariance.reshape(T, J, 3, 3).astype(np.float32), status.reshape(T, J).astype(np.uint8), "world",
        {"source": "triangulate", "protocol": "ego-exo4d", "limit": LIMIT, "gates": [BODY_GATE, HAND_GATE]},
    )  # fmt: skip
    progress(1.0, "triangulate")
    return replace(
        take, pose=pose, used=used.reshape(V, T, J), error_px=(error * focal).reshape(T, J), solved=solved
    )  # fmt: skip
