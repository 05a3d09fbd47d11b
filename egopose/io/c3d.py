"""C3D marker files through ezc3d (extra ``mocap``)."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import Any

import numpy as np

from egopose.errors import EgoposeError, require
from egopose.files import atomic_path, read_bytes
from egopose.io.fields import float32, unit_scale
from egopose.io.provenance import source
from egopose.io.registry import note, reader, writer
from egopose.io.tables import skeleton_for
from egopose.io.trc import FROM_Y_UP, TO_Y_UP, _check_up, joint_name
from egopose.pose import PoseSequence

_BLOCK = 512
_MAX_FRAME = 65_534


def _check_header(path: Path) -> None:
    """Refuse files whose header points outside them, before the C++ parser follows it."""
    data = read_bytes(path, 8 << 30)
    if len(data) < 2 * _BLOCK or data[1] != 0x50:
        raise EgoposeError(f"{path}: {len(data)} bytes without a C3D header; the file is truncated or not C3D")
    parameter = (data[0] - 1) * _BLOCK
    if not _BLOCK <= parameter <= len(data) - _BLOCK:
        raise EgoposeError(f"{path}: the parameter section lies outside the file; the file is truncated or damaged")
    processor = data[parameter + 3]
    if processor not in (84, 85, 86):
        raise EgoposeError(f"{path}: processor type {processor}; expected 84, 85 or 86; the file is damaged")
    if processor != 84:
        return
    points, analog, first, last = struct.unpack_from("<4H", data, 2)
    scale, start = struct.unpack_from("<fH", data, 12)
    n_frames = max(last - first + 1, 0)
    width = 4 if scale < 0 else 2
    need = (start - 1) * _BLOCK + n_frames * (points * 4 + analog) * width
    # frame counts beyond 65535 are capped here and stated in the parameters
    if last != 0xFFFF and (start < 2 or need > len(data)):
        raise EgoposeError(
            f"{path}: the header announces {n_frames} frames of {points} points, {need} bytes; the file has "
            f"{len(data)}; it is truncated or damaged"
        )


@reader(
    "c3d",
    kinds=("PoseSequence",),
    suffixes=(".c3d",),
    looks_for="a C3D header (second byte 0x50)",
    description="optical motion capture files (needs the extra mocap)",
    sniff=lambda path, head: len(head) >= _BLOCK and head[1] == 0x50 and 2 <= head[0] <= 64,
)
def read(path: Path, *, up: str = "z", unit: str | None = None) -> PoseSequence:
    """Read the markers of a C3D file.

    Args:
        path: The file.
        up: "z" keeps the axes, "y" turns Y up into Z up.
        unit: Overrides the unit that the file states.

    Raises:
        MissingExtra: ezc3d is not installed.
        EgoposeError: Not C3D, damaged, no marker, an unknown unit.
    """
    _check_up(up)
    ezc3d = require("ezc3d", "mocap")
    _check_header(Path(path))
    try:
        content = ezc3d.c3d(str(path))
        point = content["parameters"]["POINT"]
        points = np.asarray(content["data"]["points"], dtype=np.float64)
        rate = float(point["RATE"]["value"][0])
        stated = unit or (point.get("UNITS", {}).get("value") or ["mm"])[0] or "mm"
        labels = [label for name in ("LABELS", *(f"LABELS{i}" for i in range(2, 10)))
                  for label in point.get(name, {}).get("value", [])]  # fmt: skip
        first = int(content["header"]["points"]["first_frame"])
    except (KeyError, IndexError, TypeError, ValueError, OSError, RuntimeError, MemoryError, OverflowError) as error:
        raise EgoposeError(f"{path}: not readable as C3D ({' '.join(str(error).split())[:160]})") from error
    if points.ndim != 3 or points.shape[1] == 0 or points.shape[2] == 0:
        raise EgoposeError(f"{path}: has no marker or no frame")
    if not (np.isfinite(rate) and rate > 0):
        raise EgoposeError(f"{path}: the rate is {rate}; expected a positive number")
    scale = unit_scale(str(stated).strip().lower())
    J = points.shape[1]
    markers = [str(label).strip() or f"point_{i}" for i, label in enumerate(labels[:J])]
    markers += [f"point_{i}" for i in range(len(markers), J)]
    joints = [joint_name(marker) for marker in markers]
    joints = joints if len(set(joints)) == J else markers
    if len(set(joints)) != J:
        raise EgoposeError(f"{path}: two markers share a label; rename one")
    xyz = np.moveaxis(points[:3], 0, -1).swapaxes(0, 1) * scale
    skeleton = skeleton_for(joints)
    frames = first + np.arange(points.shape[2])
    order = [joints.index(joint) for joint in skeleton.joints]
    return PoseSequence(
        skeleton=skeleton,
        frames=frames,
        times_s=frames / rate,
        xyz=float32(xyz[..., FROM_Y_UP] if up == "y" else xyz)[:, order],
        provenance=source(path, "c3d", up=up, unit=stated, markers=markers),
    )


@writer("c3d", kinds=("PoseSequence",), suffixes=(".c3d",), description="motion capture file (needs the extra mocap)")
def write(pose: PoseSequence, path: Path, *, up: str = "z", unit: str = "mm") -> None:
    """Write the joints as markers; frames must follow each other, unknown joints get residual -1.

    C3D holds no times: they become frame number over rate when it is read again.

    Args:
        pose: What to write; error bars and status are not stored.
        path: The file.
        up: "z" keeps the axes, "y" turns our Z up into Y up.
        unit: "mm" or "m".

    Raises:
        MissingExtra: ezc3d is not installed.
        EgoposeError: Frames are missing in between, or fewer than two (no rate).
    """
    _check_up(up)
    ezc3d = require("ezc3d", "mocap")
    if unit not in ("m", "mm"):
        raise EgoposeError(f"unit is {unit!r}; expected 'm' or 'mm'")
    gaps = np.flatnonzero(np.diff(pose.frames) != 1)
    rate = pose.fps
    if gaps.size or rate is None:
        where = f"frame {pose.frames[gaps[0] + 1]} follows {pose.frames[gaps[0]]}" if gaps.size else "fewer than two"
        raise EgoposeError(f"{path}: C3D holds consecutive frames at a fixed rate; {where}; fill or cut the sequence")
    content = ezc3d.c3d()
    parameters: Any = content["parameters"]
    parameters["POINT"]["RATE"]["value"] = [rate]
    parameters["POINT"]["UNITS"]["value"] = [unit]
    parameters["POINT"]["LABELS"]["value"] = list(pose.skeleton.joints)
    xyz = pose.xyz.astype(np.float64) / unit_scale(unit)
    points = np.ones((4, pose.n_joints, pose.n_frames))
    points[:3] = np.moveaxis(xyz[..., TO_Y_UP] if up == "y" else xyz, -1, 0).swapaxes(1, 2)
    content["data"]["points"] = points
    first, last = int(pose.frames[0]), int(pose.frames[-1])
    if first < 0 or last >= _MAX_FRAME:
        note(
            f"{path}: C3D counts frames from 0 to {_MAX_FRAME - 1}; frames {first} to {last} are numbered from 0 there"
        )
        first, last = 0, last - first
    content["header"]["points"]["first_frame"], content["header"]["points"]["last_frame"] = first, last
    content["data"]["meta_points"]["residuals"] = np.where(pose.valid.T, 0.0, -1.0)[None]
    with atomic_path(path) as temporary:
        try:
            content.write(str(temporary))
        except RuntimeError as error:
            raise OSError(f"ezc3d: {error}") from error
        try:
            # the library says nothing when the disk fills up halfway
            _check_header(temporary)
        except EgoposeError as error:
            raise OSError(errno.ENOSPC, "the file came out short, the disk may be full") from error
