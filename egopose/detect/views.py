"""Virtual pinhole views through any lens: what a net trained on ordinary pictures is given to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.errors import import_cv2

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """A square pinhole view from the camera's place.

    Attributes:
        R_camera_view: (3, 3), columns are the view's axes (x right, y down, z forward) in camera axes.
        focal: Focal length in units of half the side.
    """

    R_camera_view: Array
    focal: float

    @staticmethod
    def aimed(ray: Array, up: Array, focal: float) -> View:
        """A view along ``ray`` (3,) whose upper edge lies towards ``up`` (3,), both in camera axes."""
        z = ray / np.linalg.norm(ray)
        y = -(up - z * (up @ z))
        length = float(np.linalg.norm(y))
        if length < 1e-6:
            y, length = np.eye(3)[int(np.argmin(np.abs(z)))], 1.0
            y = y - z * (y @ z)
            length = float(np.linalg.norm(y))
        y = y / length
        return View(np.stack([np.cross(y, z), y, z], axis=1), focal)

    def rays(self, points: Array) -> Array:
        """Unit rays (..., 3) in camera axes of points (..., 2) in half sides from the view's centre."""
        local = np.concatenate([points, np.full((*points.shape[:-1], 1), self.focal)], axis=-1)
        local /= np.linalg.norm(local, axis=-1, keepdims=True)
        return np.asarray(local @ self.R_camera_view.T, dtype=np.float64)

    def points(self, rays: Array) -> Array:
        """The inverse: half sides (..., 2); NaN behind the view."""
        local = rays @ self.R_camera_view
        with np.errstate(divide="ignore", invalid="ignore"):
            out = self.focal * local[..., :2] / local[..., 2:]
        return np.asarray(np.where(local[..., 2:] > 1e-6, out, np.nan), dtype=np.float64)

    def image(self, frame: NDArray[np.uint8], camera: Camera, side: int) -> NDArray[np.float32]:
        """The frame (H, W, 3) as this view sees it, (side, side, 3) float32 in [0, 1], black outside the image."""
        cv2 = import_cv2()
        coarse = max(9, side // 16 + 1)
        at = np.linspace(-1 + 1 / side, 1 - 1 / side, coarse)
        rays = self.rays(np.stack(np.meshgrid(at, at), axis=-1))
        uv = camera.project(rays, frame="camera")
        known: NDArray[np.bool_] = np.asarray(np.isfinite(uv).all(axis=-1))
        if not known.any():
            return np.zeros((side, side, 3), dtype=np.float32)
        # bilinear sampling skips pixels where the view is coarser than the frame: average first
        step = np.linalg.norm(np.diff(uv, axis=1), axis=-1)
        finite = step[np.isfinite(step)]
        shrink = int(np.median(finite) * (coarse - 1) / side) if finite.size else 1
        source = frame
        if shrink > 1:
            size = (max(1, frame.shape[1] // shrink), max(1, frame.shape[0] // shrink))
            source = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            ratio = np.array([size[0] / frame.shape[1], size[1] / frame.shape[0]])
            uv = (uv + 0.5) * ratio - 0.5
        uv = np.where(known[..., None], uv, -1e4).astype(np.float32)
        where = np.linspace(0, coarse - 1, side, dtype=np.float32)
        gx, gy = np.meshgrid(where, where)
        table = cv2.remap(uv, gx, gy, cv2.INTER_LINEAR)
        picture = cv2.remap(source, table[..., 0], table[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(picture, dtype=np.float32) / 255.0


def search_views(camera: Camera) -> list[View]:
    """Views that together cover a lens: one wide view, then closer ones around it for small hands.

    Hands of a wearer are mostly below the middle of the image, so those views come first.
    """
    w, h = camera.size
    edge = np.array([[0, (h - 1) / 2], [w - 1, (h - 1) / 2], [(w - 1) / 2, 0], [(w - 1) / 2, h - 1]])
    rays = camera.unproject(edge)
    rays = rays[np.isfinite(rays).all(axis=1)]
    half = float(np.arccos(np.clip(rays[:, 2], -1, 1)).max()) if len(rays) else np.radians(60)
    # beyond 100 degrees a pinhole view squeezes its middle: the wide view stops there and others look aside
    wide = min(half, np.radians(50))
    up = np.array([0.0, -1.0, 0.0])

    def towards(right: float, down: float, angle: float) -> View:
        direction = np.array([np.sin(right) * np.cos(down), np.sin(down), np.cos(right) * np.cos(down)])
        return View.aimed(direction, up, 1 / np.tan(angle))

    views = [towards(0.0, 0.0, wide)]
    side = max(half - np.radians(35), 0.35 * half)
    near = float(np.clip(0.6 * half, np.radians(15), np.radians(38)))
    for right, down in ((0, 1), (-1, 0.7), (1, 0.7), (-1, -0.2), (1, -0.2)):
        views.append(towards(right * side, down * side, near))
    return views
