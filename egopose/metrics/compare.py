"""Is one prediction better than another? Intervals by resampling takes, which are what varies independently."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from egopose.errors import EgoposeError
from egopose.metrics.accumulate import METRICS, Accumulator, exact
from egopose.metrics.arrays import Floats


def _sums(accumulator: Accumulator, metric: str, names: list[str]) -> tuple[Floats, Floats]:
    """Sum of errors and counts (T, J) of one metric by take and joint; not-finite ones make the sum NaN."""
    if metric not in METRICS:
        raise EgoposeError(f"metric is {metric!r}; expected one of {', '.join(METRICS)}")
    m = METRICS.index(metric)
    power = {"mpjve": 1, "accel_error": 2, "jitter": 3}.get(metric, 0)
    takes = [accumulator.takes[name] for name in names]
    total = np.array([exact(take.sums[m]) * take.fps**power for take in takes])
    total[np.array([take.sums[m, :, 3] > 0 for take in takes])] = np.nan
    return total, np.array([take.sums[m, :, 2] for take in takes], dtype=np.float64)


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1 or int(resamples) != resamples or resamples < 1:
        raise EgoposeError(f"level is {level} and resamples {resamples}; expected a share and a positive number")


def bootstrap(
    accumulator: Accumulator,
    metric: str = "mpjpe",
    *,
    level: float = 0.95,
    resamples: int = 9999,
    method: str = "BCa",
    seed: int = 0,
) -> dict[str, float]:
    """Confidence interval of a micro mean by bootstrap over takes (Efron, 1987; scipy's implementation).

    Args:
        accumulator: Sums by take.
        metric: One of the fused metrics.
        level: Share of the interval.
        resamples: Draws.
        method: "BCa", "percentile" or "basic".
        seed: Of the draws.

    Returns:
        ``value``, ``low``, ``high``, ``error`` (standard error) and ``takes``; the interval is NaN for fewer than two
        takes with counted joints, or when a prediction is not finite.

    Raises:
        EgoposeError: The metric is unknown.
    """
    _check(level, resamples)
    names = sorted(accumulator.takes)
    total, count = (a.sum(axis=1) for a in _sums(accumulator, metric, names)) if names else (np.empty(0), np.empty(0))
    some = count > 0
    # a take whose every prediction is not finite has no count but must not vanish
    some |= np.isnan(total)
    return _interval(total[some], count[some], level, resamples, method, seed)


def _interval(total: Floats, count: Floats, level: float, resamples: int, method: str, seed: int) -> dict[str, float]:
    from scipy.stats import bootstrap as scipy_bootstrap

    nan = float("nan")
    value = float(total.sum() / count.sum()) if count.sum() > 0 else nan
    result = {"value": value, "low": nan, "high": nan, "error": nan, "takes": float(len(total))}
    if len(total) < 2 or not np.isfinite(value):
        return result
    if np.ptp(total / count) == 0:
        return result | {"low": value, "high": value, "error": 0.0}
    # few takes have few different draws, and no jackknife worth the name
    chosen = "percentile" if method == "BCa" and len(total) < 4 else method
    options: dict[str, Any] = {
        "paired": True, "vectorized": True, "method": chosen, "confidence_level": level, "n_resamples": resamples,
        "batch": 1000,
    }  # fmt: skip
    generator = np.random.default_rng(seed)

    def ratio(t: Floats, c: Floats, axis: int = -1) -> Floats:
        return np.asarray(t.sum(axis) / c.sum(axis))

    try:
        found = scipy_bootstrap((total, count), ratio, rng=generator, **options)
    except TypeError:
        # scipy before 1.15 has another name for it
        found = scipy_bootstrap((total, count), ratio, random_state=generator, **options)
    low, high = found.confidence_interval
    return result | {"low": float(low), "high": float(high), "error": float(found.standard_error)}


def compare(
    first: Accumulator,
    second: Accumulator,
    metric: str = "mpjpe",
    *,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> dict[str, Any]:
    """Paired comparison of two predictions of the same takes: second minus first, negative when the second is better.

    Only takes in both are compared; each bootstrap draw takes the same takes from both.

    Args:
        first: Sums of one prediction.
        second: Sums of the other, over the same targets.
        metric: One of the fused metrics.
        level: Share of the interval.
        resamples: Draws.
        seed: Of the draws.

    Returns:
        ``first``, ``second`` (micro means), ``difference``, ``low``, ``high``; ``p`` two-sided sign-flip test over
        takes (exact up to 14 takes); ``takes`` {name: difference} from the most improved on; ``joints`` (J,)
        differences; ``only_first`` and ``only_second`` names that could not be paired.

    Raises:
        EgoposeError: No common take, another number of joints, or a take has other counts in the two (other targets).
    """
    _check(level, resamples)
    if first.joints != second.joints:
        raise EgoposeError(f"predictions of {first.joints} and {second.joints} joints cannot be compared")
    names = sorted(set(first.takes) & set(second.takes))
    if not names:
        raise EgoposeError("the two predictions have no take in common")
    a, n = _sums(first, metric, names)
    b, k = _sums(second, metric, names)
    differ = [name for i, name in enumerate(names) if np.isfinite(a[i] + b[i]).all() and (n[i] != k[i]).any()]
    if differ:
        raise EgoposeError(f"take {differ[0]!r} has other counted joints in the two; score both against one target")
    with np.errstate(invalid="ignore", divide="ignore"):
        joints = b.sum(0) / k.sum(0) - a.sum(0) / n.sum(0)
        by_take = b.sum(1) / k.sum(1) - a.sum(1) / n.sum(1)
    some = n.sum(1) > 0
    delta = _interval((b - a).sum(1)[some], n.sum(1)[some], level, resamples, "percentile", seed)
    order = sorted(range(len(names)), key=lambda i: (np.isnan(by_take[i]), by_take[i]))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = float(a.sum() / n.sum()), float(b.sum() / k.sum())
    return {
        "first": means[0],
        "second": means[1],
        "difference": delta["value"],
        "low": delta["low"],
        "high": delta["high"],
        "p": sign_flip((b - a).sum(1)[some], resamples=resamples, seed=seed),
        "takes": {names[i]: float(by_take[i]) for i in order},
        "joints": joints,
        "only_first": sorted(set(first.takes) - set(names)),
        "only_second": sorted(set(second.takes) - set(names)),
    }


def sign_flip(differences: ArrayLike, *, resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p that paired differences are centred at zero, by flipping their signs (Fisher, 1935).

    All flips up to 14 differences, random ones above. NaN without differences or when one is not finite.
    """
    d = np.asarray(differences, dtype=np.float64)
    if not d.size or not np.isfinite(d).all():
        return float("nan")
    seen = abs(d.sum()) * (1 - 1e-12)
    if d.size <= 14:
        signs = 1 - 2 * (np.arange(2**d.size)[:, None] >> np.arange(d.size) & 1)
        return float((np.abs(signs @ d) >= seen).mean())
    rng = np.random.default_rng(seed)
    hits = sum(int(abs((rng.integers(0, 2, d.size) * 2 - 1) @ d) >= seen) for _ in range(resamples))
    return (hits + 1) / (resamples + 1)
