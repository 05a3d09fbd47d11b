"""A z-buffer rasteriser for any lens: vertices go through the camera model, triangles are filled in the image.

Straight edges of a triangle are curves in a fisheye image; triangles must therefore be small (a body's are; rooms
are cut up beforehand). A triangle with a vertex outside the lens's valid range or nearer than ``near`` is left out.
Depth is the distance from the camera's centre along the ray, which is defined beyond 90 degrees too. Front faces are
counter-clockwise seen from outside; back faces are not drawn.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from .projection import project_one, unproject_one


@njit(cache=True, error_model="numpy")
def project_vertices(model, params, T_camera_world, vertices, near, uvw):
    """Vertices (V, 3) of the world to ``uvw`` (V, 3): pixels and 1 / distance, which is zero where not seen."""
    T = T_camera_world
    for i in range(vertices.shape[0]):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        a = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]
        b = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]
        c = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
        r = math.sqrt(a * a + b * b + c * c)
        uvw[i, 2] = 0.0
        if r < near:
            continue
        u, v, ok = project_one(model, params, a, b, c)
        if ok:
            uvw[i, 0], uvw[i, 1], uvw[i, 2] = u, v, 1.0 / r


@njit(cache=True, error_model="numpy")
def fill(uvw, triangles, nearness, index, inside):
    """Draw triangles into the buffers; call again to add more of the same scene.

    Args:
        uvw: (V, 3) from :func:`project_vertices`.
        triangles: (F, 3) int64.
        nearness: (H, W) float64, 1 / distance, zero where empty; updated.
        index: (H, W) int32 triangle seen; updated.
        inside: (H, W, 2) float64 weights of the triangle's second and third vertex; updated.
    """
    height, width = nearness.shape
    for f in range(triangles.shape[0]):
        i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        wi, wj, wk = uvw[i, 2], uvw[j, 2], uvw[k, 2]
        if wi == 0.0 or wj == 0.0 or wk == 0.0:
            continue
        x0, y0 = uvw[i, 0], uvw[i, 1]
        x1, y1 = uvw[j, 0] - x0, uvw[j, 1] - y0
        x2, y2 = uvw[k, 0] - x0, uvw[k, 1] - y0
        area = x1 * y2 - x2 * y1
        # image y points down, so a front face turns the other way round
        if not (area < 0.0):
            continue
        left = max(0, math.ceil(x0 + min(0.0, x1, x2)))
        right = min(width - 1, math.floor(x0 + max(0.0, x1, x2)))
        top = max(0, math.ceil(y0 + min(0.0, y1, y2)))
        bottom = min(height - 1, math.floor(y0 + max(0.0, y1, y2)))
        inverse = 1.0 / area
        for row in range(top, bottom + 1):
            dy = row - y0
            for column in range(left, right + 1):
                dx = column - x0
                s = (dx * y2 - x2 * dy) * inverse
                t = (x1 * dy - dx * y1) * inverse
                if s < 0.0 or t < 0.0 or s + t > 1.0:
                    continue
                w = (1.0 - s - t) * wi + s * wj + t * wk
                if w > nearness[row, column]:
                    nearness[row, column] = w
                    index[row, column] = f
                    # weights in space, not in the image
                    inside[row, column, 0] = s * wj / w
                    inside[row, column, 1] = t * wk / w


@njit(cache=True, error_model="numpy")
def _hash(a, b, c, seed):
    h = np.uint32(a * 73856093) ^ np.uint32(b * 19349663) ^ np.uint32(c * 83492791) ^ np.uint32(seed * 2654435761)
    h = np.uint32(h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    h = np.uint32(h ^ (h >> np.uint32(16)))
    return (h & np.uint32(65535)) * (1.0 / 65535.0)


@njit(cache=True, error_model="numpy")
def value_noise(x, y, z, seed):
    """Smooth noise in [0, 1]: random values on the integer lattice, blended with a cubic."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    a, b, c = x - i, y - j, z - k
    i, j, k = int(i), int(j), int(k)
    a, b, c = a * a * (3 - 2 * a), b * b * (3 - 2 * b), c * c * (3 - 2 * c)
    total = 0.0
    for p in range(2):
        for q in range(2):
            for r in range(2):
                weight = (a if p else 1 - a) * (b if q else 1 - b) * (c if r else 1 - c)
                total += weight * _hash(i + p, j + q, k + r, seed)
    return total


@njit(cache=True, error_model="numpy")
def pattern(kind, x, y, z, seed):
    """A texture in [0, 1] at a point: 0 plain, 1 noise, 2 stripes, 3 checks, 4 planks or bricks, 5 fine grain."""
    if kind == 1:
        return 0.65 * value_noise(x, y, z, seed) + 0.35 * value_noise(2.7 * x, 2.7 * y, 2.7 * z, seed + 1)
    if kind == 2:
        bend = 0.6 * value_noise(0.3 * x, 0.3 * y, 0.3 * z, seed)
        return 1.0 if math.floor(x + y * 0.37 + z + bend) % 2 == 0 else 0.0
    if kind == 3:
        return 1.0 if (math.floor(x) + math.floor(y) + math.floor(z)) % 2 == 0 else 0.0
    if kind == 4:
        row = math.floor(y + z)
        along = x + 0.5 * row
        joint = min(along - math.floor(along), (y + z) - row)
        shade = 0.4 + 0.6 * _hash(math.floor(along), int(row), 0, seed)
        return 0.0 if joint < 0.06 else shade * (0.7 + 0.3 * value_noise(6 * x, 20 * (y + z), 0.0, seed))
    if kind == 5:
        return value_noise(5 * x, 5 * y, 5 * z, seed)
    return 0.5


