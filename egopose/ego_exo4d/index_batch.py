"""Many annotation files parsed as one text: the paths in them are learnt once for all, which is most of the work."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import parse_json
from egopose.io.ego_exo4d_annotation import BODY_NAMES, HAND_NAMES, pick_kind
from egopose.io.ego_exo4d_annotation_arrays import PLACEMENTS, AnnotationArrays, _any, _wanted, walk_annotation
from egopose.io.ego_exo4d_values import MAX_FRAME
from egopose.io.json_table import Key, Scanner, Table, Unusual
from egopose.skeleton import BODY17, Skeleton

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Parsed:
    """One file: its columns (see :data:`egopose.ego_exo4d.index.COLUMNS`), or why it was refused.

    Attributes:
        sha256: Of the text.
        views: Cameras with 2D, sorted.
        columns: Frames increasing; 2D rows are views by frames. Empty when refused.
        crowded: Frames with several people.
        joints_3d: Finite 3D joints in all.
        error: One line, or None.
    """

    sha256: str
    views: tuple[str, ...] = ()
    columns: Mapping[str, NDArray[Any]] | None = None
    crowded: int = 0
    joints_3d: int = 0
    error: str | None = None


def single(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The numbers as kept; one beyond their range is as good as none."""
    with np.errstate(over="ignore"):
        kept = values.astype(np.float32)
    kept[np.isinf(kept)] = np.nan
    return kept


def arrange(arrays: AnnotationArrays, skeleton: Skeleton, where: str) -> Columns:
    """The arrays of a file in the joint order of a skeleton."""
    kind = "body" if skeleton is BODY17 else "hand"
    n, j = arrays.frames.size, skeleton.n_joints
    xyz = np.full((n, j, 3), np.nan, dtype=np.float32)
    views_3d = np.full((n, j), -1, dtype=np.int8)
    uv = np.full((len(arrays.views), n, j, 2), np.nan, dtype=np.float32)
    placement = np.zeros(uv.shape[:3], dtype=np.uint8)
    if arrays.joints:
        names = pick_kind(arrays.joints, kind, where)[1]
        at = skeleton.indices([names[joint] for joint in arrays.joints])
        xyz[:, at] = single(arrays.xyz)
        views_3d[:, at] = view_counts(arrays.num_views)
    if arrays.joints2d:
        names = pick_kind(arrays.joints2d, kind, where)[1]
        at = skeleton.indices([names[joint] for joint in arrays.joints2d])
        uv[:, :, at] = single(arrays.uv_px)
        placement[:, :, at] = arrays.placement
    return {
        "frames": arrays.frames, "xyz": xyz, "views_3d": views_3d, "uv": uv.reshape(-1, j, 2),
        "placement": placement.reshape(-1, j),
    }  # fmt: skip


def view_counts(values: NDArray[np.float64]) -> NDArray[np.int8]:
    """Numbers of views as int8, -1 where the file does not say."""
    return np.where(np.isfinite(values), np.clip(values, 0, 127), -1).astype(np.int8)


def read_files(paths: Sequence[Path], skeleton: Skeleton) -> list[tuple[os.stat_result | None, Parsed]]:
    """Read and parse files, in order; those that cannot be read are refused."""
    stats: list[os.stat_result | None] = []
    errors: dict[int, str] = {}
    for i, path in enumerate(paths):
        try:
            stats.append(os.stat(path))
        except OSError as error:
            stats.append(None)
            errors[i] = f"{path}: cannot read ({error.strerror})"
    # one buffer, a line end after each file
    data = np.full(sum(stat.st_size + 1 for stat in stats if stat is not None), 10, dtype=np.uint8)
    spans: dict[int, tuple[int, int]] = {}
    start = 0
    for i, (path, stat) in enumerate(zip(paths, stats)):
        if stat is None:
            continue
        stop = start + stat.st_size
        try:
            with open(path, "rb", buffering=0) as stream:
                if stream.readinto(data.data[start:stop]) != stat.st_size:
                    raise OSError(0, "it changed while it was read")
        except OSError as error:
            errors[i] = f"{path}: cannot read ({error.strerror})"
            # what was written there is white space again
            data[start:stop] = 10
        else:
            spans[i] = (start, stop)
        start = stop + 1
    parsed = {}
    if spans:
        names = [str(paths[i]) for i in spans]
        parsed = dict(zip(spans, read_buffer(data, list(spans.values()), names, skeleton), strict=True))
    return [(stats[i], parsed[i] if i in parsed else Parsed("", error=errors[i])) for i in range(len(paths))]


