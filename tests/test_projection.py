"""Camera kernels against OpenCV, COLMAP, differences and their own inverses."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egopose.kernels import projection as kernel
from egopose.kernels.distortion import BROWN_CONRADY, FISHEYE624, KANNALA_BRANDT, PINHOLE, fold_radius

F = [911.0, 905.5, 643.25, 355.5]
K = np.array([[F[0], 0, F[2]], [0, F[1], F[3]], [0, 0, 1]])
GOPRO = [0.036902, 0.057131, -0.057154, 0.018458]
BROWN = {
    4: [-0.28, 0.09, 0.0011, -0.0007],
    5: [-0.28, 0.09, 0.0011, -0.0007, -0.012],
    8: [0.1, -0.2, 0.001, -0.002, 0.1, 0.12, -0.1, 0.05],
    12: [0.1, -0.2, 0.001, -0.002, 0.1, 0.12, -0.1, 0.05, 0.001, -0.002, 0.003, 0.0004],
    14: [0.1, -0.2, 0.001, -0.002, 0.1, 0.12, -0.1, 0.05, 0.001, -0.002, 0.003, 0.0004, 0.03, -0.05],
}
ARIA = [1220.019, 1220.019, 1461.091, 1447.087, 0.41103588, -0.45646828, 0.03830308, 1.29833664, -1.77047116, 0.6549935]
ARIA += [-7.92e-05, 4.42e-05, -0.000587, 0.000564, 0.000516, 0.000235]
CASES = {
    "pinhole": (PINHOLE, F),
    **{f"brown{n}": (BROWN_CONRADY, [*F, *d]) for n, d in BROWN.items()},
    "kannala_brandt": (KANNALA_BRANDT, [*F, *GOPRO]),
    "fisheye624": (FISHEYE624, ARIA),
}


def project(model, params, points):
    points = np.ascontiguousarray(points, dtype=np.float64)
    uv, ok = np.empty((len(points), 2)), np.empty(len(points), dtype=bool)
    kernel.project_batch(model, params, points, uv, ok)
    return uv, ok


def unproject(model, params, uv):
    rays, ok = np.empty((len(uv), 3)), np.empty(len(uv), dtype=bool)
    kernel.unproject_batch(model, params, np.ascontiguousarray(uv), rays, ok)
    return rays, ok


def cone(angle, n=1500, seed=0):
    """Unit directions spread over a cone, and points at 0.3 to 6 m along them."""
    rng = np.random.default_rng(seed)
    theta, phi = angle * np.sqrt(rng.uniform(0, 1, n)), rng.uniform(-np.pi, np.pi, n)
    rays = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
    return rays, rays * rng.uniform(0.3, 6.0, (n, 1))


def valid_angle(model, params):
    if model >= KANNALA_BRANDT:
        return params[18]
    return math.atan(params[18]) if params[18] > 0 else math.pi / 2


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("count", BROWN)
def test_brown_conrady_equals_opencv(count):
    params = kernel.with_limit(BROWN_CONRADY, [*F, *BROWN[count]])
    rays, points = cone(0.7)
    uv, ok = project(BROWN_CONRADY, params, points)
    truth = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, np.array(BROWN[count]))[0][:, 0]
    assert ok.all()
    assert relative(uv, truth) < 1e-12
    back, ok = unproject(BROWN_CONRADY, params, truth)
    assert ok.all()
    assert np.abs(back - rays).max() < 1e-12


@pytest.mark.parametrize("count", BROWN)
def test_brown_conrady_inverse_equals_opencv(count):
    """OpenCV's own inverse is a fixed point iteration: given 2000 rounds it reaches the same point."""
    params = kernel.with_limit(BROWN_CONRADY, [*F, *BROWN[count]])
    _, points = cone(0.5, 300)
    uv, _ = project(BROWN_CONRADY, params, points)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 2000, 1e-14)
    plane = cv2.undistortPoints(uv[:, None], K, np.array(BROWN[count]), criteria=stop)[:, 0]
    rays, _ = unproject(BROWN_CONRADY, params, uv)
    assert relative(rays[:, :2] / rays[:, 2:], plane) < 1e-9


def test_kannala_brandt_equals_opencv():
    params = kernel.with_limit(KANNALA_BRANDT, [*F, *GOPRO])
    rays, points = cone(1.5)
    uv, ok = project(KANNALA_BRANDT, params, points)
    truth = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), K, np.array(GOPRO))[0][:, 0]
    assert ok.all()
    assert relative(uv, truth) < 1e-12
    back, ok = unproject(KANNALA_BRANDT, params, uv)
    assert ok.all()
    assert np.abs(back - rays).max() < 1e-12
    near = rays[:, 2] > np.cos(1.2)  # OpenCV returns tan(theta), which loses digits near 90 degrees
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-15)
    plane = cv2.fisheye.undistortPoints(uv[near][:, None], K, np.array(GOPRO), criteria=stop)[:, 0]
    assert relative(back[near, :2] / back[near, 2:], plane) < 1e-9


