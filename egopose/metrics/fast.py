"""Long arrays through the compiled kernels, chunk by chunk over threads; results do not depend on either."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from egopose.metrics.arrays import Bools, Floats, Reduce, check_choice, flat, opened, read_ahead

SMALL = 1000
"""Up to this many frames plain numpy is used: loading a kernel would take longer."""

CHUNK = 16384
Kind = Literal["plain", "pa", "rigid"]
Counts = NDArray[np.int64]


def over_chunks(n: int, work: Callable[[int, int], Any], threads: int | None = None) -> list[Any]:
    """``work(start, stop)`` for every chunk of ``n`` frames, several at a time, results in order."""
    spans = [(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
    workers = min(threads or os.cpu_count() or 1, len(spans))
    if workers <= 1:
        return [work(*span) for span in spans]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda span: work(*span), spans))


def flat_mask(valid: Bools | None, start: int, stop: int) -> NDArray[np.uint8]:
    """Frames of a mask as flat bytes; empty without one."""
    if valid is None:
        return np.empty(0, np.uint8)
    return opened(np.ascontiguousarray(valid[start:stop]).view(np.uint8).reshape(-1))


def frame_sums(
    pred: NDArray[Any], target: NDArray[Any], valid: Bools | None, kind: Kind, threads: int | None = None
) -> tuple[Floats, Counts]:
    """Sum of distances of each frame (N,) and how many joints count (N,)."""
    from egopose.kernels.distance import distance_frames
    from egopose.kernels.procrustes import pa_frames

    total, count, nothing = np.empty(len(pred)), np.empty(len(pred), np.int64), np.empty(0)
    joints = pred.shape[1]

    def work(start: int, stop: int) -> None:
        for array in (pred, target):
            read_ahead(array, stop, min(stop + CHUNK, len(pred)))
        a, b, v = flat(pred[start:stop]), flat(target[start:stop]), flat_mask(valid, start, stop)
        out = total[start:stop], count[start:stop]
        if kind == "plain":
            distance_frames(a, b, v, joints, 0, stop - start, *out)
        else:
            pa_frames(a, b, v, joints, 0, stop - start, kind == "pa", *out, nothing)

    over_chunks(len(pred), work, threads)
    return total, count


def joint_errors(
    pred: NDArray[Any], target: NDArray[Any], valid: Bools | None, kind: Kind, threads: int | None = None
) -> Floats:
    """Distances (N, J); what stands at uncounted joints does not matter."""
    from egopose.kernels.distance import distance_joints
    from egopose.kernels.procrustes import pa_frames

    joints = pred.shape[1]
    error = np.empty(pred.shape[:2])

    def work(start: int, stop: int) -> None:
        a, b = flat(pred[start:stop]), flat(target[start:stop])
        n = stop - start
        each = error[start:stop].reshape(-1)
        if kind == "plain":
            distance_joints(a, b, 0, n * joints, each)
        else:
            sums = np.empty(n), np.empty(n, np.int64)
            pa_frames(a, b, flat_mask(valid, start, stop), joints, 0, n, kind == "pa", *sums, each)

    over_chunks(len(pred), work, threads)
    error[~np.isfinite(error)] = np.nan
    return error


def motion_errors(pred: NDArray[Any], target: NDArray[Any] | None, order: int, threads: int | None = None) -> Floats:
    """Norms (N - order, J) of differences over time of ``pred - target``, or of ``pred``."""
    from egopose.kernels.motion import motion_norms

    n, joints = max(len(pred) - order, 0), pred.shape[1]
    error = np.empty((n, joints))

    def work(start: int, stop: int) -> None:
        a = flat(pred[start : stop + order])
        b = a if target is None else flat(target[start : stop + order])
        motion_norms(a, b, target is not None, joints, 0, stop - start, order, error[start:stop].reshape(-1))

    over_chunks(n, work, threads)
    return error


def reduce_sums(total: Floats, count: Counts, reduce: Reduce) -> Floats | float:
    """Sums of frames to what was asked for; see :func:`egopose.metrics.arrays.reduce_errors`."""
    check_choice(reduce, ("none", "micro", "macro"), "reduce")
    some = count > 0
    if reduce == "micro":
        n = int(count.sum())
        return float(total[some].sum()) / n if n else float("nan")
    frames = np.where(some, total / np.maximum(count, 1), np.nan)
    if reduce == "none":
        return frames
    return float(frames[some].sum()) / int(some.sum()) if some.any() else float("nan")
