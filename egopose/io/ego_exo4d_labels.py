"""Labels in the layout of Ego-Exo4D's automatic annotation: 3D with the number of views, 2D by reprojection.

One file holds one take and either its body or its hands, as the published folders do. 3D is in the world of the pose
(metres); 2D is in the pixels of undistorted images and marked "auto", which says that it was not clicked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera, Rig
from egopose.errors import EgoposeError
from egopose.files import write_json
from egopose.io.ego_exo4d_annotation import BODY_NAMES, HAND_NAMES
from egopose.io.registry import writer
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import BODY17

BALANCE = 0.8
LEAST_DEPTH_M = 1e-3


def official_names(kind: str) -> dict[str, str]:
    """Our joint name to the file's, in the file's order.

    Raises:
        EgoposeError: Neither "body" nor "hand".
    """
    if kind == "body":
        return {joint: joint.replace("_", "-") for joint in BODY17.joints if joint in BODY_NAMES.values()}
    if kind == "hand":
        return {ours: theirs for theirs, ours in HAND_NAMES.items()}
    raise EgoposeError(f"kind is {kind!r}; expected 'body' or 'hand'")


def label_camera(camera: Camera) -> Camera:
    """The camera of the undistorted images in which the 2D of such files lives."""
    if camera.image_space == "undistorted" or camera.model == "pinhole":
        return camera
    return camera.undistorted(balance=BALANCE)


@writer(
    "ego-exo4d-annotation", kinds=("PoseSequence",), suffixes=(".json",),
    description="Ego-Exo4D body and hand annotation: part=3d (world), part=2d (undistorted pixels)",
)  # fmt: skip
def write_labels(
    obj: PoseSequence,
    path: Path,
    *,
    kind: str = "body",
    rig: Rig | None = None,
    num_views: Any = None,
) -> None:
    """Write the labels of one take.

    A joint that is not known has no key, as in the published files; a frame without any joint holds empty tables.

    Args:
        obj: Joints in the world.
        path: The file, by custom ``<take_uid>.json``.
        kind: "body" or "hand".
        rig: Cameras to reproject into; without them there is no 2D.
        num_views: (T, J) views that each joint was made from; by default what the status says at least: 3 for OK,
            2 for TWO_VIEWS and LOW_ANGLE, 0 for joints that only their neighbours in time speak for.

    Raises:
        EgoposeError: Another space, none of the joints, or counts of another shape.
    """
    pose, names = obj, official_names(kind)
    if pose.space != "world":
        raise EgoposeError(f"{path}: the joints are in {pose.space!r}; this file holds world coordinates")
    present = [joint for joint in names if joint in pose.skeleton.joints]
    if not present:
        raise EgoposeError(f"{path}: skeleton {pose.skeleton.name!r} has none of the {kind} joints of this file")
    columns = pose.skeleton.indices(present)
    if num_views is None:
        counts = _least_views(np.asarray(pose.status))
    else:
        counts = np.asarray(num_views)
        if counts.shape != (pose.n_frames, pose.n_joints):
            raise EgoposeError(f"{path}: num_views has shape {counts.shape}; expected {(pose.n_frames, pose.n_joints)}")
    keys = [names[joint] for joint in present]
    xyz = pose.xyz[:, columns].astype(np.float64)
    pixels = _reproject(rig, xyz)
    known, views = pose.valid[:, columns], counts[:, columns]
    content: dict[str, Any] = {}
    for t, frame in enumerate(pose.frames.tolist()):
        joints = np.flatnonzero(known[t])
        content[str(frame)] = [{
            "annotation3D": {
                keys[j]: {**_xyz(xyz[t, j]), "num_views_for_3d": int(views[t, j])} for j in joints
            },
            "annotation2D": {
                name: {
                    keys[j]: {"x": float(uv[t, j, 0]), "y": float(uv[t, j, 1]), "placement": "auto"}
                    for j in joints if np.isfinite(uv[t, j]).all()
                }
                for name, uv in pixels.items()
            },
        }]  # fmt: skip
    write_json(path, content, indent=None)


def _xyz(point: NDArray[np.float64]) -> dict[str, float]:
    return {axis: float(value) for axis, value in zip("xyz", point)}


def _least_views(status: NDArray[np.uint8]) -> NDArray[np.int64]:
    table = np.zeros(len(JointStatus), dtype=np.int64)
    table[JointStatus.OK] = 3
    table[[JointStatus.TWO_VIEWS, JointStatus.LOW_ANGLE]] = 2
    return table[status]


def _reproject(rig: Rig | None, xyz: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Camera name to (T, J, 2) undistorted pixels, NaN outside the image and behind the camera."""
    pixels = {}
    for camera in rig.cameras if rig is not None else ():
        flat = label_camera(camera)
        uv = flat.project(xyz)
        depth = xyz @ flat.T_camera_world[2, :3] + flat.T_camera_world[2, 3]
        with np.errstate(invalid="ignore"):
            inside = flat.in_image(uv) & (depth > LEAST_DEPTH_M)
        pixels[str(camera.name)] = np.where(inside[..., None], uv, np.nan)
    return pixels
