"""Other bodies, other mounts, other speeds: what half an hour of motion has to stand for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.config import Config
from egopose.skeleton import BODY17_HANDS
from egopose.train.windows import MotionClip, resample

Array = NDArray[np.float64]


class AugmentConfig(Config, frozen=True, kw_only=True):
    """How far a clip is changed; standard deviations unless said otherwise.

    Attributes:
        mirror: Chance that left and right are exchanged.
        speed: Log of the time factor.
        size: Log of the whole body's size.
        limb: Log of the length of arms, of legs, of shoulder and of hip width, each on its own.
        mount_pitch_deg: Pitch of the camera on the head.
        mount_deg: Yaw and roll of the camera on the head.
        mount_m: Place of the camera on the head.
        floor_m: Error of the floor's height.
        reverse: Chance that time runs backwards.
        fps: Frame rates that are drawn from.
        drop: Largest share of dropped frames (uniform from zero, in half of the clips).
    """

    mirror: float = 0.5
    speed: float = 0.12
    size: float = 0.05
    limb: float = 0.05
    mount_pitch_deg: float = 10.0
    mount_deg: float = 3.0
    mount_m: float = 0.015
    floor_m: float = 0.01
    reverse: float = 0.0
    fps: tuple[float, ...] = (10.0, 15.0, 20.0, 30.0, 30.0, 30.0, 60.0)
    drop: float = 0.3


_J = BODY17_HANDS.index
_HAND = {side: [_J(f"{side}_wrist")] + [i for i, j in enumerate(BODY17_HANDS.joints) if j.startswith(f"{side}_hand_")]
         for side in ("left", "right")}  # fmt: skip
_LEGS = BODY17_HANDS.indices([f"{s}_{j}" for s in ("left", "right") for j in ("hip", "knee", "ankle")])
_UPPER = np.array([i for i in range(BODY17_HANDS.n_joints) if i not in set(_LEGS.tolist())])


def mirrored_poses(T_world_camera: Array) -> Array:
    """Poses (T, 4, 4) in a mirror (the plane y = 0) of cameras mirrored too (in their x), so still right-handed."""
    T = T_world_camera.copy()
    T[:, :3, :3] = np.diag([1.0, -1.0, 1.0]) @ T[:, :3, :3] @ np.diag([-1.0, 1.0, 1.0])
    T[:, 1, 3] *= -1
    return T


def mirrored_points(joints: Array) -> Array:
    """World joints (T, 59, 3) in the same mirror: left and right exchanged."""
    return joints[:, BODY17_HANDS.mirror_index] * np.array([1.0, -1.0, 1.0])


def mirrored(clip: MotionClip) -> MotionClip:
    """The clip in a mirror."""
    T, joints = mirrored_poses(clip.T_world_camera), mirrored_points(clip.joints)
    return replace(clip, T_world_camera=T, joints=joints, feet=clip.feet[:, ::-1])


def scaled(clip: MotionClip, size: float) -> MotionClip:
    """A body ``size`` times as large doing the same."""
    T = clip.T_world_camera.copy()
    T[:, :3, 3] *= size
    return replace(clip, T_world_camera=T, joints=clip.joints * size)


def reproportioned(clip: MotionClip, *, arm: float, leg: float, shoulder: float, hip: float) -> MotionClip:
    """Other limb lengths: joint angles stay, feet stay on the floor, the path over the ground follows the legs.

    Args:
        clip: Source.
        arm: Factor of upper and lower arm.
        leg: Factor of thigh and shank.
        shoulder: Factor of shoulder width.
        hip: Factor of hip width.
    """
    old, new = clip.joints, clip.joints.copy()
    T = clip.T_world_camera.copy()
    for a, b, factor in (("left_shoulder", "right_shoulder", shoulder), ("left_hip", "right_hip", hip)):
        middle = 0.5 * (old[:, _J(a)] + old[:, _J(b)])
        for joint in (a, b):
            new[:, _J(joint)] = middle + factor * (old[:, _J(joint)] - middle)
    for side in ("left", "right"):
        s, e, w = (_J(f"{side}_{j}") for j in ("shoulder", "elbow", "wrist"))
        new[:, e] = new[:, s] + arm * (old[:, e] - old[:, s])
        shift = new[:, e] + arm * (old[:, w] - old[:, e]) - old[:, w]
        new[:, _HAND[side]] = old[:, _HAND[side]] + shift[:, None]
        h, k, a_ = (_J(f"{side}_{j}") for j in ("hip", "knee", "ankle"))
        new[:, k] = new[:, h] + leg * (old[:, k] - old[:, h])
        new[:, a_] = new[:, k] + leg * (old[:, a_] - old[:, k])
    ankles = [_J("left_ankle"), _J("right_ankle")]
    # raise or lower everything so that the lower ankle keeps its height
    lift = (old[:, ankles, 2] - new[:, ankles, 2]).mean(axis=1)
    new[:, :, 2] += lift[:, None]
    T[:, 2, 3] += lift
    middle = 0.5 * (old[:, _J("left_hip")] + old[:, _J("right_hip")])[:, :2]
    travel = (leg - 1) * (middle - middle[:1])
    new[:, :, :2] += travel[:, None]
    T[:, :2, 3] += travel
    return replace(clip, T_world_camera=T, joints=new)


def remounted(clip: MotionClip, rotation_vector: Array, shift: Array) -> MotionClip:
    """The camera turned (3,) radians and moved (3,) metres on the same head."""
    offset = rigid.make_transform(rigid.rotation_from_vector(rotation_vector), shift)
    return replace(clip, T_world_camera=clip.T_world_camera @ offset)


def reversed_time(clip: MotionClip) -> MotionClip:
    """The clip played backwards."""
    turned = clip.cut(slice(None, None, -1))
    return replace(turned, times_s=clip.times_s[-1] - turned.times_s)


def augment(clip: MotionClip, config: AugmentConfig, rng: np.random.Generator) -> tuple[MotionClip, MotionClip]:
    """A changed copy: mirror, proportions, size, mount, floor, speed; then other frames of it.

    Returns:
        The changed clip at its own frames, and the same at a drawn frame rate with some frames dropped.
    """
    if rng.random() < config.mirror:
        clip = mirrored(clip)
    if rng.random() < config.reverse:
        clip = reversed_time(clip)
    arm, leg, shoulder, hip = np.exp(config.limb * rng.standard_normal(4))
    clip = reproportioned(clip, arm=arm, leg=leg, shoulder=shoulder, hip=hip)
    clip = scaled(clip, float(np.exp(config.size * rng.standard_normal())))
    turn = np.radians([config.mount_pitch_deg, config.mount_deg, config.mount_deg]) * rng.standard_normal(3)
    clip = remounted(clip, turn, config.mount_m * rng.standard_normal(3))
    up = np.array([0, 0, config.floor_m * rng.standard_normal()])
    T = clip.T_world_camera.copy()
    T[:, :3, 3] += up
    speed = float(np.exp(config.speed * rng.standard_normal()))
    clip = replace(clip, T_world_camera=T, joints=clip.joints + up, times_s=clip.times_s * speed)
    fps = float(rng.choice(config.fps))
    times = np.arange(rng.random() / fps, clip.seconds, 1 / fps)
    if rng.random() < 0.5 and config.drop > 0:
        times = times[rng.random(times.size) >= rng.random() * config.drop]
    return clip, clip if times.size < 2 else resample(clip, clip.times_s[0] + times)


def head_pose_noise(T_world_camera: Array, rng: np.random.Generator, *, metres: float, radians: float) -> Array:
    """Poses with a little white noise, as a tracker adds."""
    n = T_world_camera.shape[0]
    noise = rigid.make_transform(
        rigid.rotation_from_vector(radians * rng.standard_normal((n, 3))), metres * rng.standard_normal((n, 3))
    )
    return T_world_camera @ noise
