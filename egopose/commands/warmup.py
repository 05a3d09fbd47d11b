"""``egopose warmup``: compile every kernel once; the results are kept for this machine."""

from __future__ import annotations

import time

from egopose.commands.output import emit, progress_bar


def warmup(*, json: bool = False) -> None:
    """Compile every kernel once and keep the results, so that no later command waits for it.

    Args:
        json: Print one JSON object.
    """
    from egopose.kernels import warmup as kernels

    start = time.perf_counter()
    with progress_bar("compile") as progress:
        kernels.warmup(progress)
    seconds = time.perf_counter() - start
    emit({"seconds": seconds}, f"kernels compiled in {seconds:.1f} s", json)
