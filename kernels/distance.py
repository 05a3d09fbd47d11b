"""Distances between joints at the speed of memory: LANES joints of a frame at a time."""

from __future__ import annotations

import numba as nb
import numpy as np

from .simd import BARE, LANES, count_true, keep, mask_of, root, splat, sum_triples, total_of
from .simd_memory import load_as_doubles, load_flags, store


@nb.njit(**BARE)
def _single(a, b, k):
    """Distance of the joint whose numbers begin at ``k``."""
    x = np.float64(a[k]) - np.float64(b[k])
    y = np.float64(a[k + 1]) - np.float64(b[k + 1])
    z = np.float64(a[k + 2]) - np.float64(b[k + 2])
    return np.sqrt(x * x + y * y + z * z)


@nb.njit(**BARE)
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
            total += _single(a, b, k)
    return total if np.isfinite(total) else np.nan, n


@nb.njit(**BARE)
def _gap(a, b, k):
    """Distances of LANES joints in a row whose numbers begin at ``k``."""
    W = LANES
    x = load_as_doubles(a, k) - load_as_doubles(b, k)
    y = load_as_doubles(a, k + W) - load_as_doubles(b, k + W)
    z = load_as_doubles(a, k + 2 * W) - load_as_doubles(b, k + 2 * W)
    return root(sum_triples(x * x, y * y, z * z))


@nb.njit(**BARE)
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
    W = LANES
    masked = valid.size > 0
    whole = J - J % W
    # a last group that is not full reaches back over joints that are in already; one or two joints go singly
    group = J - whole > 2
    single = J if group else whole
    late = mask_of(np.int64((1 << W) - (1 << (W - J % W))))
    for frame in range(start, stop):
        if J < W:
            total[frame], count[frame] = _one(pred, target, valid, J, frame)
            continue
        k = frame * J
        sums = splat(0.0)
        seen = J
        if masked:
            seen = 0
            for j in range(0, whole, W):
                use = load_flags(valid, k + j)
                sums = sums + keep(use, _gap(pred, target, 3 * (k + j)))
                seen += count_true(use)
            if group:
                use = load_flags(valid, k + J - W) & late
                sums = sums + keep(use, _gap(pred, target, 3 * (k + J - W)))
                seen += count_true(use)
        else:
            for j in range(0, whole, W):
                sums = sums + _gap(pred, target, 3 * (k + j))
            if group:
                sums = sums + keep(late, _gap(pred, target, 3 * (k + J - W)))
        s = total_of(sums)
        for j in range(single, J):
            if not masked or valid[k + j] != 0:
                s += _single(pred, target, 3 * (k + j))
                seen += masked
        if s < np.inf:
            total[frame], count[frame] = s, seen
        else:
            # something is not finite: by the rules, one by one
            total[frame], count[frame] = _one(pred, target, valid, J, frame)


@nb.njit(**BARE)
def distance_joints(pred, target, begin, joints, out):
    """Distances (joints,) of consecutive joints of flat arrays, from joint ``begin`` on, finite or not."""
    whole = joints - joints % LANES
    for j in range(0, whole, LANES):
        store(out, j, _gap(pred, target, 3 * (begin + j)))
    for j in range(whole, joints):
        out[j] = _single(pred, target, 3 * (begin + j))
