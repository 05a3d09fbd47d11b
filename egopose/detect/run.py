"""2D joints of whole videos: one tracker per view, views in parallel, results cached by content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.candidates import Candidates2D
from egopose.detect.base import make_detector
from egopose.detect.weights import cache_folder
from egopose.errors import EgoposeError, MissingExtra
from egopose.files import atomic_path, sha256_file
from egopose.npz import read_npz
from egopose.observations import Observations2D
from egopose.shard import Shard, run_shards
from egopose.skeleton import BODY17_HANDS, get_skeleton

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
_LONGEST_GAPS = 100
"""Frame numbers may be this many times the number of frames: recorders drop some, not nearly all."""

_DARK = 8.0
_READING = 2
"""Counts up when frames are read in another way: results kept from before are not used."""
_NAMED_RANGES = 8
_KEPT = ("uv_px", "score", "frames", "fps", "size", "skeleton", "notes")


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
    a dropped or damaged frame is a missing frame and not a shift. Both are named with their numbers in the notes, as
    are dark frames and an early end. A video that cannot be read at all is left out and named while two others can be.
    A finished video is kept in the cache under the hash of its content, the backend and its options, and is never
    processed twice.

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
    return _detect(videos, detector, options, 1, cache, workers, progress).layers[0]


def detect_people(
    videos: Mapping[str, str | os.PathLike[str]],
    people: int,
    detector: str = "blazepose",
    options: Mapping[str, Any] | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Candidates2D:
    """2D joints of up to ``people`` persons in each of several videos, not yet told apart.

    Args:
        videos: As :func:`detect_videos`, and so are the others.
        people: Most persons followed in each view.
        detector: Backend.
        options: Its options.
        cache: Folder of kept results.
        workers: Processes.
        progress: Called with the share done.

    Raises:
        EgoposeError: As :func:`detect_videos`.
    """
    if people < 1:
        raise EgoposeError(f"people is {people}; expected at least one")
    return _detect(videos, detector, options, people, cache, workers, progress)


def _detect(
    videos: Mapping[str, str | os.PathLike[str]],
    detector: str,
    options: Mapping[str, Any] | None,
    people: int,
    cache: str | os.PathLike[str] | None,
    workers: int | None,
    progress: Callable[[float, str], None] | None,
) -> Candidates2D:
    if not videos:
        raise EgoposeError("no videos given; expected one per camera")
    opts = dict(options or {})
    folder = Path(cache) if cache is not None else cache_folder() / "detect"
    shards = []
    for name, path in videos.items():
        key = _key(Path(path), detector, opts, people)
        shards.append(
            Shard(
                name,
                {
                    "path": str(path),
                    "detector": detector,
                    "options": opts,
                    "out": str(folder / f"{key}.npz"),
                    "people": people,
                },
                weight=float(Path(path).stat().st_size),
            )
        )
    wanted = [s for s in shards if not _usable(Path(s.arguments["out"]))]
    unreadable = _unreadable(wanted)
    if unreadable and len(shards) - len(unreadable) < 2:
        name, reason = next(iter(unreadable.items()))
        raise EgoposeError(f"view {name!r}: {reason}")
    shards, wanted = ([s for s in some if s.name not in unreadable] for some in (shards, wanted))
    for outcome in run_shards(detect_video, wanted, workers=workers, retries=1, progress=progress):
        if outcome.error is not None:
            raise EgoposeError(f"view {outcome.shard.name!r}: {outcome.error}")
    left_out = [f"{name}: left out, {reason}" for name, reason in unreadable.items()]
    return _join({s.name: _read(Path(s.arguments["out"])) for s in shards}, detector, opts, left_out)


def _unreadable(shards: list[Shard]) -> dict[str, str]:
    """Videos that cannot be read at all, with the reason."""
    from egopose.io.video import probe

    found = {}
    for shard in shards:
        try:
            probe(shard.arguments["path"])
        except MissingExtra:
            raise
        except EgoposeError as error:
            found[shard.name] = str(error)
    return found


def _key(path: Path, detector: str, options: Mapping[str, Any], people: int) -> str:
    backend = make_version(detector, options)
    parts = [sha256_file(path), _READING, detector, backend, sorted(options.items())]
    text = json.dumps([*parts, people] if people > 1 else parts, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def make_version(detector: str, options: Mapping[str, Any]) -> str:
    """What of the backend decides its results; loading the nets is not needed for the built-in one."""
    if detector in ("blazepose", "blazepose-high"):
        from egopose.detect.blazepose import BlazePose

        return BlazePose.version if detector == "blazepose" else BlazePose.version_high
    if detector == "onnx" and "model" in options:
        return sha256_file(options["model"])[:16]
    return make_detector(detector, **options).version


def detect_video(path: str, detector: str, options: dict[str, Any], out: str, people: int = 1) -> int:
    """Process one video into an .npz; returns the number of frames. Runs in a worker.

    Pixels are (T, J, 2) for one person, (T, people, J, 2) for more.
    """
    from egopose.io.video import probe, read_frames

    backend = make_detector(detector, **options)
    info = probe(path)
    tracker = backend.open(people)
    J = backend.skeleton.n_joints
    numbers: list[int] = []
    uv: list[NDArray[np.float32]] = []
    score: list[NDArray[np.float32]] = []
    dark: list[int] = []
    patched: list[int] = []
    notes: list[str] = []
    start, fps = float(info.times_s[0]), _rate(info.times_s, info.fps)
    in_file = _numbered((info.times_s - start) * fps)
    try:
        for frame in read_frames(path, past_damage=True):
            number = int(in_file[min(frame.index, in_file.size - 1)])
            if numbers and number <= numbers[-1]:
                continue
            if not frame.whole:
                patched.append(number)
                continue
            found = tracker.update(frame.image)
            numbers.append(number)
            if frame.image[::8, ::8].mean() < _DARK:
                dark.append(number)
            here = np.full((people, J, 2), np.nan, np.float32), np.zeros((people, J), np.float32)
            for k, one in enumerate(found[:people]):
                here[0][k], here[1][k] = one.uv_px, one.score
            uv.append(here[0] if people > 1 else here[0][0])
            score.append(here[1] if people > 1 else here[1][0])
    except EgoposeError as error:
        if not numbers:
            raise
        notes.append(f"damaged after frame {numbers[-1]}: {error}")
    if not numbers:
        raise EgoposeError(f"{path}: no frame can be decoded; the file is damaged")
    notes += _damage(in_file, numbers, patched, dark)
    with atomic_path(out) as temporary:
        np.savez_compressed(
            temporary, uv_px=np.stack(uv), score=np.stack(score), frames=np.array(numbers, np.int64),
            fps=fps, size=np.array(info.size), skeleton=backend.skeleton.name,
            notes=np.array(notes, dtype=np.str_),
        )  # fmt: skip
    return len(numbers)


def _numbered(places: NDArray[np.float64]) -> NDArray[np.int64]:
    """Frame numbers of time stamps counted in frames: rounded, and each later than the one before."""
    steps = np.arange(places.size)
    return np.maximum.accumulate(np.rint(places).astype(np.int64) - steps) + steps


def _damage(in_file: NDArray[np.int64], numbers: list[int], patched: list[int], dark: list[int]) -> list[str]:
    """What is wrong with a video's frames, in words with frame numbers."""
    notes = []
    lost = np.setdiff1d(in_file, [*numbers, *patched])
    if lost.size:
        notes.append(f"{lost.size} frames could not be decoded, the file is damaged there: {ranges_of(lost)}")
    if patched:
        notes.append(f"{len(patched)} frames are damaged and were left out: {ranges_of(patched)}")
    dropped = np.setdiff1d(np.arange(in_file[-1] + 1), in_file)
    if dropped.size:
        notes.append(f"{dropped.size} frames dropped by the recorder: {ranges_of(dropped)}")
    if dark:
        notes.append(f"{len(dark)} dark frames: {ranges_of(dark)}")
    return notes


