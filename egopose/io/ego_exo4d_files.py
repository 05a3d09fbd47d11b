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
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import parse_json, read_bytes
from egopose.io.json_table import Scanner, Unusual, as_numbers, is_number
from egopose.takes import N_BODY, N_HAND, SIDES, BodyTake, Floats, HandTake

T = TypeVar("T")
MAX_FRAME = 1 << 40
SCAN_FROM_BYTES = 24 << 20
"""Below this a general parser is done before the scanner's start-up."""
SCAN_FROM_BYTES_WARM = 2 << 20
"""The same once Numba is loaded anyway."""

BODY_SHAPE = (N_BODY, 3)
HAND_SHAPE = (N_HAND, 3)


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


def frame_number(key: str) -> int | None:
    """The number in a frame key, or None when the key is no plain decimal number."""
    if not key.isascii() or not key.isdigit() or (len(key) > 1 and key[0] == "0"):
        return None
    number = int(key) if len(key) <= 13 else MAX_FRAME
    return number if number < MAX_FRAME else None


def split_keys(keys: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Frame numbers, their positions in ``keys``, and the keys that are no frame numbers."""
    numbers = [frame_number(key) for key in keys]
    where = [i for i, number in enumerate(numbers) if number is not None]
    other = tuple(key for key, number in zip(keys, numbers) if number is None)
    return np.array([numbers[i] for i in where], dtype=np.int64), np.array(where, dtype=np.int64), other


# what is wrong with one value --------------------------------------------------------------------------------------


def shape_text(value: Any) -> str:
    """A value's shape in words, for messages."""
    if isinstance(value, list):
        if not value:
            return "an empty list"
        inner = {len(row) if isinstance(row, list) else -1 for row in value}
        if len(inner) == 1 and -1 not in inner:
            return f"{len(value)}x{inner.pop()}"
        return f"a list of {len(value)} with unequal rows" if inner != {-1} else f"a list of {len(value)} numbers"
    return {dict: "an object", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def defect(value: Any, shape: tuple[int, int]) -> str | None:
    """What keeps a value from being an array of numbers of a shape, or None."""
    n, d = shape
    if type(value) is not list or len(value) != n or any(type(row) is not list or len(row) != d for row in value):
        return f"is {shape_text(value)}"
    kinds = set(map(type, chain.from_iterable(value)))
    if not kinds <= {int, float}:
        kinds -= {int, float}
        return f"holds {shape_text(None if type(None) in kinds else next(iter(kinds))())} in place of a number"
    try:
        np.array(value, dtype=np.float64)
    except OverflowError:
        return "holds a number too large to read"
    return None


def block(values: Sequence[Any], shape: tuple[int, int]) -> tuple[Floats, dict[int, str]]:
    """Many values of one shape as an array; rows that do not fit are NaN and described.

    Returns:
        ((T, *shape) float64, position -> what is wrong)
    """
    clean = _clean_block(values, shape)
    if clean is not None:
        return clean, {}
    out = np.full((len(values), *shape), np.nan)
    wrong: dict[int, str] = {}
    for i, value in enumerate(values):
        what = defect(value, shape)
        if what is None:
            out[i] = value
        else:
            wrong[i] = what
    return out, wrong


def _clean_block(values: Sequence[Any], shape: tuple[int, int]) -> Floats | None:
    """The array when every value fits, tested without a loop of ours; else None."""
    level: Sequence[Any] = values
    for size in shape:
        if not set(map(type, level)) <= {list} or not set(map(len, level)) <= {size}:
            return None
        level = list(chain.from_iterable(level))
    if not set(map(type, level)) <= {int, float}:
        return None
    try:
        return np.array(level, dtype=np.float64).reshape(len(values), *shape)
    except OverflowError:
        return None


# general parser ----------------------------------------------------------------------------------------------------


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
        hands = _HandArrays(n)
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


class _HandArrays:
    """Arrays of one take under construction."""

    def __init__(self, n: int) -> None:
        self.xyz = np.full((n, 2, *HAND_SHAPE), np.nan)
        self.present = np.zeros((n, 2), dtype=np.bool_)
        self.valid = np.ones((n, 2, N_HAND), dtype=np.bool_)
        self.boxes = np.full((n, 2, 4), np.nan)
        self.defects: dict[tuple[int, str], str] = {}

    def put(self, i: int, s: int, frame: int, entry: Mapping[str, Any], side: str) -> None:
        """One hand of one frame from its parsed entry."""
        points = entry.get(f"{side}_hand_3d", [])
        box = entry.get(f"{side}_hand_bbox")
        if type(box) is list and len(box) == 4 and set(map(type, box)) <= {int, float}:
            self.boxes[i, s] = box
        if points == []:
            return
        what = defect(points, HAND_SHAPE)
        if what is not None:
            self.defects[frame, side] = what
            return
        flags = entry.get(f"{side}_hand_valid_3d")
        if flags is not None:
            if type(flags) is not list or len(flags) != N_HAND or set(map(type, flags)) != {bool}:
                # the official script would take numbers for joint indices, without a word
                self.defects[frame, side] = f"{side}_hand_valid_3d is not a list of {N_HAND} times true or false"
                return
            self.valid[i, s] = flags
        self.xyz[i, s] = points
        self.present[i, s] = True

    def take(self, uid: str, name: str | None, frames: NDArray[np.int64], other: tuple[str, ...]) -> HandTake:
        """The finished take."""
        return HandTake(uid, name, frames, self.xyz, self.present, self.valid, self.boxes, self.defects, other)


# scanner -----------------------------------------------------------------------------------------------------------


def scan_body(scanner: Scanner, where: str) -> dict[str, BodyTake]:
    """Body takes through the scanner."""
    from egopose.kernels.json_scan import ABSENT

    ranges: list[tuple[str, str | None, int, int]] = []
    for uid, pos in scanner.members(0):
        name: str | None = None
        found: tuple[int, int] | None = None
        for key, at in scanner.members(pos):
            if key == "take_name":
                name, scanner.after = scanner.text(at)
            elif key == "body":
                found = scanner.rows(at)
            else:
                raise Unusual(at)
        if found is None:
            raise Unusual(pos)
        ranges.append((uid, name, *found))
    scanner.finish()
    table = scanner.table()
    paths = [(j, a) for j in range(N_BODY) for a in range(3)]
    cells = table.cells(list(paths))
    fits = is_number(cells).all(1)
    beyond = [column for path, column in table.columns.items() if path not in set(paths)]
    if beyond:
        fits &= (table.words[:, beyond] == np.uint64(ABSENT)).all(1)
    xyz = as_numbers(cells).reshape(-1, *BODY_SHAPE)
    xyz[~fits] = np.nan
    takes: dict[str, BodyTake] = {}
    for uid, name, first, last in ranges:
        frames, rows, other = split_keys(table.keys[first:last])
        _refuse_twice(table.keys[first:last])
        rows = rows + first
        defects = {
            int(frames[i]): _describe(scanner, table.spans[rows[i]], BODY_SHAPE) for i in np.flatnonzero(~fits[rows])
        }
        points = xyz[first:last] if len(rows) == last - first else xyz[rows]
        takes[uid] = BodyTake(uid, name, frames, points, defects, other)
    return takes


def scan_hand(scanner: Scanner, where: str) -> dict[str, HandTake]:
    """Hand takes through the scanner; a take with anything but clean frames is read by the general parser."""
    from egopose.kernels import json_scan as kernel

    ranges = []
    for uid, pos in scanner.members(0):
        if scanner.data[pos] != ord("{"):
            raise Unusual(pos)
        ranges.append((uid, *scanner.rows(pos)))
    scanner.finish()
    table = scanner.table()
    n = len(table.keys)
    hands = _HandArrays(n)
    clean = np.ones((n, 2), dtype=np.bool_)
    empty, absent = np.uint64(kernel.EMPTY_LIST), np.uint64(kernel.ABSENT)
    for s, side in enumerate(SIDES):
        key = f"{side}_hand_3d"
        paths = [(key, j, a) for j in range(N_HAND) for a in range(3)]
        cells = table.cells(list(paths))
        numbers = is_number(cells)
        whole_hand = table.cells([(key,)])[:, 0]
        known = set(paths) | {(key,)}
        beyond = [c for path, c in table.columns.items() if path[:1] == (key,) and path not in known]
        extra = (table.words[:, beyond] != absent).any(1) if beyond else np.zeros(n, dtype=np.bool_)
        full = numbers.all(1) & ~extra
        none = (cells == absent).all(1) & ~extra & ((whole_hand == empty) | (whole_hand == absent))
        flag_key = f"{side}_hand_valid_3d"
        flags = table.cells([(flag_key, j) for j in range(N_HAND)])
        known = {(flag_key, j) for j in range(N_HAND)}
        beyond = [c for path, c in table.columns.items() if path[:1] == (flag_key,) and path not in known]
        flagged = ((flags == np.uint64(kernel.TRUE)) | (flags == np.uint64(kernel.FALSE))).all(1)
        unflagged = (flags == absent).all(1)
        if beyond:
            more = (table.words[:, beyond] != absent).any(1)
            flagged, unflagged = flagged & ~more, unflagged & ~more
        clean[:, s] = none | (full & (flagged | unflagged))
        hands.present[:, s] = full
        hands.xyz[:, s] = as_numbers(cells).reshape(-1, *HAND_SHAPE)
        hands.xyz[~full, s] = np.nan
        hands.valid[:, s] = np.where((flagged & full)[:, None], flags == np.uint64(kernel.TRUE), True)
        box = table.cells([(f"{side}_hand_bbox", k) for k in range(4)])
        known = {(f"{side}_hand_bbox", k) for k in range(4)}
        beyond = [c for path, c in table.columns.items() if path[:1] == (f"{side}_hand_bbox",) and path not in known]
        boxed = is_number(box).all(1)
        if beyond:
            boxed &= (table.words[:, beyond] == absent).all(1)
        hands.boxes[boxed, s] = as_numbers(box)[boxed]
    names = _strings(scanner, table.cells([("metadata", "take_name")])[:, 0])
    takes: dict[str, HandTake] = {}
    for uid, first, last in ranges:
        _refuse_twice(table.keys[first:last])
        frames, rows, other = split_keys(table.keys[first:last])
        rows = rows + first
        part = _HandArrays(0)
        part.xyz, part.present, part.valid, part.boxes = (
            a[rows] for a in (hands.xyz, hands.present, hands.valid, hands.boxes)
        )
        for i in np.flatnonzero(~clean[rows].all(1)):
            # rare: the general rules decide and describe
            a, b = table.spans[rows[i]]
            entry = parse_json(scanner.data[a:b].tobytes(), where)
            alone = _HandArrays(1)
            for s, side in enumerate(SIDES):
                if isinstance(entry, dict):
                    alone.put(0, s, int(frames[i]), entry, side)
                else:
                    alone.defects[int(frames[i]), side] = f"the frame is {shape_text(entry)}"
            part.defects.update(alone.defects)
            for mine, theirs in ((part.xyz, alone.xyz), (part.present, alone.present), (part.valid, alone.valid),
                                 (part.boxes, alone.boxes)):  # fmt: skip
                mine[i] = theirs[0]
        takes[uid] = part.take(uid, next((names[r] for r in rows if names[r]), None), frames, other)
    if not any(hands.present.any(0)) and not np.isfinite(hands.boxes).any() and ranges:
        # nothing hand-like: let the general parser say what this is
        raise Unusual(0)
    return takes


def _refuse_twice(keys: Sequence[str]) -> None:
    if len(set(keys)) != len(keys):
        raise Unusual(0)


def _describe(scanner: Scanner, span: NDArray[np.int64], shape: tuple[int, int]) -> str:
    value = parse_json(scanner.data[span[0] : span[1]].tobytes(), "frame")
    return defect(value, shape) or "is malformed"


def _strings(scanner: Scanner, words: NDArray[np.uint64]) -> list[str | None]:
    """The text of string cells, None for others."""
    from egopose.kernels.json_scan import STRING

    out: list[str | None] = [None] * len(words)
    for i in np.flatnonzero((words >> np.uint64(48)) == np.uint64(STRING >> 48)):
        start = int(words[i] & np.uint64((1 << 48) - 1))
        out[int(i)] = scanner.text(start - 1)[0]
    return out


# public ------------------------------------------------------------------------------------------------------------


def read_body_file(path: str | os.PathLike[str], *, scanner: bool | None = None) -> dict[str, BodyTake]:
    """Read a body ground truth or submission file.

    Args:
        path: JSON, ``{uid: {"take_name", "body": {frame: 17x3}}}``, metres, world frame; NaN tokens allowed.
        scanner: Force or forbid the fast reader; None decides by size. The result is the same.

    Returns:
        Takes by uid in file order. A frame that is not 17x3 numbers is NaN and listed in ``defects``.

    Raises:
        EgoposeError: Unreadable, not JSON (with the line), a key twice, a take without ``body``, or a hand file.
    """
    return read_with(path, scan_body, walk_body, scanner=scanner)


def read_hand_file(path: str | os.PathLike[str], *, scanner: bool | None = None) -> dict[str, HandTake]:
    """Read a hand ground truth, test list or submission file.

    Args:
        path: JSON, ``{uid: {frame: {"left_hand_3d": 21x3 or [], "right_hand_3d": ...}}}``, metres.
        scanner: Force or forbid the fast reader; None decides by size. The result is the same.

    Returns:
        Takes by uid in file order. A hand that is not 21x3 numbers is NaN, not present, and listed in ``defects``.

    Raises:
        EgoposeError: Unreadable, not JSON (with the line), a key twice, or a body file.
    """
    return read_with(path, scan_hand, walk_hand, scanner=scanner)
