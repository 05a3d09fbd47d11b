"""C3D marker files: read by :mod:`egopose.io.c3d_parse`, written through ezc3d (extra ``mocap``)."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np

from egopose.errors import EgoposeError, require
from egopose.files import atomic_path
from egopose.io.c3d_parse import BLOCK, parse_c3d
from egopose.io.fields import float32, unit_scale
from egopose.io.provenance import source
from egopose.io.registry import note, reader, writer
from egopose.io.tables import skeleton_for
from egopose.io.trc import FROM_Y_UP, TO_Y_UP, _check_up, joint_name
from egopose.pose import PoseSequence

_MAX_FRAME = 65_534


@reader(
    "c3d",
    kinds=("PoseSequence",),
    suffixes=(".c3d",),
    looks_for="a C3D header (second byte 0x50)",
    description="optical motion capture files (writing needs the extra mocap)",
    sniff=lambda path, head: len(head) >= BLOCK and head[1] == 0x50 and 2 <= head[0] <= 64,
)
def read(path: Path, *, up: str = "z", unit: str | None = None) -> PoseSequence:
    """Read the markers of a C3D file.

    Args:
        path: The file.
        up: "z" keeps the axes, "y" turns Y up into Z up.
        unit: Overrides the unit that the file states.

    Raises:
        EgoposeError: Not C3D, damaged, no marker, an unknown unit.
    """
    _check_up(up)
    found = parse_c3d(path)
    stated = unit or found.unit or "mm"
    scale = unit_scale(stated)
    J = found.xyz.shape[1]
    markers = [label or f"point_{i}" for i, label in enumerate(found.labels[:J])]
    markers += [f"point_{i}" for i in range(len(markers), J)]
    joints = [joint_name(marker) for marker in markers]
    joints = joints if len(set(joints)) == J else markers
    if len(set(joints)) != J:
        twice = next(name for name in joints if joints.count(name) > 1)
        raise EgoposeError(f"{path}: two markers are labelled {twice!r}; rename one")
    xyz = found.xyz * scale
    skeleton = skeleton_for(joints)
    frames = found.first_frame + np.arange(len(xyz))
    order = [joints.index(joint) for joint in skeleton.joints]
    return PoseSequence(
        skeleton=skeleton,
        frames=frames,
        times_s=frames / found.rate_hz,
        xyz=float32(xyz[..., FROM_Y_UP] if up == "y" else xyz)[:, order],
        provenance=source(path, "c3d", up=up, unit=stated, markers=markers),
    )


@writer(
    "c3d",
    kinds=("PoseSequence",),
    suffixes=(".c3d",),
    description="optical motion capture files (writing needs the extra mocap)",
)
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
            parse_c3d(temporary)
        except EgoposeError as error:
            raise OSError(errno.ENOSPC, "the file came out short, the disk may be full") from error
