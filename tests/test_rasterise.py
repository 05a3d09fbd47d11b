"""The rasteriser against ray casting, skinning against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from egopose.camera import Camera
from egopose.kernels import rasterise, skinning
from egopose.rigid import rotation_from_vector

SIZE = (48, 40)


def lenses() -> list[Camera]:
    w, h = SIZE
    middle = [(w - 1) / 2, (h - 1) / 2]
    fisheye = [15.0, 15.0, *middle, 0.05, -0.01, 0.0, 0.0]
    aria = [14.0, 14.0, *middle, 0.1, -0.05, 0.01, 0, 0, 0, 1e-3, -1e-3, 1e-3, 0, -1e-3, 0]
    return [
        Camera.pinhole(24.0, None, SIZE),
        Camera("kannala_brandt", SIZE, np.array(fisheye), max_angle=2.0),
        Camera.fisheye624(aria, SIZE, max_angle=1.4),
    ]


def ball(rings: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A sphere of unit radius, front faces outside."""
    theta = np.linspace(0, np.pi, rings + 1)
    phi = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    a, b = np.meshgrid(theta, phi, indexing="ij")
    points = np.stack([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)], axis=-1).reshape(-1, 3)
    n, faces = phi.size, []
    for i in range(rings):
        for j in range(n):
            k = (j + 1) % n
            faces += [(i * n + j, (i + 1) * n + j, (i + 1) * n + k), (i * n + j, (i + 1) * n + k, i * n + k)]
    return points, np.array(faces, dtype=np.int64)


def draw(camera: Camera, vertices: np.ndarray, triangles: np.ndarray, near: float = 0.05):
    code, params, T = camera.packed()
    uvw = np.zeros((len(vertices), 3))
    rasterise.project_vertices(code, params, T, vertices, near, uvw)
    w, h = camera.size
    nearness, index, inside = np.zeros((h, w)), np.full((h, w), -1, np.int32), np.zeros((h, w, 2))
    rasterise.fill(uvw, triangles, nearness, index, inside)
    return nearness, index, inside


def cast(camera: Camera, centre: np.ndarray, radius: float) -> np.ndarray:
    """Distance to a sphere along each pixel's ray, infinite where it is missed."""
    w, h = camera.size
    v, u = np.mgrid[:h, :w].astype(float)
    rays = camera.unproject(np.stack([u, v], -1).reshape(-1, 2)).reshape(h, w, 3)
    along = rays @ centre
    rest = along**2 - (centre @ centre - radius**2)
    with np.errstate(invalid="ignore"):
        hit = along - np.sqrt(rest)
    return np.where((rest >= 0) & (hit > 0), hit, np.inf)


@pytest.mark.parametrize("camera", lenses(), ids=lambda camera: camera.model)
def test_two_spheres_equal_ray_casting(camera):
    points, faces = ball()
    first, second = np.array([0.3, 0.1, 2.2]), np.array([-0.4, -0.2, 1.5])
    vertices = np.concatenate([points * 0.8 + first, points * 0.4 + second])
    triangles = np.concatenate([faces, faces + len(points)])
    nearness, index, _ = draw(camera, vertices, triangles)
    a, b = cast(camera, first, 0.8), cast(camera, second, 0.4)
    truth = np.minimum(a, b)
    differ = np.isfinite(truth) != (index >= 0)
    # only pixels that the outline of the polyhedron cuts off may differ
    assert differ.sum() < 0.03 * np.isfinite(truth).sum()
    both = np.isfinite(truth) & (index >= 0)
    assert both.sum() > 100
    error = np.abs(1 / nearness[both] - truth[both])
    assert np.median(error) < 2e-3
    which = np.where(b < a, 1, 0)[both]
    assert ((index[both] >= len(faces)) == which).mean() > 0.98


def test_weights_give_the_point_seen():
    camera = lenses()[0]
    vertices = np.array([[-0.3, -0.2, 1.0], [0.3, -0.2, 1.2], [-0.2, 0.4, 1.05]])
    nearness, index, inside = draw(camera, vertices, np.array([[0, 2, 1]]))
    assert (index == 0).sum() > 60
    rows, columns = np.nonzero(index == 0)
    b, c = inside[rows, columns].T
    points = (1 - b - c)[:, None] * vertices[0] + b[:, None] * vertices[2] + c[:, None] * vertices[1]
    np.testing.assert_allclose(camera.project(points, frame="camera"), np.stack([columns, rows], -1), atol=0.35)
    assert nearness[rows, columns].min() > 0


