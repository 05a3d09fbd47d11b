"""The embedded exo capture: a person who walks and gestures before four cameras, with known truth and known defects.

Everything is computed from a seed; nothing is downloaded and no recording is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.camera import Camera, Rig
from egopose.observations import Observations2D
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17_HANDS, FINGERS, HAND21

Array = NDArray[np.float64]

# segment lengths of one adult in metres
_HIP, _SHOULDER, _TORSO, _NECK = 0.11, 0.19, 0.50, 0.21
_THIGH, _SHANK, _UPPER_ARM, _FOREARM = 0.43, 0.42, 0.30, 0.26
_FACE = {
    "nose": (0.10, 0.0, -0.02), "left_eye": (0.08, 0.032, 0.02), "right_eye": (0.08, -0.032, 0.02),
    "left_ear": (0.0, 0.075, 0.0), "right_ear": (0.0, -0.075, 0.0),
}  # fmt: skip
# wrist to knuckle along and across the palm, then three phalanges, metres
_FINGER = {
    "thumb": (0.030, 0.028, (0.045, 0.032, 0.026)), "index": (0.092, 0.026, (0.042, 0.025, 0.020)),
    "middle": (0.090, 0.004, (0.046, 0.028, 0.021)), "ring": (0.084, -0.016, (0.042, 0.027, 0.021)),
    "pinky": (0.076, -0.034, (0.033, 0.020, 0.018)),
}  # fmt: skip


@dataclass(frozen=True)
class ExoCapture:
    """Four calibrated cameras, what a 2D detector would have said, and the truth.

    Attributes:
        rig: The cameras; world z up, metres.
        observations: Noisy 2D joints with the defects listed.
        truth: The exact 3D joints.
        defects: What was put in, in words.
    """

    rig: Rig
    observations: Observations2D
    truth: PoseSequence
    defects: tuple[str, ...]


def _turn(axis: str, angle: Array) -> Array:
    vector = np.zeros((*np.shape(angle), 3))
    vector[..., "xyz".index(axis)] = angle
    return rigid.rotation_from_vector(vector)


def walking_person(times_s: Array, *, seed: int = 0) -> Array:
    """Joints of the demo's person, (T, 59, 3); see :func:`walking_wearer`."""
    return walking_wearer(times_s, seed=seed)[0]


def walking_wearer(times_s: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """Joints and head camera of a person who walks in a circle, swings and raises the arms, and moves the fingers.

    A forward-kinematic figure (x forward, y left, z up in each local frame), so bone lengths are exactly constant.

    Args:
        times_s: (T,) seconds.
        seed: Varies phases.

    Returns:
        (T, 59, 3) float64 metres, world z up, floor at 0, order of ``BODY17_HANDS``; and ``T_world_camera`` (T, 4, 4)
        of a camera between the eyes that looks straight ahead.
    """
    t = np.asarray(times_s, dtype=np.float64)
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, 4)
    step = 2 * np.pi * 0.9 * t + phase[0]
    around = 0.35 * t + phase[1]
    radius = 0.55
    pelvis = np.stack([radius * np.cos(around), radius * np.sin(around), 0.90 + 0.02 * np.cos(2 * step)], -1)
    R_pelvis = _turn("z", around + np.pi / 2) @ _turn("z", 0.12 * np.sin(step))
    R_chest = R_pelvis @ _turn("y", 0.08 + 0.04 * np.sin(2 * step)) @ _turn("z", -0.24 * np.sin(step))
    joints: dict[str, Array] = {}

    def put(base: Array, R: Array, offset: tuple[float, float, float]) -> Array:
        return base + R @ np.asarray(offset)

    chest = put(pelvis, R_chest, (0, 0, _TORSO))
    R_head = R_chest @ _turn("z", 0.5 * np.sin(0.8 * t + phase[2])) @ _turn("y", 0.15 + 0.15 * np.sin(0.5 * t))
    head = put(chest, R_head, (0.02, 0, _NECK))
    joints.update({name: put(head, R_head, offset) for name, offset in _FACE.items()})
    for side, sign in (("left", 1.0), ("right", -1.0)):
        swing = sign * np.sin(step)
        hip = put(pelvis, R_pelvis, (0, sign * _HIP, 0))
        R_thigh = R_pelvis @ _turn("y", -0.42 * swing)
        knee = put(hip, R_thigh, (0, 0, -_THIGH))
        R_shank = R_thigh @ _turn("y", 0.15 + 0.45 * (1 + np.sin(step * 1.0 + sign * np.pi / 2 + 0.6)) / 2)
        joints[f"{side}_hip"], joints[f"{side}_knee"] = hip, knee
        joints[f"{side}_ankle"] = put(knee, R_shank, (0, 0, -_SHANK))
        shoulder = put(chest, R_chest, (0, sign * _SHOULDER, 0))
        raised = 0.5 * (1 - np.cos(0.9 * t + phase[3] + (0 if sign > 0 else np.pi)))
        R_upper = R_chest @ _turn("x", sign * (0.15 + 0.5 * raised)) @ _turn("y", 0.35 * swing - 1.1 * raised)
        elbow = put(shoulder, R_upper, (0, 0, -_UPPER_ARM))
        R_fore = R_upper @ _turn("y", -0.4 - 1.0 * raised)
        wrist = put(elbow, R_fore, (0, 0, -_FOREARM))
        joints[f"{side}_shoulder"], joints[f"{side}_elbow"], joints[f"{side}_wrist"] = shoulder, elbow, wrist
        R_hand = R_fore @ _turn("z", sign * 0.6 * np.sin(1.3 * t)) @ _turn("y", 0.3 * np.sin(1.7 * t))
        hand = _hand(wrist, R_hand, sign, t)
        joints.update({f"{side}_hand_{name}": points for name, points in hand.items()})
    xyz = np.stack([joints[name] for name in BODY17_HANDS.joints], axis=1)
    floor = np.array([0, 0, xyz[..., 2].min()])
    R_camera = R_head @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    T_world_camera = rigid.make_transform(R_camera, put(head, R_head, (0.09, 0.0, 0.02)) - floor)
    return xyz - floor, T_world_camera