@pytest.mark.parametrize(
    ("name", "model", "coefficients", "angle"),
    [
        ("OPENCV", BROWN_CONRADY, BROWN[4], 0.6),
        ("FULL_OPENCV", BROWN_CONRADY, BROWN[8], 0.7),
        ("OPENCV_FISHEYE", KANNALA_BRANDT, GOPRO, 1.5),
        ("RAD_TAN_THIN_PRISM_FISHEYE", FISHEYE624, ARIA[4:], 1.0),
    ],
)
def test_equals_colmap(name, model, coefficients, angle):
    """COLMAP's inverse stops at its own tolerance (about 1e-10 here), so it is compared at 1e-9."""
    params = kernel.with_limit(model, [*F, *coefficients])
    camera = pycolmap.Camera(model=name, width=1280, height=720, params=[*F, *coefficients])
    rays, points = cone(angle)
    uv, ok = project(model, params, points)
    assert ok.all()
    assert relative(uv, camera.img_from_cam(points)) < 1e-12
    near = rays[:, 2] > np.cos(min(angle, 1.2))
    plane = camera.cam_from_img(uv[near])
    plane = plane[:, :2] / plane[:, 2:] if plane.shape[1] == 3 else plane
    back, ok = unproject(model, params, uv[near])
    assert ok.all()
    assert relative(back[:, :2] / back[:, 2:], plane) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_jacobian_equals_central_differences(case):
    model, values = CASES[case]
    params = kernel.with_limit(model, values)
    _, points = cone(min(0.9 * valid_angle(model, params), 1.1), 300)
    points[0] = 0.0, 0.0, 2.0  # on the axis, where the fisheyes divide by zero
    uv, J, ok = np.empty((300, 2)), np.empty((300, 2, 3)), np.empty(300, dtype=bool)
    kernel.jacobian_batch(model, params, points, uv, J, ok)
    assert ok.all()
    assert np.array_equal(uv, project(model, params, points)[0])
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 1e-4
        sides = [project(model, params, points + s * step)[0] for s in (-2, -1, 1, 2)]
        slope = (sides[0] - 8 * sides[1] + 8 * sides[2] - sides[3]) / 12e-4  # fourth order
        scale = np.abs(J).max(axis=(1, 2))
        assert (np.abs(J[:, :, axis] - slope).max(axis=1) < 1e-7 * scale).all()
    # moving along the ray does not move the pixel
    assert np.abs(np.einsum("nij,nj->ni", J, points)).max() < 1e-8


@pytest.mark.parametrize("case", CASES)
def test_jacobian_of_a_refused_point_is_nan(case):
    model, values = CASES[case]
    params = kernel.with_limit(model, values)
    row = kernel.project_jacobian_one(model, params, 0.0, 0.0, -1.0)
    assert not row[2]
    assert np.isnan([*row[:2], *row[3:]]).all()


@pytest.mark.parametrize("case", CASES)
def test_behind_never_aliases_to_the_front(case):
    model, values = CASES[case]
    params = kernel.with_limit(model, values, max_angle=None if model != KANNALA_BRANDT else math.pi / 2)
    _, points = cone(min(valid_angle(model, params), 1.0) * 0.99)
    assert project(model, params, points)[1].all()
    uv, ok = project(model, params, -points)
    assert not ok.any()
    assert np.isnan(uv).all()
    for p in ([0.0, 0.0, 0.0], [0.1, 0.1, -1e-6], [0.0, 0.0, -1.0], [np.nan, 0.0, 1.0], [0.0, 0.0, np.nan]):
        u, v, ok = kernel.project_one(model, params, *p)
        assert not ok, p
        assert math.isnan(u), p
        assert math.isnan(v), p


def test_kannala_brandt_behind_without_a_bound_is_continuous():
    """Beyond 90 degrees the radius goes on growing: a lens of 220 degrees, and no second front point."""
    params = kernel.with_limit(KANNALA_BRANDT, [*F, 0.0, 0.0, 0.0, 0.0])
    theta = np.linspace(0.01, 3.1, 400)
    points = np.stack([np.sin(theta), 0 * theta, np.cos(theta)], -1)
    uv, ok = project(KANNALA_BRANDT, params, points)
    assert ok.all()
    assert np.allclose((uv[:, 0] - F[2]) / F[0], theta, atol=1e-12)
    assert np.abs(unproject(KANNALA_BRANDT, params, uv)[0] - points).max() < 1e-12


