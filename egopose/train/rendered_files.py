"""Rendered clips from disk, in the layout that ``egopose synth`` writes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.errors import EgoposeError
from egopose.files import read_json
from egopose.npz import map_npy, read_npz
from egopose.skeleton import BODY17_HANDS
from egopose.train.rendered import Images, RenderedClip
from egopose.train.synthetic.layout import check_format


class ImageFile(Images):
    """Images of a clip on disk, opened when they are read: a clip that is kept open costs a file handle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape = map_npy(path).shape

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """One image (H, W, 3)."""
        return np.asarray(map_npy(self.path)[index])


_ARRAYS = ("times_s", "T_world_camera", "joints_world", "visible", "in_view")


def load_rendered(folder: str | os.PathLike[str], first: int | None = None) -> list[RenderedClip]:
    """The complete clips of a folder; images stay on disk.

    A joint outside the image is not visible for sure; the head's own joints in the image are unknown (-1).

    Args:
        folder: What ``egopose synth`` wrote.
        first: Read only that many clips.

    Raises:
        EgoposeError: The folder is absent, holds no clip, or a clip is damaged or of an older version.
    """
    folder = Path(folder)
    places = sorted(path for path in folder.glob("clip_*") if path.is_dir())
    if not places:
        raise EgoposeError(f"{folder}: holds no rendered clip (clip_*/); make some with: egopose synth")
    return [_clip(place) for place in places[:first]]


def load_folders(folders: Iterable[str | os.PathLike[str]]) -> list[RenderedClip]:
    """The clips of several folders, one folder after the other.

    Raises:
        EgoposeError: As :func:`load_rendered`.
    """
    return [clip for folder in folders for clip in load_rendered(folder)]


def _clip(place: Path) -> RenderedClip:
    about = read_json(place / "clip.json")
    if not isinstance(about, dict) or not {"name", "subject", "camera"} <= set(about):
        raise EgoposeError(f"{place / 'clip.json'}: lacks name, subject or camera; render the clip again")
    if not str(about.get("settings", "")).startswith("ego-exo4d"):
        # annotated hands never were the body's bones
        check_format(about.get("format"), place / "clip.json")
    camera = Camera.from_dict(about["camera"], str(place / "clip.json"))
    try:
        data = read_npz(place / "labels.npz", _ARRAYS, what="labels of a rendered clip")
        images = ImageFile(place / "images.npy")
    except EgoposeError as error:
        raise EgoposeError(f"{error}; render the clip again") from error
    count, joints = data["times_s"].size, BODY17_HANDS.n_joints
    width, height = camera.size
    shapes = {
        "images": (images.shape, (count, height, width, 3)),
        "joints_world": (data["joints_world"].shape, (count, joints, 3)),
        "visible": (data["visible"].shape, (count, joints)),
        "times_s": (data["times_s"].shape, (count,)),
        "in_view": (data["in_view"].shape, (count, joints)),
        "T_world_camera": (data["T_world_camera"].shape, (count, 4, 4)),
    }
    for key, (found, wanted) in shapes.items():
        if found != wanted:
            raise EgoposeError(f"{place}: {key} has shape {found}; expected {wanted}")
    visible = data["visible"].astype(np.int8)
    face = BODY17_HANDS.indices(("nose", "left_eye", "right_eye", "left_ear", "right_ear"))
    visible[:, face] = np.where(data["in_view"][:, face], -1, 0)
    return RenderedClip(
        f"{about['name']}/{place.name}",
        str(about["subject"]),
        camera,
        data["times_s"].astype(np.float64),
        data["T_world_camera"].astype(np.float64),
        images,
        data["joints_world"].astype(np.float64),
        visible,
    )
