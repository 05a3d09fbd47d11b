"""From linear light to the bytes that a camera stores: gain, a little optical blur, tone curve, noise."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

#: Light at which the tone curve ends; brighter is clipped.
WHITE = 1.5


@njit(cache=True, error_model="numpy")
def develop(light, gain, falloff, side_tap, curve, noise, start, strength, mask, work, out):
    """Develop one image.

    Args:
        light: (H, W, 3) float32 linear light.
        gain: (3,) factors of the colours; falloff: (H, W) factor of each pixel.
        side_tap: Weight of each neighbour in a separable blur of three taps, the middle has the rest; 0 = sharp.
        curve: (N,) output in [0, 1] for light WHITE * (i / (N - 1))^2, read with linear interpolation.
        noise: (M,) float32 standard normal numbers, read in a circle from ``start``; empty = none.
        strength: Standard deviation of the noise, of full scale 1.
        mask: (H, W) bool; outside it the image is black.
        work: (H, W, 3) float32 to write in.
        out: (H, W, 3) uint8, written.
    """
    height, width = mask.shape
    middle = 1.0 - 2.0 * side_tap
    last = curve.shape[0] - 1
    scale = last / math.sqrt(WHITE)
    for row in range(height):
        for column in range(width):
            near = falloff[row, column]
            for q in range(3):
                light[row, column, q] = max(0.0, light[row, column, q] * gain[q] * near)
    if side_tap > 0.0:
        for row in range(height):
            for column in range(width):
                a, b = max(0, column - 1), min(width - 1, column + 1)
                for q in range(3):
                    work[row, column, q] = middle * light[row, column, q] + side_tap * (
                        light[row, a, q] + light[row, b, q]
                    )
    at = start
    for row in range(height):
        a, b = max(0, row - 1), min(height - 1, row + 1)
        for column in range(width):
            for q in range(3):
                if side_tap > 0.0:
                    x = middle * work[row, column, q] + side_tap * (work[a, column, q] + work[b, column, q])
                else:
                    x = light[row, column, q]
                i = math.sqrt(min(max(x, 0.0), WHITE)) * scale
                k = min(int(i), last - 1)
                y = curve[k] + (i - k) * (curve[k + 1] - curve[k])
                if noise.shape[0] > 0:
                    if at >= noise.shape[0]:
                        at = 0
                    y += strength * noise[at]
                    at += 1
                if not mask[row, column]:
                    y = 0.0
                out[row, column, q] = np.uint8(min(255.0, max(0.0, math.floor(255.0 * y + 0.5))))