def read_texts(texts: Sequence[bytes], names: Sequence[str], skeleton: Skeleton) -> list[Parsed]:
    """:func:`read_buffer` for files given one by one."""
    stops = np.cumsum([len(text) + 1 for text in texts])
    spans = [(int(stop) - len(text) - 1, int(stop) - 1) for text, stop in zip(texts, stops)]
    return read_buffer(np.frombuffer(b"\n".join(texts) + b"\n", dtype=np.uint8), spans, names, skeleton)


def read_buffer(
    data: NDArray[np.uint8], spans: Sequence[tuple[int, int]], names: Sequence[str], skeleton: Skeleton
) -> list[Parsed]:
    """Parse files that lie in one buffer; a file that is refused does not stop the others.

    Args:
        data: The files, each followed by one byte of white space.
        spans: First byte and end of each file.
        names: Their names, for messages.
        skeleton: BODY17, or both hands.
    """
    hashes = [hashlib.sha256(data.data[start:stop]).hexdigest() for start, stop in spans]
    return _parse(data, spans, names, hashes, skeleton)


def _parse(
    data: NDArray[np.uint8], spans: Sequence[tuple[int, int]], names: Sequence[str], hashes: Sequence[str],
    skeleton: Skeleton,
) -> list[Parsed]:  # fmt: skip
    try:
        return [Parsed(sha, *one) for sha, one in zip(hashes, _scan(data, spans, skeleton), strict=True)]
    except Unusual:
        pass
    if len(spans) > 1:
        half = len(spans) // 2
        return [
            *_parse(data, spans[:half], names[:half], hashes[:half], skeleton),
            *_parse(data, spans[half:], names[half:], hashes[half:], skeleton),
        ]
    try:
        text = data[spans[0][0] : spans[0][1]].tobytes()
        arrays = walk_annotation(parse_json(text, names[0]), names[0])
        columns = arrange(arrays, skeleton, names[0])
    except EgoposeError as error:
        return [Parsed(hashes[0], error=" ".join(str(error).split()))]
    joints = int(np.isfinite(columns["xyz"]).all(-1).sum())
    return [Parsed(hashes[0], arrays.views, columns, arrays.crowded, joints)]


def _scan(
    data: NDArray[np.uint8], spans: Sequence[tuple[int, int]], skeleton: Skeleton
) -> list[tuple[tuple[str, ...], Columns, int, int]]:
    """All files through one scanner: views, columns, crowded frames and 3D joints of each.

    Raises:
        Unusual: Some file needs the general parser.
    """
    scanner = Scanner(data[: spans[-1][1]])
    counts = []
    for start, stop in spans:
        if start == stop:
            raise Unusual(start)
        first, last = scanner.rows(start)
        # a file that is cut off must not borrow from its neighbour
        if scanner.after > stop or data[scanner.after : stop].tobytes().strip(b" \t\r\n"):
            raise Unusual(scanner.after)
        counts.append(last - first)
    file_of = np.repeat(np.arange(len(spans)), counts)
    return _columns(scanner.table(), file_of, len(spans), skeleton)


