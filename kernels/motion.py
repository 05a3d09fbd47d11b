"""Differences over time at the speed of memory: velocity, acceleration and jerk of joints or of errors."""

from __future__ import annotations

import numba as nb
import numpy as np

from .simd import BARE, LANES, root, sum_triples
from .simd_memory import load_as_doubles, store


@nb.njit(**BARE)
def _differences(a, b, paired, row, k, order):
    """LANES numbers of the order-th difference over rows of ``a - b`` (of ``a`` alone when not paired)."""
    d0 = load_as_doubles(a, k)
    d1 = load_as_doubles(a, k + row)
    if paired:
        d0 = d0 - load_as_doubles(b, k)
        d1 = d1 - load_as_doubles(b, k + row)
    v0 = d1 - d0
    if order == 1:
        return v0
    d2 = load_as_doubles(a, k + 2 * row)
    if paired:
        d2 = d2 - load_as_doubles(b, k + 2 * row)
    v1 = d2 - d1
    if order == 2:
        return v1 - v0
    d3 = load_as_doubles(a, k + 3 * row)
    if paired:
        d3 = d3 - load_as_doubles(b, k + 3 * row)
    return ((d3 - d2) - v1) - (v1 - v0)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def motion_norms(a, b, paired, J, start, stop, order, out):
    """Norms of differences over time of the frames ``start`` .. ``stop`` of flat arrays.

    Args:
        a: (N * J * 3,) float32 or float64, contiguous.
        b: The same, subtracted when ``paired``.
        paired: Differences of ``a - b`` rather than of ``a``.
        J: Joints.
        start: First frame.
        stop: One past the last frame of the result; ``stop + order`` frames are read.
        order: 1, 2 or 3.
        out: (stop - start) * J float64, out; not finite where an input is not.
    """
    W = LANES
    row = 3 * J
    joints = (stop - start) * J
    whole = joints - joints % W
    begin = start * row
    for j in range(0, whole, W):
        k = begin + 3 * j
        x = _differences(a, b, paired, row, k, order)
        y = _differences(a, b, paired, row, k + W, order)
        z = _differences(a, b, paired, row, k + 2 * W, order)
        store(out, j, root(sum_triples(x * x, y * y, z * z)))
    d = np.empty(4)
    for j in range(whole, joints):
        s = 0.0
        for k in range(begin + 3 * j, begin + 3 * j + 3):
            for i in range(order + 1):
                d[i] = np.float64(a[k + i * row])
                if paired:
                    d[i] -= np.float64(b[k + i * row])
            for o in range(order):
                for i in range(order - o):
                    d[i] = d[i + 1] - d[i]
            s += d[0] * d[0]
        out[j] = np.sqrt(s)
