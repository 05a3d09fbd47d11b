"""Robust triangulation of one point: consensus of views, Gauss-Newton, covariance.

An observation is three rows ``a``, ``b``, ``d`` of a 3x4 matrix with the residual in raw pixels
``e = ((a . X) / (d . X), (b . X) / (d . X))``, X homogeneous. For a pinhole this is the reprojection error itself.
For any other lens ``a`` and ``b`` hold the Jacobian of the projection at the observed ray, so ``e`` equals the raw
reprojection error to first order in its size, at any angle off the axis, and costs no distortion per iteration.

The consensus score is MSAC (Torr & Zisserman, MLESAC, 2000): the sum over all views of w min(e^2 / threshold^2, 1).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .dlt import solve_sym3

OK, TWO_VIEWS, LOW_ANGLE, NO_CONSENSUS, MISSING = 0, 1, 2, 3, 4
GN_STEPS = 6
RESELECTIONS = 3
GN_DONE = 1e-7
"""Gauss-Newton ends after a step whose square is below this times the squared depth (0.3 mm per metre). What such a
step leaves undone is a share of it about the size of the residuals in radians: micrometres at 1 px of noise."""


@njit(cache=True, error_model="numpy", nogil=True)
def add_normal(rows, v, w, normal):
    """Weighted normal equations (6 + 3 numbers) of view v into ``normal[v]``."""
    ax, ay, az, ad = rows[v, 0], rows[v, 1], rows[v, 2], rows[v, 3]
    bx, by, bz, bd = rows[v, 4], rows[v, 5], rows[v, 6], rows[v, 7]
    normal[v, 0] = w * (ax * ax + bx * bx)
    normal[v, 1] = w * (ax * ay + bx * by)
    normal[v, 2] = w * (ax * az + bx * bz)
    normal[v, 3] = w * (ay * ay + by * by)
    normal[v, 4] = w * (ay * az + by * bz)
    normal[v, 5] = w * (az * az + bz * bz)
    normal[v, 6] = -w * (ax * ad + bx * bd)
    normal[v, 7] = -w * (ay * ad + by * bd)
    normal[v, 8] = -w * (az * ad + bz * bd)


@njit(cache=True, error_model="numpy", nogil=True)
def squared_error(rows, v, x, y, z):
    """Squared residual of view v in square pixels; infinite when the point is not in front of it."""
    depth = rows[v, 8] * x + rows[v, 9] * y + rows[v, 10] * z + rows[v, 11]
    if not depth > 1e-9:
        return np.inf
    inverse = 1.0 / depth
    eu = (rows[v, 0] * x + rows[v, 1] * y + rows[v, 2] * z + rows[v, 3]) * inverse
    ev = (rows[v, 4] * x + rows[v, 5] * y + rows[v, 6] * z + rows[v, 7]) * inverse
    return eu * eu + ev * ev


@njit(cache=True, error_model="numpy", nogil=True)
def within(rows, v, x, y, z, limit2):
    """Whether the squared residual of view v is below a limit, without a division."""
    depth = rows[v, 8] * x + rows[v, 9] * y + rows[v, 10] * z + rows[v, 11]
    eu = rows[v, 0] * x + rows[v, 1] * y + rows[v, 2] * z + rows[v, 3]
    ev = rows[v, 4] * x + rows[v, 5] * y + rows[v, 6] * z + rows[v, 7]
    return depth > 1e-9 and eu * eu + ev * ev <= limit2 * depth * depth


@njit(cache=True, error_model="numpy", nogil=True)
def solve_linear(normal, use, m):
    """Linear solution from the normal equations of the views in use."""
    n0 = n1 = n2 = n3 = n4 = n5 = n6 = n7 = n8 = 0.0
    for v in range(m):
        if use[v]:
            n0 += normal[v, 0]
            n1 += normal[v, 1]
            n2 += normal[v, 2]
            n3 += normal[v, 3]
            n4 += normal[v, 4]
            n5 += normal[v, 5]
            n6 += normal[v, 6]
            n7 += normal[v, 7]
            n8 += normal[v, 8]
    return solve_sym3(n0, n1, n2, n3, n4, n5, n6, n7, n8)


@njit(cache=True, error_model="numpy", nogil=True)
def gauss_newton(rows, w, use, m, x, y, z, hessian):
    """Minimise the weighted squared residual over the views in use; the last normal matrix goes to ``hessian`` (6,)."""
    for _ in range(GN_STEPS):
        xx = xy = xz = yy = yz = zz = gx = gy = gz = 0.0
        inverse = 0.0
        for v in range(m):
            if use[v]:
                dx, dy, dz = rows[v, 8], rows[v, 9], rows[v, 10]
                inverse = 1.0 / (dx * x + dy * y + dz * z + rows[v, 11])
                ax, ay, az = rows[v, 0], rows[v, 1], rows[v, 2]
                bx, by, bz = rows[v, 4], rows[v, 5], rows[v, 6]
                eu = (ax * x + ay * y + az * z + rows[v, 3]) * inverse
                ev = (bx * x + by * y + bz * z + rows[v, 7]) * inverse
                ax, ay, az = (ax - eu * dx) * inverse, (ay - eu * dy) * inverse, (az - eu * dz) * inverse
                bx, by, bz = (bx - ev * dx) * inverse, (by - ev * dy) * inverse, (bz - ev * dz) * inverse
                q = w[v]
                xx += q * (ax * ax + bx * bx)
                xy += q * (ax * ay + bx * by)
                xz += q * (ax * az + bx * bz)
                yy += q * (ay * ay + by * by)
                yz += q * (ay * az + by * bz)
                zz += q * (az * az + bz * bz)
                gx += q * (ax * eu + bx * ev)
                gy += q * (ay * eu + by * ev)
                gz += q * (az * eu + bz * ev)
        sx, sy, sz = solve_sym3(xx, xy, xz, yy, yz, zz, gx, gy, gz)
        x -= sx
        y -= sy
        z -= sz
        # the depth of the last view serves as the distance
        if not (sx * sx + sy * sy + sz * sz) * inverse * inverse > GN_DONE:
            break
    hessian[0], hessian[1], hessian[2], hessian[3], hessian[4], hessian[5] = xx, xy, xz, yy, yz, zz
    return x, y, z


@njit(cache=True, error_model="numpy", nogil=True)
def weigh_by_depth(rows, w, use, m, x, y, z, weight):
    """Weights for the refinement: w times the depth of the point in the view over the mean depth.

    The noise of a 2D joint is partly constant in pixels and partly constant in metres (annotators and detectors err
    in proportion to the body in the image; calibration errors move a ray by metres). Inverse variances would be
    constant for the one and grow with the squared depth for the other; the first power lies between.
    """
    total = 0.0
    count = 0
    for v in range(m):
        if use[v]:
            depth = rows[v, 8] * x + rows[v, 9] * y + rows[v, 10] * z + rows[v, 11]
            weight[v] = depth
            total += depth
            count += 1
    inverse = count / total
    for v in range(m):
        if use[v]:
            weight[v] *= w[v] * inverse


@njit(cache=True, error_model="numpy", nogil=True)
def select(rows, m, limit2, x, y, z, error2, use):
    """Residuals of all views and which are within the limit. Returns the number within, and whether ``use`` changed."""
    count = 0
    changed = False
    for v in range(m):
        e2 = squared_error(rows, v, x, y, z)
        error2[v] = e2
        inside = e2 <= limit2
        if inside != use[v]:
            changed = True
            use[v] = inside
        if inside:
            count += 1
    return count, changed


@njit(cache=True, error_model="numpy", nogil=True)
def wide_enough(centres, i, j, x, y, z, min_sin2):
    """Whether the rays from two camera centres meet at the point under at least the given angle (or its supplement)."""
    ax, ay, az = x - centres[i, 0], y - centres[i, 1], z - centres[i, 2]
    bx, by, bz = x - centres[j, 0], y - centres[j, 1], z - centres[j, 2]
    cx, cy, cz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    return cx * cx + cy * cy + cz * cz >= min_sin2 * (ax * ax + ay * ay + az * az) * (bx * bx + by * by + bz * bz)


@njit(cache=True, error_model="numpy", nogil=True)
def best_pair(rows, normal, w, centres, m, limit2, min_sin2, max_pairs, far2, error2, use):
    """The two-view hypothesis with the lowest MSAC cost over all views; its inliers go to ``use``.

    Views stand in order of falling weight, so pairs of trusted views come first. Two different points can share one
    view at most (they would lie on two common rays otherwise), so once more than half of the views plus one half
    agree, no other point can gather as many and the search ends. A pair whose views both agree already says nothing
    new and is skipped. The cost of a view that disagrees rises from once to twice the squared limit at the distance
    ``far2``: it saw the person somewhere in its image, so among pairs that agree by chance the point that stays near
    what the others saw is the likelier one. With more pairs than ``max_pairs`` a fixed pattern is tried that visits
    all views equally.

    Returns:
        The number of inliers, 0 when no pair gives a point in front of both cameras.
    """
    best_cost = np.inf
    best_count = 0
    n_pairs = m * (m - 1) // 2
    sampled = n_pairs > max_pairs
    if sampled:
        n_pairs = max_pairs
    stride = 3 if (m - 1) % 3 != 0 else (5 if (m - 1) % 5 != 0 else 7)
    i, j = -1, 1
    for k in range(n_pairs):
        if sampled:
            i = k % m
            j = (i + 1 + ((k // m) * stride) % (m - 1)) % m
        else:
            i += 1
            if i == j:
                i = 0
                j += 1
        if best_count >= 3 and use[i] and use[j]:
            continue
        x, y, z = solve_sym3(
            normal[i, 0] + normal[j, 0], normal[i, 1] + normal[j, 1], normal[i, 2] + normal[j, 2],
            normal[i, 3] + normal[j, 3], normal[i, 4] + normal[j, 4], normal[i, 5] + normal[j, 5],
            normal[i, 6] + normal[j, 6], normal[i, 7] + normal[j, 7], normal[i, 8] + normal[j, 8],
        )  # fmt: skip
        if not (within(rows, i, x, y, z, limit2) and within(rows, j, x, y, z, limit2)):
            continue
        if not wide_enough(centres, i, j, x, y, z, min_sin2):
            continue
        cost = 0.0
        for v in range(m):
            e2 = squared_error(rows, v, x, y, z)
            error2[v] = e2
            cost += w[v] * (e2 if e2 < limit2 else limit2 * (1.0 + min(e2 / far2, 1.0)))
            if cost >= best_cost:
                break
        if cost < best_cost:
            best_cost = cost
            best_count = 0
            for v in range(m):
                use[v] = error2[v] <= limit2
                if use[v]:
                    best_count += 1
            if 2 * best_count > m + 1:
                break
    return best_count


@njit(cache=True, error_model="numpy", nogil=True)
def solve_point(rows, normal, w, centres, m, limit2, min_sin2, max_pairs, far2, error2, use, weight, hessian):
    """Consensus point of m >= 2 views.

    First all views together: when every residual of that solution is within the limit, there is nothing to reject.
    Otherwise the best pair, its inliers refined, then selected again and refined again until they stay the same.

    Returns:
        x, y, z and the number of views used (0: no consensus). ``use``, ``error2``, ``weight``, ``hessian``
        are written.
    """
    for v in range(m):
        use[v] = True
    x, y, z = solve_linear(normal, use, m)
    promising = True
    for v in range(m):
        if not within(rows, v, x, y, z, 9.0 * limit2):
            promising = False
            break
    if promising:
        weigh_by_depth(rows, w, use, m, x, y, z, weight)
        x, y, z = gauss_newton(rows, weight, use, m, x, y, z, hessian)
        count, _ = select(rows, m, limit2, x, y, z, error2, use)
        if count == m:
            return x, y, z, m
    if m == 2:
        return np.nan, np.nan, np.nan, 0
    for v in range(m):
        use[v] = False
    count = best_pair(rows, normal, w, centres, m, limit2, min_sin2 * 0.0625, max_pairs, far2, error2, use)
    if count < 2:
        return np.nan, np.nan, np.nan, 0
    x, y, z = solve_linear(normal, use, m)
    weigh_by_depth(rows, w, use, m, x, y, z, weight)
    x, y, z = gauss_newton(rows, weight, use, m, x, y, z, hessian)
    for _ in range(RESELECTIONS):
        count, changed = select(rows, m, limit2, x, y, z, error2, use)
        if not changed or count < 2:
            break
        weigh_by_depth(rows, w, use, m, x, y, z, weight)
        x, y, z = gauss_newton(rows, weight, use, m, x, y, z, hessian)
        for v in range(m):
            error2[v] = squared_error(rows, v, x, y, z)
    if count < 2 or not np.isfinite(x + y + z):
        return np.nan, np.nan, np.nan, 0
    return x, y, z, count


@njit(cache=True, error_model="numpy", nogil=True)
def has_parallax(centres, use, m, x, y, z, min_sin2):
    """Whether some two of the views in use see the point under at least the angle."""
    for i in range(m):
        if use[i]:
            for j in range(i):
                if use[j] and wide_enough(centres, i, j, x, y, z, min_sin2):
                    return True
    return False


@njit(cache=True, error_model="numpy", nogil=True)
def disagreement(w, use, m, error2, count, sigma2):
    """Factor on the covariance: 1 while the residuals are what the noise explains, then their excess over it.

    The weighted squared residuals over their degrees of freedom (two per view less three) are compared with the
    95 % point of chi-square over its degrees (Wilson & Hilferty, 1931); only what lies above it inflates.
    """
    total = 0.0
    for v in range(m):
        if use[v]:
            total += w[v] * error2[v]
    freedom = 2.0 * count - 3.0
    c = 2.0 / (9.0 * freedom)
    root = 1.0 - c + 1.6448536 * np.sqrt(c)
    factor = total / (freedom * sigma2) / (root * root * root)
    return factor if factor > 1.0 else 1.0
