"""Every metric in one pass: frames are turned into tiles, measured in all ways, and summed exactly.

Errors of a tile stand in a buffer by metric and joint, the mean of each frame behind the joints: a distance, 0 where
nothing counts, NaN (or infinity) where the prediction is not finite. The differences in time of a tile reach back into
the tile before, which is still there.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .fused_sums import (
    DRAIN,
    KINDS,
    METRICS,
    M,
    add_carefully,
    add_rows,
    count_tile,
    drain,
    drain_bins,
    kind_of,
    means,
    write_means,
)
from .procrustes import STATE, fill, fit_tile
from .procrustes_one import one_frame
from .simd import BARE, LANES, fma, keep, mask_of, ones, quick_root, root, select, slide, splat
from .simd_memory import load, load_mask, store

__all__ = ["KINDS", "METRICS", "M", "fused_frames"]

_FULL = (1 << LANES) - 1


@nb.njit(**BARE)
def _plain(tile, slot, J, roots, use, state, e, totals):
    """Distances as they are, relative to the root, and after a scale about it; the lanes whose root counts."""
    W = LANES
    P = 6 * J * W * slot
    T = P + 3 * J * W
    zero = splat(0.0)
    p0, p1, p2 = load(state, 0), load(state, W), load(state, 2 * W)
    t0, t1, t2 = load(state, 3 * W), load(state, 4 * W), load(state, 5 * W)
    n = load(state, 6 * W)
    # the root, from the shift: about the origin without one
    rx, ry, rz, qx, qy, qz = zero, zero, zero, zero, zero, zero
    rooted = _FULL
    for i in range(roots.size):
        r = 3 * roots[i] * W
        rx, ry, rz = rx + load(tile, P + r), ry + load(tile, P + r + W), rz + load(tile, P + r + 2 * W)
        qx, qy, qz = qx + load(tile, T + r), qy + load(tile, T + r + W), qz + load(tile, T + r + 2 * W)
        rooted &= np.int64(use[slot * J + roots[i]])
    gx, gy, gz = zero, zero, zero
    if roots.size > 0:
        share = splat(np.float64(roots.size))
        rx, ry, rz, qx, qy, qz = rx / share, ry / share, rz / share, qx / share, qy / share, qz / share
        gx, gy, gz = rx - qx, ry - qy, rz - qz
    rx, ry, rz, qx, qy, qz = rx - p0, ry - p1, rz - p2, qx - t0, qy - t1, qz - t2
    mx, my, mz = load(state, 17 * W), load(state, 18 * W), load(state, 19 * W)
    ux, uy, uz = load(state, 20 * W), load(state, 21 * W), load(state, 22 * W)
    # the sums of the fit, moved from the shift to the root
    within = fma(rx, rx - 2.0 * mx, fma(ry, ry - 2.0 * my, rz * (rz - 2.0 * mz)))
    within = fma(n, within, load(state, 23 * W))
    across = fma(rx, qx - ux, fma(ry, qy - uy, rz * (qz - uz))) - fma(qx, mx, fma(qy, my, qz * mz))
    across = fma(n, across, load(state, 24 * W))
    s = select(within == 0.0, zero, across / within)
    cx, cy, cz = qx - s * rx, qy - s * ry, qz - s * rz
    sum0, sum1, sum2 = zero, zero, zero
    for j in range(J):
        r = 3 * j * W
        now = np.int64(use[slot * J + j])
        m0, m1 = mask_of(now), mask_of(now & rooted)
        px, py, pz = load(tile, P + r), load(tile, P + r + W), load(tile, P + r + 2 * W)
        tx, ty, tz = load(tile, T + r), load(tile, T + r + W), load(tile, T + r + 2 * W)
        dx, dy, dz = px - tx, py - ty, pz - tz
        d = keep(m0, root(fma(dx, dx, fma(dy, dy, dz * dz))))
        store(e, j * W, d)
        sum0 = sum0 + d
        dx, dy, dz = dx - gx, dy - gy, dz - gz
        d = keep(m1, quick_root(fma(dx, dx, fma(dy, dy, dz * dz))))
        store(e, (J + 1 + j) * W, d)
        sum1 = sum1 + d
        x, y, z = fma(s, px - p0, cx) - (tx - t0), fma(s, py - p1, cy) - (ty - t1), fma(s, pz - p2, cz) - (tz - t2)
        d = keep(m1, quick_root(fma(x, x, fma(y, y, z * z))))
        store(e, (2 * (J + 1) + j) * W, d)
        sum2 = sum2 + d
    store(totals, 0, sum0)
    store(totals, W, sum1)
    store(totals, 2 * W, sum2)
    # how many joints of each frame count, by kind
    store(totals, M * W, n)
    store(totals, (M + 1) * W, keep(mask_of(rooted), n))
    return rooted


@nb.njit(**BARE)
def _moving(tile, slot, J, rooted, use, kinds, counts, e, totals):
    """First and second differences of the error, third differences of the prediction; which joints count where."""
    W = LANES
    S = 6 * J * W
    P = S * slot
    T = P + 3 * J * W
    OP = S - P
    OT = OP + 3 * J * W
    zero, one = splat(0.0), splat(1.0)
    sum5, sum6, sum7, n5, n6, n7 = zero, zero, zero, zero, zero, zero
    for j in range(J):
        r = 3 * j * W
        now = np.int64(use[slot * J + j])
        line = (now << W) | np.int64(use[(1 - slot) * J + j])
        two = line & (line << 1)
        three = two & (line << 2)
        b2, b3, b4 = (two >> W) & _FULL, (three >> W) & _FULL, ((three & (line << 3)) >> W) & _FULL
        c = KINDS * j
        kinds[j] = now
        counts[c] += ones(now)
        counts[c + 1] += ones(now & rooted)
        counts[c + 2] += ones(b2)
        counts[c + 3] += ones(b3)
        counts[c + 4] += ones(b4)
        m2, m3, m4 = mask_of(b2), mask_of(b3), mask_of(b4)
        n5, n6, n7 = n5 + keep(m2, one), n6 + keep(m3, one), n7 + keep(m4, one)
        v1, a1, k1 = _steps(load(tile, P + r), load(tile, T + r), load(tile, OP + r), load(tile, OT + r))
        r += W
        v2, a2, k2 = _steps(load(tile, P + r), load(tile, T + r), load(tile, OP + r), load(tile, OT + r))
        r += W
        v3, a3, k3 = _steps(load(tile, P + r), load(tile, T + r), load(tile, OP + r), load(tile, OT + r))
        d = keep(m2, root(fma(v1, v1, fma(v2, v2, v3 * v3))))
        store(e, (5 * (J + 1) + j) * W, d)
        sum5 = sum5 + d
        d = keep(m3, quick_root(fma(a1, a1, fma(a2, a2, a3 * a3))))
        store(e, (6 * (J + 1) + j) * W, d)
        sum6 = sum6 + d
        d = keep(m4, quick_root(fma(k1, k1, fma(k2, k2, k3 * k3))))
        store(e, (7 * (J + 1) + j) * W, d)
        sum7 = sum7 + d
    store(totals, 5 * W, sum5)
    store(totals, 6 * W, sum6)
    store(totals, 7 * W, sum7)
    store(totals, (M + 2) * W, n5)
    store(totals, (M + 3) * W, n6)
    store(totals, (M + 4) * W, n7)


@nb.njit(**BARE)
def _steps(p, t, was_p, was_t):
    """First and second differences of an error, third differences of a prediction, ending at each frame."""
    d = p - t
    was = was_p - was_t
    d1 = slide(was, d, 1)
    v = d - d1
    a = v - (d1 - slide(was, d, 2))
    p1, p2 = slide(was_p, p, 1), slide(was_p, p, 2)
    b = p1 - p2
    return v, a, ((p - p1) - b) - (b - (p2 - slide(was_p, p, 3)))


@nb.njit(**BARE)
def _both_residuals(tile, slot, J, use, state, e, totals):
    """Distances after a similarity and after a rigid motion: one rotation serves both."""
    W = LANES
    P = 6 * J * W * slot
    T = P + 3 * J * W
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
    sum3, sum4 = zero, zero
    for j in range(J):
        r = 3 * j * W
        counts = load_mask(use, slot * J + j)
        a, b, c = load(tile, P + r) - p0, load(tile, P + r + W) - p1, load(tile, P + r + 2 * W) - p2
        d = ux - (load(tile, T + r) - t0)
        f = uy - (load(tile, T + r + W) - t1)
        g = uz - (load(tile, T + r + 2 * W) - t2)
        x = fma(a00, a, fma(a01, b, fma(a02, c, bx)))
        y = fma(a10, a, fma(a11, b, fma(a12, c, by)))
        z = fma(a20, a, fma(a21, b, fma(a22, c, bz)))
        h, i, k = fma(s, x, d), fma(s, y, f), fma(s, z, g)
        h = keep(counts, root(fma(h, h, fma(i, i, k * k))))
        store(e, (3 * (J + 1) + j) * W, h)
        sum3 = sum3 + h
        x, y, z = x + d, y + f, z + g
        h = keep(counts, quick_root(fma(x, x, fma(y, y, z * z))))
        store(e, (4 * (J + 1) + j) * W, h)
        sum4 = sum4 + h
    store(totals, 3 * W, sum3)
    store(totals, 4 * W, sum4)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _slow_lanes(pred, target, valid, J, frame, lanes, good, kinds, single, e, totals):
    """The lanes whose fit is not to be trusted, one by one."""
    W = LANES
    for way in range(2):
        for lane in range(lanes):
            if not good >> lane & 1:
                one_frame(pred, target, valid, J, frame + lane, way == 0, single)
                total = 0.0
                for j in range(J):
                    if kinds[j] >> lane & 1:
                        e[((3 + way) * (J + 1) + j) * W + lane] = single[j]
                        total += single[j]
                totals[(3 + way) * W + lane] = total


@nb.njit(**BARE)
def _measure(
    pred, target, valid, J, frame, stop, roots, which, limits, index, frames, whole, small, found, counts, bad, tile,
    may, use, state, kinds, e, totals, acc, wide, at,
):  # fmt: skip
    """Tiles from ``frame`` on, until one has a lane whose fit is not to be trusted; that one is not added yet.

    Returns:
        The frame of that tile, or ``stop`` or more, and the lanes to trust as bits.
    """
    good = _FULL
    while frame < stop:
        slot = at[0]
        fill(pred, target, valid, J, frame, stop, tile, may, slot)
        good = fit_tile(tile, may, slot, J, use, state)
        rooted = _plain(tile, slot, J, roots, use, state, e, totals)
        _moving(tile, slot, J, rooted, use, kinds, counts, e, totals)
        _both_residuals(tile, slot, J, use, state, e, totals)
        at[0] = 1 - slot
        if good != _FULL:
            break
        _add_tile(
            J, frame, stop, which, limits, index, frames, whole, small, found, counts, bad, e, totals, acc, wide, at
        )  # fmt: skip
        frame += LANES
    return frame, good


@nb.njit(**BARE)
def _add_tile(
    J, frame, stop, which, limits, index, frames, whole, small, found, counts, bad, e, totals, acc, wide, at
):  # fmt: skip
    """Add a measured tile to all sums; ``at`` is the next slot, the tiles in ``acc``, and the tiles in all."""
    rows = M * (J + 1)
    if means(J, e, totals, counts):
        add_rows(rows, e, acc)
        at[1] += 1
    else:
        add_carefully(rows, e, wide, bad)
    at[2] += 1
    if which.size > 0:
        count_tile(e, J, which, limits, index, small)
    if frames.size > 0:
        write_means(J, e, totals, frame, min(LANES, stop - frame), frames)
    if at[2] % DRAIN == 0:
        drain(rows, at[1], acc, wide, whole)
        drain_bins(small, found)
        at[1] = 0


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
        which: (H,) int64 metrics that get a histogram, among those of single frames.
        limits: (S,) even thresholds of the histograms.
        sums: (M, J, 4) int64, added to: distance / 2^-20, the rest / 2^-52, how many, how many were not finite.
        frame_sums: (M, 4) int64, the same for means of frames.
        histogram: (H, J, S + 2) int64, added to; the last bin is for what does not count.
        frames: (M, N) float64, out: mean of each frame, NaN where undefined; or empty: not wanted.
    """
    W = LANES
    rows = M * (J + 1)
    bins = limits.size + 1
    whole, found = np.zeros(2 * rows, np.int64), np.zeros(which.size * J * bins, np.int64)
    small = np.zeros(which.size * J * bins, np.uint16)
    counts, bad = np.zeros(KINDS * (J + 1), np.int64), np.zeros(rows, np.int64)
    tile, may, use = np.zeros(12 * J * W), np.zeros(2 * J, np.uint8), np.zeros(2 * J, np.uint8)
    state, kinds = np.zeros(STATE * W), np.zeros(KINDS * J, np.uint8)
    e, totals, single = np.zeros(rows * W), np.zeros((M + KINDS) * W), np.empty(J)
    acc, wide = np.zeros(rows * W, np.int64), np.zeros(2 * rows * W, np.int64)
    index, at = np.zeros(J * W, np.int32), np.zeros(3, np.int64)
    if start > first:
        fill(pred, target, valid, J, start - W, stop, tile, may, 1)
        fit_tile(tile, may, 1, J, use, state)
    frame = start
    while frame < stop:
        frame, good = _measure(
            pred, target, valid, J, frame, stop, roots, which, limits, index, frames, whole, small, found, counts, bad,
            tile, may, use, state, kinds, e, totals, acc, wide, at,
        )  # fmt: skip
        if frame < stop:
            _slow_lanes(pred, target, valid, J, frame, min(W, stop - frame), good, kinds, single, e, totals)
            _add_tile(
                J, frame, stop, which, limits, index, frames, whole, small, found, counts, bad, e, totals, acc, wide, at
            )  # fmt: skip
            frame += W
    drain(rows, at[1], acc, wide, whole)
    drain_bins(small, found)
    lanes = at[2] * W
    for m in range(M):
        if m == 1 and roots.size == 0:
            continue
        for j in range(J + 1):
            r = m * (J + 1) + j
            out = sums[m, j] if j < J else frame_sums[m]
            out[0] += whole[2 * r]
            out[1] += whole[2 * r + 1]
            out[2] += counts[KINDS * j + kind_of(m)] - bad[r]
            out[3] += bad[r]
    for i in range(which.size):
        for j in range(J):
            for k in range(bins):
                histogram[i, j, k] += found[(i * J + j) * bins + k]
            # what does not count went to the first bin
            counted = counts[KINDS * j + kind_of(which[i])]
            histogram[i, j, 0] -= lanes - counted
            histogram[i, j, bins] += stop - start - counted
    if roots.size == 0 and frames.size > 0:
        frames[1, start:stop] = np.nan
