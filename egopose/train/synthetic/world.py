"""Rooms to stand in: floor, walls, ceiling, furniture and things on it, with light, clothes and skin.

All surfaces are cut into small triangles, because a fisheye bends long edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROOM_CELL_M, OBJECT_CELL_M = 0.22, 0.12
CLEARANCE_M = 0.35
"""Furniture keeps this far from where the person goes."""

# reflectance of skin from light to dark, linear light
_SKIN = np.array([[0.62, 0.40, 0.31], [0.53, 0.32, 0.22], [0.41, 0.23, 0.14], [0.26, 0.13, 0.075], [0.12, 0.06, 0.04]])

PLAIN, NOISE, STRIPES, CHECKS, PLANKS, GRAIN = range(6)


@dataclass(frozen=True)
class Mesh:
    """Triangles with what the rasteriser needs of them.

    Attributes:
        vertices: (V, 3) world metres.
        triangles: (F, 3) int64, counter-clockwise seen from outside.
        normals: (V, 3) unit.
        texture: (V, 3) coordinates of the pattern, metres.
        material: (F,) int64.
    """

    vertices: Array
    triangles: NDArray[np.int64]
    normals: Array
    texture: Array
    material: NDArray[np.int64]


@dataclass(frozen=True)
class Materials:
    """Colours (M, 2, 3) in linear light, pattern kinds (M,), patterns per metre (M,), seeds (M,)."""

    tones: Array
    kinds: NDArray[np.int64]
    scales: Array
    seeds: NDArray[np.int64]

    @classmethod
    def stack(cls, rows: Sequence[tuple[Array, Array, int, float, int]]) -> Materials:
        """From rows of (first colour, second colour, kind, scale, seed)."""
        tones = np.array([[row[0], row[1]] for row in rows], dtype=np.float64)
        return cls(
            tones,
            np.array([row[2] for row in rows], dtype=np.int64),
            np.array([row[3] for row in rows], dtype=np.float64),
            np.array([row[4] for row in rows], dtype=np.int64),
        )


@dataclass(frozen=True)
class Light:
    """Lamp (7,) and sky (2, 3) as the kernel ``shade`` takes them, and the share of light along the view."""

    lamp: Array
    sky: Array
    along_view: float


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts)]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.texture for mesh in meshes]),
        np.concatenate([mesh.material for mesh in meshes]),
    )


def sheet(corner: Array, a: Array, b: Array, material: int, cell: float) -> Mesh:
    """A parallelogram from a corner and two sides; it faces along a x b."""
    corner, a, b = (np.asarray(v, dtype=np.float64) for v in (corner, a, b))
    n, m = (max(1, int(np.ceil(np.linalg.norm(v) / cell))) for v in (a, b))
    s, t = np.meshgrid(np.linspace(0, 1, n + 1), np.linspace(0, 1, m + 1), indexing="ij")
    vertices = corner + s[..., None] * a + t[..., None] * b
    at = np.arange((n + 1) * (m + 1)).reshape(n + 1, m + 1)
    p, q, r, o = at[:-1, :-1].ravel(), at[1:, :-1].ravel(), at[1:, 1:].ravel(), at[:-1, 1:].ravel()
    triangles = np.concatenate([np.stack([p, q, r], -1), np.stack([p, r, o], -1)]).astype(np.int64)
    normal = np.cross(a, b)
    normals = np.tile(normal / np.linalg.norm(normal), (vertices.size // 3, 1))
    # along the sides, so that bricks and planks run with the wall
    texture = np.stack([s * np.linalg.norm(a), t * np.linalg.norm(b), np.zeros_like(s)], axis=-1).reshape(-1, 3)
    return Mesh(vertices.reshape(-1, 3), triangles, normals, texture, np.full(len(triangles), material))


def box(low: Array, high: Array, yaw: float, material: int, cell: float = OBJECT_CELL_M, inward: bool = False) -> Mesh:
    """A box from its lowest to its highest corner, turned about its middle; ``inward`` faces make a room."""
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    sides = np.diag(high - low)
    faces = []
    for i in range(3):
        a, b = sides[(i + 1) % 3], sides[(i + 2) % 3]
        for corner, flip in ((low, True), (low + sides[i], False)):
            first, second = (b, a) if flip != inward else (a, b)
            faces.append(sheet(corner, first, second, material, cell))
    mesh = join(faces)
    middle = np.array([*(low + high)[:2] / 2, 0.0])
    c, s = np.cos(yaw), np.sin(yaw)
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    return Mesh(
        (mesh.vertices - middle) @ R.T + middle, mesh.triangles, mesh.normals @ R.T, mesh.texture, mesh.material
    )


def round_body(profile: Array, place: Array, material: int, around: int = 20) -> Mesh:
    """A body of revolution about the vertical: profile rows (radius, height) from bottom to top."""
    profile = np.asarray(profile, dtype=np.float64)
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
    r, z = profile[:, 0], profile[:, 1]
    vertices = np.stack([r[:, None] * np.cos(angle), r[:, None] * np.sin(angle), np.repeat(z[:, None], around, 1)], -1)
    slope = np.gradient(profile, axis=0)
    slope /= np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
    normals = np.stack(
        [slope[:, 1:] * np.cos(angle), slope[:, 1:] * np.sin(angle), np.repeat(-slope[:, :1], around, 1)], -1
    )
    at = np.arange(len(profile) * around).reshape(len(profile), around)
    p, q = at[:-1].ravel(), np.roll(at[:-1], -1, axis=1).ravel()
    o, t = at[1:].ravel(), np.roll(at[1:], -1, axis=1).ravel()
    triangles = np.concatenate([np.stack([p, q, t], -1), np.stack([p, t, o], -1)]).astype(np.int64)
    flat = vertices.reshape(-1, 3)
    return Mesh(flat + place, triangles, normals.reshape(-1, 3), flat, np.full(len(triangles), material))


def ball(place: Array, radius: float, material: int) -> Mesh:
    """A sphere."""
    theta = np.linspace(-np.pi / 2, np.pi / 2, 13)
    return round_body(np.stack([radius * np.cos(theta), radius * np.sin(theta)], -1), place, material)


def cylinder(place: Array, radius: float, height: float, material: int) -> Mesh:
    """A closed upright cylinder that stands at a place."""
    z = np.concatenate([[0, 0], np.linspace(0, height, max(2, int(height / 0.1) + 1)), [height, height]])
    r = np.full(z.size, radius)
    r[[0, -1]] = 0.0
    return round_body(np.stack([r, z], -1), place, material)


def held_thing(rng: np.random.Generator, palm: Array, across: Array, normal: Array, material: int) -> Mesh:
    """A rod, box or ball in a hand.

    Args:
        rng: Random numbers.
        palm: (3,) middle of the knuckles at rest; across: (3,) from the index finger's knuckle to the little finger's.
        normal: (3,) unit, out of the palm.
        material: Its number.
    """
    up = across / np.linalg.norm(across)
    side = np.cross(normal, up)
    axes = np.stack([side / np.linalg.norm(side), np.cross(up, side), up], axis=1)
    radius, height = rng.uniform(0.012, 0.035), rng.uniform(0.1, 0.28)
    kind = rng.random()
    if kind < 0.6:
        mesh = cylinder(np.array([0, 0, -height * rng.uniform(0.3, 0.7)]), radius, height, material)
    elif kind < 0.85:
        half = np.array([radius * rng.uniform(1, 2.5), radius, height / 2])
        mesh = box(-half, half, 0.0, material, 0.05)
    else:
        radius = rng.uniform(0.025, 0.05)
        mesh = ball(np.zeros(3), radius, material)
    place = palm + (radius + 0.018) * normal
    return Mesh(mesh.vertices @ axes.T + place, mesh.triangles, mesh.normals @ axes.T, mesh.texture, mesh.material)


def _colour(rng: np.random.Generator, low: float = 0.06, high: float = 0.8) -> Array:
    """A reflectance: mostly muted, now and then strong."""
    value = np.exp(rng.uniform(np.log(low), np.log(high)))
    strength = rng.beta(1.2, 2.5)
    hue = rng.random(3)
    hue /= hue.max()
    return value * (1 - strength + strength * hue)


def _material(rng: np.random.Generator, kinds: Sequence[int], scale: tuple[float, float]) -> tuple:
    first = _colour(rng)
    other = _colour(rng) if rng.random() < 0.4 else np.clip(first * rng.uniform(0.45, 1.6), 0.01, 0.85)
    size = np.exp(rng.uniform(*np.log(scale)))
    return first, other, int(rng.choice(kinds)), float(size), int(rng.integers(1, 2**20))


def body_materials(rng: np.random.Generator) -> list[tuple[Array, Array, int, float, int]]:
    """Rows for skin, top, trousers, shoes, and what the left and the right hand hold, in this order."""
    mix = rng.uniform(0, len(_SKIN) - 1)
    i = int(mix)
    skin = _SKIN[i] + (mix - i) * (_SKIN[min(i + 1, len(_SKIN) - 1)] - _SKIN[i])
    skin = np.clip(skin * np.exp(0.08 * rng.standard_normal(3)), 0.02, 0.8)
    cloth = (NOISE, STRIPES, CHECKS, GRAIN, PLAIN, PLAIN)
    return [
        (skin * 0.9, skin * 1.1, NOISE, 90.0, int(rng.integers(1, 2**20))),
        _material(rng, cloth, (6, 60)),
        _material(rng, cloth, (6, 60)),
        _material(rng, (PLAIN, NOISE), (10, 40)),
        *(_material(rng, (PLAIN, PLAIN, NOISE, STRIPES, CHECKS), (15, 90)) for _ in range(2)),
    ]


def random_light(rng: np.random.Generator) -> Light:
    """A lamp or window from above, the light of the room, and a little along the view."""
    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.4)
    direction = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    warm = 1 + rng.uniform(-0.25, 0.25) * np.array([1, 0.1, -1])
    strength = rng.uniform(0.3, 1.3)
    lamp = np.concatenate([direction, strength * warm, [rng.uniform(0, 0.4)]])
    sky = rng.uniform(0.15, 0.6) * (1 + 0.1 * rng.standard_normal(3))
    return Light(lamp, np.stack([sky, sky * rng.uniform(0.3, 0.8)]), float(rng.uniform(0, 0.15)))


def random_room(rng: np.random.Generator, path: Array, first: int) -> tuple[Mesh, list[tuple]]:
    """A room around where the person goes.

    Args:
        rng: Random numbers.
        path: (N, 2) horizontal places of the body, metres.
        first: Number of the first material to be used.

    Returns:
        The mesh, and its rows of materials.
    """
    low = path.min(axis=0) - rng.uniform(0.7, 3.0, 2)
    high = path.max(axis=0) + rng.uniform(0.7, 3.0, 2)
    top = rng.uniform(2.3, 3.4)
    rows = [
        _material(rng, (PLANKS, CHECKS, NOISE, GRAIN, STRIPES), (1.5, 12)),
        _material(rng, (NOISE, PLAIN, PLANKS, STRIPES, GRAIN), (0.8, 8)),
        _material(rng, (PLAIN, NOISE), (0.5, 2)),
    ]
    shell = box(np.array([*low, 0.0]), np.array([*high, top]), 0.0, first + 1, ROOM_CELL_M, inward=True)
    material = shell.material.copy()
    facing = shell.normals[shell.triangles[:, 0], 2]
    material[facing > 0.5], material[facing < -0.5] = first, first + 2
    meshes = [Mesh(shell.vertices, shell.triangles, shell.normals, shell.texture, material)]

    def new(kinds: Sequence[int] = (NOISE, PLAIN, STRIPES, PLANKS, GRAIN), scale: tuple[float, float] = (2, 30)) -> int:
        rows.append(_material(rng, kinds, scale))
        return first + len(rows) - 1

    def free(place: Array, reach: float) -> bool:
        return bool(np.min(np.linalg.norm(path - place, axis=1)) > reach + CLEARANCE_M)

    for _ in range(int(rng.integers(3, 9))):
        place, yaw = rng.uniform(low, high), rng.uniform(0, np.pi)
        size = np.array([rng.uniform(0.3, 1.4), rng.uniform(0.3, 0.8)])
        if not free(place, float(np.linalg.norm(size)) / 2):
            continue
        if rng.random() < 0.5:
            meshes += _table(rng, place, size, yaw, new)
        else:
            height = rng.uniform(0.3, 1.9)
            meshes.append(box(np.array([*(place - size / 2), 0]), np.array([*(place + size / 2), height]), yaw, new()))
    for _ in range(int(rng.integers(1, 5))):
        meshes.append(_picture(rng, low, high, new))
    return join(meshes), rows


def _table(rng: np.random.Generator, place: Array, size: Array, yaw: float, new) -> list[Mesh]:
    """A table top on a leg, with things on it."""
    height, top = rng.uniform(0.65, 1.0), new((PLANKS, NOISE, PLAIN), (2, 10))
    meshes = [
        box(np.array([*(place - size / 2), height - 0.04]), np.array([*(place + size / 2), height]), yaw, top),
        cylinder(np.array([*place, 0.0]), 0.04, height - 0.04, top),
    ]
    for _ in range(int(rng.integers(1, 6))):
        spot = np.array([*(place + rng.uniform(-0.35, 0.35, 2) * size.min()), height])
        kind = rng.random()
        if kind < 0.35:
            half = rng.uniform(0.03, 0.12, 2)
            tall = np.array([0, 0, rng.uniform(0.02, 0.3)])
            corner = np.array([*half, 0])
            meshes.append(box(spot - corner, spot + corner + tall, rng.uniform(0, np.pi), new(scale=(10, 80)), 0.06))
        elif kind < 0.7:
            meshes.append(cylinder(spot, rng.uniform(0.025, 0.07), rng.uniform(0.06, 0.28), new(scale=(10, 80))))
        else:
            radius = rng.uniform(0.03, 0.1)
            meshes.append(ball(spot + np.array([0, 0, radius]), radius, new(scale=(10, 80))))
    return meshes


def _picture(rng: np.random.Generator, low: Array, high: Array, new) -> Mesh:
    """A flat rectangle just before a wall: picture, door or window."""
    wall, middle = int(rng.integers(4)), rng.uniform(0.2, 0.8)
    width, bottom, height = rng.uniform(0.4, 1.4), rng.uniform(0.0, 1.2), rng.uniform(0.4, 1.1)
    up = np.array([0, 0, height])
    span = high - low
    material = new((PLAIN, NOISE, CHECKS, STRIPES), (1, 12))
    if wall < 2:
        x, sign = (low[0] + 0.01, 1.0) if wall == 0 else (high[0] - 0.01, -1.0)
        start = np.array([x, low[1] + middle * span[1] - sign * width / 2, bottom])
        return sheet(start, np.array([0, sign * width, 0]), up, material, ROOM_CELL_M)
    y, sign = (low[1] + 0.01, -1.0) if wall == 2 else (high[1] - 0.01, 1.0)
    start = np.array([low[0] + middle * span[0] - sign * width / 2, y, bottom])
    return sheet(start, np.array([sign * width, 0, 0]), up, material, ROOM_CELL_M)
