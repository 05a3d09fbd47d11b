"""The rule of the official Ego-Exo4D automatic annotation for one joint: every pair of views, fixed inlier distance.

Read from the published pipeline as rules: confidence-weighted linear solve of each pair, inliers within 0.01 of half
the distance in normalised coordinates, a set is taken when it is at least as large and its mean error smaller, then an
unweighted solve and a least-squares refinement over the inliers. No test of the viewing direction, of the angle between
rays or of the final residual: that is the rule.
"""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _linear(P, xy, weight, use, out):
    """Homogeneous linear solve over the views used; false when there is no finite point."""
    A = np.zeros((4, 4))
    row = np.empty(4)
    for c in range(P.shape[0]):
        if not use[c]:
            continue
        w2 = weight[c] * weight[c]
        for axis in range(2):
            for k in range(4):
                row[k] = xy[c, axis] * P[c, 2, k] - P[c, axis, k]
            for i in range(4):
                for k in range(4):
                    A[i, k] += w2 * row[i] * row[k]
    vectors = np.linalg.eigh(A)[1]
    h = vectors[3, 0]
    if not abs(h) > 1e-12:
        return False
    for i in range(3):
        out[i] = vectors[i, 0] / h
    return np.isfinite(out[0] + out[1] + out[2])


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _errors(P, xy, seen, point, out):
    """Half the distance between seen and projected normalised coordinates; points behind a camera alias, as there."""
    for c in range(P.shape[0]):
        out[c] = np.nan
        if not seen[c]:
            continue
        d = P[c, 2, 0] * point[0] + P[c, 2, 1] * point[1] + P[c, 2, 2] * point[2] + P[c, 2, 3]
        x = (P[c, 0, 0] * point[0] + P[c, 0, 1] * point[1] + P[c, 0, 2] * point[2] + P[c, 0, 3]) / d - xy[c, 0]
        y = (P[c, 1, 0] * point[0] + P[c, 1, 1] * point[1] + P[c, 1, 2] * point[2] + P[c, 1, 3]) / d - xy[c, 1]
        out[c] = 0.5 * np.sqrt(x * x + y * y)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _refine(P, xy, use, point, normal, rounds):
    """Gauss-Newton on the distances over the views used; the robust loss of the rule is quadratic at this scale."""
    step = np.empty(3)
    g = np.empty(3)
    J = np.empty((2, 3))
    for n in range(rounds + 1):
        normal[:] = 0.0
        g[:] = 0.0
        for c in range(P.shape[0]):
            if not use[c]:
                continue
            X = P[c, 0, 0] * point[0] + P[c, 0, 1] * point[1] + P[c, 0, 2] * point[2] + P[c, 0, 3]
            Y = P[c, 1, 0] * point[0] + P[c, 1, 1] * point[1] + P[c, 1, 2] * point[2] + P[c, 1, 3]
            Z = P[c, 2, 0] * point[0] + P[c, 2, 1] * point[1] + P[c, 2, 2] * point[2] + P[c, 2, 3]
            for k in range(3):
                J[0, k] = (P[c, 0, k] - X / Z * P[c, 2, k]) / Z
                J[1, k] = (P[c, 1, k] - Y / Z * P[c, 2, k]) / Z
            rx = xy[c, 0] - X / Z
            ry = xy[c, 1] - Y / Z
            for i in range(3):
                g[i] += J[0, i] * rx + J[1, i] * ry
                for k in range(3):
                    normal[i, k] += J[0, i] * J[0, k] + J[1, i] * J[1, k]
        if n == rounds:
            return
        step[:] = np.linalg.solve(normal + 1e-12 * np.eye(3), g)
        if not np.isfinite(step[0] + step[1] + step[2]):
            return
        for i in range(3):
            point[i] += step[i]


@nb.njit(cache=True, error_model="numpy", nogil=True)
def official_points(P, xy, confidence, limit, points, normals, used, error, start, stop):
    """Every point on its own.

    Args:
        P: (C, 3, 4) world to normalised camera coordinates.
        xy: (C, N, 2) normalised undistorted coordinates, NaN = unseen or below the confidence gate.
        confidence: (C, N).
        limit: Inlier distance (half the distance in normalised coordinates).
        points: (N, 3) out, NaN with fewer than two views.
        normals: (N, 3, 3) out, normal matrix in normalised units.
        used: (C, N) bool out.
        error: (N,) out, mean distance of the views used (the whole one, not half).
        start: First point.
        stop: One past the last.
    """
    C = P.shape[0]
    seen = np.empty(C, dtype=np.bool_)
    pair = np.zeros(C, dtype=np.bool_)
    inlier = np.empty(C, dtype=np.bool_)
    best = np.empty(C, dtype=np.bool_)
    e = np.empty(C)
    point = np.empty(3)
    weight = np.empty(C)
    ones = np.ones(C)
    q = np.empty((C, 2))
    for n in range(start, stop):
        count = 0
        for c in range(C):
            seen[c] = np.isfinite(xy[c, n, 0]) and np.isfinite(xy[c, n, 1])
            count += seen[c]
            best[c] = False
            used[c, n] = False
            q[c, 0] = xy[c, n, 0]
            q[c, 1] = xy[c, n, 1]
        points[n] = np.nan
        normals[n] = np.nan
        error[n] = np.nan
        if count < 2:
            continue
        size = 0
        mean_best = np.inf
        for a in range(C):
            for b in range(a + 1, C):
                if not (seen[a] and seen[b]):
                    continue
                pair[:] = False
                pair[a] = True
                pair[b] = True
                top = max(confidence[a, n], confidence[b, n])
                weight[:] = 1.0
                if top > 0.0:
                    weight[a] = confidence[a, n] / top
                    weight[b] = confidence[b, n] / top
                if not _linear(P, q, weight, pair, point):
                    continue
                _errors(P, q, seen, point, e)
                inside = 0
                total_inside = 0.0
                below = 0
                total = 0.0
                for c in range(C):
                    inlier[c] = pair[c]
                    if seen[c]:
                        total += e[c]
                        if e[c] < limit:
                            inlier[c] = True
                            total_inside += e[c]
                            below += 1
                    inside += inlier[c]
                mean_inside = total_inside / below if below > 0 else np.inf
                if inside >= size and mean_inside < mean_best:
                    size = inside
                    # the published rule compares with the mean over all views afterwards
                    mean_best = total / count
                    for c in range(C):
                        best[c] = inlier[c]
        if size < 2 or not _linear(P, q, ones, best, point):
            continue
        _refine(P, q, best, point, normals[n], 10)
        _errors(P, q, seen, point, e)
        s = 0.0
        for i in range(3):
            points[n, i] = point[i]
        for c in range(C):
            used[c, n] = best[c]
            if best[c]:
                s += 2.0 * e[c]
        error[n] = s / size
