"""What the protocols return: numbers, counts and coverage, as objects, JSON values and tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

NAN = float("nan")


@dataclass
class Coverage:
    """What was there and what was not.

    Attributes:
        takes_expected: Takes in the ground truth.
        missing_takes: Those that the prediction lacks.
        extra_takes: Takes of the prediction that the ground truth lacks (ignored).
        frames_in_truth: Frames in the ground truth.
        frames_in_short_clips: Of these, dropped by the clip filter.
        frames_expected: Frames to be scored.
        frames_scored: Frames that were.
        missing_frames: Frames to be scored that the prediction lacks.
        malformed_frames: Frames of the prediction that are not 17x3 numbers.
        extra_frames: Frames of the prediction that the ground truth lacks (ignored).
        joints_expected: Joints to be scored.
        joints_scored: Joints with a finite error.
        nonfinite_predictions: Counted joints whose prediction is NaN or infinite.
        nonfinite_truth: Counted joints whose ground truth is NaN in y or z only.
    """

    takes_expected: int = 0
    missing_takes: list[str] = field(default_factory=list)
    extra_takes: int = 0
    frames_in_truth: int = 0
    frames_in_short_clips: int = 0
    frames_expected: int = 0
    frames_scored: int = 0
    missing_frames: int = 0
    malformed_frames: int = 0
    extra_frames: int = 0
    joints_expected: int = 0
    joints_scored: int = 0
    nonfinite_predictions: int = 0
    nonfinite_truth: int = 0

    @property
    def share(self) -> float:
        """Joints scored over joints to be scored."""
        return self.joints_scored / self.joints_expected if self.joints_expected else NAN

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the share included."""
        return {"share": self.share, **asdict(self)}


@dataclass(frozen=True)
class BodyScore:
    """Errors of one scenario, take or of everything, with what they were averaged over."""

    mpjpe_cm: float
    mpjve_m_s: float
    joints: int
    velocities: int
    takes: int
    frames: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass
class BodyResult:
    """Scores of a body file.

    Attributes:
        protocol: "body.official" or "body.baseline".
        mode: "strict" or "lenient".
        overall: Everything together.
        scenarios: By scenario; those without a scored joint are left out.
        takes: By take uid.
        coverage: What was there.
        notes: Things that a reader of the numbers must know.
    """

    protocol: str
    mode: str
    overall: BodyScore
    scenarios: dict[str, BodyScore]
    takes: dict[str, BodyScore]
    coverage: Coverage
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """One object for JSON (numbers may be NaN; the writer turns these into null)."""
        overall = self.overall.to_dict()
        return {
            "protocol": self.protocol,
            "mode": self.mode,
            "mpjpe_cm": overall.pop("mpjpe_cm"),
            "mpjve_m_s": overall.pop("mpjve_m_s"),
            "scenarios": {name: score.to_dict() for name, score in self.scenarios.items()},
            "counts": overall,
            "coverage": self.coverage.to_dict(),
            "takes": {name: score.to_dict() for name, score in self.takes.items()},
            "notes": list(self.notes),
        }


@dataclass
class HandCoverage:
    """What was there and what was not; hands are counted one by one.

    Attributes:
        takes_expected: Takes in the ground truth.
        missing_takes: Those that the prediction lacks.
        extra_takes: Takes of the prediction that the ground truth lacks (ignored).
        hands_expected: Hands with ground truth.
        hands_scored: Those that were scored.
        missing_hands: Hands that the prediction lacks (empty lists included).
        malformed_hands: Hands of the prediction that are not 21x3 numbers.
        unscorable_hands: Hands of the ground truth without a valid joint.
        joints_expected: Valid joints.
        joints_scored: Valid joints with a finite error.
        nonfinite_predictions: Valid joints whose prediction is NaN or infinite.
        nonfinite_truth: Joints called valid whose ground truth is not finite.
        flat_predictions: Hands whose joints are all at one point.
    """

    takes_expected: int = 0
    missing_takes: list[str] = field(default_factory=list)
    extra_takes: int = 0
    hands_expected: int = 0
    hands_scored: int = 0
    missing_hands: int = 0
    malformed_hands: int = 0
    unscorable_hands: int = 0
    joints_expected: int = 0
    joints_scored: int = 0
    nonfinite_predictions: int = 0
    nonfinite_truth: int = 0
    flat_predictions: int = 0

    @property
    def share(self) -> float:
        """Joints scored over joints to be scored."""
        return self.joints_scored / self.joints_expected if self.joints_expected else NAN

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the share included."""
        return {"share": self.share, **asdict(self)}


@dataclass(frozen=True)
class HandScore:
    """Errors of one side, take or of everything: the mean over hands of means over joints."""

    mpjpe_mm: float
    pa_mpjpe_mm: float
    hands: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass
class HandResult:
    """Scores of a hand file.

    Attributes:
        protocol: "hand.official" or "hand.official+offset".
        mode: "strict" or "lenient".
        overall: Everything together.
        sides: By hand.
        takes: By take uid.
        coverage: What was there.
        notes: Things that a reader of the numbers must know.
    """

    protocol: str
    mode: str
    overall: HandScore
    sides: dict[str, HandScore]
    takes: dict[str, HandScore]
    coverage: HandCoverage
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """One object for JSON (numbers may be NaN; the writer turns these into null)."""
        return {
            "protocol": self.protocol,
            "mode": self.mode,
            **self.overall.to_dict(),
            "sides": {name: score.to_dict() for name, score in self.sides.items()},
            "coverage": self.coverage.to_dict(),
            "takes": {name: score.to_dict() for name, score in self.takes.items()},
            "notes": list(self.notes),
        }
