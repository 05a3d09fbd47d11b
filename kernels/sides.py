"""Left or right in each view: the cost of every assignment of a joint pair, and the best path over time."""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _point_cost(origins, directions, focal, use, cap2):
    """Sum over views of capped squared pixel distances between rays and the point nearest to them all.

    The point minimises the summed squared distance to the rays (linear); the worst ray is left out once when it lies
    beyond the cap and more than two remain.
    """
    V = origins.shape[0]
    skip = -1
    x = 0.0
    y = 0.0
    z = 0.0
    count = 0
    for attempt in range(2):
        a00 = 0.0
        a01 = 0.0
        a02 = 0.0
        a11 = 0.0
        a12 = 0.0
        a22 = 0.0
        b0 = 0.0
        b1 = 0.0
        b2 = 0.0
        count = 0
        for v in range(V):
            if not use[v] or v == skip:
                continue
            count += 1
            d0 = directions[v, 0]
            d1 = directions[v, 1]
            d2 = directions[v, 2]
            o0 = origins[v, 0]
            o1 = origins[v, 1]
            o2 = origins[v, 2]
            along = d0 * o0 + d1 * o1 + d2 * o2
            a00 += 1.0 - d0 * d0
            a01 -= d0 * d1
            a02 -= d0 * d2
            a11 += 1.0 - d1 * d1
            a12 -= d1 * d2
            a22 += 1.0 - d2 * d2
            b0 += o0 - d0 * along
            b1 += o1 - d1 * along
            b2 += o2 - d2 * along
        if count < 2:
            break
        c00 = a11 * a22 - a12 * a12
        c01 = a02 * a12 - a01 * a22
        c02 = a01 * a12 - a02 * a11
        det = a00 * c00 + a01 * c01 + a02 * c02
        if not det > 1e-9:
            return cap2 * count
        x = (c00 * b0 + c01 * b1 + c02 * b2) / det
        y = (c01 * b0 + (a00 * a22 - a02 * a02) * b1 + (a01 * a02 - a00 * a12) * b2) / det
        z = (c02 * b0 + (a01 * a02 - a00 * a12) * b1 + (a00 * a11 - a01 * a01) * b2) / det
        worst = -1
        largest = cap2
        for v in range(V):
            if not use[v]:
                continue
            r2 = _ray_error2(origins[v], directions[v], focal[v], x, y, z)
            if r2 > largest and v != skip:
                largest = r2
                worst = v
        if attempt == 1 or worst < 0 or count <= 2:
            break
        skip = worst
    cost = 0.0
    if count < 2:
        return 0.0
    for v in range(V):
        if use[v]:
            cost += min(_ray_error2(origins[v], directions[v], focal[v], x, y, z), cap2)
    return cost


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _ray_error2(o, d, focal, x, y, z):
    """Squared distance in pixels between a ray and a point, near the ray's own pixel; huge behind the camera."""
    e0 = x - o[0]
    e1 = y - o[1]
    e2 = z - o[2]
    depth = e0 * d[0] + e1 * d[1] + e2 * d[2]
    if not depth > 1e-6:
        return 1e12
    p0 = e0 - depth * d[0]
    p1 = e1 - depth * d[1]
    p2 = e2 - depth * d[2]
    return (p0 * p0 + p1 * p1 + p2 * p2) / (depth * depth) * focal * focal


@nb.njit(cache=True, error_model="numpy", nogil=True)
def pair_costs(origins, left, right, focal, states, cap, out, start, stop):
    """Add the cost of each assignment of one pair to ``out``, capped squared pixels.

    Args:
        origins: (V, 3) camera centres.
        left: (V, T, 3) unit rays of the joint called left, NaN where not seen.
        right: (V, T, 3) of the joint called right.
        focal: (V,) pixels per radian near the middle.
        states: (S, V) bool, true where a view's names are exchanged.
        cap: Pixels.
        out: (T, S).
        start: First frame.
        stop: One past the last frame.
    """
    V = origins.shape[0]
    S = states.shape[0]
    first = np.empty((V, 3))
    second = np.empty((V, 3))
    use_first = np.empty(V, dtype=np.bool_)
    use_second = np.empty(V, dtype=np.bool_)
    for t in range(start, stop):
        for s in range(S):
            for v in range(V):
                a = right if states[s, v] else left
                b = left if states[s, v] else right
                use_first[v] = np.isfinite(a[v, t, 0])
                use_second[v] = np.isfinite(b[v, t, 0])
                for i in range(3):
                    first[v, i] = a[v, t, i]
                    second[v, i] = b[v, t, i]
            out[t, s] += _point_cost(origins, first, focal, use_first, cap * cap)
            out[t, s] += _point_cost(origins, second, focal, use_second, cap * cap)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def best_path(unary, transition, path):
    """The cheapest sequence of states (Viterbi).

    Args:
        unary: (T, S).
        transition: (S, S).
        path: (T,) int64 out.
    """
    T, S = unary.shape
    back = np.empty((T, S), dtype=np.int16)
    cost = unary[0].copy()
    following = np.empty(S)
    for t in range(1, T):
        for s in range(S):
            best = np.inf
            which = 0
            for p in range(S):
                c = cost[p] + transition[p, s]
                if c < best:
                    best = c
                    which = p
            following[s] = best + unary[t, s]
            back[t, s] = which
        # keep the numbers small over long takes
        low = following.min()
        for s in range(S):
            cost[s] = following[s] - low
    path[T - 1] = np.argmin(cost)
    for t in range(T - 2, -1, -1):
        path[t] = back[t + 1, path[t + 1]]
