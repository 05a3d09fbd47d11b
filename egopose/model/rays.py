"""Viewing rays in place of intrinsics, and the virtual pinhole cameras that look at the hands.

A token knows where it looks: the unit ray of its cell in camera axes. One network then serves every lens, and a crop
keeps its rays, so its tokens live in the same space as those of the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.errors import EgoposeError, import_cv2

Array = NDArray[np.float64]

RAY_CHANNELS = 4
"""Unit ray x, y, z in camera axes and whether the cell lies on the image and inside the lens model."""

IMAGE_MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)
IMAGE_STD = np.array([58.395, 57.12, 57.375], dtype=np.float32)
"""ImageNet's RGB statistics, which the public vision transformers expect."""

HAND_RADIUS_M = 0.13
"""Half the width of a hand crop at the hand's distance, metres."""

NEAREST_M, FARTHEST_M = 0.12, 1.2
"""Hand distances from the camera are kept in this range when a crop is sized."""


def normalise(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB images (..., S, S, 3) uint8 to (..., 3, S, S) float32 with zero mean and unit variance."""
    return np.ascontiguousarray(np.moveaxis((image.astype(np.float32) - IMAGE_MEAN) / IMAGE_STD, -1, -3))


@dataclass(frozen=True)
class Fit:
    """How a frame is fitted into the network's square: scaled alike in both directions, centred, padded with zero.

    Attributes:
        size: (width, height) of the frame, pixels.
        side: Side of the square, pixels.
    """

    size: tuple[int, int]
    side: int

    @property
    def scale(self) -> float:
        """Square pixels per frame pixel."""
        return self.side / max(self.size)

    @property
    def inner(self) -> tuple[int, int]:
        """(width, height) of the frame inside the square."""
        return max(1, round(self.size[0] * self.scale)), max(1, round(self.size[1] * self.scale))

    @property
    def offset(self) -> tuple[int, int]:
        """(left, top) corner of the frame inside the square."""
        return (self.side - self.inner[0]) // 2, (self.side - self.inner[1]) // 2

    def to_frame(self, uv_square: Array) -> Array:
        """Frame pixels (..., 2) of square pixels; integer coordinates are pixel centres in both."""
        ratio = np.array(self.size) / np.array(self.inner)
        return (np.asarray(uv_square, dtype=np.float64) - np.array(self.offset) + 0.5) * ratio - 0.5

    def to_square(self, uv_frame: Array) -> Array:
        """Square pixels (..., 2) of frame pixels."""
        ratio = np.array(self.inner) / np.array(self.size)
        return (np.asarray(uv_frame, dtype=np.float64) + 0.5) * ratio - 0.5 + np.array(self.offset)

    def image(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frame (H, W, 3) inside its square (side, side, 3)."""
        cv2 = import_cv2()
        width, height = self.inner
        small = frame
        if (width, height) != self.size:
            shrink = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
            # halves are several times as fast as other ratios, and averages of averages the same to rounding
            while all(n % 2 == 0 and n >= 2 * least for n, least in zip(small.shape, (height, width), strict=False)):
                small = _half(small)
            small = cv2.resize(small, (width, height), interpolation=shrink)
        square = np.zeros((self.side, self.side, 3), dtype=np.uint8)
        left, top = self.offset
        square[top : top + height, left : left + width] = small
        return square


def image_rays(camera: Camera, fit: Fit, cells: int) -> NDArray[np.float32]:
    """Rays of the feature cells of a fitted frame.

    Args:
        camera: The lens; its pose is not used.
        fit: How the frame sits in the square.
        cells: Cells along one side.

    Returns:
        (cells, cells, RAY_CHANNELS) float32; zeros where there is no ray.
    """
    centre = (np.arange(cells) + 0.5) * fit.side / cells - 0.5
    grid = np.stack(np.meshgrid(centre, centre), axis=-1).reshape(-1, 2)
    uv = fit.to_frame(grid)
    inside = np.asarray(((uv >= -0.5) & (uv <= np.array(fit.size) - 0.5)).all(axis=1))
    rays = camera.unproject(np.where(inside[:, None], uv, 0.0))
    known = inside & np.isfinite(rays).all(axis=1)
    out = np.zeros((grid.shape[0], RAY_CHANNELS), dtype=np.float32)
    out[known, :3] = rays[known]
    out[known, 3] = 1.0
    return out.reshape(cells, cells, RAY_CHANNELS)


def ray_axes(rays: Array) -> Array:
    """Axes (..., 3, 3) of views along unit rays (..., 3), as columns: right, down, along the ray.

    A view stays upright with respect to the frame of the rays; one straight along its y axis takes the z axis.
    """
    y = rays[..., 1:2]
    down = np.where(np.abs(y) < 0.95, [0.0, 1.0, 0.0], np.sign(y) * [0.0, 0.0, -1.0])
    right = np.cross(down, rays)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(rays, right), rays], axis=-1)


