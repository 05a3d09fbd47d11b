"""Which views to trust for a hand: its 21 joints vote together, because occlusion and mix-ups hit them all at once."""

from __future__ import annotations

import numba as nb
import numpy as np

from .sides import _ray_error2


@nb.njit(cache=True, error_model="numpy", nogil=True)
def _meet(oa, da, ob, db, out):
    """Midpoint of the shortest segment between two rays; false when they are parallel or meet behind a camera."""
    c = da[0] * db[0] + da[1] * db[1] + da[2] * db[2]
    den = 1.0 - c * c
    if not den > 1e-5:
        return False
    w0 = ob[0] - oa[0]
    w1 = ob[1] - oa[1]
    w2 = ob[2] - oa[2]
    wa = w0 * da[0] + w1 * da[1] + w2 * da[2]
    wb = w0 * db[0] + w1 * db[1] + w2 * db[2]
    s = (wa - c * wb) / den
    t = (c * wa - wb) / den
    if s <= 0.0 or t <= 0.0:
        return False
    for i in range(3):
        out[i] = 0.5 * (oa[i] + s * da[i] + ob[i] + t * db[i])
    return True


@nb.njit(cache=True, error_model="numpy", nogil=True)
def vote(origins, rays, focal, cap, share, parent, length, length_weight, near, near_weight, keep, start, stop):
    """Choose the views of one hand in each frame.

    Every pair of views proposes the whole hand; it is scored by the mean capped squared error of each view over all
    joints, by how far its bones are from the person's, and by its distance from where the hand is expected. The views
    that agree with the best proposal in enough of their joints are kept: a proposal carries the wrong joints of both
    its views, so a good view need not agree in most.

    Args:
        origins: (V, 3) camera centres.
        rays: (V, T, K, 3) unit rays of the hand's joints, NaN where not seen.
        focal: (V,) pixels per radian.
        cap: Pixels; a joint off by more than half of this does not agree.
        share: Share of its joints in which a view must agree.
        parent: (K,) int64 parent within the hand, -1 for the wrist.
        length: (K,) expected bone lengths in metres, NaN where unknown.
        length_weight: Weight of the bones, in units of a quarter of ``cap`` squared.
        near: (T, 3) where the wrist is expected, NaN where unknown.
        near_weight: Weight of a distance of 0.1 m from there, in units of a quarter of ``cap`` squared.
        keep: (V, T) bool, out.
        start: First frame.
        stop: One past the last frame.
    """
    V, K = rays.shape[0], rays.shape[2]
    cap2 = 0.25 * cap * cap
    hand = np.empty((K, 3))
    has = np.empty(K, dtype=np.bool_)
    agree = np.empty(V)
    for t in range(start, stop):
        best = np.inf
        for v in range(V):
            keep[v, t] = False
        for a in range(V):
            for b in range(a + 1, V):
                common = 0
                for k in range(K):
                    has[k] = False
                    if np.isfinite(rays[a, t, k, 0]) and np.isfinite(rays[b, t, k, 0]):
                        has[k] = _meet(origins[a], rays[a, t, k], origins[b], rays[b, t, k], hand[k])
                        common += has[k]
                if common < 6:
                    continue
                score = 0.0
                for v in range(V):
                    total = 0.0
                    count = 0
                    good = 0
                    seen = 0
                    for k in range(K):
                        if np.isfinite(rays[v, t, k, 0]):
                            seen += 1
                            if has[k]:
                                count += 1
                                e = _ray_error2(origins[v], rays[v, t, k], focal[v], hand[k, 0], hand[k, 1], hand[k, 2])
                                total += min(e, cap2)
                                good += e < cap2
                    agree[v] = 0.0
                    if count > 0:
                        agree[v] = good / count
                        score += total / count
                    elif seen > 0:
                        score += cap2
                if length_weight > 0.0:
                    misfit = 0.0
                    bones = 0
                    for k in range(K):
                        p = parent[k]
                        if p >= 0 and has[k] and has[p] and np.isfinite(length[k]):
                            d0 = hand[k, 0] - hand[p, 0]
                            d1 = hand[k, 1] - hand[p, 1]
                            d2 = hand[k, 2] - hand[p, 2]
                            r = (np.sqrt(d0 * d0 + d1 * d1 + d2 * d2) - length[k]) / (0.5 * length[k] + 0.005)
                            misfit += min(r * r, 1.0)
                            bones += 1
                    if bones > 0:
                        score += length_weight * cap2 * misfit / bones
                if near_weight > 0.0 and np.isfinite(near[t, 0]) and has[0]:
                    d0 = hand[0, 0] - near[t, 0]
                    d1 = hand[0, 1] - near[t, 1]
                    d2 = hand[0, 2] - near[t, 2]
                    score += near_weight * cap2 * min((d0 * d0 + d1 * d1 + d2 * d2) / 0.01, 4.0)
                if score < best:
                    best = score
                    for v in range(V):
                        keep[v, t] = agree[v] >= share
                    keep[a, t] = True
                    keep[b, t] = True
