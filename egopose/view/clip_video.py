"""The recording itself inside the 3D page: a small video of constant rate."""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from egopose.errors import EgoposeError, import_cv2
from egopose.io.video import VideoWriter, probe, read_frames

MAX_BYTES = 1_800_000
"""Most bytes of the embedded video, so that a page with 60 s of joints stays well under 10 MB."""

# (longest side in pixels, frames per second, x264 quality), tried in this order until one is small enough
_STEPS = ((480, 15.0, 30), (400, 10.0, 34), (320, 8.0, 38), (240, 5.0, 42), (160, 2.0, 45))


def embed_clip(
    path: str | os.PathLike[str], times_s: ArrayLike, *, max_bytes: int = MAX_BYTES, progress: Any = None
) -> dict[str, Any]:
    """The part of a recording that joints were found in, small enough for a page.

    Args:
        path: The video.
        times_s: (T,) times of the joints on the video's clock.
        max_bytes: Most bytes of the video.
        progress: Called with the share done and what is going on.

    Returns:
        ``{"source": base64 of an mp4, "start_s": time of its first frame, "end_s": of its last}``.

    Raises:
        EgoposeError: Not a video, or it does not cover the times.
    """
    times = np.asarray(times_s, dtype=np.float64)
    info = probe(path)
    half = 0.5 / info.fps
    if times[-1] < info.times_s[0] - half or times[0] > info.times_s[-1] + half:
        raise EgoposeError(
            f"{path}: spans {info.times_s[0]:.2f} s to {info.times_s[-1]:.2f} s, the joints {times[0]:.2f} s to "
            f"{times[-1]:.2f} s; they must share one clock"
        )
    first = max(float(times[0]), float(info.times_s[0]))
    last = min(float(times[-1]), float(info.times_s[-1]))
    with tempfile.TemporaryDirectory(prefix="egopose-") as folder:
        for k, (side, rate, crf) in enumerate(_STEPS):
            target = Path(folder, f"{k}.mp4")
            _shrink(path, target, info, first, last, side, min(rate, info.fps), crf, progress)
            if target.stat().st_size <= max_bytes:
                source = base64.b64encode(target.read_bytes()).decode("ascii")
                return {"source": source, "start_s": first, "end_s": last}
    raise EgoposeError(
        f"{path}: {last - first:.0f} s do not fit into {max_bytes / 1e6:.1f} MB of video; leave the recording out of "
        "the page or view a shorter part"
    )


def _shrink(
    path: str | os.PathLike[str], target: Path, info: Any, first: float, last: float, side: int, fps: float, crf: int,
    progress: Any,
) -> None:  # fmt: skip
    """Write the frames nearest to a regular grid of times, scaled down."""
    cv2 = import_cv2()
    width, height = info.size
    scale = min(1.0, side / max(width, height))
    size = (max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2)))
    grid = first + np.arange(max(1, int(np.floor((last - first) * fps)) + 1)) / fps
    right = np.clip(np.searchsorted(info.times_s, grid), 1, max(1, info.n_frames - 1))
    left = right - 1
    right = np.minimum(right, info.n_frames - 1)
    nearest = np.where(grid - info.times_s[left] <= info.times_s[right] - grid, left, right)
    done = 0
    with VideoWriter(target, fps, crf=crf) as writer:
        for frame in read_frames(path, start=int(nearest[0]), stop=int(nearest[-1]) + 1):
            repeats = int(np.searchsorted(nearest, frame.index, side="right")) - done
            if repeats <= 0:
                continue
            small = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
            for _ in range(repeats):
                writer.add(small)
            done += repeats
            if progress is not None:
                progress(done / len(nearest), "clip for the page")
