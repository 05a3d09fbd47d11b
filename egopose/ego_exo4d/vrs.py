"""Aria recordings (``.vrs``) through projectaria_tools, the extra ``[aria]``; mp4 and JSON never need it.

MPS files (trajectory, online calibration, hand tracking) are plain CSV and JSON: ``egopose.load`` reads them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.clip import Clip, Imu
from egopose.ego_exo4d.aria import MAX_ANGLE
from egopose.errors import EgoposeError, require
from egopose.trajectory import Trajectory

RGB = "camera-rgb"
IMU = "imu-right"


def _tools() -> ModuleType:
    return require("projectaria_tools.core.data_provider", "aria")


class VrsRecording:
    """One Aria recording; images are decoded only when asked for."""

    def __init__(self, path: str | os.PathLike[str], label: str = RGB) -> None:
        """Open a file.

        Args:
            path: A .vrs file.
            label: Its camera, such as "camera-rgb" or "camera-slam-left".

        Raises:
            MissingExtra: projectaria_tools is not installed.
            EgoposeError: No such file, it is no VRS recording, or it has no such camera.
        """
        tools = _tools()
        self.path, self.label = Path(path), label
        if not self.path.is_file():
            raise EgoposeError(f"{self.path}: no such file; expected a .vrs recording")
        try:
            provider = tools.create_vrs_data_provider(str(self.path))
        except Exception as error:  # the C++ side raises what it likes
            raise EgoposeError(f"{self.path}: cannot be read as VRS ({error})") from error
        if provider is None:
            raise EgoposeError(f"{self.path}: cannot be read as VRS; it is damaged or another format")
        self._provider: Any = provider
        self._stream: Any = provider.get_stream_id_from_label(label)
        if self._stream is None:
            have = sorted(provider.get_label_from_stream_id(s) for s in provider.get_all_streams())
            raise EgoposeError(f"{self.path}: has no stream {label!r}; it has: {', '.join(have) or 'none'}")

    def __len__(self) -> int:
        """Number of images."""
        return int(self._provider.get_num_data(self._stream))

    @cached_property
    def _device(self) -> Any:
        device = self._provider.get_device_calibration()
        if device is None:
            raise EgoposeError(f"{self.path}: carries no calibration; use the MPS online_calibration.jsonl instead")
        return device

    @cached_property
    def camera(self) -> Camera:
        """The camera as calibrated at the factory: landscape, in the device frame, for the images of this file.

        Raises:
            EgoposeError: No calibration, or another lens model.
        """
        found = self._device.get_camera_calib(self.label)
        model = "none" if found is None else str(found.get_model_name()).rsplit(".", 1)[-1]
        if model != "FISHEYE624":
            raise EgoposeError(f"{self.path}: {self.label} has the lens model {model}; expected FISHEYE624")
        size = tuple(int(v) for v in found.get_image_size())
        angle = found.get_max_solid_angle()
        return Camera.fisheye624(
            np.asarray(found.get_projection_params(), dtype=np.float64),
            size,  # type: ignore[arg-type]
            np.asarray(found.get_transform_device_camera().to_matrix(), dtype=np.float64),
            name=self.label,
            max_angle=float(angle) if angle else MAX_ANGLE,
        )

    @cached_property
    def times_s(self) -> NDArray[np.float64]:
        """Capture times of the images on the device's clock, (N,) seconds."""
        records = (self._provider.get_image_data_by_index(self._stream, i)[1] for i in range(len(self)))
        stamps = np.array([record.capture_timestamp_ns for record in records], dtype=np.int64)
        return np.asarray(stamps * 1e-9, dtype=np.float64)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Image ``index`` as the sensor has it (landscape): (H, W, 3) RGB, or grey in all three channels.

        Raises:
            EgoposeError: There is no such image, or it cannot be decoded.
        """
        if not 0 <= index < len(self):
            raise EgoposeError(f"{self.path}: image {index} of {len(self)} was asked for")
        data, _ = self._provider.get_image_data_by_index(self._stream, index)
        if not data.is_valid():
            raise EgoposeError(f"{self.path}: image {index} cannot be decoded; the file is damaged")
        array = np.asarray(data.to_numpy_array(), dtype=np.uint8)
        return np.repeat(array[..., None], 3, axis=-1) if array.ndim == 2 else array

    def images(self, *, upright: bool = True) -> Iterator[NDArray[np.uint8]]:
        """All images in order.

        Args:
            upright: A quarter clockwise, as the dataset's mp4 files are.
        """
        for i in range(len(self)):
            image = self.image(i)
            yield np.ascontiguousarray(np.rot90(image, -1)) if upright else image

    def imu(self, label: str = IMU, *, upright: bool = True) -> Imu:
        """Rectified inertial samples in the axes of the camera.

        Args:
            label: "imu-right" (1 kHz) or "imu-left" (800 Hz).
            upright: Axes of the upright camera.

        Raises:
            EgoposeError: No such sensor or calibration.
        """
        stream = self._provider.get_stream_id_from_label(label)
        calibration = self._device.get_imu_calib(label)
        if stream is None or calibration is None:
            raise EgoposeError(f"{self.path}: has no calibrated sensor {label!r}")
        camera = self.camera.rotated90(-1) if upright else self.camera
        R_device_imu = np.asarray(calibration.get_transform_device_imu().to_matrix())[:3, :3]
        turn = camera.T_world_camera[:3, :3].T @ R_device_imu
        samples = [self._provider.get_imu_data_by_index(stream, i) for i in range(self._provider.get_num_data(stream))]
        samples = [s for s in samples if s.accel_valid and s.gyro_valid]
        force = [calibration.raw_to_rectified_accel(np.asarray(s.accel_msec2)) for s in samples]
        rate = [calibration.raw_to_rectified_gyro(np.asarray(s.gyro_radsec)) for s in samples]
        stamps = np.array([s.capture_timestamp_ns for s in samples], dtype=np.int64)
        times = np.asarray(stamps * 1e-9, dtype=np.float64)
        return Imu(times, np.array(force).reshape(-1, 3) @ turn.T, np.array(rate).reshape(-1, 3) @ turn.T)

    def clip(self, *, trajectory: str | os.PathLike[str] | None = None, imu: bool = False) -> Clip:
        """The recording as input of the network: upright images, camera, times, and the head's path.

        Args:
            trajectory: MPS ``closed_loop_trajectory.csv`` of the device, on the same clock.
            imu: Also the inertial samples.

        Raises:
            EgoposeError: A part cannot be read.
        """
        from egopose.io.aria import read_trajectory

        camera = self.camera.rotated90(-1)
        path: Trajectory | None = None
        if trajectory is not None:
            path = read_trajectory(Path(trajectory), T_device_camera=camera.T_world_camera)
        return Clip(
            frames=self.images(), camera=camera.moved(np.eye(4)), trajectory=path, times_s=self.times_s,
            imu=self.imu() if imu else None,
        )  # fmt: skip


def read_vrs(path: str | os.PathLike[str], label: str = RGB) -> VrsRecording:
    """Open an Aria recording; see :class:`VrsRecording`."""
    return VrsRecording(path, label)
