"""Scalar lens maps, their derivatives and inverses: Brown-Conrady, Kannala-Brandt and Fisheye624.

Everything here works on normalised image coordinates (focal length 1, principal point 0) and reads the model's
coefficients from ``params``, float64[20] as described in :mod:`egopose.kernels.projection`.

Sources: Brown (1971) and Conrady (1919) in the form of OpenCV's camera model with rational, thin prism and tilt
terms; Kannala and Brandt (2006) as OpenCV's fisheye model; the Fisheye624 model of Project Aria.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

PINHOLE, BROWN_CONRADY, KANNALA_BRANDT, FISHEYE624 = 0, 1, 2, 3

#: Slots of ``params`` with the valid range: on the side of the rays (radius x/z for pinhole and Brown-Conrady,
#: angle in radians for the fisheyes) and on the side of the image (radius in normalised coordinates).
LIMIT, IMAGE_LIMIT = 18, 19

#: Residual below which an inverse counts as found, relative to the size of the image point.
CONVERGED = 1e-11

#: Relative size of a Newton step that is the last: the error left is its square.
LAST_STEP = 1e-8


@njit(cache=True, error_model="numpy")
def brown_radial(params, r2):
    """Radial factor g of Brown-Conrady and its derivative in r^2."""
    n = 1.0 + r2 * (params[4] + r2 * (params[5] + r2 * params[8]))
    d = 1.0 + r2 * (params[9] + r2 * (params[10] + r2 * params[11]))
    dn = params[4] + r2 * (2.0 * params[5] + r2 * 3.0 * params[8])
    dd = params[9] + r2 * (2.0 * params[10] + r2 * 3.0 * params[11])
    inverse = 1.0 / d
    g = n * inverse
    return g, (dn - g * dd) * inverse


@njit(cache=True, error_model="numpy")
def brown_map(params, a, b):
    """Distort (a, b) = (x/z, y/z) without the tilt."""
    p1, p2 = params[6], params[7]
    r2 = a * a + b * b
    n = 1.0 + r2 * (params[4] + r2 * (params[5] + r2 * params[8]))
    d = 1.0 + r2 * (params[9] + r2 * (params[10] + r2 * params[11]))
    g = n / d
    u = a * g + 2.0 * p1 * a * b + p2 * (r2 + 2.0 * a * a) + r2 * (params[12] + r2 * params[13])
    v = b * g + p1 * (r2 + 2.0 * b * b) + 2.0 * p2 * a * b + r2 * (params[14] + r2 * params[15])
    return u, v


@njit(cache=True, error_model="numpy")
def brown_map_jacobian(params, a, b):
    """:func:`brown_map` and its derivatives: (u, v, du/da, du/db, dv/da, dv/db)."""
    p1, p2 = params[6], params[7]
    r2 = a * a + b * b
    g, dg = brown_radial(params, r2)
    u = a * g + 2.0 * p1 * a * b + p2 * (r2 + 2.0 * a * a) + r2 * (params[12] + r2 * params[13])
    v = b * g + p1 * (r2 + 2.0 * b * b) + 2.0 * p2 * a * b + r2 * (params[14] + r2 * params[15])
    mixed = 2.0 * a * b * dg + 2.0 * (p1 * a + p2 * b)
    su = 2.0 * (params[12] + 2.0 * r2 * params[13])
    sv = 2.0 * (params[14] + 2.0 * r2 * params[15])
    return (
        u,
        v,
        g + 2.0 * a * a * dg + 2.0 * p1 * b + 6.0 * p2 * a + a * su,
        mixed + b * su,
        mixed + a * sv,
        g + 2.0 * b * b * dg + 6.0 * p1 * b + 2.0 * p2 * a + b * sv,
    )


@njit(cache=True, error_model="numpy")
def tilt_matrix(tx, ty):
    """Homography (row by row) of a sensor tilted by (tx, ty) radians."""
    cx, sx, cy, sy = math.cos(tx), math.sin(tx), math.cos(ty), math.sin(ty)
    r02, r12, r22 = -sy * cx, sx, cy * cx
    r20, r21 = sy, -cy * sx
    return (
        r22 * cy - r02 * r20,
        r22 * sy * sx - r02 * r21,
        0.0,
        -r12 * r20,
        r22 * cx - r12 * r21,
        0.0,
        r20,
        r21,
        r22,
    )


@njit(cache=True, error_model="numpy")
def angle_map(params, n, theta):
    """Radius of the first ``n`` angular coefficients at ``theta`` and its derivative."""
    s = theta * theta
    k, dk = 0.0, 0.0
    for i in range(n - 1, -1, -1):
        dk = dk * s + k
        k = k * s + params[4 + i]
    q = 1.0 + s * k
    return theta * q, q + 2.0 * s * (k + s * dk)


@njit(cache=True, error_model="numpy")
def prism_map(params, x, y):
    """Tangential and thin prism terms of Fisheye624 on the radially distorted point."""
    p0, p1 = params[10], params[11]
    r2 = x * x + y * y
    q = 1.0 + 2.0 * (p0 * x + p1 * y)
    return (
        x * q + r2 * (p0 + params[12] + r2 * params[13]),
        y * q + r2 * (p1 + params[14] + r2 * params[15]),
    )


@njit(cache=True, error_model="numpy")
def prism_map_jacobian(params, x, y):
    """:func:`prism_map` and its derivatives: (u, v, du/dx, du/dy, dv/dx, dv/dy)."""
    p0, p1 = params[10], params[11]
    r2 = x * x + y * y
    q = 1.0 + 2.0 * (p0 * x + p1 * y)
    su = 2.0 * (p0 + params[12] + 2.0 * r2 * params[13])
    sv = 2.0 * (p1 + params[14] + 2.0 * r2 * params[15])
    return (
        x * q + r2 * (p0 + params[12] + r2 * params[13]),
        y * q + r2 * (p1 + params[14] + r2 * params[15]),
        q + 2.0 * p0 * x + x * su,
        2.0 * p1 * x + y * su,
        2.0 * p0 * y + x * sv,
        q + 2.0 * p1 * y + y * sv,
    )


@njit(cache=True, error_model="numpy")
def plane_map_jacobian(model, params, x, y):
    """The part of the model that maps the plane to the plane: Brown-Conrady's, or the prism of Fisheye624."""
    if model == BROWN_CONRADY:
        return brown_map_jacobian(params, x, y)
    return prism_map_jacobian(params, x, y)


