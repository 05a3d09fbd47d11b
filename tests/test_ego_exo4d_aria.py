"""The head camera: calibration of the videos, the undistorted image and the mask."""

from __future__ import annotations

import math

import numpy as np
import pytest

from egopose import Camera, EgoposeError
from egopose.ego_exo4d import aria
from egopose.ego_exo4d.standin_world import ARIA_PARAMS, aria_rgb


def fisheye624(params: tuple[float, ...], p: np.ndarray) -> np.ndarray:
    """The published model, written down plainly: f, cu, cv, k0..k5, p0, p1, s0..s3."""
    f, cu, cv, *k = params
    p0, p1, s0, s1, s2, s3 = k[6:]
    a, b = p[0] / p[2], p[1] / p[2]
    r = math.hypot(a, b)
    th = math.atan(r)
    g = 1 + sum(k[i] * th ** (2 * i + 2) for i in range(6))
    xr, yr = (g * th / r * a, g * th / r * b) if r > 0 else (a, b)
    rd2 = xr * xr + yr * yr
    dot = 2 * (xr * p0 + yr * p1)
    u = xr + dot * xr + rd2 * p0 + s0 * rd2 + s1 * rd2**2
    v = yr + dot * yr + rd2 * p1 + s2 * rd2 + s3 * rd2**2
    return np.array([f * u + cu, f * v + cv])


def rays(n: int = 500, max_angle: float = 0.99) -> np.ndarray:
    rng = np.random.default_rng(0)
    theta, phi = rng.uniform(0.01, max_angle, n), rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)


def test_sensor_to_video_rule() -> None:
    sensor = aria_rgb()
    video = aria.video_camera(sensor)
    f, cu, cv = ARIA_PARAMS[:3]
    np.testing.assert_allclose(video.params[:4], [f / 2, f / 2, (cu - 32.5) / 2, (cv - 32.5) / 2])
    np.testing.assert_array_equal(video.params[4:], sensor.params[4:])
    assert video.size == (1408, 1408)
    assert video.max_angle == 1.0
    assert aria.video_camera(video) == video
    for p in rays(50):
        uv = fisheye624((f / 2, (cu - 32.5) / 2, (cv - 32.5) / 2, *ARIA_PARAMS[3:]), p)
        np.testing.assert_allclose(video.project(p, frame="camera"), uv, atol=1e-9)


def test_wrong_sizes_are_noticed() -> None:
    # the calibration of the 2880 px sensor stated for a 1408 px image
    with pytest.raises(EgoposeError, match="taken for the other"):
        aria.video_camera(Camera.fisheye624(ARIA_PARAMS, (1408, 1408)))
    with pytest.raises(EgoposeError, match="640x480"):
        aria.video_camera(Camera.fisheye624(ARIA_PARAMS, (640, 480)))


def test_raw_and_undistorted_land_on_the_same_scene_point() -> None:
    video = aria.video_camera(aria_rgb())
    linear = aria.linear_camera(video.T_world_camera)
    points = rays() * np.random.default_rng(1).uniform(0.2, 3, (500, 1))
    raw, pinhole = video.project(points, frame="camera"), linear.project(points, frame="camera")
    assert np.isfinite(raw).all()
    # raw pixel -> ray -> pinhole and back
    np.testing.assert_allclose(linear.project(video.unproject(raw), frame="camera"), pinhole, atol=0.01)
    np.testing.assert_allclose(video.project(linear.unproject(pinhole), frame="camera"), raw, atol=0.01)
    # and through the table that remaps images
    table = aria.Undistorter.between(video, linear)
    inside = linear.in_image(pinhole) & (np.linalg.norm(pinhole - 255.5, axis=-1) < 230)
    x0 = np.floor(pinhole[inside]).astype(int)
    w = pinhole[inside] - x0
    corner = lambda dx, dy: table.map_px[x0[:, 1] + dy, x0[:, 0] + dx].astype(float)  # noqa: E731
    mapped = (
        corner(0, 0) * ((1 - w[:, :1]) * (1 - w[:, 1:])) + corner(1, 0) * (w[:, :1] * (1 - w[:, 1:]))
        + corner(0, 1) * ((1 - w[:, :1]) * w[:, 1:]) + corner(1, 1) * (w[:, :1] * w[:, 1:])
    )  # fmt: skip
    assert np.abs(mapped - raw[inside]).max() < 0.02


