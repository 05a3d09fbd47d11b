"""Single values of the Ego-Exo4D files: frame keys, blocks of numbers, and words for what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.takes import N_BODY, N_HAND, Floats, HandTake

MAX_FRAME = 1 << 40
BODY_SHAPE = (N_BODY, 3)
HAND_SHAPE = (N_HAND, 3)


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


class HandArrays:
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
