"""From a frame to the network's inputs: the fitted image, its rays, and two hand crops that follow the hands.

A crop is aimed in the direction in which the hand finder sees the hand in the same frame, at the distance at which the
network's own per-frame estimate saw it last; a hand that the finder does not see is carried along with the head's
motion when that is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.camera import Camera
from egopose.errors import EgoposeError
from egopose.model.config import ModelConfig
from egopose.model.numeric import StepArrays
from egopose.model.rays import HAND_RADIUS_M, RAY_CHANNELS, Fit, HandCrop, image_rays, normalise

if TYPE_CHECKING:
    from egopose.model.engine import Engine

Array = NDArray[np.float64]

FOUND = 0.3
"""Least heat at which a hand is looked for where the finder sees it."""

SAME_HAND_M = 0.03
"""Two hands that are looked for in directions closer than this, at their distance, are one."""

DISTANCE_UNIT_M = 0.4
"""The finder predicts the log of the distance over this."""


def heat_peaks(
    heat: NDArray[np.float32], camera: Camera, fit: Fit, *, most: int = 1
) -> list[list[tuple[float, Array]]]:
    """Best cells of the hand finder for each hand.

    Args:
        heat: (2, 4, f, f) logit, shift right, shift down (cells), log distance.
        camera: The lens.
        fit: How the frame sits in the square.
        most: How many cells, best first; after the first only those that no neighbour exceeds.

    Returns:
        For left and right: probabilities, and the hand's centre (3,) in camera axes, NaN outside the lens.
    """
    found: list[list[tuple[float, Array]]] = []
    side = heat.shape[-1]
    for channel in heat.astype(np.float64):
        logits = channel[0]
        if most == 1:
            best = np.array([int(np.argmax(logits))])
        else:
            padded = np.pad(logits, 1, constant_values=-np.inf)
            around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).max(axis=(2, 3))
            tops = np.flatnonzero(logits >= around)
            best = tops[np.argsort(-logits.ravel()[tops], kind="stable")][:most]
        row, column = np.unravel_index(best, logits.shape)
        logit, right, down, distance = channel[:, row, column]
        cell = np.stack([column + 0.5 + np.clip(right, -1, 1), row + 0.5 + np.clip(down, -1, 1)], axis=-1)
        rays = camera.unproject(fit.to_frame(cell * fit.side / side - 0.5))
        places = rays * (DISTANCE_UNIT_M * np.exp(np.clip(distance, -2, 2)))[:, None]
        found.append([(float(p), place) for p, place in zip(1 / (1 + np.exp(-logit)), places, strict=True)])
    return found


@dataclass(frozen=True)
class Crops:
    """Inputs of the hand encoder for one frame; see ``records.FrameBatch``."""

    hands: NDArray[np.float32]
    hand_rays: NDArray[np.float32]
    hand_known: NDArray[np.bool_]
    hand_axes: NDArray[np.float32]
    hand_focal: NDArray[np.float32]
    hand_distance: NDArray[np.float32]


def cut_crops(
    frame: NDArray[np.uint8], camera: Camera, centres: list[Array | None], side: int, cells: int
) -> tuple[NDArray[np.uint8], Crops]:
    """Crops around two hand centres in camera axes; None leaves that hand out.

    Returns:
        The crops as (2, side, side, 3) uint8, and the arrays for the network, without a batch axis.
    """
    images = np.zeros((2, side, side, 3), dtype=np.uint8)
    rays = np.zeros((2, cells, cells, RAY_CHANNELS), dtype=np.float32)
    known, axes = np.zeros(2, dtype=bool), np.tile(np.eye(3, dtype=np.float32), (2, 1, 1))
    focal, distance = np.ones(2, dtype=np.float32), np.ones(2, dtype=np.float32)
    for i, centre in enumerate(centres):
        if centre is None:
            continue
        crop = HandCrop.aimed(centre)
        mirror = i == 0
        images[i] = crop.image(frame, camera, side, mirror=mirror)
        rays[i] = crop.token_rays(cells, mirror=mirror)
        known[i], axes[i], focal[i], distance[i] = True, crop.R_camera_crop, crop.focal, crop.distance_m
    return images, Crops(normalise(images), rays, known, axes, focal, distance)


def _agree(tracked: Array, finder: Array) -> Array:
    """Where a hand is that the track and the finder see: the finder's direction, the track's distance if it is near."""
    distance = float(np.linalg.norm(tracked))
    ray = finder / np.linalg.norm(finder)
    if np.linalg.norm(tracked / distance - ray) * distance > HAND_RADIUS_M:
        # the crop of the track would not show this hand
        return finder
    return ray * distance


@dataclass
class FrameReader:
    """Fits frames of one camera and keeps the hands in view.

    Attributes:
        camera: The lens.
        config: The network's shape.
    """

    camera: Camera
    config: ModelConfig
    _centres: list[Array | None] = field(default_factory=lambda: [None, None])
    _pose: Array | None = None

    def __post_init__(self) -> None:
        self.fit = Fit(self.camera.size, self.config.image_px)
        self.hand_cells = self.config.hand_px // self.config.fine_stride
        self.rays = image_rays(self.camera, self.fit, self.config.image_px // self.config.stride)

    def image(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The frame as the network takes it, (3, S, S).

        Raises:
            EgoposeError: Not an RGB image, or not of the camera's size.
        """
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise EgoposeError(f"image has shape {frame.shape} and type {frame.dtype}; expected (H, W, 3) uint8 RGB")
        height, width = frame.shape[:2]
        if (width, height) != tuple(self.camera.size):
            raise EgoposeError(
                f"images are {width} x {height} pixels, but the camera is calibrated for {self.camera.size[0]} x "
                f"{self.camera.size[1]}; give the camera of these images (camera.scaled((width, height)) when they "
                "were only resized)"
            )
        return normalise(self.fit.image(frame))

    def centres(
        self,
        heat: NDArray[np.float32],
        T_world_camera: Array | None,
        found: tuple[Array | None, Array | None] = (None, None),
    ) -> list[Array | None]:
        """Where the hands are looked for in this frame, camera axes.

        Args:
            heat: Of the hand finder.
            T_world_camera: Head pose, or None.
            found: Left and right hand that something else has found in this very frame; they go first.
        """
        peaks = [best[0] for best in heat_peaks(heat, self.camera, self.fit)]
        out: list[Array | None] = []
        for i, (probability, place) in enumerate(peaks):
            centre = self._centres[i]
            if centre is not None and self._pose is not None and T_world_camera is not None:
                centre = rigid.transform_points(rigid.invert(T_world_camera) @ self._pose, centre)
            if probability > FOUND and np.isfinite(place).all():
                centre = place if centre is None else _agree(centre, place)
            if found[i] is not None:
                centre = found[i]
            if centre is not None and not self.in_reach(centre):
                centre = None
            out.append(centre)
        left, right = out
        if left is not None and right is not None and all(place is None for place in found):
            apart = float(np.linalg.norm(left - right * np.linalg.norm(left) / np.linalg.norm(right)))
            if apart < SAME_HAND_M:
                # the finder takes one hand for both: the surer side has it
                out[int(peaks[0][0] > peaks[1][0])] = None
        return out

    def in_reach(self, centre: Array) -> bool:
        """Whether a crop can be aimed at a point (3,) in camera axes."""
        if not np.isfinite(centre).all() or np.linalg.norm(centre) < 0.05:
            return False
        uv = self.camera.project(centre[None], frame="camera")
        return bool(self.camera.in_image(uv)[0])

    def remember(self, step: StepArrays, T_world_camera: Array | None) -> None:
        """Keep where this frame's hands were, for the next one."""
        self._pose, self._centres = T_world_camera, _hands_seen(step)


