"""The C3D container in plain numpy: header, parameters, point data. Every length is checked against the file.

C++ readers follow the offsets of a damaged file out of their memory; this one refuses it. Layout: c3d.org's user
guide. Files of DEC and MIPS machines are refused (they have not been written since the 1990s).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import read_bytes

BLOCK = 512
INTEL = 84
MAX_BYTES = 8 << 30
_TYPES = {1: "<i1", 2: "<i2", 4: "<f4"}


@dataclass(frozen=True)
class C3DPoints:
    """The marker part of a file.

    Attributes:
        xyz: (T, J, 3) float64 in the file's unit, NaN where a marker was not seen.
        residual: (T, J) as stored; negative means not seen.
        first_frame: Number of the first frame, from 0.
        rate_hz: Frames per second.
        unit: As stated, lower case, or "".
        labels: Marker labels, possibly fewer than J.
    """

    xyz: NDArray[np.float64]
    residual: NDArray[np.float64]
    first_frame: int
    rate_hz: float
    unit: str
    labels: list[str]


def _parameters(data: bytes, start: int, where: str) -> dict[tuple[str, str], Any]:
    """All parameters as (GROUP, NAME): list of text, or a flat array of numbers."""
    groups: dict[int, str] = {}
    found: dict[tuple[int, str], Any] = {}
    at = start + 4
    end = min(len(data), start + max(data[start + 2], 1) * BLOCK)
    damaged = EgoposeError(f"{where}: the parameter section is damaged; the file is truncated or not C3D")
    for _ in range(10_000):
        if at + 2 > end:
            break
        n_name, group = struct.unpack_from("<bb", data, at)
        n_name = abs(n_name)
        if n_name == 0 or group == 0:
            break
        link = at + 2 + n_name
        if link + 2 > end:
            raise damaged
        name = data[at + 2 : link].decode("latin-1").strip().upper()
        step = struct.unpack_from("<H", data, link)[0]
        if group < 0:
            groups[-group] = name
        else:
            found[group, name] = _value(data, link + 2, end, damaged)
        if step == 0:
            break
        at = link + step
    return {(groups.get(group, str(group)), name): value for (group, name), value in found.items()}


def _value(data: bytes, at: int, end: int, damaged: EgoposeError) -> Any:
    if at + 2 > end:
        raise damaged
    kind, n_dims = struct.unpack_from("<bB", data, at)
    if n_dims > 7 or at + 2 + n_dims > end or (kind != -1 and kind not in _TYPES):
        raise damaged
    dims = list(data[at + 2 : at + 2 + n_dims])
    count = int(np.prod(dims, dtype=np.int64)) if dims else 1
    first = at + 2 + n_dims
    width = abs(kind)
    if first + count * width > end:
        raise damaged
    raw = data[first : first + count * width]
    if kind == -1:
        width = dims[0] if dims else 1
        text = raw.decode("utf-8", "replace") if not raw.isascii() else raw.decode("ascii")
        if len(text) != len(raw):
            text = raw.decode("latin-1")
        return [text[i : i + width].strip(" \x00") for i in range(0, len(text), max(width, 1))]
    return np.frombuffer(raw, dtype=_TYPES[kind])


def _first(parameters: dict[tuple[str, str], Any], name: str, default: Any) -> Any:
    value = parameters.get(("POINT", name))
    return default if value is None or len(value) == 0 else value[0]


def parse_c3d(path: str | os.PathLike[str]) -> C3DPoints:
    """Read the markers of a C3D file.

    Args:
        path: The file (Intel byte order, integers or floats).

    Raises:
        EgoposeError: Not C3D, truncated, or damaged.
    """
    where = os.fspath(path)
    data = read_bytes(path, MAX_BYTES)
    if not data:
        raise EgoposeError(f"{where}: the file is empty; expected C3D")
    if len(data) < 2 * BLOCK or data[1] != 0x50:
        raise EgoposeError(f"{where}: {len(data)} bytes without a C3D header; the file is truncated or not C3D")
    start = (data[0] - 1) * BLOCK
    if not BLOCK <= start <= len(data) - BLOCK:
        raise EgoposeError(f"{where}: the parameter section lies outside the file; the file is truncated or damaged")
    if data[start + 3] != INTEL:
        raise EgoposeError(
            f"{where}: processor type {data[start + 3]}; only Intel files ({INTEL}) are read, convert it"
        )
    n_points, n_analog, first, last = struct.unpack_from("<4H", data, 2)
    scale, data_block = struct.unpack_from("<fH", data, 12)
    rate = struct.unpack_from("<f", data, 20)[0]
    parameters = _parameters(data, start, where)
    stated = _first(parameters, "RATE", rate)
    rate = float("nan") if isinstance(stated, str) else float(stated)
    if not (np.isfinite(rate) and 0 < rate < 1e6):
        raise EgoposeError(f"{where}: the rate is {rate}; expected a positive number of frames per second")
    if n_points == 0:
        raise EgoposeError(f"{where}: has no marker (analog channels only)")
    is_float = scale < 0
    dtype = np.dtype("<f4" if is_float else "<i2")
    width = (n_points * 4 + n_analog) * dtype.itemsize
    begin = (data_block - 1) * BLOCK
    n_frames = last - first + 1
    if begin < BLOCK or begin > len(data):
        raise EgoposeError(f"{where}: the data section lies outside the file; the file is truncated or damaged")
    there = (len(data) - begin) // width
    # a 16-bit counter: longer files fill it up and go on
    if last == 0xFFFF:
        n_frames = there
    if n_frames < 1 or n_frames > there:
        raise EgoposeError(
            f"{where}: the header announces {n_frames} frames of {n_points} markers, {max(n_frames, 0) * width} bytes; "
            f"{len(data) - begin} are there; it is truncated or damaged"
        )
    if not is_float and not (np.isfinite(scale) and scale > 0):
        raise EgoposeError(f"{where}: the scale is {scale}; expected a positive number for integer data")
    rows = np.frombuffer(data, dtype=dtype, count=n_frames * width // dtype.itemsize, offset=begin)
    with np.errstate(invalid="ignore"):
        points = rows.reshape(n_frames, -1)[:, : 4 * n_points].reshape(n_frames, n_points, 4).astype(np.float64)
    residual = points[..., 3]
    xyz = points[..., :3] * (1.0 if is_float else float(scale))
    xyz[~(residual >= 0)] = np.nan
    labels: list[str] = []
    for suffix in ("", *map(str, range(2, 20))):
        more = parameters.get(("POINT", f"LABELS{suffix}"), [])
        if not isinstance(more, list):
            raise EgoposeError(f"{where}: POINT:LABELS{suffix} holds numbers; expected names, the file is damaged")
        labels += more
    unit = str(_first(parameters, "UNITS", "")).strip().lower()
    return C3DPoints(xyz, residual, max(int(first) - 1, 0), rate, unit, [str(label) for label in labels])
