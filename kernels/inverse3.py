"""The inverse of a 3x3 matrix."""

from __future__ import annotations

import numba as nb


@nb.njit(cache=True, error_model="numpy")
def inverse3(a, out):
    """Inverse of a 3x3 matrix, symmetric or not; returns its determinant."""
    c00 = a[1, 1] * a[2, 2] - a[1, 2] * a[2, 1]
    c01 = a[1, 2] * a[2, 0] - a[1, 0] * a[2, 2]
    c02 = a[1, 0] * a[2, 1] - a[1, 1] * a[2, 0]
    det = a[0, 0] * c00 + a[0, 1] * c01 + a[0, 2] * c02
    s = 1.0 / det
    out[0, 0] = c00 * s
    out[1, 0] = c01 * s
    out[2, 0] = c02 * s
    out[0, 1] = (a[0, 2] * a[2, 1] - a[0, 1] * a[2, 2]) * s
    out[1, 1] = (a[0, 0] * a[2, 2] - a[0, 2] * a[2, 0]) * s
    out[2, 1] = (a[0, 1] * a[2, 0] - a[0, 0] * a[2, 1]) * s
    out[0, 2] = (a[0, 1] * a[1, 2] - a[0, 2] * a[1, 1]) * s
    out[1, 2] = (a[0, 2] * a[1, 0] - a[0, 0] * a[1, 2]) * s
    out[2, 2] = (a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]) * s
    return det
