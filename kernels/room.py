"""A room that is a box, seen along rays: tiled floor, striped walls, plain ceiling, a little grain everywhere."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

TILE_M, STRIPE_M, SKIRTING_M, CELLS_PER_M = 0.5, 0.35, 0.12, 23.0


@njit(cache=True, error_model="numpy")
def box_room(rays, T_world_camera, half_x, half_y, height, floor, walls, ceiling, grain, out):
    """Colours of a box |x| <= half_x, |y| <= half_y, 0 <= z <= height seen from inside.

    Args:
        rays: (H, W, 3) float64 in the camera frame; NaN where the lens shows nothing.
        T_world_camera: (4, 4) float64.
        half_x: Metres; half_y, height: the same.
        floor: (3,) colour, 0 to 255; ceiling: the same; walls: (4, 3) of -x, +x, -y, +y.
        grain: (G, G) float64 added to all channels.
        out: (H, W, 3) uint8, written; black where a ray is NaN.
    """
    T = T_world_camera
    n = grain.shape[0]
    px, py, pz = T[0, 3], T[1, 3], T[2, 3]
    for row in range(rays.shape[0]):
        for column in range(rays.shape[1]):
            a, b, c = rays[row, column, 0], rays[row, column, 1], rays[row, column, 2]
            if math.isnan(a) or math.isnan(b) or math.isnan(c):
                out[row, column, 0] = out[row, column, 1] = out[row, column, 2] = 0
                continue
            dx = T[0, 0] * a + T[0, 1] * b + T[0, 2] * c
            dy = T[1, 0] * a + T[1, 1] * b + T[1, 2] * c
            dz = T[2, 0] * a + T[2, 1] * b + T[2, 2] * c
            tx = ((half_x if dx > 0 else -half_x) - px) / dx if dx != 0.0 else np.inf
            ty = ((half_y if dy > 0 else -half_y) - py) / dy if dy != 0.0 else np.inf
            tz = ((height if dz > 0 else 0.0) - pz) / dz if dz != 0.0 else np.inf
            t = min(tx, ty, tz)
            x, y, z = px + t * dx, py + t * dy, pz + t * dz
            if t == tz:
                # rounding must not put the floor's grain below the floor
                z = height if dz > 0 else 0.0
            i, j, k = math.floor(CELLS_PER_M * x), math.floor(CELLS_PER_M * y), math.floor(CELLS_PER_M * z)
            noise = grain[int(i + 7 * k) % n, int(j + 3 * k) % n]
            tone, wall = 1.0, -1
            if t == tz:
                if dz < 0:
                    tone = 0.86 + 0.16 * ((math.floor(x / TILE_M) + math.floor(y / TILE_M)) % 2)
            else:
                wall = int(dx > 0) if t == tx else 2 + int(dy > 0)
                along = y if t == tx else x
                tone = 0.94 + 0.06 * (math.floor(along / STRIPE_M) % 2) - (0.25 if z < SKIRTING_M else 0.0)
            for channel in range(3):
                colour = walls[wall, channel] if wall >= 0 else (floor[channel] if dz < 0 else ceiling[channel])
                out[row, column, channel] = np.uint8(min(255.0, max(0.0, colour * tone + noise)))
