"""What every metric does first and last: check the arrays, decide which joints count, reduce."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.errors import EgoposeError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Reduce = Literal["none", "joint", "micro", "macro"]
Root = int | Sequence[int] | None

CHUNK = 65536
"""Frames handled at a time: bounds the memory of temporaries, never changes a result."""


def check_joints(values: ArrayLike, name: str) -> NDArray[Any]:
    """An (N, J, 3) floating array.

    Raises:
        EgoposeError: Another shape or type.
    """
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        raise EgoposeError(f"{name} has type {array.dtype}; expected floating-point joints (frames, joints, 3)")
    if array.ndim != 3 or array.shape[2] != 3 or array.shape[1] == 0:
        raise EgoposeError(f"{name} has shape {array.shape}; expected (frames, joints, 3)")
    return array


def check_pair(
    pred: ArrayLike, target: ArrayLike, valid: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[Any], Bools | None]:
    """Prediction, target and mask that belong together.

    Raises:
        EgoposeError: Shapes differ, such as 5 joints against 17, or the mask is not boolean of shape (N, J).
    """
    p, t = check_joints(pred, "pred"), check_joints(target, "target")
    if p.shape != t.shape:
        raise EgoposeError(
            f"pred has shape {p.shape} and target {t.shape}; expected the same frames and joints (select common ones)"
        )
    return p, t, check_valid(valid, p.shape[:2])


def check_valid(valid: ArrayLike | None, shape: tuple[int, ...]) -> Bools | None:
    """A boolean mask of a given shape, or None.

    Raises:
        EgoposeError: Another shape, or numbers other than 0 and 1.
    """
    if valid is None:
        return None
    mask = np.asarray(valid)
    if mask.shape != tuple(shape):
        raise EgoposeError(f"valid has shape {mask.shape}; expected {tuple(shape)} (frames, joints)")
    if mask.dtype != np.bool_:
        if mask.dtype.kind not in "iuf" or not np.isin(mask, (0, 1)).all():
            raise EgoposeError(f"valid has type {mask.dtype}; expected booleans (or 0 and 1)")
        mask = mask.astype(bool)
    return mask


def check_choice(value: Any, allowed: Sequence[Any], name: str) -> None:
    """Refuse a value that is not among the allowed ones.

    Raises:
        EgoposeError: It is not.
    """
    if value not in allowed:
        raise EgoposeError(f"{name} is {value!r}; expected one of {', '.join(map(repr, allowed))}")


def check_fps(fps: float) -> float:
    """A positive finite rate.

    Raises:
        EgoposeError: It is not.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise EgoposeError(f"fps is {fps!r}; expected a positive number of frames per second")
    return float(fps)


def check_root(root: Root, joints: int) -> NDArray[np.int64] | None:
    """Indices of the joints whose mean is the root.

    Raises:
        EgoposeError: An index is out of range.
    """
    if root is None:
        return None
    index = np.atleast_1d(np.asarray(root))
    if index.dtype.kind not in "iu" or index.ndim != 1 or index.size == 0:
        raise EgoposeError(f"root is {root!r}; expected a joint index or several")
    if (index < -joints).any() or (index >= joints).any():
        raise EgoposeError(f"root is {root!r}; there are {joints} joints")
    return index.astype(np.int64)


def counted_joints(target: NDArray[Any], valid: Bools | None) -> Bools:
    """(N, J) joints that count: valid, and their target is finite."""
    finite = np.isfinite(target).all(axis=-1)
    return np.asarray(finite if valid is None else finite & valid)


def subtract_root(points: Floats, root: NDArray[np.int64] | None) -> Floats:
    """Points relative to the mean of the root joints of each frame."""
    return points if root is None else points - points[:, root].mean(axis=1, keepdims=True)


def reduce_errors(error: Floats, counted: Bools, reduce: Reduce) -> Floats | float:
    """Errors (N, J) to what was asked for.

    Args:
        error: (N, J); what stands at uncounted joints does not matter. NaN at a counted joint is a prediction that is
            not finite and makes its frame, and every mean over it, NaN.
        counted: (N, J).
        reduce: "none" (N,) mean of each frame, "joint" (J,) mean of each joint, "micro" mean over counted joints,
            "macro" mean over frames of frame means.
    """
    check_choice(reduce, ("none", "joint", "micro", "macro"), "reduce")
    kept = np.where(counted, error, 0.0)
    if reduce == "micro":
        return _ratio(float(kept.sum()), int(counted.sum()))
    if reduce == "joint":
        return _ratios(kept.sum(axis=0), counted.sum(axis=0))
    frames = _ratios(kept.sum(axis=1), counted.sum(axis=1))
    if reduce == "none":
        return frames
    some = counted.any(axis=1)
    return _ratio(float(frames[some].sum()), int(some.sum()))


def _ratio(total: float, count: int) -> float:
    return total / count if count else float("nan")


def _ratios(total: Floats, count: NDArray[Any]) -> Floats:
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def flat(array: NDArray[Any]) -> NDArray[Any]:
    """Contiguous float32 or float64 numbers, one-dimensional."""
    kind = array.dtype if array.dtype in (np.float32, np.float64) else np.float64
    return opened(np.ascontiguousarray(np.asarray(array), dtype=np.dtype(kind).newbyteorder("=")).reshape(-1))


class _Open:
    """The memory of an array without its read-only flag."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def opened(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory for kernels that only read: Numba would compile them again for a read-only array."""
    return array if array.flags.writeable or not array.size else np.asarray(_Open(array))


def read_ahead(array: NDArray[Any], start: int, stop: int) -> None:
    """Ask the system for the pages of some frames of a memory-mapped array; other arrays are left alone."""
    mapped = getattr(array, "_mmap", None)
    if mapped is None or start >= stop or not hasattr(mapped, "madvise"):
        return
    import mmap

    first = np.frombuffer(mapped, np.uint8).ctypes.data
    begin = array[start:stop].ctypes.data - first
    page = mmap.PAGESIZE
    aligned = begin - begin % page
    size = (stop - start) * array.strides[0] + begin - aligned
    if 0 <= aligned < len(mapped) and array.strides[0] > 0:
        mapped.madvise(mmap.MADV_WILLNEED, aligned, min(size, len(mapped) - aligned))
