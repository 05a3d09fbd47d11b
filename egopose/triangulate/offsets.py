"""When: cameras that started late, early, or between two frames of the others.

A camera that is off in time sees moving joints in the wrong place; so does one that is turned a little. Both are
therefore estimated together: the lags of all pairs of cameras give whole-frame clocks
(:mod:`egopose.triangulate.lags`), from which a bundle adjustment of poses, joints and clocks goes on between the frames
(:mod:`egopose.triangulate.bundle`). Its cameras are private: only the clocks are used. Every other set of clocks that
the pairs nearly agree with is adjusted as well, so the report can say how clear the answer is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera, Rig
from egopose.observations import Observations2D
from egopose.triangulate.bundle import Bundle, adjust
from egopose.triangulate.lags import consistent_clocks, pair_profiles
from egopose.triangulate.sides import world_rays
from egopose.triangulate.solve import triangulate_points

Array = NDArray[np.float64]

_LEAST_FRAMES = 12
_MOMENTS = 200
_JOINTS = 900
_LEAST_JOINTS = 60
_ROUNDS = 6
_LOSS_PX = 3.0
_CANDIDATES = 3
_BLOCKS = 6
# variance of the slope over five frames relative to that of the difference of the two slopes it is made of
_SLOPE_NOISE = 0.16
_MOST_SD = 0.35
_LEAST_PART = 0.05
_LEAST_GAIN = 0.003
_CLEAR_GAIN = 0.02
_CLEAR_DEVIATIONS = 3.0


@dataclass(frozen=True)
class TimeOffsets:
    """Offsets found.

    Attributes:
        views: View names.
        frames: Frames to add to the rig's frame number to find the same moment in each view; 0 where not reliable.
        reference: The view that kept its clock.
        cost_before: Root mean capped squared residual in pixels with no offset, cameras adjusted all the same.
        cost_after: The same with the offsets.
        reliable: Per view, whether motion determines its clock (a person standing still says nothing about time).
        sd_frames: Per view, standard deviation of its clock against the reference's; infinite where not determined.
        clear: Whether no other set of clocks fits nearly as well.
        runner_up: The best other set of clocks that the pairs of views propose, as ``frames``, or None.
        runner_up_cost: Its cost, as ``cost_after``.
    """

    views: tuple[str, ...]
    frames: tuple[float, ...]
    reference: str
    cost_before: float
    cost_after: float
    reliable: tuple[bool, ...]
    sd_frames: tuple[float, ...] = ()
    clear: bool = True
    runner_up: tuple[float, ...] | None = None
    runner_up_cost: float | None = None


@dataclass(frozen=True, eq=False)
class _Fit:
    """One adjustment: cameras and clocks, the clocks' standard deviations, and (V, F, J) residuals at the moments."""

    cameras: list[Camera]
    clocks: Array
    sd: Array
    residual_px: Array
    sigma_px: float

    def cost(self, cap_px: float) -> Array:
        """Mean capped squared residual of each moment (F,)."""
        r2 = np.where(np.isfinite(self.residual_px), self.residual_px, cap_px) ** 2
        return np.minimum(r2, cap_px**2).mean((0, 2))


class _Clip:
    """2D joints on contiguous frames, and the moments at which they are looked at."""

    def __init__(self, rig: Rig, observations: Observations2D, seed: int) -> None:
        self.cameras = [rig[name] for name in observations.views]
        self.uv = _on_every_frame(observations.uv_px, observations.frames)
        self.score = None if observations.score is None else _on_every_frame(observations.score, observations.frames)
        enough = np.flatnonzero((np.isfinite(self.uv[..., 0]).sum(0) >= 3).any(1))
        if enough.size > _MOMENTS:
            # one from each stretch of the take
            rng = np.random.default_rng(seed)
            enough = np.array([rng.choice(part) for part in np.array_split(enough, _MOMENTS)])
        self.moments = enough

    def read(self, clocks: Array, steps: Sequence[int]) -> tuple[Array, Array | None]:
        """Pixels (V, S, F, J, 2) and scores of all views at whole-frame clocks and some frames about each moment."""
        V, T = self.uv.shape[:2]
        at = self.moments + np.asarray(steps)[:, None]
        uv, score = [], []
        for v in range(V):
            where = at + int(clocks[v])
            inside = (where >= 0) & (where < T)
            safe = np.clip(where, 0, T - 1)
            uv.append(np.where(inside[..., None, None], self.uv[v][safe], np.nan).astype(np.float64))
            if self.score is not None:
                score.append(np.where(inside[..., None], self.score[v][safe], 0.0).astype(np.float64))
        return np.stack(uv), np.stack(score) if score else None


