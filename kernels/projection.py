"""Camera models: points to pixels and back, one at a time and in batches.

A camera is a model code (int64) and ``params``, float64[20]::

    PINHOLE = 0         fx fy cx cy
    BROWN_CONRADY = 1   fx fy cx cy  k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tx ty    (OpenCV's order)
    KANNALA_BRANDT = 2  fx fy cx cy  k1 k2 k3 k4                                   (OpenCV's fisheye)
    FISHEYE624 = 3      fx fy cx cy  k0..k5 p0 p1 s0 s1 s2 s3                      (Project Aria)

zero padded. Slots 18 and 19 hold the valid range (see :func:`valid_limit`); zero there means unbounded. Camera
axes: x right, y down, z forward. Pixel centres are at integers. A pose is ``T_camera_world``, float64 (3, 4).

A point outside the valid range gives NaN pixels and ``ok`` False: behind the camera (it never aliases to the
front), beyond the first fold of the distortion, or beyond the camera's own largest angle.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .distortion import (
    BROWN_CONRADY,
    FISHEYE624,
    IMAGE_LIMIT,
    KANNALA_BRANDT,
    LIMIT,
    PINHOLE,
    angle_map,
    brown_map,
    brown_map_jacobian,
    brown_radial,
    fold_radius,
    invert_angle,
    invert_brown,
    invert_plane,
    newton_plane,
    prism_map,
    prism_map_jacobian,
    tilt_matrix,
)

#: Smallest depth, in the unit of the points, that a perspective model projects.
MIN_DEPTH = 1e-9


@njit(cache=True, error_model="numpy")
def project_one(model, params, x, y, z):
    """Camera frame to raw pixels: (u, v, ok)."""
    limit = params[LIMIT]
    if model >= KANNALA_BRANDT:
        rr = math.sqrt(x * x + y * y)
        theta = math.atan2(rr, z)
        top = math.pi if model == KANNALA_BRANDT else 0.5 * math.pi
        if limit > 0.0:
            top = min(top, limit)
        if not (theta <= top) or (z <= 0.0 and (model == FISHEYE624 or rr == 0.0)):
            return np.nan, np.nan, False
        if model == KANNALA_BRANDT:
            d, _ = angle_map(params, 4, theta)
        else:
            d, _ = angle_map(params, 6, theta)
        s = d / rr if rr > 0.0 else 1.0 / z
        a, b = x * s, y * s
        if model == FISHEYE624:
            a, b = prism_map(params, a, b)
        return params[0] * a + params[2], params[1] * b + params[3], True
    if not (z > MIN_DEPTH):
        return np.nan, np.nan, False
    a, b = x / z, y / z
    r2 = a * a + b * b
    if not (r2 < np.inf) or (limit > 0.0 and r2 > limit * limit):
        return np.nan, np.nan, False
    if model == BROWN_CONRADY:
        a, b = brown_map(params, a, b)
        if params[16] != 0.0 or params[17] != 0.0:
            m00, m01, _, m10, m11, _, m20, m21, m22 = tilt_matrix(params[16], params[17])
            w = m20 * a + m21 * b + m22
            if not (w > 0.0):
                return np.nan, np.nan, False
            a, b = (m00 * a + m01 * b) / w, (m10 * a + m11 * b) / w
    if not (abs(a) + abs(b) < np.inf):
        return np.nan, np.nan, False
    return params[0] * a + params[2], params[1] * b + params[3], True


@njit(cache=True, error_model="numpy")
def unproject_one(model, params, u, v):
    """Raw pixels to a unit ray of the camera frame: (rx, ry, rz, ok)."""
    nan = np.nan
    a, b = (u - params[2]) / params[0], (v - params[3]) / params[1]
    limit, image_limit = params[LIMIT], params[IMAGE_LIMIT]
    if math.isnan(a) or math.isnan(b):
        return nan, nan, nan, False
    if image_limit <= 0.0:
        image_limit = np.inf
    if model >= KANNALA_BRANDT:
        if limit <= 0.0:
            limit = math.pi if model == KANNALA_BRANDT else 0.5 * math.pi
        if model == FISHEYE624:
            x, y, ok = newton_plane(FISHEYE624, params, a, b, a, b, image_limit)
            if not ok:
                x, y, ok = invert_plane(FISHEYE624, params, a, b, a, b, image_limit)
            if not ok:
                return nan, nan, nan, False
            a, b = x, y
        d = math.sqrt(a * a + b * b)
        if d == 0.0:
            return 0.0, 0.0, 1.0, True
        if not (d <= image_limit * (1.0 + 1e-12)):
            return nan, nan, nan, False
        if model == KANNALA_BRANDT:
            theta, ok = invert_angle(params, 4, d, limit)
        else:
            theta, ok = invert_angle(params, 6, d, limit)
        if not ok:
            return nan, nan, nan, False
        s = math.sin(theta) / d
        return a * s, b * s, math.cos(theta), True
    if limit <= 0.0:
        limit = np.inf
    if model == BROWN_CONRADY:
        if params[16] != 0.0 or params[17] != 0.0:
            m00, m01, _, m10, m11, _, m20, m21, m22 = tilt_matrix(params[16], params[17])
            # the adjugate undoes the homography up to a scale that the division removes
            w = (m10 * m21 - m11 * m20) * a + (m01 * m20 - m00 * m21) * b + (m00 * m11 - m01 * m10)
            a, b = (m11 * m22 * a - m01 * m22 * b) / w, (m00 * m22 * b - m10 * m22 * a) / w
        # one round of the fixed point is a better start than the pixel itself
        u, v = brown_map(params, a, b)
        x, y, ok = newton_plane(BROWN_CONRADY, params, a, b, 2.0 * a - u, 2.0 * b - v, limit)
        if not ok:
            x, y, ok = invert_brown(params, a, b, limit, image_limit)
        if not ok:
            return nan, nan, nan, False
        a, b = x, y
    elif not (a * a + b * b <= limit * limit * (1.0 + 1e-12)):
        return nan, nan, nan, False
    s = 1.0 / math.sqrt(a * a + b * b + 1.0)
    return a * s, b * s, s, s > 0.0


@njit(cache=True, error_model="numpy")
def project_jacobian_one(model, params, x, y, z):
    """Projection and its exact derivative in the camera point.

    Returns:
        (u, v, ok, du/dx, du/dy, du/dz, dv/dx, dv/dy, dv/dz); all NaN when not ok.
    """
    u, v, ok = project_one(model, params, x, y, z)
    nan = np.nan
    if not ok:
        return u, v, ok, nan, nan, nan, nan, nan, nan
    if model >= KANNALA_BRANDT:
        r2 = x * x + y * y
        rr = math.sqrt(r2)
        theta = math.atan2(rr, z)
        if model == KANNALA_BRANDT:
            d, slope = angle_map(params, 4, theta)
        else:
            d, slope = angle_map(params, 6, theta)
        inverse = 1.0 / (r2 + z * z)
        # in the image plane: `along` the radius, `across` it
        across = d / rr if rr > 0.0 else 1.0 / z
        along = slope * z * inverse
        c, s = (x / rr, y / rr) if rr > 0.0 else (1.0, 0.0)
        ax, ay = along * c * c + across * s * s, (along - across) * c * s
        by = along * s * s + across * c * c
        az, bz = -slope * x * inverse, -slope * y * inverse
        bx = ay
        if model == FISHEYE624:
            _, _, j00, j01, j10, j11 = prism_map_jacobian(params, x * across, y * across)
            ax, bx = j00 * ax + j01 * bx, j10 * ax + j11 * bx
            ay, by = j00 * ay + j01 * by, j10 * ay + j11 * by
            az, bz = j00 * az + j01 * bz, j10 * az + j11 * bz
    else:
        a, b = x / z, y / z
        j00, j01, j10, j11 = 1.0, 0.0, 0.0, 1.0
        if model == BROWN_CONRADY:
            da, db, j00, j01, j10, j11 = brown_map_jacobian(params, a, b)
            if params[16] != 0.0 or params[17] != 0.0:
                m00, m01, _, m10, m11, _, m20, m21, m22 = tilt_matrix(params[16], params[17])
                w = 1.0 / (m20 * da + m21 * db + m22)
                p, q = (m00 * da + m01 * db) * w, (m10 * da + m11 * db) * w
                t00, t01 = (m00 - p * m20) * w, (m01 - p * m21) * w
                t10, t11 = (m10 - q * m20) * w, (m11 - q * m21) * w
                j00, j10 = t00 * j00 + t01 * j10, t10 * j00 + t11 * j10
                j01, j11 = t00 * j01 + t01 * j11, t10 * j01 + t11 * j11
        ax, ay, bx, by = j00 / z, j01 / z, j10 / z, j11 / z
        az, bz = -(ax * a + ay * b), -(bx * a + by * b)
    fx, fy = params[0], params[1]
    return u, v, ok, fx * ax, fx * ay, fx * az, fy * bx, fy * by, fy * bz


@njit(cache=True, error_model="numpy")
def project_batch(model, params, points_camera, uv, ok):
    """Points (N, 3) of the camera frame into pixels ``uv`` (N, 2) and ``ok`` (N,)."""
    for i in range(points_camera.shape[0]):
        uv[i, 0], uv[i, 1], ok[i] = project_one(
            model, params, points_camera[i, 0], points_camera[i, 1], points_camera[i, 2]
        )


@njit(cache=True, error_model="numpy")
def unproject_batch(model, params, uv, rays, ok):
    """Pixels (N, 2) into unit ``rays`` (N, 3) of the camera frame and ``ok`` (N,)."""
    for i in range(uv.shape[0]):
        rays[i, 0], rays[i, 1], rays[i, 2], ok[i] = unproject_one(model, params, uv[i, 0], uv[i, 1])


@njit(cache=True, error_model="numpy")
def jacobian_batch(model, params, points_camera, uv, jacobian, ok):
    """Points (N, 3) of the camera frame into pixels (N, 2) and derivatives (N, 2, 3)."""
    for i in range(points_camera.shape[0]):
        (
            uv[i, 0],
            uv[i, 1],
            ok[i],
            jacobian[i, 0, 0],
            jacobian[i, 0, 1],
            jacobian[i, 0, 2],
            jacobian[i, 1, 0],
            jacobian[i, 1, 1],
            jacobian[i, 1, 2],
        ) = project_jacobian_one(model, params, points_camera[i, 0], points_camera[i, 1], points_camera[i, 2])


@njit(cache=True, error_model="numpy")
def project_points(models, params, T_camera_world, points_world, uv, ok):
    """Points (N, 3) of the world through C cameras.

    Args:
        models: (C,) int64; params: (C, 20) float64; T_camera_world: (C, 3, 4) float64.
        points_world: (N, 3) float64.
        uv: (C, N, 2) float64, written; ok: (C, N) bool, written.
    """
    for c in range(models.shape[0]):
        T = T_camera_world[c]
        for i in range(points_world.shape[0]):
            x, y, z = points_world[i, 0], points_world[i, 1], points_world[i, 2]
            uv[c, i, 0], uv[c, i, 1], ok[c, i] = project_one(
                models[c],
                params[c],
                T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3],
                T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3],
                T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3],
            )


def _first_root(coefficients):
    """Smallest positive real root of an ascending polynomial that starts with 1, or infinity (beyond 1e8)."""
    c = np.asarray(coefficients, dtype=np.float64)
    # roots of the reversed polynomial are the inverses: its leading 1 keeps the companion matrix well scaled
    inverse = np.roots(c) if c.size > 1 else np.zeros(0)
    real = inverse.real[(np.abs(inverse.imag) < 1e-7 * np.abs(inverse)) & (inverse.real > 1e-8)]
    if real.size == 0:
        return np.inf
    root = 1.0 / float(real.max())
    polynomial = np.polynomial.Polynomial(c)
    slope = polynomial.deriv()
    for _ in range(3):
        step = polynomial(root) / slope(root) if slope(root) != 0 else 0.0
        root = root - step if abs(step) < 0.1 * root else root
    return root


def valid_limit(model, params, max_angle=None):
    """Largest valid radius or angle of a camera, on the side of the rays and on that of the image.

    The distortion is followed outward from the centre up to its first fold: the first root of the derivative of
    the radial map, a pole of the rational factor, or the first radius at which tangential and thin prism terms
    fold the plane in any direction.

    Args:
        model: Model code.
        params: float64[20]; slots 18 and 19 are ignored.
        max_angle: Largest angle from the axis that the lens sees, radians, or None.

    Returns:
        (limit, image_limit) for slots 18 and 19: a radius x/z for pinhole and Brown-Conrady (0 = unbounded), an
        angle in radians for the fisheyes; the radius it maps to in normalised coordinates (0 = unbounded).
    """
    params = np.ascontiguousarray(params, dtype=np.float64)
    if model in (KANNALA_BRANDT, FISHEYE624):
        n, top = (4, np.pi) if model == KANNALA_BRANDT else (6, np.pi / 2)
        derivative = np.concatenate([[1.0], params[4 : 4 + n] * np.arange(3, 2 * n + 3, 2)])
        limit = min(top, math.sqrt(_first_root(derivative)), top if max_angle is None else max_angle)
        image_limit = angle_map(params, n, limit)[0]
        if model == FISHEYE624 and params[10:16].any():
            free = fold_radius(model, params, image_limit, 64, 400)
            if free < image_limit:
                limit, image_limit = invert_angle(params, n, free, limit)[0], free
        return limit, image_limit
    limit = np.inf if max_angle is None or max_angle >= np.pi / 2 else math.tan(max_angle)
    if model == PINHOLE:
        return (limit, limit) if limit < np.inf else (0.0, 0.0)
    above = np.polynomial.Polynomial([1.0, params[4], params[5], params[8]])
    below = np.polynomial.Polynomial([1.0, params[9], params[10], params[11]])
    two_s = np.polynomial.Polynomial([0.0, 2.0])
    fold = (above + two_s * above.deriv()) * below - two_s * above * below.deriv()
    pole = math.sqrt(_first_root(below.coef)) * (1.0 - 1e-9)
    limit = min(limit, math.sqrt(_first_root(fold.coef)), pole)
    if params[[6, 7, 12, 13, 14, 15]].any():
        limit = fold_radius(model, params, limit, 64, 400)
    if limit == np.inf:
        return 0.0, 0.0
    return limit, limit * brown_radial(params, limit * limit)[0]


def with_limit(model, params, max_angle=None):
    """Copy of ``params`` padded to 20 entries with the slots of the valid range filled."""
    packed = np.zeros(20)
    packed[: min(len(params), 18)] = params[:18]
    packed[LIMIT], packed[IMAGE_LIMIT] = valid_limit(model, packed, max_angle)
    return packed
