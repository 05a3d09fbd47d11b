"""Smoothing kernels against dense Gaussian algebra and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest

from egopose.kernels import bones, smoothing


def transition(dt, q, order):
    if order == 2:
        F, Q = [[1, dt], [0, 1]], [[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]
    else:
        F = [[1, dt, dt**2 / 2], [0, 1, dt], [0, 0, 1]]
        Q = [
            [dt**5 / 20, dt**4 / 8, dt**3 / 6],
            [dt**4 / 8, dt**3 / 3, dt**2 / 2],
            [dt**3 / 6, dt**2 / 2, dt],
        ]
    return np.kron(F, np.eye(3)), np.kron(q * np.array(Q), np.eye(3))


def dense_posterior(times, mean, info, q, position_sd, rate_sd, order):
    """The exact posterior of an integrated random walk, by one big inverse."""
    T = len(times)
    measured = np.flatnonzero(np.isfinite(mean[:, 0]))
    n = 3 * order
    start = np.zeros((T, n, n))
    blocks: list[np.ndarray] = []
    F_all, Q_all = [], []
    for t in range(1, T):
        dt = times[t] - times[t - 1]
        F, Q = transition(dt, q, order)
        F_all.append(F)
        Q_all.append(Q)
    start[0] = np.diag(([position_sd**2] * 3 + [rate_sd**2] * 3 + [100 * rate_sd**2] * 3)[:n])
    for t in range(1, T):
        start[t] = F_all[t - 1] @ start[t - 1] @ F_all[t - 1].T + Q_all[t - 1]
    K = np.zeros((T * n, T * n))
    for a in range(T):
        block = start[a]
        K[a * n : a * n + n, a * n : a * n + n] = block
        for b in range(a + 1, T):
            block = F_all[b - 1] @ block
            K[b * n : b * n + n, a * n : a * n + n] = block
            K[a * n : a * n + n, b * n : b * n + n] = block.T
    prior_mean = np.tile(np.r_[mean[measured[0]], np.zeros(n - 3)], T)
    L = np.zeros((T * n, T * n))
    for t in measured:
        L[t * n : t * n + 3, t * n : t * n + 3] = info[t]
    covariance = K - K @ L @ np.linalg.solve(np.eye(T * n) + K @ L, K)
    residual = np.zeros(T * n)
    for t in measured:
        residual[t * n : t * n + 3] = info[t] @ (mean[t] - prior_mean[t * n : t * n + 3])
    x = prior_mean + covariance @ residual
    pos = np.arange(T)[:, None] * n + np.arange(3)
    blocks = [covariance[np.ix_(p, p)] for p in pos]
    return x[pos], np.stack(blocks)


def random_information(rng: np.random.Generator, n: int) -> np.ndarray:
    a = rng.normal(size=(n, 3, 3)) * [30.0, 80.0, 5.0]
    return a @ np.swapaxes(a, 1, 2) + 100 * np.eye(3)


@pytest.mark.parametrize("order", [2, 3])
def test_the_smoother_is_the_exact_posterior(order: int) -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.1, 30))
    mean = np.cumsum(rng.normal(0, 0.05, (30, 3)), axis=0)
    info = random_information(rng, 30)
    mean[[4, 5, 6, 20]] = np.nan
    # rays: no information along one direction
    for t in (9, 10, 25):
        d = rng.normal(size=3)
        d /= np.linalg.norm(d)
        info[t] = 2000 * (np.eye(3) - np.outer(d, d))
    expected = dense_posterior(times, mean, info, 0.7, 1.0, 2.0, order)
    out, cov = np.empty((30, 3)), np.empty((30, 3, 3))
    smoothing.smooth_joint(times, mean, info, np.ones(30), 0.7, 1.0, 2.0, order, out, cov)
    np.testing.assert_allclose(out, expected[0], atol=1e-8)
    np.testing.assert_allclose(cov, expected[1], atol=1e-8)


def simulate(rng: np.random.Generator, q: float, T: int = 400, sd: float = 0.02):
    dt = 1 / 30
    chol = np.linalg.cholesky(np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]) * q)
    state = np.zeros((T, 2, 3))
    for t in range(1, T):
        state[t] = [[1, dt], [0, 1]] @ state[t - 1] + chol @ rng.normal(size=(2, 3))
    return np.arange(T) * dt, state[:, 0], state[:, 0] + rng.normal(0, sd, (T, 3))


def test_errors_are_distributed_as_the_covariance_says() -> None:
    rng = np.random.default_rng(1)
    distances, raw = [], []
    for _ in range(20):
        times, truth, seen = simulate(rng, 2.0)
        seen[rng.random(len(seen)) < 0.2] = np.nan
        info = np.tile(np.eye(3) / 0.02**2, (len(seen), 1, 1))
        out, cov = np.empty_like(seen), np.empty((len(seen), 3, 3))
        smoothing.smooth_joint(times, seen, info, np.ones(len(seen)), 2.0, 1.0, 1.0, 2, out, cov)
        e = out - truth
        distances.append(np.einsum("ti,tij,tj->t", e, np.linalg.inv(cov), e))
        raw.append([np.sqrt((e**2).sum(-1)).mean(), np.sqrt(np.nansum((seen - truth) ** 2, -1)).mean()])
    inside = (np.concatenate(distances) < 2.366).mean()  # the median of chi-square with three degrees of freedom
    assert 0.47 < inside < 0.53
    assert np.mean(raw, axis=0)[0] < 0.75 * np.mean(raw, axis=0)[1]


def test_likelihood_peaks_at_the_true_agility() -> None:
    rng = np.random.default_rng(2)
    grid = 2.0 ** np.arange(-3, 6)
    total = np.zeros(len(grid))
    for _ in range(10):
        times, _, seen = simulate(rng, 2.0)
        info = np.tile(np.eye(3) / 0.02**2, (len(seen), 1, 1))
        out, cov = np.empty_like(seen), np.empty((len(seen), 3, 3))
        for i, q in enumerate(grid):
            total[i] += smoothing.smooth_joint(times, seen, info, np.ones(len(seen)), q, 1.0, 1.0, 2, out, cov)
    assert 1.0 <= grid[total.argmax()] <= 4.0


def test_held_out_is_the_density_of_each_measurement_given_the_others() -> None:
    rng = np.random.default_rng(4)
    times = np.cumsum(rng.uniform(0.02, 0.06, 12))
    mean, info = np.cumsum(rng.normal(0, 0.05, (12, 3)), axis=0), random_information(rng, 12)
    mean[5] = np.nan
    out, cov = np.empty((12, 3)), np.empty((12, 3, 3))
    expected = 0.0
    for t in np.flatnonzero(np.isfinite(mean[:, 0])):
        weight = np.ones(12)
        weight[t] = 0.0
        # a first measurement that is left out would move where the diffuse start lies
        if t == 0:
            continue
        smoothing.smooth_joint(times, mean, info, weight, 0.7, 1.0, 2.0, 2, out, cov)
        r, S = mean[t] - out[t], np.linalg.inv(info[t]) + cov[t]
        expected += -0.5 * r @ np.linalg.solve(S, r) - 0.5 * np.linalg.slogdet(S @ info[t])[1]
    weight = np.ones(12)
    smoothing.smooth_joint(times, mean, info, weight, 0.7, 1.0, 2.0, 2, out, cov)
    weight[0] = 0.0  # asks for the others only
    assert smoothing.held_out(mean, info, weight, out, cov) == pytest.approx(expected, rel=1e-7)


def test_outliers_are_resisted_and_gaps_widen_the_error() -> None:
    rng = np.random.default_rng(3)
    times, truth, seen = simulate(rng, 0.5)
    seen[100:140] = np.nan
    bad = rng.choice(np.r_[5:95, 150:390], 20, replace=False)
    seen[bad] += rng.normal(0, 0.6, (20, 3))
    info = np.tile(np.eye(3) / 0.02**2, (len(seen), 1, 1))
    out, cov = np.empty((1, len(seen), 3)), np.empty((1, len(seen), 3, 3))
    weight = np.empty((1, len(seen)))
    smoothing.smooth_joints(times, seen[None], info[None], np.array([0.5]), 4.0, 6, 1.0, 1.0, 2, out, cov, weight)
    error = np.linalg.norm(out[0] - truth, axis=-1)
    assert np.median(error[bad]) < 0.03
    assert weight[0, bad].max() < 0.3
    assert np.median(np.delete(weight[0], np.r_[bad, 100:140])) > 0.8
    sd = np.sqrt(np.trace(cov[0], axis1=1, axis2=2) / 3)
    assert sd[120] > 4 * sd[90]
    assert error[120] < 4 * np.sqrt(3) * sd[120]


def test_nothing_measured_gives_nan() -> None:
    out, cov = np.zeros((5, 3)), np.zeros((5, 3, 3))
    smoothing.smooth_joint(
        np.arange(5.0), np.full((5, 3), np.nan), np.zeros((5, 3, 3)), np.ones(5), 1.0, 1.0, 1.0, 2, out, cov
    )
    assert np.isnan(out).all()
    assert np.isnan(cov).all()


def chain(rng: np.random.Generator):
    """A tree of five joints with known lengths; parents are not in index order."""
    parent = np.array([2, 0, -1, 2, 3])
    order = np.array([2, 0, 3, 1, 4])
    length = np.array([0.4, 0.3, np.nan, 0.5, 0.25])
    x = np.zeros((5, 3))
    for j in order[1:]:
        d = rng.normal(size=3)
        x[j] = x[parent[j]] + length[j] * d / np.linalg.norm(d)
    return parent, order, length, x


def test_bone_lengths_are_the_exact_linear_posterior() -> None:
    rng = np.random.default_rng(4)
    parent, order, length, truth = chain(rng)
    mean = truth + rng.normal(0, 0.02, (5, 3))
    info = random_information(rng, 5)
    sd = np.full(5, 0.004)
    big = np.zeros((15, 15))
    rhs = np.zeros(15)
    for j in range(5):
        big[3 * j : 3 * j + 3, 3 * j : 3 * j + 3] = info[j]
        rhs[3 * j : 3 * j + 3] = info[j] @ mean[j]
    for j, p in enumerate(parent):
        if p >= 0:
            d = mean[j] - mean[p]
            d /= np.linalg.norm(d)
            h = np.zeros(15)
            h[3 * j : 3 * j + 3], h[3 * p : 3 * p + 3] = d, -d
            big += np.outer(h, h) / sd[j] ** 2
            rhs += h * length[j] / sd[j] ** 2
    expected = np.linalg.solve(big, rhs).reshape(5, 3)
    covariance = np.linalg.inv(big)
    m, i = mean[None].copy(), info[None].copy()
    bones.bones_in_frames(m, i, m, order, parent, length, sd, 0, 1)
    np.testing.assert_allclose(m[0], expected, atol=1e-9)
    for j in range(5):
        block = covariance[3 * j : 3 * j + 3, 3 * j : 3 * j + 3]
        np.testing.assert_allclose(np.linalg.inv(i[0, j]), block, atol=1e-10)


def test_absent_joints_and_unknown_lengths_take_no_part() -> None:
    rng = np.random.default_rng(5)
    parent, order, length, truth = chain(rng)
    mean = truth + rng.normal(0, 0.02, (5, 3))
    mean[0] = np.nan
    info = random_information(rng, 5)
    m, i = mean[None].copy(), info[None].copy()
    bones.bones_in_frames(m, i, m, order, parent, length, np.full(5, 0.004), 0, 1)
    assert np.isnan(m[0, 0]).all()
    np.testing.assert_allclose(m[0, 1], mean[1], atol=1e-12)
    assert abs(np.linalg.norm(m[0, 4] - m[0, 3]) - 0.25) < abs(np.linalg.norm(mean[4] - mean[3]) - 0.25)


@pytest.mark.parametrize("threads", [1, 2])
def test_results_do_not_depend_on_threads(threads: int) -> None:
    import numba

    rng = np.random.default_rng(6)
    T, J = 50, 7
    mean = np.cumsum(rng.normal(0, 0.05, (J, T, 3)), axis=1)
    info = np.stack([random_information(rng, T) for _ in range(J)])
    old = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        out, cov, w = np.empty((J, T, 3)), np.empty((J, T, 3, 3)), np.empty((J, T))
        smoothing.smooth_joints(np.arange(T) / 30, mean, info, np.ones(J), 4.0, 2, 1.0, 1.0, 2, out, cov, w)
    finally:
        numba.set_num_threads(old)
    alone, cov1, w1 = np.empty((T, 3)), np.empty((T, 3, 3)), np.empty(T)
    smoothing.smooth_joint_robust(np.arange(T) / 30, mean[3], info[3], 1.0, 4.0, 2, 1.0, 1.0, 2, alone, cov1, w1)
    np.testing.assert_array_equal(out[3], alone)
    np.testing.assert_array_equal(cov[3], cov1)