def find_offsets(rig: Rig, observations: Observations2D, *, max_frames: int = 15, seed: int = 0) -> TimeOffsets:
    """Estimate the time offset of each view together with small corrections of the cameras.

    Args:
        rig: The cameras.
        observations: 2D joints on each camera's own frame numbers.
        max_frames: Largest lag between two cameras that is looked for.
        seed: Of the samples of joints and moments.
    """
    V, T = observations.n_views, observations.n_frames
    seen = np.isfinite(observations.uv_px[..., 0])
    ref = int(np.argmax(seen.sum((1, 2))))
    nothing = TimeOffsets(
        observations.views, (0.0,) * V, observations.views[ref], float("nan"), float("nan"),
        tuple(v == ref for v in range(V)), tuple(0.0 if v == ref else float("inf") for v in range(V)),
    )  # fmt: skip
    if V < 3 or T < _LEAST_FRAMES:
        return nothing
    reach = min(max_frames, max(T // 4, 1))
    origins, rays, focal = world_rays(rig, observations)
    profiles = pair_profiles(origins, _on_every_frame(rays, observations.frames), focal, reach, seed)
    candidates = list(consistent_clocks(profiles, V, ref, reach, seed)[:_CANDIDATES])
    if not any(np.abs(c).max() < 2 for c in candidates):
        candidates.append(np.zeros(V))
    clip = _Clip(rig, observations, seed)
    fits = [fit for start in candidates if (fit := _fit(clip, start, ref, seed)) is not None]
    if not fits:
        return nothing
    cap = 4 * np.sqrt(2.0) * min(fit.sigma_px for fit in fits)
    fits.sort(key=lambda fit: float(fit.cost(cap).mean()))
    best = fits[0]
    others = [fit for fit in fits[1:] if np.abs(fit.clocks - best.clocks).max() > 1]
    equals = [other for other in others if not _better(best.cost(cap), other.cost(cap))]
    given = next((other for other in equals if np.abs(other.clocks).max() < 1), None)
    if given is not None:
        # nothing speaks against the clocks as they were given
        others = [best, *(other for other in others if other is not given)]
        best = given
    reliable = best.sd < _MOST_SD
    reliable[ref] = True
    # of a clock that nothing determines, another value is no rival
    rivals = [other for other in equals if np.abs(other.clocks - best.clocks)[reliable].max() > 1]
    still = _fit(clip, np.zeros(V), ref, seed, clocks=False)
    before_cost, after_cost = (float(fit.cost(cap).mean()) for fit in (still or best, best))
    reference, sd = ref, best.sd
    shifts = np.where(reliable, best.clocks, 0.0)
    if before_cost - after_cost < _LEAST_GAIN * after_cost:
        shifts[:] = 0.0
    else:
        # the clock that most cameras share, not that of a camera that happens to see most
        middle = float(np.median(shifts[reliable]))
        reference = int(np.argmin(np.where(reliable, np.abs(shifts - middle), np.inf)))
        sd = np.hypot(sd, sd[reference])
        sd[reference] = 0.0
        shifts = np.where(reliable, shifts - shifts[reference], 0.0)
        # small parts come from calibration and noise as easily as from time
        shifts[np.abs(shifts) < np.maximum(_LEAST_PART, 3 * sd)] = 0.0
        whole = np.abs(shifts - np.round(shifts)) < np.maximum(_LEAST_PART, 3 * sd)
        shifts = np.where(whole, np.round(shifts), shifts)
    if not shifts.any():
        after_cost = before_cost
    runner = others[0] if others else None
    return TimeOffsets(
        observations.views, tuple(float(s) for s in shifts), observations.views[reference],
        float(np.sqrt(before_cost)), float(np.sqrt(after_cost)), tuple(bool(r) for r in reliable),
        tuple(float(s) for s in sd), not rivals,
        None if runner is None else tuple(float(c) for c in runner.clocks - runner.clocks[reference]),
        None if runner is None else float(np.sqrt(runner.cost(cap).mean())),
    )  # fmt: skip


def _better(one: Array, other: Array) -> bool:
    """Whether a cost per moment is lower than another by more than chance, and by enough to matter."""
    gain = np.array([part.mean() for part in np.array_split(other - one, _BLOCKS) if part.size])
    error = float(gain.std(ddof=1) / np.sqrt(gain.size)) if gain.size > 1 else np.inf
    return bool(gain.mean() > _CLEAR_DEVIATIONS * error and gain.mean() > _CLEAR_GAIN * one.mean())


def _fit(clip: _Clip, start: Array, ref: int, seed: int, clocks: bool = True) -> _Fit | None:
    """Adjust cameras, joints and (unless held) clocks in turns of triangulation and bundle adjustment."""
    V, J = clip.uv.shape[0], clip.uv.shape[2]
    F = clip.moments.size
    cameras, now = list(clip.cameras), start.astype(np.float64)
    velocity = np.zeros((F, J, 3))
    points = np.full((F, J, 3), np.nan)
    rng = np.random.default_rng(seed)
    steps = (-2, -1, 0, 1, 2)
    done = None
    for _ in range(_ROUNDS):
        whole = np.round(now)
        part = now - whole
        uv, score = clip.read(whole, steps)
        if part.any():
            # where each view would have seen the joint at the whole frame
            for v, camera in enumerate(cameras):
                drift = camera.project(points + 0.5 * velocity) - camera.project(points - 0.5 * velocity)
                uv[v] += np.where(np.isfinite(drift), part[v] * drift, 0.0)
        solved = triangulate_points(
            cameras, uv.reshape(V, -1, 2), None if score is None else score.reshape(V, -1), seed=seed, threads=1
        )
        at = solved.points.reshape(len(steps), F, J, 3)
        three = (solved.used.sum(0) >= 3).reshape(len(steps), F, J)[2]
        near, far = (at[3] - at[1]) / 2, (at[4] - at[0]) / 4
        points, velocity = at[2], (2 * (at[4] - at[0]) + at[3] - at[1]) / 10
        good = np.isfinite(velocity).all(-1) & three
        odd = np.linalg.norm(near - far, axis=-1)
        if good.any():
            # a wrong point makes a wrong velocity
            good &= odd <= 6 * np.median(odd[good])
        index = np.argwhere(good)
        if len(index) < _LEAST_JOINTS:
            return None
        index = index[np.sort(rng.choice(len(index), min(_JOINTS, len(index)), replace=False))]
        f, j = index[:, 0], index[:, 1]
        middle, _ = clip.read(whole, (0,))
        weight = solved.used.reshape(V, len(steps), F, J)[:, 2][:, f, j].astype(np.float64)
        done = adjust(
            cameras, ref, middle[:, 0][:, f, j], weight, points[f, j], loss_px=_LOSS_PX,
            velocity=velocity[f, j] if clocks else None, clocks=part,
        )  # fmt: skip
        before, now, cameras = now, whole + done.clocks, done.cameras
        now = np.clip(now, start - 6, start + 6)
        if np.abs(now - before).max() < 0.01 and np.array_equal(np.round(now), whole):
            break
    assert done is not None
    sd = np.zeros(V)
    if clocks:
        sd = np.maximum(
            _known_motion(cameras, points[f, j], near[f, j] - far[f, j], weight, done),
            _jackknife(cameras, ref, middle[:, 0][:, f, j], weight, done.points, velocity[f, j], done.clocks),
        )
        sd[ref] = 0.0
    return _Fit(cameras, now, sd, _residuals(clip, cameras, now, points, velocity, seed), done.sigma_px)


def _known_motion(cameras: list[Camera], points: Array, noise: Array, weight: Array, done: Bundle) -> Array:
    """Standard deviations of the clocks without what the noise of the velocities pretends to know.

    A wrong velocity fits no camera's turn, so it seems to tell time from calibration. The difference of two estimates
    of the velocity that share no frame says how much of the information is of that kind.
    """
    sd = np.full(len(cameras), np.inf)
    for v, camera in enumerate(cameras):
        seeming = camera.project(points + 0.5 * noise) - camera.project(points - 0.5 * noise)
        pretended = _SLOPE_NOISE * float(np.nansum(weight[v][:, None] * seeming**2)) / done.sigma_px**2
        if done.clock_sd[v] > 0:
            known = 1 / done.clock_sd[v] ** 2 - pretended
            sd[v] = 1 / np.sqrt(known) if known > pretended else np.inf
    return sd


def _jackknife(
    cameras: list[Camera], ref: int, uv: Array, weight: Array, points: Array, velocity: Array, clocks: Array
) -> Array:
    """Standard deviations of the clocks from what each sixth of the take changes: slow errors are not independent."""
    N = len(points)
    found = []
    for block in np.array_split(np.arange(N), _BLOCKS):
        keep = np.delete(np.arange(N), block)
        done = adjust(
            cameras, ref, uv[:, keep], weight[:, keep], points[keep], loss_px=_LOSS_PX, velocity=velocity[keep],
            clocks=clocks, steps=4,
        )  # fmt: skip
        found.append(done.clocks)
    spread = np.array(found) - np.mean(found, axis=0)
    return np.sqrt((_BLOCKS - 1) / _BLOCKS * (spread**2).sum(0))


def _residuals(clip: _Clip, cameras: list[Camera], clocks: Array, points: Array, velocity: Array, seed: int) -> Array:
    """(V, F, J) residuals of all views at the moments, agreeing or not; NaN where not seen or without a point."""
    whole = np.round(clocks)
    uv = clip.read(whole, (0,))[0][:, 0]
    for v, camera in enumerate(cameras):
        drift = camera.project(points + 0.5 * velocity) - camera.project(points - 0.5 * velocity)
        uv[v] += np.where(np.isfinite(drift), (clocks[v] - whole[v]) * drift, 0.0)
    V = len(cameras)
    at = triangulate_points(cameras, uv.reshape(V, -1, 2), seed=seed, threads=1).points.reshape(points.shape)
    return np.stack([np.linalg.norm(camera.project(at) - uv[v], axis=-1) for v, camera in enumerate(cameras)])


def _on_every_frame(values: NDArray, frames: NDArray[np.int64]) -> NDArray:
    """(V, T, ...) values on contiguous frame numbers, NaN where frames were dropped."""
    if frames.size == 0 or frames[-1] - frames[0] + 1 == frames.size:
        return np.ascontiguousarray(values)
    full = np.full((values.shape[0], int(frames[-1] - frames[0]) + 1, *values.shape[2:]), np.nan, dtype=values.dtype)
    full[:, frames - frames[0]] = values
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
