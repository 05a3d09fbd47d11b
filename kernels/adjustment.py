"""Bundle adjustment: robust cost, and the normal equations of the cameras after elimination of the joints.

Parameters of a camera, P of them: a turn (3, radians) and a shift (3, metres) in its own frame, then, where asked for,
the logarithm of a factor on its focal lengths and the frames by which it reads late.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .inverse3 import inverse3
from .projection import project_jacobian_one, project_one

LOST_PX = 100.0
_POSE = 6


@nb.njit(cache=True, error_model="numpy", nogil=True)
def robust_cost(models, params, T_camera_world, points, velocity, clocks, uv, weight, loss):
    """Sum of ``2 s^2 (sqrt(1 + r^2 / s^2) - 1)`` over the views that count, ``s = loss``.

    Args:
        models: (V,) int64.
        params: (V, 20).
        T_camera_world: (V, 3, 4).
        points: (N, 3) metres.
        velocity: (N, 3) metres per frame.
        clocks: (V,) frames by which each view reads late.
        uv: (V, N, 2) pixels.
        weight: (V, N), 0 = does not count.
        loss: Pixels.
    """
    total = 0.0
    for v in range(models.size):
        T = T_camera_world[v]
        for n in range(points.shape[0]):
            if not weight[v, n] > 0.0:
                continue
            x = points[n, 0] - clocks[v] * velocity[n, 0]
            y = points[n, 1] - clocks[v] * velocity[n, 1]
            z = points[n, 2] - clocks[v] * velocity[n, 2]
            u, w, ok = project_one(
                models[v], params[v],
                T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3],
                T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3],
                T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3],
            )  # fmt: skip
            r2 = (u - uv[v, n, 0]) ** 2 + (w - uv[v, n, 1]) ** 2
            if not (ok and np.isfinite(r2)):
                r2 = 2.0 * LOST_PX * LOST_PX
            total += weight[v, n] * 2.0 * loss * loss * (np.sqrt(1.0 + r2 / (loss * loss)) - 1.0)
    return total


@nb.njit(cache=True, error_model="numpy", nogil=True)
def normal_equations(
    models, params, T_camera_world, points, velocity, clocks, uv, weight, loss, with_focal, with_clock, damping,
    S, rhs, C_inverse, b, W,
):  # fmt: skip
    """Gauss-Newton system of the cameras (Schur complement), and what the joints' steps follow from.

    Args:
        models: As in :func:`robust_cost`, like all up to ``loss``.
        params: See there.
        T_camera_world: See there.
        points: See there.
        velocity: See there.
        clocks: See there.
        uv: See there.
        weight: See there.
        loss: See there.
        with_focal: Whether the focal lengths are parameters.
        with_clock: Whether the clocks are.
        damping: Share of the diagonal added (Levenberg-Marquardt).
        S: (V P, V P) out.
        rhs: (V P,) out.
        C_inverse: (N, 3, 3) out, inverse normal matrices of the joints.
        b: (N, 3) out.
        W: (N, V P, 3) out; the step of joint n is ``C_inverse[n] @ (b[n] - W[n].T @ step)``.
    """
    V = models.size
    P = _POSE + (1 if with_focal else 0) + (1 if with_clock else 0)
    A = np.empty((2, P))
    B = np.empty((2, 3))
    C = np.empty((3, 3))
    Y = np.empty((V * P, 3))
    U = np.zeros((V, P, P))
    local = np.empty(3)
    S[:] = 0.0
    rhs[:] = 0.0
    W[:] = 0.0
    for n in range(points.shape[0]):
        C[:] = 0.0
        b[n] = 0.0
        for v in range(V):
            if not weight[v, n] > 0.0:
                continue
            T = T_camera_world[v]
            for i in range(3):
                local[i] = T[i, 3]
                for k in range(3):
                    local[i] += T[i, k] * (points[n, k] - clocks[v] * velocity[n, k])
            pu, pv, ok, a00, a01, a02, a10, a11, a12 = project_jacobian_one(
                models[v], params[v], local[0], local[1], local[2]
            )
            r0 = pu - uv[v, n, 0]
            r1 = pv - uv[v, n, 1]
            if not (ok and np.isfinite(r0 + r1 + a00 + a01 + a02 + a10 + a11 + a12)):
                continue
            for k in range(2):
                j0, j1, j2 = (a00, a01, a02) if k == 0 else (a10, a11, a12)
                # seen from a camera moved by (turn w, shift s) in its own frame the point is x + x cross w - s
                A[k, 0] = j1 * local[2] - j2 * local[1]
                A[k, 1] = j2 * local[0] - j0 * local[2]
                A[k, 2] = j0 * local[1] - j1 * local[0]
                A[k, 3] = -j0
                A[k, 4] = -j1
                A[k, 5] = -j2
                for i in range(3):
                    B[k, i] = j0 * T[0, i] + j1 * T[1, i] + j2 * T[2, i]
                if with_focal:
                    A[k, _POSE] = pu - params[v, 2] if k == 0 else pv - params[v, 3]
                if with_clock:
                    A[k, P - 1] = -(B[k, 0] * velocity[n, 0] + B[k, 1] * velocity[n, 1] + B[k, 2] * velocity[n, 2])
            w = weight[v, n] / np.sqrt(1.0 + (r0 * r0 + r1 * r1) / (loss * loss))
            for i in range(P):
                row = v * P + i
                rhs[row] -= w * (A[0, i] * r0 + A[1, i] * r1)
                for k in range(i + 1):
                    U[v, i, k] += w * (A[0, i] * A[0, k] + A[1, i] * A[1, k])
                for k in range(3):
                    W[n, row, k] = w * (A[0, i] * B[0, k] + A[1, i] * B[1, k])
            for i in range(3):
                b[n, i] -= w * (B[0, i] * r0 + B[1, i] * r1)
                for k in range(3):
                    C[i, k] += w * (B[0, i] * B[0, k] + B[1, i] * B[1, k])
        trace = C[0, 0] + C[1, 1] + C[2, 2]
        for i in range(3):
            C[i, i] = C[i, i] * (1.0 + damping) + 1e-9 * trace + 1e-12
        inverse3(C, C_inverse[n])
        for i in range(V * P):
            for k in range(3):
                Y[i, k] = (
                    W[n, i, 0] * C_inverse[n, 0, k] + W[n, i, 1] * C_inverse[n, 1, k] + W[n, i, 2] * C_inverse[n, 2, k]
                )
            rhs[i] -= Y[i, 0] * b[n, 0] + Y[i, 1] * b[n, 1] + Y[i, 2] * b[n, 2]
        for v in range(V):
            if not weight[v, n] > 0.0:
                continue
            for q in range(v + 1):
                if not weight[q, n] > 0.0:
                    continue
                for i in range(v * P, v * P + P):
                    for k in range(q * P, q * P + P):
                        S[i, k] -= Y[i, 0] * W[n, k, 0] + Y[i, 1] * W[n, k, 1] + Y[i, 2] * W[n, k, 2]
    for v in range(V):
        for i in range(P):
            for k in range(i + 1):
                S[v * P + i, v * P + k] += U[v, i, k] * (1.0 + damping if i == k else 1.0)
    for i in range(V * P):
        for k in range(i):
            S[k, i] = S[i, k]
