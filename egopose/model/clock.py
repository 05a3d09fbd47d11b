"""Time for the temporal transformer, in plain numpy: rotations, masks, and the clock of a streaming cache."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError

FULL = -1
"""Look-ahead that stands for "the whole clip"."""

SLOWEST_RAD_S, FASTEST_RAD_S = 0.3, 30.0


def time_angles(times_s: NDArray[np.float64], head_dim: int) -> NDArray[np.float64]:
    """Rotation angles (..., head_dim / 2) of time stamps (...,), float64 so that long clips lose nothing."""
    rates = np.geomspace(SLOWEST_RAD_S, FASTEST_RAD_S, head_dim // 2)
    return np.asarray(times_s, dtype=np.float64)[..., None] * rates


def time_rotation(times_s: NDArray[np.float64], head_dim: int) -> NDArray[np.float32]:
    """Cosines and sines (..., 2, head_dim / 2) float32 of :func:`time_angles`."""
    angles = time_angles(times_s, head_dim)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-2).astype(np.float32)


def attention_masks(
    times_s: NDArray[np.float64],
    *,
    ring: int,
    window_s: float,
    lookahead: int | None = 0,
    step: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who sees whom, for the first layer and for the others.

    The look-ahead is spent in the first layer alone: a delay of k steps stays k however deep the network is.

    Args:
        times_s: (T,) seconds.
        ring: Steps that a streaming cache holds.
        window_s: Largest time difference, seconds.
        lookahead: Steps ahead that the first layer sees; None lets every layer see both ways without the limit of
            the ring.
        step: (T,) running numbers of the steps; by default 0 .. T-1.

    Returns:
        Two (T, T) bool masks, [query, key].
    """
    times = np.asarray(times_s, dtype=np.float64)
    number = np.arange(times.size) if step is None else np.asarray(step)
    near = np.abs(times[:, None] - times[None, :]) <= window_s + 1e-9
    if lookahead is None:
        return near, near
    ahead = number[None, :] - number[:, None]
    masks = []
    for look in (lookahead, 0):
        masks.append(near & (ahead <= look) & (ahead > look - ring))
    return masks[0], masks[1]


def split_lookahead(lookahead: int) -> tuple[int, int]:
    """How a look-ahead of k steps is spent: on head-pose features, and on the first temporal layer."""
    return lookahead // 2, lookahead - lookahead // 2


def horizon(times_s: NDArray[np.float64], lookahead: int) -> NDArray[np.float64] | None:
    """Latest time that each step's head features may use, (T,), or None for a full view."""
    if lookahead == FULL:
        return None
    ahead = split_lookahead(lookahead)[0]
    return times_s[np.minimum(np.arange(times_s.size) + ahead, times_s.size - 1)]


class RingClock:
    """Times and numbers of the steps in a cache, and the masks that follow from them.

    The numeric twin of :func:`attention_masks` for one step at a time; plain numpy, so a run without torch uses it
    as well.
    """

    def __init__(self, ring: int, window_s: float) -> None:
        self.ring, self.window_s = ring, window_s
        self.times = np.full(ring, -np.inf)
        self.numbers = np.full(ring, np.iinfo(np.int64).min // 2, dtype=np.int64)

    def push(self, number: int, time_s: float) -> None:
        """Note a new step.

        Raises:
            EgoposeError: Time does not move forward.
        """
        if not math.isfinite(time_s) or time_s <= self.times[-1]:
            raise EgoposeError(
                f"stream: step {number} is at {time_s} s, not after the one before ({self.times[-1]:.6f} s); "
                "feed frames in order, each with its own time"
            )
        self.times = np.append(self.times[1:], time_s)
        self.numbers = np.append(self.numbers[1:], number)

    def allow(self, number: int, time_s: float, lookahead: int) -> NDArray[np.bool_]:
        """(ring,) which cached steps the given step sees with a look-ahead."""
        ahead = self.numbers - number
        near = np.abs(self.times - time_s) <= self.window_s + 1e-9
        return near & (ahead <= lookahead) & (ahead > lookahead - self.ring)
