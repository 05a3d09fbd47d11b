"""A whole Ego-Exo4D annotation file as arrays, large files through the scanner and kept as columns.

The joints are those of the file, by its own names; :mod:`egopose.io.ego_exo4d_annotation` makes our types of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.io.columnar_cache import Columns, cached, pack_text, unpack_text
from egopose.io.ego_exo4d_files import read_with
from egopose.io.ego_exo4d_values import MAX_FRAME, shape_text
from egopose.io.json_table import Key, Scanner, Table, Unusual

Floats = NDArray[np.float64]
UNKNOWN, MANUAL, AUTO = 0, 1, 2
"""Placement of a 2D point: not said, clicked by an annotator, reprojected from 3D."""
PLACEMENTS = {"manual": MANUAL, "auto": AUTO}
VERSION = "annotation1"


@dataclass(frozen=True, eq=False)
class AnnotationArrays:
    """One take.

    Attributes:
        frames: (T,) int64, sorted.
        joints: Names of the J joints that have 3D in some frame, sorted.
        xyz: (T, J, 3) float64 metres, world; NaN = absent.
        num_views: (T, J) float64, NaN = not said.
        views: Names of the V cameras, sorted.
        joints2d: Names of the K joints that have 2D somewhere, sorted.
        uv_px: (V, T, K, 2) float64 pixels of the undistorted image; NaN = absent.
        placement: (V, T, K) uint8: UNKNOWN, MANUAL, AUTO.
        crowded: Frames with more than one person; the first was taken.
    """

    frames: NDArray[np.int64]
    joints: tuple[str, ...]
    xyz: Floats
    num_views: Floats
    views: tuple[str, ...]
    joints2d: tuple[str, ...]
    uv_px: Floats
    placement: NDArray[np.uint8]
    crowded: int = 0


def _blank(
    frames: NDArray[np.int64], joints: set[str], views: set[str], joints2d: set[str], crowded: int
) -> AnnotationArrays:
    n, v, k = frames.size, len(views), len(joints2d)
    return AnnotationArrays(
        frames=frames,
        joints=tuple(sorted(joints)),
        xyz=np.full((n, len(joints), 3), np.nan),
        num_views=np.full((n, len(joints)), np.nan),
        views=tuple(sorted(views)),
        joints2d=tuple(sorted(joints2d)),
        uv_px=np.full((v, n, k, 2), np.nan),
        placement=np.zeros((v, n, k), dtype=np.uint8),
        crowded=crowded,
    )


# general parser


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise EgoposeError(f"{where}: is {shape_text(value)}; expected an object with keys")
    return value


def _values(point: Mapping[str, Any], names: Sequence[str], where: str) -> list[float]:
    """Members of a point as numbers; absent and null are NaN."""
    out = []
    for name in names:
        value = point.get(name)
        if value is not None and type(value) not in (int, float):
            raise EgoposeError(f"{where}: {name} is {shape_text(value)}, so the point is not an array of numbers")
        try:
            out.append(float("nan") if value is None else float(value))
        except OverflowError:
            raise EgoposeError(f"{where}: {name} is a number too large to read") from None
    return out


def walk_annotation(document: Any, where: str) -> AnnotationArrays:
    """The arrays of a parsed document."""
    entries: dict[int, Mapping[str, Any]] = {}
    crowded = 0
    for key, value in _object(document, where).items():
        if not re.fullmatch(r"[0-9]{1,12}", key):
            if key == "metadata":
                continue
            raise EgoposeError(f"{where}: key {key!r}; expected frame numbers")
        frame = int(key)
        if frame in entries:
            raise EgoposeError(f"{where}: frame {key} stands twice, as numbers with and without leading zeros")
        if not isinstance(value, list):
            raise EgoposeError(f"{where}: frame {key}: is {shape_text(value)}; expected a list with one annotation")
        crowded += len(value) > 1
        entries[frame] = _object(value[0], f"{where}: frame {key}") if value else {}
    if not entries:
        raise EgoposeError(f"{where}: no frame in it; nothing to read")
    frames = sorted(entries)
    points: list[tuple[int, str, Mapping[str, Any]]] = []
    clicks: list[tuple[int, str, str, Mapping[str, Any]]] = []
    for t, frame in enumerate(frames):
        at = f"{where}: frame {frame}"
        for joint, point in _object(entries[frame].get("annotation3D"), f"{at}: annotation3D").items():
            points.append((t, joint, _object(point, f"{at}: {joint}")))
        for view, seen in _object(entries[frame].get("annotation2D"), f"{at}: annotation2D").items():
            for joint, point in _object(seen, f"{at}: {view}").items():
                clicks.append((t, view, joint, _object(point, f"{at}: {view}, {joint}")))
    seen_by = {view for _, view, _, _ in clicks}
    joints2d = {joint for _, _, joint, _ in clicks}
    result = _blank(np.array(frames, dtype=np.int64), {p[1] for p in points}, seen_by, joints2d, crowded)
    place = {joint: j for j, joint in enumerate(result.joints)}
    for t, joint, point in points:
        at = f"{where}: frame {frames[t]}, {joint}"
        result.xyz[t, place[joint]] = _values(point, "xyz", at)
        result.num_views[t, place[joint]] = _values(point, ("num_views_for_3d",), at)[0]
    row = {view: v for v, view in enumerate(result.views)}
    column = {joint: j for j, joint in enumerate(result.joints2d)}
    for t, view, joint, point in clicks:
        at = f"{where}: frame {frames[t]}, {view}, {joint}"
        result.uv_px[row[view], t, column[joint]] = _values(point, "xy", at)
        result.placement[row[view], t, column[joint]] = PLACEMENTS.get(str(point.get("placement")), UNKNOWN)
    return result


# scanner


def scan_annotation(scanner: Scanner, where: str) -> AnnotationArrays:
    """The arrays through the scanner."""
    from egopose.kernels import json_scan as kernel

    scanner.rows(0)
    scanner.finish()
    table = scanner.table()
    numbers = table.numbers_of_keys(MAX_FRAME)
    rows = np.flatnonzero(numbers >= 0)
    others = [table.key(int(row)) for row in np.flatnonzero(numbers < 0)]
    frames = numbers[rows]
    if not rows.size or others not in ([], ["metadata"]) or np.unique(frames).size != frames.size:
        raise Unusual(0)
    rows = rows[np.argsort(frames)]
    absent, null = np.uint64(kernel.ABSENT), np.uint64(kernel.NULL)
    if rows.size != len(table):
        # paths that only the metadata has are no joints
        used = (table.words[rows] != absent).any(0)
        table.columns = {path: column for path, column in table.columns.items() if used[column]}
    empties = np.array([absent, null, kernel.EMPTY_LIST, kernel.EMPTY_OBJECT], dtype=np.uint64)
    paths = _wanted(table)
    crowded = _any(table, rows, [c for path, c in table.columns.items() if path[:1] == (1,)])
    # where an object is wanted, nothing but an empty one may stand
    for path, c in table.columns.items():
        if path in paths.containers and not np.isin(table.words[rows, c], empties).all():
            raise Unusual(0)
    own = table.columns.get(())
    if own is not None and not np.isin(table.words[rows, own], [absent, np.uint64(kernel.EMPTY_LIST)]).all():
        raise Unusual(0)
    if any(
        isinstance(path[0], str) and (table.words[rows, c] != absent).any() for path, c in table.columns.items() if path
    ):
        raise Unusual(0)

    def block(leaves: list[tuple[Key, ...]]) -> Floats:
        values, misfits = table.numbers(leaves, rows)
        if misfits[:, 1].any():
            raise Unusual(0)
        return values

    head: tuple[Key, ...] = (0, "annotation3D")
    head2: tuple[Key, ...] = (0, "annotation2D")
    result = _blank(np.sort(frames), paths.joints, paths.views, paths.joints2d, int(crowded.sum()))
    if result.joints:
        result.xyz[:] = block([(*head, j, a) for j in result.joints for a in "xyz"]).reshape(rows.size, -1, 3)
        result.num_views[:] = block([(*head, j, "num_views_for_3d") for j in result.joints])
    for v, view in enumerate(result.views):
        leaves = [(*head2, view, j) for j in result.joints2d]
        result.uv_px[v] = block([(*leaf, a) for leaf in leaves for a in "xy"]).reshape(rows.size, -1, 2)
        result.placement[v] = table.strings([(*leaf, "placement") for leaf in leaves], rows, PLACEMENTS)
    return result


@dataclass
class _Wanted:
    joints: set[str]
    views: set[str]
    joints2d: set[str]
    containers: set[tuple[Key, ...]]


def _wanted(table: Table) -> _Wanted:
    """Names in the paths, and the paths where objects must stand."""
    joints: set[str] = set()
    views: set[str] = set()
    joints2d: set[str] = set()
    containers: set[tuple[Key, ...]] = {(0,), (0, "annotation3D"), (0, "annotation2D")}
    for path in table.columns:
        deep = len(path)
        if path[:2] == (0, "annotation3D") and deep >= 3:
            joints.add(str(path[2]))
            containers.add(path[:3])
        elif path[:2] == (0, "annotation2D") and deep >= 3:
            containers.add(path[:3])
            if deep >= 4:
                views.add(str(path[2]))
                joints2d.add(str(path[3]))
                containers.add(path[:4])
        # a container where a number belongs
        if (path[:2] == (0, "annotation3D") and deep >= 5 and path[3] in ("x", "y", "z", "num_views_for_3d")) or (
            path[:2] == (0, "annotation2D") and deep >= 6 and path[4] in ("x", "y")
        ):
            raise Unusual(0)
        # a list where the one annotation belongs
        if deep >= 2 and path[0] == 0 and isinstance(path[1], int):
            raise Unusual(0)
        # or where a clicked joint belongs
        if deep >= 5 and path[:2] == (0, "annotation2D") and isinstance(path[4], int):
            raise Unusual(0)
        if any(isinstance(key, int) for key in path[1:4]) and path[:1] == (0,) and deep >= 2 and path[1] in (
            "annotation3D", "annotation2D",
        ):  # fmt: skip
            raise Unusual(0)
    return _Wanted(joints, views, joints2d, containers)


def _any(table: Table, rows: NDArray[np.int64], columns: list[int]) -> NDArray[np.bool_]:
    from egopose.kernels.json_scan import ABSENT

    if not columns:
        return np.zeros(rows.size, dtype=np.bool_)
    return np.asarray((table.words[rows[:, None], np.array(columns)] != np.uint64(ABSENT)).any(1))


# public


def read_annotation_arrays(
    path: str | os.PathLike[str], *, scanner: bool | None = None, cache: bool | None = None
) -> AnnotationArrays:
    """Read an annotation file (body or hand, manual or automatic).

    Args:
        path: ``<take_uid>.json``.
        scanner: Force or forbid the fast reader; None decides by size. The result is the same.
        cache: Force or forbid a copy in columns in the user's cache folder; None keeps one of large files.

    Raises:
        EgoposeError: Unreadable, not JSON (with the line), or not an annotation.
    """

    def build() -> Columns:
        arrays = read_with(path, scan_annotation, walk_annotation, scanner=scanner)
        return {
            "frames": arrays.frames, "xyz": arrays.xyz, "num_views": arrays.num_views, "uv_px": arrays.uv_px,
            "placement": arrays.placement, "crowded": np.array(arrays.crowded),
            "joints": pack_text(list(arrays.joints)), "views": pack_text(list(arrays.views)),
            "joints2d": pack_text(list(arrays.joints2d)),
        }  # fmt: skip

    return cached(path, VERSION, build, _from_columns, cache=cache)


def _from_columns(columns: Columns) -> AnnotationArrays:
    """The inverse of the columns that are kept.

    Raises:
        ValueError: They do not fit together.
    """
    found = AnnotationArrays(
        frames=columns["frames"],
        joints=tuple(unpack_text(columns["joints"])),
        xyz=columns["xyz"],
        num_views=columns["num_views"],
        views=tuple(unpack_text(columns["views"])),
        joints2d=tuple(unpack_text(columns["joints2d"])),
        uv_px=columns["uv_px"],
        placement=columns["placement"],
        crowded=int(columns["crowded"]),
    )
    shape = (found.frames.size, len(found.joints))
    shape_2d = (len(found.views), found.frames.size, len(found.joints2d))
    wanted = {
        "frames": ("i", (found.frames.size,)), "xyz": ("f", (*shape, 3)), "num_views": ("f", shape),
        "uv_px": ("f", (*shape_2d, 2)), "placement": ("u", shape_2d),
    }  # fmt: skip
    for name, (kind, size) in wanted.items():
        array = getattr(found, name)
        if array.dtype.kind != kind or array.shape != size:
            raise ValueError(f"{name} has shape {array.shape} of {array.dtype}")
    if not all(isinstance(name, str) for names in (found.joints, found.views, found.joints2d) for name in names):
        raise ValueError("a name is no text")
    return found
