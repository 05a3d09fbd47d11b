"""The Aria RGB camera of Ego-Exo4D: calibration of its videos, the undistorted 512 px image and its mask.

The sensor lies on its side. Its own image is called *landscape* here (x points to the ground when the wearer stands);
the mp4 files hold the upright image, *portrait*: the landscape one turned by a quarter clockwise. Calibrations, hand
coordinates and annotations are landscape.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.camera import Camera
from egopose.errors import EgoposeError, import_cv2

SENSOR_SIZE = 2880
VIDEO_SIZE = 1408
BORDER = (SENSOR_SIZE - 2 * VIDEO_SIZE) // 2
"""Rows and columns cut off on each side before the image is halved."""
LINEAR_SIZE, LINEAR_FOCAL, LINEAR_CENTRE = 512, 150.0, 255.5
MAX_ANGLE = 1.0
"""Largest angle from the optical axis that the RGB camera of the first generation sees, radians."""
MASK_RADIUS_PX = LINEAR_FOCAL * math.tan(MAX_ANGLE)


def video_camera(camera: Camera) -> Camera:
    """The landscape camera of the 1408 px video from the calibration of either size.

    The 2880 px sensor image loses 32 px on each side and is halved: ``f / 2``, ``c -> (c - 32.5) / 2``.

    Args:
        camera: Landscape Fisheye624 camera of 2880 or 1408 px.

    Raises:
        EgoposeError: Another size; the principal point tells whether the stated size is true.
    """
    size = camera.size
    if size not in ((SENSOR_SIZE, SENSOR_SIZE), (VIDEO_SIZE, VIDEO_SIZE)):
        raise EgoposeError(
            f"{camera.where}: size is {size[0]}x{size[1]}; expected {SENSOR_SIZE} (sensor) or {VIDEO_SIZE} (video)"
        )
    centre = camera.params[2:4]
    if np.abs(centre - size[0] / 2).max() > 0.15 * size[0]:
        raise EgoposeError(
            f"{camera.where}: the principal point ({centre[0]:.1f}, {centre[1]:.1f}) does not belong to a "
            f"{size[0]} px image; one of the sizes {SENSOR_SIZE} and {VIDEO_SIZE} was taken for the other"
        )
    if camera.max_angle is None:
        camera = Camera(
            camera.model, size, camera.params, camera.T_world_camera, camera.name, camera.image_space, MAX_ANGLE
        )
    if size[0] == VIDEO_SIZE:
        return camera
    return camera.cropped(BORDER, BORDER, 2 * VIDEO_SIZE, 2 * VIDEO_SIZE).scaled((VIDEO_SIZE, VIDEO_SIZE))


def linear_camera(T_world_camera: ArrayLike | None = None, *, portrait: bool = False, name: str = "aria01") -> Camera:
    """The pinhole camera of the undistorted image: 512 px, f 150, centre 255.5.

    Args:
        T_world_camera: (4, 4) pose of the *landscape* camera.
        portrait: The image turned a quarter clockwise; the camera frame turns with it.
        name: Name of the camera.
    """
    camera = Camera.pinhole(
        LINEAR_FOCAL, (LINEAR_CENTRE, LINEAR_CENTRE), (LINEAR_SIZE, LINEAR_SIZE), T_world_camera, name=name,
        image_space="undistorted",
    )  # fmt: skip
    return camera.rotated90(-1) if portrait else camera


def to_portrait_px(uv_px: ArrayLike, height: int = LINEAR_SIZE) -> NDArray[np.float64]:
    """Landscape pixels (..., 2) in the upright image: (x, y) -> (H - 1 - y, x)."""
    uv = np.asarray(uv_px, dtype=np.float64)
    return np.stack([height - 1 - uv[..., 1], uv[..., 0]], axis=-1)


def to_landscape_px(uv_px: ArrayLike, height: int = LINEAR_SIZE) -> NDArray[np.float64]:
    """The inverse of :func:`to_portrait_px`."""
    uv = np.asarray(uv_px, dtype=np.float64)
    return np.stack([uv[..., 1], height - 1 - uv[..., 0]], axis=-1)


PORTRAIT_FROM_LANDSCAPE = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""Rotation of camera coordinates that goes with :func:`to_portrait_px`."""


@functools.cache
def visible_mask(*, portrait: bool = False) -> NDArray[np.bool_]:
    """(512, 512) true where the undistorted image shows something: a disc of 150 tan(1 rad) = 233.6 px; read-only."""
    axis = np.arange(LINEAR_SIZE) - LINEAR_CENTRE
    disc = np.asarray(np.hypot(axis[:, None], axis[None]) <= MASK_RADIUS_PX, dtype=np.bool_)
    mask = np.ascontiguousarray(np.rot90(disc, -1)) if portrait else disc
    mask.setflags(write=False)
    return mask


@dataclass(frozen=True, eq=False)
class Undistorter:
    """Where each pixel of an undistorted image comes from.

    Attributes:
        source: Camera of the frames as they are given to :meth:`apply`.
        target: Camera of the result, at the same pose up to quarter turns.
        map_px: (H, W, 2) float32 pixel of the source, -1 where the source shows nothing.
        mask: (H, W) whether the source shows the pixel.
    """

    source: Camera
    target: Camera
    map_px: NDArray[np.float32]
    mask: NDArray[np.bool_]

    @classmethod
    def between(cls, source: Camera, target: Camera) -> Undistorter:
        """Tables from one camera to another at the same place.

        Raises:
            EgoposeError: The cameras are at different places.
        """
        if np.linalg.norm(source.center_world - target.center_world) > 1e-6:
            raise EgoposeError(f"{source.where} and {target.where} are at different places; a table cannot join them")
        w, h = target.size
        grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).astype(np.float64)
        rays = target.unproject(grid) @ (source.T_world_camera[:3, :3].T @ target.T_world_camera[:3, :3]).T
        uv = source.project(rays, frame="camera")
        seen = source.in_image(uv)
        return cls(source, target, np.where(seen[..., None], uv, -1.0).astype(np.float32), seen)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Remap one image (H, W[, C]) of the source, bilinear; what it does not show is black.

        Raises:
            EgoposeError: The image has another size than the source camera.
        """
        cv2 = import_cv2()
        if image.shape[1::-1] != self.source.size:
            raise EgoposeError(
                f"{self.source.where}: the image is {image.shape[1]}x{image.shape[0]}; expected "
                f"{self.source.size[0]}x{self.source.size[1]}"
            )
        result = cv2.remap(
            image, self.map_px[..., 0], self.map_px[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        result[~self.mask] = 0
        return np.asarray(result, dtype=np.uint8)


def ego_undistorter(camera: Camera, *, portrait: bool = False, size: int = VIDEO_SIZE) -> Undistorter:
    """From frames of ``aria01_214-1.mp4`` (upright) to the undistorted 512 px image.

    Args:
        camera: Landscape Fisheye624 camera of 2880 or 1408 px.
        portrait: Give the upright image; default is the landscape one that the annotations are in.
        size: Width of the frames, when they were resized (448 for the downscaled videos).
    """
    video = video_camera(camera)
    if size != VIDEO_SIZE:
        video = video.scaled((size, size))
    return Undistorter.between(video.rotated90(-1), linear_camera(video.T_world_camera, portrait=portrait))


def upright_turn() -> NDArray[np.float64]:
    """(4, 4) ``T_landscape_upright``: a pose of the landscape camera times this is that of the upright one."""
    return linear_camera(portrait=True).T_world_camera
