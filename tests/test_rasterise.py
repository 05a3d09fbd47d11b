"""The rasteriser against rays cast at exact spheres, through three camera models."""

from __future__ import annotations

import math

import numpy as np
import pytest

from egopose import rigid
from egopose.camera import Camera
from egopose.kernels import rasterise

SIDE = 96


def camera(kind):
    T = rigid.make_transform(rigid.rotation_from_vector(np.array([0.3, -0.5, 0.2])), np.array([0.1, -0.2, 1.5]))
    middle = ((SIDE - 1) / 2 + 1.3, (SIDE - 1) / 2 - 0.7)
    if kind == "pinhole":
        return Camera.pinhole(45.0, middle, (SIDE, SIDE), T)
    if kind == "kannala_brandt":
        params = np.array([32.0, 31.0, *middle, 0.02, -0.01, 0.003, 0.0])
        return Camera("kannala_brandt", (SIDE, SIDE), params, T, max_angle=math.radians(95))
    params = np.array([30.0, *middle, 0.02, -0.015, 0.004, 0, 0, 0, 2e-4, -3e-4, 1e-4, 0, 2e-4, 0])
    return Camera.fisheye624(params, (SIDE, SIDE), T, max_angle=math.radians(84))


def sphere(centre, radius, rings=60):
    theta = np.linspace(-np.pi / 2, np.pi / 2, rings)
    phi = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    t, p = np.meshgrid(theta, phi, indexing="ij")
    vertices = np.stack([np.cos(t) * np.cos(p), np.cos(t) * np.sin(p), np.sin(t)], -1).reshape(-1, 3)
    at = np.arange(vertices.shape[0]).reshape(t.shape)
    a, b = at[:-1], np.roll(at[:-1], -1, axis=1)
    d, c = at[1:], np.roll(at[1:], -1, axis=1)
    triangles = np.concatenate([np.stack([x.ravel() for x in abc], -1) for abc in ((a, b, c), (a, c, d))])
    return centre + radius * vertices, triangles.astype(np.int64)


def draw(cam, parts):
    vertices = np.concatenate([v for v, _ in parts])
    starts = np.cumsum([0] + [len(v) for v, _ in parts[:-1]])
    triangles = np.concatenate([t + s for (_, t), s in zip(parts, starts)])
    model, params, T = cam.packed()
    uvw = np.zeros_like(vertices)
    rasterise.project_vertices(model, params, T, vertices, 0.01, uvw)
    nearness, index = np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), -1, np.int32)
    inside = np.zeros((SIDE, SIDE, 2))
    rasterise.fill(uvw, triangles, nearness, index, inside)
    return vertices, triangles, uvw, nearness, index, inside


def rays(cam):
    v, u = np.mgrid[:SIDE, :SIDE]
    uv = np.stack([u, v], -1).reshape(-1, 2).astype(float)
    return cam.unproject(uv).reshape(SIDE, SIDE, 3)


def hit(cam, rays_camera, centre, radius):
    """Distance along each ray to a sphere, infinity where it misses."""
    directions = rays_camera @ cam.T_world_camera[:3, :3].T
    to = centre - cam.center_world
    along = directions @ to
    apart = (to @ to) - along**2
    with np.errstate(invalid="ignore"):
        reach = along - np.sqrt(radius**2 - apart)
    return np.where(np.isfinite(reach) & (along > 0), reach, np.inf)


def ahead(cam, angle, turn, distance):
    """A world point at an angle off the axis."""
    d = np.array([math.sin(angle) * math.cos(turn), math.sin(angle) * math.sin(turn), math.cos(angle)])
    return rigid.transform_points(cam.T_world_camera, d * distance)


