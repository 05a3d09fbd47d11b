"""TRC marker files (Motion Analysis, OpenSim, Pose2Sim), both ways.

TRC has no word for the up axis. OpenSim and Pose2Sim write Y up, this package's world is Z up, so by default the
world's (X, Y, Z) are the columns (Z, X, Y); ``up="z"`` takes the columns as they stand.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from egopose.errors import EgoposeError
from egopose.files import atomic_write, read_text
from egopose.io.fields import MAX_FRAME, Floats, float32, unit_scale
from egopose.io.provenance import source
from egopose.io.registry import reader, writer
from egopose.io.tables import skeleton_for
from egopose.pose import PoseSequence
from egopose.skeleton import SKELETONS

FROM_Y_UP = np.array([2, 0, 1])
"""world = columns[FROM_Y_UP]: world x, y, z from the Y-up columns."""
TO_Y_UP = np.argsort(FROM_Y_UP)
_KNOWN = {joint for skeleton in SKELETONS.values() for joint in skeleton.joints}


def joint_name(marker: str) -> str:
    """Our name of a marker such as ``RBigToe``; unknown markers keep theirs."""
    if marker in _KNOWN:
        return marker
    match = re.fullmatch(r"([LR])([A-Z]\w*)", marker)
    side, rest = ({"L": "left_", "R": "right_"}[match[1]], match[2]) if match else ("", marker)
    ours = side + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", rest).lower()
    ours = {"hip": "mid_hip"}.get(ours, ours)
    return ours if ours in _KNOWN else marker


def _number_rows(lines: list[str], n_columns: int, first_line: int, path: Path) -> Floats:
    rows = []
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        cells = line.rstrip("\r\n").split("\t")
        # a writer may add or drop trailing tabs; what is cut off inside a row shows in its count
        while len(cells) > n_columns and not cells[-1].strip():
            cells.pop()
        if len(cells) != n_columns:
            raise EgoposeError(
                f"{path}: line {first_line + i} has {len(cells)} cells; expected {n_columns} "
                "(frame, time, three per marker); the file may be truncated"
            )
        try:
            rows.append([float(cell) if cell.strip() else np.nan for cell in cells])
        except ValueError as error:
            raise EgoposeError(f"{path}: line {first_line + i}: {error}; expected numbers") from error
    if not rows:
        raise EgoposeError(f"{path}: has a header but no frames; the file may be truncated")
    return np.array(rows)


@reader(
    "trc",
    kinds=("PoseSequence",),
    suffixes=(".trc",),
    looks_for="PathFileType in the first line",
    description="marker trajectories for OpenSim and Pose2Sim",
    sniff=lambda path, head: head.lstrip(b"\xef\xbb\xbf").startswith(b"PathFileType"),
)
def read(path: Path, *, up: str = "y", unit: str | None = None) -> PoseSequence:
    """Read a TRC file.

    Args:
        path: The file.
        up: "y" turns Y up into this package's Z up, "z" keeps the columns.
        unit: Overrides the unit that the file states: "m", "cm" or "mm".

    Raises:
        EgoposeError: A broken header, rows of another length, an unknown unit.
    """
    _check_up(up)
    lines = read_text(path, max_bytes=4 << 30).splitlines()
    if len(lines) < 5 or not lines[0].startswith("PathFileType"):
        raise EgoposeError(f"{path}: has {len(lines)} lines; expected a TRC header of five lines and frames")
    keys, values = lines[1].split("\t"), lines[2].split("\t")
    header = {key.strip(): value.strip() for key, value in zip(keys, values)}
    stated = unit or header.get("Units", "")
    if stated.lower() not in ("m", "cm", "mm"):
        raise EgoposeError(f"{path}: unit {stated!r}; expected m, cm or mm (give unit=)")
    markers = [name.strip() for name in lines[3].rstrip("\r\n").split("\t")[2:] if name.strip()]
    if not markers:
        raise EgoposeError(f"{path}: line 4 names no marker")
    try:
        stated_count = int(float(header.get("NumMarkers", len(markers))))
    except (ValueError, OverflowError) as error:
        raise EgoposeError(f"{path}: NumMarkers is {header['NumMarkers']!r}; expected a number") from error
    if stated_count != len(markers):
        raise EgoposeError(f"{path}: NumMarkers is {stated_count} but line 4 names {len(markers)}")
    joints = [joint_name(marker) for marker in markers]
    joints = joints if len(set(joints)) == len(joints) else markers
    values_ = _number_rows(lines[5:], 2 + 3 * len(markers), 6, Path(path))
    frames = values_[:, 0]
    if not (np.isfinite(frames) & (frames == np.round(frames)) & (np.abs(frames) < MAX_FRAME)).all():
        raise EgoposeError(f"{path}: the column Frame# holds something other than whole numbers")
    xyz = values_[:, 2:].reshape(len(values_), len(markers), 3) * unit_scale(stated.lower())
    return PoseSequence(
        skeleton=skeleton_for(joints),
        frames=frames.astype(np.int64),
        times_s=values_[:, 1],
        xyz=float32(xyz[..., FROM_Y_UP] if up == "y" else xyz)[:, _order(joints)],
        provenance=source(path, "trc", up=up, unit=stated, markers=markers),
    )


def _order(joints: list[str]) -> np.ndarray:
    """Positions of the columns in the order of the skeleton that was found."""
    return np.array([joints.index(joint) for joint in skeleton_for(joints).joints])


def _check_up(up: str) -> None:
    if up not in ("y", "z"):
        raise EgoposeError(f"up is {up!r}; expected 'y' or 'z'")


@writer("trc", kinds=("PoseSequence",), suffixes=(".trc",), description="marker trajectories for OpenSim")
def write(pose: PoseSequence, path: Path, *, up: str = "y", unit: str = "m") -> None:
    """Write a TRC file; joints that are not known are empty cells.

    Args:
        pose: What to write; error bars and status are not stored.
        path: The file.
        up: "y" turns our Z up into Y up, "z" keeps the axes.
        unit: "m" or "mm".
    """
    _check_up(up)
    if unit not in ("m", "mm"):
        raise EgoposeError(f"unit is {unit!r}; expected 'm' or 'mm'")
    bad = next((j for j in pose.skeleton.joints if re.search(r"[\t\r\n]|^\s*$", j)), None)
    if bad is not None:
        raise EgoposeError(f"{path}: joint name {bad!r} cannot stand in a TRC file (tabs or line breaks)")
    rate = pose.fps or 30.0
    T, J = pose.n_frames, pose.n_joints
    first = int(pose.frames[0]) if T else 0
    columns = pose.xyz.astype(np.float64) / unit_scale(unit)
    columns = (columns[..., TO_Y_UP] if up == "y" else columns).reshape(T, 3 * J)
    rate_text = f"{rate:.12g}"
    name = re.sub(r"[\t\r\n]", " ", Path(path).name)
    with atomic_write(path, "w") as stream:
        stream.write(f"PathFileType\t4\t(X/Y/Z)\t{name}\n")
        stream.write(
            "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n"
        )
        stream.write(f"{rate_text}\t{rate_text}\t{T}\t{J}\t{unit}\t{rate_text}\t{first}\t{T}\n")
        stream.write("Frame#\tTime\t" + "\t\t\t".join(pose.skeleton.joints) + "\t\t\n")
        stream.write("\t\t" + "\t".join(f"{axis}{j}" for j in range(1, J + 1) for axis in "XYZ") + "\n")
        for frame, time, row in zip(pose.frames.tolist(), pose.times_s.tolist(), columns.tolist()):
            cells = "\t".join("" if value != value else repr(value) for value in row)
            stream.write(f"{frame}\t{time!r}\t{cells}\n")