def see_frames(
    engine: Engine, reader: FrameReader, frames: Sequence[NDArray[np.uint8] | None]
) -> tuple[NDArray[np.float32], list[NDArray[np.float32] | None]]:
    """Encode N images together: tokens (N, M, C), zeros where there is no image, and the hand map of each or None."""
    tokens = np.zeros((len(frames), reader.rays.shape[0] ** 2, engine.config.dim), dtype=np.float32)
    maps: list[NDArray[np.float32] | None] = [None] * len(frames)
    images = {i: reader.image(frame) for i, frame in enumerate(frames) if frame is not None}
    if images:
        there = list(images)
        tokens[there], heat = engine.see(
            np.stack(list(images.values())), np.repeat(reader.rays[None], len(images), axis=0)
        )
        for i, one in zip(there, heat, strict=True):
            maps[i] = one
    return tokens, maps


def seen_centres(steps: StepArrays) -> Array:
    """Centres (N, 2, 3) of the hands that the crops of N frames show, camera axes, whether they show them or not."""
    assert steps.hand_wrist is not None
    assert steps.hand_offsets is not None
    # the wrist itself is one of the 21 points whose mean is the centre
    offsets = steps.hand_offsets.astype(np.float64)
    return steps.hand_wrist.astype(np.float64) + offsets.sum(axis=2) / (offsets.shape[2] + 1)


def _hands_seen(step: StepArrays) -> list[Array | None]:
    """Centres (3,) of the hands that the crops of a frame show, camera axes."""
    if step.hand_known is None or step.hand_logit is None:
        return [None, None]
    centre = seen_centres(step)[0]
    shown = step.hand_known[0] & (step.hand_logit[0] > 0)
    return [centre[i] if shown[i] else None for i in range(2)]
