"""Sums of the fused pass against the pure functions; merging in any way; comparison of predictions."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from egopose import metrics as m
from egopose.errors import EgoposeError
from egopose.metrics.accumulate import METRICS, Accumulator, exact
from egopose.metrics.compare import bootstrap, compare, sign_flip


def takes(count: int = 5, joints: int = 17, seed: int = 0, dtype: type = np.float64):
    rng = np.random.default_rng(seed)
    out = {}
    for i in range(count):
        n = int(rng.integers(40, 200))
        target = np.cumsum(rng.normal(0, 0.01, (n, joints, 3)), axis=0) + rng.normal(0, 0.4, (1, joints, 3))
        pred = target + rng.normal(0, 0.03, target.shape)
        out[f"take_{i}"] = (pred.astype(dtype), target.astype(dtype), rng.random((n, joints)) < 0.85)
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", [True, False])
def test_every_metric_of_one_pass_equals_its_function(dtype: type, masked: bool) -> None:
    data = takes(1, dtype=dtype)
    pred, target, valid = data["take_0"]
    target[5, 3] = np.nan
    pred[9] = target[9] * [-1, 1, 1]
    pred[12] = 1.0
    mask = valid if masked else None
    hips = (11, 12)
    a = Accumulator(17, root=hips, hi=0.1, steps=11)
    frames = np.empty((len(METRICS), len(pred)))
    a.update("take_0", pred, target, mask, fps=30.0, frames=frames)
    found = a.compute()
    functions = {
        "mpjpe": m.mpjpe,
        "root_mpjpe": lambda *x, **k: m.mpjpe(*x, root=hips, **k),
        "n_mpjpe": lambda *x, **k: m.n_mpjpe(*x, root=hips, **k),
        "pa_mpjpe": m.pa_mpjpe,
        "rigid_mpjpe": lambda *x, **k: m.pa_mpjpe(*x, scale=False, **k),
        "mpjve": lambda *x, **k: m.mpjve(*x, fps=30, **k),
        "accel_error": lambda *x, **k: m.accel_error(*x, fps=30, **k),
    }
    for k, (name, function) in enumerate(functions.items()):
        for way in ("micro", "macro"):
            assert found[name][way] == pytest.approx(function(pred, target, mask, reduce=way), rel=1e-11), (name, way)
        np.testing.assert_allclose(found[name]["joint"], function(pred, target, mask, reduce="joint"), rtol=1e-11)
        each = function(pred, target, mask)
        power = {"mpjve": 30, "accel_error": 900}.get(name, 1)
        np.testing.assert_allclose(frames[k, len(pred) - len(each) :] * power, each, rtol=1e-9, atol=1e-9)
    counted = np.isfinite(target).all(-1) if mask is None else mask & np.isfinite(target).all(-1)
    assert found["jitter"]["micro"] == pytest.approx(m.jitter(pred, counted, fps=30, reduce="micro"), rel=1e-10)
    np.testing.assert_allclose(found["mpjpe"]["pck"], m.pck(pred, target, a.limits, mask), atol=1e-14)
    np.testing.assert_allclose(found["pa_mpjpe"]["pck"], m.pck(pred, target, a.limits, mask, align="pa"), atol=1e-14)
    assert found["pa_mpjpe"]["auc"] == pytest.approx(m.auc(pred, target, mask, hi=0.1, steps=11, align="pa"))
    assert found["counted"] == counted.sum()


def test_distances_that_are_not_finite_are_counted_and_poison() -> None:
    pred, target, valid = takes(1)["take_0"]
    valid[:] = True
    pred[3, 4], pred[7, 2, 0] = np.nan, np.inf
    a = Accumulator(17)
    a.update("x", pred, target, valid)
    found = a.compute()
    assert found["mpjpe"]["not_finite"] == 2
    assert found["pa_mpjpe"]["not_finite"] == 2 * 17
    assert np.isnan(found["mpjpe"]["micro"])
    assert np.isnan(found["mpjpe"]["macro"])
    assert np.isnan(found["mpjpe"]["joint"]).tolist() == [j in (2, 4) for j in range(17)]
    fine = a.compute(skip_not_finite=True)
    keep = valid.copy()
    keep[3, 4], keep[7, 2] = False, False
    assert fine["mpjpe"]["micro"] == pytest.approx(m.mpjpe(pred, target, keep, reduce="micro"), rel=1e-12)


def same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, dict):
            same(value, b[key])
        else:
            np.testing.assert_array_equal(value, b[key])


def test_merging_is_exact_whatever_the_sharding() -> None:
    data = takes(9)
    whole = Accumulator(17, root=0)
    for name, arrays in data.items():
        whole.update(name, *arrays)
    rng = np.random.default_rng(0)
    for shards in (2, 3, 9):
        where = rng.integers(0, shards, len(data))
        parts = [Accumulator(17, root=0) for _ in range(shards)]
        for i in rng.permutation(len(data)):
            name = f"take_{i}"
            parts[where[i]].update(name, *data[name], threads=1)
        parts = [pickle.loads(pickle.dumps(p)) for p in parts]
        total = parts[0]
        for part in parts[1:]:
            total = part + total
        same(total.compute(), whole.compute())


def test_chunks_and_threads_change_nothing() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(40_000, 3, 3)).astype(np.float32)
    pred = target + rng.normal(0, 0.1, target.shape).astype(np.float32)
    results = []
    for threads in (1, 2):
        a = Accumulator(3)
        a.update("t", pred, target, threads=threads)
        results.append(a)
    same(results[0].compute(), results[1].compute())
    found = results[0].compute()
    assert found["mpjve"]["micro"] == pytest.approx(m.mpjve(pred, target, reduce="micro"), rel=1e-12)
    assert found["jitter"]["count"] == (40_000 - 3) * 3
    # the frames of one take in any order have the same sums of distances
    order = rng.permutation(40_000)
    b = Accumulator(3)
    b.update("t", pred[order], target[order])
    for name in METRICS[:5]:
        assert b.compute()[name]["micro"] == found[name]["micro"] or np.isnan(found[name]["micro"])


@pytest.mark.parametrize("unit", [1.0, 1000.0, 1e6])
def test_long_distances_are_summed_exactly_too(unit: float) -> None:
    rng = np.random.default_rng(1)
    target = rng.normal(0, 0.4, (3000, 17, 3)) * unit
    pred = target + rng.normal(0, 0.05, target.shape) * unit
    pred[::500] += 1e4 * unit
    a = Accumulator(17, root=0)
    a.update("t", pred, target)
    found = a.compute()
    order = rng.permutation(3000)
    halves = Accumulator(17, root=0), Accumulator(17, root=0)
    for half, part in zip(halves, (order[:1111], order[1111:])):
        half.update("t", pred[part], target[part], threads=1)
    other = (halves[1] + halves[0]).compute()
    for name, function in (("mpjpe", m.mpjpe), ("pa_mpjpe", m.pa_mpjpe)):
        assert other[name]["micro"] == found[name]["micro"]
        np.testing.assert_array_equal(other[name]["joint"], found[name]["joint"])
        np.testing.assert_allclose(found[name]["joint"], function(pred, target, reduce="joint"), rtol=1e-12)
    for name, each in (("mpjve", m.mpjve(pred, target)), ("accel_error", m.accel_error(pred, target))):
        assert found[name]["macro"] == pytest.approx(each.mean(), rel=1e-12)
    assert found["jitter"]["macro"] == pytest.approx(m.jitter(pred).mean(), rel=1e-12)


def test_sums_are_joined_with_one_rounding() -> None:
    sums = np.array([3 * 2**20 + 1, -(2**30), 1, 0], np.int64)
    assert float(exact(sums)) == 3 + 2.0**-20 - 2.0**-22


def test_what_does_not_belong_together_is_refused() -> None:
    a = Accumulator(17)
    pred, target, _ = takes(1)["take_0"]
    with pytest.raises(EgoposeError, match="expected 17"):
        a.update("x", pred[:, :5], target[:, :5])
    a.update("x", pred, target, fps=30)
    with pytest.raises(EgoposeError, match="frames per second"):
        a.update("x", pred, target, fps=10)
    with pytest.raises(EgoposeError, match="do not add up"):
        a.merge(Accumulator(17, hi=1.0))
    with pytest.raises(EgoposeError, match="no take 'y'"):
        a.compute(["y"])
    with pytest.raises(EgoposeError, match="steps"):
        Accumulator(17, lo=1, hi=0)


def test_the_interval_covers_and_the_comparison_finds_what_moved() -> None:
    data = takes(20, seed=3)
    first, second = Accumulator(17), Accumulator(17)
    for i, (name, (pred, target, valid)) in enumerate(data.items()):
        first.update(name, pred, target, valid)
        better = pred.copy()
        better[:, 5] = target[:, 5]
        if i == 4:
            better = pred + 0.2
        second.update(name, better, target, valid)
    interval = bootstrap(first, resamples=999)
    assert interval["low"] < interval["value"] < interval["high"]
    assert interval["value"] == pytest.approx(first.compute()["mpjpe"]["micro"], rel=1e-14)
    found = compare(first, second, resamples=999)
    assert found["difference"] == pytest.approx(found["second"] - found["first"])
    assert list(found["takes"])[-1] == "take_4"
    assert found["takes"]["take_4"] > 0.1
    assert np.argmin(found["joints"]) == 5
    assert found["low"] <= found["difference"] <= found["high"]
    nothing = compare(first, first, resamples=99)
    assert nothing["difference"] == 0
    assert nothing["p"] == 1
    with pytest.raises(EgoposeError, match="no take in common"):
        compare(first, Accumulator(17))
    with pytest.raises(EgoposeError, match="metric is 'x'"):
        bootstrap(first, "x")


def test_the_nominal_level_is_reached() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        a = Accumulator(1)
        for t in range(25):
            a.update(str(t), np.full((1, 1, 3), [rng.normal(10, 1), 0, 0]), np.zeros((1, 1, 3)))
        i = bootstrap(a, resamples=399, level=0.9)
        inside += i["low"] <= 10 <= i["high"]
    assert 45 <= inside <= 60


def test_sign_flips_by_hand() -> None:
    assert sign_flip([1.0, 1.0, 1.0]) == 2 / 8
    assert sign_flip([1.0, -1.0]) == 1.0
    assert np.isnan(sign_flip([np.nan, 1.0]))
    assert sign_flip(np.ones(30), resamples=999) == 1 / 1000
