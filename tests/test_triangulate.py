"""Points from many views: exactness, optimality, robustness, calibration of the error bars, statuses, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.stats import chi2

from egopose.camera import Camera
from egopose.pose import JointStatus
from egopose.rigid import make_transform, rotation_from_vector, transform_points
from egopose.triangulate import packing, triangulate_points
from tests.synthetic import body_points, observe, ring_cameras

LENSES = ["pinhole", "brown_conrady", "fisheye"]


def aria_camera(T_world_camera) -> Camera:
    params = [240.0, 319.5, 239.5, -0.02, 0.1, -0.06, 0.02, -0.003, 0.0002, 8e-4, -3e-4, 5e-4, 2e-5, -4e-4, 1e-5]
    return Camera.fisheye624(params, (640, 480), T_world_camera, name="aria")


def noisy(count: int, n_points: int, seed: int, **kwargs):
    rng = np.random.default_rng(seed)
    cameras = ring_cameras(count, lens=kwargs.pop("lens", "pinhole"))
    points = body_points(n_points, rng)
    uv, wrong = observe(cameras, points, rng, **kwargs)
    return cameras, points, uv, wrong


def distance_mm(solved, points):
    error = 1e3 * np.linalg.norm(solved.points - points, axis=1)
    return np.where(np.isfinite(error), error, np.inf)


def mahalanobis2(solved, points, which):
    difference = (solved.points - points)[which]
    return np.einsum("ni,ni->n", difference, np.linalg.solve(solved.covariance[which], difference[..., None])[..., 0])


# --- exactness and optimality ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("method", ["robust", "linear"])
def test_exact_pixels_give_exact_points(lens, method):
    cameras, points, uv, _ = noisy(4, 500, 1, lens=lens, noise_px=0)
    solved = triangulate_points(cameras, uv, threshold=2.0, method=method)
    np.testing.assert_allclose(solved.points, points, atol=1e-8)
    assert (solved.status == JointStatus.OK).all()
    assert solved.error_px.max() < 1e-5
    assert solved.used.all()


def test_mixed_lenses_with_a_wide_fisheye_beyond_90_degrees():
    rng = np.random.default_rng(2)
    head = make_transform(rotation_from_vector([0.3, -0.2, 0.1]), [0.1, 0.0, 1.6])
    wide = Camera.from_opencv(
        [[300, 0, 640], [0, 300, 640], [0, 0, 1]], [-0.01, 0.002, 0, 0], np.eye(3), [0, 0, 0], (1280, 1280),
        fisheye=True, name="wide",
    ).moved(make_transform(np.eye(3), [0.0, 0.0, 1.0]))  # fmt: skip
    cameras = [*ring_cameras(2, lens="brown_conrady"), aria_camera(head), wide]
    points = body_points(400, rng)
    uv, _ = observe(cameras, points, rng, noise_px=0)
    behind = (points[:, 2] < 1.0) & np.isfinite(uv[3, :, 0])
    assert behind.sum() > 50
    solved = triangulate_points(cameras, uv, threshold=2.0)
    enough = np.isfinite(uv[..., 0]).sum(axis=0) >= 2
    np.testing.assert_allclose(solved.points[enough], points[enough], atol=1e-6)
    assert solved.used[3, behind].all()


def test_residual_equals_the_raw_reprojection_error_to_first_order():
    from egopose.kernels.robust import squared_error
    from egopose.kernels.triangulation import lens_rows

    rng = np.random.default_rng(3)
    head = make_transform(rotation_from_vector([0.0, 0.2, 0.0]), [0.0, 0.0, -2.0])
    base = make_transform(np.eye(3), [0.0, 0.0, -2.0])
    cameras = [camera.moved(base) for lens in LENSES[1:] for camera in ring_cameras(1, lens=lens)] + [aria_camera(head)]
    for camera in cameras:
        model, params, T = camera.packed()
        worst = []
        points = rng.uniform(-0.6, 0.6, (60, 3))
        for offset_px in (8.0, 4.0, 2.0):
            errors = []
            for point in points:
                observed = camera.project(point) + offset_px * np.array([0.6, 0.8])
                rows = np.empty((1, 12))
                assert lens_rows(model, params, T, observed[0], observed[1], rows, 0)
                errors.append(abs(np.sqrt(squared_error(rows, 0, *point)) - offset_px))
            worst.append(max(errors))
        # a first-order model errs with the square of the offset: half the offset, a quarter of the error
        assert worst[0] < 0.02 * 8.0
        assert worst[0] / worst[1] == pytest.approx(4.0, rel=0.35)
        assert worst[1] / worst[2] == pytest.approx(4.0, rel=0.35)


@pytest.mark.parametrize("lens", LENSES)
def test_refined_point_minimises_the_raw_reprojection_error(lens):
    cameras, _, uv, _ = noisy(5, 40, 4, lens=lens)
    solved = triangulate_points(cameras, uv, threshold=20.0, sigma_px=1.0)
    for n in range(uv.shape[1]):
        start = solved.points[n]
        depth = np.array([(camera.T_camera_world @ np.append(start, 1.0))[2] for camera in cameras])
        root = np.sqrt(depth / depth.mean())[:, None]

        def residual(x, n=n, root=root):
            return (root * (np.stack([camera.project(x) for camera in cameras]) - uv[:, n])).ravel()

        oracle = least_squares(residual, start, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14)
        sigma = np.sqrt(np.trace(solved.covariance[n]))
        assert np.linalg.norm(oracle.x - start) < 0.02 * sigma
        expected = np.linalg.inv(oracle.jac.T @ oracle.jac)
        scale = np.trace(solved.covariance[n]) / np.trace(expected)
        # a fisheye's rows measure depth along the ray, which moves the relative weights a little
        np.testing.assert_allclose(solved.covariance[n] / scale, expected, atol=0.02 * np.trace(expected))
        freedom = 2 * len(cameras) - 3
        excess = 2 * oracle.cost / chi2.ppf(0.95, freedom)
        assert scale == pytest.approx(max(1.0, excess), rel=0.03)


# --- accuracy, robustness, calibration --------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "share"), [(4, 0.965), (5, 0.99), (8, 0.999)])
def test_one_pixel_noise_and_a_fifth_of_the_views_wrong(count, share):
    cameras, points, uv, _ = noisy(count, 100_000, 7, outlier_share=0.2)
    solved = triangulate_points(cameras, uv)
    error = distance_mm(solved, points)
    ok = solved.status == JointStatus.OK
    assert (error < 30).mean() >= share
    assert (error[ok] < 30).mean() >= 0.995
    if count >= 5:
        assert ok.mean() > 0.93
        assert (error[ok] < 30).mean() >= 0.9995


@pytest.mark.parametrize("count", [2, 3, 4, 8])
@pytest.mark.parametrize("outlier_share", [0.0, 0.2])
def test_error_ellipsoids_cover_what_they_say(count, outlier_share):
    if count == 2 and outlier_share:
        pytest.skip("two views cannot tell which one is wrong")
    cameras, points, uv, _ = noisy(count, 20_000, 11, outlier_share=outlier_share, noise_px=1.5)
    solved = triangulate_points(cameras, uv)
    which = solved.status == (JointStatus.TWO_VIEWS if count == 2 else JointStatus.OK)
    assert which.mean() > (0.4 if outlier_share else 0.95)
    distance = mahalanobis2(solved, points, which)
    # three views with a fifth wrong: a few agree by chance, and the fit hides part of it
    slack = 0.02 if count == 3 and outlier_share else 0.0
    assert 0.45 < (distance < chi2.ppf(0.5, 3)).mean() < 0.55
    assert 0.87 - slack < (distance < chi2.ppf(0.9, 3)).mean() < 0.93
    if count > 2:
        assert solved.sigma_px == pytest.approx(1.5, rel=0.06)


def test_disagreeing_views_widen_the_error_bar():
    cameras, _, uv, _ = noisy(4, 200, 12)
    calm = triangulate_points(cameras, uv, threshold=60.0, sigma_px=1.0)
    uv[0] += [12.0, 0.0]
    torn = triangulate_points(cameras, uv, threshold=60.0, sigma_px=1.0)
    assert torn.used.all()
    assert np.median(torn.sigma / calm.sigma) > 2
    assert (torn.sigma > 1.5 * calm.sigma).all()
    assert np.median(calm.sigma) < 5e-3


def test_threshold_follows_the_noise_of_the_take():
    thresholds = {}
    for noise in (0.3, 1.0, 5.0):
        cameras, _, uv, _ = noisy(5, 4000, 13, noise_px=noise, outlier_share=0.15)
        solved = triangulate_points(cameras, uv)
        thresholds[noise] = solved.threshold_px
        assert solved.threshold.source == "estimated"
        assert solved.sigma_px == pytest.approx(noise, rel=0.08)
        assert 3.5 * noise < solved.threshold_px < 8.5 * noise
    assert thresholds[0.3] < thresholds[1.0] < thresholds[5.0]


def test_threshold_of_two_cameras_and_of_few_points():
    cameras, _, uv, _ = noisy(2, 4000, 14)
    pair = triangulate_points(cameras, uv)
    assert pair.sigma_px == pytest.approx(1.0, rel=0.1)
    assert 3.0 < pair.threshold_px < 9.0
    few = triangulate_points(cameras, uv[:, :5])
    assert few.threshold.source == "default"
    assert few.threshold_px == 15.0
    none = triangulate_points(cameras, uv[:, :0])
    assert none.points.shape == (0, 3)
    assert none.used.shape == (2, 0)
    for method in ("robust", "linear"):
        blind = triangulate_points(cameras, np.full_like(uv, np.nan), method=method)
        assert (blind.status == JointStatus.MISSING).all()
        assert np.isnan(blind.points).all()


@pytest.mark.parametrize(("outlier_share", "threshold"), [(0.4, "auto"), (0.5, 6.0)])
def test_many_cameras_at_bounded_cost(outlier_share, threshold):
    cameras, points, uv, wrong = noisy(31, 3000, 15, outlier_share=outlier_share)
    for max_pairs in (64, 16):
        solved = triangulate_points(cameras, uv, threshold=threshold, max_pairs=max_pairs)
        error = distance_mm(solved, points)
        assert (error < 10).mean() > (0.999 if max_pairs == 64 else 0.96)
        known = solved.status == JointStatus.OK
        assert not (solved.used & wrong)[:, known].mean() > 0.01


def test_scores_decide_who_is_trusted():
    cameras, points, uv, wrong = noisy(4, 20_000, 16, outlier_share=0.3)
    rng = np.random.default_rng(16)
    score = np.where(wrong, rng.uniform(0.05, 0.4, wrong.shape), rng.uniform(0.7, 1.0, wrong.shape))
    blind = triangulate_points(cameras, uv)
    told = triangulate_points(cameras, uv, score)
    right = triangulate_points(cameras, np.where(wrong[..., None], np.nan, uv), threshold=1000.0)
    best, with_score, without = ((distance_mm(s, points) < 30).mean() for s in (right, told, blind))
    # more than half of what is lost without scores comes back
    assert with_score - without > 0.5 * (best - without) > 0.002
    linear = triangulate_points(cameras, uv, score, method="linear")
    assert np.median(distance_mm(linear, points)) < np.median(
        distance_mm(triangulate_points(cameras, uv, method="linear"), points)
    )


def test_score_zero_is_unseen():
    cameras, _, uv, wrong = noisy(5, 2000, 17, outlier_share=0.2)
    score = np.where(wrong, 0.0, 1.0)
    a = triangulate_points(cameras, uv, score, threshold=8.0)
    b = triangulate_points(cameras, np.where(wrong[..., None], np.nan, uv), threshold=8.0)
    np.testing.assert_array_equal(a.points, b.points)
    np.testing.assert_array_equal(a.status, b.status)
    c = triangulate_points(cameras, uv, np.where(wrong, np.nan, 1.0), threshold=8.0)
    np.testing.assert_array_equal(a.points, c.points)


# --- status -----------------------------------------------------------------------------------------------------------


def test_kernel_codes_are_the_public_ones():
    from egopose.kernels import robust

    for name in ("OK", "TWO_VIEWS", "LOW_ANGLE", "NO_CONSENSUS", "MISSING"):
        assert getattr(robust, name) == JointStatus[name]


def test_every_status():
    cameras = ring_cameras(4)
    point = np.array([0.1, 0.2, 1.0])
    exact = np.stack([camera.project(point) for camera in cameras])
    uv = np.repeat(exact[:, None], 6, axis=1)
    uv[1:, 1] = np.nan  # one view
    uv[2:, 2] = np.nan  # two that agree
    uv[2:, 3] = np.nan  # two that do not
    uv[0, 3] += [0.0, 90.0]
    uv[2, 4] += [150.0, -220.0]  # two agree, two contradict
    uv[3, 4] += [-90.0, 260.0]
    uv[:, 5] = np.nan
    solved = triangulate_points(cameras, uv, threshold=5.0)
    assert solved.status_names() == ["ok", "missing", "two_views", "no_consensus", "two_views", "missing"]
    known = np.isfinite(solved.points).all(axis=1)
    np.testing.assert_array_equal(known, [True, False, True, False, True, False])
    np.testing.assert_array_equal(np.isfinite(solved.covariance).all(axis=(1, 2)), known)
    np.testing.assert_array_equal(np.isfinite(solved.error_px), known)
    np.testing.assert_array_equal(solved.n_used, [4, 0, 2, 0, 2, 0])
    assert solved.status_counts() == {"ok": 1, "two_views": 2, "low_angle": 0, "no_consensus": 1, "missing": 2}


def test_narrow_rays_are_low_angle_and_say_so_in_the_error_bar():
    K = [[1400, 0, 960], [0, 1400, 540], [0, 0, 1]]
    cameras = [Camera.from_opencv(K, None, np.eye(3), [-0.05 * i, 0, 0], (1920, 1080)) for i in range(3)]
    point = np.array([[0.0, 0.0, 5.0]])
    uv = np.stack([camera.project(point) for camera in cameras])
    solved = triangulate_points(cameras, uv, threshold=5.0)
    assert solved.status_names() == ["low_angle"]
    assert solved.covariance[0, 2, 2] > 400 * solved.covariance[0, 0, 0]
    assert triangulate_points(cameras, uv, threshold=5.0, min_angle_deg=0.5).status_names() == ["ok"]
    assert triangulate_points(cameras, uv, method="linear").status_names() == ["low_angle"]


def test_a_point_behind_the_cameras_is_no_consensus():
    K = [[1400, 0, 960], [0, 1400, 540], [0, 0, 1]]
    cameras = [Camera.from_opencv(K, None, np.eye(3), [-i, 0, 0], (1920, 1080)) for i in range(3)]
    behind = np.array([0.5, 0.2, -4.0])
    # what a pinhole formula without a depth test would make of it
    uv = np.stack([(behind - camera.center_world)[:2] / behind[2] * 1400 + [960, 540] for camera in cameras])[:, None]
    solved = triangulate_points(cameras, uv, threshold=5.0)
    assert solved.status_names() == ["no_consensus"]
    assert np.isnan(solved.points).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 11), missing=st.floats(0, 0.9), wild=st.floats(0, 1))
def test_never_a_point_without_a_status(seed, count, missing, wild):
    rng = np.random.default_rng(seed)
    cameras = ring_cameras(count, lens=LENSES[seed % 3])
    uv, _ = observe(
        cameras, body_points(50, rng), rng, outlier_share=wild, outlier_px=10.0 ** rng.uniform(0, 6),
        missing_share=missing,
    )  # fmt: skip
    uv[rng.random(uv.shape) < 0.02] = np.inf
    solved = triangulate_points(cameras, uv, threshold=6.0)
    known = np.isfinite(solved.points).all(axis=1)
    assert np.array_equal(known, np.isin(solved.status, (0, 1, 2)))
    assert np.array_equal(np.isnan(solved.points).all(axis=1), ~known)
    assert np.array_equal(solved.n_used >= 2, known)
    assert not (solved.used & ~np.isfinite(uv).all(axis=-1)).any()
    assert (solved.n_used[solved.status == JointStatus.OK] >= 3).all()
    eigenvalues = np.linalg.eigvalsh(solved.covariance[known])
    assert (eigenvalues > 0).all()


# --- invariance -------------------------------------------------------------------------------------------------------


def test_result_depends_on_no_chunk_no_thread_and_no_neighbour(monkeypatch):
    cameras, _, uv, _ = noisy(5, 3000, 20, outlier_share=0.2, lens="brown_conrady")
    reference = triangulate_points(cameras, uv, threshold=8.0, threads=1)
    monkeypatch.setattr(packing, "thread_count", lambda threads, n: threads or 1)
    monkeypatch.setattr(packing, "CHUNK", 137)
    from egopose.triangulate import solve

    monkeypatch.setattr(solve, "thread_count", lambda threads, n: threads or 1)
    chunked = triangulate_points(cameras, uv, threshold=8.0, threads=3)
    part = triangulate_points(cameras, uv[:, 1000:1010], threshold=8.0)
    for name in ("points", "covariance", "used", "error_px", "status"):
        np.testing.assert_array_equal(getattr(reference, name), getattr(chunked, name))
    np.testing.assert_array_equal(reference.points[1000:1010], part.points)
    a = triangulate_points(cameras, uv, method="linear", threads=1).points
    monkeypatch.setattr(packing, "CHUNK", 999)
    np.testing.assert_array_equal(a, triangulate_points(cameras, uv, method="linear", threads=2).points)


def test_same_seed_same_threshold():
    cameras, _, uv, _ = noisy(4, 20_000, 21, outlier_share=0.2)
    a, b = triangulate_points(cameras, uv), triangulate_points(cameras, uv)
    assert a.threshold == b.threshold
    c = triangulate_points(cameras, uv, seed=5)
    assert c.threshold_px == pytest.approx(a.threshold_px, rel=0.1)


@pytest.mark.parametrize("method", ["robust", "linear"])
def test_world_frame_does_not_matter(method):
    cameras, _, uv, _ = noisy(4, 500, 22, outlier_share=0.1, lens="brown_conrady")
    T = make_transform(rotation_from_vector([0.4, -1.1, 2.0]), [4.2e5, -5.1e6, 130.0])
    moved = [camera.moved(T @ camera.T_world_camera) for camera in cameras]
    a = triangulate_points(cameras, uv, threshold=8.0, method=method)
    b = triangulate_points(moved, uv, threshold=8.0, method=method)
    np.testing.assert_array_equal(a.status, b.status)
    # 5,100 km from the origin a float64 resolves about 1 nm; the rotation of the poses costs some more
    np.testing.assert_allclose(b.points, transform_points(T, a.points), atol=1e-5)
    R = T[:3, :3]
    np.testing.assert_allclose(b.covariance, R @ a.covariance @ R.T, rtol=1e-3, atol=1e-8)


def test_order_of_cameras_does_not_matter():
    cameras, _, uv, _ = noisy(6, 2000, 23, outlier_share=0.1)
    order = [3, 0, 5, 1, 4, 2]
    a = triangulate_points(cameras, uv, threshold=6.0)
    b = triangulate_points([cameras[i] for i in order], uv[order], threshold=6.0)
    same = np.linalg.norm(a.points - b.points, axis=1) < 1e-6
    # where a view lies at the edge of the threshold the first sufficient pair decides
    assert same.mean() > 0.99
    np.testing.assert_array_equal(a.used[order][:, same], b.used[:, same])
