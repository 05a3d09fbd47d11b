"""From motion capture, or from a generator, to the rotations of the body's bones and the poses of a head camera.

Bones follow the directions of the source's joints; the body keeps its own lengths, so the motion is scaled to its
legs. Arms can be drawn towards targets before the camera (two-bone inverse kinematics).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose.body import Body
from egopose.rigid import interpolate, make_transform, rotation_from_vector
from egopose.train.synthetic.fingers import bend_fingers, holding_curls, random_curls, smooth_path

Array = NDArray[np.float64]

HEAD_TO_CAMERA = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""Head axes (x forward, y left, z up) to camera axes (x right, y down, z forward)."""

HOLDS = 0.35
"""Share of the reaching hands that hold something."""

STEEPEST = np.radians(45)
"""How far down a steeply mounted camera looks at most."""

SOURCE_JOINTS = (
    "left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip left_knee "
    "right_knee left_ankle right_ankle spine neck left_toe_tip right_toe_tip left_knuckle right_knuckle "
    "left_thumb_tip right_thumb_tip"
).split()


@dataclass(frozen=True, eq=False)
class SourceMotion:
    """Joints that drive the body: name to (T, 3) world metres, head axes in the world (T, 3, 3), times (T,)."""

    name: str
    subject: str
    times_s: Array
    joints: Mapping[str, Array]
    R_world_head: Array


@dataclass(frozen=True, eq=False)
class BodyMotion:
    """A body in motion.

    Attributes:
        times_s: (T,) seconds.
        R: (T, J, 3, 3) rotations of the bones; root: (T, 3) place of the root joint, metres.
        T_world_camera: (T, 4, 4).
        reach: (T, 2) how far the left and the right hand are drawn before the camera, 0 to 1.
        held: (2,) whether the hands hold something.
    """

    times_s: Array
    R: Array
    root: Array
    T_world_camera: Array
    reach: Array
    held: NDArray[np.bool_]


def unit(v: Array) -> Array:
    """Vectors of length one; zero stays zero."""
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def frame(first: Array, second: Array) -> Array:
    """Orthonormal axes (..., 3, 3) in columns: along ``first``, in the plane of both, across."""
    x = unit(first)
    z = unit(np.cross(x, second))
    return np.stack(np.broadcast_arrays(x, np.cross(z, x), z), axis=-1)


def align(rest_first: Array, rest_second: Array, first: Array, second: Array) -> Array:
    """Rotations (..., 3, 3) that take the rest vectors' frame to the given vectors' frame."""
    return frame(first, second) @ np.swapaxes(frame(rest_first, rest_second), -1, -2)


def swing(a: Array, b: Array) -> Array:
    """Smallest rotations (..., 3, 3) from directions a to b."""
    a, b = unit(a), unit(b)
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, np.sum(a * b, axis=-1, keepdims=True))
    return rotation_from_vector(np.where(sine > 1e-9, axis / np.maximum(sine, 1e-12), 0.0) * angle)


def between(A: Array, B: Array, share: Array | float) -> Array:
    """Rotations (..., 3, 3) a share of the way from A to B."""
    zero = np.zeros((*A.shape[:-2], 3))
    return interpolate(make_transform(A, zero), make_transform(B, zero), share)[..., :3, :3]


