"""Ego-Exo4D body and hand files into arrays: ground truth and submissions of many takes, annotations of one.

Three shapes (metres everywhere):

* body: ``{uid: {"take_name": ..., "body": {frame: 17 x [x, y, z]}}}``, world frame;
* hand: ``{uid: {frame: {"left_hand_3d": 21 x [x, y, z] or [], "right_hand_3d": ...}}}``, camera frame; ground truth
  adds ``*_valid_3d``, ``*_2d``, ``*_bbox`` and ``metadata``;
* annotation (see :mod:`egopose.io.ego_exo4d_annotation`).

Large files go through a scanner that writes numbers straight into arrays; small or unusual ones through a general
parser. Both give the same result.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from egopose.errors import EgoposeError
from egopose.files import parse_json, read_bytes
from egopose.io.columnar_cache import Columns, cached
from egopose.io.ego_exo4d_columns import from_columns, to_columns
from egopose.io.ego_exo4d_scan import scan_body, scan_hand
from egopose.io.ego_exo4d_values import BODY_SHAPE, HandArrays, block, shape_text, split_keys
from egopose.io.json_table import Scanner, Unusual
from egopose.takes import SIDES, BodyTake, HandTake

T = TypeVar("T")
SCAN_FROM_BYTES = 24 << 20
"""Below this a general parser is done before the scanner's start-up."""
SCAN_FROM_BYTES_WARM = 2 << 20
"""The same once Numba is loaded anyway."""


def worth_scanning(size: int) -> bool:
    """Whether the scanner is the faster reader for a file of this many bytes."""
    return size >= (SCAN_FROM_BYTES_WARM if "numba" in sys.modules else SCAN_FROM_BYTES)


def read_with(
    path: str | os.PathLike[str],
    scan: Callable[[Scanner, str], T],
    walk: Callable[[Any, str], T],
    *,
    scanner: bool | None = None,
) -> T:
    """Read a JSON file with the scanner where it pays, else with the general parser.

    Args:
        path: The file.
        scan: Takes the scanner and the name for messages.
        walk: Takes the parsed document and the name for messages.
        scanner: Force or forbid the scanner; None decides by size.

    Raises:
        EgoposeError: The file cannot be read, is not JSON (with its position), or its content is refused.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size and (worth_scanning(size) if scanner is None else scanner):
            with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                data = np.frombuffer(mapped, dtype=np.uint8)
                try:
                    return scan(Scanner(data), str(path))
                except Unusual:
                    pass
                finally:
                    del data
    except OSError as error:
        raise EgoposeError(f"{path}: cannot read ({error.strerror or error}); check the path") from error
    return walk(parse_json(read_bytes(path), path), str(path))


def _takes(document: Any, where: str, kind: str) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise EgoposeError(f"{where}: is {shape_text(document)}; expected an object from take uid to the take's {kind}")
    for uid, take in document.items():
        if not isinstance(take, dict):
            hint = " (this looks like an annotation of one take)" if isinstance(take, list) else ""
            raise EgoposeError(f"{where}: take {uid!r} is {shape_text(take)}{hint}; expected an object")
    found = kind_of_document(document)
    if found not in (kind, "unknown"):
        raise EgoposeError(f"{where}: this is a {found} file, a {kind} file is wanted; give the other file or track")
    return document


def kind_of_document(document: Mapping[str, Any]) -> str:
    """ "body", "hand" or "unknown", by the keys inside the first takes that have any."""
    for take in list(document.values())[:64]:
        if not isinstance(take, dict):
            continue
        if "body" in take:
            return "body"
        for frame in list(take.values())[:16]:
            if isinstance(frame, dict) and any(
                f"{side}_hand_{part}" in frame for side in SIDES for part in ("3d", "bbox")
            ):
                return "hand"
    return "unknown"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def walk_body(document: Any, where: str) -> dict[str, BodyTake]:
    """Body takes of a parsed document."""
    takes: dict[str, BodyTake] = {}
    for uid, take in _takes(document, where, "body").items():
        if not isinstance(take.get("body"), dict):
            have = ", ".join(list(take)[:6]) or "nothing"
            raise EgoposeError(f"{where}: take {uid} has no object 'body'; it has: {have}")
        body = take["body"]
        keys = list(body)
        frames, rows, other = split_keys(keys)
        values = list(body.values())
        xyz, wrong = block([values[i] for i in rows], BODY_SHAPE)
        defects = {int(frames[i]): what for i, what in wrong.items()}
        takes[uid] = BodyTake(uid, _text(take.get("take_name")), frames, xyz, defects, other)
    return takes


def walk_hand(document: Any, where: str) -> dict[str, HandTake]:
    """Hand takes of a parsed document."""
    takes: dict[str, HandTake] = {}
    for uid, take in _takes(document, where, "hand").items():
        frames, rows, other = split_keys(list(take))
        values = list(take.values())
        entries = [values[i] for i in rows]
        n = len(entries)
        hands = HandArrays(n)
        for i, entry in enumerate(entries):
            for s, side in enumerate(SIDES):
                hands.put(i, s, int(frames[i]), entry if isinstance(entry, dict) else {}, side)
            if not isinstance(entry, dict):
                for side in SIDES:
                    hands.defects[int(frames[i]), side] = f"the frame is {shape_text(entry)}"
        names = [_text(e["metadata"].get("take_name")) for e in entries if isinstance(e, dict)
                 and isinstance(e.get("metadata"), dict)]  # fmt: skip
        takes[uid] = hands.take(uid, next((name for name in names if name), None), frames, other)
    return takes


def read_body_file(
    path: str | os.PathLike[str], *, scanner: bool | None = None, cache: bool | None = None
) -> dict[str, BodyTake]:
    """Read a body ground truth or submission file.

    Args:
        path: JSON, ``{uid: {"take_name", "body": {frame: 17x3}}}``, metres, world frame; NaN tokens allowed.
        scanner: Force or forbid the fast reader; None decides by size. The result is the same.
        cache: Force or forbid a copy in columns in the user's cache folder; None keeps one of large files.

    Returns:
        Takes by uid in file order. A frame that is not 17x3 numbers is NaN and listed in ``defects``.

    Raises:
        EgoposeError: Unreadable, not JSON (with the line), a key twice, a take without ``body``, or a hand file.
    """

    def build() -> Columns:
        return to_columns(read_with(path, scan_body, walk_body, scanner=scanner), BodyTake)

    return cached(path, "body1", build, lambda columns: from_columns(columns, BodyTake), cache=cache)


def read_hand_file(
    path: str | os.PathLike[str], *, scanner: bool | None = None, cache: bool | None = None
) -> dict[str, HandTake]:
    """Read a hand ground truth, test list or submission file.

    Args:
        path: JSON, ``{uid: {frame: {"left_hand_3d": 21x3 or [], "right_hand_3d": ...}}}``, metres.
        scanner: Force or forbid the fast reader; None decides by size. The result is the same.
        cache: Force or forbid a copy in columns in the user's cache folder; None keeps one of large files.

    Returns:
        Takes by uid in file order. A hand that is not 21x3 numbers is NaN, not present, and listed in ``defects``.

    Raises:
        EgoposeError: Unreadable, not JSON (with the line), a key twice, or a body file.
    """

    def build() -> Columns:
        return to_columns(read_with(path, scan_hand, walk_hand, scanner=scanner), HandTake)

    return cached(path, "hand1", build, lambda columns: from_columns(columns, HandTake), cache=cache)