@dataclass(frozen=True)
class HandCrop:
    """A virtual pinhole camera at the head camera's place, aimed at a hand.

    Attributes:
        R_camera_crop: (3, 3), columns are the crop's axes (x right, y down, z to the hand) in camera axes.
        focal: Focal length in units of half the crop's side.
        distance_m: The distance the crop was sized for, metres.
    """

    R_camera_crop: Array
    focal: float
    distance_m: float

    @staticmethod
    def aimed(centre_camera: Array) -> HandCrop:
        """A crop around a point (3,) in camera axes, metres.

        Raises:
            EgoposeError: The point is not finite or is the camera itself.
        """
        centre = np.asarray(centre_camera, dtype=np.float64)
        norm = float(np.linalg.norm(centre))
        if not np.isfinite(norm) or norm < 1e-6:
            raise EgoposeError(f"hand crop: the centre {centre.tolist()} gives no direction")
        distance = float(np.clip(norm, NEAREST_M, FARTHEST_M))
        return HandCrop(ray_axes(centre / norm), distance / HAND_RADIUS_M, distance)

    def rays(self, cells: int) -> Array:
        """Unit rays (cells, cells, 3) of the crop's cells in crop axes."""
        centre = (np.arange(cells) + 0.5) * 2 / cells - 1
        grid = np.stack([*np.meshgrid(centre, centre), np.full((cells, cells), self.focal)], axis=-1)
        return grid / np.linalg.norm(grid, axis=-1, keepdims=True)

    def token_rays(self, cells: int, *, mirror: bool) -> NDArray[np.float32]:
        """(cells, cells, RAY_CHANNELS) rays in camera axes, all known; in a mirrored crop those of a mirrored world."""
        rays = self.rays(cells) @ self.R_camera_crop.T
        if mirror:
            rays = rays[:, ::-1] * np.array([-1.0, 1.0, 1.0])
        return np.concatenate([rays, np.ones((cells, cells, 1))], axis=-1).astype(np.float32)

    def image(self, frame: NDArray[np.uint8], camera: Camera, side: int, *, mirror: bool) -> NDArray[np.uint8]:
        """Resample the frame (H, W, 3) into the crop (side, side, 3); a left hand is mirrored to look like a right.

        The remap table is projected on a coarse grid and enlarged: lenses are smooth over a crop. Where the frame has
        more than two pixels to one of the crop, its part is halved first, so that none is skipped.
        """
        cv2 = import_cv2()
        coarse = max(9, side // 8 + 1)
        at = np.linspace(-1 + 1 / side, 1 - 1 / side, coarse)
        grid = np.stack([*np.meshgrid(at, at), np.full((coarse, coarse), self.focal)], axis=-1)
        points = grid.reshape(-1, 3) @ self.R_camera_crop.T
        uv = camera.project(points, frame="camera").reshape(coarse, coarse, 2)
        frame, uv = _shrunk(frame, uv, side)
        uv = np.where(np.isfinite(uv), uv, -1e4).astype(np.float32)
        # sample the coarse table exactly at its own nodes
        where = np.linspace(0, coarse - 1, side, dtype=np.float32)
        gx, gy = np.meshgrid(where, where)
        table = cv2.remap(uv, gx, gy, cv2.INTER_LINEAR)
        crop = cv2.remap(frame, table[..., 0], table[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return np.ascontiguousarray(crop[:, ::-1]) if mirror else crop


def crop_shows(place: Array, centre: Array) -> bool:
    """Whether a crop that is aimed at a place (3,) shows the hand whose centre (3,) is given, by direction alone."""
    far = float(np.linalg.norm(centre))
    return bool(np.linalg.norm(place / np.linalg.norm(place) - centre / far) * far < HAND_RADIUS_M)


def _half(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image of even sides (H, W, 3) at half the size."""
    cv2 = import_cv2()
    return cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _shrunk(frame: NDArray[np.uint8], uv: Array, side: int) -> tuple[NDArray[np.uint8], Array]:
    """The part of a frame that a table of pixels (k, k, 2) covers, halved while two of its pixels make one of the
    crop's; and the table in it."""
    apart = np.linalg.norm(np.diff(uv, axis=1), axis=-1) * (uv.shape[1] - 1) / (side - 1)
    ratio = float(np.median(apart[np.isfinite(apart)])) if np.isfinite(apart).any() else 1.0
    if ratio < 2:
        return frame, uv
    # room for a neighbour on either side after the last halving
    room = int(2 * ratio) + 2
    low = np.clip(np.floor(np.nanmin(uv, axis=(0, 1))).astype(int) - room, 0, None)
    high = np.clip(np.ceil(np.nanmax(uv, axis=(0, 1))).astype(int) + room, 0, frame.shape[1::-1])
    part = frame[low[1] : high[1], low[0] : high[0]]
    uv = uv - low
    while ratio >= 2 and min(part.shape[:2]) >= 2:
        part = part[: part.shape[0] // 2 * 2, : part.shape[1] // 2 * 2]
        part = _half(part)
        uv, ratio = (uv + 0.5) / 2 - 0.5, ratio / 2
    return part if part.size else frame[:1, :1], uv
