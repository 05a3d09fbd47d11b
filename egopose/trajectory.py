"""Head poses in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose import rigid
from egopose.errors import EgoposeError

Outside = Literal["error", "nearest", "nan"]


FARTHEST_M = 1e9
"""Positions beyond this are damage: positions on the earth stay below 1e7 whatever their origin."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses of the head camera in the world over time.

    Camera axes are x right, y down, z forward; the world is metric with z up. A device pose of another frame is
    brought to the camera by :meth:`moved`.

    Attributes:
        times_s: (T,) float64 seconds, strictly increasing.
        T_world_camera: (T, 4, 4) float64, rotations orthonormal.
        max_gap_s: Neighbours further apart than this bound a gap, seconds; by default ten median steps, at least
            a tenth of a second.
    """

    times_s: NDArray[np.float64]
    T_world_camera: NDArray[np.float64]
    max_gap_s: float | None = None

    def __init__(
        self, times_s: ArrayLike, T_world_camera: ArrayLike | None = None, *, max_gap_s: float | None = None
    ) -> None:
        """Check once and keep.

        Args:
            times_s: (T,) seconds, strictly increasing, T >= 1.
            T_world_camera: (T, 4, 4) or (T, 3, 4), metres.
            max_gap_s: See the class.

        Raises:
            EgoposeError: Shapes disagree, times do not increase, a pose is not finite or not rigid.
        """
        if T_world_camera is None:
            raise EgoposeError(
                "trajectory: got times without poses; expected Trajectory(times_s, T_world_camera) (a file is read by "
                "egopose.load)"
            )
        try:
            times = np.array(times_s, dtype=np.float64)
            poses = np.asarray(T_world_camera, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise EgoposeError(
                "trajectory: times or poses are not numbers; expected (T,) seconds and (T, 4, 4) metres"
            ) from error
        if times.ndim != 1 or times.size == 0:
            raise EgoposeError(f"trajectory: times have shape {times.shape}; expected (T,) with at least one time")
        if poses.ndim != 3 or poses.shape[0] != times.size:
            raise EgoposeError(
                f"trajectory: {times.size} times but poses of shape {poses.shape}; expected ({times.size}, 4, 4)"
            )
        if not np.isfinite(times).all():
            raise EgoposeError(f"trajectory: time {int(np.flatnonzero(~np.isfinite(times))[0])} is not finite")
        backwards = np.flatnonzero(np.diff(times) <= 0)
        if backwards.size:
            i = int(backwards[0])
            raise EgoposeError(
                f"trajectory: times must increase, but entry {i + 1} ({times[i + 1]:.6f} s) is not after entry {i} "
                f"({times[i]:.6f} s); sort the file and drop repeated rows"
            )
        broken = np.flatnonzero(~np.isfinite(poses).all(axis=(1, 2)))
        if broken.size:
            raise EgoposeError(
                f"trajectory: {broken.size} poses hold NaN or infinity, the first is entry {int(broken[0])} at "
                f"{times[broken[0]]:.6f} s; drop those rows, the gap is then bridged or reported"
            )
        if np.abs(poses).max(initial=0.0) > FARTHEST_M:
            raise EgoposeError(
                f"trajectory: a position is {np.abs(poses).max():.3g} m from the origin; at most {FARTHEST_M:g} is read"
            )
        object.__setattr__(self, "times_s", times)
        object.__setattr__(self, "T_world_camera", rigid.check_transform(poses, "trajectory", tolerance=1e-3))
        if max_gap_s is None:
            step = float(np.median(np.diff(times))) if times.size > 1 else 0.0
            max_gap_s = max(10 * step, 0.1)
        if isinstance(max_gap_s, str) or not max_gap_s > 0:
            raise EgoposeError(f"trajectory: max_gap_s is {max_gap_s!r}; expected a positive number of seconds")
        object.__setattr__(self, "max_gap_s", float(max_gap_s))
        times.setflags(write=False)
        self.T_world_camera.setflags(write=False)

    def __len__(self) -> int:
        return self.times_s.size

    def __repr__(self) -> str:
        return f"Trajectory({len(self)} poses, {self.times_s[0]:.3f} s to {self.times_s[-1]:.3f} s)"

    def gaps(self) -> list[tuple[float, float]]:
        """Stretches (start_s, end_s) without poses that are longer than ``max_gap_s``."""
        assert self.max_gap_s is not None
        wide = np.flatnonzero(np.diff(self.times_s) > self.max_gap_s)
        return [(float(self.times_s[i]), float(self.times_s[i + 1])) for i in wide]

    def at(
        self, times_s: ArrayLike, *, extrapolate: bool = False, gaps: Outside = "error", outside: Outside = "error"
    ) -> NDArray[np.float64]:
        """Poses at given times, interpolated on SE(3).

        Args:
            times_s: (N,) or scalar, seconds.
            extrapolate: Hold the first and last pose outside the recorded span (same as ``outside="nearest"``).
            gaps: What happens inside a gap: refuse, take the nearest pose, or NaN.
            outside: The same for times outside the span; half a median step beyond each end always counts as inside.

        Returns:
            (N, 4, 4) float64, or (4, 4) for a scalar.

        Raises:
            EgoposeError: A time lies outside the span or in a gap and the policy is "error".
        """
        wanted = np.asarray(times_s, dtype=np.float64)
        flat = np.atleast_1d(wanted).ravel()
        if extrapolate:
            outside = "nearest"
        first, last = self.times_s[0], self.times_s[-1]
        slack = 0.5 * float(np.median(np.diff(self.times_s))) if len(self) > 1 else 0.0
        slack += 1e-9
        off = ~((flat >= first - slack) & (flat <= last + slack))
        if off.any() and outside == "error":
            bad = flat[off][0]
            raise EgoposeError(
                f"trajectory: {int(off.sum())} of {flat.size} times lie outside it, such as {bad:.6f} s (it spans "
                f"{first:.6f} s to {last:.6f} s); trim the clip or ask for the nearest pose explicitly"
            )
        clipped = np.clip(np.where(np.isfinite(flat), flat, first), first, last)
        if len(self) == 1:
            poses = np.repeat(self.T_world_camera, flat.size, axis=0)
            in_gap = np.zeros(flat.size, dtype=bool)
        else:
            right = np.clip(np.searchsorted(self.times_s, clipped, side="left"), 1, len(self) - 1)
            t0, t1 = self.times_s[right - 1], self.times_s[right]
            alpha = (clipped - t0) / (t1 - t0)
            assert self.max_gap_s is not None
            in_gap = (t1 - t0 > self.max_gap_s) & (alpha > 0) & (alpha < 1)
            if in_gap.any() and gaps == "error":
                i = int(np.flatnonzero(in_gap)[0])
                raise EgoposeError(
                    f"trajectory: time {flat[i]:.6f} s falls into a gap from {t0[i]:.6f} s to {t1[i]:.6f} s "
                    f"({t1[i] - t0[i]:.3f} s without poses); choose a policy for gaps: 'nearest' or 'nan'"
                )
            alpha = np.where(in_gap, np.round(alpha), alpha)
            poses = rigid.interpolate(self.T_world_camera[right - 1], self.T_world_camera[right], alpha)
        if outside == "nan":
            poses[off] = np.nan
        if gaps == "nan":
            poses[in_gap] = np.nan
        return poses.reshape(*wanted.shape, 4, 4)

    def moved(self, T_camera_device: ArrayLike) -> Trajectory:
        """Trajectory of a device rigidly fixed to this camera: ``T_world_camera @ T_camera_device`` at each time."""
        offset = rigid.check_transform(T_camera_device, "T_camera_device")
        return Trajectory(self.times_s, self.T_world_camera @ offset, max_gap_s=self.max_gap_s)

    def in_world(self, T_new_world: ArrayLike) -> Trajectory:
        """The same path seen from another world frame."""
        change = rigid.check_transform(T_new_world, "T_new_world")
        return Trajectory(self.times_s, change @ self.T_world_camera, max_gap_s=self.max_gap_s)

    def shifted(self, seconds: float) -> Trajectory:
        """The same poses with ``seconds`` added to each time."""
        return Trajectory(self.times_s + seconds, self.T_world_camera, max_gap_s=self.max_gap_s)
