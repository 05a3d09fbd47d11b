"""Do a rig, its keypoints and its videos belong together? Each doubt names the cameras and both numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from egopose.camera import Rig
from egopose.candidates import Candidates2D
from egopose.errors import EgoposeError
from egopose.io.registry import note
from egopose.io.rigs import names_of
from egopose.observations import Observations2D

Seen = TypeVar("Seen", Observations2D, Candidates2D)


def name_key(name: str) -> str:
    """A camera name without case, separators and leading zeros: ``Cam_01`` and ``cam1.mp4`` are the same camera."""
    stem = re.sub(r"\.(mp4|mov|avi|mkv|webm|json)$", "", name.lower())
    stem = re.sub(r"[_.\s-]*(json|keypoints)$", "", stem)
    return re.sub(r"0*(\d+)", r"\1", re.sub(r"[^a-z0-9]", "", stem))


def match_names(rig: Rig, views: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which camera of the rig each view is.

    Args:
        rig: The calibration.
        views: Names of 2D views or videos.
        given: View to camera, chosen by the user; it wins.

    Returns:
        View to camera name, in the order of the views.

    Raises:
        EgoposeError: A view has no camera in the rig, or two views are the same camera.
    """
    by_key: dict[str, list[str]] = {}
    for name in rig.names:
        by_key.setdefault(name_key(name), []).append(name)
    result: dict[str, str] = {}
    lost = []
    for view in views:
        if given and view in given:
            if given[view] not in rig.names:
                raise EgoposeError(
                    f"view {view!r} is said to be camera {given[view]!r}; the rig has {names_of(rig.names)}"
                )
            result[view] = given[view]
        elif view in rig.names:
            result[view] = view
        elif len(by_key.get(name_key(view), [])) == 1:
            result[view] = by_key[name_key(view)][0]
        else:
            lost.append(view)
    if lost:
        raise EgoposeError(
            f"2D from {names_of(lost)} has no camera in the calibration, which has {names_of(rig.names)}; "
            "rename the views, add the calibration, or leave them out"
        )
    for camera in rig.names:
        same = [view for view, name in result.items() if name == camera]
        if len(same) > 1:
            raise EgoposeError(f"views {' and '.join(same)} are both camera {camera!r}; rename one")
    return result


def align_views(
    rig: Rig, observations: Seen, given: Mapping[str, str] | None = None, *, drop: bool = False, sizes: bool = True
) -> Seen:
    """The observations under the rig's camera names, checked against it.

    Args:
        rig: The calibration.
        observations: Keypoints whose view names may be spelled differently (``cam01`` and ``cam_1``).
        given: View to camera, chosen by the user.
        drop: Leave out views without a camera (with a warning) instead of refusing them.
        sizes: Warn of images whose size is not that of their calibration.

    Raises:
        EgoposeError: A view has no camera, or raw and undistorted pixels meet.
    """
    if drop:
        known = {name_key(name) for name in rig.names}
        kept = [v for v in observations.views if v in rig.names or (given and v in given) or name_key(v) in known]
        lost = [v for v in observations.views if v not in kept]
        if lost:
            note(f"2D from {names_of(lost)} was left out: no such camera in the calibration ({names_of(rig.names)})")
            observations = observations.select(views=kept)
    names = match_names(rig, observations.views, given)
    observations = observations.replace(views=tuple(names[view] for view in observations.views))
    check_image_space(rig, observations)
    if sizes:
        check_sizes(rig, dict(zip(observations.views, observations.sizes)))
    return observations


def check_image_space(rig: Rig, observations: Observations2D | Candidates2D) -> None:
    """Refuse raw pixels with undistorted cameras and the other way round.

    Raises:
        EgoposeError: They differ.
    """
    used = {camera.image_space for camera in rig.cameras if camera.name in observations.views}
    pixels = "undistorted" if observations.undistorted else "raw"
    if used - {pixels}:
        other = (used - {pixels}).pop()
        raise EgoposeError(
            f"the keypoints are in {pixels} pixels, the cameras are calibrated for {other} images; "
            + (
                "load the undistorted calibration (Ego-Exo4D: camera_pose, not gopro_calibs.csv)"
                if pixels == "undistorted"
                else "load the raw calibration (Ego-Exo4D: gopro_calibs.csv), or say undistorted=True if they are"
            )
        )


def check_sizes(rig: Rig, sizes: Mapping[str, tuple[int, int] | None]) -> list[str]:
    """Warn of images whose size is not that of their calibration.

    Args:
        rig: The calibration.
        sizes: Camera name to (width, height) of its video or 2D, None where unknown.

    Returns:
        Names of the cameras that differ.
    """
    different = [
        (name, size, rig[name].size)
        for name, size in sizes.items()
        if size is not None and name in rig.names and tuple(size) != rig[name].size
    ]
    if different:
        listed = "; ".join(
            f"{name} is {size[0]} x {size[1]}, calibrated at {calibrated[0]} x {calibrated[1]}"
            for name, size, calibrated in different
        )
        turned = all((size[1], size[0]) == calibrated for _, size, calibrated in different)
        note(
            f"image sizes differ from the calibration: {listed}; "
            + (
                "the images are turned: rotate the cameras or the images"
                if turned
                else "pixels may be scaled or cropped"
            )
        )
    return [name for name, *_ in different]


def check_videos(rig: Rig, videos: Mapping[str, str]) -> list[str]:
    """:func:`check_sizes` for video files, camera name to path; raises when one is not a video."""
    from egopose.io.video import probe

    return check_sizes(rig, {name: probe(path).size for name, path in videos.items()})
