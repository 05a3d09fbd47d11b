"""Compile every kernel once, for the types the package calls it with; Numba keeps the results for this processor.

Run ``python -m egopose.kernels.warmup`` or call :func:`warmup`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from .signatures import SIGNATURES

_CODES = {code: getattr(types, name) for code, name in (
    ("f4", "float32"), ("f8", "float64"), ("i4", "int32"), ("i8", "int64"), ("u1", "uint8"), ("u8", "uint64"),
    ("b1", "boolean"),
)}  # fmt: skip


def _type(code: str) -> Any:
    kind = _CODES[code[:2]]
    if len(code) == 2:
        return kind
    layout: Any = code[3]
    return types.Array(kind, int(code[2]), layout, readonly=code.endswith("!"))


def _compile(line: str) -> None:
    name, *codes = line.split()
    module, function = name.split(".")
    kernel = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    kernel.compile(tuple(_type(code) for code in codes))


def _metrics(kind: type) -> None:
    from .distance import distance_frames, distance_joints
    from .fused import METRICS, fused_frames
    from .motion import motion_norms
    from .procrustes import pa_frames

    m = len(METRICS)
    which, limits, nothing = np.array([0, 3]), np.linspace(0.0, 0.1, 11), np.empty(0)
    no_mask, no_root = np.empty(0, np.uint8), np.empty(0, np.int64)
    a = np.zeros(16 * 5 * 3, kind)
    total, count = np.empty(16), np.empty(16, np.int64)
    pa_frames(a, a, no_mask, 5, 0, 16, True, total, count, nothing)
    distance_frames(a, a, no_mask, 5, 0, 16, total, count)
    distance_joints(a, a, 0, 80, np.empty(80))
    motion_norms(a, a, True, 5, 0, 10, 1, np.empty(50))
    sums = np.zeros((m, 5, 4), np.int64), np.zeros((m, 4), np.int64), np.zeros((2, 5, 13), np.int64)
    fused_frames(a, a, no_mask, 5, 0, 0, 16, no_root, which, limits, *sums, np.empty((m, 0)))


def warmup(progress: Callable[[float, str], None] | None = None) -> None:
    """Compile all kernels.

    Args:
        progress: Called with the share done in [0, 1] and what is next.
    """
    jobs: list[tuple[str, Callable[[], None]]] = [
        (f"metrics {kind.__name__}", lambda kind=kind: _metrics(kind)) for kind in (np.float32, np.float64)
    ]
    jobs += [(line.split()[0], lambda line=line: _compile(line)) for line in SIGNATURES.splitlines()]
    for i, (name, job) in enumerate(jobs):
        if progress is not None:
            progress(i / len(jobs), name)
        job()
    if progress is not None:
        progress(1.0, "done")


if __name__ == "__main__":
    warmup(lambda share, what: print(f"{share:4.0%} {what}"))
