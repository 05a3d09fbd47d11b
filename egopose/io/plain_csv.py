"""Poses and keypoints as plain CSV; the columns are described in :mod:`egopose.io.tables`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from egopose.files import atomic_write
from egopose.io.fields import header_columns, read_csv
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

_TEXT = ("view", "joint", "status")


def _read(path: Path, required: tuple[str, ...], what: str) -> Columns:
    table = read_csv(path, required, what=what)
    columns: Columns = {}
    for name in table.columns:
        if name in _TEXT:
            columns[name] = np.array(table.text(name), dtype=object)
        elif name == "frame":
            columns[name] = table.integers(name)
        elif name in required or name in ("time_s", "score", "sigma_m") or name.startswith("cov_"):
            columns[name] = table.floats(name)
    return columns


def _cells(column: np.ndarray[Any, Any]) -> list[str]:
    """Shortest text that reads back to the same number; missing is empty."""
    if column.dtype.kind == "f":
        return ["" if value != value else str(value) for value in column]
    return [str(value) for value in column]


def _write(path: Path, columns: Columns) -> None:
    with atomic_write(path, "w") as stream:
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(columns)
        out.writerows(zip(*(_cells(column) for column in columns.values())))


@reader(
    "pose-csv",
    kinds=("PoseSequence",),
    suffixes=(".csv",),
    looks_for="the columns frame, joint, x_m, y_m, z_m",
    description="3D joints as a plain table (frame, time_s, joint, x_m, y_m, z_m, status, sigma_m)",
    sniff=lambda path, head: set(POSE_COLUMNS) <= header_columns(head),
)
def read_pose(
    path: Path, *, fps: float | None = None, space: str = "world", skeleton: str | None = None
) -> PoseSequence:
    """Read a pose table.

    Args:
        path: The csv.
        fps: Frame rate, when the table has no ``time_s``.
        space: Frame of the coordinates; a csv does not store it.
        skeleton: Joint set by name, when it shall hold more than the table's names.

    Raises:
        EgoposeError: Missing columns, repeated rows, cells that are no numbers.
    """
    columns = _read(path, POSE_COLUMNS, "a pose table")
    return pose_from_columns(
        columns, str(path), fps=fps, space=space, skeleton=skeleton, provenance=source(path, "pose-csv")
    )


@writer("pose-csv", kinds=("PoseSequence",), suffixes=(".csv",), description="3D joints as a plain table")
def write_pose(pose: PoseSequence, path: Path) -> None:
    """Write a pose table; the space and the provenance are not stored."""
    _write(path, pose_columns(pose))


@reader(
    "keypoints-csv",
    kinds=("Observations2D",),
    suffixes=(".csv",),
    looks_for="the columns view, frame, joint, u_px, v_px",
    description="2D joints as a plain table (view, frame, joint, u_px, v_px, score)",
    sniff=lambda path, head: set(KEYPOINT_COLUMNS) <= header_columns(head),
)
def read_keypoints(
    path: Path, *, fps: float | None = None, undistorted: bool = False, skeleton: str | None = None
) -> Observations2D:
    """Read a keypoint table.

    Args:
        path: The csv.
        fps: Frame rate, when known.
        undistorted: The pixels belong to undistorted images.
        skeleton: Joint set by name, when it shall hold more than the table's names.

    Raises:
        EgoposeError: Missing columns, repeated rows, cells that are no numbers.
    """
    columns = _read(path, KEYPOINT_COLUMNS, "a keypoint table")
    origin = source(path, "keypoints-csv")
    return keypoints_from_columns(
        columns, str(path), fps=fps, undistorted=undistorted, skeleton=skeleton, provenance=origin
    )


@writer("keypoints-csv", kinds=("Observations2D",), suffixes=(".csv",), description="2D joints as a plain table")
def write_keypoints(observations: Observations2D, path: Path) -> None:
    """Write a keypoint table; rate, image sizes and provenance are not stored."""
    _write(path, keypoint_columns(observations))
