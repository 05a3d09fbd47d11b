"""CMU Panoptic Studio calibrations: JSON, hundreds of cameras, centimetres."""

from __future__ import annotations

from pathlib import Path

from egopose.camera import Rig
from egopose.errors import EgoposeError
from egopose.files import read_json
from egopose.io.fields import has_keys, image_size, key, looks_like_json, mapping, numbers, sequence, unit_scale
from egopose.io.registry import reader
from egopose.io.rigs import CameraRecord, build_rig


@reader(
    "panoptic-json",
    kinds=("Rig",),
    suffixes=(".json",),
    looks_for="cameras with K, distCoef, R and t",
    description="CMU Panoptic Studio calibration (centimetres)",
    sniff=lambda path, head: looks_like_json(head) and has_keys(head, "cameras", "distCoef"),
)
def read(path: Path, *, type: str | None = None, unit: str | float = "cm") -> Rig:
    """Read a Panoptic calibration.

    Args:
        path: ``calibration_<sequence>.json``.
        type: Only cameras of this type: "vga", "hd" or "kinect-color".
        unit: Unit of ``t``: "cm" as published, or another, or metres per unit.

    Raises:
        EgoposeError: No camera (of that type), a missing key, bad numbers.
    """
    content = mapping(read_json(path, max_bytes=256 << 20), str(path))
    scale = unit_scale(unit)
    records, types = [], set()
    for i, entry in enumerate(sequence(key(content, "cameras", str(path)), f"{path}: cameras")):
        table = mapping(entry, f"{path}: cameras[{i}]")
        where = f"{path}: camera {table.get('name', i)!r}"
        types.add(str(table.get("type")))
        if type is not None and table.get("type") != type:
            continue
        records.append(
            CameraRecord(
                name=str(key(table, "name", where)),
                size=image_size(key(table, "resolution", where), f"{where}: resolution"),
                K=numbers(key(table, "K", where), f"{where}: K", (3, 3)),
                distortion=numbers(key(table, "distCoef", where), f"{where}: distCoef").ravel(),
                R_camera_world=numbers(key(table, "R", where), f"{where}: R", (3, 3)),
                t_camera_world=numbers(key(table, "t", where), f"{where}: t").ravel() * scale,
                where=where,
            )
        )
    if not records:
        raise EgoposeError(f"{path}: no camera of type {type!r}; types there: {', '.join(sorted(types)) or 'none'}")
    return build_rig(records, str(path))
