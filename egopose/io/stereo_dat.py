"""Folders of plain text camera files as the bodypose3d and handpose3d scripts write them.

``c<N>.dat`` has lines after ``intrinsic:`` (3 x 3) and ``distortion:`` (5); ``rot_trans_c<N>.dat`` lines after
``R:`` (3 x 3) and ``T:`` (3), world to camera. The unit is the square of the calibration board and the image
size is not stored.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from egopose.camera import Rig
from egopose.errors import EgoposeError
from egopose.files import read_text
from egopose.io.fields import Floats, given_size, numbers, unit_scale
from egopose.io.registry import note, reader
from egopose.io.rigs import CameraRecord, build_rig


def _cameras(folder: Path) -> dict[str, tuple[Path, Path]]:
    pairs = {}
    for file in sorted(folder.glob("c*.dat")):
        match = re.fullmatch(r"c(\d+)\.dat", file.name)
        placed = folder / f"rot_trans_{file.name}"
        if match and placed.is_file():
            pairs[f"cam{match[1]}"] = (file, placed)
    return pairs


def _block(lines: list[str], title: str, rows: int, where: str) -> Floats:
    """The numbers after a title line; the first such block counts."""
    for i, line in enumerate(lines):
        if line.strip().lower() == f"{title.lower()}:":
            body = [row.split() for row in lines[i + 1 : i + 1 + rows]]
            if len(body) < rows or not all(body):
                raise EgoposeError(f"{where}: fewer than {rows} rows after {title}:; the file may be truncated")
            try:
                return numbers([[float(word) for word in row] for row in body], f"{where}: {title}")
            except ValueError as error:
                if isinstance(error, EgoposeError):
                    raise
                raise EgoposeError(f"{where}: the rows after {title}: are not numbers ({error})") from error
    raise EgoposeError(f"{where}: no line {title + ':'!r}; expected one")


@reader(
    "stereo-dat",
    kinds=("Rig",),
    suffixes=("/",),
    looks_for="a folder with c0.dat and rot_trans_c0.dat",
    description="c<N>.dat and rot_trans_c<N>.dat of the bodypose3d and handpose3d scripts",
    sniff=lambda path, head: path.is_dir() and bool(_cameras(path)),
)
def read(path: Path, *, size: Any = None, unit: str | float | None = None) -> Rig:
    """Read the folder.

    Args:
        path: The folder.
        size: (width, height) of the images; the files do not say.
        unit: Unit of the translations: "m", "cm", "mm", "inch", or metres per unit (the board's square).

    Raises:
        EgoposeError: No pair of files, no size given, damaged numbers.
    """
    path = Path(path)
    pairs = _cameras(path) if path.is_dir() else {}
    if not pairs:
        raise EgoposeError(f"{path}: no pair of c<N>.dat and rot_trans_c<N>.dat in it")
    wanted = given_size(size, str(path))
    if unit is None:
        note(f"{path}: the unit of these files is the board's square; 1 is taken as 1 m, give unit= in metres per unit")
        unit = 1.0
    records = []
    for name, (inner, outer) in pairs.items():
        lines, placed = (read_text(file, max_bytes=1 << 20).splitlines() for file in (inner, outer))
        records.append(
            CameraRecord(
                name=name,
                size=wanted,
                K=_block(lines, "intrinsic", 3, str(inner)),
                distortion=_block(lines, "distortion", 1, str(inner)).ravel(),
                R_camera_world=_block(placed, "R", 3, str(outer)),
                t_camera_world=_block(placed, "T", 3, str(outer)).ravel() * unit_scale(unit),
                where=f"{path}: {name}",
            )
        )
    return build_rig(records, str(path))
