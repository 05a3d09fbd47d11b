"""Triangulation of many points: lens model, consensus, refinement and covariance in one pass per point.

Serial and independent per point: the result of a point depends on nothing but its own observations, so chunks and
threads change nothing. The functions release the GIL.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .dlt import undistort_brown
from .projection import BROWN_CONRADY, PINHOLE, project_jacobian_one, unproject_one
from .robust import (
    LOW_ANGLE,
    MISSING,
    NO_CONSENSUS,
    OK,
    TWO_VIEWS,
    add_normal,
    disagreement,
    has_parallax,
    solve_point,
    wide_enough,
)


@njit(cache=True, error_model="numpy", nogil=True)
def pinhole_rows(params, T_camera_world, c, u, v, rows, k):
    """Rows of one observation of pinhole camera c: the residual is the exact reprojection error."""
    fx, fy = params[c, 0], params[c, 1]
    sx = params[c, 2] - u
    sy = params[c, 3] - v
    for j in range(4):
        d = T_camera_world[c, 2, j]
        rows[k, j] = fx * T_camera_world[c, 0, j] + sx * d
        rows[k, 4 + j] = fy * T_camera_world[c, 1, j] + sy * d
        rows[k, 8 + j] = d


@njit(cache=True, error_model="numpy", nogil=True)
def lens_rows(model, params, T, u, v, rows, k):
    """Rows of one observation of any camera, from the Jacobian of the projection at the observed ray.

    The projection does not change along a ray, so its Jacobian A at the unit ray r has A r = 0, and to first order
    ``project(X) - uv = A (X (n . r) / (n . X) - r) = A X (n . r) / (n . X)`` for any plane normal n. With n the
    optical axis, as Brown-Conrady gets it, this is exact without distortion; with n = r it holds beyond 90 degrees
    off the axis.

    Returns:
        False when the lens model has no ray for the pixel.
    """
    if model == BROWN_CONRADY and params[16] == 0.0 and params[17] == 0.0:
        fx, fy = params[0], params[1]
        x, y, j00, j01, j10, j11, arrived = undistort_brown(params, (u - params[2]) / fx, (v - params[3]) / fy)
        if arrived:
            for j in range(4):
                t2 = T[2, j]
                sx, sy = T[0, j] - x * t2, T[1, j] - y * t2
                rows[k, j] = fx * (j00 * sx + j01 * sy)
                rows[k, 4 + j] = fy * (j10 * sx + j11 * sy)
                rows[k, 8 + j] = t2
            return True
    rx, ry, rz, ok = unproject_one(model, params, u, v)
    if not ok:
        return False
    _, _, ok, ux, uy, uz, vx, vy, vz = project_jacobian_one(model, params, rx, ry, rz)
    if not ok:
        return False
    nx, ny, nz, scale = rx, ry, rz, 1.0
    if model == BROWN_CONRADY:
        nx, ny, nz, scale = 0.0, 0.0, 1.0, rz
    for j in range(4):
        t0, t1, t2 = T[0, j], T[1, j], T[2, j]
        rows[k, j] = scale * (ux * t0 + uy * t1 + uz * t2)
        rows[k, 4 + j] = scale * (vx * t0 + vy * t1 + vz * t2)
        rows[k, 8 + j] = nx * t0 + ny * t1 + nz * t2
    return True


@njit(cache=True, error_model="numpy", nogil=True)
def no_point(n, points, covariance, error_px):
    """NaN for a point that is not known."""
    error_px[n] = np.nan
    for i in range(3):
        points[n, i] = np.nan
        for j in range(3):
            covariance[n, i, j] = np.nan


@njit(cache=True, error_model="numpy", nogil=True)
def robust_points(
    models, params, T_camera_world, uv, weight, threshold_px, sigma_px, min_sin2, max_pairs, far_px, start, stop,
    points, covariance, used, error_px, status, residual_px,
):  # fmt: skip
    """Robust points with covariance and status.

    Args:
        models: (C,) int64 model codes.
        params: (C, 20) float64 camera parameters.
        T_camera_world: (C, 3, 4) float64; the world origin should lie near the cameras.
        uv: (C, N, 2) float64 pixels, NaN = unseen.
        weight: (C, N) float64 weights of the squared residuals, 0 = unseen, or (C, 0): all 1.
        threshold_px: Largest residual of an agreeing view.
        sigma_px: Standard deviation of one coordinate of a residual with weight 1.
        min_sin2: Squared sine of the smallest angle between two rays that counts as parallax.
        max_pairs: Most pairs tried for a point.
        far_px: Residual at which a disagreeing view costs most: half an image diagonal.
        start: First point to solve.
        stop: End of the points to solve; the others are left as they are.
        points: (N, 3) float64, written, NaN without a consensus.
        covariance: (N, 3, 3) float64, written.
        used: (C, N) bool, written.
        error_px: (N,) float64, written: mean residual of the views used.
        status: (N,) uint8, written.
        residual_px: (C, N) float64, written: residual of every seen view, NaN elsewhere; or (C, 0): not wanted.
    """
    n_cameras, n_points = uv.shape[0], uv.shape[1]
    weighted = weight.shape[1] == n_points and n_points > 0
    want_residual = residual_px.shape[1] == n_points and n_points > 0
    limit2 = threshold_px * threshold_px
    sigma2 = sigma_px * sigma_px
    far2 = far_px * far_px
    rows = np.empty((n_cameras, 12))
    normal = np.empty((n_cameras, 9))
    w = np.ones(n_cameras)
    view = np.empty(n_cameras, np.int64)
    error2 = np.empty(n_cameras)
    refined = np.empty(n_cameras)
    use = np.zeros(n_cameras, np.bool_)
    hessian = np.empty(6)
    all_centres = np.empty((n_cameras, 3))
    centres = np.empty((n_cameras, 3))
    for c in range(n_cameras):
        T = T_camera_world[c]
        for j in range(3):
            all_centres[c, j] = -(T[0, j] * T[0, 3] + T[1, j] * T[1, 3] + T[2, j] * T[2, 3])
    for n in range(start, stop):
        m = 0
        for c in range(n_cameras):
            used[c, n] = False
            if want_residual:
                residual_px[c, n] = np.nan
            u = uv[c, n, 0]
            v = uv[c, n, 1]
            if not (np.isfinite(u) and np.isfinite(v)):
                continue
            q = weight[c, n] if weighted else 1.0
            if not q > 0.0:
                continue
            k = m
            if weighted:
                # falling weight: pairs of trusted views are tried first
                while k > 0 and w[k - 1] < q:
                    w[k] = w[k - 1]
                    view[k] = view[k - 1]
                    k -= 1
            w[k] = q
            view[k] = c
            m += 1
        k = 0
        for s in range(m):
            c = view[s]
            if models[c] == PINHOLE:
                pinhole_rows(params, T_camera_world, c, uv[c, n, 0], uv[c, n, 1], rows, k)
            elif not lens_rows(models[c], params[c], T_camera_world[c], uv[c, n, 0], uv[c, n, 1], rows, k):
                continue
            w[k] = w[s]
            view[k] = c
            centres[k, 0], centres[k, 1], centres[k, 2] = all_centres[c, 0], all_centres[c, 1], all_centres[c, 2]
            add_normal(rows, k, w[k], normal)
            k += 1
        m = k
        if m < 2:
            no_point(n, points, covariance, error_px)
            status[n] = MISSING
            continue
        x, y, z, count = solve_point(
            rows, normal, w, centres, m, limit2, min_sin2, max_pairs, far2, error2, use, refined, hessian
        )
        if count < 2:
            no_point(n, points, covariance, error_px)
            status[n] = NO_CONSENSUS
            continue
        total = 0.0
        for s in range(m):
            if want_residual:
                residual_px[view[s], n] = np.sqrt(error2[s])
            if use[s]:
                used[view[s], n] = True
                total += np.sqrt(error2[s])
        points[n, 0], points[n, 1], points[n, 2] = x, y, z
        error_px[n] = total / count
        xx, xy, xz, yy, yz, zz = hessian[0], hessian[1], hessian[2], hessian[3], hessian[4], hessian[5]
        cxx, cxy, cxz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
        scale = sigma2 * disagreement(refined, use, m, error2, count, sigma2) / (xx * cxx + xy * cxy + xz * cxz)
        covariance[n, 0, 0] = scale * cxx
        covariance[n, 1, 1] = scale * (xx * zz - xz * xz)
        covariance[n, 2, 2] = scale * (xx * yy - xy * xy)
        covariance[n, 0, 1] = covariance[n, 1, 0] = scale * cxy
        covariance[n, 0, 2] = covariance[n, 2, 0] = scale * cxz
        covariance[n, 1, 2] = covariance[n, 2, 1] = scale * (xy * xz - xx * yz)
        if not has_parallax(centres, use, m, x, y, z, min_sin2):
            status[n] = LOW_ANGLE
        elif count == 2:
            status[n] = TWO_VIEWS
        else:
            status[n] = OK


@njit(cache=True, error_model="numpy", nogil=True)
def linear_status(T_camera_world, xy, weight, points, min_sin2, start, used, status):
    """Views and status of linear points: nothing is rejected, so only their number and their angle speak.

    Args:
        T_camera_world: (C, 3, 4) float64.
        xy: (C, 2, n) float64 normalised coordinates of points start to start + n, NaN = unseen.
        weight: (C, n) float64, 0 = unseen, or (C, 0).
        points: (N, 3) float64.
        min_sin2: Squared sine of the smallest angle that counts as parallax.
        start: First of the points.
        used: (C, N) bool, written.
        status: (N,) uint8, written.
    """
    n_cameras, size = xy.shape[0], xy.shape[2]
    weighted = weight.shape[1] == size and size > 0
    centres = np.empty((n_cameras, 3))
    count = np.zeros(size, np.int64)
    for c in range(n_cameras):
        T = T_camera_world[c]
        for j in range(3):
            centres[c, j] = -(T[0, j] * T[0, 3] + T[1, j] * T[1, 3] + T[2, j] * T[2, 3])
        xs, ys, flags = xy[c, 0], xy[c, 1], used[c, start : start + size]
        for i in range(size):
            seen = (xs[i] == xs[i]) & (ys[i] == ys[i])
            flags[i] = seen
            count[i] += seen
        if weighted:
            for i in range(size):
                if flags[i] and not weight[c, i] > 0.0:
                    flags[i] = False
                    count[i] -= 1
    for i in range(size):
        n = start + i
        if count[i] < 2 or not np.isfinite(points[n, 0]):
            status[n] = MISSING
            for c in range(n_cameras):
                used[c, n] = False
            continue
        wide = False
        for a in range(1, n_cameras):
            for b in range(a):
                if used[a, n] and used[b, n]:
                    wide = wide_enough(centres, a, b, points[n, 0], points[n, 1], points[n, 2], min_sin2)
                    if wide:
                        break
            if wide:
                break
        if not wide:
            status[n] = LOW_ANGLE
        else:
            status[n] = TWO_VIEWS if count[i] == 2 else OK
