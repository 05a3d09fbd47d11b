"""TOML calibrations of the anipose family: anipose, Pose2Sim, pyxy3d, caliscope.

They share one table per camera with ``matrix``, ``distortions``, ``rotation`` (3 x 3, or a Rodrigues vector),
``translation`` (world to camera) and ``size``; caliscope nests the tables under ``cameras``. Metres by convention;
anipose takes the unit of its board, so ``unit=`` says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egopose.camera import Rig
from egopose.errors import EgoposeError
from egopose.files import atomic_write
from egopose.io.fields import image_size, key, numbers, read_toml, unit_scale
from egopose.io.registry import note, reader, writer
from egopose.io.rigs import CameraRecord, build_rig, opencv_terms

_SECTION = re.compile(rb"^\s*\[", re.MULTILINE)


def _is_camera(table: Any) -> bool:
    return isinstance(table, Mapping) and "matrix" in table and ("distortions" in table or "dist" in table)


def _tables(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The camera tables, in file order."""
    nested = content.get("cameras")
    if isinstance(nested, Mapping) and any(_is_camera(t) for t in nested.values()):
        return {f"cam_{name}" if name.isdecimal() else name: t for name, t in nested.items() if _is_camera(t)}
    return {name: table for name, table in content.items() if _is_camera(table)}


def _sniff(path: Path, head: bytes) -> bool:
    return (
        head.lstrip()[:1] not in (b"{", b"<", b"%")
        and _SECTION.search(head) is not None
        and re.search(rb"^\s*matrix\s*=", head, re.MULTILINE) is not None
        and re.search(rb"^\s*distortions\s*=", head, re.MULTILINE) is not None
    )


def _record(name: str, table: Mapping[str, Any], where: str, scale: float) -> CameraRecord | None:
    at = f"{where}: [{name}]"
    if table.get("ignore") is True:
        note(f"{at}: is marked ignore = true and was left out")
        return None
    if "rotation" not in table or "translation" not in table:
        note(f"{at}: has no rotation and translation (it was not placed) and was left out")
        return None
    return CameraRecord(
        name=str(table.get("name", name)),
        size=image_size(key(table, "size", at), f"{at}: size"),
        K=numbers(table["matrix"], f"{at}: matrix", (3, 3)),
        distortion=numbers(table["distortions"], f"{at}: distortions").ravel(),
        fisheye=bool(table.get("fisheye", False)),
        R_camera_world=numbers(table["rotation"], f"{at}: rotation"),
        t_camera_world=numbers(table["translation"], f"{at}: translation").ravel() * scale,
        image_space=_image_space(table, at),
        where=at,
    )


def _image_space(table: Mapping[str, Any], at: str) -> str:
    """A key of this package: undistorted cameras must not come back as raw ones."""
    space = table.get("image_space", "raw")
    if space not in ("raw", "undistorted"):
        raise EgoposeError(f"{at}: image_space is {space!r}; expected 'raw' or 'undistorted'")
    return str(space)


@reader(
    "anipose-toml",
    kinds=("Rig",),
    suffixes=(".toml",),
    looks_for="tables with matrix = and distortions =",
    description="calibration of anipose, Pose2Sim, pyxy3d and caliscope",
    sniff=_sniff,
)
def read(path: Path, *, unit: str | float = "m") -> Rig:
    """Read a calibration.

    Args:
        path: The TOML file.
        unit: Unit of the translations: "m", "cm", "mm", "inch", or metres per unit.

    Raises:
        EgoposeError: No camera, a missing key, numbers that are no calibration.
    """
    content = read_toml(path)
    tables = _tables(content)
    if not tables:
        have = ", ".join(list(content)[:8]) or "nothing"
        raise EgoposeError(f"{path}: no camera table with matrix and distortions; it has: {have}")
    scale = unit_scale(unit)
    records = [_record(name, table, str(path), scale) for name, table in tables.items()]
    kept = [record for record in records if record is not None]
    return build_rig(kept, str(path))


@writer("anipose-toml", kinds=("Rig",), suffixes=(".toml",), description="calibration for anipose and Pose2Sim")
def write(rig: Rig, path: Path) -> None:
    """Write pinhole, Brown-Conrady and Kannala-Brandt cameras, metres, Rodrigues rotations.

    Raises:
        EgoposeError: A camera has a model that the format cannot hold.
    """
    lines: list[str] = []
    for camera in rig.cameras:
        terms = opencv_terms(camera, f"{path}: camera {camera.name!r}")
        lines += [
            f"[{_quoted_key(str(camera.name))}]",
            f"name = {_quoted(str(camera.name))}",
            f"size = [{terms.size[0]}, {terms.size[1]}]",
            f"matrix = {_list(terms.K)}",
            f"distortions = {_list(terms.distortion)}",
            f"rotation = {_list(terms.rotation_vector)}",
            f"translation = {_list(terms.t_camera_world)}",
            f"fisheye = {str(terms.fisheye).lower()}",
            *(['image_space = "undistorted"'] if camera.image_space == "undistorted" else []),
            "",
        ]
    lines += ["[metadata]", "adjusted = false", "error = 0.0", ""]
    with atomic_write(path, "w") as stream:
        stream.write("\n".join(lines))


def _list(values: Any) -> str:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0:
        return repr(float(array))
    return "[" + ", ".join(_list(item) for item in array) + "]"


def _quoted(text: str) -> str:
    escaped = "".join(
        f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else "\\" + c if c in '"\\' else c for c in text
    )
    return f'"{escaped}"'


def _quoted_key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _quoted(text)
