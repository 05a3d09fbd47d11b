"""Ego-Exo4D as a dataset: takes, cameras, head poses, annotations, hand ground truth, submissions and a stand-in.

Start with ``EgoExo4D(root)``; without the dataset, ``make_standin(folder)`` writes a small complete one in the same
layout.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_LAZY = {
    "EgoExo4D": "egopose.ego_exo4d.dataset",
    "Take": "egopose.ego_exo4d.take",
    "ExoCamera": "egopose.ego_exo4d.cameras",
    "AnnotationIndex": "egopose.ego_exo4d.index",
    "build_hand_gt": "egopose.ego_exo4d.handgt",
    "HandTruth": "egopose.ego_exo4d.handgt",
    "make_standin": "egopose.ego_exo4d.standin",
    "write_submission": "egopose.ego_exo4d.submission",
}

__all__ = [
    "AnnotationIndex",
    "EgoExo4D",
    "ExoCamera",
    "HandTruth",
    "Take",
    "build_hand_gt",
    "make_standin",
    "write_submission",
]

if TYPE_CHECKING:
    from egopose.ego_exo4d.cameras import ExoCamera
    from egopose.ego_exo4d.dataset import EgoExo4D
    from egopose.ego_exo4d.handgt import HandTruth, build_hand_gt
    from egopose.ego_exo4d.index import AnnotationIndex
    from egopose.ego_exo4d.standin import make_standin
    from egopose.ego_exo4d.submission import write_submission
    from egopose.ego_exo4d.take import Take


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'egopose.ego_exo4d' has no attribute {name!r}")
