"""Joint sets: names, bones, left/right pairs, and the maps between them. The only file with joint numbers in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError


@dataclass(frozen=True)
class Skeleton:
    """A named, ordered set of joints.

    Attributes:
        name: Unique name, stored in files.
        joints: Joint names in array order.
        bones: Pairs of joint indices, parent first.
        mirror: Pairs (left, right) of joint indices.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...] = ()
    mirror: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.joints:
            raise EgoposeError(f"skeleton {self.name!r} has no joints; expected at least one")
        if len(set(self.joints)) != len(self.joints):
            twice = next(j for j in self.joints if self.joints.count(j) > 1)
            raise EgoposeError(f"skeleton {self.name!r} names joint {twice!r} twice; joint names must be unique")
        for pair in (*self.bones, *self.mirror):
            if not all(0 <= i < len(self.joints) for i in pair):
                raise EgoposeError(f"skeleton {self.name!r}: pair {pair} points outside its {len(self.joints)} joints")

    @property
    def n_joints(self) -> int:
        """Number of joints."""
        return len(self.joints)

    def __len__(self) -> int:
        return len(self.joints)

    @cached_property
    def _lookup(self) -> dict[str, int]:
        return {joint: i for i, joint in enumerate(self.joints)}

    def index(self, joint: str) -> int:
        """Index of a joint by name.

        Raises:
            EgoposeError: The skeleton has no such joint.
        """
        try:
            return self._lookup[joint]
        except KeyError:
            raise EgoposeError(
                f"skeleton {self.name!r} has no joint {joint!r}; it has: {', '.join(self.joints)}"
            ) from None

    def indices(self, joints: Iterable[str]) -> NDArray[np.int64]:
        """Indices of several joints by name, (K,) int64."""
        return np.array([self.index(joint) for joint in joints], dtype=np.int64)

    @cached_property
    def mirror_index(self) -> NDArray[np.int64]:
        """Permutation (J,) that exchanges left and right joints."""
        order = np.arange(self.n_joints)
        for left, right in self.mirror:
            order[left], order[right] = right, left
        return order

    def subset(self, joints: Sequence[str], name: str | None = None) -> Skeleton:
        """The skeleton of some of the joints, in the order given; bones and pairs inside it are kept."""
        picked = [self.index(joint) for joint in joints]
        new = {old: i for i, old in enumerate(picked)}
        return Skeleton(
            name or f"{self.name}[{len(picked)}]",
            tuple(joints),
            tuple((new[a], new[b]) for a, b in self.bones if a in new and b in new),
            tuple((new[a], new[b]) for a, b in self.mirror if a in new and b in new),
        )

    def map_to(self, other: Skeleton) -> NDArray[np.int64]:
        """For each joint of ``other`` my index of the same name, or -1 where I lack it, (J_other,) int64."""
        return np.array([self._lookup.get(joint, -1) for joint in other.joints], dtype=np.int64)

    @cached_property
    def parents(self) -> NDArray[np.int64]:
        """Parent of each joint along the bones, -1 for roots, (J,) int64."""
        parents = np.full(self.n_joints, -1, dtype=np.int64)
        for parent, child in self.bones:
            if parents[child] < 0:
                parents[child] = parent
        return parents


def _build(name: str, joints: Sequence[str], bones: Sequence[tuple[str, str]]) -> Skeleton:
    """Make a skeleton from names; left/right pairs follow from the ``left_``/``right_`` prefixes."""
    where = {joint: i for i, joint in enumerate(joints)}
    mirror = []
    for joint, i in where.items():
        for left, right in (("left_", "right_"), ("l_", "r_")):
            if joint.startswith(left) and right + joint[len(left) :] in where:
                mirror.append((i, where[right + joint[len(left) :]]))
    return Skeleton(name, tuple(joints), tuple((where[a], where[b]) for a, b in bones), tuple(mirror))


FINGERS = ("thumb", "index", "middle", "ring", "pinky")

_BODY17_JOINTS = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
).split()
_BODY17_BONES = [
    ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"),
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"),
    *[(f"{s}_shoulder", f"{s}_hip") for s in ("left", "right")],
    *[(f"{s}_{a}", f"{s}_{b}") for s in ("left", "right")
      for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))],
]  # fmt: skip
_HAND21_JOINTS = ["wrist", *[f"{finger}_{k}" for finger in FINGERS for k in range(1, 5)]]
_HAND21_BONES = [
    (a, b)
    for finger in FINGERS
    for a, b in (("wrist", f"{finger}_1"), *[(f"{finger}_{k}", f"{finger}_{k + 1}") for k in range(1, 4)])
]

BODY17 = _build("body17", _BODY17_JOINTS, _BODY17_BONES)
"""COCO's 17 body joints, in COCO order."""

HAND21 = _build("hand21", _HAND21_JOINTS, _HAND21_BONES)
"""One hand: wrist, then thumb to pinky, base (1) to tip (4)."""

BODY17_HANDS = _build(
    "body17_hands",
    [*_BODY17_JOINTS, *[f"{side}_hand_{joint}" for side in ("left", "right") for joint in _HAND21_JOINTS]],
    [
        *_BODY17_BONES,
        *[(f"{s}_wrist", f"{s}_hand_wrist") for s in ("left", "right")],
        *[(f"{s}_hand_{a}", f"{s}_hand_{b}") for s in ("left", "right") for a, b in _HAND21_BONES],
    ],
)
"""The package's full set of 59 joints: 17 body, 21 left hand, 21 right hand."""

