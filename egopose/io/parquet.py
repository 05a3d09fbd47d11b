"""The tables of :mod:`egopose.io.tables` as Parquet; what columns cannot hold goes into the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egopose.errors import EgoposeError, require
from egopose.files import atomic_path, parse_json, plain_json
from egopose.io.fields import MAX_FRAME, mapping, whole
from egopose.io.native import skeleton_from, skeleton_record
from egopose.io.provenance import source
from egopose.io.registry import reader, writer
from egopose.io.tables import (
    KEYPOINT_COLUMNS,
    POSE_COLUMNS,
    Columns,
    keypoint_columns,
    keypoints_from_columns,
    pose_columns,
    pose_from_columns,
)
from egopose.observations import Observations2D
from egopose.pose import PoseSequence

META = b"egopose"
SCHEMA = 1
MAX_ROWS = 1 << 30
_TEXT = ("view", "joint", "status")


def _columns(table: Any, path: Path) -> Columns:
    columns: Columns = {}
    for name in table.column_names:
        if name not in (*_TEXT, *POSE_COLUMNS, *KEYPOINT_COLUMNS, "time_s", "score", "sigma_m") and not (
            name.startswith("cov_")
        ):
            continue
        values = table.column(name).to_pylist() if name in _TEXT else table.column(name).to_numpy()
        where = f"{path}: column {name!r}"
        if name in _TEXT:
            if any(not isinstance(value, str) for value in values):
                raise EgoposeError(f"{where}: holds something other than text")
            columns[name] = np.array(values, dtype=object)
            continue
        try:
            # a time or a date is no number, however it could be cast
            if values.dtype.kind not in "biufO":
                raise TypeError(values.dtype)
            with np.errstate(invalid="ignore"):
                numbers = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise EgoposeError(f"{where}: holds something other than numbers") from error
        if name == "frame":
            if not (np.isfinite(numbers).all() and (numbers == np.round(numbers)).all()):
                raise EgoposeError(f"{where}: holds something other than whole numbers")
            if (np.abs(numbers) > MAX_FRAME).any():
                raise EgoposeError(f"{where}: a frame number is larger than {MAX_FRAME}")
            numbers = numbers.astype(np.int64)
        columns[name] = numbers
    return columns


@reader(
    "parquet",
    kinds=("PoseSequence", "Observations2D"),
    suffixes=(".parquet",),
    looks_for="a Parquet file (PAR1)",
    description="3D or 2D joints as a Parquet table (needs the extra parquet)",
    sniff=lambda path, head: head.startswith(b"PAR1"),
)
def read(
    path: Path, *, fps: float | None = None, space: str | None = None, undistorted: bool | None = None
) -> PoseSequence | Observations2D:
    """Read a table of poses or keypoints.

    Args:
        path: The file.
        fps: Frame rate, where the file does not say.
        space: Frame of the coordinates, where the file does not say ("world").
        undistorted: Whether keypoints belong to undistorted images, where the file does not say.

    Raises:
        MissingExtra: pyarrow is not installed.
        EgoposeError: Not Parquet, damaged, or without the columns.
    """
    require("pyarrow", "parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_ROWS:
                raise EgoposeError(f"{path}: {file.metadata.num_rows} rows; at most {MAX_ROWS} are read at once")
            table = file.read()
    except EgoposeError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError, KeyError, TypeError, OverflowError) as error:
        raise EgoposeError(f"{path}: not readable as Parquet ({_line(error)}); the file may be damaged") from error
    names = set(table.column_names)
    stored = (table.schema.metadata or {}).get(META)
    where = f"{path}: metadata"
    meta: Mapping[str, Any] = {} if stored is None else mapping(parse_json(stored, where), where)
    if meta and meta.get("schema") != SCHEMA:
        raise EgoposeError(
            f"{path}: schema version {meta.get('schema')!r}, this egopose reads {SCHEMA}; update egopose"
        )
    skeleton = skeleton_from(meta["skeleton"], where) if "skeleton" in meta else None
    origin = mapping(meta["provenance"], where) if "provenance" in meta else source(path, "parquet")
    try:
        if set(POSE_COLUMNS) <= names:
            space = space or str(meta.get("space", "world"))
            columns = _columns(table, path)
            return pose_from_columns(columns, str(path), fps=fps, space=space, skeleton=skeleton, provenance=origin)
        if set(KEYPOINT_COLUMNS) <= names:
            if undistorted is None:
                undistorted = bool(meta.get("undistorted", False))
            sizes = {
                str(view): (whole(size[0], where), whole(size[1], where))
                for view, size in mapping(meta.get("sizes", {}), where).items()
            }
            rate = meta.get("fps") if fps is None else fps
            return keypoints_from_columns(
                _columns(table, path), str(path), fps=None if rate is None else float(rate), undistorted=undistorted,
                skeleton=skeleton, sizes=sizes, provenance=origin,
            )  # fmt: skip
    except (pa.ArrowException, UnicodeDecodeError, TypeError, KeyError, IndexError) as error:
        raise EgoposeError(f"{path}: a column cannot be read ({_line(error)}); the file may be damaged") from error
    raise EgoposeError(
        f"{path}: neither a pose table ({', '.join(POSE_COLUMNS)}) nor a keypoint table "
        f"({', '.join(KEYPOINT_COLUMNS)}); its columns: {', '.join(table.column_names[:12])}"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


@writer(
    "parquet",
    kinds=("PoseSequence", "Observations2D"),
    suffixes=(".parquet",),
    description="3D or 2D joints as a Parquet table (needs the extra parquet)",
)
def write(obj: PoseSequence | Observations2D, path: Path) -> None:
    """Write a table; skeleton, space, rate, image sizes and provenance go into the metadata.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    require("pyarrow", "parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    meta: dict[str, Any] = {"schema": SCHEMA, "skeleton": skeleton_record(obj.skeleton)}
    meta["provenance"] = plain_json(obj.provenance)
    if isinstance(obj, PoseSequence):
        columns = pose_columns(obj)
        meta["space"] = obj.space
    else:
        columns = keypoint_columns(obj)
        sizes = {view: list(size) for view, size in zip(obj.views, obj.sizes) if size is not None}
        meta |= {"fps": obj.fps, "undistorted": obj.undistorted, "sizes": plain_json(sizes)}
    arrays = {
        name: pa.array(column.tolist(), pa.string()).dictionary_encode() if name in _TEXT else pa.array(column)
        for name, column in columns.items()
    }
    table = pa.table(arrays).replace_schema_metadata({META: json.dumps(meta, allow_nan=False).encode()})
    with atomic_path(path) as temporary:
        try:
            pq.write_table(table, temporary, compression="zstd")
        except pa.ArrowException as error:
            raise OSError(f"pyarrow: {_line(error)}") from error
