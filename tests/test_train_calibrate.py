"""Factors of error bars against errors whose law is known."""

from __future__ import annotations

import numpy as np
import pytest

from egopose.train.calibrate import common_scales, coverage, sigma_factors

N, J = 16000, 3


def drawn(spread: float, *, tails: bool = False, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    unit = rng.standard_t(4, (N, J, 3)) if tails else rng.standard_normal((N, J, 3))
    return spread * unit


def test_normal_errors_give_their_spread_back() -> None:
    sigma = np.broadcast_to([0.01, 0.02, 0.05], (N, J)).copy()
    seen = np.arange(N)[:, None] % 2 == np.zeros(J)[None]
    error = drawn(0.02) * np.where(seen, 1.0, 3.0)[..., None]
    factors = sigma_factors(error, sigma, seen)
    expected = np.array([[6, 3, 1.2], [2, 1, 0.4]])[..., None] * np.ones(3)
    np.testing.assert_allclose(factors, expected, rtol=0.05)
    scaled = sigma[..., None] * np.where(seen[..., None], factors[1], factors[0])
    assert coverage(error, scaled, 0.5) == pytest.approx(0.5, abs=0.01)
    assert coverage(error, scaled, 0.9) == pytest.approx(0.9, abs=0.01)
    # too few labels say nothing
    assert (sigma_factors(error[:50], sigma[:50], seen[:50]) == 1).all()


def test_each_axis_has_its_own_factor() -> None:
    sigma, seen = np.full((N, J), 0.02), np.zeros((N, J), bool)
    factors = sigma_factors(drawn(0.02) * [0.5, 1.0, 4.0], sigma, seen)
    np.testing.assert_allclose(factors[0], np.tile([0.5, 1.0, 4.0], (J, 1)), rtol=0.05)
    np.testing.assert_array_equal(factors[1], 1)


def test_common_scales_leave_honest_bars_alone_and_mend_the_others() -> None:
    said = np.arange(N)[:, None] % 2 == np.zeros(J)[None]
    sigma = np.full((N, J, 3), 0.02)
    out, within = common_scales(drawn(0.02), sigma, said, said)
    assert out == pytest.approx(1, abs=0.03)
    assert within == pytest.approx(1, abs=0.03)
    # where there is no label, or nobody is said to be in view, there is nothing to mend
    assert common_scales(np.full((N, J, 3), np.nan), sigma, said, said) == (1, 1)
    assert common_scales(drawn(0.02), sigma, np.zeros((N, J), bool), said)[1] == 1
    # in view 1.3 times as large as said, out of view 0.8 times
    error = drawn(0.02) * np.where(said, 1.3, 0.8)[..., None]
    out, within = common_scales(error, sigma, said, said)
    assert out == pytest.approx(0.8, rel=0.04)
    assert within == pytest.approx(1.3, rel=0.04)


def test_long_tails_and_wrong_statements_end_inside_the_margins() -> None:
    rng = np.random.default_rng(1)
    seen = rng.random((N, J)) < 0.4
    # one in twenty is said to be in view and is not, with errors four times as large
    said = seen | (rng.random((N, J)) < 0.05)
    error = drawn(0.02, tails=True) * np.where(seen, 1.0, 4.0)[..., None]
    sigma = np.where(said, 0.02, 0.08)[..., None] * np.ones(3)
    scales = common_scales(error, sigma, said, seen)
    scaled = sigma * np.where(said, scales[1], scales[0])[..., None]
    for truly in (seen, ~seen):
        some = np.where(truly[..., None], error, np.nan)
        before = abs(coverage(some, sigma, 0.5) - 0.5) + abs(coverage(some, sigma, 0.9) - 0.9)
        after = abs(coverage(some, scaled, 0.5) - 0.5) + abs(coverage(some, scaled, 0.9) - 0.9)
        assert after < before
        assert coverage(some, scaled, 0.5) == pytest.approx(0.5, abs=0.05)
        assert coverage(some, scaled, 0.9) == pytest.approx(0.9, abs=0.05)
