"""Linear triangulation from many views: 3x3 normal equations, solved for blocks of points at once.

Every view gives two equations ``(p_u - x p_w) . (X, 1) = 0`` and ``(p_v - y p_w) . (X, 1) = 0`` with normalised
coordinates (x, y) (the direct linear transform; Hartley & Zisserman, Multiple View Geometry, section 12.2). With the
last coordinate fixed to 1 they are a weighted least-squares problem in three unknowns; the origin should lie near the
scene so that this loses no accuracy.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .distortion import LIMIT, brown_map_jacobian
from .projection import BROWN_CONRADY, PINHOLE, unproject_one

BLOCK = 256
NEWTON_STEPS = 8
MIN_RAY_Z = 0.1
"""Rays more than about 84 degrees off the optical axis have no usable normalised coordinates: the linear method
takes such a view as unseen."""


@njit(cache=True, error_model="numpy", nogil=True)
def solve_sym3(xx, xy, xz, yy, yz, zz, bx, by, bz):
    """Solve a symmetric 3x3 system by its adjugate; not finite where the matrix is singular."""
    cxx = yy * zz - yz * yz
    cxy = xz * yz - xy * zz
    cxz = xy * yz - xz * yy
    inverse = 1.0 / (xx * cxx + xy * cxy + xz * cxz)
    cyy = xx * zz - xz * xz
    cyz = xy * xz - xx * yz
    czz = xx * yy - xy * xy
    return (
        (cxx * bx + cxy * by + cxz * bz) * inverse,
        (cxy * bx + cyy * by + cyz * bz) * inverse,
        (cxz * bx + cyz * by + czz * bz) * inverse,
    )


@njit(cache=True, error_model="numpy", nogil=True)
def undistort_brown(params, a, b):
    """Undo Brown-Conrady distortion by Newton's method with the exact Jacobian.

    Starts at the distorted place; inside the valid range the map is one to one, so a solution there is the solution.
    For lenses without tilt; where it does not arrive within the valid range the guarded inverse of the camera model
    has to decide.

    Args:
        params: (20,) float64 camera parameters.
        a: Distorted normalised coordinate (u - cx) / fx.
        b: Distorted normalised coordinate (v - cy) / fy.

    Returns:
        x, y, the Jacobian of the distortion there (da/dx, da/dy, db/dx, db/dy), and whether it arrived.
    """
    x, y = a, b
    limit = params[LIMIT]
    for _ in range(NEWTON_STEPS):
        u, v, j00, j01, j10, j11 = brown_map_jacobian(params, x, y)
        eu, ev = u - a, v - b
        inverse = 1.0 / (j00 * j11 - j01 * j10)
        if eu * eu + ev * ev < 1e-22:
            inside = limit <= 0.0 or x * x + y * y <= limit * limit
            return x, y, j00, j01, j10, j11, inside and inverse > 0.0
        x -= (j11 * eu - j01 * ev) * inverse
        y -= (j00 * ev - j10 * eu) * inverse
    return x, y, 1.0, 0.0, 0.0, 1.0, False


@njit(cache=True, error_model="numpy", nogil=True)
def normalise_pixels(model, params, uv, out):
    """Normalised coordinates (x / z, y / z) of raw pixels; NaN where the lens model has no ray or it is too oblique.

    Args:
        model: Camera model code.
        params: (20,) float64 camera parameters.
        uv: (N, 2) pixels.
        out: (2, N) float64, written.
    """
    x, y = out[0], out[1]
    if model == PINHOLE:
        sx, sy, cx, cy = 1.0 / params[0], 1.0 / params[1], params[2], params[3]
        for i in range(uv.shape[0]):
            x[i] = (uv[i, 0] - cx) * sx
            y[i] = (uv[i, 1] - cy) * sy
        return
    plain = model == BROWN_CONRADY and params[16] == 0.0 and params[17] == 0.0
    widest = 1.0 / (MIN_RAY_Z * MIN_RAY_Z) - 1.0
    for i in range(uv.shape[0]):
        x[i] = np.nan
        y[i] = np.nan
        if np.isfinite(uv[i, 0]) and np.isfinite(uv[i, 1]):
            if plain:
                a, b, _, _, _, _, arrived = undistort_brown(
                    params, (uv[i, 0] - params[2]) / params[0], (uv[i, 1] - params[3]) / params[1]
                )
                if arrived and a * a + b * b < widest:
                    x[i] = a
                    y[i] = b
                    continue
            rx, ry, rz, ok = unproject_one(model, params, uv[i, 0], uv[i, 1])
            if ok and rz > MIN_RAY_Z:
                x[i] = rx / rz
                y[i] = ry / rz


@njit(cache=True, error_model="numpy", nogil=True)
def linear_points(T_camera_world, focal, xy, weight, points, covariance, error):
    """Weighted linear triangulation of every point from all its views.

    Sums of one block lie in one array at fixed distances: so the compiler knows that they do not overlap and solves
    several points with one instruction.

    Args:
        T_camera_world: (C, 3, 4) float64.
        focal: (C,) float64 pixels per unit of normalised coordinate, for the error and the covariance.
        xy: (C, 2, N) float64 normalised coordinates, NaN = unseen.
        weight: (C, N) float64 weights of the squared equations, 0 = unseen, or (C, 0): all 1.
        points: (N, 3) float64, written; NaN with fewer than two views.
        covariance: (N, 3, 3) float64, written: for a standard deviation of 1 pixel and weight 1.
        error: (N,) float64, written: mean reprojection distance in pixels (normalised distance times focal).
    """
    n_cameras, n_points = xy.shape[0], xy.shape[2]
    weighted = weight.shape[1] == n_points and n_points > 0
    s = np.empty(10 * BLOCK)
    p = np.empty(3 * BLOCK)
    x = np.empty(BLOCK)
    y = np.empty(BLOCK)
    w = np.empty(BLOCK)
    for start in range(0, n_points, BLOCK):
        size = min(BLOCK, n_points - start)
        s[:] = 0.0
        for c in range(n_cameras):
            load_block(xy, weight, weighted, c, start, size, x, y, w)
            add_equations(T_camera_world[c], x, y, w, s)
        for i in range(BLOCK):
            px, py, pz = solve_sym3(
                s[i], s[i + BLOCK], s[i + 2 * BLOCK], s[i + 3 * BLOCK], s[i + 4 * BLOCK], s[i + 5 * BLOCK],
                s[i + 6 * BLOCK], s[i + 7 * BLOCK], s[i + 8 * BLOCK],
            )  # fmt: skip
            enough = s[i + 9 * BLOCK] >= 2.0
            p[i] = px if enough else np.nan
            p[i + BLOCK] = py if enough else np.nan
            p[i + 2 * BLOCK] = pz if enough else np.nan
        for i in range(size):
            points[start + i, 0] = p[i]
            points[start + i, 1] = p[i + BLOCK]
            points[start + i, 2] = p[i + 2 * BLOCK]
        s[: 9 * BLOCK] = 0.0
        for c in range(n_cameras):
            load_block(xy, weight, weighted, c, start, size, x, y, w)
            add_accuracy(T_camera_world[c], focal[c], x, y, w, p, s)
        for i in range(BLOCK):
            xx, xy_, xz = s[i], s[i + BLOCK], s[i + 2 * BLOCK]
            yy, yz, zz = s[i + 3 * BLOCK], s[i + 4 * BLOCK], s[i + 5 * BLOCK]
            cxx, cxy, cxz = yy * zz - yz * yz, xz * yz - xy_ * zz, xy_ * yz - xz * yy
            inverse = 1.0 / (xx * cxx + xy_ * cxy + xz * cxz)
            s[i] = cxx * inverse
            s[i + BLOCK] = cxy * inverse
            s[i + 2 * BLOCK] = cxz * inverse
            s[i + 3 * BLOCK] = (xx * zz - xz * xz) * inverse
            s[i + 4 * BLOCK] = (xy_ * xz - xx * yz) * inverse
            s[i + 5 * BLOCK] = (xx * yy - xy_ * xy_) * inverse
        for i in range(size):
            error[start + i] = s[i + 6 * BLOCK] / s[i + 9 * BLOCK]
            covariance[start + i, 0, 0] = s[i]
            covariance[start + i, 0, 1] = s[i + BLOCK]
            covariance[start + i, 0, 2] = s[i + 2 * BLOCK]
            covariance[start + i, 1, 0] = s[i + BLOCK]
            covariance[start + i, 1, 1] = s[i + 3 * BLOCK]
            covariance[start + i, 1, 2] = s[i + 4 * BLOCK]
            covariance[start + i, 2, 0] = s[i + 2 * BLOCK]
            covariance[start + i, 2, 1] = s[i + 4 * BLOCK]
            covariance[start + i, 2, 2] = s[i + 5 * BLOCK]


@njit(cache=True, error_model="numpy", nogil=True)
def load_block(xy, weight, weighted, c, start, size, x, y, w):
    """One view of one block; unseen points get weight 0 and the coordinate 0."""
    xs, ys = xy[c, 0, start : start + size], xy[c, 1, start : start + size]
    if size < BLOCK:
        w[:] = 0.0
        x[:] = 0.0
        y[:] = 0.0
    if weighted:
        ws = weight[c, start : start + size]
        for i in range(size):
            seen = (xs[i] == xs[i]) & (ys[i] == ys[i])
            w[i] = ws[i] if seen else 0.0
            x[i] = xs[i] if seen else 0.0
            y[i] = ys[i] if seen else 0.0
    else:
        for i in range(size):
            seen = (xs[i] == xs[i]) & (ys[i] == ys[i])
            w[i] = 1.0 if seen else 0.0
            x[i] = xs[i] if seen else 0.0
            y[i] = ys[i] if seen else 0.0


@njit(cache=True, error_model="numpy", nogil=True)
def add_equations(T, xs, ys, ws, s):
    """Normal equations of one view added to the sums of a block."""
    t00, t01, t02, t03 = T[0, 0], T[0, 1], T[0, 2], T[0, 3]
    t10, t11, t12, t13 = T[1, 0], T[1, 1], T[1, 2], T[1, 3]
    t20, t21, t22, t23 = T[2, 0], T[2, 1], T[2, 2], T[2, 3]
    for i in range(BLOCK):
        x, y, q = xs[i], ys[i], ws[i]
        ax, ay, az, ad = t00 - x * t20, t01 - x * t21, t02 - x * t22, t03 - x * t23
        bx, by, bz, bd = t10 - y * t20, t11 - y * t21, t12 - y * t22, t13 - y * t23
        qax, qay, qaz = q * ax, q * ay, q * az
        qbx, qby, qbz = q * bx, q * by, q * bz
        s[i] += qax * ax + qbx * bx
        s[i + BLOCK] += qax * ay + qbx * by
        s[i + 2 * BLOCK] += qax * az + qbx * bz
        s[i + 3 * BLOCK] += qay * ay + qby * by
        s[i + 4 * BLOCK] += qay * az + qby * bz
        s[i + 5 * BLOCK] += qaz * az + qbz * bz
        s[i + 6 * BLOCK] -= qax * ad + qbx * bd
        s[i + 7 * BLOCK] -= qay * ad + qby * bd
        s[i + 8 * BLOCK] -= qaz * ad + qbz * bd
        s[i + 9 * BLOCK] += 1.0 if q > 0.0 else 0.0


@njit(cache=True, error_model="numpy", nogil=True)
def add_accuracy(T, f, xs, ys, ws, p, s):
    """Reprojection distance and normal matrix of the reprojection problem of one view, added to the sums."""
    t00, t01, t02, t03 = T[0, 0], T[0, 1], T[0, 2], T[0, 3]
    t10, t11, t12, t13 = T[1, 0], T[1, 1], T[1, 2], T[1, 3]
    t20, t21, t22, t23 = T[2, 0], T[2, 1], T[2, 2], T[2, 3]
    for i in range(BLOCK):
        px, py, pz = p[i], p[i + BLOCK], p[i + 2 * BLOCK]
        q = ws[i]
        d = 1.0 / (t20 * px + t21 * py + t22 * pz + t23)
        hu = (t00 * px + t01 * py + t02 * pz + t03) * d
        hv = (t10 * px + t11 * py + t12 * pz + t13) * d
        eu, ev = hu - xs[i], hv - ys[i]
        distance = f * np.sqrt(eu * eu + ev * ev)
        ax, ay, az = t00 - hu * t20, t01 - hu * t21, t02 - hu * t22
        bx, by, bz = t10 - hv * t20, t11 - hv * t21, t12 - hv * t22
        r = q * (f * d) * (f * d)
        s[i] += r * (ax * ax + bx * bx)
        s[i + BLOCK] += r * (ax * ay + bx * by)
        s[i + 2 * BLOCK] += r * (ax * az + bx * bz)
        s[i + 3 * BLOCK] += r * (ay * ay + by * by)
        s[i + 4 * BLOCK] += r * (ay * az + by * bz)
        s[i + 5 * BLOCK] += r * (az * az + bz * bz)
        s[i + 6 * BLOCK] += distance if q > 0.0 else 0.0