@njit(cache=True, error_model="numpy")
def invert_angle(params, n, target, limit):
    """Angle whose radius is ``target``: Newton kept inside a bracket, (theta, ok)."""
    if target == 0.0:
        return 0.0, True
    lo, hi = 0.0, limit
    theta, error = min(target, limit), target
    for _ in range(60):
        d, slope = angle_map(params, n, theta)
        error = d - target
        if error > 0.0:
            hi = theta
        else:
            lo = theta
        step = theta - error / slope
        if not (lo <= step <= hi):
            step = 0.5 * (lo + hi)
        if abs(step - theta) <= LAST_STEP * theta and abs(error) <= 1e-5 * target:
            return step, True
        theta = step
    return theta, abs(error) <= CONVERGED * target


@njit(cache=True, error_model="numpy")
def invert_brown_radius(params, target, limit):
    """Undistorted radius whose distorted radius is ``target`` (radial terms only), (r, ok)."""
    if target == 0.0:
        return 0.0, True
    lo, hi = 0.0, limit
    if hi == np.inf:
        hi = max(1.0, 2.0 * target)
        for _ in range(200):
            if hi * brown_radial(params, hi * hi)[0] >= target:
                break
            hi *= 2.0
    r, error = min(target, hi), target
    for _ in range(100):
        g, dg = brown_radial(params, r * r)
        error = r * g - target
        if error > 0.0:
            hi = r
        else:
            lo = r
        step = r - error / (g + 2.0 * r * r * dg)
        if not (lo <= step <= hi):
            step = 0.5 * (lo + hi)
        if abs(step - r) <= LAST_STEP * r and abs(error) <= 1e-5 * target:
            return step, True
        r = step
    return r, abs(error) <= CONVERGED * target