def test_kannala_brandt_fold_is_the_limit():
    """d = t - 0.2 t^3 turns at t^2 = 1 / 0.6: beyond it nothing projects, and no pixel beyond d(t) has a ray."""
    params = kernel.with_limit(KANNALA_BRANDT, [*F, -0.2, 0.0, 0.0, 0.0])
    top = math.sqrt(1 / 0.6)
    assert params[18] == pytest.approx(top, rel=1e-12)
    assert params[19] == pytest.approx(top - 0.2 * top**3, rel=1e-12)
    for angle, expected in ((top - 1e-6, True), (top + 1e-6, False), (1.5, False), (2.0, False)):
        assert kernel.project_one(KANNALA_BRANDT, params, math.sin(angle), 0.0, math.cos(angle))[2] is expected
    assert kernel.unproject_one(KANNALA_BRANDT, params, F[2] + F[0] * params[19] * (1 - 1e-9), F[3])[3]
    assert not kernel.unproject_one(KANNALA_BRANDT, params, F[2] + F[0] * params[19] * (1 + 1e-6), F[3])[3]


def test_brown_conrady_fold_is_the_limit():
    """r (1 - 0.3 r^2) turns at r^2 = 1 / 0.9; OpenCV projects the points beyond back onto the front ones."""
    dist = np.array([-0.3, 0, 0, 0])
    params = kernel.with_limit(BROWN_CONRADY, [*F, *dist])
    top = math.sqrt(1 / 0.9)
    assert params[18] == pytest.approx(top, rel=1e-12)
    beyond = np.array([[1.5, 0.0, 1.0]])
    alias = cv2.projectPoints(beyond, np.zeros(3), np.zeros(3), K, dist)[0][0, 0]
    rays, ok = unproject(BROWN_CONRADY, params, alias[None])
    assert ok.all()  # that pixel belongs to another point, which is the one that comes back
    assert rays[0, 0] / rays[0, 2] < top
    assert not project(BROWN_CONRADY, params, beyond)[1].any()
    assert kernel.project_one(BROWN_CONRADY, params, top * (1 - 1e-9), 0.0, 1.0)[2]
    edge = F[2] + F[0] * params[19]
    assert not kernel.unproject_one(BROWN_CONRADY, params, edge + 0.01, F[3])[3]
    assert kernel.unproject_one(BROWN_CONRADY, params, edge - 0.01, F[3])[3]


def test_a_pole_of_the_rational_model_is_the_limit():
    """1 / (1 - r^2) has its pole at 1, before any fold."""
    params = kernel.with_limit(BROWN_CONRADY, [*F, 0, 0, 0, 0, 0, -1.0, 0, 0, 0, 0, 0, 0, 0, 0])
    assert params[18] == pytest.approx(1.0, rel=1e-8)
    assert not kernel.project_one(BROWN_CONRADY, params, 1.01, 0.0, 1.0)[2]
    rays, ok = unproject(BROWN_CONRADY, params, project(BROWN_CONRADY, params, [[0.99, 0.0, 1.0]])[0])
    assert ok.all()
    assert rays[0, 0] / rays[0, 2] == pytest.approx(0.99, rel=1e-12)


def test_tangential_terms_shrink_the_limit():
    """u = a + 6 p2 a^2 / 2 ... along the axis: du/da = 1 + 6 p2 a vanishes at a = -1 / (6 p2)."""
    params = kernel.with_limit(BROWN_CONRADY, [*F, 0, 0, 0, 0.2])
    assert params[18] == pytest.approx(1 / 1.2, rel=1e-3)
    assert params[18] <= 1 / 1.2 + 1e-12
    assert fold_radius(BROWN_CONRADY, params, 0.5, 64, 100) == 0.5


def test_max_angle_bounds_every_model():
    for model, values in CASES.values():
        params = kernel.with_limit(model, values, max_angle=0.4)
        assert kernel.project_one(model, params, math.sin(0.399), 0.0, math.cos(0.399))[2]
        assert not kernel.project_one(model, params, math.sin(0.401), 0.0, math.cos(0.401))[2]


def test_far_pixels_and_nan_have_no_ray():
    params = kernel.with_limit(FISHEYE624, ARIA)
    uv = np.array([[1e5, 0.0], [np.nan, 3.0], [np.inf, 0.0], [1461.091, 1447.087]])
    rays, ok = unproject(FISHEYE624, params, uv)
    assert ok.tolist() == [False, False, False, True]
    assert np.isnan(rays[:3]).all()
    assert np.allclose(rays[3], [0, 0, 1])


