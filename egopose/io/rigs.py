"""From what calibration files state to a checked :class:`Rig`, and back to OpenCV's terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from egopose import rigid
from egopose.camera import Camera, Rig
from egopose.errors import EgoposeError
from egopose.io.fields import Floats, Size, numbers
from egopose.io.registry import note


@dataclass
class CameraRecord:
    """One camera as a file states it.

    Attributes:
        name: Unique in the rig.
        size: (width, height) pixels.
        K: (3, 3) camera matrix.
        distortion: Coefficients in the order of the model.
        R_camera_world: (3, 3) or a Rodrigues vector (3,); None for a camera that is not placed.
        t_camera_world: (3,) metres.
        fisheye: OpenCV's fisheye model (Kannala-Brandt) instead of Brown-Conrady.
        model: Overrides ``fisheye``, for models that OpenCV lacks.
        image_space: "raw" or "undistorted".
        where: File and key, for messages.
    """

    name: str
    size: Size
    K: Floats
    distortion: Floats
    R_camera_world: Any = None
    t_camera_world: Any = None
    fisheye: bool = False
    model: str | None = None
    image_space: str = "raw"
    where: str = ""


@dataclass(frozen=True)
class OpenCVTerms:
    """One camera in OpenCV's terms."""

    size: Size
    K: Floats
    distortion: Floats
    rotation_vector: Floats
    t_camera_world: Floats
    fisheye: bool


def _check_matrix(record: CameraRecord) -> None:
    K = numbers(record.K, f"{record.where}: camera matrix", (3, 3))
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise EgoposeError(f"{record.where}: focal lengths are {K[0, 0]:g} and {K[1, 1]:g}; expected positive pixels")
    if not np.allclose(K[2], (0, 0, 1), atol=1e-9) or K[1, 0] != 0:
        raise EgoposeError(f"{record.where}: the camera matrix is not [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
    if abs(K[0, 1]) > 1e-6 * K[0, 0]:
        raise EgoposeError(f"{record.where}: the camera matrix has a skew of {K[0, 1]:g}; skew is not supported")


def rotation_matrix(R: Any, where: str) -> Floats:
    """A rotation from a (3, 3) matrix or a Rodrigues vector, checked."""
    R = numbers(R, f"{where}: rotation")
    if R.size == 3:
        if np.abs(R).max() > 1e3:
            raise EgoposeError(f"{where}: rotation is the vector {R.ravel().tolist()}; expected radians")
        return rigid.rotation_from_vector(R.ravel())
    return rigid.check_rotation(R, where)


def _camera(record: CameraRecord) -> Camera:
    where = record.where or record.name
    _check_matrix(record)
    R = np.eye(3) if record.R_camera_world is None else rotation_matrix(record.R_camera_world, where)
    t = np.zeros(3) if record.t_camera_world is None else numbers(record.t_camera_world, f"{where}: translation", (3,))
    distortion = numbers(record.distortion, f"{where}: distortion").ravel()
    try:
        if record.model == "fisheye624":
            params = np.concatenate([record.K[[0, 1, 0, 1], [0, 1, 2, 2]], distortion])
            T_world_camera = rigid.invert(rigid.make_transform(R, t))
            return Camera.fisheye624(params, record.size, T_world_camera, name=record.name)
        return Camera.from_opencv(
            record.K,
            distortion,
            R,
            t,
            record.size,
            fisheye=record.fisheye,
            name=record.name,
            image_space="undistorted" if record.image_space == "undistorted" else "raw",
        )
    except EgoposeError as error:
        raise EgoposeError(f"{where}: {error}") from error


def build_rig(records: Sequence[CameraRecord], where: str) -> Rig:
    """Check what a file states and make a rig of it; a rig that cannot be in metres is named in a warning.

    Raises:
        EgoposeError: No camera, repeated names, raw and undistorted cameras together, or a camera that is none.
    """
    if not records:
        raise EgoposeError(f"{where}: no camera is left; a rig needs at least one")
    if len({record.image_space for record in records}) > 1:
        raise EgoposeError(f"{where}: holds raw and undistorted cameras together; keep them in two files")
    try:
        rig = Rig([_camera(record) for record in records])
    except EgoposeError as error:
        raise error if str(error).startswith(where) else EgoposeError(f"{where}: {error}") from error
    doubt = rig.check_units()
    if doubt is not None:
        note(f"{where}: {doubt}")
    return rig


def opencv_terms(camera: Camera, where: str) -> OpenCVTerms:
    """A camera as OpenCV's K, coefficients, rotation vector and translation.

    Raises:
        EgoposeError: The model is none of OpenCV's.
    """
    if camera.model not in ("pinhole", "brown_conrady", "kannala_brandt"):
        raise EgoposeError(f"{where}: model {camera.model!r} is not one of OpenCV's; write the native .json instead")
    if camera.image_space != "raw" and camera.model != "pinhole":
        raise EgoposeError(f"{where}: an undistorted camera with distortion; this is a contradiction")
    T = camera.T_camera_world
    return OpenCVTerms(
        size=camera.size,
        K=camera.K,
        distortion=camera.dist,
        rotation_vector=rigid.vector_from_rotation(T[:3, :3]),
        t_camera_world=T[:3, 3],
        fisheye=camera.model == "kannala_brandt",
    )


def names_of(items: Iterable[str], limit: int = 12) -> str:
    """Names for a message, the first few."""
    listed = [str(item) for item in items]
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
