"""The package's own calibration file: JSON that keeps every model, pose, time offset and image space."""

from __future__ import annotations

from pathlib import Path

from egopose.camera import Rig
from egopose.errors import EgoposeError
from egopose.files import read_json, write_json
from egopose.io.fields import looks_like_json, mapping
from egopose.io.registry import reader, writer

FORMAT = "egopose-rig"
SCHEMA = 1


@reader(
    "native-rig",
    kinds=("Rig",),
    suffixes=(".json",),
    looks_for='"format": "egopose-rig"',
    description="this package's own calibration, lossless",
    sniff=lambda path, head: looks_like_json(head) and f'"{FORMAT}"'.encode() in head[:256],
)
def read(path: Path) -> Rig:
    """Read a rig.

    Raises:
        EgoposeError: Not such a file, of a newer schema, or cameras that are none.
    """
    content = mapping(read_json(path, max_bytes=256 << 20), str(path))
    if content.get("format") != FORMAT:
        raise EgoposeError(f"{path}: format is {content.get('format')!r}; expected {FORMAT!r}")
    schema = content.get("schema")
    if schema != SCHEMA:
        raise EgoposeError(f"{path}: schema version {schema!r}, this egopose reads {SCHEMA}; update egopose")
    try:
        return Rig.from_dict(content, str(path))
    except (TypeError, ValueError) as error:
        text = str(error)
        raise EgoposeError(text if text.startswith(str(path)) else f"{path}: {text}") from error


@writer("native-rig", kinds=("Rig",), suffixes=(".json",), description="this package's own calibration, lossless")
def write(rig: Rig, path: Path) -> None:
    """Write a rig."""
    write_json(path, {"format": FORMAT, "schema": SCHEMA, **rig.to_dict()})
