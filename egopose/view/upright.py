"""Which way is up: the package's world has z up, files of other tools may not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.pose import PoseSequence

Array = NDArray[np.float64]
Up = Literal["auto", "z", "-z", "y", "-y", "x", "-x"]

_UPPER = ("left_shoulder", "right_shoulder")
_LOWER = ("left_hip", "right_hip")


@dataclass(frozen=True)
class Upright:
    """A rotation to axes with z up.

    Attributes:
        R: (3, 3), maps the file's coordinates to upright ones.
        names: What each upright axis is in the file.
        note: What was assumed, when it is not the plain case.
    """

    R: Array
    names: tuple[str, str, str]
    note: str = ""


def axis_up(axis: str) -> Array:
    """(3, 3) rotation that turns a signed axis such as "-y" to z.

    Raises:
        EgoposeError: No such axis.
    """
    name = axis.removeprefix("-")
    if name not in ("x", "y", "z"):
        raise EgoposeError(f"up is {axis!r}; expected z, -z, y, -y, x, -x or auto")
    i, sign = "xyz".index(name), -1.0 if axis.startswith("-") else 1.0
    R = np.zeros((3, 3))
    # an even permutation with two equal signs has determinant one
    R[0, (i + 1) % 3], R[1, (i + 2) % 3], R[2, i] = 1.0, sign, sign
    return R


def trunk_direction(pose: PoseSequence) -> Array | None:
    """Mean unit vector from hips to shoulders, (3,); None when the skeleton or the data have none."""
    joints = set(pose.skeleton.joints)
    if not {*_UPPER, *_LOWER} <= joints:
        return None
    xyz = pose.xyz.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # frames without these joints
        trunk = np.nanmean(xyz[:, pose.skeleton.indices(_UPPER)], axis=1)
        trunk = trunk - np.nanmean(xyz[:, pose.skeleton.indices(_LOWER)], axis=1)
        length = np.linalg.norm(trunk, axis=-1, keepdims=True)
        unit = trunk[(length[:, 0] > 0)] / length[length[:, 0] > 0]
    return unit.mean(axis=0) if len(unit) else None


def upright(pose: PoseSequence, up: Up = "auto") -> Upright:
    """How to show a sequence upright.

    With "auto" a camera's frame is turned by its own axes (y down), and a world is taken to have z up unless the trunk
    points clearly along another axis for most of the time (a lying person alone does not turn the world: the trunk
    must keep to another axis with a mean component over 0.8 and point up along z by less than 0.5).

    Args:
        pose: The joints.
        up: The axis of the file that points up, or "auto".

    Raises:
        EgoposeError: No such axis.
    """
    if up == "auto":
        if pose.space.startswith("camera:"):
            R = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
            return Upright(R, ("x", "z (forward)", "-y (up)"))
        trunk = trunk_direction(pose) if pose.space == "world" else None
        if trunk is None or trunk[2] >= 0.5 or np.abs(trunk).max() < 0.8:
            return Upright(np.eye(3), ("x", "y", "z"))
        i = int(np.argmax(np.abs(trunk)))
        axis = ("-" if trunk[i] < 0 else "") + "xyz"[i]
        note = f"The trunk points along {axis} of the file, so that axis is shown as up; choose another with --up."
        return Upright(axis_up(axis), _names(axis), note)
    return Upright(axis_up(up), _names(up))


def _names(axis: str) -> tuple[str, str, str]:
    R = axis_up(axis)
    names = []
    for row in R:
        k = int(np.argmax(np.abs(row)))
        names.append(("-" if row[k] < 0 else "") + "xyz"[k])
    return names[0], names[1], names[2] if axis == "z" else f"{names[2]} (up)"
