"""2D joints of whole videos: one tracker per view, views in parallel, results cached by content."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.detect.base import make_detector
from egopose.detect.weights import cache_folder
from egopose.errors import EgoposeError
from egopose.files import atomic_path, sha256_file
from egopose.observations import Observations2D
from egopose.shard import Shard, run_shards
from egopose.skeleton import BODY17_HANDS, get_skeleton

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
_DARK = 8.0


def list_videos(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Videos in a folder by name without suffix.

    Raises:
        EgoposeError: Not a folder, no video in it, or two videos share a name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EgoposeError(f"{folder}: not a folder; expected one with a video per camera")
    videos: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            if path.stem in videos:
                raise EgoposeError(f"{folder}: {path.name} and {videos[path.stem].name} are the same view; remove one")
            videos[path.stem] = path
    if not videos:
        raise EgoposeError(f"{folder}: no video in it; expected one per camera ({', '.join(VIDEO_SUFFIXES)})")
    return videos


def detect_videos(
    videos: Mapping[str, str | os.PathLike[str]],
    detector: str = "blazepose",
    options: Mapping[str, Any] | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Observations2D:
    """2D joints of the wearer in several videos.

    Each video is followed by one tracker from start to end. Frames are placed on a common grid by their time stamps, so
    a dropped frame is a missing frame and not a shift. A finished video is kept in the cache under the hash of its
    content, the backend and its options, and is never processed twice.

    Args:
        videos: View name to file.
        detector: A backend of :func:`egopose.detect.base.make_detector`.
        options: Options of the backend.
        cache: Folder of kept results; by default inside the user's cache.
        workers: Processes; None uses every core, 0 stays in this one.
        progress: Called with the share done.

    Returns:
        Observations on the 59 joints where the backend's joints allow, with sizes, rate and notes in the provenance.

    Raises:
        EgoposeError: A file is not a video, rates differ, no backend, or weights are missing.
    """
    if not videos:
        raise EgoposeError("no videos given; expected one per camera")
    opts = dict(options or {})
    folder = Path(cache) if cache is not None else cache_folder() / "detect"
    shards = []
    for name, path in videos.items():
        key = _key(Path(path), detector, opts)
        shards.append(
            Shard(
                name,
                {"path": str(path), "detector": detector, "options": opts, "out": str(folder / f"{key}.npz")},
                weight=float(Path(path).stat().st_size),
            )
        )
    wanted = [s for s in shards if not _usable(Path(s.arguments["out"]))]
    for outcome in run_shards(detect_video, wanted, workers=workers, retries=1, progress=progress):
        if outcome.error is not None:
            raise EgoposeError(f"view {outcome.shard.name!r}: {outcome.error}")
    return _join({s.name: _read(Path(s.arguments["out"])) for s in shards}, detector, opts)


def _key(path: Path, detector: str, options: Mapping[str, Any]) -> str:
    backend = make_version(detector, options)
    text = json.dumps([sha256_file(path), detector, backend, sorted(options.items())], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def make_version(detector: str, options: Mapping[str, Any]) -> str:
    """What of the backend decides its results; loading the nets is not needed for the built-in one."""
    if detector == "blazepose":
        from egopose.detect.blazepose import BlazePose

        return BlazePose.version
    if detector == "onnx" and "model" in options:
        return sha256_file(options["model"])[:16]
    return make_detector(detector, **options).version


def detect_video(path: str, detector: str, options: dict[str, Any], out: str) -> int:
    """Process one video into an .npz; returns the number of frames. Runs in a worker."""
    from egopose.io.video import probe, read_frames

    backend = make_detector(detector, **options)
    info = probe(path)
    tracker = backend.open()
    J = backend.skeleton.n_joints
    numbers: list[int] = []
    uv: list[NDArray[np.float32]] = []
    score: list[NDArray[np.float32]] = []
    dark: list[int] = []
    notes: list[str] = []
    start, fps = float(info.times_s[0]), _rate(info.times_s, info.fps)
    try:
        for frame in read_frames(path):
            number = round((frame.time_s - start) * fps)
            if numbers and number <= numbers[-1]:
                number = numbers[-1] + 1
            found = tracker.update(frame.image)
            numbers.append(number)
            if frame.image[::8, ::8].mean() < _DARK:
                dark.append(number)
            uv.append(found[0].uv_px if found else np.full((J, 2), np.nan, np.float32))
            score.append(found[0].score if found else np.zeros(J, np.float32))
    except EgoposeError as error:
        if not numbers:
            raise
        notes.append(f"damaged after frame {numbers[-1]}: {error}")
    expected = round((info.times_s[-1] - start) * fps) + 1
    if len(numbers) < info.n_frames and not notes:
        notes.append(f"{info.n_frames - len(numbers)} of {info.n_frames} frames could not be decoded")
    if expected > len(numbers) and not notes:
        notes.append(f"{expected - len(numbers)} frames dropped by the recorder")
    if dark:
        notes.append(f"{len(dark)} dark frames, from {dark[0]} to {dark[-1]}")
    with atomic_path(out) as temporary:
        np.savez_compressed(
            temporary, uv_px=np.stack(uv), score=np.stack(score), frames=np.array(numbers, np.int64),
            fps=fps, size=np.array(info.size), skeleton=backend.skeleton.name,
            notes=np.array(notes, dtype=np.str_),
        )  # fmt: skip
    return len(numbers)


def _rate(times_s: NDArray[np.float64], fallback: float) -> float:
    """Frames per second from the steps between frames: gaps and wrong headers (a cut file) do not count."""
    steps = np.diff(times_s)
    steps = steps[steps > 0]
    if not steps.size:
        return fallback
    return float(1.0 / steps[steps < 1.5 * np.median(steps)].mean())


def _usable(path: Path) -> bool:
    try:
        _read(path)
    except EgoposeError:
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise EgoposeError(f"{path}: not a kept detection result ({error})") from error


def _join(views: dict[str, dict[str, Any]], detector: str, options: Mapping[str, Any]) -> Observations2D:
    rates = {name: float(view["fps"]) for name, view in views.items()}
    slow, fast = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    if rates[fast] > 1.02 * rates[slow]:
        raise EgoposeError(
            f"videos run at different rates: {slow} at {rates[slow]:.3f} and {fast} at {rates[fast]:.3f} frames per "
            "second; convert them to one rate first"
        )
    skeleton = get_skeleton(str(next(iter(views.values()))["skeleton"]))
    last = max(int(view["frames"][-1]) for view in views.values())
    V, T, J = len(views), last + 1, skeleton.n_joints
    uv, score = np.full((V, T, J, 2), np.nan, np.float32), np.zeros((V, T, J), np.float32)
    notes = []
    for v, (name, view) in enumerate(views.items()):
        uv[v, view["frames"]] = view["uv_px"]
        score[v, view["frames"]] = view["score"]
        notes += [f"{name}: {note}" for note in view["notes"].tolist()]
        if view["frames"][-1] < last:
            notes.append(f"{name}: ends at frame {int(view['frames'][-1])}, {last - int(view['frames'][-1])} early")
        empty = float((~np.isfinite(view["uv_px"][..., 0])).all(-1).mean())
        if empty > 0.02:
            notes.append(f"{name}: nobody found in {100 * empty:.0f} % of its frames")
    observations = Observations2D(
        skeleton, tuple(views), np.arange(T), uv, score, fps=float(np.median(list(rates.values()))),
        sizes=tuple(tuple(int(n) for n in view["size"]) for view in views.values()),  # type: ignore[misc]
        provenance={"source": "detect", "detector": detector, "options": {k: str(v) for k, v in options.items()},
                    "notes": notes},
    )  # fmt: skip
    known = [joint for joint in BODY17_HANDS.joints if joint in skeleton.joints]
    return observations if skeleton is BODY17_HANDS or len(known) < 17 else observations.to_skeleton(BODY17_HANDS)
