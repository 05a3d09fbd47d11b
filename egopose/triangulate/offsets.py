"""When: cameras that started late, early, or between two frames of the others.

A camera that is off in time sees moving joints in the wrong place. The offset of a camera is the one at which its rays
meet those of the others best; cameras are searched one after the other, first over whole frames, then between them.
The reference camera, one
whose offset is the median, keeps its clock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Rig
from egopose.observations import Observations2D
from egopose.triangulate.sides import world_rays

Array = NDArray[np.float64]

_SAMPLES = 6000
# a narrow cap sees only the rays that happen to meet: a camera far off would settle on a near minimum
_CAPS = (8.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
_LEAST_GAIN = 0.003
_MOST_COUPLED = 9
_PARTS = 5
_LEAST_FRAMES = 12


@dataclass(frozen=True)
class TimeOffsets:
    """Offsets found.

    Attributes:
        views: View names.
        frames: Frames to add to the rig's frame number to find the same moment in each view.
        reference: The view that kept its clock.
        cost_before: Root mean capped squared distance between rays, pixels, with no offset.
        cost_after: The same with the offsets.
        reliable: Per view, whether the cost has a clear minimum (a person standing still says nothing about time).
    """

    views: tuple[str, ...]
    frames: tuple[float, ...]
    reference: str
    cost_before: float
    cost_after: float
    reliable: tuple[bool, ...]


def find_offsets(
    rig: Rig,
    observations: Observations2D,
    *,
    cap_px: float,
    max_frames: int = 15,
    start: TimeOffsets | None = None,
    seed: int = 0,
) -> TimeOffsets:
    """Estimate the time offset of each view from the residual.

    Args:
        rig: The cameras.
        observations: 2D joints on each camera's own frame numbers.
        cap_px: Distances beyond this count as this.
        max_frames: Largest offset looked for.
        start: Offsets to start from.
        seed: Of the sample of joints looked at.
    """
    from egopose.kernels import sides

    V, T = observations.n_views, observations.n_frames
    origins, rays, focal = world_rays(rig, observations)
    rays = _on_every_frame(rays, observations.frames)
    seen = np.isfinite(rays[..., 0])
    enough = np.argwhere(seen.sum(0) >= 2)
    rng = np.random.default_rng(seed)
    pick = enough if len(enough) <= _SAMPLES else enough[rng.choice(len(enough), _SAMPLES, replace=False)]
    frames, joints = np.ascontiguousarray(pick[:, 0]), np.ascontiguousarray(pick[:, 1])
    reference = int(np.argmax(seen.sum((1, 2))))

    def cost(shifts: Array, width: float = 1.0) -> float:
        return float(sides.shifted_cost(origins, rays, focal, shifts, width * cap_px, frames, joints))

    order = rng.permutation(frames.size)
    groups = [(frames[part], joints[part]) for part in np.array_split(order, _PARTS)]

    def cost_of(f: NDArray[np.int64], j: NDArray[np.int64], shifts: Array) -> float:
        return float(sides.shifted_cost(origins, rays, focal, shifts, cap_px, f, j))

    parts = [functools.partial(cost_of, f, j) for f, j in groups]

    def moved(v: int, width: float, value: float) -> float:
        return cost(_with(shifts, v, value), width)

    shifts = np.zeros(V) if start is None else np.array(start.frames)
    before = cost(np.zeros(V))
    reliable = np.zeros(V, dtype=bool)
    reliable[reference] = True
    if V >= 3 and T >= _LEAST_FRAMES and len(pick):
        reach = min(max_frames, max(T // 4, 1))
        free = np.array([v for v in range(V) if v != reference])
        for width in _CAPS:
            old = shifts.copy()
            # the reference moves too and all are set back by it: if it is the odd one, nothing else can tell
            for v in (*free, reference):
                # whole frames only: reading between two frames averages their noise, which lowers the cost by itself
                part = shifts[v] - np.round(shifts[v])
                candidates = np.arange(-reach, reach + 1.0) + part
                values = np.array([moved(v, width, c) for c in candidates])
                shifts[v] = candidates[int(values.argmin())]
            shifts -= shifts[reference]
            shifts[free] += _between(functools.partial(cost, width=width), shifts, free)
            if width == 1.0 and np.abs(shifts - old).max() < 0.02:
                break
        for v in free:
            reliable[v] = _is_valley(parts, shifts, v, reach)
        shifts = np.where(reliable, shifts, 0.0)
        lowest = cost(shifts)
        for v in np.flatnonzero(shifts).tolist():
            # small gains come from calibration and noise as easily as from time
            if abs(shifts[v]) < 1:
                sides_of = [cost(_with(shifts, v, shifts[v] + step)) for step in (-1.0, 1.0)]
                gain = 0.5 * (sum(sides_of) - 2 * lowest) * shifts[v] ** 2
            else:
                gain = cost(_with(shifts, v, 0.0)) - lowest
            if gain < _LEAST_GAIN * lowest:
                shifts[v] = 0.0
        if shifts.any():
            # the clock that most cameras share, not that of a camera that happens to see most
            middle = float(np.median(shifts[reliable]))
            reference = int(np.argmin(np.where(reliable, np.abs(shifts - middle), np.inf)))
            shifts = np.where(reliable, shifts - shifts[reference], 0.0)
    return TimeOffsets(
        observations.views, tuple(float(s) for s in shifts), observations.views[reference],
        float(np.sqrt(before)), float(np.sqrt(cost(shifts))), tuple(bool(r) for r in reliable),
    )  # fmt: skip


def _is_valley(parts: Sequence[Callable[[Array], float]], shifts: Array, v: int, reach: int) -> bool:
    """Whether separate parts of the joints agree about where the cost of a view is lowest: noise alone would not."""
    part = shifts[v] - np.round(shifts[v])
    candidates = np.arange(-reach, reach + 1.0) + part
    lowest = []
    for cost in parts:
        values = np.array([cost(_with(shifts, v, c)) for c in candidates])
        if not np.isfinite(values).any():
            return False
        lowest.append(float(candidates[np.nanargmin(values)]))
    inside = all(abs(c) < reach - 0.5 for c in lowest)
    return inside and max(lowest) - min(lowest) <= 2 and abs(float(np.median(lowest)) - shifts[v]) <= 1.5


def _with(shifts: Array, v: int, value: float) -> Array:
    changed = shifts.copy()
    changed[v] = value
    return changed


def _between(cost: Callable[[Array], float], shifts: Array, free: NDArray[np.int64]) -> Array:
    """Steps (F,) from the given shifts to the lowest point between the neighbouring whole frames: one Newton step.

    All free views move together: the point between the rays follows a late camera, so the views are coupled. Every
    difference is taken over whole frames, at which the noise is averaged as much as at the middle.
    """
    n = free.size
    middle = cost(shifts)

    def at(*moves: tuple[int, float]) -> float:
        changed = shifts.copy()
        for i, step in moves:
            changed[free[i]] += step
        return cost(changed)

    up = np.array([at((i, 1.0)) for i in range(n)])
    down = np.array([at((i, -1.0)) for i in range(n)])
    with np.errstate(invalid="ignore"):
        # an infinite cost on both sides; such a step is held back below
        gradient, curvature = 0.5 * (up - down), up + down - 2 * middle
    if not (np.isfinite(curvature).all() and (curvature > 0).all()):
        safe = np.where(np.isfinite(curvature) & (curvature > 0), curvature, np.inf)
        return np.clip(np.where(np.isfinite(gradient), -gradient, 0.0) / safe, -0.75, 0.75)
    hessian = np.diag(curvature)
    if n < _MOST_COUPLED:
        for i in range(n):
            for k in range(i):
                mixed = at((i, 1.0), (k, 1.0)) - at((i, 1.0), (k, -1.0)) - at((i, -1.0), (k, 1.0))
                hessian[i, k] = hessian[k, i] = 0.25 * (mixed + at((i, -1.0), (k, -1.0)))
    if np.linalg.eigvalsh(hessian).min() <= 0.05 * curvature.min():
        hessian = np.diag(curvature)
    return np.clip(-np.linalg.solve(hessian, gradient), -0.75, 0.75)


def _on_every_frame(rays: Array, frames: NDArray[np.int64]) -> Array:
    """Rays on contiguous frame numbers, NaN where frames were dropped."""
    if frames.size == 0 or frames[-1] - frames[0] + 1 == frames.size:
        return np.ascontiguousarray(rays)
    full = np.full((rays.shape[0], int(frames[-1] - frames[0]) + 1, *rays.shape[2:]), np.nan)
    full[:, frames - frames[0]] = rays
    return full


def apply_offsets(observations: Observations2D, offsets: TimeOffsets) -> Observations2D:
    """Observations as if every camera had kept the reference's clock.

    Pixels between two frames are interpolated linearly where both exist.
    """
    frames = observations.frames
    uv, score = observations.uv_px.copy(), None if observations.score is None else observations.score.copy()
    for v, shift in enumerate(offsets.frames):
        if shift == 0:
            continue
        wanted = frames + shift
        low = np.floor(wanted + 1e-9).astype(np.int64)
        part = np.clip(wanted - low, 0.0, 1.0).astype(np.float32)
        part[part < 1e-6] = 0.0
        a, has_a = _position(frames, low)
        b, has_b = _position(frames, np.where(part > 0, low + 1, low))
        both = (has_a & has_b)[:, None]
        weight = part[:, None]
        mixed = (1 - weight[..., None]) * observations.uv_px[v, a] + weight[..., None] * observations.uv_px[v, b]
        uv[v] = np.where(both[..., None], mixed, np.nan)
        if score is not None and observations.score is not None:
            lowest = np.minimum(observations.score[v, a], observations.score[v, b])
            score[v] = np.where(both, lowest, 0.0)
    return replace(observations, uv_px=uv, score=score)


def _position(frames: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    position = np.clip(np.searchsorted(frames, wanted), 0, frames.size - 1)
    return position, frames[position] == wanted
