"""The best proper similarity of one frame by a one-sided Jacobi decomposition: slow, and right for every frame."""

from __future__ import annotations

import numba as nb
import numpy as np


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
