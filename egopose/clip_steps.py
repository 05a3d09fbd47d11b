"""A clip laid out in time: which steps there are, when, with which head pose, and the images one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.clip import Clip
from egopose.errors import EgoposeError
from egopose.trajectory import Trajectory

Missing = Literal["error", "nearest", "absent"]
"""What happens at frames without a head pose; see ``Predictor.predict``."""


@dataclass(frozen=True)
class Steps:
    """The steps of a clip.

    Attributes:
        times_s: (T,) seconds.
        frames: (T,) int64 frame numbers.
        poses: (T, 4, 4) head poses, NaN where absent.
        camera: The lens when images are used, else None.
        where: Named in messages.
        clip: Where the images come from.
        turn: Quarter turns counter-clockwise that bring stored images to the camera's orientation.
    """

    times_s: NDArray[np.float64]
    frames: NDArray[np.int64]
    poses: NDArray[np.float64]
    camera: Camera | None = None
    where: str = "clip"
    clip: Clip | None = None
    turn: int = 0
    buffer: list[NDArray[np.uint8]] = field(default_factory=list)

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """The images in order; empty when images are not used."""
        if self.camera is None or self.clip is None:
            return
        if self.clip.path is not None:
            from egopose.io.video import read_frames

            for frame in read_frames(self.clip.path, rotate=self.turn != 0):
                yield frame.image
        else:
            yield from self.buffer


def read_steps(clip: Clip, missing: Missing, *, use_images: bool) -> Steps:
    """Lay a clip out in time.

    Args:
        clip: The clip.
        missing: Policy for frames without a head pose.
        use_images: Whether anything looks at the images; otherwise only their times are read.

    Raises:
        EgoposeError: No frames, no times, sizes that differ from the camera's, a trajectory that does not cover the
            frames under the policy "error".
    """
    if missing not in ("error", "nearest", "absent"):
        raise EgoposeError(f"missing_poses is {missing!r}; expected 'error', 'nearest' or 'absent'")
    if clip.frames is None:
        assert clip.trajectory is not None
        times = clip.trajectory.times_s if clip.times_s is None else clip.times_s
        return Steps(times, np.arange(times.size), _poses(clip.trajectory, times, missing), where="trajectory")
    if use_images and clip.camera is None:
        raise EgoposeError(
            "clip: images need their camera; give camera= (a calibration file, or for a rough start "
            "Camera.pinhole(focal, None, size))"
        )
    if clip.path is not None:
        return _from_video(clip, clip.path, missing, use_images)
    return _from_images(clip, missing, use_images)


def _poses(trajectory: Trajectory | None, times: NDArray[np.float64], missing: Missing) -> NDArray[np.float64]:
    if trajectory is None:
        return np.full((times.size, 4, 4), np.nan)
    policy: Any = {"error": "error", "nearest": "nearest", "absent": "nan"}[missing]
    try:
        poses = trajectory.at(times, gaps=policy, outside=policy)
    except EgoposeError as error:
        raise EgoposeError(
            f"{error} (missing_poses='nearest' holds the nearest pose, 'absent' goes on without one there)"
        ) from error
    if np.isnan(poses).all():
        raise EgoposeError(
            f"clip: none of its {times.size} frames ({times[0]:.3f} s to {times[-1]:.3f} s) has a head pose; the "
            f"trajectory runs from {trajectory.times_s[0]:.3f} s to {trajectory.times_s[-1]:.3f} s, shift its clock"
        )
    return poses


def _from_video(clip: Clip, path: os.PathLike[str], missing: Missing, use_images: bool) -> Steps:
    from egopose.io.video import probe

    info = probe(path)
    times = np.asarray(info.times_s, dtype=np.float64)
    if clip.times_s is not None:
        if clip.times_s.size != times.size:
            raise EgoposeError(f"{path}: {times.size} frames, but the clip gives {clip.times_s.size} times")
        times = clip.times_s
    turn = 0
    # a camera that does not fit is refused even where nothing looks at the images
    if clip.camera is not None:
        size = tuple(clip.camera.size)
        # a camera calibrated on upright images wins over one of the stored ones when both have this size
        if size == info.size:
            turn = info.rotation_deg
        elif size != info.stored_size:
            turned = f" (stored as {info.stored_size[0]} x {info.stored_size[1]})" if info.rotation_deg else ""
            raise EgoposeError(
                f"{path}: images are {info.size[0]} x {info.size[1]}{turned}, the camera is calibrated for {size[0]} x "
                f"{size[1]}; give the camera of this video (camera.scaled(size) when it was only resized)"
            )
    camera = clip.camera if use_images else None
    return Steps(times, np.arange(times.size), _poses(clip.trajectory, times, missing), camera, str(path), clip, turn)


def _from_images(clip: Clip, missing: Missing, use_images: bool) -> Steps:
    # the number of frames is needed up front; a caller with endless input streams
    images: list[Any] = [] if clip.frames is None else list(clip.frames)  # type: ignore[arg-type]
    if not images:
        raise EgoposeError("clip: has no frames; expected at least one image")
    if clip.times_s is not None:
        times = clip.times_s
    elif clip.trajectory is not None and len(clip.trajectory) == len(images):
        times = clip.trajectory.times_s
    else:
        raise EgoposeError(
            f"clip: {len(images)} images without times; give times_s= in seconds, or a trajectory with a pose per image"
        )
    if times.size != len(images):
        raise EgoposeError(f"clip: {len(images)} images but {times.size} times; expected one time per image")
    poses = _poses(clip.trajectory, times, missing)
    camera = clip.camera if use_images else None
    return Steps(times, np.arange(times.size), poses, camera, "clip", clip, 0, images if use_images else [])
