"""The dataset as an object: takes by name or uid, splits, benchmarks, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from egopose.ego_exo4d.index import AnnotationIndex, Progress, annotation_files, default_folder
from egopose.ego_exo4d.layout import KINDS, PARTS, SOURCES, SPLITS, Kind, Source
from egopose.ego_exo4d.take import Take
from egopose.errors import EgoposeError
from egopose.files import read_json

BOULDERING = "bouldering"
OLD_RELEASE = (
    "takes.json of V1 lacks two takes of the hand test list and V1 has fewer annotations; download metadata and "
    "annotations of V2"
)


LONGEST_NAME = 200
"""Longest name of a take, a capture or a folder, characters; file systems end at 255 bytes."""


def _check_names(info: dict[str, Any], path: Path) -> None:
    """Refuse names that would lead out of the dataset, or that no file system takes.

    Raises:
        EgoposeError: Such a name.
    """
    capture = info.get("capture")
    name = capture.get("capture_name") if isinstance(capture, dict) else None
    folder = info.get("root_dir") or "takes"
    parts = [info["take_uid"], info["take_name"], "x" if name is None else name]
    parts += folder.split("/") if isinstance(folder, str) else [folder]
    for part in parts:
        if (
            not isinstance(part, str)
            or not 0 < len(part) <= LONGEST_NAME
            or part in (".", "..")
            or set(part) & {*"/\\\0"}
        ):
            raise EgoposeError(
                f"{path}: {str(part)[:40]!r} is no name of a take, a capture or a folder of this dataset"
            )


class EgoExo4D:
    """The folder that ``egoexo -o ROOT`` filled, or a stand-in.

    Nothing but takes.json and splits.json is read at once; annotations are parsed once and kept in columns.

    Example::

        data = EgoExo4D("/data/ego-exo4d")
        take = data["standin_cooking_01_1"]
        pose = take.joints_3d("body", "manual")
    """

    def __init__(self, root: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None) -> None:
        """Open.

        Args:
            root: The folder.
            cache: Where annotations are kept in columns; None takes the user's cache folder.

        Raises:
            EgoposeError: The folder has no takes.json, or one that is not a list of takes.
        """
        self.root = Path(root)
        self.cache = Path(cache) if cache is not None else default_folder(self.root)
        path = self.root / "takes.json"
        if not path.is_file():
            raise EgoposeError(
                f"{path}: not there; expected the folder that egoexo -o wrote (egoexo --parts {PARTS['takes.json']})"
            )
        content = read_json(path)
        if not isinstance(content, list) or not all(
            isinstance(take, dict) and isinstance(take.get("take_uid"), str) and isinstance(take.get("take_name"), str)
            for take in content
        ):
            raise EgoposeError(f"{path}: is no list of takes with take_uid and take_name")
        for info in content:
            _check_names(info, path)
        split = self.split_of
        listed = self.benchmarks_of
        self.takes: dict[str, Take] = {
            info["take_uid"]: Take(self, info, split.get(info["take_uid"]), listed.get(info["take_uid"], ()))
            for info in content
        }
        """Take uid to take, in the order of takes.json."""
        self._names = {take.name: take.uid for take in self.takes.values()}
        self._indexes: dict[tuple[str, str], AnnotationIndex] = {}

    def __repr__(self) -> str:
        return f"EgoExo4D({str(self.root)!r}, {len(self.takes)} takes)"

    def __len__(self) -> int:
        return len(self.takes)

    def __iter__(self) -> Iterator[Take]:
        return iter(self.takes.values())

    def __getitem__(self, key: str) -> Take:
        """A take by uid, name or ``takes/<name>``.

        Raises:
            EgoposeError: No such take; a take that splits.json knows points to an old takes.json.
        """
        uid = self._names.get(key.removeprefix("takes/"), key)
        if uid not in self.takes:
            old = f"; splits.json lists it: {OLD_RELEASE}" if uid in self.split_of else ""
            raise EgoposeError(f"{self.root}: no take {key!r} in takes.json{old}")
        return self.takes[uid]

    @cached_property
    def _splits(self) -> Mapping[str, Any]:
        path = self.root / "annotations" / "splits.json"
        content = read_json(path) if path.is_file() else {}
        if not isinstance(content, dict):
            raise EgoposeError(f"{path}: is no object with take_uid_to_split")
        return content

    @cached_property
    def split_of(self) -> dict[str, str]:
        """Take uid to split; without splits.json by the folder that holds the take's camera_pose."""
        table = self._splits.get("take_uid_to_split")
        if isinstance(table, dict):
            return {str(uid): split for uid, split in table.items() if split in SPLITS}
        found = {}
        for split in SPLITS:
            for path in (self.root / "annotations" / "ego_pose" / split / "camera_pose").glob("*.json"):
                found[path.stem] = split
        return found

    @cached_property
    def benchmarks_of(self) -> dict[str, tuple[str, ...]]:
        """Take uid to the benchmarks that list it."""
        table = self._splits.get("take_uid_to_benchmark")
        if not isinstance(table, dict):
            return {}
        return {str(uid): tuple(map(str, names)) for uid, names in table.items() if isinstance(names, list)}

    @cached_property
    def captures(self) -> list[dict[str, Any]]:
        """captures.json, empty without it."""
        path = self.root / "captures.json"
        content = read_json(path) if path.is_file() else []
        return content if isinstance(content, list) else []

    def select(
        self,
        *,
        split: str | None = None,
        benchmark: str | None = None,
        scenario: str | None = None,
        kind: Kind | None = None,
        source: Source = "manual",
        bouldering: bool = True,
    ) -> list[Take]:
        """Takes that fit everything given.

        Args:
            split: "train", "val" or "test".
            benchmark: As in splits.json, such as "ego_pose".
            scenario: Such as "music".
            kind: Takes that have an annotation of this kind ...
            source: ... from this source.
            bouldering: False leaves out takes with "bouldering" in their name, as the official body baseline does.
        """
        if split is not None and split not in SPLITS:
            raise EgoposeError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
        return [
            take
            for take in self
            if (split is None or take.split == split)
            and (benchmark is None or benchmark in take.benchmarks)
            and (scenario is None or take.scenario == scenario)
            and (kind is None or take.annotated(kind, source))
            and (bouldering or BOULDERING not in take.name.lower())
        ]

    def index(self, kind: Kind, source: Source) -> AnnotationIndex:
        """The columns of one kind of annotation, over all splits."""
        if kind not in KINDS or source not in SOURCES:
            raise EgoposeError(
                f"{kind!r}, {source!r}: expected kind {' or '.join(KINDS)} and source {' or '.join(SOURCES)}"
            )
        if (kind, source) not in self._indexes:
            files = annotation_files(self.root, SPLITS, kind, source)
            self._indexes[kind, source] = AnnotationIndex(files, kind, self.cache / f"{kind}-{source}")
        return self._indexes[kind, source]

    def update(self, progress: Progress | None = None) -> int:
        """Parse every annotation that is new or changed; returns how many files were parsed."""
        count = 0
        pairs = [(kind, source) for kind in KINDS for source in SOURCES]
        for i, (kind, source) in enumerate(pairs):

            def tell(share: float, what: str, i: int = i, name: str = f"{kind}, {source}") -> None:
                if progress is not None:
                    progress((i + share) / len(pairs), f"{name}: {what}")

            count += len(self.index(kind, source).update(tell))
        return count

    def release(self) -> tuple[str, str]:
        """("v1" | "v2" | "unknown", why): only a takes.json that is older than splits.json can be told."""
        lacking = sorted(set(self.split_of) - set(self.takes))
        if lacking:
            return "v1", f"takes.json lacks {len(lacking)} takes of splits.json, such as {lacking[0]}: {OLD_RELEASE}"
        folder = self.root / "annotations" / "ego_pose"
        stray = sorted({p.stem for p in folder.glob("*/camera_pose/*.json")} - set(self.takes))
        if stray:
            return (
                "v1",
                f"takes.json lacks {len(stray)} takes that have camera_pose files, such as {stray[0]}: {OLD_RELEASE}",
            )
        return "unknown", "the files do not state their release; nothing in them is older than the rest"
