"""Every metric in one pass: 64 frames at a time are turned into tiles, measured in all ways, and summed exactly.

Errors of a block stand in a buffer by metric, joint and tile: a distance, -1 where the joint does not count, NaN (or
infinity) where the prediction is not finite. Sums are kept in two parts, multiples of 2^-20 and of 2^-52: adding such
numbers is exact, so a sum does not depend on the order, the chunks, the threads or the shards.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .procrustes import STATE, count_tile, fit_tile, one_frame
from .simd import LANES, ceiling, count_true, fma, keep, load, root, select, slide, splat, store, store_whole
from .tiles import fill_tile

METRICS = ("mpjpe", "root_mpjpe", "n_mpjpe", "pa_mpjpe", "rigid_mpjpe", "mpjve", "accel_error", "jitter")
"""What the rows of the results are; the last three are per frame, per frame squared and cubed."""

M = len(METRICS)
TILES = 8
HIGH = 2.0**20
LOW = 2.0**52
_FULL = (1 << LANES) - 1


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _plain(tile, J, roots, e, stride, base, diff):
    """Distances as they are, relative to the root, and after a scale about it; keeps the differences."""
    W = LANES
    zero = splat(0.0)
    rpx, rpy, rpz, rtx, rty, rtz = zero, zero, zero, zero, zero, zero
    rooted = zero == 0.0
    if roots.size > 0:
        for i in range(roots.size):
            at = 3 * roots[i] * W
            to = at + 3 * J * W
            rpx, rpy, rpz = rpx + load(tile, at), rpy + load(tile, at + W), rpz + load(tile, at + 2 * W)
            rtx, rty, rtz = rtx + load(tile, to), rty + load(tile, to + W), rtz + load(tile, to + 2 * W)
            rooted = rooted & (load(tile, (7 * J + roots[i]) * W) > 0.5)
        n = splat(np.float64(roots.size))
        rpx, rpy, rpz, rtx, rty, rtz = rpx / n, rpy / n, rpz / n, rtx / n, rty / n, rtz / n
    across, within = zero, zero
    none = splat(-1.0)
    for j in range(J):
        at = 3 * j * W
        to = at + 3 * J * W
        use = load(tile, (7 * J + j) * W) > 0.5
        px, py, pz = load(tile, at), load(tile, at + W), load(tile, at + 2 * W)
        tx, ty, tz = load(tile, to), load(tile, to + W), load(tile, to + 2 * W)
        x, y, z = px - tx, py - ty, pz - tz
        store(diff, at, x)
        store(diff, at + W, y)
        store(diff, at + 2 * W, z)
        store(e, base + j * stride, select(use, root(fma(x, x, fma(y, y, z * z))), none))
        use = use & rooted
        px, py, pz = keep(use, px - rpx), keep(use, py - rpy), keep(use, pz - rpz)
        tx, ty, tz = keep(use, tx - rtx), keep(use, ty - rty), keep(use, tz - rtz)
        across = fma(px, tx, fma(py, ty, fma(pz, tz, across)))
        within = fma(px, px, fma(py, py, fma(pz, pz, within)))
        if roots.size > 0:
            x, y, z = px - tx, py - ty, pz - tz
            far = select(use, root(fma(x, x, fma(y, y, z * z))), none)
            store(e, base + (J + j) * stride, far)
        else:
            store(e, base + (J + j) * stride, none)
    s = select(within == 0.0, zero, across / within)
    for j in range(J):
        at = 3 * j * W
        to = at + 3 * J * W
        use = (load(tile, (7 * J + j) * W) > 0.5) & rooted
        x = (load(tile, at) - rpx) * s - (load(tile, to) - rtx)
        y = (load(tile, at + W) - rpy) * s - (load(tile, to + W) - rty)
        z = (load(tile, at + 2 * W) - rpz) * s - (load(tile, to + 2 * W) - rtz)
        store(e, base + (2 * J + j) * stride, select(use, root(fma(x, x, fma(y, y, z * z))), none))


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _moving(tile, diff, old, old_diff, J, e, stride, base):
    """First and second differences of the error, third differences of the prediction, ending at each frame."""
    W = LANES
    none = splat(-1.0)
    for j in range(J):
        c = (7 * J + j) * W
        u0, was = load(tile, c), load(old, c)
        u1 = u0 * slide(was, u0, 1)
        u2 = u1 * slide(was, u0, 2)
        u3 = u2 * slide(was, u0, 3)
        v2 = splat(0.0)
        a2 = v2
        k2 = v2
        for k in range(3):
            r = (3 * j + k) * W
            d, dw = load(diff, r), load(old_diff, r)
            d1 = slide(dw, d, 1)
            v = d - d1
            a = v - (d1 - slide(dw, d, 2))
            p, pw = load(tile, r), load(old, r)
            p1, p2 = slide(pw, p, 1), slide(pw, p, 2)
            b = p1 - p2
            q = ((p - p1) - b) - (b - (p2 - slide(pw, p, 3)))
            v2, a2, k2 = fma(v, v, v2), fma(a, a, a2), fma(q, q, k2)
        store(e, base + (5 * J + j) * stride, select(u1 > 0.5, root(v2), none))
        store(e, base + (6 * J + j) * stride, select(u2 > 0.5, root(a2), none))
        store(e, base + (7 * J + j) * stride, select(u3 > 0.5, root(k2), none))


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _both_residuals(tile, J, state, e, stride, base):
    """Distances after a similarity and after a rigid motion: one rotation serves both."""
    W = LANES
    none = splat(-1.0)
    p0, p1, p2 = load(state, 0), load(state, W), load(state, 2 * W)
    t0, t1, t2 = load(state, 3 * W), load(state, 4 * W), load(state, 5 * W)
    a00, a01, a02 = load(state, 7 * W), load(state, 8 * W), load(state, 9 * W)
    a10, a11, a12 = load(state, 10 * W), load(state, 11 * W), load(state, 12 * W)
    a20, a21, a22 = load(state, 13 * W), load(state, 14 * W), load(state, 15 * W)
    s = load(state, 16 * W)
    mx, my, mz = load(state, 17 * W), load(state, 18 * W), load(state, 19 * W)
    zero = splat(0.0)
    bx = zero - fma(a00, mx, fma(a01, my, a02 * mz))
    by = zero - fma(a10, mx, fma(a11, my, a12 * mz))
    bz = zero - fma(a20, mx, fma(a21, my, a22 * mz))
    ux, uy, uz = load(state, 20 * W), load(state, 21 * W), load(state, 22 * W)
    for j in range(J):
        at = 3 * j * W
        to = at + 3 * J * W
        use = load(tile, (7 * J + j) * W) > 0.5
        a, b, c = load(tile, at) - p0, load(tile, at + W) - p1, load(tile, at + 2 * W) - p2
        x = fma(a00, a, fma(a01, b, fma(a02, c, bx)))
        y = fma(a10, a, fma(a11, b, fma(a12, c, by)))
        z = fma(a20, a, fma(a21, b, fma(a22, c, bz)))
        d, f, g = (load(tile, to) - t0) - ux, (load(tile, to + W) - t1) - uy, (load(tile, to + 2 * W) - t2) - uz
        h, i, k = fma(s, x, zero - d), fma(s, y, zero - f), fma(s, z, zero - g)
        store(e, base + (3 * J + j) * stride, select(use, root(fma(h, h, fma(i, i, k * k))), none))
        h, i, k = x - d, y - f, z - g
        store(e, base + (4 * J + j) * stride, select(use, root(fma(h, h, fma(i, i, k * k))), none))


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _aligned(pred, target, valid, J, frame, lanes, tile, state, single, e, stride, base):
    """Distances after a similarity and after a rigid motion."""
    W = LANES
    good = fit_tile(tile, J, state)
    _both_residuals(tile, J, state, e, stride, base)
    if good != _FULL:
        for way in range(2):
            for lane in range(lanes):
                if not good >> lane & 1:
                    one_frame(pred, target, valid, J, frame + lane, way == 0, single)
                    for j in range(J):
                        if tile[(7 * J + j) * W + lane] > 0.5:
                            e[base + ((3 + way) * J + j) * stride + lane] = single[j]


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _sum_joints(e, J, groups, acc, counts):
    """Add a block to the lane-wise sums and to the counts of each metric and joint."""
    W = LANES
    zero = splat(0.0)
    # adding and taking away these rounds to multiples of 2^-20 and 2^-52
    big, small = 1.5 * 2.0**32, 1.5
    for r in range(M * J):
        high, low = load(acc, 2 * r * W), load(acc, (2 * r + 1) * W)
        n = bad = 0
        for g in range(groups):
            x = load(e, (r * TILES + g) * W)
            fine = x < np.inf
            use = fine & (x >= zero)
            d = keep(use, x)
            h = (d + big) - big
            high = high + h
            low = low + (((d - h) + small) - small)
            n += count_true(use)
            bad += W - count_true(fine)
        store(acc, 2 * r * W, high)
        store(acc, (2 * r + 1) * W, low)
        counts[2 * r] += n
        counts[2 * r + 1] += bad


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _sum_frames(e, J, groups, acc, counts, means):
    """The mean of each frame of a block, and their lane-wise sums and counts."""
    W = LANES
    zero = splat(0.0)
    one = splat(1.0)
    everywhere = zero == 0.0
    nan = splat(np.nan)
    big, small = 1.5 * 2.0**32, 1.5
    for m in range(M):
        high, low = load(acc, 2 * m * W), load(acc, (2 * m + 1) * W)
        n = bad = 0
        for g in range(groups):
            total, seen = zero, zero
            for j in range(J):
                x = load(e, ((m * J + j) * TILES + g) * W)
                # what is not finite passes, and spoils the total
                use = (x == -1.0) ^ everywhere
                total = total + keep(use, x)
                seen = seen + keep(use, one)
            f = total / seen
            use = f < np.inf
            store(means, (m * TILES + g) * W, select(use, f, nan))
            d = keep(use, f)
            h = (d + big) - big
            high = high + h
            low = low + (((d - h) + small) - small)
            n += count_true(use)
            bad += count_true((use ^ everywhere) & (seen > 0.5))
        store(acc, 2 * m * W, high)
        store(acc, (2 * m + 1) * W, low)
        counts[2 * m] += n
        counts[2 * m + 1] += bad


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _count_block(e, J, groups, which, limits, index, histogram):
    """Add a block to histograms (len(which), J, len(limits) + 2): bin k is within limit k and not within k - 1.

    The bin before the last holds what is beyond every limit or not finite, the last one what does not count.
    """
    W = LANES
    steps = limits.size
    low = splat(limits[0])
    width = (limits[steps - 1] - limits[0]) / (steps - 1)
    per = splat(1.0 / width)
    zero, one, last = splat(0.0), splat(1.0), splat(np.float64(steps))
    nothing = splat(np.float64(steps + 1))
    for i in range(which.size):
        for g in range(groups):
            for j in range(J):
                x = load(e, ((which[i] * J + j) * TILES + g) * W)
                k = ceiling((x - low) * per)
                k = select(k > zero, k, zero)
                k = select(k < last, k, last)
                # rounding is put right against the limits themselves
                k = k + keep((x > _limit(k, width, low)) & (k < last), one)
                k = k - keep((x <= _limit(k - one, width, low)) & (k > zero), one)
                k = select(x >= zero, k, select(x == -1.0, nothing, last))
                k = select(x < np.inf, k, last)
                store_whole(index, j * W, k)
            for lane in range(W):
                for j in range(J):
                    histogram[i, j, index[j * W + lane]] += 1


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _limit(k, width, low):
    """Limit number k, rounded as ``np.linspace`` rounds it."""
    return k * width + low


@nb.njit(cache=True, error_model="numpy", nogil=True)
def fused_frames(pred, target, valid, J, first, start, stop, roots, which, limits, sums, frame_sums, histogram, frames):
    """All metrics of the frames ``start`` .. ``stop`` of one take in flat arrays, added to exact sums.

    Args:
        pred: (N * J * 3,) float32 or float64, contiguous.
        target: The same.
        valid: (N * J,) uint8, or empty.
        J: Joints.
        first: First frame of the take: differences reach back to it and no further.
        start: First frame; ``start - first`` is a multiple of LANES.
        stop: One past the last; at most 2^20 frames on.
        roots: (R,) int64 joints whose mean is the root; empty: none.
        which: (H,) int64 metrics that get a histogram.
        limits: (S,) even thresholds of the histograms.
        sums: (M, J, 4) int64, added to: distance / 2^-20, the rest / 2^-52, how many, how many were not finite.
        frame_sums: (M, 4) int64, the same for means of frames.
        histogram: (H, J, S + 2) int64, added to; the last bin is for what does not count.
        frames: (M, N) float64, out: mean of each frame, NaN where undefined; or empty: not wanted.
    """
    W = LANES
    tile, old = np.ones(8 * J * W), np.zeros(8 * J * W)
    diff, old_diff = np.empty(3 * J * W), np.zeros(3 * J * W)
    state, single = np.empty(STATE * W), np.empty(J)
    spare_p, spare_t = np.empty(W * J * 3, dtype=pred.dtype), np.empty(W * J * 3, dtype=target.dtype)
    spare_v = np.empty(W * J, dtype=np.uint8)
    e = np.empty(M * J * TILES * W)
    acc, frames_acc = np.zeros(2 * M * J * W), np.zeros(2 * M * W)
    counts, frames_counts = np.zeros(2 * M * J, np.int64), np.zeros(2 * M, np.int64)
    means, index = np.empty(M * TILES * W), np.empty(J * W, np.int32)
    bins = np.zeros((which.size, J, limits.size + 2), np.int32)
    stride = TILES * W
    for i in range(6 * J * W, 7 * J * W):
        old[i] = 1.0
    if start > first:
        fill_tile(pred, target, valid, J, start - W, stop, old, spare_p, spare_t, spare_v)
        count_tile(old, J, state)
        for i in range(3 * J * W):
            old_diff[i] = old[i] - old[3 * J * W + i]
    frame = start
    while frame < stop:
        groups = 0
        begin = frame
        while frame < stop and groups < TILES:
            base = groups * W
            fill_tile(pred, target, valid, J, frame, stop, tile, spare_p, spare_t, spare_v)
            count_tile(tile, J, state)
            _plain(tile, J, roots, e, stride, base, diff)
            _aligned(pred, target, valid, J, frame, min(W, stop - frame), tile, state, single, e, stride, base)
            _moving(tile, diff, old, old_diff, J, e, stride, base)
            tile, old = old, tile
            diff, old_diff = old_diff, diff
            groups += 1
            frame += W
        _sum_joints(e, J, groups, acc, counts)
        _sum_frames(e, J, groups, frames_acc, frames_counts, means)
        if which.size > 0:
            _count_block(e, J, groups, which, limits, index, bins)
        if frames.size > 0:
            for m in range(M):
                for i in range(min(stop - begin, groups * W)):
                    frames[m, begin + i] = means[m * stride + i]
    for i in range(which.size):
        for j in range(J):
            for k in range(limits.size + 2):
                histogram[i, j, k] += bins[i, j, k]
    for m in range(M):
        for j in range(J):
            _drain(acc, counts, m * J + j, sums[m, j])
        _drain(frames_acc, frames_counts, m, frame_sums[m])


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _drain(acc, counts, row, out):
    """Lane-wise sums into integers; every product and sum here is exact."""
    for lane in range(LANES):
        out[0] += np.int64(acc[2 * row * LANES + lane] * HIGH)
        out[1] += np.int64(acc[(2 * row + 1) * LANES + lane] * LOW)
    out[2] += counts[2 * row]
    out[3] += counts[2 * row + 1]
