"""Synthetic multi-view scenes with known truth. Everything follows from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera, Rig
from egopose.demo import walking_person
from egopose.observations import Observations2D
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17, BODY17_HANDS

Array = NDArray[np.float64]

LENSES = {
    "pinhole": ([], False),
    "brown_conrady": ([-0.21, 0.08, 0.0006, -0.0004, -0.012], False),
    "fisheye": ([0.0369, 0.0571, -0.0572, 0.0185], True),
}


def ring_cameras(
    count: int, *, lens: str = "pinhole", radius: float = 4.0, focal_px: float = 1400.0,
    size: tuple[int, int] = (1920, 1080), centre: tuple[float, float, float] = (0.0, 0.0, 0.0), phase: float = 0.1,
) -> list[Camera]:  # fmt: skip
    """Cameras on a circle about a body that stands at ``centre`` (world z up), at uneven heights of 1.2 to 2 m."""
    dist, fisheye = LENSES[lens]
    K = np.array([[focal_px, 0, (size[0] - 1) / 2], [0, focal_px, (size[1] - 1) / 2], [0, 0, 1]])
    cameras = []
    for i in range(count):
        angle = 2 * np.pi * i / count + phase
        place = np.array([radius * np.cos(angle), radius * np.sin(angle), 1.2 + 0.8 * (0.618034 * i % 1.0)])
        forward = np.array([0.0, 0.0, 1.0]) - place
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        t = -R @ (place + np.asarray(centre))
        cameras.append(Camera.from_opencv(K, dist, R, t, size, fisheye=fisheye, name=f"cam{i + 1:02d}"))
    return cameras


def body_points(count: int, rng: np.random.Generator, centre: tuple[float, float, float] = (0, 0, 0)) -> Array:
    """Points (count, 3) spread over the volume of a body."""
    return rng.uniform([-0.6, -0.6, 0.0], [0.6, 0.6, 1.8], (count, 3)) + np.asarray(centre)


def observe(
    cameras: list[Camera], points: Array, rng: np.random.Generator, *, noise_px: float = 1.0,
    outlier_share: float = 0.0, outlier_px: float = 150.0, missing_share: float = 0.0,
) -> tuple[Array, NDArray[np.bool_]]:  # fmt: skip
    """Noisy pixels (C, ..., 2) of points and which of them were made wrong (C, ...)."""
    uv = np.stack([camera.project(points) for camera in cameras])
    uv = uv + rng.normal(0, noise_px, uv.shape) if noise_px else uv
    wrong = rng.random(uv.shape[:-1]) < outlier_share
    uv[wrong] += rng.normal(0, outlier_px, (int(wrong.sum()), 2))
    uv[rng.random(uv.shape[:-1]) < missing_share] = np.nan
    return uv, wrong


@dataclass(frozen=True)
class Scene:
    """A capture with known truth.

    Attributes:
        rig: The cameras.
        observations: What a 2D detector would have said.
        truth: The exact joints.
        wrong: (V, T, J) true where a pixel was made wrong (outlier or side swap).
        offsets_s: (V,) seconds by which each view runs late.
    """

    rig: Rig
    observations: Observations2D
    truth: PoseSequence
    wrong: NDArray[np.bool_]
    offsets_s: Array


def walking_scene(
    n_cameras: int = 4, *, n_frames: int = 60, fps: float = 30.0, hands: bool = False, lens: str = "brown_conrady",
    noise_px: float = 1.0, outlier_share: float = 0.0, outlier_px: float = 150.0, missing_share: float = 0.0,
    dead_view: tuple[int, int, int] | None = None, swapped: tuple[int, int, int] | None = None,
    offset_frames: tuple[float, ...] | None = None, extrinsic_error_deg: float = 0.0, seed: int = 0,
) -> Scene:  # fmt: skip
    """A walking person before a ring of cameras.

    Args:
        n_cameras: Cameras.
        n_frames: Frames.
        fps: Frames per second.
        hands: 59 joints in place of 17.
        lens: Key of ``LENSES``.
        noise_px: Gaussian noise of every pixel.
        outlier_share: Share of pixels displaced by N(0, outlier_px).
        outlier_px: Size of the displacement.
        missing_share: Share of unseen joints.
        dead_view: (view, first frame, end): sees nothing there.
        swapped: (view, first frame, end): left and right exchanged there.
        offset_frames: Per view, frames by which the view runs late.
        extrinsic_error_deg: Rotation error of the calibration that the caller gets.
        seed: Everything follows from it.
    """
    rng = np.random.default_rng(seed)
    skeleton = BODY17_HANDS if hands else BODY17
    joints = BODY17_HANDS.indices(skeleton.joints)
    cameras = ring_cameras(n_cameras, lens=lens)
    times = np.arange(n_frames) / fps
    offsets = np.zeros(n_cameras) if offset_frames is None else np.asarray(offset_frames) / fps
    uv = np.empty((n_cameras, n_frames, skeleton.n_joints, 2))
    wrong = np.empty(uv.shape[:3], dtype=bool)
    for v, camera in enumerate(cameras):
        seen = walking_person(times - offsets[v], seed=seed)[:, joints]
        pixels, bad = observe(
            [camera], seen, rng, noise_px=noise_px, outlier_share=outlier_share, outlier_px=outlier_px,
            missing_share=missing_share,
        )  # fmt: skip
        uv[v], wrong[v] = pixels[0], bad[0]
    if swapped is not None:
        v, a, b = swapped
        uv[v, a:b] = uv[v, a:b][:, skeleton.mirror_index]
        wrong[v, a:b] |= skeleton.mirror_index != np.arange(skeleton.n_joints)
    if dead_view is not None:
        v, a, b = dead_view
        uv[v, a:b] = np.nan
    score = np.where(np.isnan(uv[..., 0]), 0.0, rng.uniform(0.7, 1.0, uv.shape[:3]))
    if extrinsic_error_deg:
        from egopose import rigid

        turned = []
        for camera in cameras:
            axis = rng.normal(size=3)
            turn = rigid.make_transform(
                rigid.rotation_from_vector(np.radians(extrinsic_error_deg) * axis / np.linalg.norm(axis)), np.zeros(3)
            )
            turned.append(camera.moved(camera.T_world_camera @ turn))
        cameras = turned
    rig = Rig(cameras)
    frames = np.arange(n_frames)
    truth = PoseSequence(skeleton, frames, times, walking_person(times, seed=seed)[:, joints].astype(np.float32))
    observations = Observations2D(
        skeleton, tuple(rig.names), frames, uv.astype(np.float32), score.astype(np.float32), fps=fps,
        sizes=tuple(camera.size for camera in cameras),
    )  # fmt: skip
    return Scene(rig, observations, truth, wrong, offsets)
