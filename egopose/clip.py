"""One ego recording: lazy frames with whatever came along."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.pose import PoseSequence
from egopose.trajectory import Trajectory

if TYPE_CHECKING:
    from egopose.camera import Camera


@dataclass(frozen=True, eq=False)
class Imu:
    """Inertial samples in the head camera's axes.

    Attributes:
        times_s: (N,) float64 seconds, increasing.
        acceleration: (N, 3) m/s^2, specific force (at rest it points up with 9.81).
        angular_velocity: (N, 3) rad/s.
    """

    times_s: NDArray[np.float64]
    acceleration: NDArray[np.float64]
    angular_velocity: NDArray[np.float64]

    def __post_init__(self) -> None:
        times = np.asarray(self.times_s, dtype=np.float64)
        object.__setattr__(self, "times_s", times)
        for name in ("acceleration", "angular_velocity"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if value.shape != (times.size, 3) or not np.isfinite(value).all():
                raise EgoposeError(f"imu: {name} has shape {value.shape}; expected finite ({times.size}, 3)")
            object.__setattr__(self, name, value)
        if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise EgoposeError("imu: times must be one-dimensional, finite and increasing")


@dataclass(frozen=True, eq=False)
class Clip:
    """One ego recording.

    Attributes:
        frames: A video path, or an iterable of images (H, W, 3) uint8 RGB; decoded only when asked for.
        camera: The head camera's model. Its pose is not used: the trajectory says where it was.
        trajectory: Head camera poses in the world, on the clip's clock.
        imu: Inertial samples on the clip's clock.
        target: Known 3D joints, for training and scoring.
        times_s: Times of the images in seconds, when frames is an iterable; a video carries its own.
    """

    frames: str | os.PathLike[str] | Iterable[NDArray[np.uint8]] | None = None
    camera: Camera | None = None
    trajectory: Trajectory | None = None
    imu: Imu | None = None
    target: PoseSequence | None = None
    times_s: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.frames is None and self.trajectory is None:
            raise EgoposeError(
                "clip: neither frames nor a trajectory; give a video, images, or at least the head poses"
            )
        if self.trajectory is not None and not isinstance(self.trajectory, Trajectory):
            raise EgoposeError(f"clip: trajectory is a {type(self.trajectory).__name__}; expected egopose.Trajectory")
        if self.camera is not None:
            from egopose.camera import Camera

            if not isinstance(self.camera, Camera):
                raise EgoposeError(f"clip: camera is a {type(self.camera).__name__}; expected egopose.camera.Camera")
        if self.imu is not None and not isinstance(self.imu, Imu):
            raise EgoposeError(f"clip: imu is a {type(self.imu).__name__}; expected egopose.clip.Imu")
        if self.target is not None and not isinstance(self.target, PoseSequence):
            raise EgoposeError(f"clip: target is a {type(self.target).__name__}; expected egopose.PoseSequence")
        if self.frames is not None and not isinstance(self.frames, str | os.PathLike | Iterable):
            raise EgoposeError(f"clip: frames is a {type(self.frames).__name__}; expected a video file or images")
        if self.times_s is not None:
            try:
                times = np.asarray(self.times_s, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise EgoposeError("clip: times are not numbers; expected seconds, one per image") from error
            if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
                raise EgoposeError("clip: times must be one-dimensional, finite and increasing")
            object.__setattr__(self, "times_s", times)

    @property
    def path(self) -> Path | None:
        """The video file, when frames is one."""
        return Path(self.frames) if isinstance(self.frames, str | os.PathLike) else None

    def replace(self, **changes: Any) -> Clip:
        """A copy with some fields changed."""
        return replace(self, **changes)
