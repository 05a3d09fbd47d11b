"""Joints of a rigged hand where annotators click them.

A rig bends elsewhere than people click. The mesh's wrist bone begins above the crease, so that its palm is 8 % longer
than that of real hands in annotated and in triangulated footage, and its thumb begins 15 mm off: both are put where a
triangulated real hand has them (handpose3d, MIT licence, 279 frames; the annotated hands of InterHand2.6M's sample
agree within 6 mm). Its fingers end at the skin, beyond the last joint by more than the bone and the pulp of a finger
measure (Buryanov and Kotiuk, Proportions of hand segments, 2010).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.errors import EgoposeError
from egopose.skeleton import HAND21

Array = NDArray[np.float64]

PALM = {"wrist": (0.038, -0.367, -0.009), "thumb_1": (0.170, -0.246, 0.038)}
"""Places from the middle of the knuckles: towards the index, towards the fingers and out of the back of a right hand,
in units of six finger segments, see :func:`clicked_hand`."""

TIP = {"index": 19.64 / 22.4, "middle": 21.35 / 26.3, "ring": 21.25 / 25.7, "pinky": 19.69 / 18.1}
"""Last bone and pulp over the middle bone."""

_SEGMENTS = HAND21.indices(["index_1", "index_2", "middle_1", "middle_2", "ring_1", "pinky_1"])
_KNUCKLES = HAND21.indices([f"{finger}_1" for finger in TIP])


def clicked_hand(joints: ArrayLike, *, left: bool) -> Array:
    """Joints (21, 3) of a hand's bones, metres, moved to where annotators click them.

    Args:
        joints: Of ``HAND21``, in any frame.
        left: Whether it is a left hand.

    Raises:
        EgoposeError: Another number of joints.
    """
    joints = np.asarray(joints, dtype=np.float64)
    if joints.shape != (HAND21.n_joints, 3):
        raise EgoposeError(f"a hand has shape {joints.shape}; expected ({HAND21.n_joints}, 3)")
    out = joints.copy()
    wrist, index, middle, pinky = (joints[HAND21.index(name)] for name in ("wrist", "index_1", "middle_1", "pinky_1"))
    along = middle - wrist
    along = along / np.linalg.norm(along)
    across = np.cross(along, np.cross(index - wrist, pinky - wrist))
    across /= np.linalg.norm(across)
    back = np.cross(across, along) * (-1.0 if left else 1.0)
    unit = np.linalg.norm(joints[_SEGMENTS + 1] - joints[_SEGMENTS], axis=1).sum()
    for name, place in PALM.items():
        out[HAND21.index(name)] = joints[_KNUCKLES].mean(axis=0) + unit * (np.array(place) @ [across, along, back])
    for finger, ratio in TIP.items():
        second, third, tip = (joints[HAND21.index(f"{finger}_{k}")] for k in (2, 3, 4))
        length = ratio * np.linalg.norm(third - second)
        out[HAND21.index(f"{finger}_4")] = third + length * (tip - third) / np.linalg.norm(tip - third)
    return out
