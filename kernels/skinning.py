"""Linear blend skinning: joints from bone rotations, vertices from joints, and vertex normals.

A rig in its rest pose has identity bone rotations, so ``R[j]`` turns bone ``j`` from rest to its posed direction in
world axes, and the bone moves a rest point x to ``R[j] (x - rest[j]) + posed[j]`` (Magnenat-Thalmann et al. 1988;
Lewis, Cordner, Fong 2000).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, error_model="numpy")
def chain_joints(parents, rest, R, root, posed):
    """Joint places from bone rotations.

    Args:
        parents: (J,) int64, parents before children, -1 for the root.
        rest: (J, 3) float64 rest places.
        R: (J, 3, 3) float64 rotations of the bones, rest to world.
        root: (3,) float64 place of the root.
        posed: (J, 3) float64, written.
    """
    for j in range(parents.shape[0]):
        p = parents[j]
        if p < 0:
            for k in range(3):
                posed[j, k] = root[k]
            continue
        x, y, z = rest[j, 0] - rest[p, 0], rest[j, 1] - rest[p, 1], rest[j, 2] - rest[p, 2]
        for k in range(3):
            posed[j, k] = posed[p, k] + R[p, k, 0] * x + R[p, k, 1] * y + R[p, k, 2] * z


@njit(cache=True, error_model="numpy")
def skin(vertices, bones, weights, rest, R, posed, out):
    """Blend the bones' motions at each vertex.

    Args:
        vertices: (V, 3) float64 rest vertices.
        bones: (V, K) int64 bones of each vertex; weights: (V, K) float64, rows sum to one, zero pads.
        rest: (J, 3); R: (J, 3, 3); posed: (J, 3), all float64.
        out: (V, 3) float64, written.
    """
    moves = np.empty((rest.shape[0], 3))
    for j in range(rest.shape[0]):
        for k in range(3):
            moves[j, k] = posed[j, k] - (R[j, k, 0] * rest[j, 0] + R[j, k, 1] * rest[j, 1] + R[j, k, 2] * rest[j, 2])
    for v in range(vertices.shape[0]):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        a = b = c = 0.0
        for i in range(bones.shape[1]):
            w = weights[v, i]
            if w == 0.0:
                continue
            j = bones[v, i]
            a += w * (R[j, 0, 0] * x + R[j, 0, 1] * y + R[j, 0, 2] * z + moves[j, 0])
            b += w * (R[j, 1, 0] * x + R[j, 1, 1] * y + R[j, 1, 2] * z + moves[j, 1])
            c += w * (R[j, 2, 0] * x + R[j, 2, 1] * y + R[j, 2, 2] * z + moves[j, 2])
        out[v, 0], out[v, 1], out[v, 2] = a, b, c


@njit(cache=True, error_model="numpy")
def vertex_normals(vertices, triangles, out):
    """Unit normals (V, 3), area-weighted means over the triangles (F, 3) of each vertex; zero where there are none."""
    out[:] = 0.0
    for f in range(triangles.shape[0]):
        i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ax, ay, az = (vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2])
        bx, by, bz = (vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2])
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            out[v, 0] += nx
            out[v, 1] += ny
            out[v, 2] += nz
    for v in range(vertices.shape[0]):
        n = math.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2)
        if n > 0.0:
            out[v, 0] /= n
            out[v, 1] /= n
            out[v, 2] /= n
