"""Arrays of a large text file kept in a flat file, so that the text is parsed once.

The copy is keyed by the file's path and holds its size, modification time and SHA-256. Equal size and time: it is used.
Another time: the file is hashed, and the copy used only if the content is the same. Everything else is stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import atomic_write, sha256_file
from egopose.npz import read_npz

SCHEMA = 1
CACHE_FROM_BYTES = 64 << 20
"""Smaller files are read again faster than they are looked up and hashed."""
Columns = dict[str, NDArray[Any]]
T = TypeVar("T")


def cache_folder() -> Path:
    """Where copies live: ``$EGOPOSE_CACHE``, else the user's cache folder; in it ``columns``."""
    if os.environ.get("EGOPOSE_CACHE"):
        return Path(os.environ["EGOPOSE_CACHE"]) / "columns"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "egopose" / "columns"


def cache_path(path: str | os.PathLike[str], kind: str) -> Path:
    """Name of the copy of a file read as a kind."""
    key = f"{SCHEMA}:{kind}:{Path(path).resolve()}"
    return cache_folder() / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def cached(
    path: str | os.PathLike[str],
    kind: str,
    build: Callable[[], Columns],
    decode: Callable[[Columns], T],
    *,
    cache: bool | None = None,
) -> T:
    """What the arrays of a file mean: from its copy if that is current and whole, else built and kept.

    Args:
        path: The text file.
        kind: Names the reader and its version.
        build: Reads the file.
        decode: Makes the result of the arrays; a copy that it cannot use is built again.
        cache: Force or forbid the copy; None keeps one for files of :data:`CACHE_FROM_BYTES` and more.

    Raises:
        EgoposeError: The file cannot be read. A copy that cannot be written is no error.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise EgoposeError(f"{path}: cannot read ({error.strerror or error}); check the path") from error
    if not (stat.st_size >= CACHE_FROM_BYTES if cache is None else cache):
        return decode(build())
    place = cache_path(path, kind)
    found = _load(place)
    if found is not None:
        meta, columns = found
        current = meta.get("size") == stat.st_size
        touched = current and meta.get("mtime_ns") != stat.st_mtime_ns
        if current and (not touched or meta.get("sha256") == sha256_file(path)):
            # a copy that was tampered with or is of another make is as good as none
            with contextlib.suppress(KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError):
                result = decode(columns)
                if touched:
                    _store(place, {**meta, "mtime_ns": stat.st_mtime_ns}, columns)
                return result
    columns = build()
    meta = {"schema": SCHEMA, "kind": kind, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    after = os.stat(path)
    # a file that changes while it is read must not be remembered
    if (after.st_size, after.st_mtime_ns) == (stat.st_size, stat.st_mtime_ns):
        _store(place, {**meta, "sha256": sha256_file(path)}, columns)
    return decode(columns)


def _load(place: Path) -> tuple[Mapping[str, Any], Columns] | None:
    """A copy, or None when there is none or it is damaged."""
    try:
        columns = read_npz(place)
        meta = json.loads(columns.pop("meta").tobytes())
    except (EgoposeError, ValueError, KeyError, RecursionError):
        return None
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
        return None
    return meta, columns


def _store(place: Path, meta: Mapping[str, Any], columns: Columns) -> None:
    text = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    try:
        with atomic_write(place) as stream:
            np.savez(stream, meta=text, **columns)  # type: ignore[arg-type]
    except EgoposeError:
        # a read-only or full cache only costs the next reading
        return


def pack_text(texts: list[str]) -> NDArray[np.uint8]:
    """A list of texts as bytes, for a column."""
    return np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)


def unpack_text(column: NDArray[np.uint8]) -> list[str]:
    """The inverse of :func:`pack_text`."""
    return list(json.loads(column.tobytes()))
