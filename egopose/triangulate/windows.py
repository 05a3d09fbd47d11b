"""Long takes in windows: memory for one window at a time, whatever the length.

What belongs to the whole take (time offsets, wrong and refined cameras, threshold and noise, motion prior, bone
lengths) is estimated once, on evenly spaced stretches of it. Every window is then solved with those values and a margin
on both sides that is thrown away: sides, hands' views and smoothing look only a little way along time, so the seams do
not show.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose import __version__
from egopose.camera import Rig
from egopose.config import config_hash
from egopose.errors import EgoposeError
from egopose.files import atomic_path
from egopose.observations import Observations2D
from egopose.pose import PoseSequence
from egopose.triangulate.offsets import TimeOffsets, apply_offsets
from egopose.triangulate.overtime import smooth_take
from egopose.triangulate.sides import assign_sides
from egopose.triangulate.solve import TriangulatedPoints
from egopose.triangulate.stages import _cap, hand_views, stages_for
from egopose.triangulate.take import ASSUMED_FPS, Progress, Take, TriangulateConfig, prepare_take, solve_frames

LONG_FRAMES = 12_000
"""Takes beyond this are solved in windows by the command."""
WINDOW_FRAMES = 3_000
MARGIN_S = 4.0
_BLOCKS, _BLOCK_FRAMES, _BLOCK_GAP = 5, 1_500, 60


@dataclass(frozen=True, eq=False)
class Shared:
    """What belongs to a whole take.

    Attributes:
        given: Cameras as given, in the order of the views: those that sides are told with.
        rig: The cameras to solve with: wrong ones left out, refined when asked for.
        cap_px: Distance beyond which a ray is wrong, for the sides.
        offsets: Time offsets, or None.
        solved: Threshold and noise (its arrays are empty).
        smoothing: What the smoothing estimated: motion prior and bone lengths.
        config: Settings.
        notes: Remarks.
        found: What the stages found.
    """

    given: Rig
    rig: Rig
    cap_px: float
    offsets: TimeOffsets | None
    solved: TriangulatedPoints
    smoothing: dict[str, Any]
    config: TriangulateConfig
    notes: tuple[str, ...]
    found: dict[str, Any]


def probe_of(observations: Observations2D) -> Observations2D:
    """Stretches spread over the take, the middle one in its middle, with frames renumbered; a short take whole."""
    T = observations.n_frames
    if T <= _BLOCKS * _BLOCK_FRAMES:
        return observations
    starts = np.linspace(0, T - _BLOCK_FRAMES, _BLOCKS).astype(int)
    # the motion prior is estimated in the middle: there the probe and the take are the same
    starts[_BLOCKS // 2] = T // 2 - _BLOCK_FRAMES // 2
    index = np.concatenate([np.arange(s, s + _BLOCK_FRAMES) for s in starts])
    frames, last = [], 0
    for s in starts:
        block = observations.frames[s : s + _BLOCK_FRAMES]
        frames.append(block - block[0] + last)
        last = int(frames[-1][-1]) + _BLOCK_GAP
    return observations.replace(
        frames=np.concatenate(frames), uv_px=observations.uv_px[:, index],
        score=None if observations.score is None else observations.score[:, index],
    )  # fmt: skip


def estimate_shared(
    rig: Rig, observations: Observations2D, config: TriangulateConfig | None = None, progress: Progress | None = None
) -> Shared:
    """Run all stages on the probe and keep what belongs to the whole take.

    Raises:
        EgoposeError: As :func:`egopose.triangulate.take.prepare_take`.
    """
    probe = prepare_take(rig, probe_of(observations), config)
    given, cap = probe.rig, _cap(probe)
    stages = stages_for(probe.config)
    take = probe
    for i, stage in enumerate(stages):
        take = stage(take, lambda *_: None)
        if progress is not None:
            progress((i + 1) / len(stages), "estimates")
    assert take.solved is not None
    none = np.empty(0)
    solved = replace(
        take.solved, points=none.reshape(0, 3), covariance=none.reshape(0, 3, 3),
        used=np.empty((len(take.rig), 0), bool), error_px=none, status=np.empty(0, np.uint8),
    )  # fmt: skip
    offsets = take.found.get("time_offsets")
    known = None if offsets is None else TimeOffsets(**offsets)
    return Shared(
        given, take.rig, cap, known, solved, dict(take.found.get("smoothing", {})), take.config, take.notes,
        dict(take.found),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Window:
    """A solved stretch without its margins.

    Attributes:
        start: Position of the first frame.
        stop: Position after the last.
        arrays: ``xyz``, ``sigma``, ``covariance``, ``status``, ``used``, ``error_px`` of its frames.
    """

    start: int
    stop: int
    arrays: dict[str, NDArray[Any]]


def solve_window(shared: Shared, observations: Observations2D, start: int, stop: int, margin: int) -> Window:
    """Solve frames ``start`` to ``stop`` (positions) with what the whole take says."""
    config = shared.config
    low, high = max(start - margin, 0), min(stop + margin, observations.n_frames)
    part = _part(observations, tuple(shared.given.names), low, high)
    if not config.raw and config.method != "linear":
        if shared.offsets is not None and any(shared.offsets.frames):
            part = apply_offsets(part, shared.offsets)
        if config.sides:
            part, _ = assign_sides(shared.given, part, cap_px=shared.cap_px)
    if len(shared.rig) < len(shared.given):
        part = part.select(views=shared.rig.names)
    take = solve_frames(Take(shared.rig, part, config), lambda *_: None, solved_before=shared.solved)
    if config.hand_views and hand_views in stages_for(config):
        take = hand_views(take, lambda *_: None)
    pose = take.pose
    assert pose is not None
    assert take.used is not None
    assert take.error_px is not None
    if shared.smoothing and pose.n_frames >= 3:
        pose, _ = smooth_take(
            shared.rig, take.observations, pose, shared.solved.sigma_px, config.smoothing, given=shared.smoothing
        )
    core = slice(start - low, stop - low)
    arrays = {
        name: np.ascontiguousarray(getattr(pose, name)[core]) for name in ("xyz", "sigma", "covariance", "status")
    }
    arrays["used"] = np.ascontiguousarray(take.used[:, core])
    arrays["error_px"] = take.error_px[core].astype(np.float32)
    return Window(start, stop, arrays)


def _part(observations: Observations2D, views: tuple[str, ...], low: int, high: int) -> Observations2D:
    order = [observations.views.index(view) for view in views]
    uv = np.stack([observations.uv_px[v, low:high] for v in order])
    score = None if observations.score is None else np.stack([observations.score[v, low:high] for v in order])
    return Observations2D(
        observations.skeleton, views, observations.frames[low:high], uv, score, observations.fps,
        observations.undistorted, tuple(observations.sizes[v] for v in order), observations.provenance,
    )  # fmt: skip


def triangulate_windows(
    rig: Rig,
    observations: Observations2D,
    config: TriangulateConfig | None = None,
    progress: Progress | None = None,
    *,
    window_frames: int = WINDOW_FRAMES,
    folder: str | os.PathLike[str] | None = None,
    shared: Shared | None = None,
) -> Take:
    """Triangulate a take of any length in windows.

    Args:
        rig: Calibrated cameras; the views find theirs by name.
        observations: 2D joints; their arrays may be memory maps.
        config: Settings.
        progress: Called with the share done.
        window_frames: Frames solved at once, without the margins.
        folder: Where finished windows are kept, so that an interrupted run goes on where it stopped, and where the
            result's arrays lie (memory maps) instead of in memory. None keeps all in memory.
        shared: What belongs to the whole take, when it is known already.

    Returns:
        As :func:`egopose.triangulate.triangulate_take`; the solve before smoothing is not kept.

    Raises:
        EgoposeError: As :func:`egopose.triangulate.take.prepare_take`, or a window of no frame.
    """
    if window_frames < 1:
        raise EgoposeError(f"window_frames is {window_frames}; expected at least one frame")
    tell = progress or (lambda share, what: None)
    if shared is None:
        shared = estimate_shared(rig, observations, config, lambda share, what: tell(0.2 * share, what))
    T, J, V = observations.n_frames, observations.skeleton.n_joints, len(shared.rig)
    margin = round(MARGIN_S * (observations.fps or ASSUMED_FPS))
    place = None if folder is None else Path(folder)
    out = _result_arrays(V, T, J, place)
    keys = _Keys(shared, observations, window_frames, margin)
    for start in range(0, T, window_frames):
        stop = min(start + window_frames, T)
        for name, values in _window(shared, observations, start, stop, margin, place, keys).arrays.items():
            where = out[name]
            if name == "used":
                where[:, start:stop] = values
            else:
                where[start:stop] = values
        tell(0.2 + 0.8 * stop / max(T, 1), "windows")
    fps = observations.fps or ASSUMED_FPS
    windows = -(-T // window_frames)
    notes = (*shared.notes, f"solved in {windows} windows of {window_frames} frames; {_probe_words(T)}")
    pose = PoseSequence(
        observations.skeleton, observations.frames, observations.frames / fps, out["xyz"], out["sigma"],
        out["covariance"], out["status"], "world",
        {"source": "triangulate", "version": __version__, "config_hash": config_hash(shared.config),
         "views": list(shared.rig.names), "threshold_px": shared.solved.threshold_px,
         "threshold_source": shared.solved.threshold.source, "sigma_px": shared.solved.sigma_px,
         "observations": dict(observations.provenance), "notes": list(notes)},
    )  # fmt: skip
    seen = (
        observations if observations.views == tuple(shared.rig.names) else observations.select(views=shared.rig.names)
    )
    return Take(
        shared.rig, seen, shared.config, pose, out["used"], out["error_px"], shared.solved, notes, shared.found
    )  # fmt: skip


def _probe_words(frames: int) -> str:
    if frames <= _BLOCKS * _BLOCK_FRAMES:
        return "what belongs to the whole take is from all frames"
    return f"what belongs to the whole take is from {_BLOCKS} stretches of {_BLOCK_FRAMES} frames"


def _result_arrays(V: int, T: int, J: int, folder: Path | None) -> dict[str, NDArray[Any]]:
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "xyz": ((T, J, 3), np.float32), "sigma": ((T, J), np.float32), "covariance": ((T, J, 3, 3), np.float32),
        "status": ((T, J), np.uint8), "used": ((V, T, J), np.bool_), "error_px": ((T, J), np.float32),
    }  # fmt: skip
    if folder is None:
        return {name: np.empty(shape, kind) for name, (shape, kind) in shapes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    return {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.dtype(kind), shape=shape)
        for name, (shape, kind) in shapes.items()
    }


class _Keys:
    """Names of windows: everything that decides their result."""

    def __init__(self, shared: Shared, observations: Observations2D, window: int, margin: int) -> None:
        self._observations, self._margin = observations, margin
        cameras = [
            [c.name, c.model, np.asarray(c.packed()[1]).tolist(), c.T_world_camera.tolist()] for c in shared.rig.cameras
        ]
        self._start = json.dumps(
            [__version__, config_hash(shared.config), cameras, shared.cap_px, str(shared.offsets), shared.smoothing,
             shared.solved.threshold_px, shared.solved.sigma_px, window, margin, observations.skeleton.name],
            default=str, sort_keys=True,
        )  # fmt: skip

    def of(self, start: int, stop: int) -> str:
        digest = hashlib.sha256(f"{self._start}{start}-{stop}".encode())
        for piece in self._pieces(max(start - self._margin, 0), min(stop + self._margin, self._observations.n_frames)):
            digest.update(np.ascontiguousarray(piece).data)
        return digest.hexdigest()[:32]

    def _pieces(self, low: int, high: int) -> Iterator[NDArray[Any]]:
        yield self._observations.frames[low:high]
        for array in (self._observations.uv_px, self._observations.score):
            if array is not None:
                for view in array:
                    yield view[low:high]


def _window(
    shared: Shared, observations: Observations2D, start: int, stop: int, margin: int, folder: Path | None, keys: _Keys
) -> Window:
    if folder is None:
        return solve_window(shared, observations, start, stop, margin)
    path = folder / f"window_{start:09d}_{keys.of(start, stop)}.npz"
    if path.exists():
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as kept:
                return Window(start, stop, {name: kept[name] for name in kept.files})
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            # a file damaged by a full disk or a crash of the machine is made again
            path.unlink()
    window = solve_window(shared, observations, start, stop, margin)
    with atomic_path(path) as temporary:
        np.savez(temporary, **window.arrays)  # type: ignore[arg-type]
    return window
