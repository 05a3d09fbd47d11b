"""Qualisys Track Manager calibrations (``.qca.txt``, XML).

Focal lengths and the principal point are in 1/64 pixel, positions in millimetres. The rotation's rows are the
camera's axes x right, y up, z backward, so rows two and three change sign. Checked against the calibration that
Pose2Sim derives from the same file; cameras with a turned view are refused because no such file was at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from egopose.camera import Rig
from egopose.errors import EgoposeError
from egopose.files import read_text
from egopose.io.fields import given_size, number
from egopose.io.opencv_storage import parse_xml
from egopose.io.registry import note, reader
from egopose.io.rigs import CameraRecord, build_rig

SUBPIXEL = 64.0
_FLIP = np.diag([1.0, -1.0, -1.0])


def _attributes(element: Any, tag: str, names: tuple[str, ...], where: str) -> list[float]:
    child = element.find(tag)
    if child is None:
        raise EgoposeError(f"{where}: has no <{tag}>")
    values = []
    for name in names:
        text = child.get(name)
        if text is None:
            raise EgoposeError(f"{where}: <{tag}> has no attribute {name!r}")
        values.append(number(text, f"{where}: <{tag}> {name}"))
    return values


@reader(
    "qualisys",
    kinds=("Rig",),
    suffixes=(".txt", ".xml"),
    looks_for="<calibration> with <camera>, <transform> and <intrinsic> in XML",
    description="Qualisys calibration (.qca.txt)",
    sniff=lambda path, head: b"<calibration" in head and b"<transform" in head and b"focalLengthU" in head,
)
def read(path: Path, *, distortion_divisor: float = 64.0) -> Rig:
    """Read a Qualisys calibration.

    Args:
        path: The XML file.
        distortion_divisor: The stored distortion coefficients are divided by this. 64 is what Pose2Sim does (the
            same as for the other intrinsics); 1 takes them as they stand.

    Raises:
        EgoposeError: Not such a file, no active camera, a turned view, a skew.
    """
    root = parse_xml(read_text(path, max_bytes=64 << 20), Path(path))
    if not (np.isfinite(distortion_divisor) and distortion_divisor != 0):
        raise EgoposeError(f"distortion_divisor is {distortion_divisor}; expected a number other than 0")
    records: list[CameraRecord] = []
    for element in root.iter("camera"):
        name = element.get("serial") or f"cam{len(records) + 1:02d}"
        where = f"{path}: camera {name!r}"
        if element.get("active", "1") == "0":
            note(f"{where}: is not active and was left out")
            continue
        if number(element.get("viewrotation", "0"), f"{where}: viewrotation") != 0:
            raise EgoposeError(f"{where}: viewrotation is {element.get('viewrotation')}; only 0 is read")
        R = np.array(_attributes(element, "transform", tuple(f"r{i}{j}" for i in "123" for j in "123"), where))
        centre = np.array(_attributes(element, "transform", ("x", "y", "z"), where)) / 1000
        fu, fv, cu, cv, skew = _attributes(
            element, "intrinsic", ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV", "skew"), where
        )
        if skew != 0:
            raise EgoposeError(f"{where}: has a skew of {skew}; cameras with skew are not supported")
        k1, k2, p1, p2, k3 = _attributes(
            element,
            "intrinsic",
            ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2",
             "radialDistortion3"),
            where,
        )  # fmt: skip
        left, top, right, bottom = _attributes(element, "fov_video", ("left", "top", "right", "bottom"), where)
        R_camera_world = _FLIP @ R.reshape(3, 3)
        with np.errstate(over="ignore", invalid="ignore"):
            # what is not finite is refused where the rig is built
            t_camera_world = -R_camera_world @ centre
        records.append(
            CameraRecord(
                name=name,
                size=given_size([right - left + 1, bottom - top + 1], f"{where}: fov_video"),
                K=np.array([[fu, 0, cu], [0, fv, cv], [0, 0, SUBPIXEL]]) / SUBPIXEL,
                distortion=np.array([k1, k2, p1, p2, k3]) / distortion_divisor,
                R_camera_world=R_camera_world,
                t_camera_world=t_camera_world,
                where=where,
            )
        )
    return build_rig(records, str(path))
