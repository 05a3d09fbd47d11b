"""Point tables of pyxy3d and caliscope: ``xy_*.csv`` (2D) and ``xyz_*.csv`` (3D).

Both name a camera by a number (``port`` or ``cam_id``) and a point by a number. The view is ``cam_<number>``, the
name of the camera in their TOML. MediaPipe Holistic numbers become :data:`HOLISTIC75`; anything else is a set of
loose points. Pixels carry no score.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.io.fields import Table, float32, header_columns, read_csv
from egopose.io.provenance import source
from egopose.io.registry import reader
from egopose.io.tables import _check_cells, _once
from egopose.observations import Observations2D
from egopose.pose import PoseSequence
from egopose.skeleton import BLAZEPOSE33, HAND21, HOLISTIC75, Skeleton, point_skeleton

_POINT = ("point_id", "keypoint_id")
_CAMERA = ("port", "cam_id")
FACE_FROM = 500


def holistic_numbers() -> dict[int, int]:
    """Their point numbers to indices of HOLISTIC75: body from 0, right hand from 100, left hand from 200."""
    table = {i: HOLISTIC75.index(joint) for i, joint in enumerate(BLAZEPOSE33.joints)}
    for start, side in ((100, "right"), (200, "left")):
        table |= {start + i: HOLISTIC75.index(f"{side}_hand_{joint}") for i, joint in enumerate(HAND21.joints)}
    return table


def _skeleton(ids: NDArray[np.int64], path: Path, kind: str | None) -> tuple[Skeleton, NDArray[np.int64]]:
    """The skeleton and each row's joint, -1 for face points."""
    numbers = holistic_numbers()
    if kind is None:
        body = set(np.unique(ids[ids < FACE_FROM]).tolist())
        named = "HOLISTIC" in path.name.upper()
        kind = "holistic" if body <= set(numbers) and (named or max(body, default=0) >= 100) else "points"
    if kind == "holistic":
        strange = [int(i) for i in np.unique(ids) if i < FACE_FROM and int(i) not in numbers]
        if strange:
            raise EgoposeError(f"{path}: point {strange[0]} is no MediaPipe Holistic point; give points='points'")
        return HOLISTIC75, np.array([numbers.get(int(i), -1) for i in ids], dtype=np.int64)
    if kind != "points":
        raise EgoposeError(f"points is {kind!r}; expected 'holistic' or 'points'")
    distinct, code = np.unique(ids, return_inverse=True)
    return point_skeleton([f"point_{i}" for i in distinct]), code


def _column(table: Table, names: tuple[str, ...], what: str) -> NDArray[np.int64]:
    name = next((n for n in names if n in table), None)
    if name is None:
        raise EgoposeError(f"{table.path}: column {' or '.join(map(repr, names))} is missing ({what})")
    return table.integers(name)


def _objects(table: Table) -> None:
    if "object_id" in table and len(set(table.text("object_id"))) > 1:
        raise EgoposeError(f"{table.path}: holds several objects (column object_id); split the file")


@reader(
    "caliscope-xy",
    kinds=("Observations2D",),
    suffixes=(".csv",),
    looks_for="the columns sync_index and img_loc_x",
    description="2D points of pyxy3d and caliscope (xy_*.csv)",
    sniff=lambda path, head: {"sync_index", "img_loc_x", "img_loc_y"} <= header_columns(head),
)
def read_xy(path: Path, *, fps: float | None = None, points: str | None = None) -> Observations2D:
    """Read 2D points.

    Args:
        path: The csv.
        fps: Frame rate of ``sync_index``, when known.
        points: "holistic" or "points"; by default the numbers and the file name decide.

    Raises:
        EgoposeError: Missing columns, repeated rows, unknown points.
    """
    path = Path(path)
    table = read_csv(path, ["sync_index", "img_loc_x", "img_loc_y"], what="an xy table")
    _objects(table)
    cameras, v = np.unique(_column(table, _CAMERA, "the camera"), return_inverse=True)
    frames, t = np.unique(table.integers("sync_index"), return_inverse=True)
    skeleton, j = _skeleton(_column(table, _POINT, "the point"), path, points)
    shape = (cameras.size, frames.size, skeleton.n_joints)
    _check_cells(int(np.prod(shape, dtype=np.float64)), table.n_rows, str(path))
    keep = j >= 0
    v, t, j = v[keep], t[keep], j[keep]
    _once((v * frames.size + t) * skeleton.n_joints + j, str(path))
    uv = np.full((*shape, 2), np.nan)
    uv[v, t, j] = table.xyz(["img_loc_x", "img_loc_y"])[keep]
    return Observations2D(
        skeleton=skeleton,
        views=tuple(f"cam_{camera}" for camera in cameras),
        frames=frames,
        uv_px=float32(uv),
        fps=fps,
        provenance=source(path, "caliscope-xy", points_left_out=int((~keep).sum())),
    )


@reader(
    "caliscope-xyz",
    kinds=("PoseSequence",),
    suffixes=(".csv",),
    looks_for="the columns sync_index and x_coord",
    description="3D points of pyxy3d and caliscope (xyz_*.csv)",
    sniff=lambda path, head: {"sync_index", "x_coord", "y_coord", "z_coord"} <= header_columns(head),
)
def read_xyz(path: Path, *, fps: float = 30.0, points: str | None = None) -> PoseSequence:
    """Read 3D points; the table holds no dependable times, so ``fps`` makes them from ``sync_index``.

    Raises:
        EgoposeError: Missing columns, repeated rows, unknown points.
    """
    path = Path(path)
    if not (np.isfinite(fps) and fps > 0):
        raise EgoposeError(f"fps is {fps}; expected a positive number")
    table = read_csv(path, ["sync_index", "x_coord", "y_coord", "z_coord"], what="an xyz table")
    _objects(table)
    frames, t = np.unique(table.integers("sync_index"), return_inverse=True)
    skeleton, j = _skeleton(_column(table, _POINT, "the point"), path, points)
    _check_cells(frames.size * skeleton.n_joints, table.n_rows, str(path))
    keep = j >= 0
    t, j = t[keep], j[keep]
    _once(t * skeleton.n_joints + j, str(path))
    xyz = np.full((frames.size, skeleton.n_joints, 3), np.nan)
    xyz[t, j] = table.xyz(["x_coord", "y_coord", "z_coord"])[keep]
    return PoseSequence(
        skeleton=skeleton,
        frames=frames,
        times_s=frames / fps,
        xyz=float32(xyz),
        provenance=source(path, "caliscope-xyz", points_left_out=int((~keep).sum())),
    )
