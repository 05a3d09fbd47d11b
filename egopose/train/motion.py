"""Stage one: windows of head motion with their joints, drawn anew from augmented clips."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.model.clock import FULL
from egopose.model.imu import imu_features, simulate_imu
from egopose.train.augment import augment, head_pose_noise
from egopose.train.batch import Batch, motion_window, pad, stack, target_arrays
from egopose.train.config import TrainConfig
from egopose.train.windows import MotionClip, sampling_weights

AROUND_S = 4.1
"""Seconds of the past that a window brings along for its features; of the future a quarter is enough."""

STEPS_PER_POOL = 40
"""Training steps that share one set of augmented clips."""

IMU_HZ = 100.0


def draw_mode(rng: np.random.Generator) -> int:
    """Look-ahead of a window: causal, full, or 1 to 8 steps."""
    kind = rng.random()
    return 0 if kind < 0.4 else FULL if kind < 0.85 else int(rng.integers(1, 9))


class MotionSource:
    """Batches of stage one; batch ``step`` depends on the seed, the step and the process alone."""

    def __init__(self, clips: list[MotionClip], config: TrainConfig, *, rank: int = 0) -> None:
        """Keep the clips.

        Raises:
            EgoposeError: There are none of at least four steps.
        """
        self.clips = [clip for clip in clips if len(clip) >= 4]
        if not self.clips:
            raise EgoposeError("training: no motion clip of at least four steps; set motion: to npz files")
        self.config, self.rank = config, rank
        self.weights = sampling_weights(self.clips, power=config.subject_power, subjects=config.subject_weight)
        self._pool: tuple[int, list[tuple[MotionClip, MotionClip]]] = (-1, [])

    def _augmented(self, step: int) -> list[tuple[MotionClip, MotionClip]]:
        number = step // STEPS_PER_POOL
        if self._pool[0] != number:
            rng = np.random.default_rng((self.config.seed, 1, self.rank, number))
            self._pool = (number, [augment(clip, self.config.augment, rng) for clip in self.clips])
        return self._pool[1]

    def batch(self, step: int) -> Batch:
        """The windows of a training step."""
        rng = np.random.default_rng((self.config.seed, 2, self.rank, step))
        pool = self._augmented(step)
        picked = rng.choice(len(pool), size=self.config.batch, p=self.weights)
        return stack([self.window(*pool[int(i)], rng) for i in picked])

    def window(self, dense: MotionClip, clip: MotionClip, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """One random window of an augmented clip."""
        config, length = self.config, self.config.window
        start = int(rng.integers(0, max(1, len(clip) - length + 1)))
        stop = min(len(clip), start + length)
        low = int(np.searchsorted(clip.times_s, clip.times_s[start] - AROUND_S * rng.random()))
        high = int(np.searchsorted(clip.times_s, clip.times_s[stop - 1] + AROUND_S / 4, side="right"))
        times, true = clip.times_s[low:high], clip.T_world_camera[low:high]
        seen = true.copy()
        if rng.random() < 0.5:
            seen = head_pose_noise(seen, rng, metres=0.002 * rng.random(), radians=0.003 * rng.random())
        absent = rng.random()
        if absent < config.head_drop:
            seen = np.full_like(seen, np.nan)
        elif absent < 1.5 * config.head_drop:
            a = int(rng.integers(start - low, stop - low))
            seen[a : a + int(rng.integers(1, 30))] = np.nan
        out = motion_window(
            times, seen, slice(start - low, stop - low), length, lookahead=draw_mode(rng),
            floor_known=rng.random() >= config.floor_drop, model=config.model,
        )  # fmt: skip
        inside = slice(start, stop)
        out.update(target_arrays(clip.T_world_camera[inside], clip.joints[inside], clip.feet[inside], length))
        out.update(self._imu(dense, clip.times_s[inside], length, rng))
        return out

    def _imu(
        self, dense: MotionClip, times_s: NDArray[np.float64], length: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        keep = rng.random() < self.config.imu_keep
        first, last = times_s[0] - 0.6, times_s[-1] + 0.1
        near = dense.cut(slice(*np.searchsorted(dense.times_s, (first, last)).tolist()))
        if not keep or len(near) < 3:
            features, known = imu_features(times_s, np.zeros(0), np.zeros((0, 3)), np.zeros((0, 3)))
        else:
            force, turn = simulate_imu(near.times_s, near.T_world_camera)
            samples = np.arange(near.times_s[0], near.times_s[-1], 1 / IMU_HZ)
            force, turn = (
                np.stack([np.interp(samples, near.times_s, v[:, k]) for k in range(3)], axis=1) for v in (force, turn)
            )
            bias = rng.standard_normal((2, 3)) * np.array([[0.1], [0.01]])
            features, known = imu_features(
                times_s,
                samples,
                force + bias[0] + 0.2 * rng.standard_normal(force.shape),
                turn + bias[1] + 0.02 * rng.standard_normal(turn.shape),
            )
        return {"imu": pad(features, length), "imu_known": pad(known, length)}
