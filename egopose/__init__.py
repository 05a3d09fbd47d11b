"""First-person human motion: predict, triangulate and evaluate 3D body and hand joints.

Three verbs over one type: :class:`PoseSequence` is what :class:`Predictor` and
:func:`egopose.triangulate.triangulate` return, what :func:`load` reads and what :mod:`egopose.metrics` scores.
Names load on first use, so ``import egopose`` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "EgoposeError": "egopose.errors",
    "MissingExtra": "egopose.errors",
    "Skeleton": "egopose.skeleton",
    "BODY17": "egopose.skeleton",
    "HAND21": "egopose.skeleton",
    "BODY17_HANDS": "egopose.skeleton",
    "Camera": "egopose.camera",
    "Rig": "egopose.camera",
    "Trajectory": "egopose.trajectory",
    "Observations2D": "egopose.observations",
    "JointStatus": "egopose.pose",
    "PoseSequence": "egopose.pose",
    "Clip": "egopose.clip",
    "Imu": "egopose.clip",
    "Predictor": "egopose.predict",
    "load": "egopose.io",
    "save": "egopose.io",
}

__all__ = [
    "BODY17",
    "BODY17_HANDS",
    "HAND21",
    "Camera",
    "Clip",
    "EgoposeError",
    "Imu",
    "JointStatus",
    "MissingExtra",
    "Observations2D",
    "PoseSequence",
    "Predictor",
    "Rig",
    "Skeleton",
    "Trajectory",
    "__version__",
    "load",
    "save",
]

if TYPE_CHECKING:
    from egopose.camera import Camera, Rig
    from egopose.clip import Clip, Imu
    from egopose.errors import EgoposeError, MissingExtra
    from egopose.io import load, save
    from egopose.observations import Observations2D
    from egopose.pose import JointStatus, PoseSequence
    from egopose.predict import Predictor
    from egopose.skeleton import BODY17, BODY17_HANDS, HAND21, Skeleton
    from egopose.trajectory import Trajectory


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'egopose' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
