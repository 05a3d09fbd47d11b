"""COCO keypoints: result lists (``[{image_id, keypoints, score}, ...]``) and annotation files.

The view and the frame of an image follow from its file name: the frame is the last run of digits in it, the view
the folder that holds it, else what stands before the digits. ``pattern=`` replaces the rule by a regular expression
with the groups ``view`` and ``frame``. Results that name images by a number have one view, that number as the frame.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from egopose.candidates import Candidates2D
from egopose.errors import EgoposeError
from egopose.files import read_json
from egopose.io.fields import (
    Floats,
    float32,
    has_keys,
    image_size,
    key,
    looks_like_json,
    mapping,
    numbers,
    sequence,
    whole,
)
from egopose.io.openpose import BY_COUNT
from egopose.io.provenance import source
from egopose.io.registry import note, reader
from egopose.io.tables import _check_cells, skeleton_for
from egopose.observations import Observations2D
from egopose.skeleton import BODY25, Skeleton


def view_and_frame(name: str, pattern: str | None, where: str) -> tuple[str, int]:
    """View and frame of an image from its file name.

    Raises:
        EgoposeError: No digits in the name, or it does not match the pattern.
    """
    if pattern is not None:
        match = re.search(pattern, name)
        if match is None:
            raise EgoposeError(f"{where}: the image name {name!r} does not match pattern {pattern!r}")
        return match["view"], whole(match["frame"], where)
    path = PurePosixPath(name.replace("\\", "/"))
    runs = list(re.finditer(r"\d+", path.stem))
    if not runs or len(runs[-1][0]) > 12:
        raise EgoposeError(f"{where}: no frame number in the image name {name!r}; give pattern=")
    before = path.stem[: runs[-1].start()].rstrip("._- ")
    return path.parent.name or before or "view", int(runs[-1][0])


def _check_pattern(pattern: str | None) -> None:
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise EgoposeError(f"pattern {pattern!r} is no regular expression ({error})") from error
    if not {"view", "frame"} <= set(groups):
        raise EgoposeError(f"pattern {pattern!r} lacks the groups (?P<view>...) and (?P<frame>...)")


def _skeleton(count: int, names: list[str] | None, wanted: str | None, where: str) -> Skeleton:
    if names is not None and wanted is None:
        if len(names) != count or len(set(names)) != count:
            raise EgoposeError(f"{where}: {count} keypoints but {len(set(names))} names in its category")
        found = skeleton_for([name.replace(" ", "_") for name in names])
        # the order of the file counts, not that of a known skeleton
        return found if list(found.joints) == [n.replace(" ", "_") for n in names] else found.subset(names)
    if wanted is not None:
        skeleton = skeleton_for([], wanted)
        if skeleton.n_joints != count:
            raise EgoposeError(f"{where}: {count} keypoints, skeleton {wanted!r} has {skeleton.n_joints}")
        return skeleton
    options = [s for s in BY_COUNT.get(count, ()) if s is not BODY25]
    if count == 25 or not options:
        raise EgoposeError(f"{where}: {count} keypoints without names; give skeleton=")
    return options[0]


def _sniff(path: Path, head: bytes) -> bool:
    return looks_like_json(head) and (
        has_keys(head, "image_id", "keypoints")
        or (has_keys(head, "images", "file_name") and not has_keys(head, "cameras"))
    )


@reader(
    "coco-keypoints",
    kinds=("Observations2D",),
    suffixes=(".json",),
    looks_for="keypoints with image_id",
    description="COCO keypoints: results or annotations (also AlphaPose, MMPose results)",
    sniff=_sniff,
)
def read(
    path: Path,
    *,
    pattern: str | None = None,
    view: str = "view",
    skeleton: str | None = None,
    fps: float | None = None,
    undistorted: bool = False,
    person: str = "best",
) -> Observations2D | Candidates2D:
    """Read keypoints.

    Args:
        path: The JSON file.
        pattern: Regular expression with groups ``view`` and ``frame`` for the image names.
        view: Name of the view, when images have numbers only.
        skeleton: Joint set by name, when neither names nor the count tell.
        fps: Frame rate, when known.
        undistorted: The pixels belong to undistorted images.
        person: Where an image holds several people: "best" takes the one with the highest score, "all" every one.

    Returns:
        One person, or :class:`egopose.candidates.Candidates2D` with ``person="all"``.

    Raises:
        EgoposeError: Not such a file, counts that are no multiple of three or disagree, no frame in a name.
    """
    _check_pattern(pattern)
    if person not in ("best", "all"):
        raise EgoposeError(f"person is {person!r}; expected best or all")
    content = read_json(path)
    where = str(path)
    images: dict[Any, Mapping[str, Any]] = {}
    names: list[str] | None = None
    annotated = isinstance(content, Mapping)
    if isinstance(content, Mapping):
        for i, image in enumerate(sequence(content.get("images", []), f"{path}: images")):
            table = mapping(image, f"{path}: images[{i}]")
            images[_hashable(key(table, "id", f"{path}: images[{i}]"), where)] = table
        categories = sequence(content.get("categories", []), f"{path}: categories")
        if categories and isinstance(categories[0], Mapping) and "keypoints" in categories[0]:
            names = [str(name) for name in sequence(categories[0]["keypoints"], f"{path}: categories[0].keypoints")]
        entries = sequence(key(content, "annotations", where), f"{path}: annotations")
    else:
        entries = sequence(content, where)
    found_people: dict[tuple[str, int], list[tuple[float, Floats]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    crowded: set[tuple[str, int]] = set()
    for i, entry in enumerate(entries):
        at = f"{path}: entry {i}"
        table = mapping(entry, at)
        if not table.get("keypoints"):
            continue
        values = numbers(table["keypoints"], f"{at}: keypoints", finite=False)
        if values.size % 3:
            raise EgoposeError(f"{at}: {values.size} numbers in keypoints; expected x, y and score for each joint")
        points = values.reshape(-1, 3)
        image_id = _hashable(key(table, "image_id", at), at)
        image = images.get(image_id)
        if image is not None:
            place = view_and_frame(str(key(image, "file_name", at)), pattern, at)
            if "width" in image and "height" in image:
                sizes[place[0]] = image_size([image["width"], image["height"]], f"{at}: image size")
        elif isinstance(image_id, str):
            place = view_and_frame(image_id, pattern, at)
        else:
            place = (view, whole(image_id, f"{at}: image_id"))
        merit = table.get("score")
        if not isinstance(merit, int | float):
            merit = table.get("area") if annotated else None
        # whole numbers of JSON have no end
        merit = float(min(merit, 1e300)) if isinstance(merit, int | float) else _sum(points[:, 2])
        people = found_people.setdefault(place, [])
        people.append((merit, points))
        if len(people) > 1:
            crowded.add(place)
            if person == "best":
                # the first of equals stays
                people[:] = [people[1] if people[1][0] > people[0][0] else people[0]]
    if not found_people:
        raise EgoposeError(f"{path}: no keypoints in it; nothing to read")
    counts = {len(points) for people in found_people.values() for _, points in people}
    if len(counts) > 1:
        raise EgoposeError(f"{path}: entries have {' and '.join(map(str, sorted(counts)))} keypoints in one file")
    found = _skeleton(counts.pop(), names, skeleton, where)
    views = sorted({place[0] for place in found_people})
    frames = np.unique([place[1] for place in found_people])
    slots = max(len(people) for people in found_people.values())
    given = sum(len(people) for people in found_people.values())
    _check_cells(slots * len(views) * frames.size * found.n_joints, given * found.n_joints, where)
    dense = np.full((slots, len(views), frames.size, found.n_joints, 3), np.nan)
    for (name, frame), people in found_people.items():
        for k, (_, points) in enumerate(people):
            dense[k, views.index(name), np.searchsorted(frames, frame)] = points
    seen = np.isfinite(dense).all(axis=-1) & (dense[..., 2] > 0)
    if crowded and person == "best":
        note(f"{path}: {len(crowded)} images hold several people; the one with the highest score was taken")
    # annotation files give a visibility (0, 1 occluded, 2 visible), results a score
    score = np.where(seen, np.where(dense[..., 2] >= 2, 1.0, 0.5) if annotated else np.clip(dense[..., 2], 0, 1), 0)
    layers = [
        Observations2D(
            skeleton=found,
            views=tuple(views),
            frames=frames,
            uv_px=float32(np.where(seen[k, ..., None], dense[k, ..., :2], np.nan)),
            score=float32(score[k]),
            fps=fps,
            undistorted=undistorted,
            sizes=tuple(sizes.get(name) for name in views),
            provenance=source(path, "coco-keypoints", images_with_several_people=len(crowded)),
        )
        for k in range(slots)
    ]
    return Candidates2D(tuple(layers)) if person == "all" else layers[0]


def _hashable(value: Any, where: str) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise EgoposeError(f"{where}: image id {value!r}; expected a whole number or a file name")
    return value


def _sum(scores: np.ndarray) -> float:
    """Sum of what is finite; at the end of its range a sum may be infinite."""
    with np.errstate(over="ignore"):
        return float(scores[np.isfinite(scores)].sum())
