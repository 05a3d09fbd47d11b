"""Per-frame extrinsics of the wearer's camera from ``camera_pose/<take_uid>.json`` files, for many takes at once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import read_json
from egopose.io.ego_exo4d_values import frame_number
from egopose.io.fields import mapping, numbers


def read_head_extrinsics(path: str | os.PathLike[str]) -> dict[int, NDArray[np.float64]]:
    """World -> camera of the head camera for each frame that has one; frames may be missing.

    Args:
        path: A ``camera_pose`` file; the head camera is the first key that contains "aria".

    Returns:
        Frame number to (3, 4) float64, metres.

    Raises:
        EgoposeError: No such camera, or an entry is not a finite 3x4 matrix.
    """
    document = mapping(read_json(path), str(path))
    name = next((key for key in document if "aria" in key.lower() and key != "metadata"), None)
    if name is None:
        raise EgoposeError(f"{path}: no camera with 'aria' in its name; it has: {', '.join(list(document)[:12])}")
    poses = mapping(
        mapping(document[name], f"{path}: {name}").get("camera_extrinsics"), f"{path}: {name}.camera_extrinsics"
    )
    result = {}
    for key, value in poses.items():
        frame = frame_number(key)
        if frame is None:
            raise EgoposeError(f"{path}: {name}.camera_extrinsics: key {key!r} is no frame number")
        result[frame] = numbers(value, f"{path}: {name}.camera_extrinsics[{key}]", (3, 4))
    return result


def read_head_poses(folder: str | os.PathLike[str], uids: Iterable[str]) -> dict[str, dict[int, NDArray[np.float64]]]:
    """:func:`read_head_extrinsics` for each take; takes without a file get none.

    Raises:
        EgoposeError: The folder does not exist, holds no file of any of the takes, or a file is refused.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EgoposeError(f"{folder}: no such folder; expected camera_pose files named <take_uid>.json")
    wanted = list(uids)
    files = {uid: folder / f"{uid}.json" for uid in wanted if "/" not in uid and "\\" not in uid}
    result = {uid: read_head_extrinsics(file) for uid, file in files.items() if file.is_file()}
    if wanted and not result:
        raise EgoposeError(f"{folder}: holds no camera_pose file of any take ({wanted[0]}.json and so on)")
    return result