def _step(edge: Array, low: float, high: float) -> Array:
    x = np.clip((edge - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


class _Poser:
    """Fills the rotations of one clip, trunk first."""

    def __init__(self, body: Body, source: SourceMotion) -> None:
        self.body, self.model, self.joints = body, body.model, source.joints
        self.times_s = source.times_s
        self.R = np.tile(np.eye(3), (source.times_s.size, len(self.model.names), 1, 1))
        self.head = source.R_world_head
        self.forward = self.head[:, :, 0]

    def rest(self, a: str, b: str) -> Array:
        return self.body.at(b) - self.body.at(a)

    def line(self, a: str, b: str) -> Array:
        return self.joints[b] - self.joints[a]

    def set(self, bone: str, R: Array) -> Array:
        self.R[:, self.model.index(bone)] = R
        return R

    def get(self, bone: str) -> Array:
        return self.R[:, self.model.index(bone)]

    def trunk(self) -> None:
        up = np.array([0, 0, 1.0])
        hips = (self.joints["left_hip"] + self.joints["right_hip"]) / 2
        side = np.array([0, 1.0, 0])
        pelvis = self.set("pelvis", align(side, up, self.line("right_hip", "left_hip"), self.joints["spine"] - hips))
        across = self.line("right_shoulder", "left_shoulder")
        chest = self.set("chest", align(side, up, across, self.joints["neck"] - self.joints["spine"]))
        self.set("spine", between(pelvis, chest, 0.5))
        self.set("head", self.head)
        self.set("neck", between(chest, self.head, 0.5))
        for s in ("left", "right"):
            self.set(f"{s}_clavicle", chest)

    def legs(self) -> None:
        for s in ("left", "right"):
            R = self.get("pelvis")
            for bone, a, b, end in (
                ("thigh", "hip", "knee", "shin"), ("shin", "knee", "ankle", "foot"),
                ("foot", "ankle", "toe_tip", "toe_tip"),
            ):  # fmt: skip
                rest = self.rest(f"{s}_{bone}", f"{s}_{end}")
                R = swing(R @ rest, self.line(f"{s}_{a}", f"{s}_{b}")) @ R
                self.set(f"{s}_{bone}", R)
            self.set(f"{s}_toes", R)

    def arm(self, s: str, upper: Array, fore: Array) -> None:
        """Upper arm and forearm along directions (T, 3); the elbow's hinge sets the twist where it is bent."""
        rest_upper, rest_fore = self.rest(f"{s}_upper_arm", f"{s}_forearm"), self.rest(f"{s}_forearm", f"{s}_hand")
        base = self.get(f"{s}_clavicle")
        straight = swing(base @ rest_upper, upper) @ base
        hinged = align(rest_upper, rest_fore, upper, fore)
        sine = np.linalg.norm(np.cross(unit(upper), unit(fore)), axis=-1)
        R = self.set(f"{s}_upper_arm", between(straight, hinged, _step(sine, 0.15, 0.6)))
        R = self.set(f"{s}_forearm", swing(R @ rest_fore, fore) @ R)
        # the hand hangs on this bone: it is turned about the forearm only, see twist
        self.set(f"{s}_forearm_twist", R)

    def hand(self, s: str, along: Array, thumb: Array, share: Array) -> None:
        """Hand axes from the knuckles' and the thumb's direction, ``share`` (T,) of the way from the forearm's."""
        knuckles = (self.body.at(f"{s}_index_1") + self.body.at(f"{s}_middle_1")) / 2 - self.body.at(f"{s}_hand")
        aimed = align(knuckles, self.rest(f"{s}_hand", f"{s}_thumb_2"), along, thumb)
        fore = self.get(f"{s}_forearm")
        good = np.isfinite(aimed).all(axis=(1, 2))
        aimed[~good] = fore[~good]
        self.set(f"{s}_hand", between(fore, limit_turn(fore, aimed, np.radians(100)), share))
        self.twist(s)

    def twist(self, s: str) -> None:
        """The lower forearm takes half of the hand's turn about the forearm."""
        fore, hand = self.get(f"{s}_forearm"), self.get(f"{s}_hand")
        axis = unit(self.rest(f"{s}_forearm", f"{s}_hand"))
        turn = np.swapaxes(fore, -1, -2) @ hand
        sine = np.stack(
            [turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], axis=-1
        )
        angle = 2 * np.arctan2(0.5 * sine @ axis, 1 + np.trace(turn, axis1=1, axis2=2))
        self.set(f"{s}_forearm_twist", fore @ rotation_from_vector(0.5 * angle[:, None] * axis))


def limit_turn(base: Array, R: Array, largest: float) -> Array:
    """R (T, 3, 3), drawn back towards base where it is turned by more than ``largest`` radians from it."""
    turn = np.swapaxes(base, -1, -2) @ R
    angle = np.arccos(np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
    return between(base, R, np.minimum(1.0, largest / np.maximum(angle, 1e-9)))


def bend_elbow(shoulder: Array, wrist: Array, hint: Array, upper: float, fore: float) -> tuple[Array, Array]:
    """Two-bone inverse kinematics.

    Args:
        shoulder: (T, 3); wrist: (T, 3) target, drawn in to what the arm reaches.
        hint: (T, 3) direction in which the elbow points.
        upper: Length of the upper arm, metres; fore: of the forearm.

    Returns:
        Directions (T, 3) of upper arm and forearm.
    """
    line = wrist - shoulder
    far = np.linalg.norm(line, axis=-1, keepdims=True)
    reach = np.clip(far, 1.05 * abs(upper - fore) + 0.02, 0.985 * (upper + fore))
    line = line / np.maximum(far, 1e-9)
    cosine = (upper**2 + reach**2 - fore**2) / (2 * upper * reach)
    side = unit(hint - np.sum(hint * line, axis=-1, keepdims=True) * line)
    elbow = upper * (cosine * line + np.sqrt(np.maximum(0, 1 - cosine**2)) * side)
    return elbow, reach * line - elbow


def animate(
    body: Body, source: SourceMotion, rng: np.random.Generator, *, hands_up: float = 0.5, steep_share: float = 0.0,
    steepest: float = STEEPEST,
) -> BodyMotion:  # fmt: skip
    """Drive a body.

    Args:
        body: Who moves.
        source: The motion.
        rng: Random numbers of reaches, fingers and the head mount.
        hands_up: Share of the clips in which the hands are drawn before the camera, each for part of the time.
        steep_share: Share of the clips whose camera looks down by 20 degrees or more, where the body comes into view.
        steepest: How far down at most, radians.
    """
    times = source.times_s
    poser = _Poser(body, source)
    poser.trunk()
    poser.legs()
    model, joints = body.model, source.joints
    hips = (joints["left_hip"] + joints["right_hip"]) / 2
    ankles = np.concatenate([joints["left_ankle"][:, 2], joints["right_ankle"][:, 2]])
    legs = sum(np.linalg.norm(poser.line(f"left_{a}", f"left_{b}")[0]) for a, b in (("hip", "knee"), ("knee", "ankle")))
    own = np.linalg.norm(poser.rest("left_thigh", "left_shin")) + np.linalg.norm(poser.rest("left_shin", "left_foot"))
    scale = own / legs
    root = scale * hips
    low = np.percentile(ankles, 2)
    # feet on the floor; where the whole clip is above it, only the height of the ankle is corrected
    root[:, 2] += body.at("left_foot")[2] - scale * (low if low < 0.25 else 0.09)
    middle = (body.at("left_thigh") + body.at("right_thigh")) / 2
    root -= np.einsum("tij,j->ti", poser.get("pelvis"), middle - body.at("pelvis"))
    reach, held = np.zeros((times.size, 2)), np.zeros(2, dtype=bool)
    up = rng.random() < hands_up
    mount, tilt = _mount(rng, steep_share, steepest)
    eyes = (body.at("left_eye") + body.at("right_eye")) / 2 - body.at("head")
    for s in ("left", "right"):
        poser.arm(s, poser.line(f"{s}_shoulder", f"{s}_elbow"), poser.line(f"{s}_elbow", f"{s}_wrist"))
    trunk = np.stack([body.posed_joints(poser.R[t], root[t]) for t in range(times.size)])
    eye_place = trunk[:, model.index("head")] + np.einsum("tij,j->ti", poser.head, eyes)
    for i, s in enumerate(("left", "right")):
        share = np.zeros(times.size)
        if up and rng.random() < 0.85:
            share = _step(smooth_path(rng, times, np.array([-0.3]), np.array([1.4]), rng.uniform(0.8, 2.0))[:, 0], 0, 1)
        reach[:, i] = share
        _reach(poser, s, trunk, eye_place, share, rng)
        held[i] = share.any() and rng.random() < HOLDS
        bend_fingers(body, s, holding_curls(rng, times) if held[i] else random_curls(rng, times), poser.R)
    R_camera = poser.head @ HEAD_TO_CAMERA.T @ tilt
    place = eye_place + np.einsum("tij,j->ti", poser.head, mount)
    return BodyMotion(times, poser.R, root, make_transform(R_camera, place), reach, held)


def _mount(rng: np.random.Generator, steep_share: float, steepest: float) -> tuple[Array, Array]:
    """Place of the camera from between the eyes in head axes (3,), and its tilt (3, 3) in camera axes."""
    place = np.array([0.03, 0.0, 0.01]) + rng.uniform([-0.01, -0.06, -0.03], [0.04, 0.06, 0.06])
    pitch = np.radians(rng.uniform(-8, 20))
    if steep_share and rng.random() < steep_share:
        pitch = rng.uniform(np.radians(20), steepest)
    small = np.radians(3) * rng.standard_normal(2)
    # a turn about the camera's x axis by a negative angle looks down
    return place, rotation_from_vector(np.array([-pitch, small[0], small[1]]))


def _reach(poser: _Poser, s: str, trunk: Array, eye: Array, share: Array, rng: np.random.Generator) -> None:
    """Draw one arm and hand towards a random path before the head."""
    model, head, times = poser.model, poser.head, poser.times_s
    sign = 1.0 if s == "left" else -1.0
    period = rng.uniform(0.6, 1.8)
    low, high = np.array([0.18, -0.12, -0.45]), np.array([0.50, 0.32, 0.05])
    path = smooth_path(rng, times, low, high, period) * [1, sign, 1]
    shoulder = trunk[:, model.index(f"{s}_upper_arm")]
    wrist, elbow = trunk[:, model.index(f"{s}_hand")], trunk[:, model.index(f"{s}_forearm")]
    target = eye + np.einsum("tij,tj->ti", head, path)
    w = share[:, None]
    chest = poser.get("chest")
    wide = sign * rng.uniform(0.2, 0.8)
    hint = np.einsum("tij,j->ti", chest, np.array([-0.3, wide, -1.0]))
    upper, fore = (
        float(np.linalg.norm(poser.rest(*ends)))
        for ends in ((f"{s}_upper_arm", f"{s}_forearm"), (f"{s}_forearm", f"{s}_hand"))
    )
    own = elbow - (shoulder + wrist) / 2
    first, second = bend_elbow(
        shoulder, (1 - w) * wrist + w * target, (1 - w) * unit(own) + w * unit(hint), upper, fore
    )
    poser.arm(s, np.where(w > 0, first, elbow - shoulder), np.where(w > 0, second, wrist - elbow))
    # as captured
    poser.hand(
        s, poser.line(f"{s}_wrist", f"{s}_knuckle"), poser.line(f"{s}_wrist", f"{s}_thumb_tip"), np.ones(len(share))
    )
    captured = poser.get(f"{s}_hand").copy()
    # before the camera: fingers forward, the thumb somewhere between up, in and out
    angle = smooth_path(rng, times, np.array([-0.9]), np.array([2.3]), 1.5 * period)
    side = -sign * head[:, :, 1]
    along = unit(second) + 0.5 * head[:, :, 0] + 0.35 * smooth_path(rng, times, -np.ones(3), np.ones(3), period)
    thumb = np.cos(angle) * np.array([0, 0, 1.0]) + np.sin(angle) * side
    poser.hand(s, along, thumb, np.ones(len(share)))
    poser.set(f"{s}_hand", between(captured, poser.get(f"{s}_hand"), share))
    poser.twist(s)
