"""Cameras of resized, cropped, turned and undistorted images; the methods of :class:`egopose.camera.Camera`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from egopose.camera import Camera
from egopose.errors import EgoposeError
from egopose.intrinsics import image_size, intrinsic_matrix
from egopose.rigid import Array, make_transform


def scaled(camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera of the image resized to ``size``: f' = s f, c' = s (c + 1/2) - 1/2 per axis."""
    s = np.array(size, dtype=np.float64) / camera.size
    params = camera.params.copy()
    params[:2] *= s
    params[2:4] = s * (params[2:4] + 0.5) - 0.5
    return replace(camera, size=size, params=params)


def cropped(camera: Camera, x0: int, y0: int, size: tuple[int, int]) -> Camera:
    """The camera of the part of the image that starts at pixel (x0, y0)."""
    params = camera.params.copy()
    params[2:4] -= (x0, y0)
    return replace(camera, size=size, params=params)


def _turned_clockwise(camera: Camera) -> Camera:
    """One quarter turn clockwise: pixel (u, v) goes to (H - 1 - v, u), so camera axes to (-y, x, z)."""
    w, h = camera.size
    p = camera.params.copy()
    p[:4] = p[1], p[0], h - 1 - p[3], p[2]
    if camera.model == "brown_conrady":
        p[6], p[7] = p[7], -p[6]  # p1 p2: p2 is the x component
        p[12], p[13], p[14], p[15] = -p[14], -p[15], p[12], p[13]
        if p[16] != 0 and p[17] != 0:
            raise EgoposeError(
                f"{camera.where}: the sensor is tilted about both axes ({p[16]:g}, {p[17]:g} rad); a quarter turn of "
                "it is not in OpenCV's model, undistort the images first or use a half turn"
            )
        p[16], p[17] = -p[17], p[16]
    elif camera.model == "fisheye624":
        p[10], p[11] = -p[11], p[10]
        p[12], p[13], p[14], p[15] = -p[14], -p[15], p[12], p[13]
    R_old_new = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    T = camera.T_world_camera @ make_transform(R_old_new, np.zeros(3))
    return replace(camera, size=(h, w), params=p, T_world_camera=T)


def rotated90(camera: Camera, k: int) -> Camera:
    """The camera of ``np.rot90(image, k)``."""
    if int(k) != k:
        raise EgoposeError(f"{camera.where}: k is {k!r}; expected a whole number of quarter turns")
    turns = -int(k) % 4
    if turns == 2 and camera.model == "brown_conrady" and camera.params[16:18].all():
        # a half turn about the axis keeps the order of the two tilts, so it is exact where a quarter is not
        tilt = camera.params[16:18]
        straight = camera.params.copy()
        straight[16:18] = 0.0
        half = rotated90(replace(camera, params=straight), 2)
        params = half.params.copy()
        params[16:18] = -tilt
        return replace(half, params=params)
    for _ in range(turns):
        camera = _turned_clockwise(camera)
    return camera


MIRRORED_SIGNS = {"pinhole": (), "kannala_brandt": (), "brown_conrady": (7, 12, 13, 17), "fisheye624": (10, 12, 13)}
"""Coefficients that are odd in x, by model: p2 s1 s2 and the tilt about y; p0 s0 s1."""


def mirrored(camera: Camera) -> Camera:
    """The lens of ``image[:, ::-1]``, which sees the world mirrored in its own x = 0; the pose is left alone."""
    params = camera.params.copy()
    params[2] = camera.size[0] - 1 - params[2]
    params[list(MIRRORED_SIGNS[camera.model])] *= -1
    return replace(camera, params=params)


def _plane(camera: Camera, uv: Array, what: str) -> Array:
    """Pixels to the plane z = 1 of the camera frame; refuses what the model cannot invert."""
    rays = camera.unproject(uv)
    flat = np.full(uv.shape, np.nan)
    front = rays[..., 2] > 1e-6
    flat[front] = rays[front][:, :2] / rays[front][:, 2:]
    if np.isnan(flat).any():
        u, v = uv[np.isnan(flat).any(axis=-1)][0]
        raise EgoposeError(
            f"{camera.where}: {what} at pixel ({u:g}, {v:g}) lies outside the valid range of the {camera.model} model "
            f"({np.degrees(camera.valid_angle):.1f} deg); give K and size of the undistorted image"
        )
    return flat