def test_quarter_turns_move_pixels_and_points_together() -> None:
    T = aria_rgb().T_world_camera
    points = (rays(80) * 2) @ T[:3, :3].T + T[:3, 3]
    landscape, portrait = aria.linear_camera(T), aria.linear_camera(T, portrait=True)
    uv = landscape.project(points)
    np.testing.assert_allclose(portrait.project(points), aria.to_portrait_px(uv), atol=1e-9)
    np.testing.assert_allclose(aria.to_landscape_px(aria.to_portrait_px(uv)), uv, atol=1e-12)
    R = portrait.T_camera_world[:3, :3] @ landscape.T_world_camera[:3, :3]
    np.testing.assert_allclose(R, aria.PORTRAIT_FROM_LANDSCAPE, atol=1e-12)
    # the published rule for coefficients: p -> (-p1, p0), s -> (-s2, -s3, s0, s1), centre -> (H - 1 - cv, cu)
    video = aria.video_camera(aria_rgb())
    turned = video.rotated90(-1)
    f, _, cu, cv = video.params[:4]
    p0, p1, s0, s1, s2, s3 = video.params[10:]
    np.testing.assert_allclose(turned.params[:4], [f, f, 1407 - cv, cu])
    np.testing.assert_allclose(turned.params[10:], [-p1, p0, -s2, -s3, s0, s1])


def test_mask_is_a_disc() -> None:
    assert pytest.approx(233.6, abs=0.05) == aria.MASK_RADIUS_PX
    mask = aria.visible_mask()
    y, x = np.nonzero(mask)
    assert np.hypot(x - 255.5, y - 255.5).max() <= aria.MASK_RADIUS_PX
    assert mask.sum() == pytest.approx(np.pi * aria.MASK_RADIUS_PX**2, rel=1e-3)
    np.testing.assert_array_equal(mask, aria.visible_mask(portrait=True))
    # the table from the lens model arrives at the same disc, up to its rim
    table = aria.ego_undistorter(aria_rgb())
    differ = table.mask ^ mask
    rim = np.abs(np.hypot(*np.meshgrid(np.arange(512) - 255.5, np.arange(512) - 255.5)) - aria.MASK_RADIUS_PX)
    assert rim[differ].size == 0 or rim[differ].max() < 1.0


@pytest.mark.parametrize("portrait", [False, True])
@pytest.mark.parametrize("size", [1408, 448])
def test_undistorted_frame_shows_the_scene(portrait: bool, size: int) -> None:
    """Blobs drawn where the raw camera sees scene points appear where the pinhole camera sees them."""
    cv2 = pytest.importorskip("cv2")
    table = aria.ego_undistorter(aria_rgb(), portrait=portrait, size=size)
    upright = aria.video_camera(aria_rgb()).scaled((size, size)).rotated90(-1)
    landscape_points = np.array([[0.3, -0.2, 1.0], [-0.5, 0.4, 1.0], [0.1, 0.7, 1.0], [-0.7, -0.6, 1.0]])
    T = aria_rgb().T_world_camera
    world = landscape_points @ T[:3, :3].T + T[:3, 3]
    for point in world:
        u, v = upright.project(point)
        grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1)
        blob = np.exp(-((grid - [u, v]) ** 2).sum(-1) / (2 * (size / 250) ** 2))
        frame = np.repeat((255 * blob)[..., None], 3, -1).astype(np.uint8)
        image = table.apply(frame).astype(float)[..., 0]
        image[image < 40] = 0
        moments = cv2.moments(image)
        found = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
        expected = aria.linear_camera(T, portrait=portrait).project(point)
        assert np.abs(found - expected).max() < 0.15
    black = table.apply(np.full((size, size, 3), 255, dtype=np.uint8))
    np.testing.assert_array_equal(black[..., 0] > 0, table.mask)
    with pytest.raises(EgoposeError, match="expected"):
        table.apply(np.zeros((100, 100, 3), dtype=np.uint8))


def test_tables_join_cameras_at_one_place_only() -> None:
    video = aria.video_camera(aria_rgb())
    with pytest.raises(EgoposeError, match="different places"):
        aria.Undistorter.between(video, aria.linear_camera())
