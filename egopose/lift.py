"""From a hand in a picture to a metric hand in the camera frame, with error bars.

A 2D hand net gives joints in the picture and their relative depth. Size and distance cannot be told apart in one
picture, so the size comes from elsewhere: the person's bone lengths, or those of an average adult. The hand that fits
best is a least-squares problem over the 21 points: they project where they were seen, their bones have the known
lengths, and their depths are ordered as the net says. Its curvature at the solution gives the covariance; what the
unknown size adds is a stretch along the viewing ray.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.skeleton import HAND21

Array = NDArray[np.float64]

SIZE_SD = 0.06
"""Relative standard deviation of hand size among adults (hand length: about 1 cm on 18.5 cm)."""

# wrist to knuckle along and across the palm and out of it, then three phalanges: segment lengths of an average adult
_ADULT = {
    "thumb": (0.030, 0.028, (0.044, 0.032, 0.026)), "index": (0.092, 0.026, (0.043, 0.025, 0.020)),
    "middle": (0.090, 0.004, (0.047, 0.028, 0.021)), "ring": (0.084, -0.016, (0.043, 0.026, 0.021)),
    "pinky": (0.076, -0.034, (0.034, 0.019, 0.018)),
}  # fmt: skip

# the palm is nearly rigid: distances across it count like bones
_ACROSS = (
    ("index_1", "middle_1"), ("middle_1", "ring_1"), ("ring_1", "pinky_1"), ("index_1", "pinky_1"),
    ("thumb_1", "index_1"),
)  # fmt: skip
_PAIRS = np.array([*HAND21.bones, *((HAND21.index(a), HAND21.index(b)) for a, b in _ACROSS)], dtype=np.int64)
_WRIST = HAND21.index("wrist")
_N = HAND21.n_joints


@dataclass(frozen=True)
class LiftConfig:
    """What is believed about the inputs.

    Attributes:
        point_sd: Of a joint in the picture, in half sides of its view.
        bone_sd: Of a bone length, relative.
        depth_sd_m: Of the net's relative depth, metres.
        size_sd: Of the hand's size, relative.
        iterations: Steps of the descent, at most.
        tolerance: Relative gain at which the descent ends.
    """

    point_sd: float = 0.03
    bone_sd: float = 0.08
    depth_sd_m: float = 0.015
    size_sd: float = SIZE_SD
    iterations: int = 20
    tolerance: float = 3e-3


@functools.cache
def adult_hand() -> Array:
    """(21, 3) metres: a flat right hand of an average adult, wrist at the origin, fingers along x."""
    hand = np.zeros((_N, 3))
    for finger, (along, across, phalanges) in _ADULT.items():
        knuckle = np.array([along, across, 0.0])
        # fingers spread a little, the thumb more
        angle = np.arctan2(across, along) * (1.0 if finger == "thumb" else 0.5)
        reach = np.concatenate([[0.0], np.cumsum(phalanges)])
        for k in range(4):
            at = knuckle + reach[k] * np.array([np.cos(angle), np.sin(angle), 0.0])
            hand[HAND21.index(f"{finger}_{k + 1}")] = at
    hand.setflags(write=False)
    return hand


def lengths(hand: Array) -> Array:
    """Bones and distances across the palm (..., P) of hands (..., 21, 3)."""
    return np.asarray(np.linalg.norm(hand[..., _PAIRS[:, 0], :] - hand[..., _PAIRS[:, 1], :], axis=-1))


def rough_distance(points: Array, depth: Array, focal: float, template: Array | None = None) -> float:
    """Distance in metres of a hand of points (21, 2) and depths (21,) in half sides: cheap, some centimetres off."""
    hand = adult_hand() if template is None else template
    return float(_start(points[None], depth[None], np.array([focal]), lengths(hand)[None])[0])


def _start(points: Array, depth: Array, focal: Array, wanted: Array) -> Array:
    """Distance (N,) at which hands seen from far have the wanted lengths: the median over bones."""
    flat = np.concatenate([points, depth[..., None]], axis=-1)
    seen = lengths(flat) / focal[:, None]
    return np.asarray(np.median(wanted / np.maximum(seen, 1e-6), axis=1), dtype=np.float64)


def lift(
    points: Array, depth: Array, focal: Array, *, template: Array | None = None, config: LiftConfig | None = None
) -> tuple[Array, Array, Array]:
    """Metric hands from pictures of them.

    Args:
        points: (N, 21, 2) joints in half sides of a pinhole view each, x right, y down.
        depth: (N, 21) relative depth of the joints, larger is farther, in the same unit as ``points`` (a joint as far
            behind another as it is beside it has the same number in both).
        focal: (N,) focal length of each view in half sides.
        template: (21, 3) or (N, 21, 3) a hand whose bone lengths are believed; an average adult's by default.
        config: See :class:`LiftConfig`.

    Returns:
        Joints (N, 21, 3) metres in the view's axes, covariance (N, 21, 3, 3) of each, and covariance (N, 21, 3, 3) of
        each relative to the wrist.

    Raises:
        EgoposeError: Shapes disagree or values are not finite.
    """
    config = config or LiftConfig()
    points, depth = np.asarray(points, np.float64), np.asarray(depth, np.float64)
    focal = np.asarray(focal, np.float64)
    n = len(points)
    if points.shape != (n, _N, 2) or depth.shape != (n, _N) or focal.shape != (n,):
        raise EgoposeError(
            f"lift: points {points.shape}, depths {depth.shape}, focal {focal.shape}; expected (N, 21, 2), (N, 21) "
            "and (N,)"
        )
    if not (np.isfinite(points).all() and np.isfinite(depth).all() and (focal > 0).all()):
        raise EgoposeError("lift: points and depths must be finite and focal lengths positive")
    if n == 0:
        return np.zeros((0, _N, 3)), np.zeros((0, _N, 3, 3)), np.zeros((0, _N, 3, 3))
    hand = adult_hand() if template is None else np.asarray(template, np.float64)
    wanted = np.broadcast_to(lengths(hand), (n, len(_PAIRS)))
    depth = depth - depth.mean(axis=1, keepdims=True)
    distance = np.clip(_start(points, depth, focal, wanted), 0.05, 20.0)
    z = np.maximum(distance[:, None] * (1 + depth / focal[:, None]), 0.3 * distance[:, None])
    P = np.concatenate([points * (z / focal[:, None])[..., None], z[..., None]], axis=-1)
    P = _descend(P, points, wanted, depth, focal, config)
    covariance = np.linalg.inv(_normal_equations(P, points, wanted, depth, focal, config)[0])
    blocks = covariance.reshape(n, _N, 3, _N, 3)
    own = np.einsum("njajb->njab", blocks)
    wrist = blocks[:, _WRIST, :, _WRIST, :]
    cross = blocks[:, :, :, _WRIST, :]
    relative = own + wrist[:, None] - cross - np.swapaxes(cross, -1, -2)
    offset = P - P[:, _WRIST : _WRIST + 1]
    own = own + config.size_sd**2 * P[..., :, None] * P[..., None, :]
    relative = relative + config.size_sd**2 * offset[..., :, None] * offset[..., None, :]
    return P, own, relative


def _descend(P: Array, points: Array, wanted: Array, depth: Array, focal: Array, config: LiftConfig) -> Array:
    """Levenberg-Marquardt, every hand with its own damping."""
    n = len(P)
    P, damping = P.copy(), np.full(n, 1e-3)
    cost = _cost(P, points, wanted, depth, focal, config)
    diagonal = np.arange(3 * _N)
    going = np.arange(n)
    for _ in range(config.iterations):
        if not going.size:
            break
        fixed = points[going], wanted[going], depth[going], focal[going], config
        old = P[going]
        hessian, gradient = _normal_equations(old, *fixed)
        hessian[:, diagonal, diagonal] *= 1.0 + damping[going, None]
        trial = old + np.linalg.solve(hessian, -gradient[..., None])[..., 0].reshape(-1, _N, 3)
        behind = trial[..., 2].min(axis=1) <= 0.2 * old[..., 2].min(axis=1)
        trial = np.where(behind[:, None, None], old, trial)
        new = np.where(behind, np.inf, _cost(trial, *fixed))
        better = new < cost[going]
        done = better & (cost[going] - new < config.tolerance * new)
        P[going] = np.where(better[:, None, None], trial, old)
        damping[going] = np.clip(np.where(better, damping[going] * 0.2, damping[going] * 8.0), 1e-7, 1e7)
        cost[going] = np.where(better, new, cost[going])
        going = going[~done]
    return P


def _cost(P: Array, points: Array, wanted: Array, depth: Array, focal: Array, config: LiftConfig) -> Array:
    """Half the sum of squares (N,)."""
    z = P[..., 2]
    f = focal[:, None]
    image = (f[..., None] * P[..., :2] / z[..., None] - points) / config.point_sd
    bones = (lengths(P) - wanted) / (config.bone_sd * wanted)
    deep = (z - z.mean(axis=1, keepdims=True) * (1.0 + depth / f)) / config.depth_sd_m
    return np.asarray(0.5 * ((image**2).sum(axis=(1, 2)) + (bones**2).sum(axis=1) + (deep**2).sum(axis=1)))


def _normal_equations(
    P: Array, points: Array, wanted: Array, depth: Array, focal: Array, config: LiftConfig
) -> tuple[Array, Array]:
    """Hessian (N, 63, 63) and gradient (N, 63) of half the sum of squares at P."""
    n = len(P)
    H, g = np.zeros((n, _N, 3, _N, 3)), np.zeros((n, _N, 3))
    each = np.arange(_N)
    z = P[..., 2]
    f = focal[:, None]
    seen = np.zeros((n, _N, 2, 3))
    seen[..., 0, 0] = seen[..., 1, 1] = f / z
    seen[..., :, 2] = -f[..., None] * P[..., :2] / (z * z)[..., None]
    error = f[..., None] * P[..., :2] / z[..., None] - points
    weight = 1.0 / config.point_sd**2
    own = weight * np.einsum("njua,njub->njab", seen, seen)
    g += weight * np.einsum("njua,nju->nja", seen, error)
    H[:, each, :, each, :] += np.moveaxis(own, 1, 0)
    a, b = _PAIRS[:, 0], _PAIRS[:, 1]
    d = P[:, a] - P[:, b]
    length = np.maximum(np.linalg.norm(d, axis=-1), 1e-6)
    d = d / length[..., None]
    weights = 1.0 / (config.bone_sd * wanted) ** 2
    push = (weights * (length - wanted))[..., None] * d
    outer = weights[..., None, None] * d[..., :, None] * d[..., None, :]
    for k, (i, j) in enumerate(_PAIRS):
        g[:, i] += push[:, k]
        g[:, j] -= push[:, k]
        H[:, i, :, i] += outer[:, k]
        H[:, j, :, j] += outer[:, k]
        H[:, i, :, j] -= outer[:, k]
        H[:, j, :, i] -= outer[:, k]
    # the net's depths are in units of the picture: metres at the hand's distance
    middle = z.mean(axis=1, keepdims=True)
    slope = 1.0 + depth / f
    residual = z - middle * slope
    mix = np.eye(_N) - slope[..., None] / _N
    weight = 1.0 / config.depth_sd_m**2
    g[..., 2] += weight * np.einsum("njk,nj->nk", mix, residual)
    H[:, :, 2, :, 2] += weight * np.einsum("nji,njk->nik", mix, mix)
    return H.reshape(n, 3 * _N, 3 * _N), g.reshape(n, 3 * _N)
