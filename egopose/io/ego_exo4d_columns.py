"""Takes as flat columns and back, for the kept copies of large files: rows of all takes one after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from egopose.io.columnar_cache import Columns
from egopose.takes import N_BODY, N_HAND, BodyTake, HandTake

Take = TypeVar("Take", BodyTake, HandTake)
ARRAYS: dict[type, tuple[str, ...]] = {
    BodyTake: ("frames", "xyz"),
    HandTake: ("frames", "xyz", "present", "valid", "boxes"),
}


def to_columns(takes: Mapping[str, Take], kind: type[Take]) -> Columns:
    """Arrays of all takes joined along frames, and the rest as JSON."""
    columns: Columns = {}
    for name in ARRAYS[kind]:
        parts = [getattr(take, name) for take in takes.values()]
        if parts:
            columns[name] = np.concatenate(parts)
    about = [
        {
            "uid": take.uid,
            "take_name": take.take_name,
            "n": int(take.frames.size),
            "defects": [[key, what] for key, what in take.defects.items()],
            "other_keys": list(take.other_keys),
        }
        for take in takes.values()
    ]
    columns["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    return columns


def from_columns(columns: Columns, kind: type[Take]) -> dict[str, Take]:
    """The inverse of :func:`to_columns`; the arrays are views.

    Raises:
        KeyError, TypeError, ValueError: The columns are none, or do not fit together.
    """
    takes: dict[str, Take] = {}
    start = 0
    for entry in json.loads(columns["about"].tobytes()):
        stop = start + entry["n"]
        arrays: dict[str, Any] = {name: columns[name][start:stop] for name in ARRAYS[kind]}
        _check(arrays, entry["n"])
        defects: dict[Any, Any] = {tuple(key) if isinstance(key, list) else key: what for key, what in entry["defects"]}
        takes[entry["uid"]] = kind(
            uid=entry["uid"],
            take_name=entry["take_name"],
            defects=defects,
            other_keys=tuple(entry["other_keys"]),
            **arrays,
        )
        start = stop
    return takes


_ROWS = {
    "frames": ("i", ()), "present": ("b", (2,)), "boxes": ("f", (2, 4)), "valid": ("b", (2, N_HAND)),
}  # fmt: skip


def _check(arrays: Mapping[str, Any], rows: int) -> None:
    joints = (2, N_HAND, 3) if "present" in arrays else (N_BODY, 3)
    for name, array in arrays.items():
        kind, shape = _ROWS.get(name, ("f", joints))
        if array.dtype.kind != kind or array.shape != (rows, *shape):
            raise ValueError(f"{name} has shape {array.shape} of {array.dtype}; expected {(rows, *shape)}")