def _columns(
    table: Table, file_of: NDArray[np.int64], n_files: int, skeleton: Skeleton
) -> list[tuple[tuple[str, ...], Columns, int, int]]:
    from egopose.kernels import json_scan as kernel

    numbers = table.numbers_of_keys(MAX_FRAME)
    if any(table.key(int(row)) != "metadata" for row in np.flatnonzero(numbers < 0)):
        raise Unusual(0)
    rows = np.flatnonzero(numbers >= 0)
    rows = rows[np.lexsort((numbers[rows], file_of[rows]))]
    frames, files = numbers[rows], file_of[rows]
    sizes = np.bincount(files, minlength=n_files)
    if (sizes == 0).any() or ((np.diff(frames) == 0) & (np.diff(files) == 0)).any():
        raise Unusual(0)
    absent = np.uint64(kernel.ABSENT)
    if rows.size != len(table):
        # paths that only the metadata has are no joints
        used = (table.words[rows] != absent).any(0)
        table.columns = {path: column for path, column in table.columns.items() if used[column]}
    paths = _wanted(table)
    # a row that is an object, not a list
    if any(path and isinstance(path[0], str) for path in table.columns):
        raise Unusual(0)
    boxes = [c for path, c in table.columns.items() if path in paths.containers]
    _only(table, rows, boxes, [absent, kernel.NULL, kernel.EMPTY_LIST, kernel.EMPTY_OBJECT])
    _only(table, rows, [table.columns[()]] if () in table.columns else [], [absent, kernel.EMPTY_LIST])
    crowded = _any(table, rows, [c for path, c in table.columns.items() if path[:1] == (1,)])
    names = _names(skeleton, paths.joints | paths.joints2d)

    def block(leaves: list[tuple[Key, ...]]) -> NDArray[np.float64]:
        values, misfits = table.numbers(leaves, rows)
        if misfits[:, 1].any():
            raise Unusual(0)
        return values

    j = skeleton.n_joints
    head: tuple[Key, ...] = (0, "annotation3D")
    xyz = single(block([(*head, n, a) for n in names for a in "xyz"])).reshape(-1, j, 3)
    views_3d = view_counts(block([(*head, n, "num_views_for_3d") for n in names]))
    views = sorted(paths.views)
    uv = np.empty((len(views), rows.size, j, 2), dtype=np.float32)
    placement = np.empty((len(views), rows.size, j), dtype=np.uint8)
    for v, view in enumerate(views):
        leaves: list[tuple[Key, ...]] = [(0, "annotation2D", view, n) for n in names]
        uv[v] = single(block([(*leaf, a) for leaf in leaves for a in "xy"])).reshape(-1, j, 2)
        placement[v] = table.strings([(*leaf, "placement") for leaf in leaves], rows, PLACEMENTS)
    there = _views_of_files(table, rows, files, n_files, views)
    known = np.isfinite(xyz).all(-1).sum(1)
    result = []
    stops = np.cumsum(sizes)
    for f, (start, stop) in enumerate(zip(stops - sizes, stops)):
        part = slice(start, stop)
        mine = np.flatnonzero(there[f])
        columns: Columns = {
            "frames": frames[part], "xyz": xyz[part], "views_3d": views_3d[part],
            "uv": uv[mine, part].reshape(-1, j, 2), "placement": placement[mine, part].reshape(-1, j),
        }  # fmt: skip
        result.append((tuple(views[v] for v in mine), columns, int(crowded[part].sum()), int(known[part].sum())))
    return result


def _only(table: Table, rows: NDArray[np.int64], columns: list[int], allowed: Sequence[Any]) -> None:
    """Raise Unusual where a cell of some columns holds anything else."""
    if columns:
        cells = table.words[rows[:, None], np.array(columns)]
        fits = cells == np.uint64(allowed[0])
        for word in allowed[1:]:
            fits |= cells == np.uint64(word)
        if not fits.all():
            raise Unusual(0)


def _names(skeleton: Skeleton, found: set[str]) -> list[str]:
    """The name in the files of each joint of the skeleton.

    Raises:
        Unusual: A name that is no joint of this kind, or two spellings of one joint.
    """
    known = BODY_NAMES if skeleton is BODY17 else HAND_NAMES
    if not found <= set(known):
        raise Unusual(0)
    names: dict[str, str] = {}
    for name in found:
        if names.setdefault(known[name], name) != name:
            raise Unusual(0)
    back: dict[str, str] = {}
    for name, ours in known.items():
        back.setdefault(ours, name)
    return [names.get(joint, back[joint]) for joint in skeleton.joints]


def _views_of_files(
    table: Table, rows: NDArray[np.int64], files: NDArray[np.int64], n_files: int, views: Sequence[str]
) -> NDArray[np.bool_]:
    """(files, views) whether a view has a joint somewhere in the file."""
    from egopose.kernels.json_scan import ABSENT

    result = np.zeros((n_files, len(views)), dtype=np.bool_)
    starts = np.searchsorted(files, np.arange(n_files))
    for v, view in enumerate(views):
        columns = np.array(
            [c for p, c in table.columns.items() if p[:3] == (0, "annotation2D", view) and len(p) > 3], dtype=np.int64
        )
        if columns.size:
            some = (table.words[rows[:, None], columns] != np.uint64(ABSENT)).any(1)
            result[:, v] = np.logical_or.reduceat(some, starts)
    return result