def fisheye_matrix(camera: Camera, balance: float, fov_scale: float) -> Array:
    """New intrinsic matrix by the rule of ``cv2.fisheye.estimateNewCameraMatrixForUndistortRectify``.

    The midpoints of the four image edges are undistorted. About their mean, in units of the x focal length, each
    side asks for the focal length that puts its midpoint on the edge of the new image; ``balance`` goes from the
    largest (0) to the smallest (1) of the four, and the mean goes to the centre.
    """
    w, h = camera.size
    edges = np.array([[w / 2, 0.0], [w, h / 2], [w / 2, h], [0.0, h / 2]])
    aspect = camera.params[0] / camera.params[1]
    points = _plane(camera, edges, "the edge of the image") * (1.0, aspect)
    middle = points.mean(axis=0)
    half = np.array([w, h * aspect]) / 2
    wanted = np.concatenate([half / (middle - points.min(axis=0)), half / (points.max(axis=0) - middle)])
    f = (balance * wanted.min() + (1 - balance) * wanted.max()) / fov_scale
    cx, cy = half - f * middle
    return np.array([[f, 0.0, cx], [0.0, f / aspect, cy / aspect], [0.0, 0.0, 1.0]])


def perspective_matrix(camera: Camera, alpha: float, size: tuple[int, int]) -> Array:
    """New intrinsic matrix by the rule of ``cv2.getOptimalNewCameraMatrix``.

    A 9 x 9 grid over the image is undistorted. The largest upright rectangle inside (alpha 0) and the smallest
    around it (alpha 1) are each mapped onto the new image, and their matrices mixed.
    """
    w, h = camera.size
    n = 9
    x, y = np.meshgrid(np.arange(n) * (w - 1) / (n - 1), np.arange(n) * (h - 1) / (n - 1))
    grid = _plane(camera, np.stack([x, y], -1).reshape(-1, 2), "the image").reshape(n, n, 2)
    inner = np.array([[grid[:, 0, 0].max(), grid[0, :, 1].max()], [grid[:, -1, 0].min(), grid[-1, :, 1].min()]])
    outer = np.array([grid.min(axis=(0, 1)), grid.max(axis=(0, 1))])
    last = np.array(size, dtype=np.float64) - 1
    if not (inner[1] > inner[0]).all():
        raise EgoposeError(f"{camera.where}: no rectangle of the image survives undistortion; give K")
    f = [last / (box[1] - box[0]) for box in (inner, outer)]
    c = [-f[i] * box[0] for i, box in enumerate((inner, outer))]
    (fx, fy), (cx, cy) = ((1 - alpha) * v[0] + alpha * v[1] for v in (f, c))
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def undistorted(
    camera: Camera,
    size: tuple[int, int] | None,
    K: ArrayLike | None,
    *,
    balance: float,
    alpha: float,
    fov_scale: float,
) -> Camera:
    """The pinhole camera of images remapped free of distortion."""
    new_size = camera.size if size is None else image_size(size, camera.where)
    for name, value in (("balance", balance), ("alpha", alpha)):
        if not 0 <= value <= 1:
            raise EgoposeError(f"{camera.where}: {name} is {value!r}; expected a number from 0 to 1")
    if not fov_scale > 0:
        raise EgoposeError(f"{camera.where}: fov_scale is {fov_scale!r}; expected a positive number")
    if K is not None:
        matrix = intrinsic_matrix(K, camera.where)
    elif camera.model == "pinhole":
        return replace(scaled(camera, new_size), image_space="undistorted")
    elif camera.model == "brown_conrady":
        matrix = perspective_matrix(camera, alpha, new_size)
    else:
        matrix = fisheye_matrix(camera, balance, fov_scale)
        matrix[:2] *= (np.array(new_size, dtype=np.float64) / camera.size)[:, None]
    params = matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
    return Camera("pinhole", new_size, params, camera.T_world_camera, camera.name, "undistorted")
