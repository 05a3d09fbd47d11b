"""OpenPose JSON folders: one file per frame, one folder per camera.

A folder with files is one view, a folder of such folders is one view each. The view is named after the folder
without a trailing ``_json``; the frame number is the last run of digits in the file name. Joints at (0, 0) with
score 0 are unseen, as OpenPose writes them. OpenPose's hands have the order of :data:`HAND21`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.candidates import Candidates2D
from egopose.errors import EgoposeError
from egopose.files import read_json
from egopose.io.fields import float32, mapping, numbers, sequence
from egopose.io.provenance import source
from egopose.io.registry import note, reader
from egopose.observations import Observations2D
from egopose.skeleton import (
    BODY17,
    BODY25,
    BODY25B,
    COCO_WHOLEBODY133,
    HALPE26,
    HAND21,
    HANDS42,
    Skeleton,
    get_skeleton,
)

COCO18 = BODY25.subset(
    (
        "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee "
        "right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear"
    ).split(),
    "openpose_coco18",
)
"""OpenPose's COCO model: 17 joints and the neck, in OpenPose's order."""

BY_COUNT: dict[int, tuple[Skeleton, ...]] = {
    17: (BODY17,),
    18: (COCO18,),
    25: (BODY25, BODY25B),
    26: (HALPE26,),
    133: (COCO_WHOLEBODY133,),
}
PERSON_POLICIES = ("best", "first", "largest", "all")
_HANDS = (("left", "hand_left_keypoints_2d"), ("right", "hand_right_keypoints_2d"))


def with_hands(body: Skeleton) -> Skeleton:
    """A body skeleton followed by the 21 left and 21 right hand joints."""
    joints = [*body.joints, *HANDS42.joints]
    index = {joint: i for i, joint in enumerate(joints)}
    named = [(s.joints[a], s.joints[b]) for s in (body, HANDS42) for a, b in s.bones]
    mirror = [(s.joints[a], s.joints[b]) for s in (body, HANDS42) for a, b in s.mirror]
    return Skeleton(
        f"{body.name}_hands",
        tuple(joints),
        tuple((index[a], index[b]) for a, b in named),
        tuple((index[a], index[b]) for a, b in mirror),
    )


def frame_number(path: Path) -> int:
    """The last run of digits in a file name.

    Raises:
        EgoposeError: The name has no digits.
    """
    runs = re.findall(r"\d+", path.stem)
    if not runs or len(runs[-1]) > 12:
        raise EgoposeError(f"{path}: no frame number in the file name; expected digits such as name_000012.json")
    return int(runs[-1])


def view_name(folder: Path) -> str:
    """Name of the view in a folder: the folder's, without a trailing ``_json`` or ``_keypoints``."""
    return re.sub(r"[_.-](json|keypoints)$", "", folder.resolve().name, flags=re.IGNORECASE) or folder.name


def _json_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".json" and p.is_file())


def _folders(path: Path) -> list[Path]:
    """The folders with JSON files: this one, or those directly inside it."""
    if _json_files(path):
        return [path]
    return [p for p in sorted(path.iterdir()) if p.is_dir() and _json_files(p)]


def _sniff(path: Path, head: bytes) -> bool:
    if not path.is_dir():
        return False
    for folder in _folders(path):
        for file in _json_files(folder)[:50]:
            with open(file, "rb") as stream:
                start = stream.read(4096)
            if b'"people"' in start:
                return True
            if start.strip() != b"{}":
                return False
    return False


@dataclass
class _Person:
    body: NDArray[np.float64] | None
    hands: dict[str, NDArray[np.float64]]


@dataclass
class _View:
    name: str
    frames: list[int] = field(default_factory=list)
    people: list[list[_Person]] = field(default_factory=list)
    crowded: int = 0


def _triples(person: Mapping[str, Any], name: str, where: str) -> NDArray[np.float64] | None:
    """(J, 3) of x, y, score, or None when the list is absent or empty."""
    values = numbers(sequence(person.get(name) or [], f"{where}: {name}"), f"{where}: {name}", finite=False)
    if values.size == 0:
        return None
    if values.ndim != 1 or values.size % 3:
        raise EgoposeError(f"{where}: {name} has {values.size} numbers; expected x, y, score for each joint")
    return values.reshape(-1, 3)