KINDS = ("pinhole", "kannala_brandt", "fisheye624")


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_the_camera_model(kind):
    cam = camera(kind)
    rng = np.random.default_rng(0)
    points = cam.center_world + rng.standard_normal((200, 3))
    model, params, T = cam.packed()
    uvw = np.zeros_like(points)
    rasterise.project_vertices(model, params, T, points, 0.01, uvw)
    uv = cam.project(points)
    seen = np.isfinite(uv).all(axis=1)
    assert 20 < seen.sum() < 200
    np.testing.assert_array_equal(uvw[:, 2] > 0, seen)
    np.testing.assert_allclose(uvw[seen, :2], uv[seen], atol=1e-9)
    np.testing.assert_allclose(uvw[seen, 2], 1 / np.linalg.norm(points[seen] - cam.center_world, axis=1), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("angle_deg", [0, 25, 38])
def test_depth_of_a_sphere_is_that_of_its_rays(kind, angle_deg):
    cam = camera(kind)
    centre, radius = ahead(cam, math.radians(angle_deg), 0.7, 1.4), 0.4
    _, _, _, nearness, index, _ = draw(cam, [sphere(centre, radius)])
    directions = rays(cam)
    exact = hit(cam, directions, centre, radius)
    drawn = nearness > 0
    assert drawn.sum() > 150
    np.testing.assert_array_equal(drawn, index >= 0)
    # only pixels that the outline runs through may differ
    differ = drawn != np.isfinite(exact)
    assert differ.sum() < 0.12 * drawn.sum()
    both = drawn & np.isfinite(exact)
    error = np.abs(1 / nearness[both] - exact[both])
    assert np.median(error) < 1e-3
    assert np.quantile(error, 0.9) < 4e-3


@pytest.mark.parametrize("kind", ["kannala_brandt", "fisheye624"])
def test_spheres_far_off_the_axis(kind):
    cam = camera(kind)
    centre, radius = ahead(cam, math.radians(72), 0.75, 1.2), 0.3
    _, _, _, nearness, _, _ = draw(cam, [sphere(centre, radius)])
    directions = rays(cam)
    exact = hit(cam, directions, centre, radius)
    both = (nearness > 0) & np.isfinite(exact)
    assert both.sum() > 60
    assert np.median(np.abs(1 / nearness[both] - exact[both])) < 2e-3


def test_the_nearer_of_two_bodies_is_seen():
    cam = camera("kannala_brandt")
    near, far = ahead(cam, 0.2, 0.4, 1.0), ahead(cam, 0.25, 0.4, 2.0)
    for order in (0, 1):
        parts = [sphere(near, 0.2), sphere(far, 0.6)]
        parts = parts[::-1] if order else parts
        _, _, _, nearness, index, _ = draw(cam, parts)
        directions = rays(cam)
        first = hit(cam, directions, near, 0.2)
        n = len(parts[0][1])
        of_near = (index >= n) if order else (index >= 0) & (index < n)
        assert of_near[np.isfinite(first)].mean() > 0.93
        assert (1 / nearness[of_near]).max() < 1.05


def test_weights_give_the_point_on_the_ray():
    cam = camera("fisheye624")
    vertices, triangles, _, _, index, inside = draw(cam, [sphere(ahead(cam, 0.5, 1.0, 1.3), 0.4)])
    rows, columns = np.nonzero(index >= 0)
    f = triangles[index[rows, columns]]
    b, c = inside[rows, columns].T
    assert (b >= 0).all()
    assert (c >= 0).all()
    assert (b + c <= 1 + 1e-12).all()
    points = (1 - b - c)[:, None] * vertices[f[:, 0]] + b[:, None] * vertices[f[:, 1]] + c[:, None] * vertices[f[:, 2]]
    off = cam.project(points) - np.stack([columns, rows], -1)
    assert np.linalg.norm(off, axis=1).max() < 0.1


def test_back_faces_and_what_lies_behind_are_not_drawn():
    cam = camera("pinhole")
    vertices, triangles = sphere(ahead(cam, 0.0, 0.0, 1.0), 0.3)
    _, _, _, nearness, _, _ = draw(cam, [(vertices, triangles[:, ::-1].copy())])
    # inside out, only the far half is seen
    assert (1 / nearness[nearness > 0]).min() > 0.9
    _, _, _, behind, _, _ = draw(cam, [sphere(ahead(cam, math.pi, 0.0, 1.0), 0.3)])
    assert not behind.any()
    # around the camera: all faces are seen from inside, so none is drawn
    _, _, _, around, _, _ = draw(cam, [sphere(cam.center_world, 0.5)])
    assert not around.any()


def test_points_are_seen_unless_hidden_or_outside():
    cam = camera("kannala_brandt")
    centre = ahead(cam, 0.1, 0.0, 1.0)
    _, _, _, nearness, _, _ = draw(cam, [sphere(centre, 0.2)])
    to = (centre - cam.center_world) / np.linalg.norm(centre - cam.center_world)
    points = np.stack(
        [centre - 0.25 * to, centre - 0.15 * to, centre + 0.25 * to, ahead(cam, 1.0, 2.0, 1.0), ahead(cam, 3.0, 0, 1)]
    )
    model, params, T = cam.packed()
    uvw = np.zeros_like(points)
    rasterise.project_vertices(model, params, T, points, 0.01, uvw)
    out = np.zeros(len(points), bool)
    rasterise.seen(uvw, nearness, np.full(len(points), 0.1), out)
    # before it, just under its skin, behind it, beside it, behind the camera
    np.testing.assert_array_equal(out, [True, True, False, True, False])
    rasterise.seen(uvw, nearness, np.full(len(points), 0.01), out)
    np.testing.assert_array_equal(out, [True, False, False, True, False])


def test_mask_of_the_lens():
    cam = camera("fisheye624")
    model, params, _ = cam.packed()
    out = np.zeros((SIDE, SIDE), bool)
    rasterise.angle_mask(model, params, SIDE, SIDE, math.radians(60), out)
    directions = rays(cam)
    with np.errstate(invalid="ignore"):
        expected = directions[..., 2] >= math.cos(math.radians(60))
    np.testing.assert_array_equal(out, expected)
    assert 0.2 < out.mean() < 0.95


@pytest.mark.parametrize("kind", range(6))
def test_patterns_are_bounded_repeatable_and_not_constant(kind):
    rng = np.random.default_rng(kind)
    points = rng.uniform(-40, 40, (500, 3))
    values = np.array([rasterise.pattern(kind, *p, 7) for p in points])
    again = np.array([rasterise.pattern(kind, *p, 7) for p in points])
    np.testing.assert_array_equal(values, again)
    assert values.min() >= 0
    assert values.max() <= 1
    if kind:
        assert values.std() > 0.05


def test_noise_is_continuous_and_depends_on_its_seed():
    points = np.random.default_rng(0).uniform(-9, 9, (300, 3))
    here = np.array([rasterise.value_noise(*p, 3) for p in points])
    near = np.array([rasterise.value_noise(*(p + 1e-5), 3) for p in points])
    other = np.array([rasterise.value_noise(*p, 4) for p in points])
    assert np.abs(here - near).max() < 1e-3
    assert abs(np.corrcoef(here, other)[0, 1]) < 0.3


@pytest.mark.parametrize("flat", [False, True])
def test_shading_equals_numpy(flat):
    cam = camera("kannala_brandt")
    centre = ahead(cam, 0.3, 0.5, 1.2)
    vertices, triangles, _, nearness, index, inside = draw(cam, [sphere(centre, 0.5, rings=16)])
    if flat:
        # every triangle with corners of its own, all with the triangle's normal
        vertices = vertices[triangles].reshape(-1, 3)
        triangles = np.arange(len(vertices)).reshape(-1, 3)
        sides = vertices.reshape(-1, 3, 3)
        normals = np.repeat(np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0]), 3, axis=0)
    else:
        normals = vertices - centre
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 0, normals / np.maximum(length, 1e-30), 0.0)
    rng = np.random.default_rng(0)
    material = rng.integers(0, 2, len(triangles))
    tones = rng.uniform(0.1, 0.9, (2, 2, 3))
    kinds, scales, seeds = np.array([0, 1]), np.array([1.0, 7.0]), np.array([3, 4])
    to_lamp = np.array([0.6, 0.0, 0.8])
    lamp, sky = np.array([*to_lamp, 0.9, 0.8, 0.7, 0.3]), rng.uniform(0.1, 0.5, (2, 3))
    out = np.full((SIDE, SIDE, 3), -1.0, np.float32)
    place = np.array([*cam.center_world, 0.1])
    rasterise.shade(
        index, inside, triangles, normals, vertices, material, tones, kinds, scales, seeds, lamp, sky, place, out
    )
    assert (out[index < 0] == -1).all()
    rows, columns = np.nonzero(index >= 0)
    f = index[rows, columns]
    weights = np.stack([1 - inside[rows, columns].sum(axis=1), *inside[rows, columns].T])
    normal = np.einsum("kn,nki->ni", weights, normals[triangles[f]])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    spot = np.einsum("kn,nki->ni", weights, vertices[triangles[f]])
    facing = normal @ to_lamp
    direct = np.maximum(0, (facing + 0.3) / 1.3)[:, None] * lamp[3:6]
    ambient = sky[1] + (sky[0] - sky[1]) * (0.5 + 0.5 * normal[:, 2:])
    light = ambient + direct + (0.1 * (0.6 + 0.4 * np.abs(facing)))[:, None]
    m = material[f]
    tone = np.array([rasterise.pattern(kinds[i], *(scales[i] * p), seeds[i]) for i, p in zip(m, spot)])[:, None]
    expected = light * (tones[m, 0] + (tones[m, 1] - tones[m, 0]) * tone)
    np.testing.assert_allclose(out[rows, columns], expected, rtol=2e-5, atol=1e-6)
    assert nearness[rows, columns].min() > 0
