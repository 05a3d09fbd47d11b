"""Several people in view: reading them, telling them apart, and whose joints are wanted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egopose.candidates import Candidates2D
from egopose.commands.output import Progress
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.observations import Observations2D
from egopose.rig import Rig
from egopose.trajectory import Trajectory

SEVERAL = ("openpose", "coco-keypoints")
"""Formats whose images may hold several people."""
FOLLOWED = 4
"""People followed in each video when the wearer is to be found among them."""


@dataclass(frozen=True, eq=False)
class Persons:
    """Whose joints are to be triangulated.

    Attributes:
        observations: One per person, under the names of the rig's cameras.
        numbers: What the people are called, from 1, the most complete first.
        found: The table of people and how the choice was made, as plain data; empty when nobody had to be told apart.
        notes: Remarks in words.
    """

    observations: tuple[Observations2D, ...]
    numbers: tuple[int, ...]
    found: dict[str, Any]
    notes: tuple[str, ...] = ()


def load_seen(
    path: Path, *, people: int = 1, detector: str = "blazepose", options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Observations2D | Candidates2D:  # fmt: skip
    """2D joints from a file or folder of any known format, or from a folder of videos; several people where they are.

    Raises:
        EgoposeError: Unreadable, or neither.
    """
    from egopose.detect.run import VIDEO_SUFFIXES, detect_people, detect_videos, list_videos
    from egopose.io import detect, load

    if path.is_dir() and any(item.suffix.lower() in VIDEO_SUFFIXES for item in path.iterdir()):
        videos = list_videos(path)
        if people > 1:
            return detect_people(videos, people, detector, options, progress=progress)
        return detect_videos(videos, detector, options, progress=progress)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise EgoposeError(f"{path}: one video is one view; give the folder with a video per camera")
    form = detect(path).name
    found = load(path, format=form, person="all") if form in SEVERAL else load(path)
    if isinstance(found, Candidates2D):
        return found if found.n_people > 1 else found.layers[0]
    if not isinstance(found, Observations2D):
        raise EgoposeError(f"{path}: holds a {type(found).__name__}; expected 2D joints of several views, or videos")
    return found


def load_trajectory(path: Path) -> Trajectory:
    """Head poses of any known format.

    Raises:
        EgoposeError: Unreadable or something else.
    """
    from egopose.io import load

    found = load(path)
    if not isinstance(found, Trajectory):
        raise EgoposeError(f"{path}: holds a {type(found).__name__}; expected poses of the head-worn camera over time")
    return found


def choose_persons(
    rig: Rig,
    seen: Observations2D | Candidates2D,
    *,
    people: int = 1,
    wearer: Trajectory | None = None,
    start_s: float = 0.0,
    progress: Progress | None = None,
) -> Persons:
    """Tell people apart where there are several, and keep those who are wanted.

    Args:
        rig: The cameras.
        seen: 2D joints.
        people: How many are wanted at most, the most complete first.
        wearer: Poses of a head-worn camera: its wearer alone is wanted.
        start_s: Time of frame 0 on its clock.
        progress: Called with the share done.

    Raises:
        EgoposeError: Nobody is there, or nobody wears the camera.
    """
    from egopose.io.checks import align_views
    from egopose.triangulate.people import find_wearer, tell_apart

    if isinstance(seen, Observations2D):
        if wearer is None:
            return Persons((seen,), (1,), {})
        seen = Candidates2D((seen,))
    with warnings.catch_warnings(record=True) as caught:
        # they belong to the notes, which are printed with the result
        warnings.simplefilter("always", EgoposeWarning)
        # sizes that differ are named by each person's take
        aligned = align_views(rig, seen, drop=True, sizes=False)
    left_out = tuple(str(item.message) for item in caught if issubclass(item.category, EgoposeWarning))
    told = tell_apart(rig, aligned, progress=progress)
    if not len(told):
        raise EgoposeError(
            "no person is seen by two views at once; the calibration may not belong to these views, or clocks differ"
        )
    found: dict[str, Any] = {"people": told.table(), "unassigned_share": told.unassigned}
    notes = (*left_out, *told.notes)
    if wearer is not None:
        observations, choice = find_wearer(told, wearer, start_s=start_s)
        note = (
            f"person {choice['person']} wears the camera: {choice['median_distance_m']:.2f} m from it in the median, "
            f"near it in {100 * choice['near_share']:.0f} % of the frames"
        )
        return Persons((observations,), (choice["person"],), {**found, "wearer": choice}, (*notes, note))
    if people == 1 and len(told) > 1:
        notes = (*notes, "the most complete person was taken; give --people to have all of them, or --wearer")
    if people > len(told):
        notes = (*notes, f"{people} people were asked for, {len(told)} are seen by two views long enough")
    kept = min(people, len(told))
    return Persons(told.observations[:kept], tuple(range(1, kept + 1)), found, notes)


def named(path: Path, number: int, several: bool) -> Path:
    """The file of one person: ``take_person_2.npz``, or the name as given when there is only one."""
    return path.with_name(f"{path.stem}_person_{number}{path.suffix}") if several else path
