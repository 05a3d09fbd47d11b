"""Distances between joints at the speed of memory: LANES joints at a time, whatever frame they belong to."""

from __future__ import annotations

import numba as nb
import numpy as np

from .simd import LANES, load_as_doubles, root, store, sum_triples

_FRAMES = 32


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _one(a, b, valid, J, frame):
    """Sum of one frame's distances by the rules, and how many joints count."""
    total = 0.0
    n = 0
    for j in range(J):
        k = (frame * J + j) * 3
        if valid.size > 0 and valid[frame * J + j] == 0:
            continue
        if np.isfinite(b[k]) and np.isfinite(b[k + 1]) and np.isfinite(b[k + 2]):
            n += 1
            s = 0.0
            for i in range(k, k + 3):
                d = np.float64(a[i]) - np.float64(b[i])
                s += d * d
            total += np.sqrt(s)
    return total if np.isfinite(total) else np.nan, n


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _gaps(a, b, begin, joints, out):
    """Distances of consecutive joints from number ``begin`` of the flat arrays on."""
    W = LANES
    whole = joints - joints % W
    for j in range(0, whole, W):
        k = begin + 3 * j
        x = load_as_doubles(a, k) - load_as_doubles(b, k)
        y = load_as_doubles(a, k + W) - load_as_doubles(b, k + W)
        z = load_as_doubles(a, k + 2 * W) - load_as_doubles(b, k + 2 * W)
        store(out, j, root(sum_triples(x * x, y * y, z * z)))
    for j in range(whole, joints):
        s = 0.0
        for i in range(begin + 3 * j, begin + 3 * j + 3):
            d = np.float64(a[i]) - np.float64(b[i])
            s += d * d
        out[j] = np.sqrt(s)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def distance_frames(pred, target, valid, J, start, stop, total, count):
    """Sums of distances of the frames ``start`` .. ``stop`` of flat arrays.

    Args:
        pred: (N * J * 3,) float32 or float64, contiguous.
        target: The same.
        valid: (N * J,) uint8, or empty: every joint with a finite target counts.
        J: Joints.
        start: First frame.
        stop: One past the last.
        total: (N,) float64, out: NaN where a counted joint of the prediction is not finite.
        count: (N,) int64, out: counted joints.
    """
    e = np.empty(_FRAMES * J)
    for frame in range(start, stop, _FRAMES):
        n = min(_FRAMES, stop - frame)
        _gaps(pred, target, frame * J * 3, n * J, e)
        for f in range(n):
            # several sums, so that the additions do not wait for each other
            s0 = s1 = s2 = s3 = 0.0
            k = f * J
            seen = J
            if valid.size == 0:
                j = 0
                while j + 4 <= J:
                    s0, s1, s2, s3 = s0 + e[k + j], s1 + e[k + j + 1], s2 + e[k + j + 2], s3 + e[k + j + 3]
                    j += 4
                while j < J:
                    s0 += e[k + j]
                    j += 1
            else:
                seen = 0
                v = (frame + f) * J
                for j in range(J):
                    c = np.int64(valid[v + j] != 0)
                    seen += c
                    s0 += e[k + j] if c else 0.0
            s = (s0 + s1) + (s2 + s3)
            if s < np.inf:
                total[frame + f], count[frame + f] = s, seen
            else:
                # something is not finite: by the rules, one by one
                total[frame + f], count[frame + f] = _one(pred, target, valid, J, frame + f)


@nb.njit(cache=True, error_model="numpy", nogil=True)
def distance_joints(pred, target, begin, joints, out):
    """Distances (joints,) of consecutive joints of flat arrays, from joint ``begin`` on, finite or not."""
    _gaps(pred, target, begin * 3, joints, out)
