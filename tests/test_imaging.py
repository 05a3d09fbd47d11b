"""Developing an image against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from egopose.kernels.imaging import WHITE, develop


def run(light, *, gain=(1.0, 1.0, 1.0), falloff=None, tap=0.0, exponent=0.45, noise=None, strength=0.0, mask=None):
    height, width = light.shape[:2]
    falloff = np.ones((height, width)) if falloff is None else falloff
    mask = np.ones((height, width), bool) if mask is None else mask
    noise = np.zeros(0, np.float32) if noise is None else noise
    curve = np.clip(WHITE * np.linspace(0, 1, 2048) ** 2, 0, WHITE) ** exponent
    out = np.zeros(light.shape, np.uint8)
    develop(
        light.astype(np.float32), np.array(gain), falloff, tap, curve, noise, 5, strength, mask,
        np.zeros(light.shape, np.float32), out,
    )  # fmt: skip
    return out


def blurred(image, tap):
    for axis in (0, 1):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide, n = np.pad(image, pad, mode="edge"), image.shape[axis]
        image = sum(w * np.take(wide, range(k, k + n), axis=axis) for k, w in enumerate((tap, 1 - 2 * tap, tap)))
    return image


@pytest.mark.parametrize("tap", [0.0, 0.2])
@pytest.mark.parametrize("exponent", [0.38, 0.55])
def test_equals_numpy(tap, exponent):
    rng = np.random.default_rng(0)
    light = rng.uniform(0, 1.2, (31, 40, 3)) ** 2
    falloff = rng.uniform(0.5, 1.0, (31, 40))
    mask = rng.random((31, 40)) < 0.9
    gain = np.array([1.1, 0.9, 1.4])
    found = run(light, gain=gain, falloff=falloff, tap=tap, exponent=exponent, mask=mask)
    exact = 255 * np.clip(blurred(light * gain * falloff[..., None], tap), 0, WHITE) ** exponent
    exact = np.where(mask[..., None], np.clip(exact, 0, 255), 0)
    assert np.abs(found - exact).max() <= 0.6
    assert (found[~mask] == 0).all()


def test_noise_has_the_strength_asked_for_and_black_stays_black():
    noise = np.random.default_rng(1).standard_normal(9999, dtype=np.float32)
    light = np.full((60, 60, 3), 0.2)
    mask = np.ones((60, 60), bool)
    mask[:10] = False
    clean, grainy = run(light, mask=mask), run(light, noise=noise, strength=0.02, mask=mask)
    assert (clean[10:] == round(255 * 0.2**0.45)).all()
    error = grainy[10:].astype(float) - 255 * 0.2**0.45
    assert error.std() == pytest.approx(255 * 0.02, rel=0.05)
    assert abs(error.mean()) < 0.3
    assert not grainy[:10].any()