@njit(cache=True, error_model="numpy")
def newton_plane(model, params, u, v, x, y, limit):
    """Plain Newton for the plane map from (x, y), a few rounds: fast, and enough for nearly every pixel.

    Returns:
        (x, y, ok); ok False means that :func:`invert_plane` has to look.
    """
    for _ in range(8):
        mu, mv, a, b, c, d = plane_map_jacobian(model, params, x, y)
        det = a * d - b * c
        if not (det > 0.0):
            return x, y, False
        inverse = 1.0 / det
        mu -= u
        mv -= v
        dx, dy = (d * mu - b * mv) * inverse, (a * mv - c * mu) * inverse
        x -= dx
        y -= dy
        r2 = x * x + y * y
        if dx * dx + dy * dy <= LAST_STEP * LAST_STEP * r2 + 1e-40:
            return x, y, r2 <= limit * limit * (1.0 + 1e-12)
        if not (r2 < 1e12):
            return x, y, False
    return x, y, False


@njit(cache=True, error_model="numpy")
def invert_plane(model, params, u, v, x, y, limit):
    """Damped Newton for the plane map: the point inside ``limit`` that maps to (u, v), from the start (x, y).

    Returns:
        (x, y, ok); ok False when it does not converge or the solution lies beyond the limit or on a fold.
    """
    scale = math.sqrt(u * u + v * v)
    mu, mv, a, b, c, d = plane_map_jacobian(model, params, x, y)
    eu, ev = mu - u, mv - v
    error = eu * eu + ev * ev
    for _ in range(50):
        det = a * d - b * c
        dx, dy = (d * eu - b * ev) / det, (a * ev - c * eu) / det
        if not (abs(dx) + abs(dy) < 1e150):
            break
        share, better = 1.0, False
        for _ in range(12):
            nx, ny = x - share * dx, y - share * dy
            mu, mv, na, nb, nc, nd = plane_map_jacobian(model, params, nx, ny)
            fu, fv = mu - u, mv - v
            trial = fu * fu + fv * fv
            if trial < error and na * nd - nb * nc > 0.0:
                better = True
                break
            share *= 0.5
        if not better:  # at the rounding floor, or stuck; the residual below tells which
            break
        x, y, eu, ev, error = nx, ny, fu, fv, trial
        a, b, c, d = na, nb, nc, nd
    ok = math.sqrt(error) <= CONVERGED * scale and a * d - b * c > 0.0
    # a point exactly on the limit must survive the rounding of its own inverse
    return x, y, ok and x * x + y * y <= limit * limit * (1.0 + 1e-12)


@njit(cache=True, error_model="numpy")
def fold_radius(model, params, limit, directions, steps):
    """Smallest radius below ``limit`` at which the plane map folds (determinant <= 0) in any direction."""
    cap = min(limit, 60.0)
    last = math.atan(cap)
    for i in range(1, steps + 1):
        radius = math.tan(last * i / steps)
        bad = False
        for j in range(directions):
            phi = 2.0 * math.pi * j / directions
            _, _, a, b, c, d = plane_map_jacobian(model, params, radius * math.cos(phi), radius * math.sin(phi))
            bad = bad or not (a * d - b * c > 0.0)
        if bad:
            good, fold = math.tan(last * (i - 1) / steps), radius
            for _ in range(40):
                middle = 0.5 * (good + fold)
                bad = False
                for j in range(directions):
                    phi = 2.0 * math.pi * j / directions
                    _, _, a, b, c, d = plane_map_jacobian(model, params, middle * math.cos(phi), middle * math.sin(phi))
                    bad = bad or not (a * d - b * c > 0.0)
                if bad:
                    fold = middle
                else:
                    good = middle
            return good
    return limit


@njit(cache=True, error_model="numpy")
def invert_brown(params, u, v, limit, image_limit):
    """Inverse of :func:`brown_map` that needs no luck: radial part in a bracket, then damped Newton; (a, b, ok)."""
    d = math.sqrt(u * u + v * v)
    if d == 0.0:
        return invert_plane(BROWN_CONRADY, params, u, v, 0.0, 0.0, limit)
    r, ok = invert_brown_radius(params, min(d, image_limit), limit)
    share = r / d
    tail = abs(params[6]) + abs(params[7]) + abs(params[12]) + abs(params[13]) + abs(params[14]) + abs(params[15])
    if tail == 0.0:
        return u * share, v * share, ok and d <= image_limit * (1.0 + 1e-12)
    return invert_plane(BROWN_CONRADY, params, u, v, u * share, v * share, limit)
