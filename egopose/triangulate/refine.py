"""Where: cameras a little off are put right from the keypoints; cameras simply wrong are named and left out.

The refinement is a robust bundle adjustment (:mod:`egopose.triangulate.bundle`): poses of all cameras but the
reference, optionally one focal scale each, and a sample of joints. Afterwards the whole rig is moved rigidly onto the
given one, so that no single camera's error turns the world. What is not determined is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.camera import Camera, Rig
from egopose.errors import EgoposeError
from egopose.observations import Observations2D
from egopose.triangulate.bundle import adjust
from egopose.triangulate.solve import triangulate_points

Array = NDArray[np.float64]

SAMPLES = 900
LOSS_PX = 3.0
_MAX_ROTATION_SD_DEG = 1.0
_MAX_TRANSLATION_SD_M = 0.05


@dataclass(frozen=True)
class CameraRefinement:
    """What the refinement did to one camera.

    Attributes:
        name: The camera.
        before_px: Median residual with the given calibration.
        after_px: Median residual with the refined one.
        rotation_deg: How far it turned.
        translation_m: How far its centre moved.
        focal_scale: Factor on the focal length.
        rotation_sd_deg: Standard deviation of the rotation.
        translation_sd_m: Of the centre.
    """

    name: str
    before_px: float
    after_px: float
    rotation_deg: float
    translation_m: float
    focal_scale: float
    rotation_sd_deg: float
    translation_sd_m: float


@dataclass(frozen=True)
class RefinedRig:
    """A refined rig and how it came about.

    Attributes:
        rig: The cameras.
        reference: The camera that was held during the adjustment.
        cameras: One row per camera.
        before_px: Median residual over all views.
        after_px: The same after.
        points: Joints used.
    """

    rig: Rig
    reference: str
    cameras: tuple[CameraRefinement, ...]
    before_px: float
    after_px: float
    points: int


def wrong_cameras(rig: Rig, observations: Observations2D, *, threshold_px: float) -> dict[str, str]:
    """Cameras that disagree with all the others nearly always, with the reason in words.

    A camera is wrong when fewer than a fifth of its joints agree with what the others triangulate, while of the best
    half of the cameras more than half do.

    Args:
        rig: The cameras, at least four (with three nobody can tell which one is wrong).
        observations: 2D joints whose views are cameras of the rig.
        threshold_px: Largest residual of an agreeing view.
    """
    V = observations.n_views
    if V < 4:
        return {}
    uv, score = _sample(observations, 3, 4000)
    if not uv.shape[1]:
        return {}
    cameras = [rig[name] for name in observations.views]
    solved = triangulate_points(cameras, uv, score, threshold=threshold_px)
    trusted = solved.used.sum(0) >= 3 if (solved.used.sum(0) >= 3).sum() >= 50 else solved.used.sum(0) >= 2
    seen = np.isfinite(uv[..., 0]) & trusted
    share = np.array([float(solved.used[v][seen[v]].mean()) if seen[v].any() else np.nan for v in range(V)])
    if np.nanmedian(np.sort(share)[::-1][: (V + 1) // 2]) < 0.5:
        return {}
    return {
        observations.views[v]: f"only {100 * share[v]:.0f} % of its joints agree with the other cameras"
        for v in range(V)
        if share[v] < 0.2
    }


def _sample(observations: Observations2D, least: int, size: int, seed: int = 0) -> tuple[Array, Array | None]:
    """Pixels (V, N, 2) and scores (V, N) of joints seen by at least ``least`` views."""
    V = observations.n_views
    uv = observations.uv_px.reshape(V, -1, 2)
    enough = np.flatnonzero(np.isfinite(uv[..., 0]).sum(0) >= least)
    if enough.size > size:
        enough = np.sort(np.random.default_rng(seed).choice(enough, size, replace=False))
    score = None if observations.score is None else observations.score.reshape(V, -1)[:, enough].astype(np.float64)
    return uv[:, enough].astype(np.float64), score


def refine_rig(
    rig: Rig,
    observations: Observations2D,
    *,
    threshold_px: float,
    focal: bool = False,
    reference: str | None = None,
    rounds: int = 3,
    seed: int = 0,
    samples: int = SAMPLES,
) -> RefinedRig:
    """Refine camera poses, and focal lengths when asked, from the keypoints.

    Args:
        rig: The cameras.
        observations: 2D joints, sides and times already put right.
        threshold_px: Largest residual of an agreeing view with the given calibration.
        focal: Refine one focal scale per camera too.
        reference: The camera held during the adjustment; by default the one that sees most.
        rounds: Triangulate and adjust this often.
        seed: Of the sample of joints.
        samples: Joints adjusted together with the cameras.

    Raises:
        EgoposeError: Fewer than 50 joints are seen by enough views, or the keypoints do not determine a camera.
    """
    names = list(observations.views)
    cameras = [rig[name] for name in names]
    seen = observations.seen.sum((1, 2))
    ref = int(np.argmax(seen)) if reference is None else names.index(reference)
    uv, score = _sample(observations, min(3, len(names)), 4 * samples, seed)
    before = _residuals(cameras, uv, score, threshold_px)
    threshold = threshold_px
    cov = np.zeros((len(names), 6))
    n_points = 0
    scale = np.ones(len(names))
    for _ in range(rounds):
        solved = triangulate_points(cameras, uv, score, threshold=threshold)
        good = np.isfinite(solved.points[:, 0]) & (solved.used.sum(0) >= min(3, len(names)))
        index = np.flatnonzero(good)
        if index.size < 50:
            raise EgoposeError(
                f"refining the cameras needs at least 50 joints that three views agree on; found {index.size}. Record "
                "a person who moves through the whole volume, or calibrate again"
            )
        index = index[:: max(1, index.size // samples)]
        n_points = index.size
        done = adjust(
            cameras, ref, uv[:, index], solved.used[:, index].astype(np.float64), solved.points[index],
            loss_px=LOSS_PX, focal=focal,
        )  # fmt: skip
        cameras, cov, scale = done.cameras, done.sd, scale * done.focal
        # the better the cameras, the tighter the views may be asked to agree
        threshold = min(threshold, max(4.0 * triangulate_points(cameras, uv, score).sigma_px, threshold / 3))
    cameras = _onto(cameras, [rig[name] for name in names])
    after = _residuals(cameras, uv, score, threshold_px)
    rows = []
    for v, name in enumerate(names):
        old, new = rig[name].T_world_camera, cameras[v].T_world_camera
        turn = rigid.vector_from_rotation(old[:3, :3].T @ new[:3, :3])
        rows.append(
            CameraRefinement(
                name, float(before[v]), float(after[v]), float(np.degrees(np.linalg.norm(turn))),
                float(np.linalg.norm(new[:3, 3] - old[:3, 3])), float(scale[v]),
                float(np.degrees(cov[v, :3].max())), float(cov[v, 3:].max()),
            )
        )  # fmt: skip
    loose = [r for r in rows if r.rotation_sd_deg > _MAX_ROTATION_SD_DEG or r.translation_sd_m > _MAX_TRANSLATION_SD_M]
    if loose:
        r = loose[0]
        raise EgoposeError(
            f"camera {r.name!r} is not determined by these keypoints (its pose would be uncertain by "
            f"{r.rotation_sd_deg:.2g} degrees and {100 * r.translation_sd_m:.2g} cm); keep the given calibration, or "
            "record a person who moves through more of the volume"
        )
    kept = [camera for camera in rig.cameras if camera.name not in names]
    by_name = {camera.name: camera for camera in [*cameras, *kept]}
    offsets = dict(zip(rig.names, rig.time_offsets_s))
    refined = Rig([by_name[name] for name in rig.names], np.array([offsets[name] for name in rig.names]))
    return RefinedRig(refined, names[ref], tuple(rows), float(np.median(before)), float(np.median(after)), n_points)


def _onto(cameras: list[Camera], given: list[Camera]) -> list[Camera]:
    """Move a rig rigidly onto another: least squares over centres and viewing directions."""
    centres = np.stack([camera.T_world_camera[:3, 3] for camera in given])
    arm = float(np.sqrt(((centres - centres.mean(0)) ** 2).sum(-1).mean())) + 1e-9
    ends = np.concatenate([np.zeros((1, 3)), arm * np.eye(3)])
    a = np.concatenate([rigid.transform_points(camera.T_world_camera, ends) for camera in cameras])
    b = np.concatenate([rigid.transform_points(camera.T_world_camera, ends) for camera in given])
    U, _, Vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    R = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
    T = rigid.make_transform(R, b.mean(0) - R @ a.mean(0))
    return [camera.moved(T @ camera.T_world_camera) for camera in cameras]


def _residuals(cameras: list[Camera], uv: Array, score: Array | None, threshold_px: float) -> Array:
    """Median residual of each camera over all its joints, agreeing or not."""
    solved = triangulate_points(cameras, uv, score, threshold=threshold_px)
    result = []
    for camera, pixels in zip(cameras, uv):
        distance = np.linalg.norm(camera.project(solved.points) - pixels, axis=-1)
        distance = distance[np.isfinite(distance)]
        result.append(float(np.median(distance)) if distance.size else np.nan)
    return np.array(result)
