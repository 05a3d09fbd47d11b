"""The world of the stand-in: a wearer, seven exo cameras of which one is bad and one missing, and an Aria."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.body import Body, load_body
from egopose.camera import Camera
from egopose.ego_exo4d.aria import MAX_ANGLE, linear_camera
from egopose.ego_exo4d.layout import FPS, SPLITS
from egopose.ego_exo4d.standin_points import clicked
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17_HANDS
from egopose.train.synthetic.motion import HEAD_TO_CAMERA, BodyMotion, animate
from egopose.train.synthetic.sources import generated

Array = NDArray[np.float64]
GOPRO_DISTORTION = (0.037, 0.057, -0.056, 0.018)
ARIA_PARAMS = (
    1221.8, 1461.3, 1439.1, 0.3617, -0.4463, 0.1686, 0.2231, -0.2852, 0.0782, 0.00062, -0.00031, 0.00081, -0.00024,
    0.00041, -0.00018,
)  # fmt: skip
PORTRAIT, BAD, MISSING = "cam04", "cam05", "cam06"
EXO = ("cam01", "cam02", "cam03", PORTRAIT, BAD, MISSING, "cam07")
TILT_DEG = 20.0
"""The head camera looks down by this much from straight ahead of the head, so that the wearer's hands are in view."""
MOUNT_M = (0.045, 0.03, 0.015)
"""Place of the head camera from between the eyes: ahead, left, up."""
PAD_S = 1.0
"""Motion known before the first and after the last frame."""
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
        cameras: Raw exo cameras by name, all seven.
        T_world_aria: (T, 4, 4) landscape head camera.
        aria_rgb: Landscape Fisheye624 camera of the 2880 px sensor in the device frame.
        start_row: Row of the capture's timesync of frame 0.
        first_ns: Aria's capture time of row 0 of the timesync.
        seed: Of the wearer and the room; takes of a capture share it.
        body: The wearer; motion: poses of the body from ``PAD_S`` before frame 0 to as long after the last one.
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
    body: Body
    motion: BodyMotion

    @property
    def n_frames(self) -> int:
        """Frames of the take."""
        return self.truth.n_frames

    def pose(self, t: int) -> tuple[Array, Array]:
        """Rotations (J, 3, 3) of the body's bones and place (3,) of its root at frame t."""
        at = t + round(PAD_S * FPS)
        return self.motion.R[at], self.motion.root[at]

    def aria_at(self, seconds: Array) -> Array:
        """Landscape head camera (N, 4, 4) at times after frame 0, up to ``PAD_S`` outside the take."""
        from scipy.interpolate import CubicSpline
        from scipy.spatial.transform import Rotation, RotationSpline

        T = self.motion.T_world_camera
        turn = RotationSpline(self.motion.times_s, Rotation.from_matrix(T[:, :3, :3]))
        return rigid.make_transform(turn(seconds).as_matrix(), CubicSpline(self.motion.times_s, T[:, :3, 3])(seconds))

    def row_ns(self, row: NDArray[np.int64]) -> NDArray[np.int64]:
        """Aria's capture time of rows of the timesync."""
        return self.first_ns + np.round(np.asarray(row) * (1e9 / FPS)).astype(np.int64)

    def linear(self, t: int) -> Camera:
        """The undistorted ego camera of frame t."""
        return linear_camera(self.T_world_aria[t])


def wearer(times_s: Array, body: Body, seed: int | tuple[int, ...]) -> tuple[Array, BodyMotion]:
    """A person who walks or stands, looks about and works with both hands before the chest.

    Args:
        times_s: (T,) seconds, ascending.
        body: Who.
        seed: Of the motion.

    Returns:
        Joints (T, 59, 3) in the world, the body's where COCO clicks them, and the motion, whose camera is the
        landscape head camera.
    """
    rng = np.random.default_rng(seed)
    motion = animate(body, generated(times_s, rng), rng, hands_up=1.0)
    joints = np.stack([clicked(body.pose(R, root)) for R, root in zip(motion.R, motion.root)])
    head = body.model.index("head")
    R_head = motion.R[:, head]
    eyes = (body.at("left_eye") + body.at("right_eye")) / 2 - body.at("head") + MOUNT_M
    place = np.stack([body.posed_joints(R, root)[head] for R, root in zip(motion.R, motion.root)]) + R_head @ eyes
    tilt = rigid.rotation_from_vector([-np.radians(TILT_DEG), 0, 0])
    quarter = Camera.pinhole(1.0, (0.0, 0.0), (2, 2)).rotated90(1).T_world_camera[:3, :3]
    T = rigid.make_transform(R_head @ HEAD_TO_CAMERA.T @ tilt @ quarter, place)
    return joints, replace(motion, T_world_camera=T)


def person(seed: int) -> Body:
    """A wearer of some shape."""
    model = load_body()
    return model.shaped(np.clip(0.7 * np.random.default_rng(seed).standard_normal(model.n_shapes), -1.5, 1.5))


def exo_rig(rng: np.random.Generator) -> dict[str, Camera]:
    """Raw GoPro cameras around the wearer, two to three metres away, one portrait."""
    cameras = {}
    for i, name in enumerate(EXO):
        angle = 2 * np.pi * (i + 0.2) / len(EXO) + rng.uniform(-0.1, 0.1)
        far = rng.uniform(2.3, 2.9)
        place = np.array([far * np.cos(angle), far * np.sin(angle), 1.2 + 0.6 * rng.random()])
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
    n, pad = round(seconds * FPS), round(PAD_S * FPS)
    own = int(np.random.default_rng([seed, number // 2, 7]).integers(1 << 30))
    frames = np.arange(n)
    body = person(own)
    joints, motion = wearer(np.arange(-pad, n + pad) / FPS, body, (seed, number, 11))
    inside = slice(pad, pad + n)
    uid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"egopose-standin-{seed}-{number}"))
    name = f"standin_{scene}_{number // 2 + 1:02d}_{number % 2 + 1}"
    capture = f"standin_{number // 2 + 1:02d}"
    truth = PoseSequence(
        BODY17_HANDS, frames, frames / FPS, joints[inside].astype(np.float32),
        provenance={"source": "stand-in", "take_uid": uid, "take_name": f"takes/{name}", "seed": seed},
    )  # fmt: skip
    return World(
        uid, name, capture, SPLITS[number % 3], task_id + number, task, truth,
        exo_rig(np.random.default_rng([seed, number // 2, 3])), motion.T_world_camera[inside], aria_rgb(),
        45 + int(rng.integers(30)), 812_000_000_000 + int(rng.integers(10**9)), own, body, motion,
    )  # fmt: skip
