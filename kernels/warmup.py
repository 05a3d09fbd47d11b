"""Compile every kernel once, by calling it on tiny arrays; Numba keeps the results on disk for this processor.

Run ``python -m egopose.kernels.warmup`` or call :func:`warmup`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def _metrics() -> None:
    from .distance import distance_frames
    from .fused import METRICS, fused_frames
    from .procrustes import pa_frames

    m = len(METRICS)
    which, limits, none = np.array([0, 3]), np.linspace(0.0, 0.1, 11), np.empty(0)
    for kind in (np.float32, np.float64):
        a = np.random.default_rng(0).normal(size=(16, 5, 3)).astype(kind)
        flat, no_mask = a.ravel(), np.empty(0, np.uint8)
        total, count = np.empty(16), np.empty(16, np.int64)
        pa_frames(flat, flat, no_mask, 5, 0, 16, True, total, count, none)
        for joints in (17, 21):
            b = np.zeros((2, joints, 3), kind)
            distance_frames(b, b, np.empty((0, 0), np.uint8), np.empty(2), np.empty(2, np.int64))
        fused_frames(
            flat, flat, no_mask, 5, 0, 0, 16, np.empty(0, np.int64), which, limits,
            np.zeros((m, 5, 4), np.int64), np.zeros((m, 4), np.int64), np.zeros((2, 5, 12), np.int64), np.empty((m, 0)),
        )  # fmt: skip


def warmup(progress: Callable[[float, str], None] | None = None) -> None:
    """Compile all kernels.

    Args:
        progress: Called with the share done in [0, 1] and what is next.
    """
    from . import warmup_geometry

    jobs: list[tuple[str, Callable[[], None]]] = [("metrics", _metrics), *warmup_geometry.JOBS]
    for i, (name, job) in enumerate(jobs):
        if progress is not None:
            progress(i / len(jobs), name)
        job()
    if progress is not None:
        progress(1.0, "done")


if __name__ == "__main__":
    warmup(lambda share, what: print(f"{share:4.0%} {what}"))
