"""Views of a hand are taken or left as a whole: all 21 joints vote (see :mod:`egopose.kernels.hands`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Rig
from egopose.observations import Observations2D
from egopose.skeleton import HAND21
from egopose.triangulate.hands import hand_sides
from egopose.triangulate.sides import world_rays

Array = NDArray[np.float64]

SHARE = 0.35

# a grown hand in metres; only its proportions matter, the size is fitted
_TYPICAL_M = {
    "thumb": (0.040, 0.045, 0.032, 0.026), "index": (0.095, 0.042, 0.025, 0.021),
    "middle": (0.092, 0.046, 0.028, 0.022), "ring": (0.087, 0.042, 0.027, 0.022), "pinky": (0.083, 0.033, 0.020, 0.019),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class HandViews:
    """Which views were kept.

    Attributes:
        kept: Per side (V, T) bool.
        dropped_share: Per view and side the share of frames in which the hand was seen but not trusted.
    """

    kept: dict[str, NDArray[np.bool_]]
    dropped_share: dict[str, dict[str, float]]


def select_hand_views(
    rig: Rig, observations: Observations2D, *, cap_px: float, body: dict[str, Array] | None = None
) -> tuple[Observations2D, HandViews]:
    """Leave out, for each hand and frame, the views whose joints disagree with the best proposal.

    Args:
        rig: The cameras.
        observations: 2D joints with hands; other skeletons come back unchanged.
        cap_px: See the kernel; about ten standard deviations of a good joint.
        body: Side to (T, 3) world positions of the body's wrist, NaN where unknown.
    """
    from egopose.kernels import hands

    sides = hand_sides(observations.skeleton)
    kept: dict[str, NDArray[np.bool_]] = {}
    shares: dict[str, dict[str, float]] = {name: {} for name in observations.views}
    V, T = observations.n_views, observations.n_frames
    if not sides or V < 3 or T == 0:
        return observations, HandViews(kept, shares)
    origins, rays, focal = world_rays(rig, observations)
    uv = observations.uv_px.copy()
    parent = HAND21.parents
    typical = np.full(HAND21.n_joints, np.nan)
    for finger, lengths in _TYPICAL_M.items():
        for k, value in enumerate(lengths):
            typical[HAND21.index(f"{finger}_{k + 1}")] = value
    for side, joints in sides.items():
        hand_rays = np.ascontiguousarray(rays[:, :, joints])
        near = np.full((T, 3), np.nan) if body is None or side not in body else np.ascontiguousarray(body[side])
        keep = np.zeros((V, T), dtype=bool)
        hands.vote(origins, hand_rays, focal, cap_px, SHARE, parent, typical, 2.0, near, 1.0, keep, 0, T)
        kept[side] = keep
        seen = np.asarray(np.isfinite(hand_rays[..., 0]).any(-1))
        for v, name in enumerate(observations.views):
            count = int(seen[v].sum())
            shares[name][side or "hand"] = float((seen[v] & ~keep[v]).sum() / count) if count else 0.0
        dropped = ~keep
        # with two views or fewer nobody can tell which one is wrong
        dropped &= seen.sum(0) >= 3
        for j in joints:
            uv[:, :, j][dropped] = np.nan
    return observations.replace(uv_px=uv), HandViews(kept, shares)


def body_wrists(pose: Any) -> dict[str, Array]:
    """World positions of the body's wrists of a solved take by side."""
    return {
        side: pose.xyz[:, pose.skeleton.index(f"{side}_wrist")].astype(np.float64)
        for side in ("left", "right")
        if f"{side}_wrist" in pose.skeleton.joints
    }
