"""From what calibration files state to a checked :class:`Rig`, and back to OpenCV's terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from egopose import rigid
from egopose.camera import Camera, Rig
from egopose.errors import EgoposeError
from egopose.io.fields import UNITS, Floats, Size, numbers
from egopose.io.registry import note

SUSPECT_SPREAD_M = 60.0
"""Cameras further than this from their common centre are suspected to be in another unit."""


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
        return rigid.rotation_from_vector(R.ravel())
    return rigid.check_rotation(R, where)


def _camera(record: CameraRecord) -> Camera:
    where = record.where or record.name
    _check_matrix(record)
    R = np.eye(3) if record.R_camera_world is None else rotation_matrix(record.R_camera_world, where)
    t = np.zeros(3) if record.t_camera_world is None else numbers(record.t_camera_world, f"{where}: translation", (3,))
    distortion = numbers(record.distortion, f"{where}: distortion").ravel()
    return make_camera(record, R, t, distortion)


def build_rig(records: Sequence[CameraRecord], where: str, *, provenance: Mapping[str, Any] | None = None) -> Rig:
    """Check what a file states and make a rig of it.

    Raises:
        EgoposeError: No camera, repeated names, raw and undistorted cameras together, or a camera that is none.
    """
    if not records:
        raise EgoposeError(f"{where}: no camera is left; a rig needs at least one")
    names = [record.name for record in records]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise EgoposeError(f"{where}: camera {twice!r} stands twice; give each camera its own name")
    if len({record.image_space for record in records}) > 1:
        raise EgoposeError(f"{where}: holds raw and undistorted cameras together; keep them in two files")
    rig = make_rig([_camera(record) for record in records], dict(provenance or {}))
    check_units(rig, where)
    return rig


def check_units(rig: Rig, where: str) -> float:
    """Warn of a rig whose cameras are implausibly far apart for metres.

    Returns:
        The largest distance of a camera from the rig's median centre, in the rig's unit.
    """
    centres = np.array([camera.T_world_camera[:3, 3] for camera in rig.cameras])
    spread = float(np.linalg.norm(centres - np.median(centres, axis=0), axis=1).max(initial=0.0))
    if spread > SUSPECT_SPREAD_M:
        guess = "mm" if spread > 600 else "cm"
        note(
            f"{where}: a camera stands {spread:.0f} m from the middle of the rig; the file is probably in "
            f"{'millimetres' if guess == 'mm' else 'centimetres'} (then {spread * UNITS[guess]:.2f} m), "
            f"give unit={guess!r}"
        )
    return spread


def names_of(items: Iterable[str], limit: int = 12) -> str:
    """Names for a message, the first few."""
    listed = [str(item) for item in items]
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
