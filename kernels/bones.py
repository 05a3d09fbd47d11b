"""What bone lengths say about each joint: Gaussian belief propagation along the skeleton's tree, frame by frame.

Joints are Gaussians in information form: a mean (3,) and a 3x3 information matrix (inverse covariance), which may be
singular; zero means not measured.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .inverse3 import inverse3


@nb.njit(cache=True, error_model="numpy")
def _along(info, vector, d, covariance):
    """Mean and variance of d.x for x in information form; the variance is infinite where it is not determined."""
    trace = info[0, 0] + info[1, 1] + info[2, 2]
    if not trace > 0.0:
        return 0.0, np.inf
    det = inverse3(info, covariance)
    if not det > 1e-12 * trace * trace * trace:
        return 0.0, np.inf
    mean = 0.0
    variance = 0.0
    for i in range(3):
        x = 0.0
        v = 0.0
        for k in range(3):
            x += covariance[i, k] * vector[k]
            v += covariance[i, k] * d[k]
        mean += d[i] * x
        variance += d[i] * v
    return mean, variance


@nb.njit(cache=True, error_model="numpy")
def bones_in_frames(mean, info, reference, order, parent, length, length_sd, start, stop):
    """Add what bone lengths say about each joint, by two sweeps of belief propagation along the tree, in place.

    Each bone is the constraint d.(x_child - x_parent) = length with a standard deviation, linearised at the direction d
    of the reference (exact on a tree for a given d). Joints without a finite mean, and bones with a non-finite length,
    take no part.

    Args:
        mean: (T, J, 3) float64, NaN where there is no estimate.
        info: (T, J, 3, 3) float64.
        reference: (T, J, 3) float64, where bone directions are taken from; may be ``mean`` itself.
        order: (J,) int64, parents before children.
        parent: (J,) int64, -1 for roots.
        length: (J,) float64 metres of the bone to the parent, NaN where not used.
        length_sd: (J,) float64 metres.
        start: First frame.
        stop: One past the last frame.
    """
    J = order.size
    vector = np.empty((J, 3))
    own = np.empty((J, 3, 3))
    up_precision = np.empty(J)
    up_value = np.empty(J)
    direction = np.empty((J, 3))
    work = np.empty((3, 3))
    without = np.empty((3, 3))
    without_vector = np.empty(3)
    for t in range(start, stop):
        # directions first: the reference may be the array that is written at the end
        for j in range(J):
            known = np.isfinite(mean[t, j, 0])
            up_precision[j] = 0.0
            up_value[j] = 0.0
            for i in range(3):
                vector[j, i] = 0.0
                for k in range(3):
                    own[j, i, k] = info[t, j, i, k] if known else 0.0
                    if known:
                        vector[j, i] += info[t, j, i, k] * mean[t, j, k]
            p = parent[j]
            direction[j, 0] = np.nan
            if (
                p >= 0
                and known
                and np.isfinite(length[j])
                and np.isfinite(mean[t, p, 0])
                and np.isfinite(reference[t, j, 0])
                and np.isfinite(reference[t, p, 0])
            ):
                n = 0.0
                for i in range(3):
                    direction[j, i] = reference[t, j, i] - reference[t, p, i]
                    n += direction[j, i] * direction[j, i]
                n = np.sqrt(n)
                if n > 1e-6:
                    for i in range(3):
                        direction[j, i] /= n
                else:
                    direction[j, 0] = np.nan
        # leaves to root: what a child knows about its parent along the bone
        for n in range(J - 1, -1, -1):
            j = order[n]
            p = parent[j]
            if p < 0 or not np.isfinite(direction[j, 0]):
                continue
            value, variance = _along(own[j], vector[j], direction[j], work)
            if np.isfinite(variance):
                up_precision[j] = 1.0 / (variance + length_sd[j] * length_sd[j])
                up_value[j] = value - length[j]
                for i in range(3):
                    vector[p, i] += direction[j, i] * up_precision[j] * up_value[j]
                    for k in range(3):
                        own[p, i, k] += direction[j, i] * direction[j, k] * up_precision[j]
        # root to leaves: the parent without what this child told it
        for n in range(J):
            j = order[n]
            p = parent[j]
            if p < 0 or not np.isfinite(direction[j, 0]):
                continue
            for i in range(3):
                without_vector[i] = vector[p, i] - direction[j, i] * up_precision[j] * up_value[j]
                for k in range(3):
                    without[i, k] = own[p, i, k] - direction[j, i] * direction[j, k] * up_precision[j]
            value, variance = _along(without, without_vector, direction[j], work)
            if np.isfinite(variance):
                precision = 1.0 / (variance + length_sd[j] * length_sd[j])
                for i in range(3):
                    vector[j, i] += direction[j, i] * precision * (value + length[j])
                    for k in range(3):
                        own[j, i, k] += direction[j, i] * direction[j, k] * precision
        for j in range(J):
            if not np.isfinite(mean[t, j, 0]):
                continue
            trace = own[j, 0, 0] + own[j, 1, 1] + own[j, 2, 2]
            det = inverse3(own[j], work)
            for i in range(3):
                for k in range(3):
                    info[t, j, i, k] = own[j, i, k]
            if det > 1e-12 * trace * trace * trace:
                for i in range(3):
                    mean[t, j, i] = work[i, 0] * vector[j, 0] + work[i, 1] * vector[j, 1] + work[i, 2] * vector[j, 2]
