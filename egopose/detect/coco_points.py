"""From BlazePose's body landmarks to the points that COCO's annotators click.

BlazePose was taught other points, and its errors depend on how a person stands in the picture. Both show in its 33
landmarks, so a linear map of them foretells a good part of the difference. ``assets/blazepose_coco.npz`` holds one,
fitted by ``tools/fit_coco_points.py`` on rendered bodies, with as much shrinkage as keeps it from doing harm on real
footage.
"""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.npz import read_npz
from egopose.skeleton import BLAZEPOSE33, BODY17

Array = NDArray[np.float64]

_KEYS = ("mean", "spread", "weights", "offset", "farthest")
WIDEST = 2.5
"""Landmarks farther from the usual than this, in standard deviations, say no more than this: no extrapolation."""
_HIPS = BLAZEPOSE33.indices(["left_hip", "right_hip"])


def features(points: Array, score: Array) -> tuple[Array, Array]:
    """What the map reads: landmarks around the hips in units of their own extent, and scores.

    Args:
        points: (N, 33, 2) in an upright frame of the person.
        score: (N, 33).

    Returns:
        Features (N, 99) and the unit of each person (N,).
    """
    around = points - points[:, _HIPS].mean(axis=1, keepdims=True)
    unit = np.sqrt((around**2).sum(axis=-1).mean(axis=1))
    around = around / unit[:, None, None]
    return np.concatenate([around.reshape(len(points), -1), score], axis=1), unit


def fit(points: Array, score: Array, target: Array, shrinkage: float) -> dict[str, Array]:
    """Fit the map by ridge regression on examples and their mirror images.

    Args:
        points: (N, 33, 2) landmarks, upright.
        score: (N, 33).
        target: (N, 17, 2) points of BODY17 in the same frame.
        shrinkage: Weight of the ridge for each example.
    """
    swap, swap17 = BLAZEPOSE33.mirror_index, BODY17.mirror_index
    points = np.concatenate([points, points[:, swap] * [-1, 1]])
    score = np.concatenate([score, score[:, swap]])
    target = np.concatenate([target, target[:, swap17] * [-1, 1]])
    x, unit = features(points, score)
    source = BLAZEPOSE33.map_to(BODY17)
    y = ((target - points[:, source]) / unit[:, None, None]).reshape(len(x), -1)
    # a landmark on the wrong limb must not bend the map
    middle = np.median(y, axis=0)
    limit = 6 * np.median(np.abs(y - middle), axis=0)
    y = np.clip(y, middle - limit, middle + limit)
    mean, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 0.02)
    z = np.clip((x - mean) / spread, -WIDEST, WIDEST)
    offset = y.mean(axis=0)
    weights = np.linalg.solve(z.T @ z + shrinkage * len(z) * np.eye(z.shape[1]), z.T @ (y - offset))
    length = np.linalg.norm(y.reshape(len(y), -1, 2), axis=-1)
    return {"mean": mean, "spread": spread, "weights": weights, "offset": offset,
            "farthest": np.quantile(length, 0.95, axis=0)}  # fmt: skip


def apply(table: dict[str, Array], points: Array, score: Array) -> Array:
    """Shifts (N, 17, 2) of the joints of BODY17, in the frame and unit of the points (N, 33, 2)."""
    x, unit = features(points, score)
    z = np.clip((x - table["mean"]) / table["spread"], -WIDEST, WIDEST)
    shift = (z @ table["weights"] + table["offset"]).reshape(len(x), -1, 2)
    length = np.linalg.norm(shift, axis=-1)
    shift *= np.minimum(1.0, table["farthest"] / np.maximum(length, 1e-12))[..., None]
    return np.asarray(shift * unit[:, None, None], dtype=np.float64)


@functools.cache
def _packaged() -> dict[str, Array]:
    with resources.as_file(resources.files("egopose") / "assets" / "blazepose_coco.npz") as path:
        return load_table(path)


def load_table(path: Path) -> dict[str, Array]:
    """Read a map.

    Raises:
        EgoposeError: The file is damaged or does not belong to these landmarks.
    """
    data = read_npz(path, _KEYS, what="a map to COCO's points")
    n, m = 3 * BLAZEPOSE33.n_joints, 2 * BODY17.n_joints
    shapes = {"mean": (n,), "spread": (n,), "weights": (n, m), "offset": (m,), "farthest": (BODY17.n_joints,)}
    for key, shape in shapes.items():
        if data[key].shape != shape or not np.isfinite(data[key]).all():
            raise EgoposeError(f"{path}: {key} is {data[key].shape}; expected finite numbers {shape}")
    return {key: data[key].astype(np.float64) for key in _KEYS}


def upright_turn(angle: float) -> Array:
    """Matrix (2, 2): ``uv @ turn`` brings rows of pixels into the upright frame of a person rotated by an angle."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def coco_shift(uv: Array, score: Array, angle: float) -> Array:
    """How far to move the joints of BODY17 from their landmarks, (17, 2) pixels.

    Args:
        uv: (33, 2) landmarks, pixels.
        score: (33,).
        angle: Rotation of the person in the image, radians, see ``Square``.
    """
    turn = upright_turn(angle)
    points = uv @ turn
    if not np.isfinite(points).all() or np.ptp(points, axis=0).max() < 1.0:
        return np.zeros((BODY17.n_joints, 2))
    return np.asarray(apply(_packaged(), points[None], score[None])[0] @ turn.T, dtype=np.float64)
