"""Random cameras: pinhole 70 to 100 degrees, Kannala-Brandt around 150 to 190, Fisheye624 as wide as its model goes."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from egopose.camera import Camera

Kind = Literal["pinhole", "kannala_brandt", "fisheye624"]
KINDS: tuple[Kind, ...] = ("pinhole", "kannala_brandt", "fisheye624")

FISHEYE624_ANGLE = math.radians(80.0)
"""Largest angle from the axis that is drawn; the model itself ends at 90 degrees, where its triangles fray."""


def random_camera(rng: np.random.Generator, side: int, kind: Kind | None = None) -> Camera:
    """A square camera of a random kind, field of view and distortion.

    Args:
        rng: Random numbers.
        side: Width and height, pixels.
        kind: The model, or None for a random one.
    """
    kind = KINDS[int(rng.choice(len(KINDS), p=[0.3, 0.35, 0.35]))] if kind is None else kind
    middle = (side - 1) / 2 + 0.015 * side * rng.standard_normal(2)
    if kind == "pinhole":
        fov = math.radians(rng.uniform(70, 100))
        return Camera.pinhole(side / 2 / math.tan(fov / 2), middle.tolist(), (side, side), name="ego")
    if kind == "kannala_brandt":
        fov = math.radians(rng.uniform(140, 190))
        k = np.array([0.03, -0.01, 0.002, 0.0]) * rng.uniform(-1, 1, 4)
        half = fov / 2
        radius = half * (1 + k[0] * half**2 + k[1] * half**4 + k[2] * half**6)
        # the field of view lies between the sides and the corners of the image
        focal = side / 2 / radius * rng.uniform(1.0, 1.25)
        return Camera(
            "kannala_brandt", (side, side), np.array([focal, focal, *middle, *k]), name="ego", max_angle=half + 0.05
        )
    radial = np.array([0.02, -0.015, 0.004, 0.0, 0.0, 0.0]) * rng.uniform(-1, 1, 6)
    tangential = 3e-4 * rng.standard_normal(6)
    focal = side / 2 / FISHEYE624_ANGLE * rng.uniform(0.98, 1.3)
    params = np.array([focal, *middle, *radial, *tangential])
    return Camera.fisheye624(params, (side, side), name="ego", max_angle=FISHEYE624_ANGLE)
