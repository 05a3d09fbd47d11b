"""The official Ego-Exo4D protocols: what the benchmark's own scripts would print, and what they leave unsaid."""

from __future__ import annotations

from egopose.metrics.protocols.body import SCENARIOS, evaluate_body_official, kept_frames, scenario_of
from egopose.metrics.protocols.body_baseline import evaluate_body_baseline
from egopose.metrics.protocols.hand import evaluate_hand_official
from egopose.metrics.protocols.result import BodyResult, BodyScore, Coverage, HandCoverage, HandResult, HandScore

__all__ = [
    "SCENARIOS",
    "BodyResult",
    "BodyScore",
    "Coverage",
    "HandCoverage",
    "HandResult",
    "HandScore",
    "evaluate_body_baseline",
    "evaluate_body_official",
    "evaluate_hand_official",
    "kept_frames",
    "scenario_of",
]
