"""The wearer as exo and head cameras see it: the package's body with clothes, hair and a face, drawn into an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from egopose.body import Body
from egopose.camera import Camera
from egopose.errors import import_cv2
from egopose.kernels import rasterise, skinning
from egopose.train.synthetic import world
from egopose.train.synthetic.render import HELD, SKIN, Dressed, dress

Array = NDArray[np.float64]

HAIR, WHITE, IRIS, LIPS, BROWS = range(HELD, HELD + 5)
OVERSAMPLED = 2
"""Rows and columns drawn for each one of the image."""
NEAR_M = 0.05
BEYOND_RAD = 0.2
"""Triangles are drawn this far outside the lens's edge, so that none ends inside the image."""
_HAIR_M = 0.012
IRIS_M = 0.0062
"""Radius of the iris."""
_COLOURS = {
    HAIR: (0.035, 0.022, 0.014), WHITE: (0.62, 0.6, 0.57), IRIS: (0.02, 0.014, 0.01), LIPS: (0.34, 0.11, 0.09),
    BROWS: (0.05, 0.03, 0.02),
}  # fmt: skip


def _face(body: Body, triangles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Materials of the triangles of the head, from where they lie on the rest body."""
    model = body.model
    eyes = (body.at("left_eye") + body.at("right_eye")) / 2
    nose, ear = body.at("nose"), (body.at("left_ear") + body.at("right_ear")) / 2
    owner = model.bones[np.arange(len(model.bones)), model.weights.argmax(axis=1)]
    skull = body.vertices[owner == model.index("head")]
    # x from the ears to the eyes, z from the eyes to the top of the head, both 0 to 1
    centre = body.vertices[triangles].mean(axis=1)
    x = (centre[:, 0] - ear[0]) / (eyes[0] - ear[0])
    z = (centre[:, 2] - eyes[2]) / (skull[:, 2].max() - eyes[2])
    y = np.abs(centre[:, 1])
    away = np.minimum(*(np.linalg.norm(centre - body.at(f"{s}_ear"), axis=1) for s in ("left", "right")))
    out = np.full(len(triangles), SKIN)
    line = np.interp(x, [-0.6, -0.05, 0.15, 0.75, 1.2], [-0.5, -0.3, 0.1, 0.62, 0.68])
    out[(z > line) & (away > 0.028)] = HAIR
    out[(z > 0.13) & (z < 0.2) & (y > 0.012) & (y < 0.05) & (x > 0.75)] = BROWS
    mouth = nose[2] - (eyes[2] - nose[2]) * np.array([1.18, 0.56])
    out[(centre[:, 2] > mouth[0]) & (centre[:, 2] < mouth[1]) & (y < 0.024) & (x > 0.95)] = LIPS
    piece = _pieces(len(body.vertices), model.triangles)[triangles[:, 0]]
    for side in ("left", "right"):
        # the eyeball is a piece of its own, behind the lids
        eye = body.at(f"{side}_eye")
        nearest = np.linalg.norm(centre - eye, axis=1)
        ball = piece == min(set(piece), key=lambda k: nearest[piece == k].max())
        front = np.linalg.norm((centre - eye)[:, 1:], axis=1) < IRIS_M
        out[ball] = WHITE
        out[ball & front & (centre[:, 0] > eye[0])] = IRIS
    return out


def _pieces(n: int, triangles: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of n vertices the number of the connected piece of the mesh that it belongs to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = triangles[:, [0, 1]].ravel(), triangles[:, [1, 2]].ravel()
    return np.asarray(connected_components(coo_array((np.ones(a.size), (a, b)), shape=(n, n)), directed=False)[1])


class Figure:
    """A dressed body; the same seed gives the same clothes."""

    def __init__(self, body: Body, seed: int) -> None:
        """Choose clothes, skin and hair.

        Args:
            body: Who.
            seed: Of clothes and colours.
        """
        rng = np.random.default_rng(seed)
        dressed: Dressed = dress(body, rng)
        model = body.model
        owner = model.bones[np.arange(len(model.bones)), model.weights.argmax(axis=1)]
        head = model.triangles[(owner[model.triangles] == model.index("head")).any(axis=1)]
        face = _face(body, head)
        vertices = dressed.body.vertices.copy()
        normals = np.empty_like(vertices)
        skinning.vertex_normals(body.vertices, model.triangles, normals)
        hair = np.unique(head[face == HAIR])
        vertices[hair] += _HAIR_M * normals[hair]
        self.body = Body(model, vertices, body.points)
        self.without_head = len(dressed.triangles)
        self.triangles = np.ascontiguousarray(np.concatenate([dressed.triangles, head]))
        self.material = np.concatenate([dressed.material, face])
        rows = world.body_materials(rng)[:HELD]
        shade = float(np.exp(rng.uniform(-0.4, 1.2)))
        for material in range(HELD, HELD + len(_COLOURS)):
            colour = np.array(_COLOURS[material]) * (shade if material in (HAIR, BROWS) else 1.0)
            rows.append((0.8 * colour, 1.2 * colour, world.NOISE, 60.0, int(rng.integers(1, 2**20))))
        self.materials = world.Materials.stack(rows)
        azimuth = rng.uniform(0, 2 * np.pi)
        lamp = np.array([0.55 * np.cos(azimuth), 0.55 * np.sin(azimuth), 0.83])
        self.lamp = np.concatenate([lamp, [0.75, 0.73, 0.7], [0.35]])
        self.sky = np.array([[0.5, 0.5, 0.52], [0.26, 0.25, 0.24]])

    def draw(
        self, image: NDArray[np.uint8], camera: Camera, R: Array, root: Array, *, head: bool = True, fine: int = 1
    ) -> None:
        """Paint the figure into an image of a camera.

        Args:
            image: (H, W, 3) RGB, changed in place.
            camera: Its camera.
            R: (J, 3, 3) rotations of the bones; root: (3,), see :meth:`egopose.body.Body.pose`.
            head: Also the head; the wearer's own camera sits before it.
            fine: Times finer than the default that edges are drawn.
        """
        cv2 = import_cv2()
        vertices = self.body.pose(R, root).vertices
        triangles = self.triangles if head else self.triangles[: self.without_head]
        material = self.material if head else self.material[: self.without_head]
        if camera.max_angle is not None:
            camera = replace(camera, max_angle=camera.max_angle + BEYOND_RAD)
        code, params, T = camera.packed()
        uvw = np.zeros_like(vertices)
        rasterise.project_vertices(code, params, T, vertices, NEAR_M, uvw)
        seen = uvw[:, 2] > 0
        height, width = image.shape[:2]
        if not seen.any():
            return
        low = np.clip(np.floor(uvw[seen, :2].min(axis=0)) - 1, 0, [width, height]).astype(int)
        high = np.clip(np.ceil(uvw[seen, :2].max(axis=0)) + 2, 0, [width, height]).astype(int)
        if (high <= low).any():
            return
        k = OVERSAMPLED * fine
        w, h = k * (high - low)
        # pixel centres of the finer grid: k (u - low + 1/2) - 1/2
        uvw[:, :2] = k * (uvw[:, :2] - low + 0.5) - 0.5
        nearness, index = np.zeros((h, w)), np.full((h, w), -1, np.int32)
        inside, light = np.zeros((h, w, 2)), np.zeros((h, w, 3), np.float32)
        rasterise.fill(uvw, triangles, nearness, index, inside)
        normals = np.empty_like(vertices)
        skinning.vertex_normals(vertices, self.body.model.triangles, normals)
        m = self.materials
        place = np.array([*camera.center_world, 0.12])
        rasterise.shade(
            index, inside, triangles, normals, self.body.vertices, material, m.tones, m.kinds, m.scales, m.seeds,
            self.lamp, self.sky, place, light,
        )  # fmt: skip
        cover = cv2.resize((index >= 0).astype(np.float32), None, fx=1 / k, fy=1 / k, interpolation=cv2.INTER_AREA)
        light = cv2.resize(light, None, fx=1 / k, fy=1 / k, interpolation=cv2.INTER_AREA)
        # the mean over the covered part alone, so that edges do not darken
        light /= np.maximum(cover, 1e-6)[..., None]
        bright = 255 * np.clip(1.1 * light, 0, 1) ** (1 / 2.2)
        part = image[low[1] : high[1], low[0] : high[0]]
        part[:] = np.round(part + cover[..., None] * (bright - part)).astype(np.uint8)
