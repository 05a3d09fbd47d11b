"""Ego-Exo4D body and hand files through the scanner: the takes that the general parser gives, without its objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from egopose.files import parse_json
from egopose.io.ego_exo4d_values import BODY_SHAPE, HAND_SHAPE, MAX_FRAME, HandArrays, defect, shape_text
from egopose.io.json_table import Scanner, Table, Unusual, as_numbers, is_number
from egopose.takes import N_BODY, N_HAND, SIDES, BodyTake, HandTake


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
    numbers_of_keys = table.numbers_of_keys(MAX_FRAME)
    paths = [(j, a) for j in range(N_BODY) for a in range(3)]
    numbers, misfits = table.numbers(list(paths))
    fits: NDArray[np.bool_] = ~np.any(misfits, axis=1)
    known = set(paths)
    beyond = [column for path, column in table.columns.items() if path not in known]
    if beyond:
        fits &= (table.words[:, beyond] == np.uint64(ABSENT)).all(1)
    xyz = numbers.reshape(-1, *BODY_SHAPE)
    xyz[~fits] = np.nan
    takes: dict[str, BodyTake] = {}
    for uid, name, first, last in ranges:
        frames, rows, other = _frames(table, numbers_of_keys, first, last)
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
    numbers_of_keys = table.numbers_of_keys(MAX_FRAME)
    n = len(table)
    hands = HandArrays(n)
    clean = np.ones((n, 2), dtype=np.bool_)
    empty, absent = np.uint64(kernel.EMPTY_LIST), np.uint64(kernel.ABSENT)
    for s, side in enumerate(SIDES):
        key = f"{side}_hand_3d"
        paths = [(key, j, a) for j in range(N_HAND) for a in range(3)]
        numbers, misfits = table.numbers(list(paths))
        whole_hand = table.cells([(key,)])[:, 0]
        known = set(paths) | {(key,)}
        beyond = [c for path, c in table.columns.items() if path[:1] == (key,) and path not in known]
        extra = (table.words[:, beyond] != absent).any(1) if beyond else np.zeros(n, dtype=np.bool_)
        full = ~misfits.any(1) & ~extra
        none = (table.cells(list(paths)) == absent).all(1) & ~extra & ((whole_hand == empty) | (whole_hand == absent))
        flag_key = f"{side}_hand_valid_3d"
        flags = table.cells([(flag_key, j) for j in range(N_HAND)])
        known_flags = {(flag_key, j) for j in range(N_HAND)}
        beyond = [c for path, c in table.columns.items() if path[:1] == (flag_key,) and path not in known_flags]
        flagged = ((flags == np.uint64(kernel.TRUE)) | (flags == np.uint64(kernel.FALSE))).all(1)
        unflagged = (flags == absent).all(1)
        if beyond:
            more = (table.words[:, beyond] != absent).any(1)
            flagged, unflagged = flagged & ~more, unflagged & ~more
        clean[:, s] = none | (full & (flagged | unflagged))
        hands.present[:, s] = full
        hands.xyz[:, s] = numbers.reshape(-1, *HAND_SHAPE)
        hands.xyz[~full, s] = np.nan
        hands.valid[:, s] = np.where((flagged & full)[:, None], flags == np.uint64(kernel.TRUE), True)
        box = table.cells([(f"{side}_hand_bbox", k) for k in range(4)])
        known_boxes = {(f"{side}_hand_bbox", k) for k in range(4)}
        beyond = [
            c for path, c in table.columns.items() if path[:1] == (f"{side}_hand_bbox",) and path not in known_boxes
        ]
        boxed = is_number(box).all(1)
        if beyond:
            boxed &= (table.words[:, beyond] == absent).all(1)
        hands.boxes[boxed, s] = as_numbers(box)[boxed]
    # a frame that is a list or a value of its own is described by the general rules
    listed = [c for path, c in table.columns.items() if path and isinstance(path[0], int)]
    if listed:
        clean &= (table.words[:, listed] == absent).all(1)[:, None]
    own = table.cells([()])[:, 0]
    clean &= ((own == absent) | (own == np.uint64(kernel.EMPTY_OBJECT)))[:, None]
    names = _strings(scanner, table.cells([("metadata", "take_name")])[:, 0])
    takes: dict[str, HandTake] = {}
    for uid, first, last in ranges:
        frames, rows, other = _frames(table, numbers_of_keys, first, last)
        part = HandArrays(0)
        part.xyz, part.present, part.valid, part.boxes = (
            a[rows] for a in (hands.xyz, hands.present, hands.valid, hands.boxes)
        )
        for i in np.flatnonzero(~clean[rows].all(1)):
            # rare: the general rules decide and describe
            a, b = table.spans[rows[i]]
            entry = parse_json(scanner.data[a:b].tobytes(), where)
            alone = HandArrays(1)
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
    if not hands.present.any() and not np.isfinite(hands.boxes).any() and ranges:
        # nothing hand-like: let the general parser say what this is
        raise Unusual(0)
    return takes


def _frames(
    table: Table, numbers: NDArray[np.int64], first: int, last: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Frame numbers of some rows, those rows, and the other keys; a key that stands twice is for the general parser."""
    part = numbers[first:last]
    rows = np.flatnonzero(part >= 0) + first
    other = tuple(table.key(int(row)) for row in np.flatnonzero(part < 0) + first)
    frames = numbers[rows]
    if len(set(other)) != len(other) or np.unique(frames).size != frames.size:
        raise Unusual(0)
    return frames, rows, other


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