HANDS42 = _build(
    "hands42",
    [f"{side}_hand_{joint}" for side in ("left", "right") for joint in _HAND21_JOINTS],
    [(f"{s}_hand_{a}", f"{s}_hand_{b}") for s in ("left", "right") for a, b in _HAND21_BONES],
)
"""Both hands without a body: 21 left, 21 right, named as in :data:`BODY17_HANDS`."""

_FEET = [f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")]
_FEET_BONES = [
    (f"{s}_{a}", f"{s}_{b}")
    for s in ("left", "right")
    for a, b in (("ankle", "big_toe"), ("big_toe", "small_toe"), ("ankle", "heel"))
]

BODY25 = _build(
    "openpose_body25",
    (
        "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip "
        "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe "
        "left_small_toe left_heel right_big_toe right_small_toe right_heel"
    ).split(),
    [*_BODY17_BONES, *_FEET_BONES],
)
"""OpenPose BODY_25."""

BODY25B = _build(
    "openpose_body25b",
    [*_BODY17_JOINTS, "neck", "head", "left_big_toe", "left_small_toe", "left_heel",
     "right_big_toe", "right_small_toe", "right_heel"],
    [*_BODY17_BONES, *_FEET_BONES],
)  # fmt: skip
"""OpenPose BODY_25B: COCO's 17, upper neck, head top, feet."""

BODY23 = _build("coco_wholebody_body23", [*_BODY17_JOINTS, *_FEET], [*_BODY17_BONES, *_FEET_BONES])
"""The 23 body and foot joints of COCO-WholeBody."""

HALPE26 = _build(
    "halpe26",
    [*_BODY17_JOINTS, "head", "neck", "mid_hip", "left_big_toe", "right_big_toe", "left_small_toe",
     "right_small_toe", "left_heel", "right_heel"],
    [*_BODY17_BONES, *_FEET_BONES],
)  # fmt: skip
"""Halpe's 26 joints."""

_FACE68 = [f"face_{i}" for i in range(68)]
COCO_WHOLEBODY133 = _build(
    "coco_wholebody133",
    [*BODY23.joints, *_FACE68, *[f"{side}_hand_{joint}" for side in ("left", "right") for joint in _HAND21_JOINTS]],
    [*_BODY17_BONES, *_FEET_BONES,
     *[(f"{s}_hand_{a}", f"{s}_hand_{b}") for s in ("left", "right") for a, b in _HAND21_BONES]],
)  # fmt: skip
"""COCO-WholeBody: 17 body, 6 foot, 68 face, 21 left hand, 21 right hand."""

BLAZEPOSE33 = _build(
    "blazepose33",
    (
        "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear "
        "mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
        "left_pinky right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee "
        "right_knee left_ankle right_ankle left_heel right_heel left_big_toe right_big_toe"
    ).split(),
    [*_BODY17_BONES, *[(f"{s}_ankle", f"{s}_heel") for s in ("left", "right")],
     *[(f"{s}_heel", f"{s}_big_toe") for s in ("left", "right")]],
)  # fmt: skip
"""MediaPipe's pose landmarks."""

HOLISTIC75 = _build(
    "mediapipe_holistic75",
    [*BLAZEPOSE33.joints, *[f"right_hand_{j}" for j in _HAND21_JOINTS], *[f"left_hand_{j}" for j in _HAND21_JOINTS]],
    [*[(BLAZEPOSE33.joints[a], BLAZEPOSE33.joints[b]) for a, b in BLAZEPOSE33.bones],
     *[(f"{s}_hand_{a}", f"{s}_hand_{b}") for s in ("right", "left") for a, b in _HAND21_BONES]],
)  # fmt: skip
"""MediaPipe Holistic without the face: body 33, right hand 21, left hand 21."""

HANDED = {side: HAND21.subset(HAND21.joints, f"hand21_{side}") for side in ("left", "right")}
"""A 21-joint hand that knows its side."""

BODY12 = BODY17.subset([j for j in BODY17.joints if BODY17.index(j) >= BODY17.index("left_shoulder")], "body12")
"""The joints from shoulders to ankles: COCO without the five face joints."""

_KNOWN = (
    BODY17, HAND21, BODY17_HANDS, HANDS42, BODY12, BODY25, BODY25B, BODY23, HALPE26, COCO_WHOLEBODY133,
    BLAZEPOSE33, HOLISTIC75, *HANDED.values(),
)  # fmt: skip
SKELETONS: dict[str, Skeleton] = {skeleton.name: skeleton for skeleton in _KNOWN}
"""Every joint set known by name."""


def get_skeleton(name: str) -> Skeleton:
    """A known skeleton by name.

    Raises:
        EgoposeError: No skeleton has that name.
    """
    try:
        return SKELETONS[name]
    except KeyError:
        raise EgoposeError(f"no skeleton is named {name!r}; known: {', '.join(SKELETONS)}") from None


def point_skeleton(labels: Sequence[str], name: str = "points") -> Skeleton:
    """A skeleton of loose points (markers, board corners) without bones."""
    return Skeleton(name, tuple(str(label) for label in labels))
