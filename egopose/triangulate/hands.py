"""What a hand can do: bone lengths and joint angles outside human limits mark triangulated hand joints as wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from egopose.skeleton import FINGERS, HAND21, Skeleton

# metres; the palm's bones from the wrist, then every phalanx
_PALM = (0.055, 0.125)
_THUMB_BASE = (0.005, 0.085)
_PHALANX = (0.005, 0.085)
# smallest inner angle in degrees at joints _1, _2, _3: a finger cannot fold further
_SMALLEST_ANGLE_DEG = {"thumb": (95.0, 85.0, 85.0), "finger": (55.0, 65.0, 75.0)}


def hand_sides(skeleton: Skeleton) -> dict[str, NDArray[np.int64]]:
    """Indices of the 21 joints of each hand that a skeleton has, by side (``""`` for a hand without a side)."""
    sides = {}
    for prefix in ("left_hand_", "right_hand_", ""):
        names = [f"{prefix}{joint}" for joint in HAND21.joints]
        if all(name in skeleton.joints for name in names):
            sides[prefix.removesuffix("_hand_")] = skeleton.indices(names)
    return sides


def impossible_joints(xyz: NDArray[np.floating], skeleton: Skeleton) -> NDArray[np.bool_]:
    """Hand joints that break human limits.

    Limits of bone lengths and of inner finger angles are a little wider than those that annotators of hand datasets
    use, so that a true pose with ordinary noise passes.

    Args:
        xyz: (T, J, 3) metres, NaN where not known.
        skeleton: The J joints.

    Returns:
        (T, J) true at the joint at the far end of an impossible bone, and at and beyond an impossible angle.
    """
    bad = np.zeros(xyz.shape[:2], dtype=bool)
    for indices in hand_sides(skeleton).values():
        hand = np.asarray(xyz, dtype=np.float64)[:, indices]
        bad[:, indices] |= _impossible_in_hand(hand)
    return bad


def _impossible_in_hand(hand: NDArray[np.float64]) -> NDArray[np.bool_]:
    bad = np.zeros(hand.shape[:2], dtype=bool)
    wrist = HAND21.index("wrist")
    for finger in FINGERS:
        chain = np.array([wrist, *(HAND21.index(f"{finger}_{k}") for k in range(1, 5))])
        bones = np.diff(hand[:, chain], axis=1)
        length = np.linalg.norm(bones, axis=-1)
        limits = np.array([_THUMB_BASE if finger == "thumb" else _PALM, _PHALANX, _PHALANX, _PHALANX])
        with np.errstate(invalid="ignore"):
            bad[:, chain[1:]] |= (length < limits[:, 0]) | (length > limits[:, 1])
            cosine = -(bones[:, :-1] * bones[:, 1:]).sum(-1) / np.maximum(length[:, :-1] * length[:, 1:], 1e-9)
            angle_deg = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
            folded = angle_deg < _SMALLEST_ANGLE_DEG["thumb" if finger == "thumb" else "finger"]
        for k in range(3):
            # the joint that closes the angle is the one beyond its vertex
            bad[:, chain[k + 2]] |= folded[:, k]
    return bad & np.isfinite(hand).all(-1)