def ranges_of(numbers: Sequence[int] | NDArray[np.int64]) -> str:
    """Rising frame numbers as text: ``3, 10-19``; beyond eight ranges the rest is counted."""
    values = np.asarray(numbers, dtype=np.int64)
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    named = [str(run[0]) if run.size == 1 else f"{run[0]}-{run[-1]}" for run in runs[:_NAMED_RANGES]]
    more = sum(run.size for run in runs[_NAMED_RANGES:])
    return ", ".join(named) + (f" and {more} more" if more else "")


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
    data = read_npz(path, _KEPT, what="a kept detection result")
    frames, size, fps = data["frames"], data["size"], data["fps"]
    skeleton = get_skeleton(str(data["skeleton"]))
    several = data["uv_px"].shape[1:2] if data["uv_px"].ndim == 4 else ()
    shape = (frames.size, *several, skeleton.n_joints)
    if data["uv_px"].shape != (*shape, 2) or data["score"].shape != shape or size.shape != (2,) or fps.shape != ():
        raise EgoposeError(f"{path}: its arrays do not fit together; not a kept detection result")
    kinds = frames.dtype.kind + size.dtype.kind + data["uv_px"].dtype.kind + data["score"].dtype.kind + fps.dtype.kind
    if kinds != "iifff" or frames.ndim != 1 or not frames.size or data["notes"].dtype.kind != "U":
        raise EgoposeError(f"{path}: its arrays are of other types; not a kept detection result")
    if frames[0] < 0 or (frames[1:] <= frames[:-1]).any() or size.min() < 1 or not 0 < float(fps) < np.inf:
        raise EgoposeError(f"{path}: frames, size or rate are impossible; not a kept detection result")
    return data


