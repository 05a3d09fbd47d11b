"""Bones, feet and sigmas against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi, norm

from egopose.errors import EgoposeError
from egopose.metrics.calibration import coverage, sigma_calibration
from egopose.metrics.physical import (
    bone_length_error,
    bone_length_variation,
    bone_lengths,
    contact_agreement,
    contacts,
    foot_skate,
)


def test_bones() -> None:
    points = np.zeros((4, 3, 3))
    points[:, 1, 0] = [1.0, 2.0, 1.0, 2.0]
    points[:, 2, 1] = 3.0
    bones = [(0, 1), (0, 2)]
    np.testing.assert_allclose(bone_lengths(points, bones), [[1, 3], [2, 3], [1, 3], [2, 3]])
    np.testing.assert_allclose(bone_length_variation(points, bones), [0.5 / 1.5, 0.0])
    target = points.copy()
    target[:, 1, 0] = 1.0
    np.testing.assert_allclose(bone_length_error(points, target, bones), [0.5, 0.0])
    valid = np.ones((4, 3), dtype=bool)
    valid[[1, 3], 1] = False
    np.testing.assert_allclose(bone_length_error(points, target, bones, valid), [0.0, 0.0])
    np.testing.assert_allclose(bone_length_variation(points, bones, valid), [0.0, 0.0])
    points[0, 1] = np.nan
    assert np.isnan(bone_length_error(points, target, bones)[0])
    np.testing.assert_allclose(bone_length_variation(points, bones)[0], np.std([2, 1, 2]) / (5 / 3))
    assert np.isnan(bone_length_variation(points[:1], bones)).all()
    with pytest.raises(EgoposeError, match="there are 3 joints"):
        bone_lengths(points, [(0, 3)])
    with pytest.raises(EgoposeError, match="pairs"):
        bone_lengths(points, [0, 1])


def steps():
    """A foot that stands for 10 frames, moves 5 cm a frame for 5, and stands for 10."""
    x = np.r_[np.zeros(10), np.arange(1, 6) * 0.05, np.full(10, 0.25)]
    target = np.zeros((25, 2, 3))
    target[:, 1, 0] = x
    target[:, 0, 2] = 1.0
    return target


def test_feet() -> None:
    target = steps()
    standing = contacts(target, [1], fps=30)[:, 0]
    assert standing.tolist() == [True] * 9 + [False] * 5 + [True] * 11
    assert not contacts(target, [0], fps=30, height=0.1).any()
    assert contacts(target, [1], fps=30, height=0.1)[:, 0].tolist() == standing.tolist()
    pred = target + np.arange(25)[:, None, None] * [0.002, 0, 0]
    # 2 mm a frame at 30 frames per second
    assert foot_skate(pred, target, [1], fps=30) == pytest.approx(0.06)
    assert foot_skate(target, target, [1], fps=30) == pytest.approx(0.0)
    same = contact_agreement(target, target, [1], fps=30)
    assert same == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "accuracy": 1.0}
    shifted = target.copy()
    shifted[:, 1, 0] += np.arange(25) * 0.02
    none = contact_agreement(shifted, target, [1], fps=30)
    assert none["recall"] == 0
    assert np.isnan(none["precision"])
    hidden = np.ones((25, 2), dtype=bool)
    hidden[:, 1] = False
    assert np.isnan(foot_skate(pred, target, [1], hidden, fps=30))
    with pytest.raises(EgoposeError, match="feet"):
        contacts(target, [2], fps=30)


def test_honest_sigmas_are_found_honest() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(4000, 5, 3))
    sigma = rng.uniform(0.01, 0.1, (4000, 5))
    pred = target + rng.normal(size=target.shape) * sigma[:, :, None]
    found = sigma_calibration(pred, target, sigma)
    assert found["coverage_50"] == pytest.approx(0.5, abs=0.01)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.01)
    assert found["ball_50"] == pytest.approx(0.5, abs=0.015)
    assert found["ball_90"] == pytest.approx(0.9, abs=0.01)
    assert found["ratio"] == pytest.approx(1.0, abs=0.01)
    assert found["nll"] == pytest.approx(-norm.logpdf(pred, target, sigma[:, :, None]).mean(), abs=1e-12)
    z = np.abs(pred - target) / sigma[:, :, None]
    assert found["coverage_90"] == pytest.approx((z <= norm.ppf(0.95)).mean(), abs=1e-12)
    assert found["ball_50"] == pytest.approx((np.linalg.norm(z, axis=-1) <= chi(3).ppf(0.5)).mean(), abs=1e-12)
    worse = sigma_calibration(pred, target, sigma / 3)
    assert worse["coverage_90"] < 0.5
    assert worse["nll"] > found["nll"]
    axes = sigma_calibration(pred, target, np.repeat(sigma[:, :, None], 3, axis=2))
    assert axes == found


def test_unknown_sigmas_and_hidden_joints() -> None:
    target = np.zeros((2, 2, 3))
    pred, sigma = target.copy(), np.ones((2, 2))
    pred[0, 0] = np.nan
    sigma[1, 1] = np.nan
    found = sigma_calibration(pred, target, sigma)
    assert found["not_finite"] == 2
    assert found["coverage_50"] == 0.5
    assert coverage(pred, target) == 0.75
    valid = np.zeros((2, 2), dtype=bool)
    assert sigma_calibration(pred, target, sigma, valid)["count"] == 0
    assert np.isnan(coverage(pred, target, valid))
    sigma[0, 1] = 0
    with pytest.raises(EgoposeError, match="sigma of zero"):
        sigma_calibration(pred, target, sigma)
    with pytest.raises(EgoposeError, match="sigma has shape"):
        sigma_calibration(pred, target, np.ones(3))
