"""Sums, counts and histograms of the fused pass, tile by tile; exact in any order.

A distance below 256 is rounded to a multiple of 2^-43 and summed as a whole number; a longer one is split into
multiples of 2^-20 and of 2^-52. Adding such numbers is exact, so a sum does not depend on the order, the chunks, the
threads or the shards.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .simd import BARE, LANES, bits, ceiling, count_true, keep, select, size, splat
from .simd_memory import add_bits, add_whole, load, store, store_whole

METRICS = ("mpjpe", "root_mpjpe", "n_mpjpe", "pa_mpjpe", "rigid_mpjpe", "mpjve", "accel_error", "jitter")
"""What the rows of the results are; the last three are per frame, per frame squared and cubed."""

M = len(METRICS)
KINDS = 5
"""Which joints count: as they are, with the root, and with one, two and three frames before."""

HIGH = 2.0**20
LOW = 2.0**52
REACH = 256.0
_SHIFT = 768.0
"""Added to less than 256 it leaves a multiple of 2^-43, whose bits are a whole number beside those of the sum."""

_SHIFT_BITS = int(np.float64(_SHIFT).view(np.int64))
_FULL = (1 << LANES) - 1
DRAIN = 2048
"""After so many tiles the sums of bits and the short counters are emptied; they cannot overflow before."""


@nb.njit(**BARE)
def kind_of(m):
    """Which joints a metric counts."""
    return 0 if m in (0, 3, 4) else (1 if m < 3 else m - 3)


@nb.njit(**BARE)
def means(J, e, totals, counts):
    """Means of the frames of a tile, behind the joints; whether every number is finite and within reach."""
    W = LANES
    one = splat(1.0)
    within = _FULL
    for kind in range(KINDS):
        seen = load(totals, (M + kind) * W)
        some = seen > 0.5
        counts[KINDS * J + kind] += count_true(some)
        share = keep(some, one / seen)
        for m in range(M):
            if kind_of(m) == kind:
                total = load(totals, m * W)
                within &= bits(total < REACH)
                store(e, (m * (J + 1) + J) * W, total * share)
    return within == _FULL


@nb.njit(**BARE)
def write_means(J, e, totals, frame, lanes, frames):
    """Means of the frames of a tile for the caller, NaN where undefined or not finite."""
    for m in range(M):
        for lane in range(lanes):
            mean = e[(m * (J + 1) + J) * LANES + lane]
            some = totals[(M + kind_of(m)) * LANES + lane] > 0.5
            frames[m, frame + lane] = mean if some and mean < np.inf else np.nan


@nb.njit(**BARE)
def add_rows(rows, e, acc):
    """Add a tile to the lane-wise sums of each row."""
    for r in range(rows):
        add_bits(acc, r * LANES, load(e, r * LANES) + _SHIFT)


@nb.njit(**BARE)
def add_carefully(rows, e, wide, bad):
    """Add a tile with numbers that are not finite or out of reach; counts the former."""
    W = LANES
    # adding and taking away these rounds to multiples of 2^-20 and 2^-52
    big, small = 1.5 * 2.0**32, 1.5
    for r in range(rows):
        x = load(e, r * W)
        fine = x < np.inf
        d = keep(fine, x)
        d = select(d < REACH, (d + _SHIFT) - _SHIFT, d)
        h = (d + big) - big
        add_whole(wide, 2 * r * W, h * HIGH)
        add_whole(wide, (2 * r + 1) * W, (((d - h) + small) - small) * LOW)
        bad[r] += LANES - count_true(fine)


@nb.njit(**BARE)
def count_tile(e, J, which, limits, index, histogram):
    """Add a tile to histograms (len(which), J, len(limits) + 1): bin k is within limit k and not within k - 1.

    The last bin holds what is beyond every limit or not finite; what does not count goes to the first.
    """
    W = LANES
    steps = limits.size
    low = splat(limits[0])
    width = (limits[steps - 1] - limits[0]) / (steps - 1)
    per = splat(1.0 / width)
    zero, one, last = splat(0.0), splat(1.0), splat(np.float64(steps))
    for i in range(which.size):
        for j in range(J):
            x = load(e, (which[i] * (J + 1) + j) * W)
            t = (x - low) * per
            k = ceiling(t)
            near = bits((size((k - t) - 0.5) > 0.4999999) & (x > zero))
            k = select(k < last, k, last)
            k = select(k > zero, k, zero)
            if near != 0:
                # rounding is put right against the limits themselves
                k = k + keep((x > _limit(k, width, low)) & (k < last), one)
                k = k - keep((x <= _limit(k - one, width, low)) & (k > zero), one)
            store_whole(index, j * W, k + np.float64((i * J + j) * (steps + 1)))
        for lane in range(W):
            for j in range(J):
                histogram[index[j * W + lane]] += 1


@nb.njit(**BARE)
def _limit(k, width, low):
    """Limit number k, rounded as ``np.linspace`` rounds it."""
    return k * width + low


@nb.njit(**BARE)
def drain_bins(small, found):
    """Short counters, which stay in the first cache, into long ones."""
    for i in range(small.size):
        found[i] += small[i]
        small[i] = 0


@nb.njit(**BARE)
def drain(rows, tiles, acc, wide, sums):
    """Lane-wise sums into integers (rows, 2), and back to nothing."""
    for r in range(rows):
        for lane in range(LANES):
            k = acc[r * LANES + lane] - tiles * _SHIFT_BITS
            sums[2 * r] += (k >> 23) + wide[2 * r * LANES + lane]
            sums[2 * r + 1] += ((k & 0x7FFFFF) << 9) + wide[(2 * r + 1) * LANES + lane]
            acc[r * LANES + lane] = 0
            wide[2 * r * LANES + lane] = 0
            wide[(2 * r + 1) * LANES + lane] = 0
