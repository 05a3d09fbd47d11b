"""What a 2D detector is: an object that opens one tracker per view; a tracker takes frames in order."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.skeleton import Skeleton

GROUP = "egopose.detectors"


@dataclass(frozen=True, eq=False)
class Detection2D:
    """One person in one image.

    Attributes:
        uv_px: (J, 2) float32 pixels of the image as given, centres at integers; NaN where not found.
        score: (J,) float32 in [0, 1].
        person_score: How sure the detector is that this is a person.
    """

    uv_px: NDArray[np.float32]
    score: NDArray[np.float32]
    person_score: float = 1.0


@runtime_checkable
class Tracker(Protocol):
    """Follows the people of one view; frames come in order."""

    def update(self, image: NDArray[np.uint8]) -> list[Detection2D]:
        """People in the next frame, each at the same place in the list from frame to frame.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            One entry per followed person; an entry whose joints are all NaN is a person lost in this frame.
        """
        ...


@runtime_checkable
class Detector(Protocol):
    """A 2D pose backend."""

    name: str
    version: str
    skeleton: Skeleton

    def open(self, people: int = 1) -> Tracker:
        """A tracker for one view that follows up to ``people`` persons."""
        ...


def detector_names() -> list[str]:
    """Backends that come with the package or are registered by other packages (entry points ``egopose.detectors``)."""
    return sorted({"blazepose", "blazepose-high", "onnx", *(point.name for point in entry_points(group=GROUP))})


def make_detector(name: str, **options: Any) -> Detector:
    """A backend by name.

    Args:
        name: "blazepose" (default weights), "blazepose-high" (slower and better), "onnx" (a model file of the user), or
            the name of an entry point in the group ``egopose.detectors``.
        options: Passed to the backend.

    Raises:
        EgoposeError: No such backend, or the plug-in is not a detector.
        MissingExtra: The backend's runtime is not installed.
    """
    if name in ("blazepose", "blazepose-high"):
        from egopose.detect.blazepose import BlazePose

        return BlazePose(high=name == "blazepose-high", **options)
    if name == "onnx":
        from egopose.detect.onnx_topdown import OnnxTopDown

        return OnnxTopDown(**options)
    for point in entry_points(group=GROUP):
        if point.name == name:
            detector = point.load()(**options)
            if not isinstance(detector, Detector):
                raise EgoposeError(
                    f"the detector plug-in {name!r} ({point.value}) lacks name, version, skeleton or open(); see "
                    "egopose.detect.base.Detector"
                )
            return detector
    raise EgoposeError(f"no detector is named {name!r}; there are: {', '.join(detector_names())}")
