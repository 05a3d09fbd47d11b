"""From calibrated views and 2D joints to 3D joints with error bars."""

from __future__ import annotations

from egopose.triangulate.solve import TriangulatedPoints, triangulate_points
from egopose.triangulate.threshold import Threshold

__all__ = ["Threshold", "TriangulatedPoints", "triangulate_points"]
