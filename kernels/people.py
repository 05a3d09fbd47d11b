"""Which detections in several views are one person: distances between rays, and where the rays of a group meet."""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _line_distance(o1, d1, o2, d2):
    """Distance between two rays; from the start of a ray where they are nearest behind it."""
    r0 = o1[0] - o2[0]
    r1 = o1[1] - o2[1]
    r2 = o1[2] - o2[2]
    b = d1[0] * d2[0] + d1[1] * d2[1] + d1[2] * d2[2]
    d = d1[0] * r0 + d1[1] * r1 + d1[2] * r2
    e = d2[0] * r0 + d2[1] * r1 + d2[2] * r2
    det = 1.0 - b * b
    if det < 1e-9:
        s = 0.0
        t = e
    else:
        s = (b * e - d) / det
        t = (e - b * d) / det
    s = max(s, 0.0)
    t = max(t, 0.0)
    x = r0 + s * d1[0] - t * d2[0]
    y = r1 + s * d1[1] - t * d2[1]
    z = r2 + s * d1[2] - t * d2[2]
    return np.sqrt(x * x + y * y + z * z)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _point_distance(o, d, x):
    """Distance of a point from a ray."""
    r0 = x[0] - o[0]
    r1 = x[1] - o[1]
    r2 = x[2] - o[2]
    s = max(r0 * d[0] + r1 * d[1] + r2 * d[2], 0.0)
    a = r0 - s * d[0]
    b = r1 - s * d[1]
    c = r2 - s * d[2]
    return np.sqrt(a * a + b * b + c * c)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def pair_costs(origins, rays, view, mirror, cap, least, out):
    """Mean capped distance in metres between the joints' rays of two detections, left and right as they fit better.

    Args:
        origins: (N, 3) camera centre of each detection.
        rays: (N, J, 3) unit rays, NaN = unseen.
        view: (N,) view of each detection.
        mirror: (J,) the other side's joint.
        cap: Distances beyond this count as this.
        least: Fewest joints in common.
        out: (N, N) written; NaN within a view and where too few joints are in common.
    """
    N, J = rays.shape[:2]
    for a in range(N):
        out[a, a] = np.nan
        for b in range(a):
            best = np.nan
            if view[a] != view[b]:
                for turned in range(2):
                    total = 0.0
                    count = 0
                    for j in range(J):
                        k = mirror[j] if turned == 1 else j
                        if np.isfinite(rays[a, j, 0]) and np.isfinite(rays[b, k, 0]):
                            total += min(_line_distance(origins[a], rays[a, j], origins[b], rays[b, k]), cap)
                            count += 1
                    if count >= least and not best <= total / count:
                        best = total / count
            out[a, b] = best
            out[b, a] = best


@nb.njit(cache=True, error_model="numpy", nogil=True)
def track_costs(origin, rays, points, mirror, cap, least, out):
    """Mean capped distance in metres of known joints from the rays of detections of one view.

    Args:
        origin: (3,) camera centre.
        rays: (K, J, 3) unit rays, NaN = unseen.
        points: (P, J, 3) joints of P persons, NaN = unknown.
        mirror: (J,) the other side's joint.
        cap: Distances beyond this count as this.
        least: Fewest joints in common.
        out: (P, K, 2) written: with the names as they are, and with left and right exchanged; NaN = too few joints.
    """
    K, J = rays.shape[:2]
    for p in range(points.shape[0]):
        for k in range(K):
            for turned in range(2):
                total = 0.0
                count = 0
                for j in range(J):
                    i = mirror[j] if turned == 1 else j
                    if np.isfinite(points[p, j, 0]) and np.isfinite(rays[k, i, 0]):
                        total += min(_point_distance(origin, rays[k, i], points[p, j]), cap)
                        count += 1
                out[p, k, turned] = total / count if count >= least else np.nan


@nb.njit(cache=True, error_model="numpy", nogil=True)
def meet(origins, rays, scale, cap, points, distance):
    """Where the rays of each joint meet, with less weight for those that pass far away (Geman-McClure, five rounds).

    Args:
        origins: (M, 3) camera centres of M detections, one per view.
        rays: (M, J, 3) unit rays, NaN = unseen.
        scale: Distance in metres at which a ray loses three quarters of its weight.
        cap: Distances beyond this count as this.
        points: (J, 3) written, NaN where fewer than two rays meet at an angle.
        distance: (M,) written: mean capped distance of the detection's rays from the points, NaN without any.
    """
    M, J = rays.shape[:2]
    total = np.zeros(M)
    count = np.zeros(M)
    weight = np.ones(M)
    for j in range(J):
        seen = 0
        for m in range(M):
            weight[m] = 1.0
            if np.isfinite(rays[m, j, 0]):
                seen += 1
        points[j, :] = np.nan
        if seen < 2:
            continue
        for _ in range(5):
            a00 = 0.0
            a01 = 0.0
            a02 = 0.0
            a11 = 0.0
            a12 = 0.0
            a22 = 0.0
            b0 = 0.0
            b1 = 0.0
            b2 = 0.0
            whole = 0.0
            for m in range(M):
                d0 = rays[m, j, 0]
                if not np.isfinite(d0):
                    continue
                d1 = rays[m, j, 1]
                d2 = rays[m, j, 2]
                w = weight[m]
                whole += w
                o0 = origins[m, 0]
                o1 = origins[m, 1]
                o2 = origins[m, 2]
                along = d0 * o0 + d1 * o1 + d2 * o2
                a00 += w * (1.0 - d0 * d0)
                a01 -= w * d0 * d1
                a02 -= w * d0 * d2
                a11 += w * (1.0 - d1 * d1)
                a12 -= w * d1 * d2
                a22 += w * (1.0 - d2 * d2)
                b0 += w * (o0 - d0 * along)
                b1 += w * (o1 - d1 * along)
                b2 += w * (o2 - d2 * along)
            c00 = a11 * a22 - a12 * a12
            c01 = a02 * a12 - a01 * a22
            c02 = a01 * a12 - a02 * a11
            det = a00 * c00 + a01 * c01 + a02 * c02
            if not det > 1e-4 * whole**3:
                points[j, :] = np.nan
                break
            points[j, 0] = (c00 * b0 + c01 * b1 + c02 * b2) / det
            points[j, 1] = (c01 * b0 + (a00 * a22 - a02 * a02) * b1 + (a01 * a02 - a00 * a12) * b2) / det
            points[j, 2] = (c02 * b0 + (a01 * a02 - a00 * a12) * b1 + (a00 * a11 - a01 * a01) * b2) / det
            if seen == 2:
                break
            for m in range(M):
                if np.isfinite(rays[m, j, 0]):
                    r = _point_distance(origins[m], rays[m, j], points[j]) / scale
                    weight[m] = 1.0 / ((1.0 + r * r) * (1.0 + r * r))
        if np.isfinite(points[j, 0]):
            for m in range(M):
                if np.isfinite(rays[m, j, 0]):
                    total[m] += min(_point_distance(origins[m], rays[m, j], points[j]), cap)
                    count[m] += 1.0
    for m in range(M):
        distance[m] = total[m] / count[m] if count[m] > 0 else np.nan
