"""The exo cameras of a take: raw and undistorted, portrait, of bad quality, or missing.

Two files describe them in different pixels: ``gopro_calibs.csv`` the raw fisheye images, ``camera_pose`` the
undistorted ones that all 2D annotations live in. The distortion that ``camera_pose`` repeats belongs to the raw image
and must not be used with its intrinsics.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from egopose.camera import Camera
from egopose.errors import EgoposeWarning
from egopose.io.ego_exo4d_cameras import read_camera_pose, read_gopro_calibs
from egopose.io.fields import mapping, read_csv
from egopose.rig import Rig

BALANCE = 0.8
"""Of the official undistortion."""
QUALITY = {1: "good", 0: "bad", -1: "unknown"}


@dataclass(frozen=True, eq=False)
class ExoCamera:
    """What is known of one exo camera.

    Attributes:
        name: As in takes.json.
        raw: The fisheye camera of the recorded images, None where gopro_calibs.csv lacks it.
        undistorted: The pinhole camera of the annotations, None where camera_pose lacks it.
        quality: 1 good, 0 bad, -1 unknown, None without calibration.
        portrait: The image is higher than wide.
    """

    name: str
    raw: Camera | None
    undistorted: Camera | None
    quality: int | None
    portrait: bool

    @property
    def problem(self) -> str | None:
        """Why it should not be used, or None."""
        if self.raw is None and self.undistorted is None:
            return "no calibration"
        if self.quality is not None and self.quality != 1:
            return f"calibration is {QUALITY.get(self.quality, str(self.quality))}"
        return None


def official_undistorted(camera: Camera) -> Camera:
    """The pinhole camera of the dataset's undistorted images: OpenCV's fisheye rule, balance 0.8, centre W/2, H/2."""
    pinhole = camera.undistorted(balance=BALANCE)
    K = pinhole.K
    K[:2, 2] = np.array(pinhole.size) / 2
    return camera.undistorted(K=K)


def true_size(camera: Camera) -> Camera:
    """The camera with width and height exchanged where the principal point says that they are.

    Some recordings are portrait while their row states the landscape size.
    """
    w, h = camera.size
    centre = camera.params[2:4]
    as_stated = np.abs(centre - np.array([w, h]) / 2).max()
    exchanged = np.abs(centre - np.array([h, w]) / 2).max()
    return replace(camera, size=(h, w)) if exchanged < as_stated else camera


def read_raw(path: Path, frame: int | None = None) -> dict[str, tuple[Camera, int]]:
    """Every camera of ``gopro_calibs.csv`` with its quality; none is left out.

    Raises:
        EgoposeError: As :func:`egopose.io.ego_exo4d_cameras.read_gopro_calibs`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EgoposeWarning)
        rig = read_gopro_calibs(path, min_quality=-(1 << 30), frame=frame)
    table = read_csv(path, ["cam_uid"], what="gopro_calibs.csv")
    quality = dict.fromkeys(table.text("cam_uid"), 1)
    if "quality" in table:
        quality = dict(zip(table.text("cam_uid"), table.integers("quality").tolist()))
    return {name: (true_size(camera), quality[name]) for name, camera in zip(rig.names, rig.cameras)}


def read_undistorted(path: Path) -> dict[str, Camera]:
    """The exo cameras of a ``camera_pose`` file; empty where it has the head camera only."""
    from egopose.files import read_json

    content = mapping(read_json(path), str(path))
    if not any(isinstance(e, dict) and isinstance(e.get("camera_extrinsics"), list) for e in content.values()):
        return {}
    rig = read_camera_pose(path, part="rig")
    assert isinstance(rig, Rig)
    return dict(zip(rig.names, rig.cameras))


def exo_cameras(
    names: list[str], raw: dict[str, tuple[Camera, int]], undistorted: dict[str, Camera]
) -> dict[str, ExoCamera]:
    """Bring both descriptions together, in the order of takes.json."""
    result = {}
    for name in [*names, *sorted((set(raw) | set(undistorted)) - set(names))]:
        camera, quality = raw.get(name, (None, None))
        pinhole = undistorted.get(name)
        shown = camera or pinhole
        portrait = shown is not None and shown.size[1] > shown.size[0]
        result[name] = ExoCamera(name, camera, pinhole, quality, portrait)
    return result