def test_back_faces_near_and_invalid_triangles_are_left_out():
    camera = lenses()[0]
    front = np.array([[-1.0, -1, 2], [-1, 1, 2], [1, -1, 2]])
    assert (draw(camera, front, np.array([[0, 1, 2]]))[1] >= 0).any()
    assert (draw(camera, front, np.array([[0, 2, 1]]))[1] < 0).all()
    behind = front.copy()
    behind[0, 2] = -2
    assert (draw(camera, behind, np.array([[0, 1, 2]]))[1] < 0).all()
    assert (draw(camera, front, np.array([[0, 1, 2]]), near=3.0)[1] < 0).all()


def test_seen_needs_the_image_and_the_depth():
    camera = lenses()[0]
    points, faces = ball(12)
    nearness, _, _ = draw(camera, points * 0.5 + [0, 0, 2], faces)
    code, params, T = camera.packed()
    queries = np.array([[0, 0, 1.4], [0, 0, 2.0], [0, 0, 2.4], [9, 0, 2.0], [0, 0, -2.0], [0.9, 0.0, 2.5]])
    uvw, out = np.zeros((6, 3)), np.zeros(6, dtype=bool)
    rasterise.project_vertices(code, params, T, queries, 0.01, uvw)
    rasterise.seen(uvw, nearness, np.array([0.0, 0.6, 0.6, 0.6, 0.6, 0.0]), out)
    assert out.tolist() == [True, True, False, False, False, True]


def test_shading_follows_the_light():
    camera = lenses()[0]
    points, faces = ball(16)
    vertices = points + [0, 0, 3]
    _, index, inside = draw(camera, vertices, faces)
    normals = np.zeros_like(points)
    skinning.vertex_normals(vertices, faces, normals)
    inner = np.abs(points[:, 2]) < 0.99
    assert (np.sum(normals * points, axis=1)[inner] > 0.98).all()
    out = np.zeros((*index.shape, 3), np.float32)
    tones = np.array([[[0.2, 0.4, 0.6], [0.2, 0.4, 0.6]]])
    lamp = np.array([-1.0, 0, 0, 1, 1, 1, 0])
    rasterise.shade(
        index, inside, faces, normals, points, np.zeros(len(faces), np.int64), tones, np.zeros(1, np.int64),
        np.ones(1), np.zeros(1, np.int64), lamp, np.full((2, 3), 0.1), np.zeros(4), out,
    )  # fmt: skip
    assert (out[index < 0] == 0).all()
    lit = index >= 0
    np.testing.assert_allclose(out[lit][:, 1] / out[lit][:, 0], 2, rtol=1e-5)
    columns = np.nonzero(lit)[1]
    assert out[lit][columns < 18, 0].mean() > 3 * out[lit][columns > 29, 0].mean()


def test_noise_is_smooth_and_in_range():
    xs = np.linspace(-3, 3, 601)
    for kind in range(6):
        values = np.array([rasterise.pattern(kind, x, 0.3, -1.2, 5) for x in xs])
        assert values.min() >= 0
        assert values.max() <= 1
    smooth = np.array([rasterise.value_noise(x, 0.3, -1.2, 5) for x in xs])
    assert np.abs(np.diff(smooth)).max() < 0.03
    assert smooth.std() > 0.05


def test_skinning_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    parents = np.array([-1, 0, 1, 1, 3])
    rest, R = rng.normal(size=(5, 3)), rotation_from_vector(rng.normal(size=(5, 3)))
    root = np.array([1.0, 2, 3])
    posed = np.zeros((5, 3))
    skinning.chain_joints(parents, rest, R, root, posed)
    truth = [root]
    for j in range(1, 5):
        p = parents[j]
        truth.append(truth[p] + R[p] @ (rest[j] - rest[p]))
    np.testing.assert_allclose(posed, truth, atol=1e-12)
    vertices, bones = rng.normal(size=(30, 3)), rng.integers(0, 5, (30, 3))
    weights = rng.dirichlet(np.ones(3), 30)
    out = np.zeros((30, 3))
    skinning.skin(vertices, bones, weights, rest, R, posed, out)
    want = np.zeros((30, 3))
    for v in range(30):
        for j, w in zip(bones[v], weights[v]):
            want[v] += w * (R[j] @ (vertices[v] - rest[j]) + posed[j])
    np.testing.assert_allclose(out, want, atol=1e-12)
