"""The best proper similarity of each frame, LANES frames at a time.

Closed form after Horn (JOSA A, 1987): the largest root of the characteristic quartic of his 4x4 matrix N gives the
scale, the adjugate of ``N - root`` is the outer product of the rotation's quaternion, and a rotation matrix is linear
in that product, so neither eigenvectors nor square roots of quaternions are needed. A certificate (the root is well
apart from the others and the iteration has settled) says per frame whether to trust it; the rest, such as mirrored,
collinear and coincident frames, go one by one to a one-sided Jacobi decomposition whose third axes are cross products,
which makes the rotation proper without a determinant.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .procrustes_one import one_frame
from .simd import BARE, LANES, VEC, bits, fma, keep, nowhere, root, select, size, splat
from .simd_memory import load, load_mask, store, store_counts, store_mask
from .tiles import fill_last, fill_tile

STATE = 25
"""Rows of the state of a tile: shifts 0-5, count 6, rotation 7-15, scale 16, means of shifted joints 17-22,
sum of squares of the shifted prediction 23 and of its products with the target 24."""

_FULL = (1 << LANES) - 1
assert VEC is not None


@nb.njit(**BARE)
def finite(x, y, z):
    """Where all three are finite numbers."""
    zero = splat(0.0)
    # zero times a number is zero, times anything else it is not
    return fma(x, zero, fma(y, zero, z * zero)) == 0.0


@nb.njit(**BARE)
def fit_tile(tile, may, slot, J, use, state):
    """Which joints count (``use``, a byte per joint and slot), rotation, scale and means of the frames of a tile.

    Returns:
        The lanes to trust, as bits.
    """
    W = LANES
    P = 6 * J * W * slot
    T = P + 3 * J * W
    zero = splat(0.0)
    # each frame is shifted by its first counted joint, which keeps small numbers small
    p0, p1, p2, t0, t1, t2 = zero, zero, zero, zero, zero, zero
    found = nowhere()
    j = 0
    while j < J and bits(found) != _FULL:
        r = 3 * j * W
        x, y, z = load(tile, T + r), load(tile, T + r + W), load(tile, T + r + 2 * W)
        new = finite(x, y, z) & load_mask(may, slot * J + j) & (found ^ (zero == 0.0))
        p0 = select(new, load(tile, P + r), p0)
        p1 = select(new, load(tile, P + r + W), p1)
        p2 = select(new, load(tile, P + r + 2 * W), p2)
        t0, t1, t2 = select(new, x, t0), select(new, y, t1), select(new, z, t2)
        found = found | new
        j += 1
    n = zero
    ax, ay, az, bx, by, bz, pp = zero, zero, zero, zero, zero, zero, zero
    xx, xy, xz, yx, yy, yz, zx, zy, zz = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for j in range(J):
        r = 3 * j * W
        d = load(tile, T + r) - t0
        e = load(tile, T + r + W) - t1
        f = load(tile, T + r + 2 * W) - t2
        fine = finite(d, e, f) & load_mask(may, slot * J + j)
        store_mask(use, slot * J + j, fine)
        a = keep(fine, load(tile, P + r) - p0)
        b = keep(fine, load(tile, P + r + W) - p1)
        c = keep(fine, load(tile, P + r + 2 * W) - p2)
        d, e, f = keep(fine, d), keep(fine, e), keep(fine, f)
        n = n + keep(fine, splat(1.0))
        ax, ay, az = ax + a, ay + b, az + c
        bx, by, bz = bx + d, by + e, bz + f
        pp = fma(a, a, fma(b, b, fma(c, c, pp)))
        xx, xy, xz = fma(a, d, xx), fma(a, e, xy), fma(a, f, xz)
        yx, yy, yz = fma(b, d, yx), fma(b, e, yy), fma(b, f, yz)
        zx, zy, zz = fma(c, d, zx), fma(c, e, zy), fma(c, f, zz)
    store(state, 0, p0)
    store(state, W, p1)
    store(state, 2 * W, p2)
    store(state, 3 * W, t0)
    store(state, 4 * W, t1)
    store(state, 5 * W, t2)
    store(state, 6 * W, n)
    store(state, 23 * W, pp)
    store(state, 24 * W, xx + yy + zz)
    share = 1.0 / n
    mx, my, mz = ax * share, ay * share, az * share
    ux, uy, uz = bx * share, by * share, bz * share
    xx, xy, xz = xx - mx * bx, xy - mx * by, xz - mx * bz
    yx, yy, yz = yx - my * bx, yy - my * by, yz - my * bz
    zx, zy, zz = zx - mz * bx, zy - mz * by, zz - mz * bz
    pp = pp - fma(mx, ax, fma(my, ay, mz * az))

    norm2 = fma(xx, xx, fma(xy, xy, xz * xz)) + fma(yx, yx, fma(yy, yy, yz * yz)) + fma(zx, zx, fma(zy, zy, zz * zz))
    norm = root(norm2)
    unit = 1.0 / norm
    xx, xy, xz = xx * unit, xy * unit, xz * unit
    yx, yy, yz = yx * unit, yy * unit, yz * unit
    zx, zy, zz = zx * unit, zy * unit, zz * unit
    # cofactors: their squares give the product of the roots, their first row the determinant
    cxx, cxy, cxz = yy * zz - yz * zy, yz * zx - yx * zz, yx * zy - yy * zx
    cyx, cyy, cyz = xz * zy - xy * zz, xx * zz - xz * zx, xy * zx - xx * zy
    czx, czy, czz = xy * yz - xz * yy, xz * yx - xx * yz, xx * yy - xy * yx
    minors = fma(cxx, cxx, fma(cxy, cxy, cxz * cxz)) + fma(cyx, cyx, fma(cyy, cyy, cyz * cyz))
    minors = minors + fma(czx, czx, fma(czy, czy, czz * czz))
    d8 = -8.0 * fma(xx, cxx, fma(xy, cxy, xz * cxz))
    c0 = 1.0 - 4.0 * minors
    # never below the largest root: from there Halley's steps descend to it
    L = root(1.0 + 2.0 * root(3.0 * minors))
    step = zero
    for _ in range(4):
        L2 = L * L
        value = fma(fma(L2 - 2.0, L, d8), L, c0)
        slope = fma(4.0 * (L2 - 1.0), L, d8)
        half_bend = 6.0 * L2 - 2.0
        step = value * slope / fma(slope, slope, -1.0 * (value * half_bend))
        L = L - step

    n00, n11 = xx + yy + zz - L, xx - yy - zz - L
    n22, n33 = yy - xx - zz - L, zz - xx - yy - L
    n01, n02, n03 = yz - zy, zx - xz, xy - yx
    n12, n13, n23 = xy + yx, zx + xz, yz + zy
    s0, s1, s2 = n00 * n11 - n01 * n01, n00 * n12 - n02 * n01, n00 * n13 - n03 * n01
    s3, s4, s5 = n01 * n12 - n02 * n11, n01 * n13 - n03 * n11, n02 * n13 - n03 * n12
    c1, c2 = n02 * n23 - n22 * n03, n02 * n33 - n23 * n03
    c3, c4, c5 = n12 * n23 - n22 * n13, n12 * n33 - n23 * n13, n22 * n33 - n23 * n23
    q00 = n11 * c5 - n12 * c4 + n13 * c3
    q11 = n00 * c5 - n02 * c2 + n03 * c1
    q22 = n03 * s4 - n13 * s2 + n33 * s0
    q33 = n02 * s3 - n12 * s1 + n22 * s0
    q01 = n02 * c4 - n01 * c5 - n03 * c3
    q02 = n13 * s5 - n23 * s4 + n33 * s3
    q03 = n22 * s4 - n12 * s5 - n23 * s3
    q12 = n23 * s2 - n03 * s5 - n33 * s1
    q13 = n02 * s5 - n22 * s2 + n23 * s1
    q23 = n12 * s2 - n02 * s4 - n23 * s0
    trace = q00 + q11 + q22 + q33
    w = 1.0 / trace
    w2 = 2.0 * w
    store(state, 7 * W, (q00 + q11 - q22 - q33) * w)
    store(state, 8 * W, (q12 - q03) * w2)
    store(state, 9 * W, (q13 + q02) * w2)
    store(state, 10 * W, (q12 + q03) * w2)
    store(state, 11 * W, (q00 - q11 + q22 - q33) * w)
    store(state, 12 * W, (q23 - q01) * w2)
    store(state, 13 * W, (q13 - q02) * w2)
    store(state, 14 * W, (q23 + q01) * w2)
    store(state, 15 * W, (q00 - q11 - q22 + q33) * w)
    store(state, 16 * W, L * norm / pp)
    store(state, 17 * W, mx)
    store(state, 18 * W, my)
    store(state, 19 * W, mz)
    store(state, 20 * W, ux)
    store(state, 21 * W, uy)
    store(state, 22 * W, uz)
    # the trace is minus the product of the three gaps below the root
    good = (trace < -1e-2) & (size(step) < 1e-6) & (norm2 > 1e-200) & (norm2 < 1e200) & (pp > 1e-150)
    return bits(good)


@nb.njit(**BARE)
def residuals_tile(tile, slot, use, J, state, scaled, wanted, out):
    """Distances (J, LANES) after the fit, 0 where a joint does not count; returns their sum per lane."""
    W = LANES
    P = 6 * J * W * slot
    T = P + 3 * J * W
    p0, p1, p2 = load(state, 0), load(state, W), load(state, 2 * W)
    t0, t1, t2 = load(state, 3 * W), load(state, 4 * W), load(state, 5 * W)
    s = load(state, 16 * W) if scaled else splat(1.0)
    a00, a01, a02 = load(state, 7 * W) * s, load(state, 8 * W) * s, load(state, 9 * W) * s
    a10, a11, a12 = load(state, 10 * W) * s, load(state, 11 * W) * s, load(state, 12 * W) * s
    a20, a21, a22 = load(state, 13 * W) * s, load(state, 14 * W) * s, load(state, 15 * W) * s
    mx, my, mz = load(state, 17 * W), load(state, 18 * W), load(state, 19 * W)
    # both means come off at once: what is left is the rotation of a difference
    bx = load(state, 20 * W) - fma(a00, mx, fma(a01, my, a02 * mz))
    by = load(state, 21 * W) - fma(a10, mx, fma(a11, my, a12 * mz))
    bz = load(state, 22 * W) - fma(a20, mx, fma(a21, my, a22 * mz))
    total = splat(0.0)
    for j in range(J):
        r = 3 * j * W
        a = load(tile, P + r) - p0
        b = load(tile, P + r + W) - p1
        c = load(tile, P + r + 2 * W) - p2
        x = fma(a00, a, fma(a01, b, fma(a02, c, bx - (load(tile, T + r) - t0))))
        y = fma(a10, a, fma(a11, b, fma(a12, c, by - (load(tile, T + r + W) - t1))))
        z = fma(a20, a, fma(a21, b, fma(a22, c, bz - (load(tile, T + r + 2 * W) - t2))))
        e = keep(load_mask(use, slot * J + j), root(fma(x, x, fma(y, y, z * z))))
        if wanted:
            store(out, j * W, e)
        total = total + e
    return total


@nb.njit(**BARE)
def fill(pred, target, valid, J, frame, stop, tile, may, slot):
    if frame + LANES <= stop:
        fill_tile(pred, target, valid, J, frame, tile, may, slot)
    elif frame < stop:
        fill_last(pred, target, valid, J, frame, stop, tile, may, slot)


@nb.njit(**BARE)
def _fast_frames(
    pred, target, valid, J, start, stop, scaled, total, count, each, tile, may, use, state, rows, sums, slow
):
    """The frames that the certificate trusts; the numbers of the others go to ``slow``, their count is returned."""
    W = LANES
    wanted = each.size > 0
    waiting = 0
    slot = 0
    fill(pred, target, valid, J, start, stop, tile, may, slot)
    for frame in range(start, stop, W):
        good = fit_tile(tile, may, slot, J, use, state)
        # the solver waits for its own divisions: the next frames are turned meanwhile
        fill(pred, target, valid, J, frame + W, stop, tile, may, 1 - slot)
        result = residuals_tile(tile, slot, use, J, state, scaled, wanted, rows)
        slot = 1 - slot
        lanes = min(W, stop - frame)
        if lanes == W:
            store(total, frame, result)
            store_counts(count, frame, load(state, 6 * W))
        else:
            store(sums, 0, result)
            for lane in range(lanes):
                total[frame + lane], count[frame + lane] = sums[lane], np.int64(state[6 * W + lane])
        if wanted:
            for lane in range(lanes):
                for j in range(J):
                    each[(frame + lane) * J + j] = rows[j * W + lane]
        if good != _FULL:
            for lane in range(lanes):
                if not good >> lane & 1:
                    slow[waiting] = frame + lane
                    waiting += 1
    return waiting


@nb.njit(cache=True, error_model="numpy", nogil=True)
def pa_frames(pred, target, valid, J, start, stop, scaled, total, count, each):
    """Distances after alignment of the frames ``start`` .. ``stop`` of flat arrays.

    Args:
        pred: (N * J * 3,) float32 or float64, contiguous.
        target: The same.
        valid: (N * J,) uint8, or empty: every joint with a finite target counts.
        J: Joints.
        start: First frame.
        stop: One past the last.
        scaled: Fit a scale.
        total: (N,) float64, out: sum of distances of the counted joints.
        count: (N,) int64, out: how many count.
        each: (N * J,) float64, out: every distance, 0 where the joint does not count; or empty: not wanted.
    """
    W = LANES
    tile, may = np.empty(2 * 6 * J * W), np.empty(2 * J, np.uint8)
    use, state, rows = np.empty(2 * J, np.uint8), np.empty(STATE * W), np.empty(J * W)
    sums, single = np.empty(W), np.empty(J)
    # what the certificate refuses waits until the end: the loop stays small
    slow = np.empty(stop - start, dtype=np.int64)
    waiting = _fast_frames(
        pred, target, valid, J, start, stop, scaled, total, count, each, tile, may, use, state, rows, sums, slow
    )
    for i in range(waiting):
        frame = slow[i]
        total[frame], count[frame] = one_frame(pred, target, valid, J, frame, scaled, single)
        if each.size > 0:
            for j in range(J):
                each[frame * J + j] = single[j]