def _join(
    views: dict[str, dict[str, Any]], detector: str, options: Mapping[str, Any], notes: list[str]
) -> Candidates2D:
    rates = {name: float(view["fps"]) for name, view in views.items()}
    slow, fast = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    if rates[fast] > 1.02 * rates[slow]:
        raise EgoposeError(
            f"videos run at different rates: {slow} at {rates[slow]:.3f} and {fast} at {rates[fast]:.3f} frames per "
            "second; convert them to one rate first"
        )
    skeleton = get_skeleton(str(next(iter(views.values()))["skeleton"]))
    last = max(int(view["frames"][-1]) for view in views.values())
    most = max(view["frames"].size for view in views.values())
    if last > _LONGEST_GAPS * most + 10_000:
        raise EgoposeError(f"detected joints: frame {last} with {most} frames kept; remove the cache and run again")
    V, T, J = len(views), last + 1, skeleton.n_joints
    kept = next(iter(views.values()))["uv_px"]
    K = kept.shape[1] if kept.ndim == 4 else 1
    uv, score = np.full((V, T, K, J, 2), np.nan, np.float32), np.zeros((V, T, K, J), np.float32)
    notes = list(notes)
    for v, (name, view) in enumerate(views.items()):
        uv[v, view["frames"]] = view["uv_px"].reshape(-1, K, J, 2)
        score[v, view["frames"]] = view["score"].reshape(-1, K, J)
        notes += [f"{name}: {note}" for note in view["notes"].tolist()]
        if view["frames"][-1] < last:
            notes.append(f"{name}: ends at frame {int(view['frames'][-1])}, {last - int(view['frames'][-1])} early")
        empty = float((~np.isfinite(uv[v, view["frames"]][..., 0])).all((-1, -2)).mean())
        if empty > 0.02:
            notes.append(f"{name}: nobody found in {100 * empty:.0f} % of its frames")
    found = Candidates2D.from_arrays(
        skeleton, tuple(views), np.arange(T), uv, score, fps=float(np.median(list(rates.values()))),
        sizes=tuple(tuple(int(n) for n in view["size"]) for view in views.values()),
        provenance={"source": "detect", "detector": detector, "options": {k: str(v) for k, v in options.items()},
                    "notes": notes},
    )  # fmt: skip
    known = [joint for joint in BODY17_HANDS.joints if joint in skeleton.joints]
    if skeleton is not BODY17_HANDS and len(known) >= 17:
        found = found.to_skeleton(BODY17_HANDS)
    return found
