"""What a sharded run has done: one line per finished shard, appended and synced, so that a kill loses at most one.

The file is JSON lines. The first line names the job; every other holds a shard's key, name and result, and the size
and SHA-256 of each file it wrote. A last line that was cut short by a kill is dropped when the file is opened again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from egopose.errors import EgoposeError
from egopose.files import atomic_write, parse_json, read_bytes, sha256_file

VERSION = 2
Entry = dict[str, Any]


def file_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Size and SHA-256 of a file.

    Raises:
        EgoposeError: It is not there.
    """
    if not os.path.isfile(path):
        raise EgoposeError(f"{path}: the job ended well but did not write it")
    return {"bytes": os.path.getsize(path), "sha256": sha256_file(path)}


def intact(files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether files are still there with the size and hash that were noted."""
    return all(
        os.path.isfile(path) and os.path.getsize(path) == state["bytes"] and sha256_file(path) == state["sha256"]
        for path, state in files.items()
    )


class Manifest:
    """Finished shards by key, in memory and, with a path, on disk.

    Args:
        path: The file; None keeps nothing.
        job: Name of the job it must belong to.

    Raises:
        EgoposeError: The file is something else, or damaged.
    """

    def __init__(self, path: str | os.PathLike[str] | None, job: str) -> None:
        self.path = None if path is None else Path(path)
        self.job = job
        self.done: dict[str, Entry] = self._read()
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _head(self) -> bytes:
        return _line({"manifest": "egopose", "version": VERSION, "job": self.job})

    def _read(self) -> dict[str, Entry]:
        if self.path is None or not self.path.exists():
            return {}
        other = EgoposeError(
            f"{self.path}: is not the manifest of {self.job} (version {VERSION}); give another output or delete it"
        )
        lines = read_bytes(self.path).split(b"\n")
        # whatever follows the last newline was cut short
        lines.pop()
        if not lines:
            raise other
        head = parse_json(lines[0], self.path)
        if not isinstance(head, dict) or head.get("version") != VERSION or head.get("job") != self.job:
            raise other
        done = {}
        for number, line in enumerate(lines[1:], start=2):
            entry = parse_json(line, f"{self.path}, line {number}")
            if not isinstance(entry, dict) or not {"key", "name", "result", "files"} <= entry.keys():
                raise EgoposeError(f"{self.path}, line {number}: is damaged; delete the file to start over")
            if not isinstance(entry["files"], dict) or not all(
                isinstance(state, dict) and {"bytes", "sha256"} <= state.keys() for state in entry["files"].values()
            ):
                raise EgoposeError(f"{self.path}, line {number}: files is damaged; delete the file to start over")
            done[str(entry["key"])] = entry
        return done

    def add(self, key: str, name: str, result: Any, files: Mapping[str, Any]) -> None:
        """Note a finished shard, on disk before this returns.

        Raises:
            EgoposeError: The file cannot be written.
        """
        self.done[key] = {"key": key, "name": name, "result": result, "files": dict(files)}
        if self.path is None:
            return
        try:
            if self._stream is None:
                # one clean file first: without a cut line, without anything twice
                with atomic_write(self.path) as stream:
                    stream.write(self._head() + b"".join(_line(entry) for entry in self.done.values()))
                self._stream = open(self.path, "ab")  # noqa: SIM115
            else:
                self._stream.write(_line(self.done[key]))
                self._stream.flush()
                os.fsync(self._stream.fileno())
        except OSError as error:
            raise EgoposeError(f"{self.path}: cannot be written ({error.strerror or error}); check the disk") from error


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode() + b"\n"
