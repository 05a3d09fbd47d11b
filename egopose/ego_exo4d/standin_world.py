"""The world of the stand-in: a wearer, six exo cameras of which one is bad and one missing, and an Aria."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.camera import Camera
from egopose.demo import walking_wearer
from egopose.ego_exo4d.aria import MAX_ANGLE, linear_camera
from egopose.ego_exo4d.layout import FPS, SPLITS
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17_HANDS

Array = NDArray[np.float64]
GOPRO_DISTORTION = (0.037, 0.057, -0.056, 0.018)
ARIA_PARAMS = (
    1221.8, 1461.3, 1439.1, 0.3617, -0.4463, 0.1686, 0.2231, -0.2852, 0.0782, 0.00062, -0.00031, 0.00081, -0.00024,
    0.00041, -0.00018,
)  # fmt: skip
PORTRAIT, BAD, MISSING = "cam04", "cam05", "cam06"
EXO = ("cam01", "cam02", "cam03", PORTRAIT, BAD, MISSING)
TILT_DEG = 30.0
"""The head camera looks down by this much, so that the wearer's hands are in view."""
SCENES = (
    ("cooking", 1001, "Making a salad"), ("piano", 5001, "Playing piano"), ("basketball", 6001, "Mikan layup"),
    ("bouldering", 7001, "Rock climbing"), ("bike", 4001, "Remove a wheel"), ("dance", 9001, "Performing a dance"),
    ("soccer", 8001, "Dribbling"), ("covid", 2001, "Rapid antigen test"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class World:
    """Everything that is true of one take.

    Attributes:
        uid: Take uid.
        name: Take name.
        capture: Name of the capture; two takes share one.
        split: train, val or test.
        task_id: First digit is the scenario.
        task: Name of the parent task.
        truth: (T) 59 joints, world.
        cameras: Raw exo cameras by name, all six.
        T_world_aria: (T, 4, 4) landscape head camera.
        aria_rgb: Landscape Fisheye624 camera of the 2880 px sensor in the device frame.
        start_row: Row of the capture's timesync of frame 0.
        first_ns: Aria's capture time of row 0 of the timesync.
        seed: Motion's seed; times start at ``t0_s``.
        t0_s: See ``seed``.
    """

    uid: str
    name: str
    capture: str
    split: str
    task_id: int
    task: str
    truth: PoseSequence
    cameras: dict[str, Camera]
    T_world_aria: Array
    aria_rgb: Camera
    start_row: int
    first_ns: int
    seed: int
    t0_s: float

    @property
    def n_frames(self) -> int:
        """Frames of the take."""
        return self.truth.n_frames

    def aria_at(self, seconds: Array) -> Array:
        """Landscape head camera (N, 4, 4) at times after frame 0."""
        T = head_camera(np.concatenate([[0.0], seconds]) + self.t0_s, self.seed)[1]
        # the figure stands on the floor of its own span of time; put it on that of the take
        T[:, 2, 3] += self.T_world_aria[0, 2, 3] - T[0, 2, 3]
        return T[1:]

    def row_ns(self, row: NDArray[np.int64]) -> NDArray[np.int64]:
        """Aria's capture time of rows of the timesync."""
        return self.first_ns + np.round(np.asarray(row) * (1e9 / FPS)).astype(np.int64)

    def linear(self, t: int) -> Camera:
        """The undistorted ego camera of frame t."""
        return linear_camera(self.T_world_aria[t])


def head_camera(times_s: Array, seed: int) -> tuple[Array, Array]:
    """Joints (T, 59, 3) and the landscape head camera (T, 4, 4), which looks down by :data:`TILT_DEG`."""
    joints, T_world_upright = walking_wearer(times_s, seed=seed)
    c, s = np.cos(np.radians(TILT_DEG)), np.sin(np.radians(TILT_DEG))
    tilt = rigid.make_transform(np.array([[1, 0, 0], [0, c, s], [0, -s, c]]), np.zeros(3))
    quarter = Camera.pinhole(1.0, (0.0, 0.0), (2, 2)).rotated90(1).T_world_camera
    return joints, T_world_upright @ tilt @ quarter


def exo_rig(rng: np.random.Generator) -> dict[str, Camera]:
    """Six raw GoPro cameras on a circle, one portrait."""
    cameras = {}
    for i, name in enumerate(EXO):
        angle = 2 * np.pi * (i + 0.2) / len(EXO) + rng.uniform(-0.1, 0.1)
        place = np.array([3.1 * np.cos(angle), 3.1 * np.sin(angle), 1.3 + 0.4 * rng.random()])
        forward = np.array([0, 0, 0.95]) - place
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        R_camera_world = np.stack([right, np.cross(forward, right), forward])
        size = (2160, 3840) if name == PORTRAIT else (3840, 2160)
        f = 1760 + rng.uniform(-5, 5)
        # a shipped calibration has float32 intrinsics and six decimals
        K = np.round([[f, 0, size[0] / 2 - 3.7], [0, f, size[1] / 2 + 2.9], [0, 0, 1]], 6)
        cameras[name] = Camera.from_opencv(
            K, GOPRO_DISTORTION, R_camera_world, -R_camera_world @ place, size, fisheye=True, name=name
        )
    return cameras


def aria_rgb() -> Camera:
    """The landscape RGB camera in the device frame, 2880 px."""
    place = rigid.make_transform(rigid.rotation_from_vector([0.35, -0.12, 1.45]), [-0.0043, -0.0118, -0.0052])
    return Camera.fisheye624(ARIA_PARAMS, (2880, 2880), place, name="camera-rgb", max_angle=MAX_ANGLE)


def build_world(number: int, seed: int, seconds: float) -> World:
    """Take ``number`` of a stand-in."""
    rng = np.random.default_rng([seed, number])
    scene, task_id, task = SCENES[number % len(SCENES)]
    n = round(seconds * FPS)
    t0 = 20.0 * (number % 2)
    own = int(np.random.default_rng([seed, number // 2, 7]).integers(1 << 30))
    frames = np.arange(n)
    joints, T_world_aria = head_camera(frames / FPS + t0, own)
    uid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"egopose-standin-{seed}-{number}"))
    name = f"standin_{scene}_{number // 2 + 1:02d}_{number % 2 + 1}"
    capture = f"standin_{number // 2 + 1:02d}"
    truth = PoseSequence(
        BODY17_HANDS, frames, frames / FPS, joints.astype(np.float32),
        provenance={"source": "stand-in", "take_uid": uid, "take_name": f"takes/{name}", "seed": seed},
    )  # fmt: skip
    return World(
        uid, name, capture, SPLITS[number % 3], task_id + number, task, truth,
        exo_rig(np.random.default_rng([seed, number // 2, 3])), T_world_aria, aria_rgb(), 45 + int(rng.integers(30)),
        812_000_000_000 + int(rng.integers(10**9)), own, t0,
    )  # fmt: skip
