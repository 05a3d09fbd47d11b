"""Lags of pairs of cameras, and the clocks that agree with all of them.

Two cameras see a moving joint at one moment only if their rays meet. For every pair the epipolar residual is measured
at every lag, with the relative pose fitted anew each time (:mod:`egopose.kernels.timing`), so neither a calibration
error passes for a lag nor a lag for a calibration error. A set of clocks costs what its differences cost in all pairs;
descents from many starts give the best set and what else is nearly as good.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from egopose.triangulate.packing import thread_count

Array = NDArray[np.float64]

_SAMPLES = 2500
_WIDEST_PX = 40.0
_SCALE_PX = 6.0
_FINE = 2.5
_ROUNDS = 12
_PRIOR = np.radians(1.5)
_MOST_NEIGHBOURS = 5
_STARTS = 24


@dataclass(frozen=True, eq=False)
class PairProfile:
    """The cost of one pair of views for every lag.

    Attributes:
        first: A view.
        second: Another.
        cost: (2 R + 1,) mean robust squared residual over noise, at lags -R .. R of the second; NaN unknown.
        joints: How many joints both see.
    """

    first: int
    second: int
    cost: Array
    joints: int


def pair_profiles(origins: Array, rays: Array, focal: Array, reach: int, seed: int = 0) -> list[PairProfile]:
    """Profiles of all pairs of views, or of each view with those it shares most joints with.

    Args:
        origins: (V, 3) camera centres, metres.
        rays: (V, T, J, 3) unit rays in the world on every frame, NaN where not seen.
        focal: (V,) pixels per radian.
        reach: Largest lag.
        seed: Of the sample of joints.
    """
    from egopose.kernels import timing

    seen = np.isfinite(rays[..., 0])
    lags = np.arange(-reach, reach + 1)

    def profile(pair: tuple[int, int]) -> PairProfile:
        i, k = pair
        both = np.argwhere(seen[i] & seen[k])
        rng = np.random.default_rng([seed, i, k])
        if len(both) > _SAMPLES:
            both = both[np.sort(rng.choice(len(both), _SAMPLES, replace=False))]
        frames, joints = np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])
        cost, typical = np.full(lags.size, np.nan), np.full(lags.size, np.nan)
        # of two cameras in one place every pair of rays meets
        if np.linalg.norm(origins[k] - origins[i]) > 1e-6 and len(both) >= 20:
            scale = _SCALE_PX
            for _ in range(2):
                timing.pair_profile(
                    origins[k] - origins[i], rays[i], rays[k], focal[i], focal[k], frames, joints, lags,
                    max(_WIDEST_PX, 4 * scale), scale, _ROUNDS, _PRIOR, cost, typical,
                )  # fmt: skip
                if not np.isfinite(cost).any():
                    break
                noise = max(float(typical[np.nanargmin(cost)]), 0.3)
                scale = _FINE * noise
            else:
                cost = cost / noise**2
        return PairProfile(i, k, cost, len(both))

    pairs = list(_pairs(seen))
    with ThreadPoolExecutor(thread_count(None, len(pairs) * _SAMPLES)) as pool:
        return list(pool.map(profile, pairs))


def _pairs(seen: NDArray[np.bool_]) -> Iterable[tuple[int, int]]:
    V = seen.shape[0]
    flat = seen.reshape(V, -1).astype(np.float32)
    shared = flat @ flat.T
    np.fill_diagonal(shared, -1)
    for i, k in combinations(range(V), 2):
        close = [k in np.argsort(-shared[i])[:_MOST_NEIGHBOURS], i in np.argsort(-shared[k])[:_MOST_NEIGHBOURS]]
        if V <= _MOST_NEIGHBOURS + 1 or any(close):
            yield i, k


def consistent_clocks(profiles: list[PairProfile], views: int, reference: int, reach: int, seed: int = 0) -> Array:
    """Whole-frame clocks (S, V) that the profiles agree with, distinct local minima, best first.

    Args:
        profiles: Of pairs of views.
        views: Number of views.
        reference: The view whose clock is zero.
        reach: Largest lag of the profiles.
        seed: Of the starting points.
    """
    lags = np.arange(-reach, reach + 1)
    tables = []
    for profile in profiles:
        if np.isfinite(profile.cost).sum() > lags.size // 2:
            cost = np.where(np.isfinite(profile.cost), profile.cost, np.nanmax(profile.cost))
            tables.append((profile.first, profile.second, profile.joints * (cost - cost.min())))
    if not tables:
        return np.zeros((1, views))
    unary = np.zeros((views, lags.size))

    def descend(clocks: NDArray[np.int64]) -> tuple[float, tuple[int, ...]]:
        for _ in range(20):
            old = clocks.copy()
            for v in range(views):
                unary[v] = 0.0
                for i, k, table in tables:
                    if v in (i, k):
                        # the lag of the pair for every clock of v; beyond the table its end stands
                        lag = lags - clocks[i] if v == k else clocks[k] - lags
                        unary[v] += table[np.clip(lag, -reach, reach) + reach]
                clocks[v] = lags[int(unary[v].argmin())]
            if (old == clocks).all():
                break
        clocks = clocks - clocks[reference]
        total = sum(t[np.clip(clocks[k] - clocks[i], -reach, reach) + reach] for i, k, t in tables)
        return float(total), tuple(clocks.tolist())

    rng = np.random.default_rng(seed)
    starts = [np.zeros(views, dtype=np.int64), _along_tree(tables, views, reference, lags)]
    starts += [rng.integers(-reach // 2, reach // 2 + 1, views) for _ in range(_STARTS)]
    found = sorted({descend(start) for start in starts})
    kept: list[Array] = []
    for _, clocks in found:
        this = np.array(clocks, dtype=np.float64)
        if all(np.abs(this - other).max() >= 2 for other in kept):
            kept.append(this)
    return np.array(kept)


def _along_tree(
    tables: list[tuple[int, int, Array]], views: int, reference: int, lags: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Clocks from the lags of the pairs that say most, one view after the other."""
    clocks = np.zeros(views, dtype=np.int64)
    known = {reference}
    while True:
        open_pairs = [t for t in tables if (t[0] in known) != (t[1] in known)]
        if not open_pairs:
            return clocks
        i, k, table = max(open_pairs, key=lambda t: float(t[2].mean()))
        lag = int(lags[int(table.argmin())])
        if i in known:
            clocks[k] = clocks[i] + lag
            known.add(k)
        else:
            clocks[i] = clocks[k] - lag
            known.add(i)
