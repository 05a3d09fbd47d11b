"""From calibrated views and 2D joints to 3D joints with error bars."""

from __future__ import annotations

from egopose.triangulate.report import build_report
from egopose.triangulate.solve import TriangulatedPoints, triangulate_points
from egopose.triangulate.take import Take, TriangulateConfig, triangulate, triangulate_take
from egopose.triangulate.threshold import Threshold

__all__ = [
    "Take",
    "Threshold",
    "TriangulateConfig",
    "TriangulatedPoints",
    "build_report",
    "triangulate",
    "triangulate_points",
    "triangulate_take",
]
