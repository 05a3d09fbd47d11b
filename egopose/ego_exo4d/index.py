"""Annotations of all takes in columns: each file is parsed once, then everything is read from flat arrays.

A table holds for every file its size, modification time and SHA-256, and where its rows lie in *segments*: one folder
of ``.npy`` files per :data:`SEGMENT_BYTES` of text, opened as memory maps. A file with the size and time of the table
is current. Another time: its hash decides. A changed file is read again into a new segment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.ego_exo4d.index_batch import Parsed, read_files
from egopose.errors import EgoposeError
from egopose.files import atomic_path, read_json, sha256_file, write_json
from egopose.io.columnar_cache import cache_folder
from egopose.npz import map_npy
from egopose.skeleton import BODY17, HANDS42, Skeleton

VERSION = 1
SEGMENT_BYTES = 128 << 20
"""Text read before its columns are written: bounds the memory of indexing."""
BATCH_BYTES = 8 << 20
"""Text parsed at once."""
MAX_THREADS = 4
SAVE_EVERY_S, UNUSED_S = 2.0, 3600.0
COLUMNS = ("frames", "xyz", "views_3d", "uv", "placement")
Progress = Callable[[float, str], None]
Read = tuple[str, os.stat_result | None, Parsed]


@dataclass(frozen=True)
class Entry:
    """One file of the table.

    Attributes:
        size: Bytes.
        mtime_ns: Modification time.
        sha256: Of the content.
        segment: Folder of its rows.
        row: First row of the frame columns.
        rows: Number of frames.
        cell: First row of the 2D columns; there are ``len(views) * rows``.
        views: Names of the cameras with 2D.
        joints_3d: Finite 3D joints in all.
        crowded: Frames with several people.
    """

    size: int
    mtime_ns: int
    sha256: str
    segment: str
    row: int
    rows: int
    cell: int
    views: tuple[str, ...]
    joints_3d: int
    crowded: int = 0


@dataclass(frozen=True, eq=False)
class IndexedAnnotation:
    """One take's annotation, as views of the columns (do not write to them).

    Attributes:
        skeleton: BODY17, or both hands.
        frames: (T,) int64, increasing.
        xyz: (T, J, 3) float32 metres, world; NaN = absent.
        num_views: (T, J) int8 cameras that the 3D came from, -1 = not said.
        views: V names.
        uv_px: (V, T, J, 2) float32 undistorted pixels; NaN = absent.
        placement: (V, T, J) uint8 0 not said, 1 clicked, 2 reprojected.
    """

    skeleton: Skeleton
    frames: NDArray[np.int64]
    xyz: NDArray[np.float32]
    num_views: NDArray[np.int8]
    views: tuple[str, ...]
    uv_px: NDArray[np.float32]
    placement: NDArray[np.uint8]

    @property
    def step(self) -> int | None:
        """The usual distance of neighbouring frame numbers, or None with fewer than two."""
        if self.frames.size < 2:
            return None
        values, counts = np.unique(np.diff(self.frames), return_counts=True)
        return int(values[counts.argmax()])


@dataclass
class Pending:
    """Columns of a segment under construction."""

    names: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    columns: dict[str, list[NDArray[Any]]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    rows: int = 0
    cells: int = 0
    text: int = 0


def _check_columns(maps: dict[str, NDArray[Any]], joints: int, where: Path) -> None:
    """Refuse columns that do not belong together."""
    n, m = (maps[key].shape[0] if maps[key].ndim else 0 for key in ("frames", "uv"))
    shapes = {
        "frames": ("iu", (n,)), "xyz": ("f", (n, joints, 3)), "views_3d": ("iu", (n, joints)),
        "uv": ("f", (m, joints, 2)), "placement": ("iu", (m, joints)),
    }  # fmt: skip
    for key, (kinds, shape) in shapes.items():
        found = maps[key]
        if found.dtype.kind not in kinds or found.shape != shape:
            raise EgoposeError(f"{where}: {key} is {found.dtype} {found.shape}; expected {shape}")


class AnnotationIndex:
    """The annotations of one kind and source, by take uid.

    Example::

        index = AnnotationIndex(files, "body", folder)
        index.update()
        index["<take_uid>"].xyz
    """

    def __init__(self, files: dict[str, Path], kind: str, folder: Path) -> None:
        """Prepare; nothing is read yet.

        Args:
            files: Take uid to annotation file.
            kind: "body" or "hand".
            folder: Where the columns are kept.

        Raises:
            EgoposeError: Another kind.
        """
        if kind not in ("body", "hand"):
            raise EgoposeError(f"kind is {kind!r}; expected 'body' or 'hand'")
        self.files, self.kind, self.folder = files, kind, folder
        self.skeleton = BODY17 if kind == "body" else HANDS42
        self.refused: dict[str, str] = {}
        """Files that could not be read, and why; they do not stop the others."""
        self.parsed = 0
        """Files parsed by this object."""
        self._table: dict[str, Entry] | None = None
        self._checked: set[str] = set()
        self._maps: dict[str, dict[str, NDArray[Any]]] = {}
        self._saved_s = -np.inf

    # table

    def _load(self) -> dict[str, Entry]:
        if self._table is None:
            self._table = {}
            try:
                content = read_json(self.folder / "table.json")
                if content.get("version") == VERSION:
                    self._table = {
                        uid: Entry(**{**entry, "views": tuple(entry["views"])})
                        for uid, entry in content["files"].items()
                    }
            except (EgoposeError, AttributeError, TypeError, KeyError):
                # a damaged or absent table only costs reading the files again
                self._table = {}
        return self._table

    def _save(self) -> None:
        table = self._load()
        content = {uid: {**entry.__dict__, "views": list(entry.views)} for uid, entry in sorted(table.items())}
        write_json(self.folder / "table.json", {"version": VERSION, "files": content}, indent=None)
        self._saved_s = time.monotonic()

    def _clean(self) -> None:
        """Drop segments that nothing refers to; young ones may belong to another process."""
        used = {entry.segment for entry in self._load().values()}
        for old in self.folder.glob("segment-*"):
            if old.name not in used and time.time() - old.stat().st_mtime > UNUSED_S:
                shutil.rmtree(old, ignore_errors=True)

    def stale(self) -> list[str]:
        """Takes whose file is new or changed since it was indexed; changed times with equal content do not count."""
        table = self._load()
        result, touched = [], False
        for uid, path in self.files.items():
            try:
                stat = os.stat(path)
            except OSError:
                result.append(uid)
                continue
            entry = table.get(uid)
            if entry is not None and entry.size == stat.st_size:
                if entry.mtime_ns == stat.st_mtime_ns:
                    continue
                if entry.sha256 == sha256_file(path):
                    table[uid] = Entry(**{**entry.__dict__, "mtime_ns": stat.st_mtime_ns})
                    touched = True
                    continue
            result.append(uid)
        if touched:
            self._save()
        return result

    def update(self, progress: Progress | None = None) -> list[str]:
        """Read what is new or changed; returns the takes that were read.

        Raises:
            EgoposeError: The columns cannot be written.
        """
        wanted = self.stale()
        gone = set(self._load()) - set(self.files)
        pending = Pending()
        for done, batch in self._read_batches(wanted):
            self._add(batch, pending)
            if pending.text >= SEGMENT_BYTES:
                self._flush(pending)
                pending = Pending()
            if progress is not None:
                progress(done / len(wanted), batch[-1][0])
        self._flush(pending)
        for uid in gone:
            del self._load()[uid]
        if wanted or gone:
            self._save()
            self._clean()
        self._checked = set(self.files)
        return [uid for uid in wanted if uid not in self.refused]

    def _batches(self, uids: Sequence[str]) -> Iterator[list[str]]:
        """Takes in groups of about :data:`BATCH_BYTES`."""
        batch: list[str] = []
        size = 0
        for i, uid in enumerate(uids):
            batch.append(uid)
            with contextlib.suppress(OSError):
                size += os.path.getsize(self.files[uid])
            if size >= BATCH_BYTES or i + 1 == len(uids):
                yield batch
                batch, size = [], 0

    def _read_batches(self, uids: Sequence[str]) -> Iterator[tuple[int, list[Read]]]:
        """Parse in threads, a few batches ahead, in order; the parser leaves the interpreter lock."""
        workers = min(MAX_THREADS, os.cpu_count() or 1)
        waiting: deque[Future[list[Read]]] = deque()
        done = 0
        with ThreadPoolExecutor(workers) as pool:
            for batch in self._batches(uids):
                waiting.append(pool.submit(self._read, batch))
                if len(waiting) > workers:
                    result = waiting.popleft().result()
                    done += len(result)
                    yield done, result
            while waiting:
                result = waiting.popleft().result()
                done += len(result)
                yield done, result

    def _read(self, uids: Sequence[str]) -> list[Read]:
        """Parse files; nothing of this object changes."""
        parsed = read_files([self.files[uid] for uid in uids], self.skeleton)
        return [(uid, stat, one) for uid, (stat, one) in zip(uids, parsed, strict=True)]

    def _add(self, batch: Sequence[Read], pending: Pending) -> None:
        """Put files into the segment under construction; those refused are noted."""
        for uid, stat, parsed in batch:
            if parsed.columns is None or stat is None:
                self._refuse(uid, str(parsed.error))
                continue
            self.parsed += 1
            self.refused.pop(uid, None)
            columns = parsed.columns
            rows = columns["frames"].size
            pending.names.append(uid)
            pending.entries.append(
                Entry(
                    stat.st_size, stat.st_mtime_ns, parsed.sha256, "", pending.rows, rows, pending.cells, parsed.views,
                    parsed.joints_3d, parsed.crowded,
                )
            )  # fmt: skip
            for name in COLUMNS:
                pending.columns[name].append(columns[name])
            pending.rows += rows
            pending.cells += len(columns["uv"])
            pending.text += stat.st_size

    def _refuse(self, uid: str, why: str) -> None:
        self.refused[uid] = " ".join(why.split())
        self._load().pop(uid, None)

    def _flush(self, pending: Pending) -> None:
        if not pending.names:
            return
        identity = "".join(entry.sha256 for entry in pending.entries) + "".join(pending.names)
        segment = f"segment-{hashlib.sha256(identity.encode()).hexdigest()[:20]}"
        for name in COLUMNS:
            with atomic_path(self.folder / segment / f"{name}.npy") as temporary:
                np.save(temporary, np.concatenate(pending.columns[name]))
        table = self._load()
        for uid, entry in zip(pending.names, pending.entries):
            table[uid] = Entry(**{**entry.__dict__, "segment": segment})

    # access

    def __contains__(self, uid: object) -> bool:
        return uid in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def entry(self, uid: str) -> Entry:
        """What the table says of a take; its file is read when it is new or changed.

        Raises:
            EgoposeError: No such take here, or its file is refused.
        """
        if uid not in self.files:
            raise EgoposeError(f"take {uid} has no {self.kind} annotation here ({self.folder.name})")
        if uid not in self._checked:
            only = AnnotationIndex({uid: self.files[uid]}, self.kind, self.folder)
            only._table = self._load()
            if only.stale():
                pending = Pending()
                self._add(self._read([uid]), pending)
                self._flush(pending)
                # takes read one by one: the table is written now and then, a lost row costs one more parse
                if time.monotonic() - self._saved_s > SAVE_EVERY_S:
                    self._save()
            self._checked.add(uid)
        if uid in self.refused:
            raise EgoposeError(self.refused[uid])
        return self._load()[uid]

    def __getitem__(self, uid: str) -> IndexedAnnotation:
        entry = self.entry(uid)
        maps = self._open(entry.segment)
        places = (entry.row, entry.rows, entry.cell)
        ends = (maps["frames"].shape[0], maps["uv"].shape[0])
        if not all(isinstance(n, int) and n >= 0 for n in places) or (
            entry.row + entry.rows > ends[0] or entry.cell + len(entry.views) * entry.rows > ends[1]
        ):
            raise EgoposeError(f"{self.folder}: take {uid} lies beyond its columns; delete the folder to make it again")
        rows = slice(entry.row, entry.row + entry.rows)
        n_views = len(entry.views)
        cells = slice(entry.cell, entry.cell + n_views * entry.rows)
        j = self.skeleton.n_joints
        return IndexedAnnotation(
            self.skeleton, maps["frames"][rows], maps["xyz"][rows], maps["views_3d"][rows], entry.views,
            maps["uv"][cells].reshape(n_views, entry.rows, j, 2),
            maps["placement"][cells].reshape(n_views, entry.rows, j),
        )  # fmt: skip

    def _open(self, segment: str) -> dict[str, NDArray[Any]]:
        if segment not in self._maps:
            try:
                self._maps[segment] = {
                    # plain arrays over the map: slicing a memmap object is slow
                    name: map_npy(self.folder / segment / f"{name}.npy").view(np.ndarray)
                    for name in COLUMNS
                }
                _check_columns(self._maps[segment], self.skeleton.n_joints, self.folder / segment)
            except EgoposeError as error:
                self._maps.pop(segment, None)
                raise EgoposeError(f"{error}; delete {self.folder}, the columns are then made again") from error
        return self._maps[segment]


def default_folder(root: str | os.PathLike[str]) -> Path:
    """Where the columns of a dataset are kept: the user's cache folder, by the path of the root."""
    key = hashlib.sha256(str(Path(root).resolve()).encode()).hexdigest()[:16]
    return cache_folder() / f"ego-exo4d-{key}"


def annotation_files(root: Path, splits: Sequence[str], kind: str, source: str) -> dict[str, Path]:
    """Take uid to file, of all splits, sorted."""
    from egopose.ego_exo4d.layout import EGO_POSE, FOLDERS

    found = {}
    for split in splits:
        folder = root / EGO_POSE / split / kind / FOLDERS[source]
        if folder.is_dir():
            with os.scandir(folder) as entries:
                found.update({e.name[:-5]: Path(e.path) for e in entries if e.name.endswith(".json")})
    return dict(sorted(found.items()))