def _choose(people: list[Mapping[str, Any]], policy: str | int, where: str) -> Mapping[str, Any] | None:
    if not people:
        return None
    if isinstance(policy, int):
        return people[policy] if policy < len(people) else None
    if policy == "first" or len(people) == 1:
        return people[0]
    merit = []
    for person in people:
        points = _triples(person, "pose_keypoints_2d", where)
        if points is None:
            merit.append(-1.0)
        elif policy == "best":
            merit.append(float(np.sum(points[np.isfinite(points[:, 2]), 2])))
        else:
            seen = points[points[:, 2] > 0, :2]
            with np.errstate(over="ignore", invalid="ignore"):
                merit.append(float(np.prod(np.ptp(seen, axis=0))) if len(seen) else -1.0)
    return people[int(np.argmax(merit))]


def _person(person: Mapping[str, Any], where: str) -> _Person:
    hands = {}
    for side, name in _HANDS:
        points = _triples(person, name, where)
        if points is not None:
            if len(points) != HAND21.n_joints:
                raise EgoposeError(f"{where}: {name} has {len(points)} joints; expected {HAND21.n_joints}")
            hands[side] = points
    return _Person(_triples(person, "pose_keypoints_2d", where), hands)


def _bodies(views: list[_View]) -> list[NDArray[np.float64]]:
    return [p.body for view in views for people in view.people for p in people if p.body is not None]


def _read_view(folder: Path, policy: str | int) -> _View:
    view = _View(view_name(folder))
    for file in _json_files(folder):
        frame = frame_number(file)
        content = mapping(read_json(file, max_bytes=64 << 20), str(file))
        people = [mapping(p, f"{file}: people") for p in sequence(content.get("people", []), f"{file}: people")]
        view.crowded += len(people) > 1
        if policy != "all":
            chosen = _choose(people, policy, str(file))
            people = [] if chosen is None else [chosen]
        view.frames.append(frame)
        view.people.append([_person(person, str(file)) for person in people])
    order = np.argsort(view.frames, kind="stable")
    numbers_sorted = [view.frames[i] for i in order]
    for a, b in zip(numbers_sorted, numbers_sorted[1:]):
        if a == b:
            raise EgoposeError(
                f"{folder}: two files have frame number {a}; the last digits of a file name must be the frame"
            )
    return view


def _body25_or_body25b(bodies: Iterable[NDArray[np.float64]], where: str) -> Skeleton:
    """BODY_25 and BODY_25B both have 25 joints: tell them by what must hold in an image of a person.

    In BODY_25 the mid hip lies between the hips; in BODY_25B both eyes lie by the nose. Each reading is tested on
    all detections and the better one must win clearly.
    """
    names = {
        BODY25: ("mid_hip", "left_hip", "right_hip"),
        BODY25B: ("nose", "left_eye", "right_eye"),
    }
    scores: dict[str, float] = {}
    stack = np.stack(list(bodies))
    seen = stack[..., 2] > 0
    # beyond a billion pixels there is no image, and squares overflow
    seen &= (np.abs(stack[..., :2]) < 1e9).all(axis=-1)
    uv = np.where(seen[..., None], stack[..., :2], np.nan)
    for skeleton, (centre, left, right) in names.items():
        c, a, b = (uv[:, skeleton.index(joint)] for joint in (centre, left, right))
        ok = np.isfinite(c + a + b).all(axis=1)
        if not ok.any():
            scores[skeleton.name] = np.inf
            continue
        with np.errstate(all="ignore"):
            extent = np.nanmax(uv[ok], axis=1) - np.nanmin(uv[ok], axis=1)
        off = np.linalg.norm(c[ok] - (a[ok] + b[ok]) / 2, axis=1) / np.maximum(np.linalg.norm(extent, axis=1), 1.0)
        scores[skeleton.name] = float(np.median(off))
    best, other = sorted(names, key=lambda s: scores[s.name])
    if not np.isfinite(scores[best.name]) or scores[best.name] * 1.5 > scores[other.name]:
        raise EgoposeError(
            f"{where}: people have 25 joints, which fits {BODY25.name!r} and {BODY25B.name!r}, and the poses do not "
            "tell which; give skeleton="
        )
    return best