def test_project_points_is_the_batch_of_cameras():
    rng = np.random.default_rng(5)
    cases = list(CASES.values())
    models = np.array([m for m, _ in cases])
    params = np.stack([kernel.with_limit(m, v) for m, v in cases])
    T = np.stack([np.hstack([cv2.Rodrigues(rng.normal(0, 0.2, 3))[0], rng.normal(0, 0.1, (3, 1))]) for _ in cases])
    T[:, 2, 3] += 3
    world = rng.normal(0, 0.5, (200, 3))
    uv, ok = np.empty((len(cases), 200, 2)), np.empty((len(cases), 200), dtype=bool)
    kernel.project_points(models, params, T, world, uv, ok)
    for c, (model, _) in enumerate(cases):
        expected, fine = project(model, params[c], world @ T[c, :, :3].T + T[c, :, 3])
        assert np.array_equal(fine, ok[c])
        assert fine.any()
        np.testing.assert_allclose(uv[c], expected, rtol=1e-12)


small = st.floats(-1.0, 1.0, allow_nan=False)


@st.composite
def lenses(draw):
    """Lenses as calibrations produce them: strong radial terms, small others."""
    model = draw(st.sampled_from([PINHOLE, BROWN_CONRADY, KANNALA_BRANDT, FISHEYE624]))
    if model == PINHOLE:
        scales: list[float] = []
    elif model == BROWN_CONRADY:
        scales = [0.5, 0.5, 0.005, 0.005, 0.3, 0.5, 0.3, 0.1, 0.005, 0.005, 0.005, 0.005, 0.1, 0.1]
        scales = scales[: draw(st.sampled_from([4, 5, 8, 12, 14]))]
    elif model == KANNALA_BRANDT:
        scales = [0.3, 0.2, 0.1, 0.05]
    else:
        scales = [0.5, 0.5, 0.3, 0.3, 0.2, 0.1, *[0.003] * 6]
    return model, [*F, *(s * draw(small) for s in scales)]


@given(lenses(), st.floats(0, 0.97), st.floats(-math.pi, math.pi))
@settings(deadline=None, max_examples=400)
def test_round_trip_within_the_valid_cone(lens, share, phi):
    model, values = lens
    params = kernel.with_limit(model, values)
    if model >= KANNALA_BRANDT:
        theta = share * params[18]
    else:
        theta = math.atan(share * params[18]) if params[18] > 0 else share * 1.5
    theta = min(theta, 1.5) if model < KANNALA_BRANDT else theta
    ray = np.array([math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta)])
    u, v, ok = kernel.project_one(model, params, *(2.5 * ray))
    if model == BROWN_CONRADY and not ok:
        # only a tilted sensor may refuse a point inside the limit: the point lies behind the sensor plane
        assert params[16:18].any()
        return
    assert ok
    *back, ok = kernel.unproject_one(model, params, u, v)
    assert ok
    row = kernel.project_jacobian_one(model, params, *ray)
    J = np.array(row[3:]).reshape(2, 3) / F[0]
    smallest = np.linalg.svd(J)[1][1]
    # the error of a ray is the rounding of its pixel, magnified by how flat the map is there
    assert np.abs(np.array(back) - ray).max() <= 1e-9 + 1e-11 / smallest
    u2, v2, ok = kernel.project_one(model, params, *back)
    assert ok
    assert max(abs(u2 - u), abs(v2 - v)) <= 1e-8 * max(1.0, abs(u), abs(v))


@given(lenses(), st.floats(-4000, 6000), st.floats(-4000, 6000))
@settings(deadline=None, max_examples=300)
def test_a_ray_is_always_the_ray_of_its_pixel(lens, u, v):
    """Whatever pixel is asked for, an answer marked ok is a unit vector that projects back to it."""
    model, values = lens
    params = kernel.with_limit(model, values)
    rx, ry, rz, ok = kernel.unproject_one(model, params, u, v)
    if not ok:
        assert np.isnan([rx, ry, rz]).all()
        return
    assert math.hypot(rx, ry, rz) == pytest.approx(1.0, abs=1e-12)
    inside = 1 - 1e-9  # a solution on the limit itself may fall beyond it by rounding
    if params[18] > 0:
        angle = math.atan2(math.hypot(rx, ry), rz)
        if model >= KANNALA_BRANDT:
            assert angle <= params[18] * (1 + 1e-9)
            if angle > params[18] * inside:
                return
        else:
            assert math.tan(angle) <= params[18] * (1 + 1e-9)
            if math.tan(angle) > params[18] * inside:
                return
    u2, v2, ok = kernel.project_one(model, params, rx, ry, rz)
    assert ok
    assert max(abs(u2 - u), abs(v2 - v)) < 1e-7 * max(1.0, abs(u), abs(v))
