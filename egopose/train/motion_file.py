"""The arrays of a file of captured motion, read with bounds and checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.npz import read_npz
from egopose.rigid import check_rotation

_TOLERANCE = 5e-3
"""Of rotations: files keep them in float16."""


def read_motion_arrays(path: Path, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of a motion file; see :func:`egopose.train.windows.load_motion` for the layout.

    Args:
        path: The ``.npz`` file.
        keys: The arrays wanted.

    Raises:
        EgoposeError: Unreadable, an array is absent, or they do not fit together.
    """
    data = read_npz(path, keys, what="captured motion")
    frames, names, bounds = data["joints"], data["joint_names"], data["clip_ptr"]
    n = len(frames) if frames.ndim else 0
    clips = bounds.size - 1
    wanted = {
        "joints": ((n, names.size, 3), "f"), "joint_names": ((names.size,), "U"), "head_rot": ((n, 3, 3), "f"),
        "head_pos": ((n, 3), "f"), "clip_ptr": ((clips + 1,), "iu"), "clip_name": ((clips,), "U"),
        "subject": ((clips,), "U"), "tier": ((clips,), "U"), "fps": ((), "fiu"),
    }  # fmt: skip
    for name, array in data.items():
        shape, kinds = wanted[name]
        if array.shape != shape or array.dtype.kind not in kinds:
            raise EgoposeError(f"{path}: {name} has shape {array.shape} of {array.dtype}; expected {shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all() and name != "joints":
            raise EgoposeError(f"{path}: {name} holds NaN or infinity")
    if np.isinf(frames).any():
        raise EgoposeError(f"{path}: joints holds infinity; a joint that is not known is NaN")
    fps, ends = float(data["fps"]), bounds.astype(np.int64)
    if not fps > 0 or clips < 1 or ends[0] != 0 or ends[-1] != n or (ends[1:] <= ends[:-1]).any():
        raise EgoposeError(f"{path}: clip_ptr does not divide {n} frames, or fps is {fps}")
    check_rotation(data["head_rot"], f"{path}: head_rot", _TOLERANCE)
    return data
