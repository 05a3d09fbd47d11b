"""Joints of many takes as the benchmark files hold them: float64 in file order, with what is wrong kept beside them.

A :class:`~egopose.pose.PoseSequence` is one person over one take, checked and sorted. Scoring and checking a submission
need more: the order of the file (sums depend on it), full precision, and frames that are there but malformed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from egopose.skeleton import BODY17, HAND21

Floats = NDArray[np.float64]
SIDES = ("right", "left")
"""Order of the hands in the arrays: the official evaluator takes the right one first."""

N_BODY = BODY17.n_joints
N_HAND = HAND21.n_joints


@dataclass(frozen=True, eq=False)
class BodyTake:
    """Body joints of one take.

    Attributes:
        uid: Key of the take in the file.
        take_name: As in the file, or None where it is absent or not text.
        frames: (T,) int64 frame numbers in file order.
        xyz: (T, 17, 3) float64 metres, NaN where a joint is not known or the frame is malformed.
        defects: Frame number to what is wrong with its value.
        other_keys: Keys that are no frame numbers.
    """

    uid: str
    take_name: str | None
    frames: NDArray[np.int64]
    xyz: Floats
    defects: Mapping[int, str] = field(default_factory=dict)
    other_keys: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class HandTake:
    """Both hands of one take; axis 1 of the arrays is :data:`SIDES`.

    Attributes:
        uid: Key of the take in the file.
        take_name: From the metadata, or None.
        frames: (T,) int64 frame numbers in file order.
        xyz: (T, 2, 21, 3) float64 metres, NaN where unknown, absent or malformed.
        present: (T, 2) whether the hand has joints (a list that is not empty).
        valid: (T, 2, 21) the file's validity flags; all true where it has none.
        boxes: (T, 2, 4) bounding boxes x0, y0, x1, y1 in pixels, NaN where there is none (test lists have boxes and
            no joints).
        defects: (frame number, side) to what is wrong.
        other_keys: Keys that are no frame numbers.
    """

    uid: str
    take_name: str | None
    frames: NDArray[np.int64]
    xyz: Floats
    present: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    boxes: Floats
    defects: Mapping[tuple[int, str], str] = field(default_factory=dict)
    other_keys: tuple[str, ...] = ()

    @property
    def boxed(self) -> NDArray[np.bool_]:
        """(T, 2) whether the hand has a bounding box."""
        return np.asarray(np.isfinite(self.boxes).all(-1))


def sort_frames(frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order that sorts frame numbers, stable."""
    return np.argsort(frames, kind="stable")


def locate(have: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index in ``have`` of each wanted frame number, -1 where it is absent."""
    if not have.size:
        return np.full(wanted.shape, -1, dtype=np.int64)
    order = sort_frames(have)
    place = np.minimum(np.searchsorted(have[order], wanted), have.size - 1)
    found = order[place]
    return np.where(have[found] == wanted, found, -1)
