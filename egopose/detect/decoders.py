"""From network outputs to joints: SimCC and heatmap decoding, in crop pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def decode_simcc(x: NDArray[np.floating], y: NDArray[np.floating], split: float = 2.0) -> tuple[Array, Array]:
    """Joints from 1D classification per axis (SimCC: Li et al., ECCV 2022).

    Args:
        x: (..., J, Wx) logits or probabilities over horizontal bins.
        y: (..., J, Wy) over vertical bins.
        split: Bins per pixel.

    Returns:
        Positions (..., J, 2) in crop pixels, and scores (..., J): the smaller of the two maxima, zero or less means not
        found and gives NaN.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    uv = np.stack([x.argmax(-1), y.argmax(-1)], -1) / split
    score = np.minimum(x.max(-1), y.max(-1))
    return np.where((score > 0)[..., None], uv, np.nan), score


def decode_heatmaps(heatmaps: NDArray[np.floating], *, stride: float = 4.0, dark: bool = True) -> tuple[Array, Array]:
    """Joints from heatmaps: the peak, refined to sub-pixel.

    With ``dark`` by one Newton step on the logarithm of the smoothed map (DARK: Zhang et al., CVPR 2020, equation 9),
    else by a quarter pixel towards the higher neighbour.

    Args:
        heatmaps: (J, H, W).
        stride: Crop pixels per heatmap pixel.
        dark: Which refinement.

    Returns:
        Positions (J, 2) in crop pixels and scores (J,): the peak values.
    """
    maps = np.asarray(heatmaps, dtype=np.float64)
    J, H, W = maps.shape
    flat = maps.reshape(J, -1)
    best = flat.argmax(-1)
    score = flat[np.arange(J), best]
    v, u = np.divmod(best, W)
    uv = np.stack([u, v], -1).astype(np.float64)
    inside = (u > 0) & (u < W - 1) & (v > 0) & (v < H - 1)
    j = np.arange(J)
    uc, vc = np.clip(u, 1, W - 2), np.clip(v, 1, H - 2)
    if dark:
        log = np.log(np.maximum(_smooth(maps), 1e-10))
    else:
        log = maps

    def at(du: int, dv: int) -> Array:
        return log[j, vc + dv, uc + du]

    gradient = np.stack([(at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2], -1)
    if dark:
        xx = at(1, 0) - 2 * at(0, 0) + at(-1, 0)
        yy = at(0, 1) - 2 * at(0, 0) + at(0, -1)
        xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
        determinant = xx * yy - xy * xy
        safe = inside & (determinant > 1e-12)
        d = np.where(safe, determinant, 1.0)
        step = -np.stack(
            [(yy * gradient[:, 0] - xy * gradient[:, 1]) / d, (xx * gradient[:, 1] - xy * gradient[:, 0]) / d], -1
        )
        # a step beyond the pixel means the map is not peaked there
        safe &= np.abs(step).max(-1) <= 1
        uv[safe] += step[safe]
    else:
        uv[inside] += 0.25 * np.sign(gradient[inside])
    return np.where((score > 0)[:, None], (uv + 0.5) * stride - 0.5, np.nan), score


def _smooth(maps: Array) -> Array:
    """A small Gaussian (sigma 1) over the last two axes that keeps each map's maximum."""
    kernel = np.exp(-0.5 * np.arange(-2, 3) ** 2.0)
    kernel /= kernel.sum()
    smoothed = maps
    for axis in (-2, -1):
        width = [(0, 0)] * maps.ndim
        width[axis] = (2, 2)
        padded = np.pad(smoothed, width, mode="edge")
        n = maps.shape[axis]
        smoothed = sum(w * np.take(padded, np.arange(k, k + n), axis=axis) for k, w in enumerate(kernel))
    peak = smoothed.max(axis=(-2, -1), keepdims=True)
    return smoothed * (maps.max(axis=(-2, -1), keepdims=True) / np.where(peak > 0, peak, 1))
