"""A detector for tests: every joint sits on the brightest spot of the image."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from egopose.detect.base import Detection2D
from egopose.skeleton import BODY17


class BrightSpot:
    """Follows up to ``people`` spots of different colour; counts its frames in a file when asked to."""

    name = "bright-spot"
    version = "1"
    skeleton = BODY17

    def __init__(self, log: str | None = None, slow_s: float = 0.0) -> None:
        self.log, self.slow_s = log, slow_s

    def open(self, people: int = 1) -> SpotTracker:
        return SpotTracker(self, people)


class SpotTracker:
    def __init__(self, detector: BrightSpot, people: int) -> None:
        self.detector, self.people = detector, people

    def update(self, image: np.ndarray) -> list[Detection2D]:
        if self.detector.log:
            with open(self.detector.log, "a") as stream:
                stream.write(f"{os.getpid()}\n")
        time.sleep(self.detector.slow_s)
        found = []
        for channel in range(self.people):
            plane = image[..., channel].astype(np.float64)
            if plane.max() < 128:
                found.append(Detection2D(np.full((17, 2), np.nan, np.float32), np.zeros(17, np.float32), 0.0))
                continue
            plane = np.where(plane > 100, plane, 0)
            y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
            spot = np.array([(plane * x).sum(), (plane * y).sum()]) / plane.sum()
            # joints spread a little, so that they are not all the same
            uv = spot + np.stack([np.arange(17) - 8.0, np.zeros(17)], axis=1)
            found.append(Detection2D(uv.astype(np.float32), np.full(17, 0.9, np.float32)))
        return found


def write_spot_video(path: Path, spots: np.ndarray, *, fps: int = 30, size: tuple[int, int] = (160, 120),
                     dark: slice | None = None, background: int = 40) -> Path:  # fmt: skip
    """Frames with one spot each (or several: (T, people, 2)), one colour per person."""
    from egopose.io.video import VideoWriter

    spots = np.asarray(spots, dtype=np.float64)
    if spots.ndim == 2:
        spots = spots[:, None]
    with VideoWriter(path, fps=fps) as video:
        for t, here in enumerate(spots):
            image = np.full((size[1], size[0], 3), background, np.uint8)
            for channel, (x, y) in enumerate(here):
                colour = np.full(3, background)
                colour[channel] = 255
                image[int(y) - 5 : int(y) + 6, int(x) - 5 : int(x) + 6] = colour
            if dark is not None and dark.start <= t < dark.stop:
                image[:] = 0
            video.add(image)
    return path