def _hand(wrist: Array, R_hand: Array, sign: float, t: Array) -> dict[str, Array]:
    """One hand; fingers point along -z of the hand frame and curl about its y axis."""
    points = {"wrist": wrist}
    for f, finger in enumerate(FINGERS):
        along, across, phalanges = _FINGER[finger]
        knuckle = wrist + R_hand @ np.array([across, 0.0, -along])
        curl = 0.15 + 0.75 * (0.5 - 0.5 * np.cos(1.6 * t + 0.5 * f))
        spread = 0.9 if finger == "thumb" else 0.25 * across / 0.03
        R = R_hand @ _turn("y", np.full(t.shape, -spread))
        points[f"{finger}_1"] = knuckle
        for k, length in enumerate(phalanges):
            R = R @ _turn("x", -sign * curl * (0.5 if finger == "thumb" else 1.0))
            knuckle = knuckle + R @ np.array([0.0, 0.0, -length])
            points[f"{finger}_{k + 2}"] = knuckle
    assert set(points) == set(HAND21.joints)
    return points


def ring_rig(count: int = 4, *, radius: float = 3.2, height: float = 1.7, size: tuple[int, int] = (1280, 720)) -> Rig:
    """Cameras on a circle that look at the middle of the volume, with mild lens distortion."""
    cameras = []
    for i in range(count):
        angle = 2 * np.pi * (i + 0.15) / count
        place = np.array([radius * np.cos(angle), radius * np.sin(angle), height + 0.25 * (-1) ** i])
        forward = np.array([0.0, 0.0, 0.95]) - place
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        R_camera_world = np.stack([right, np.cross(forward, right), forward])
        focal = 0.72 * size[0]
        K = np.array([[focal, 0, (size[0] - 1) / 2], [0, focal, (size[1] - 1) / 2], [0, 0, 1]])
        dist = [-0.12, 0.06, 0.0006 * (-1) ** i, -0.0004, -0.01]
        cameras.append(
            Camera.from_opencv(K, dist, R_camera_world, -R_camera_world @ place, size, name=f"cam{i + 1:02d}")
        )
    return Rig(cameras)


def exo_capture(*, seconds: float = 4.0, fps: float = 30.0, seed: int = 0) -> ExoCapture:
    """The capture of ``egopose demo``.

    Args:
        seconds: Length.
        fps: Frames per second.
        seed: Everything follows from it.
    """
    rng = np.random.default_rng(seed)
    frames = np.arange(round(seconds * fps))
    truth = PoseSequence(
        BODY17_HANDS, frames, frames / fps, walking_person(frames / fps, seed=seed).astype(np.float32),
        provenance={"source": "demo", "seed": seed},
    )  # fmt: skip
    rig = ring_rig()
    uv = np.stack([camera.project(truth.xyz.astype(np.float64)) for camera in rig.cameras])
    uv += rng.normal(0, 1.0, uv.shape)
    score = rng.uniform(0.7, 1.0, uv.shape[:3])
    wrong = rng.random(uv.shape[:3]) < 0.06
    uv[wrong] += rng.normal(0, 80, (int(wrong.sum()), 2))
    score[wrong] *= 0.6
    dead = slice(len(frames) // 3, len(frames) // 2)
    uv[3, dead] = np.nan
    swapped = slice(3 * len(frames) // 5, 3 * len(frames) // 4)
    uv[2, swapped] = uv[2, swapped][:, BODY17_HANDS.mirror_index]
    missing = rng.random(uv.shape[:3]) < 0.03
    uv[missing] = np.nan
    width, height = rig.cameras[0].size
    outside = ~((uv[..., 0] > -0.5) & (uv[..., 0] < width - 0.5) & (uv[..., 1] > -0.5) & (uv[..., 1] < height - 0.5))
    uv[outside] = np.nan
    observations = Observations2D(
        BODY17_HANDS, tuple(rig.names), frames, uv.astype(np.float32),
        np.where(np.isnan(uv[..., 0]), 0, score).astype(np.float32), fps=fps,
        sizes=tuple(camera.size for camera in rig.cameras), provenance={"source": "demo", "seed": seed},
    )  # fmt: skip
    defects = (
        "1 px noise in every view",
        "6 % of the 2D joints displaced by about 80 px",
        "3 % of the 2D joints missing",
        f"cam04 dark in frames {dead.start} to {dead.stop - 1}",
        f"left and right exchanged in cam03 in frames {swapped.start} to {swapped.stop - 1}",
    )
    return ExoCapture(rig, observations, truth, defects)
