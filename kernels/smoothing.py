"""Gaussian smoothing of joints: along the bones within a frame, and along time for each joint.

Measurements are Gaussians in information form: a mean (3,) and a 3x3 information matrix (inverse covariance), which may
be singular: a single view constrains a joint across its ray and not along it; zero means not measured.
"""

from __future__ import annotations

import numba as nb
import numpy as np

# 95 % point of chi-square with three degrees of freedom: an ordinary measurement keeps its full weight, or the error
# bars of good takes would be too wide
ORDINARY = 7.81


@nb.njit(cache=True, error_model="numpy")
def _inverse3(a, out):
    """Inverse of a 3x3 matrix, symmetric or not; returns its determinant."""
    c00 = a[1, 1] * a[2, 2] - a[1, 2] * a[2, 1]
    c01 = a[1, 2] * a[2, 0] - a[1, 0] * a[2, 2]
    c02 = a[1, 0] * a[2, 1] - a[1, 1] * a[2, 0]
    det = a[0, 0] * c00 + a[0, 1] * c01 + a[0, 2] * c02
    s = 1.0 / det
    out[0, 0] = c00 * s
    out[1, 0] = c01 * s
    out[2, 0] = c02 * s
    out[0, 1] = (a[0, 2] * a[2, 1] - a[0, 1] * a[2, 2]) * s
    out[1, 1] = (a[0, 0] * a[2, 2] - a[0, 2] * a[2, 0]) * s
    out[2, 1] = (a[0, 1] * a[2, 0] - a[0, 0] * a[2, 1]) * s
    out[0, 2] = (a[0, 1] * a[1, 2] - a[0, 2] * a[1, 1]) * s
    out[1, 2] = (a[0, 2] * a[1, 0] - a[0, 0] * a[1, 2]) * s
    out[2, 2] = (a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]) * s
    return det


@nb.njit(cache=True, error_model="numpy")
def _along(info, vector, d, covariance):
    """Mean and variance of d.x for x in information form; the variance is infinite where it is not determined."""
    trace = info[0, 0] + info[1, 1] + info[2, 2]
    if not trace > 0.0:
        return 0.0, np.inf
    det = _inverse3(info, covariance)
    if not det > 1e-12 * trace * trace * trace:
        return 0.0, np.inf
    mean = 0.0
    variance = 0.0
    for i in range(3):
        x = 0.0
        v = 0.0
        for k in range(3):
            x += covariance[i, k] * vector[k]
            v += covariance[i, k] * d[k]
        mean += d[i] * x
        variance += d[i] * v
    return mean, variance


@nb.njit(cache=True, error_model="numpy")
def bones_in_frames(mean, info, reference, order, parent, length, length_sd, start, stop):
    """Add what bone lengths say about each joint, by two sweeps of belief propagation along the tree, in place.

    Each bone is the constraint d.(x_child - x_parent) = length with a standard deviation, linearised at the direction d
    of the reference (exact on a tree for a given d). Joints without a finite mean, and bones with a non-finite length,
    take no part.

    Args:
        mean: (T, J, 3) float64, NaN where there is no estimate.
        info: (T, J, 3, 3) float64.
        reference: (T, J, 3) float64, where bone directions are taken from; may be ``mean`` itself.
        order: (J,) int64, parents before children.
        parent: (J,) int64, -1 for roots.
        length: (J,) float64 metres of the bone to the parent, NaN where not used.
        length_sd: (J,) float64 metres.
        start: First frame.
        stop: One past the last frame.
    """
    J = order.size
    vector = np.empty((J, 3))
    own = np.empty((J, 3, 3))
    up_precision = np.empty(J)
    up_value = np.empty(J)
    direction = np.empty((J, 3))
    work = np.empty((3, 3))
    without = np.empty((3, 3))
    without_vector = np.empty(3)
    for t in range(start, stop):
        # directions first: the reference may be the array that is written at the end
        for j in range(J):
            known = np.isfinite(mean[t, j, 0])
            up_precision[j] = 0.0
            up_value[j] = 0.0
            for i in range(3):
                vector[j, i] = 0.0
                for k in range(3):
                    own[j, i, k] = info[t, j, i, k] if known else 0.0
                    if known:
                        vector[j, i] += info[t, j, i, k] * mean[t, j, k]
            p = parent[j]
            direction[j, 0] = np.nan
            if (
                p >= 0
                and known
                and np.isfinite(length[j])
                and np.isfinite(mean[t, p, 0])
                and np.isfinite(reference[t, j, 0])
                and np.isfinite(reference[t, p, 0])
            ):
                n = 0.0
                for i in range(3):
                    direction[j, i] = reference[t, j, i] - reference[t, p, i]
                    n += direction[j, i] * direction[j, i]
                n = np.sqrt(n)
                if n > 1e-6:
                    for i in range(3):
                        direction[j, i] /= n
                else:
                    direction[j, 0] = np.nan
        # leaves to root: what a child knows about its parent along the bone
        for n in range(J - 1, -1, -1):
            j = order[n]
            p = parent[j]
            if p < 0 or not np.isfinite(direction[j, 0]):
                continue
            value, variance = _along(own[j], vector[j], direction[j], work)
            if np.isfinite(variance):
                up_precision[j] = 1.0 / (variance + length_sd[j] * length_sd[j])
                up_value[j] = value - length[j]
                for i in range(3):
                    vector[p, i] += direction[j, i] * up_precision[j] * up_value[j]
                    for k in range(3):
                        own[p, i, k] += direction[j, i] * direction[j, k] * up_precision[j]
        # root to leaves: the parent without what this child told it
        for n in range(J):
            j = order[n]
            p = parent[j]
            if p < 0 or not np.isfinite(direction[j, 0]):
                continue
            for i in range(3):
                without_vector[i] = vector[p, i] - direction[j, i] * up_precision[j] * up_value[j]
                for k in range(3):
                    without[i, k] = own[p, i, k] - direction[j, i] * direction[j, k] * up_precision[j]
            value, variance = _along(without, without_vector, direction[j], work)
            if np.isfinite(variance):
                precision = 1.0 / (variance + length_sd[j] * length_sd[j])
                for i in range(3):
                    vector[j, i] += direction[j, i] * precision * (value + length[j])
                    for k in range(3):
                        own[j, i, k] += direction[j, i] * direction[j, k] * precision
        for j in range(J):
            if not np.isfinite(mean[t, j, 0]):
                continue
            trace = own[j, 0, 0] + own[j, 1, 1] + own[j, 2, 2]
            det = _inverse3(own[j], work)
            for i in range(3):
                for k in range(3):
                    info[t, j, i, k] = own[j, i, k]
            if det > 1e-12 * trace * trace * trace:
                for i in range(3):
                    mean[t, j, i] = work[i, 0] * vector[j, 0] + work[i, 1] * vector[j, 1] + work[i, 2] * vector[j, 2]


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
    det = _inverse3(work, work2)
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
