"""Gaussian smoothing of joints along time.

Measurements are Gaussians in information form: a mean (3,) and a 3x3 information matrix (inverse covariance), which may
be singular: a single view constrains a joint across its ray and not along it; zero means not measured.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .inverse3 import inverse3

# 95 % point of chi-square with three degrees of freedom: an ordinary measurement keeps its full weight, or the error
# bars of good takes would be too wide
ORDINARY = 7.81


@nb.njit(cache=True, error_model="numpy")
def _predict(x, P, dt, q, order):
    """One step of the motion prior in place: the ``order``-th derivative of position is white noise of density q."""
    n = 3 * order
    h = 0.5 * dt * dt
    for r in range(order - 1):
        for i in range(3):
            x[3 * r + i] += dt * x[3 * r + 3 + i]
            if r + 2 < order:
                x[3 * r + i] += h * x[3 * r + 6 + i]
            for k in range(n):
                P[3 * r + i, k] += dt * P[3 * r + 3 + i, k]
                if r + 2 < order:
                    P[3 * r + i, k] += h * P[3 * r + 6 + i, k]
    for i in range(n):
        for r in range(order - 1):
            for k in range(3):
                P[i, 3 * r + k] += dt * P[i, 3 * r + 3 + k]
                if r + 2 < order:
                    P[i, 3 * r + k] += h * P[i, 3 * r + 6 + k]
    # the integrated noise of derivatives a and b of a polynomial of degree order - 1
    factorial = (1.0, 1.0, 2.0)
    for a in range(order):
        for b in range(order):
            da = order - 1 - a
            db = order - 1 - b
            value = q * dt ** (da + db + 1) / ((da + db + 1) * factorial[da] * factorial[db])
            for i in range(3):
                P[3 * a + i, 3 * b + i] += value


@nb.njit(cache=True, error_model="numpy")
def _backward_step(lam, Lam, dt, order):
    """The adjoint of the prediction, in place: lam <- F' lam, Lam <- F' Lam F."""
    n = 3 * order
    h = 0.5 * dt * dt
    for r in range(order - 1, 0, -1):
        for i in range(3):
            lam[3 * r + i] += dt * lam[3 * r - 3 + i]
            if r >= 2:
                lam[3 * r + i] += h * lam[3 * r - 6 + i]
            for k in range(n):
                Lam[3 * r + i, k] += dt * Lam[3 * r - 3 + i, k]
                if r >= 2:
                    Lam[3 * r + i, k] += h * Lam[3 * r - 6 + i, k]
    for i in range(n):
        for r in range(order - 1, 0, -1):
            for k in range(3):
                Lam[i, 3 * r + k] += dt * Lam[i, 3 * r - 3 + k]
                if r >= 2:
                    Lam[i, 3 * r + k] += h * Lam[i, 3 * r - 6 + k]


@nb.njit(cache=True, error_model="numpy")
def _gain(P, info, S_inverse, work, work2):
    """S_inverse = info (I + P_pp info)^-1, the inverse innovation covariance, valid for singular info.

    Returns det(I + P_pp info).
    """
    for i in range(3):
        for k in range(3):
            s = 1.0 if i == k else 0.0
            for m in range(3):
                s += P[i, m] * info[m, k]
            work[i, k] = s
    det = inverse3(work, work2)
    for i in range(3):
        for k in range(3):
            v = 0.0
            for m in range(3):
                v += info[i, m] * work2[m, k]
            S_inverse[i, k] = v
    for i in range(3):
        for k in range(i):
            v = 0.5 * (S_inverse[i, k] + S_inverse[k, i])
            S_inverse[i, k] = v
            S_inverse[k, i] = v
    return det


@nb.njit(cache=True, error_model="numpy")
def smooth_joint(times, mean, info, weight, q, position_sd, rate_sd, order, out_mean, out_covariance):
    """Fixed-interval smoother of one joint (modified Bryson-Frazier form; Bierman, 1973).

    The prior is white noise in the second (acceleration) or third (jerk) derivative; the start is diffuse around the
    first measurement.

    Args:
        times: (T,) float64 seconds.
        mean: (T, 3) float64 measured positions, NaN where not measured.
        info: (T, 3, 3) float64, may be singular.
        weight: (T,) float64 factors on the information (robust weights).
        q: Density of the noise, m^2/s^3 (order 2) or m^2/s^5 (order 3).
        position_sd: Prior standard deviation of the first position, metres.
        rate_sd: Of the first velocity in m/s; ten times that for the first acceleration in m/s^2.
        order: 2 or 3, which derivative is white noise.
        out_mean: (T, 3) smoothed positions.
        out_covariance: (T, 3, 3).

    Returns:
        The log likelihood of the measurements up to a constant that does not depend on q.
    """
    T = times.size
    first = -1
    for t in range(T):
        if np.isfinite(mean[t, 0]) and weight[t] > 0.0:
            first = t
            break
    if first < 0:
        out_mean[:] = np.nan
        out_covariance[:] = np.nan
        return 0.0
    n = 3 * order
    x = np.zeros(n)
    P = np.zeros((n, n))
    for i in range(3):
        x[i] = mean[first, i]
        P[i, i] = position_sd * position_sd
        P[3 + i, 3 + i] = rate_sd * rate_sd
        if order > 2:
            P[6 + i, 6 + i] = 100.0 * rate_sd * rate_sd
    xs = np.empty((T, n))
    Ps = np.empty((T, n, n))
    Ss = np.zeros((T, 3, 3))
    ys = np.zeros((T, 3))
    L = np.empty((3, 3))
    w1 = np.empty((3, 3))
    w2 = np.empty((3, 3))
    PS = np.empty((n, 3))
    likelihood = 0.0
    for t in range(T):
        if t > 0:
            _predict(x, P, times[t] - times[t - 1], q, order)
        xs[t] = x
        Ps[t] = P
        if np.isfinite(mean[t, 0]) and weight[t] > 0.0:
            for i in range(3):
                for k in range(3):
                    L[i, k] = info[t, i, k] * weight[t]
            det = _gain(P, L, Ss[t], w1, w2)
            chi = 0.0
            for i in range(3):
                ys[t, i] = mean[t, i] - x[i]
            for i in range(3):
                for k in range(3):
                    chi += ys[t, i] * Ss[t, i, k] * ys[t, k]
            likelihood -= 0.5 * (chi + np.log(det))
            for i in range(n):
                for k in range(3):
                    v = 0.0
                    for m in range(3):
                        v += P[i, m] * Ss[t, m, k]
                    PS[i, k] = v
            for i in range(n):
                for k in range(3):
                    x[i] += PS[i, k] * ys[t, k]
            for i in range(n):
                for k in range(i, n):
                    v = Ps[t, i, k]
                    for m in range(3):
                        v -= PS[i, m] * Ps[t, m, k]
                    P[i, k] = v
                    P[k, i] = v
    lam = np.zeros(n)
    Lam = np.zeros((n, n))
    SP = np.empty((3, n))
    A = np.empty((n, n))
    for t in range(T - 1, -1, -1):
        if t < T - 1:
            _backward_step(lam, Lam, times[t + 1] - times[t], order)
        if np.isfinite(mean[t, 0]) and weight[t] > 0.0:
            # through the update: lam <- C' lam - H' S^-1 y, Lam <- C' Lam C + H' S^-1 H with C = I - P H' S^-1 H
            for i in range(3):
                for k in range(n):
                    v = 0.0
                    for m in range(3):
                        v += Ss[t, i, m] * Ps[t, m, k]
                    SP[i, k] = v
            for i in range(3):
                v = 0.0
                for m in range(n):
                    v += SP[i, m] * lam[m]
                for m in range(3):
                    v += Ss[t, i, m] * ys[t, m]
                A[i, 0] = v
            for i in range(3):
                lam[i] -= A[i, 0]
            # only the first three rows and columns of C differ from the identity
            for i in range(3):
                for k in range(n):
                    v = Lam[i, k]
                    for m in range(n):
                        v -= SP[i, m] * Lam[m, k]
                    A[i, k] = v
            for i in range(3):
                for k in range(n):
                    Lam[i, k] = A[i, k]
            for i in range(n):
                for k in range(3):
                    v = Lam[i, k]
                    for m in range(n):
                        v -= Lam[i, m] * SP[k, m]
                    A[i, k] = v
            for i in range(n):
                for k in range(3):
                    Lam[i, k] = A[i, k]
            for i in range(3):
                for k in range(3):
                    Lam[i, k] += Ss[t, i, k]
            for i in range(n):
                for k in range(i):
                    v = 0.5 * (Lam[i, k] + Lam[k, i])
                    Lam[i, k] = v
                    Lam[k, i] = v
        for i in range(3):
            v = xs[t, i]
            for m in range(n):
                v -= Ps[t, i, m] * lam[m]
            out_mean[t, i] = v
            for k in range(n):
                s = 0.0
                for m in range(n):
                    s += Ps[t, i, m] * Lam[m, k]
                A[i, k] = s
        for i in range(3):
            for k in range(i, 3):
                v = Ps[t, i, k]
                for m in range(n):
                    v -= A[i, m] * Ps[t, m, k]
                out_covariance[t, i, k] = v
                out_covariance[t, k, i] = v
    return likelihood


@nb.njit(cache=True, error_model="numpy")
def held_out(mean, info, weight, smooth, covariance):
    """How well each measurement is foretold by all the others: sum of log predictive densities, up to a constant.

    With the smoothed marginal (x, C) at a time, y measured with information L and r = y - x, the marginal without that
    measurement predicts y with ``r' L (I - C L)^-1 r`` in place of chi-square and ``det(L) det(I - C L)`` as the
    determinant of its information.

    Args:
        mean: (T, 3) measured positions, NaN where not measured.
        info: (T, 3, 3).
        weight: (T,), 0 = not measured.
        smooth: (T, 3) positions smoothed with these measurements.
        covariance: (T, 3, 3) theirs.
    """
    M = np.empty((3, 3))
    M_inverse = np.empty((3, 3))
    r = np.empty(3)
    total = 0.0
    for t in range(mean.shape[0]):
        if not (np.isfinite(mean[t, 0]) and weight[t] > 0.0):
            continue
        for i in range(3):
            r[i] = mean[t, i] - smooth[t, i]
            for k in range(3):
                s = 1.0 if i == k else 0.0
                for m in range(3):
                    s -= covariance[t, i, m] * info[t, m, k] * weight[t]
                M[i, k] = s
        det = inverse3(M, M_inverse)
        if not det > 0.0:
            continue
        chi = 0.0
        for i in range(3):
            foretold = M_inverse[i, 0] * r[0] + M_inverse[i, 1] * r[1] + M_inverse[i, 2] * r[2]
            for k in range(3):
                chi += r[k] * info[t, k, i] * weight[t] * foretold
        total += 0.5 * np.log(det) - 0.5 * chi
    return total


@nb.njit(cache=True, error_model="numpy")
def smooth_joint_robust(
    times, mean, info, q, gate, rounds, position_sd, rate_sd, order, out_mean, out_covariance, weight
):
    """As :func:`smooth_joint`, with measurements far from the smooth path down-weighted (Geman-McClure weights
    beyond what chance gives).

    The distance is measured in standard deviations of the measurement and the path together, so a long way to bridge
    widens the gate.

    Args:
        times: (T,) seconds.
        mean: (T, 3).
        info: (T, 3, 3).
        q: m^2/s^3.
        gate: Distance in standard deviations at which the weight is 1/4.
        rounds: Number of re-weightings.
        position_sd: See :func:`smooth_joint`.
        rate_sd: See :func:`smooth_joint`.
        order: See there.
        out_mean: (T, 3).
        out_covariance: (T, 3, 3).
        weight: (T,) out, the last weights.

    Returns:
        As :func:`smooth_joint`.
    """
    T = times.size
    weight[:] = 1.0
    likelihood = smooth_joint(times, mean, info, weight, q, position_sd, rate_sd, order, out_mean, out_covariance)
    S = np.empty((3, 3))
    w1 = np.empty((3, 3))
    w2 = np.empty((3, 3))
    P = np.zeros((3, 3))
    d = np.empty(3)
    for _ in range(rounds):
        for t in range(T):
            if not np.isfinite(mean[t, 0]):
                continue
            for i in range(3):
                d[i] = mean[t, i] - out_mean[t, i]
                for k in range(3):
                    P[i, k] = out_covariance[t, i, k]
            _gain(P, info[t], S, w1, w2)
            chi = 0.0
            for i in range(3):
                for k in range(3):
                    chi += d[i] * S[i, k] * d[k]
            s = 1.0 / (1.0 + max(chi - ORDINARY, 0.0) / max(gate * gate - ORDINARY, 1.0))
            weight[t] = s * s
        likelihood = smooth_joint(times, mean, info, weight, q, position_sd, rate_sd, order, out_mean, out_covariance)
    return likelihood


@nb.njit(cache=True, error_model="numpy", parallel=True)
def smooth_joints(times, mean, info, q, gate, rounds, position_sd, rate_sd, order, out_mean, out_covariance, weight):
    """:func:`smooth_joint_robust` for each joint, joints shared out over threads.

    Args:
        times: (T,) seconds.
        mean: (J, T, 3).
        info: (J, T, 3, 3).
        q: (J,) m^2/s^3.
        gate: See :func:`smooth_joint_robust`.
        rounds: See there.
        position_sd: See there.
        rate_sd: See there.
        order: See there.
        out_mean: (J, T, 3).
        out_covariance: (J, T, 3, 3).
        weight: (J, T).

    Returns:
        (J,) log likelihoods.
    """
    J = mean.shape[0]
    likelihood = np.empty(J)
    for j in nb.prange(J):
        likelihood[j] = smooth_joint_robust(
            times, mean[j], info[j], q[j], gate, rounds, position_sd, rate_sd, order,
            out_mean[j], out_covariance[j], weight[j],
        )  # fmt: skip
    return likelihood
