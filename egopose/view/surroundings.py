"""What stands around the bodies of a page: cameras, the head's path, the floor, and the boxes that hold it all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egopose.pose import PoseSequence
from egopose.trajectory import Trajectory

if TYPE_CHECKING:
    from egopose.camera import Camera

Array = NDArray[np.float64]


def nice_ceiling(value: float) -> float:
    """The next number of the form 1, 2 or 5 times a power of ten."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(k * power for k in (1.0, 2.0, 5.0, 10.0) if value <= k * power * (1 + 1e-9))


def frustum_corners(camera: Camera, depth: float, per_side: int = 4) -> Array:
    """Border of the image at a depth in front of the camera, through the true lens, (4 * per_side, 3) world metres.

    Border pixels without a ray (outside a fisheye's circle) fall back to the widest ray on the line to the middle.
    """
    w, h = camera.size
    a = np.arange(per_side) / per_side
    edge = np.concatenate([np.stack([a, 0 * a], 1), np.stack([0 * a + 1, a], 1),
                           np.stack([1 - a, 0 * a + 1], 1), np.stack([0 * a, 1 - a], 1)])  # fmt: skip
    border = edge * [w - 1, h - 1]
    middle = np.array([(w - 1) / 2, (h - 1) / 2])
    rays = np.full((len(border), 3), np.nan)
    for shrink in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0.1):
        todo = ~np.isfinite(rays).all(axis=1)
        if not todo.any():
            break
        rays[todo] = camera.unproject(middle + shrink * (border[todo] - middle))
    rays = np.where(np.isfinite(rays), rays, [0, 0, 1])
    # a wide lens has rays beside or behind it: keep those at the given length instead of the given depth
    scale = depth / np.maximum(rays[:, 2:3], 0.35)
    T = camera.T_world_camera
    return (rays * scale) @ T[:3, :3].T + T[:3, 3]


def frustum(camera: Camera, R: Array, centre: Array, depth: float) -> dict[str, Any]:
    T = camera.T_world_camera
    return {
        "name": camera.name,
        "centre": np.round(R @ T[:3, 3] - centre, 4).tolist(),
        "forward": np.round(R @ T[:3, 2], 6).tolist(),
        "corners": np.round(frustum_corners(camera, depth) @ R.T - centre, 4).tolist(),
    }


def path(trajectory: Trajectory, times_s: Array, R: Array, centre: Array, most: int = 1500) -> dict[str, Any]:
    keep = np.unique(np.linspace(0, len(trajectory) - 1, min(most, len(trajectory))).round().astype(int))
    poses = trajectory.at(times_s, gaps="nan", outside="nan")
    heads: list[list[float] | None] = []
    for T in poses:
        if np.isfinite(T).all():
            heads.append(np.round([*(R @ T[:3, 3] - centre), *(R @ T[:3, :3]).T.ravel()], 4).tolist())
        else:
            heads.append(None)
    points = np.round(trajectory.T_world_camera[keep, :3, 3] @ R.T - centre, 4)
    return {"name": "head", "points": points.tolist(), "heads": heads, "size": 0.15}


def box(placed: list[Array]) -> Array:
    points = np.concatenate([xyz.reshape(-1, 3) for xyz in placed])
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return np.array([[-1.0] * 3, [1.0] * 3])
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    pad = 0.05 * max(float(np.linalg.norm(high - low)), 0.05)
    return np.array([low - pad, high + pad])


def union(box: Array, points: list[Array]) -> Array:
    everything = np.concatenate([box, *points])
    return np.array([everything.min(axis=0), everything.max(axis=0)])


def floor(pose: PoseSequence, xyz: Array, box: Array, centre: Array) -> dict[str, Any]:
    """A grid under everything; for a body in the world its height is that of the lowest joints."""
    heights = xyz[..., 2]
    known = np.isfinite(heights).any(axis=1)
    if pose.space == "head":
        z, what = -float(centre[2]), "at the head frame's floor (z = 0)"
    elif known.any():
        lowest = np.nanmin(heights[known], axis=1)
        z = float(np.percentile(lowest, 5))
        what = (
            f"at the lowest joints (height {z + centre[2]:.2f} m)" if pose.space == "world" else "at the lowest joints"
        )
    else:
        z, what = -1.0, "arbitrary"
    size = float(max(box[1, :2] - box[0, :2]))
    step = nice_ceiling(size / 16)
    low = np.floor((box[0, :2] + centre[:2]) / step) * step
    cells = np.ceil((box[1, :2] + centre[:2] - low) / step).astype(int)
    return {"x0": float(low[0] - centre[0]), "y0": float(low[1] - centre[1]), "z": z, "step": step,
            "nx": int(cells[0]), "ny": int(cells[1]), "what": what}  # fmt: skip
