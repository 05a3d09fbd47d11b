"""Finger poses: grips mixed over time, within the range of motion of the joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose.body import FINGER_BONES, Body
from egopose.rigid import rotation_from_vector
from egopose.skeleton import FINGERS

Array = NDArray[np.float64]

# share of full bending of thumb, index, middle, ring, pinky
GRIPS = {
    "open": (0.0, 0.0, 0.0, 0.0, 0.0),
    "relaxed": (0.3, 0.3, 0.35, 0.4, 0.45),
    "fist": (0.8, 1.0, 1.0, 1.0, 1.0),
    "point": (0.6, 0.0, 0.9, 0.95, 1.0),
    "pinch": (0.55, 0.55, 0.35, 0.25, 0.2),
    "tripod": (0.55, 0.6, 0.6, 0.75, 0.8),
    "cylinder": (0.4, 0.55, 0.55, 0.55, 0.6),
    "hook": (0.1, 0.75, 0.75, 0.75, 0.75),
    "victory": (0.8, 0.05, 0.05, 0.95, 0.95),
    "thumb_up": (0.0, 1.0, 1.0, 1.0, 1.0),
}

# from straightest to most bent, degrees, beyond the slightly bent rest pose: base, middle and end joint
_FINGER_RANGE = np.radians([[-22, 68], [-18, 88], [-15, 55]])
_THUMB_RANGE = np.radians([[-15, 28], [-12, 45], [-15, 60]])
_SPREAD = np.radians(12)


def smooth_path(rng: np.random.Generator, times_s: Array, low: Array, high: Array, period_s: float) -> Array:
    """A random smooth curve (T, K) between bounds (K,), with a new target about every ``period_s`` seconds."""
    low, high = np.atleast_1d(low), np.atleast_1d(high)
    span = float(times_s[-1] - times_s[0])
    n = int(np.ceil(span / period_s)) + 3
    knots = rng.uniform(low, high, (n, low.size))
    at = (np.asarray(times_s) - times_s[0]) / period_s + rng.uniform(0, 1)
    i = np.minimum(at.astype(int), n - 2)
    f = at - i
    f = (f * f * (3 - 2 * f))[:, None]
    return knots[i] * (1 - f) + knots[i + 1] * f


@dataclass(frozen=True, eq=False)
class HandAxes:
    """Axes of one hand of a rest body: bending (5, 3) and spreading (3,), right-handed turns bend to the palm."""

    bend: Array
    spread: Array

    @classmethod
    def of(cls, body: Body, side: str) -> HandAxes:
        """From the rest joints: fingers bend to the palm, the thumb towards the base of the little finger."""
        at = {name: body.at(f"{side}_{name}") for name in ("hand", "index_1", "pinky_1", "thumb_1", "thumb_3")}
        normal = np.cross(at["index_1"] - at["hand"], at["pinky_1"] - at["hand"])
        # points out of the palm for both hands
        normal *= (1.0 if side == "right" else -1.0) / np.linalg.norm(normal)
        if normal @ (body.at(f"{side}_middle_tip") - body.at(f"{side}_middle_1")) < 0:
            normal = -normal
        axes = []
        for finger in FINGERS:
            along = body.at(f"{side}_{finger}_3") - body.at(f"{side}_{finger}_1")
            to = at["pinky_1"] - at["thumb_1"] + 0.03 * normal if finger == "thumb" else normal
            axis = np.cross(along, to)
            axes.append(axis / np.linalg.norm(axis))
        return cls(np.array(axes), normal)


def random_curls(rng: np.random.Generator, times_s: Array) -> Array:
    """Curves of one hand: (T, 5, 4), bending of the three joints in [0, 1] and spread in [-1, 1]."""
    names = list(GRIPS)
    times_s = np.asarray(times_s, dtype=np.float64)
    period = rng.uniform(0.5, 2.0)
    n = int(np.ceil((times_s[-1] - times_s[0]) / period)) + 3
    knots = np.array([GRIPS[names[int(k)]] for k in rng.integers(len(names), size=n)])
    knots = np.clip(knots + 0.12 * rng.standard_normal(knots.shape), 0, 1)
    at = (times_s - times_s[0]) / period + rng.uniform(0, 1)
    i = np.minimum(at.astype(int), n - 2)
    f = at - i
    f = (f * f * (3 - 2 * f))[:, None]
    grip = knots[i] * (1 - f) + knots[i + 1] * f
    out = np.repeat(grip[:, :, None], 4, axis=2)
    out[..., :3] += smooth_path(rng, times_s, np.full(15, -0.15), np.full(15, 0.15), period).reshape(-1, 5, 3)
    # the two end joints of a finger share a tendon
    out[..., 2] = 0.35 * out[..., 2] + 0.65 * out[..., 1]
    out[..., :3] = np.clip(out[..., :3], 0, 1)
    fan = np.array([0.3, 1.0, 0.25, -0.5, -1.3])
    width = smooth_path(rng, times_s, np.array([-0.3]), np.array([1.0]), 1.5 * period)
    # bent fingers cannot be spread
    out[..., 3] = fan * width * (1 - 0.8 * out[..., 0])
    return out


def holding_curls(rng: np.random.Generator, times_s: Array) -> Array:
    """Curves of a hand closed around a thing: one grip that hardly moves, as :func:`random_curls`."""
    times_s = np.asarray(times_s, dtype=np.float64)
    grip = np.array(GRIPS["cylinder"]) + 0.06 * rng.standard_normal(5)
    out = np.tile(np.repeat(grip[:, None], 4, axis=1), (times_s.size, 1, 1))
    out[..., :3] += smooth_path(rng, times_s, np.full(15, -0.03), np.full(15, 0.03), 1.0).reshape(-1, 5, 3)
    out[..., :3] = np.clip(out[..., :3], 0, 1)
    out[..., 3] = 0.1
    return out


def bend_fingers(body: Body, side: str, curls: Array, R: Array) -> None:
    """Write the rotations of a hand's 15 finger bones.

    Args:
        body: Whose hand.
        side: "left" or "right".
        curls: (T, 5, 4) from :func:`random_curls`.
        R: (T, J, 3, 3) rotations of the bones, with the hand's; the fingers' are written.
    """
    axes, model = HandAxes.of(body, side), body.model
    sign = -1.0 if side == "left" else 1.0
    for i, bones in enumerate(FINGER_BONES[side]):
        limits = _THUMB_RANGE if i == 0 else _FINGER_RANGE
        parent = R[:, model.index(f"{side}_hand")]
        for k, bone in enumerate(bones):
            angle = limits[k, 0] + (limits[k, 1] - limits[k, 0]) * curls[:, i, k]
            local = rotation_from_vector(angle[:, None] * axes.bend[i])
            if k == 0:
                turn = sign * _SPREAD * curls[:, i, 3]
                local = rotation_from_vector(turn[:, None] * axes.spread) @ local
            parent = parent @ local
            R[:, model.index(bone)] = parent
