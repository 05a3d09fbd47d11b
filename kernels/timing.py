"""When two cameras saw the same: how badly their rays meet for every lag, with the relative pose free to adapt."""

from __future__ import annotations

import numba as nb
import numpy as np

_FREE = 5  # turn of the second camera (3) and direction of the baseline (2)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _solve(a, b):
    """Solve a positive definite system (n, n) by Cholesky, both overwritten; false when it is not definite."""
    n = b.size
    for i in range(n):
        for k in range(i + 1):
            s = a[i, k]
            for m in range(k):
                s -= a[i, m] * a[k, m]
            if i == k:
                if not s > 0.0:
                    return False
                a[i, i] = np.sqrt(s)
            else:
                a[i, k] = s / a[k, k]
    for i in range(n):
        for m in range(i):
            b[i] -= a[i, m] * b[m]
        b[i] /= a[i, i]
    for i in range(n - 1, -1, -1):
        for m in range(i + 1, n):
            b[i] -= a[m, i] * b[m]
        b[i] /= a[i, i]
    return True


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _turn(R, w):
    """R <- exp(w) R for a rotation vector, in place (Rodrigues)."""
    angle = np.sqrt(w[0] * w[0] + w[1] * w[1] + w[2] * w[2])
    if angle < 1e-12:
        return
    s = np.sin(angle) / angle
    c = (1.0 - np.cos(angle)) / (angle * angle)
    for k in range(3):
        x = R[0, k]
        y = R[1, k]
        z = R[2, k]
        cx = w[1] * z - w[2] * y
        cy = w[2] * x - w[0] * z
        cz = w[0] * y - w[1] * x
        R[0, k] = x + s * cx + c * (w[1] * cz - w[2] * cy)
        R[1, k] = y + s * cy + c * (w[2] * cx - w[0] * cz)
        R[2, k] = z + s * cz + c * (w[0] * cy - w[1] * cx)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def pair_profile(baseline, first, second, f1, f2, frames, joints, lags, widest, scale, rounds, prior, cost, typical):
    """Robust epipolar cost of two views for each lag, the relative pose fitted anew for every one.

    A pair of rays meets where ``b . (r1 x r2) = 0``; the residual is that product over its standard deviation for one
    pixel of noise in each view (Sampson). Its robust mean (Geman-McClure) is least over a turn of the second camera and
    the direction of the baseline, by Gauss-Newton with a scale that shrinks from ``widest`` to ``scale``. A camera
    turned a little therefore does not pass for a late one.

    Args:
        baseline: (3,) from the first centre to the second, any length.
        first: (T, J, 3) unit rays of the first view in the world, NaN where not seen.
        second: (T, J, 3) of the second.
        f1: Pixels per radian of the first view.
        f2: Of the second.
        frames: (N,) int64 frames of the first view.
        joints: (N,) int64.
        lags: (K,) int64 frames by which the second view is read later.
        widest: Pixels, scale of the first round.
        scale: Pixels, scale of the last rounds and of the cost.
        rounds: Gauss-Newton steps.
        prior: Standard deviation of the turn, radians (a prior with the weight of a single joint).
        cost: (K,) out, mean robust squared pixels, NaN with fewer than 20 joints.
        typical: (K,) out, median of the absolute residual over 0.6745 of the joints below three scales.
    """
    T = first.shape[0]
    N = frames.size
    r1 = np.empty((N, 3))
    r2 = np.empty((N, 3))
    residual = np.empty(N)
    b = np.empty(3)
    u = np.empty(3)
    v = np.empty(3)
    R = np.empty((3, 3))
    A = np.empty((_FREE, _FREE))
    g = np.empty(_FREE)
    J = np.empty(_FREE)
    turned = np.empty(3)
    cross = np.empty(3)
    length = np.sqrt(baseline[0] ** 2 + baseline[1] ** 2 + baseline[2] ** 2)
    for k in range(lags.size):
        n = 0
        for i in range(N):
            t = frames[i] + lags[k]
            if t < 0 or t >= T:
                continue
            if np.isfinite(first[frames[i], joints[i], 0]) and np.isfinite(second[t, joints[i], 0]):
                for m in range(3):
                    r1[n, m] = first[frames[i], joints[i], m]
                    r2[n, m] = second[t, joints[i], m]
                n += 1
        cost[k] = np.nan
        typical[k] = np.nan
        if n < 20:
            continue
        for m in range(3):
            b[m] = baseline[m] / length
            for q in range(3):
                R[m, q] = 1.0 if m == q else 0.0
        width = widest
        for attempt in range(rounds + 1):
            # two directions across the baseline
            least = 0
            for m in range(3):
                if abs(b[m]) < abs(b[least]):
                    least = m
            for m in range(3):
                u[m] = (1.0 if m == least else 0.0) - b[least] * b[m]
            norm = np.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2)
            for m in range(3):
                u[m] /= norm
            v[0] = b[1] * u[2] - b[2] * u[1]
            v[1] = b[2] * u[0] - b[0] * u[2]
            v[2] = b[0] * u[1] - b[1] * u[0]
            A[:] = 0.0
            g[:] = 0.0
            total = 0.0
            for i in range(n):
                for m in range(3):
                    turned[m] = R[m, 0] * r2[i, 0] + R[m, 1] * r2[i, 1] + R[m, 2] * r2[i, 2]
                # b x r1 and r2 x b: gradients of the product by the rays
                p0 = b[1] * r1[i, 2] - b[2] * r1[i, 1]
                p1 = b[2] * r1[i, 0] - b[0] * r1[i, 2]
                p2 = b[0] * r1[i, 1] - b[1] * r1[i, 0]
                q0 = turned[1] * b[2] - turned[2] * b[1]
                q1 = turned[2] * b[0] - turned[0] * b[2]
                q2 = turned[0] * b[1] - turned[1] * b[0]
                e = p0 * turned[0] + p1 * turned[1] + p2 * turned[2]
                sd = np.sqrt((q0 * q0 + q1 * q1 + q2 * q2) / (f1 * f1) + (p0 * p0 + p1 * p1 + p2 * p2) / (f2 * f2))
                if not sd > 1e-9:
                    residual[i] = 0.0
                    continue
                e /= sd
                residual[i] = e
                w = 1.0 / (1.0 + e * e / (width * width))
                total += e * e * w
                w *= w
                cross[0] = r1[i, 1] * turned[2] - r1[i, 2] * turned[1]
                cross[1] = r1[i, 2] * turned[0] - r1[i, 0] * turned[2]
                cross[2] = r1[i, 0] * turned[1] - r1[i, 1] * turned[0]
                # (b x r1) . (w x r2) = w . (r2 x (b x r1))
                J[0] = (turned[1] * p2 - turned[2] * p1) / sd
                J[1] = (turned[2] * p0 - turned[0] * p2) / sd
                J[2] = (turned[0] * p1 - turned[1] * p0) / sd
                J[3] = (u[0] * cross[0] + u[1] * cross[1] + u[2] * cross[2]) / sd
                J[4] = (v[0] * cross[0] + v[1] * cross[1] + v[2] * cross[2]) / sd
                for m in range(_FREE):
                    g[m] -= w * J[m] * e
                    for q in range(m + 1):
                        A[m, q] += w * J[m] * J[q]
            if attempt == rounds:
                cost[k] = total / n
                break
            for m in range(_FREE):
                A[m, m] += 1.0 / (prior * prior)
            if not _solve(A, g):
                cost[k] = total / n
                break
            size = np.sqrt(g[0] ** 2 + g[1] ** 2 + g[2] ** 2)
            if size > 0.05:
                for m in range(_FREE):
                    g[m] *= 0.05 / size
            _turn(R, g[:3])
            norm = 0.0
            for m in range(3):
                b[m] += g[3] * u[m] + g[4] * v[m]
                norm += b[m] * b[m]
            for m in range(3):
                b[m] /= np.sqrt(norm)
            width = max(scale, 0.6 * width)
        near = 0
        for i in range(n):
            if abs(residual[i]) < 3.0 * scale:
                residual[near] = abs(residual[i])
                near += 1
        if near > 0:
            typical[k] = np.median(residual[:near]) / 0.6745
