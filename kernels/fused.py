"""Every metric in one pass: 64 frames at a time are turned into tiles, measured in all ways, and summed exactly.

Errors of a block stand in a buffer by metric, joint and tile: a distance, -1 where the joint does not count, NaN (or
infinity) where the prediction is not finite. Sums are kept in two parts, multiples of 2^-20 and of 2^-52: adding such
numbers is exact, so a sum does not depend on the order, the chunks, the threads or the shards.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .procrustes import STATE, count_tile, fit_tile, one_frame, residuals_tile
from .simd import LANES, fma, keep, load, root, select, slide, splat, store
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
def _aligned(pred, target, valid, J, frame, lanes, tile, state, rows, single, e, stride, base):
    """Distances after a similarity and after a rigid motion."""
    W = LANES
    none = splat(-1.0)
    good = fit_tile(tile, J, state)
    for way in range(2):
        residuals_tile(tile, J, state, way == 0, rows)
        for j in range(J):
            use = load(tile, (7 * J + j) * W) > 0.5
            store(e, base + ((3 + way) * J + j) * stride, select(use, load(rows, j * W), none))
        if good != _FULL:
            for lane in range(lanes):
                if not good >> lane & 1:
                    one_frame(pred, target, valid, J, frame + lane, way == 0, single)
                    for j in range(J):
                        if tile[(7 * J + j) * W + lane] > 0.5:
                            e[base + ((3 + way) * J + j) * stride + lane] = single[j]


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _sum_block(e, J, groups, acc, frames_acc, means, means_sum):
    """Add a block to the lane-wise sums: per metric and joint, and per metric the means of frames."""
    W = LANES
    zero = splat(0.0)
    one = splat(1.0)
    inf = np.inf
    # adding and taking away these rounds to multiples of 2^-20 and 2^-52
    big, small = 1.5 * 2.0**32, 1.5
    everywhere = zero == 0.0
    for m in range(M):
        for g in range(groups):
            store(means_sum, 3 * g * W, zero)
            store(means_sum, (3 * g + 1) * W, zero)
            store(means_sum, (3 * g + 2) * W, zero)
        for j in range(J):
            at = (m * J + j) * 4 * W
            high, low, n, bad = load(acc, at), load(acc, at + W), load(acc, at + 2 * W), load(acc, at + 3 * W)
            for g in range(groups):
                x = load(e, ((m * J + j) * TILES + g) * W)
                fine = x < inf
                use = fine & (x >= 0.0)
                d, c, b = keep(use, x), keep(use, one), keep(fine ^ everywhere, one)
                h = (d + big) - big
                high = high + h
                low = low + (((d - h) + small) - small)
                n = n + c
                bad = bad + b
                k = 3 * g * W
                store(means_sum, k, load(means_sum, k) + d)
                store(means_sum, k + W, load(means_sum, k + W) + c)
                store(means_sum, k + 2 * W, load(means_sum, k + 2 * W) + b)
            store(acc, at, high)
            store(acc, at + W, low)
            store(acc, at + 2 * W, n)
            store(acc, at + 3 * W, bad)
        at = m * 4 * W
        high, low = load(frames_acc, at), load(frames_acc, at + W)
        n, bad = load(frames_acc, at + 2 * W), load(frames_acc, at + 3 * W)
        for g in range(groups):
            k = 3 * g * W
            c, b = load(means_sum, k + W), load(means_sum, k + 2 * W)
            broken = b > 0.5
            use = (c > 0.5) & (broken ^ everywhere)
            f = load(means_sum, k) / c
            store(means, (m * TILES + g) * W, select(use, f, splat(np.nan)))
            d = keep(use, f)
            h = (d + big) - big
            high = high + h
            low = low + (((d - h) + small) - small)
            n = n + keep(use, one)
            bad = bad + keep(broken, one)
        store(frames_acc, at, high)
        store(frames_acc, at + W, low)
        store(frames_acc, at + 2 * W, n)
        store(frames_acc, at + 3 * W, bad)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _count_block(e, J, groups, which, limits, histogram):
    """Add a block to histograms (len(which), J, len(limits) + 1): bin k is within limit k and not within k - 1."""
    W = LANES
    steps = limits.size
    low = limits[0]
    per = (steps - 1) / (limits[steps - 1] - low)
    for i in range(which.size):
        for j in range(J):
            begin = (which[i] * J + j) * TILES * W
            for x in e[begin : begin + groups * W]:
                if x >= 0.0:
                    s = (x - low) * per
                    if s < steps:
                        k = int(s)
                        # rounding of s is put right against the limits themselves
                        if s > 0.0 and x > limits[k]:
                            k += 1
                        elif k > 0 and x <= limits[k - 1]:
                            k -= 1
                        if k < steps and x > limits[k]:
                            k += 1
                        histogram[i, j, k] += 1
                    else:
                        histogram[i, j, steps] += 1
                elif x != x:
                    histogram[i, j, steps] += 1


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
        histogram: (H, J, S + 1) int64, added to.
        frames: (M, N) float64, out: mean of each frame, NaN where undefined; or empty: not wanted.
    """
    W = LANES
    tile, old = np.ones(8 * J * W), np.zeros(8 * J * W)
    diff, old_diff = np.empty(3 * J * W), np.zeros(3 * J * W)
    state, rows, single = np.empty(STATE * W), np.empty(J * W), np.empty(J)
    spare_p, spare_t = np.empty(W * J * 3, dtype=pred.dtype), np.empty(W * J * 3, dtype=target.dtype)
    spare_v = np.empty(W * J, dtype=np.uint8)
    e = np.empty(M * J * TILES * W)
    acc, frames_acc = np.zeros(M * J * 4 * W), np.zeros(M * 4 * W)
    means, means_sum = np.empty(M * TILES * W), np.empty(3 * TILES * W)
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
            _aligned(pred, target, valid, J, frame, min(W, stop - frame), tile, state, rows, single, e, stride, base)
            _moving(tile, diff, old, old_diff, J, e, stride, base)
            tile, old = old, tile
            diff, old_diff = old_diff, diff
            groups += 1
            frame += W
        _sum_block(e, J, groups, acc, frames_acc, means, means_sum)
        if which.size > 0:
            _count_block(e, J, groups, which, limits, histogram)
        if frames.size > 0:
            for m in range(M):
                for i in range(min(stop - begin, groups * W)):
                    frames[m, begin + i] = means[m * stride + i]
    for m in range(M):
        for j in range(J):
            _drain(acc, (m * J + j) * 4 * W, sums[m, j])
        _drain(frames_acc, m * 4 * W, frame_sums[m])


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _drain(acc, at, out):
    """Lane-wise sums into integers; every product and sum here is exact."""
    for lane in range(LANES):
        out[0] += np.int64(acc[at + lane] * HIGH)
        out[1] += np.int64(acc[at + LANES + lane] * LOW)
        out[2] += np.int64(acc[at + 2 * LANES + lane])
        out[3] += np.int64(acc[at + 3 * LANES + lane])
