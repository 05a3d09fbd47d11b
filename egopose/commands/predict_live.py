"""``egopose predict --live``: a recording as a stream, shown while it is predicted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from egopose.camera import Camera
from egopose.errors import EgoposeError
from egopose.pose import PoseSequence
from egopose.trajectory import Trajectory


def joined(parts: Sequence[PoseSequence]) -> PoseSequence:
    """Consecutive parts of one sequence as one.

    Raises:
        EgoposeError: There are none.
    """
    if not parts:
        raise EgoposeError("no frame was predicted; nothing to save")
    arrays: dict[str, Any] = {}
    for name in ("frames", "times_s", "xyz", "sigma", "covariance", "status"):
        values = [getattr(part, name) for part in parts]
        arrays[name] = None if values[0] is None else np.concatenate(values)
    return parts[0].replace(**arrays)


def stream(
    predictor: Any,
    clip: Path | None,
    camera: Camera | None,
    trajectory: Trajectory | None,
    *,
    lookahead: int = 0,
    space: str | None = None,
    hands: Literal["mediapipe"] | None = None,
) -> Iterator[PoseSequence]:
    """The poses of a recording one by one, each from what was there by its time (and the lookahead).

    Raises:
        EgoposeError: Neither clip nor trajectory, or as :meth:`egopose.predict.Predictor.stream`.
    """
    if clip is None:
        if trajectory is None:
            raise EgoposeError("--live needs a clip, a trajectory, or both")
        yield from predictor.stream(trajectory=trajectory, lookahead=lookahead, space=space)
        return
    from egopose.io.video import read_frames

    # both are read in step, so that no more than a frame waits
    images, times = itertools.tee(read_frames(clip))
    yield from predictor.stream(
        (frame.image for frame in images), camera=camera, trajectory=trajectory,
        times_s=(frame.time_s for frame in times), lookahead=lookahead, space=space, hands=hands,
    )  # fmt: skip


def lookahead_of(mode: str) -> int:
    """Frames to look ahead in a stream.

    Raises:
        EgoposeError: Not a number of frames; offline and causal mean none.
    """
    if mode in ("offline", "causal"):
        return 0
    if not mode.isdigit():
        raise EgoposeError(f"--mode is {mode!r}; expected causal or a number of frames for --live")
    return int(mode)
