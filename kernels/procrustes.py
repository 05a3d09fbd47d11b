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

from .simd import (
    LANES, VEC, bits, fma, keep, load, load_mask, nowhere, root, select, size, splat, store,
    store_counts, store_mask,
)  # fmt: skip
from .tiles import BARE, fill_last, fill_tile

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


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _jacobi(K, R):
    """Proper rotation that maximises trace(R^T K), into R; returns that trace."""
    A = K.copy()
    V = np.eye(3)
    for _ in range(30):
        off = 0.0
        for p in range(2):
            for q in range(p + 1, 3):
                app = A[0, p] ** 2 + A[1, p] ** 2 + A[2, p] ** 2
                aqq = A[0, q] ** 2 + A[1, q] ** 2 + A[2, q] ** 2
                apq = A[0, p] * A[0, q] + A[1, p] * A[1, q] + A[2, p] * A[2, q]
                if abs(apq) <= 1e-17 * np.sqrt(app * aqq) or apq == 0.0:
                    continue
                off = 1.0
                tau = (aqq - app) / (2.0 * apq)
                t = 1.0 / (abs(tau) + np.sqrt(1.0 + tau * tau))
                if tau < 0.0:
                    t = -t
                c = 1.0 / np.sqrt(1.0 + t * t)
                s = c * t
                for k in range(3):
                    x, y = A[k, p], A[k, q]
                    A[k, p], A[k, q] = c * x - s * y, s * x + c * y
                    x, y = V[k, p], V[k, q]
                    V[k, p], V[k, q] = c * x - s * y, s * x + c * y
        if off == 0.0:
            break
    first = second = 0
    big = -1.0
    for q in range(3):
        d = A[0, q] ** 2 + A[1, q] ** 2 + A[2, q] ** 2
        if d > big:
            big, first = d, q
    middle = -1.0
    for q in range(3):
        d = A[0, q] ** 2 + A[1, q] ** 2 + A[2, q] ** 2
        if q != first and d > middle:
            middle, second = d, q
    R[:] = 0.0
    if not big > 0.0:
        R[0, 0] = R[1, 1] = R[2, 2] = 1.0
        return 0.0
    U, Q = np.empty((3, 3)), np.empty((3, 3))
    for k in range(3):
        U[k, 0] = A[k, first] / np.sqrt(big)
        Q[k, 0], Q[k, 1] = V[k, first], V[k, second]
    along = A[0, second] * U[0, 0] + A[1, second] * U[1, 0] + A[2, second] * U[2, 0]
    length = 0.0
    for k in range(3):
        U[k, 1] = A[k, second] - along * U[k, 0]
        length += U[k, 1] ** 2
    if length <= 1e-32 * big:
        # collinear: any direction across the first is as good
        k = 0
        for i in range(1, 3):
            if abs(U[i, 0]) < abs(U[k, 0]):
                k = i
        length = 0.0
        for i in range(3):
            U[i, 1] = (1.0 if i == k else 0.0) - U[k, 0] * U[i, 0]
            length += U[i, 1] ** 2
    for k in range(3):
        U[k, 1] /= np.sqrt(length)
    for k in range(3):
        a, b = (k + 1) % 3, (k + 2) % 3
        U[k, 2] = U[a, 0] * U[b, 1] - U[b, 0] * U[a, 1]
        Q[k, 2] = Q[a, 0] * Q[b, 1] - Q[b, 0] * Q[a, 1]
    trace = 0.0
    for i in range(3):
        for k in range(3):
            R[i, k] = U[i, 0] * Q[k, 0] + U[i, 1] * Q[k, 1] + U[i, 2] * Q[k, 2]
            trace += R[i, k] * K[i, k]
    return trace


@nb.njit(cache=True, error_model="numpy", nogil=True)
def one_frame(pred, target, valid, J, frame, scaled, out):
    """A single frame of flat arrays by the slow road: distances (J,) into ``out``, 0 where a joint does not count.

    Returns:
        Their sum (NaN where a counted joint of the prediction is not finite) and how many joints count.
    """
    base = frame * J * 3
    n = 0
    first = 0
    fine = True
    use = np.empty(J, dtype=np.bool_)
    for j in range(J):
        k = base + 3 * j
        out[j] = 0.0
        use[j] = np.isfinite(target[k]) and np.isfinite(target[k + 1]) and np.isfinite(target[k + 2])
        if valid.size > 0 and valid[frame * J + j] == 0:
            use[j] = False
        if use[j]:
            if n == 0:
                first = k
            n += 1
            fine = fine and np.isfinite(pred[k]) and np.isfinite(pred[k + 1]) and np.isfinite(pred[k + 2])
    if n == 0 or not fine:
        for j in range(J):
            if use[j]:
                out[j] = np.nan
        return np.nan, n
    P, T = np.empty((n, 3)), np.empty((n, 3))
    i = 0
    for j in range(J):
        if use[j]:
            for k in range(3):
                # halves: the difference of two huge numbers stays finite
                P[i, k] = 0.5 * np.float64(pred[base + 3 * j + k]) - 0.5 * np.float64(pred[first + k])
                T[i, k] = 0.5 * np.float64(target[base + 3 * j + k]) - 0.5 * np.float64(target[first + k])
            i += 1
    p_size = t_size = 0.0
    for k in range(3):
        pm = tm = 0.0
        for i in range(n):
            pm += P[i, k] / n
            tm += T[i, k] / n
        for i in range(n):
            P[i, k] -= pm
            T[i, k] -= tm
            p_size, t_size = max(p_size, abs(P[i, k])), max(t_size, abs(T[i, k]))
    if not scaled:
        p_size = t_size = max(p_size, t_size)
    if p_size == 0.0:
        p_size = 1.0
    if t_size == 0.0:
        t_size = 1.0
    K = np.zeros((3, 3))
    spread = 0.0
    for i in range(n):
        for k in range(3):
            P[i, k] /= p_size
            T[i, k] /= t_size
        for a in range(3):
            spread += P[i, a] ** 2
            for b in range(3):
                K[a, b] += T[i, a] * P[i, b]
    R = np.empty((3, 3))
    trace = _jacobi(K, R)
    s = 1.0
    if scaled:
        s = trace / spread if spread > 0.0 else 0.0
    total = 0.0
    i = 0
    for j in range(J):
        if use[j]:
            e = 0.0
            for a in range(3):
                d = s * (R[a, 0] * P[i, 0] + R[a, 1] * P[i, 1] + R[a, 2] * P[i, 2]) - T[i, a]
                e += d * d
            out[j] = 2.0 * t_size * np.sqrt(e)
            if out[j] > 1e154:
                # its square leaves the range: not finite, as in every other metric
                out[j] = np.nan
            total += out[j]
            i += 1
    return total, n


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