def _pick_skeleton(views: list[_View], skeleton: str | Skeleton | None, where: str) -> Skeleton:
    counts = {len(points) for points in _bodies(views)}
    if len(counts) > 1:
        raise EgoposeError(f"{where}: people have {' and '.join(map(str, sorted(counts)))} joints in one recording")
    count = next(iter(counts), None)
    if skeleton is not None:
        if isinstance(skeleton, str):
            skeleton = COCO18 if skeleton == COCO18.name else get_skeleton(skeleton)
        chosen = skeleton
        if count is not None and chosen.n_joints != count:
            raise EgoposeError(f"{where}: people have {count} joints, skeleton {chosen.name!r} has {chosen.n_joints}")
        return chosen
    if count is None:
        raise EgoposeError(f"{where}: no person in any file; nothing to read (give skeleton= to read it as unseen)")
    if count not in BY_COUNT:
        known = ", ".join(f"{n} ({'/'.join(s.name for s in options)})" for n, options in BY_COUNT.items())
        raise EgoposeError(f"{where}: people have {count} joints; known counts: {known}; give skeleton=")
    options = BY_COUNT[count]
    if len(options) == 1:
        return options[0]
    return _body25_or_body25b(_bodies(views), where)


@reader(
    "openpose",
    kinds=("Observations2D",),
    suffixes=("/",),
    looks_for='a folder of .json files with "people", or a folder of such folders',
    description="OpenPose JSON, one folder per camera (BODY_25, BODY_25B, COCO, Halpe, WholeBody; hands)",
    sniff=_sniff,
)
def read(
    path: Path,
    *,
    person: str | int = "best",
    skeleton: str | Skeleton | None = None,
    fps: float | None = None,
    undistorted: bool = False,
) -> Observations2D | Candidates2D:
    """Read OpenPose output.

    Args:
        path: One camera's folder, or the folder of all cameras' folders.
        person: Who is taken where a frame shows several: "best" (highest total score), "first", "largest"
            (bounding box), a position in the list, or "all": every person, to be told apart later.
        skeleton: Joint set by name, when the number of joints does not tell.
        fps: Frame rate, when known.
        undistorted: The images were undistorted before detection.

    Returns:
        One person, or :class:`egopose.candidates.Candidates2D` with ``person="all"``.

    Raises:
        EgoposeError: No such files, bad JSON, joint counts that disagree, repeated frame numbers.
    """
    path = Path(path)
    if isinstance(person, str) and person.isdecimal():
        person = int(person)
    if (isinstance(person, str) and person not in PERSON_POLICIES) or (isinstance(person, int) and person < 0):
        raise EgoposeError(f"person is {person!r}; expected {', '.join(PERSON_POLICIES)} or a position from 0")
    if not path.is_dir():
        raise EgoposeError(f"{path}: is a file; expected a folder of OpenPose JSON files")
    try:
        folders = _folders(path)
    except OSError as error:
        raise EgoposeError(f"{path}: cannot read ({error.strerror or error}); check the path") from error
    if not folders:
        raise EgoposeError(f"{path}: no .json files in it or in its folders; expected OpenPose output")
    views = [_read_view(folder, person) for folder in folders]
    body = _pick_skeleton(views, skeleton, str(path))
    hands = any(p.hands for view in views for people in view.people for p in people)
    full = with_hands(body) if hands and HANDS42.joints[0] not in body.joints else body
    frames = np.unique(np.concatenate([view.frames for view in views]))
    slots = max((len(people) for view in views for people in view.people), default=1) if person == "all" else 1
    uvs = np.full((max(slots, 1), len(views), frames.size, full.n_joints, 3), np.nan)
    hand_rows = {side: full.indices([f"{side}_hand_{j}" for j in HAND21.joints]) for side, _ in _HANDS if hands}
    for v, view in enumerate(views):
        for t, people in zip(np.searchsorted(frames, view.frames), view.people):
            for k, one in enumerate(people):
                if one.body is not None:
                    uvs[k, v, t, : body.n_joints] = one.body
                for side, values in one.hands.items():
                    uvs[k, v, t, hand_rows[side]] = values
    seen = np.isfinite(uvs).all(axis=-1) & (uvs[..., 2] > 0)
    crowded = {view.name: view.crowded for view in views if view.crowded}
    if crowded and person != "all":
        counts = ", ".join(f"{name} in {n} of {len(frames)} frames" for name, n in crowded.items())
        note(f"{path}: several people are seen by {counts}; person={person!r} was taken (give person= to choose)")
    layers = [
        Observations2D(
            skeleton=full,
            views=tuple(view.name for view in views),
            frames=frames,
            uv_px=float32(np.where(seen[k, ..., None], uvs[k, ..., :2], np.nan)),
            # detectors overshoot 1 a little
            score=float32(np.where(seen[k], np.clip(uvs[k, ..., 2], 0, 1), 0)),
            fps=fps,
            undistorted=undistorted,
            provenance=source(path, "openpose", person=person, frames_with_several_people=crowded),
        )
        for k in range(len(uvs))
    ]
    return Candidates2D(tuple(layers)) if person == "all" else layers[0]