@njit(cache=True, error_model="numpy")
def shade(index, inside, triangles, normals, texture, material, tones, kinds, scales, seeds, lamp, sky, place, out):
    """Colours of a filled image, linear light.

    Args:
        index: (H, W) int32; inside: (H, W, 2), from :func:`fill`.
        triangles: (F, 3); normals: (V, 3) unit, world; texture: (V, 3) texture coordinates, metres.
        material: (F,) int64 material of each triangle.
        tones: (M, 2, 3) the two colours of each material; kinds, seeds: (M,) int64; scales: (M,) per metre.
        lamp: (7,) direction to the light (3), colour (3), share of light that wraps round; sky: (2, 3) light from
            above and below.
        place: (4,) camera's centre (3) and the strength of light that falls along the view.
        out: (H, W, 3) float32, written; pixels without triangle stay.
    """
    height, width = index.shape
    last = -1
    flat = False
    # neighbours mostly show the same triangle: what belongs to it is read once, and a flat one is lit once
    i = j = k = m = 0
    facing = up = direct = front = red = green = blue = 0.0
    for row in range(height):
        for column in range(width):
            f = index[row, column]
            if f < 0:
                continue
            b, c = inside[row, column, 0], inside[row, column, 1]
            a = 1.0 - b - c
            fresh = f != last
            if fresh:
                last = f
                i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
                m = material[f]
                flat = (
                    normals[i, 0] == normals[j, 0] == normals[k, 0]
                    and normals[i, 1] == normals[j, 1] == normals[k, 1]
                    and normals[i, 2] == normals[j, 2] == normals[k, 2]
                )
            if fresh or not flat:
                nx = a * normals[i, 0] + b * normals[j, 0] + c * normals[k, 0]
                ny = a * normals[i, 1] + b * normals[j, 1] + c * normals[k, 1]
                nz = a * normals[i, 2] + b * normals[j, 2] + c * normals[k, 2]
                length = math.sqrt(nx * nx + ny * ny + nz * nz)
                if length > 0.0:
                    length = 1.0 / length
                nx, ny, nz = nx * length, ny * length, nz * length
                facing = nx * lamp[0] + ny * lamp[1] + nz * lamp[2]
                direct = max(0.0, (facing + lamp[6]) / (1.0 + lamp[6]))
                up = 0.5 + 0.5 * nz
                front = place[3] * (0.6 + 0.4 * abs(facing))
                red = sky[1, 0] + (sky[0, 0] - sky[1, 0]) * up + lamp[3] * direct + front
                green = sky[1, 1] + (sky[0, 1] - sky[1, 1]) * up + lamp[4] * direct + front
                blue = sky[1, 2] + (sky[0, 2] - sky[1, 2]) * up + lamp[5] * direct + front
            tone = 0.5
            if kinds[m] != 0:
                scale = scales[m]
                tone = pattern(
                    kinds[m],
                    scale * (a * texture[i, 0] + b * texture[j, 0] + c * texture[k, 0]),
                    scale * (a * texture[i, 1] + b * texture[j, 1] + c * texture[k, 1]),
                    scale * (a * texture[i, 2] + b * texture[j, 2] + c * texture[k, 2]),
                    seeds[m],
                )
            out[row, column, 0] = red * (tones[m, 0, 0] + (tones[m, 1, 0] - tones[m, 0, 0]) * tone)
            out[row, column, 1] = green * (tones[m, 0, 1] + (tones[m, 1, 1] - tones[m, 0, 1]) * tone)
            out[row, column, 2] = blue * (tones[m, 0, 2] + (tones[m, 1, 2] - tones[m, 0, 2]) * tone)


@njit(cache=True, error_model="numpy")
def angle_mask(model, params, height, width, largest, out):
    """``out`` (H, W) bool: pixels whose ray is within ``largest`` radians of the axis."""
    bound = math.cos(largest)
    for row in range(height):
        for column in range(width):
            _, _, z, ok = unproject_one(model, params, float(column), float(row))
            out[row, column] = ok and z >= bound


@njit(cache=True, error_model="numpy")
def seen(uvw, nearness, slack, out):
    """Which projected points (N, 3) lie in the image and not deeper than ``slack`` (N,) metres behind the surface."""
    height, width = nearness.shape
    for i in range(uvw.shape[0]):
        out[i] = False
        if not (uvw[i, 2] > 0.0):
            continue
        column, row = math.floor(uvw[i, 0] + 0.5), math.floor(uvw[i, 1] + 0.5)
        if 0 <= column < width and 0 <= row < height:
            w = nearness[row, column]
            out[i] = w == 0.0 or 1.0 / uvw[i, 2] <= 1.0 / w + slack[i]
