"""The official Ego-Exo4D body protocol: world metres, short clips dropped, every joint counts once.

The rules are those of the evaluator that the benchmark's authors published in January 2024: takes in the order of the
ground truth; runs of frames shorter than 120 dropped; mean per-joint position error over all joints of all takes
(micro); velocity error over the gap between consecutive kept frames; a joint is missing only where the x of its ground
truth is NaN. Sums run joint by joint, per scenario, so that the last digit does not depend on how they are vectorised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.metrics.protocols.result import BodyResult, BodyScore, Coverage
from egopose.skeleton import BODY17
from egopose.takes import N_BODY, BodyTake, Floats, locate, sort_frames

Mode = Literal["strict", "lenient"]

SCENARIOS: dict[str, tuple[str, ...]] = {
    "basketball": ("basketball",),
    "bike": ("bike",),
    "cooking": ("cooking",),
    "dance": ("dance",),
    "soccer": ("soccer",),
    "health": ("cpr", "covid"),
    "bouldering": ("bouldering",),
    "music": ("piano", "violin", "guitar", "music"),
}
"""Scenario to the words that a take's name shows it by; the first scenario that matches is taken."""

RUN_GAP = 3
"""Frames at most this far apart belong to one run."""
RUN_LENGTH = 120
"""A run is kept when last - first + 3 reaches this."""
VELOCITY_GAP = 10
"""Frames this far apart, or more, give no velocity."""
FRAME_RATE = 30.0


def scenario_of(take_name: str | None) -> str | None:
    """Scenario of a take from its name, or None when no word matches."""
    name = (take_name or "").lower()
    return next((scenario for scenario, words in SCENARIOS.items() if any(word in name for word in words)), None)


def kept_frames(frames: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of some sorted frame numbers lie in a run that is long enough.

    Args:
        frames: (T,) strictly increasing frame numbers.
    """
    if not frames.size:
        return np.zeros(0, dtype=np.bool_)
    run = np.concatenate([[0], np.cumsum(np.diff(frames) > RUN_GAP)])
    first = frames[np.searchsorted(run, np.arange(run[-1] + 1), side="left")]
    last = frames[np.searchsorted(run, np.arange(run[-1] + 1), side="right") - 1]
    return np.asarray((last - first + 3 >= RUN_LENGTH)[run])


def distance(difference: Floats) -> Floats:
    """Length of the last axis, squares added in the order x, y, z."""
    x, y, z = difference[..., 0], difference[..., 1], difference[..., 2]
    return np.asarray(np.sqrt(x * x + y * y + z * z))


def add_in_order(total: float, values: Floats) -> float:
    """``total`` plus the values one after the other (numpy's own sum adds in pairs)."""
    return float(np.add.accumulate(np.concatenate([[total], values]))[-1])


@dataclass
class Sums:
    """State of one scenario: sums and counts, which merge by addition."""

    position: float = 0.0
    joints: int = 0
    velocity: float = 0.0
    velocities: int = 0
    takes: int = 0
    frames: int = 0

    def score(self) -> BodyScore:
        """Centimetres and metres a second."""
        return BodyScore(
            mpjpe_cm=self.position / self.joints * 100 if self.joints else float("nan"),
            mpjve_m_s=self.velocity / self.velocities if self.velocities else float("nan"),
            joints=self.joints,
            velocities=self.velocities,
            takes=self.takes,
            frames=self.frames,
        )

    def add(self, other: Sums) -> None:
        """Add another state to this one."""
        self.position += other.position
        self.joints += other.joints
        self.velocity += other.velocity
        self.velocities += other.velocities
        self.takes += other.takes
        self.frames += other.frames


@dataclass
class Aligned:
    """One take ready to be scored: kept frames in order, prediction and truth side by side."""

    uid: str
    frames: NDArray[np.int64]
    truth: Floats
    pred: Floats
    counted: NDArray[np.bool_]


@dataclass
class _Run:
    mode: Mode
    coverage: Coverage = field(default_factory=Coverage)
    notes: list[str] = field(default_factory=list)


def _first_defect(take: BodyTake, frames: NDArray[np.int64]) -> int | None:
    return next((int(frame) for frame in frames if int(frame) in take.defects), None) if take.defects else None


def align_take(truth: BodyTake, pred: BodyTake | None, run: _Run, *, clip_filter: bool = True) -> Aligned | None:
    """Pair the frames of a take; strict refuses what the official evaluator refuses, lenient counts it.

    Raises:
        EgoposeError: Strict: the take or a kept frame is not in the prediction, or a frame is not 17x3.
    """
    cover, strict = run.coverage, run.mode == "strict"
    if truth.other_keys and strict:
        raise EgoposeError(f"ground truth, take {truth.uid}: key {truth.other_keys[0]!r} is no frame number")
    order = sort_frames(truth.frames)
    frames, target = truth.frames[order], truth.xyz[order]
    cover.takes_expected += 1
    cover.frames_in_truth += int(frames.size)
    if clip_filter:
        keep = kept_frames(frames)
        cover.frames_in_short_clips += int((~keep).sum())
        frames, target = frames[keep], target[keep]
    bad = _first_defect(truth, frames)
    if bad is not None and strict:
        raise EgoposeError(f"ground truth, take {truth.uid}, frame {bad}: {truth.defects[bad]}; expected 17x3 numbers")
    cover.frames_expected += int(frames.size)
    cover.joints_expected += int((~np.isnan(target[..., 0])).sum())
    if pred is None:
        if strict:
            raise EgoposeError(
                f"prediction: take {truth.uid} ({truth.take_name}) is missing; every take of the ground truth must be "
                "there (lenient mode scores the rest)"
            )
        cover.missing_takes.append(truth.uid)
        cover.missing_frames += int(frames.size)
        return None
    where = locate(pred.frames, frames)
    if (where < 0).any() and strict:
        raise EgoposeError(
            f"prediction: take {truth.uid}, frame {frames[where < 0][0]} is missing ({int((where < 0).sum())} of "
            f"{frames.size} frames of this take); every kept frame must be there (lenient mode scores the rest)"
        )
    bad = _first_defect(pred, frames)
    if bad is not None and strict:
        raise EgoposeError(f"prediction, take {truth.uid}, frame {bad}: {pred.defects[bad]}; expected 17x3 numbers")
    cover.missing_frames += int((where < 0).sum())
    malformed = np.isin(frames, list(pred.defects) or [-1]) & (where >= 0)
    cover.malformed_frames += int(malformed.sum())
    cover.extra_frames += int(pred.frames.size) - int((locate(truth.frames, pred.frames) >= 0).sum())
    good = (where >= 0) & ~malformed
    frames, target, guess = frames[good], target[good], pred.xyz[where[good]]
    counted = ~np.isnan(target[..., 0])
    partly = counted & ~np.isfinite(target).all(-1)
    unknown = counted & ~partly & ~np.isfinite(guess).all(-1)
    cover.nonfinite_truth += int(partly.sum())
    cover.nonfinite_predictions += int(unknown.sum())
    for what, mask in (("y or z of the ground truth", partly), ("the prediction", unknown)):
        if mask.any() and strict:
            t, j = np.argwhere(mask)[0]
            run.notes.append(
                f"take {truth.uid}: {what} is not finite at {int(mask.sum())} counted joints (first: frame "
                f"{frames[t]}, {BODY17.joints[j]}); the official sums carry that on"
            )
    if not strict:
        counted &= ~partly & ~unknown
    cover.joints_scored += int((counted & ~partly & ~unknown).sum())
    cover.frames_scored += int(frames.size)
    return Aligned(truth.uid, frames, target, guess, counted)


def accumulate(take: Aligned, sums: Sums) -> None:
    """Add one take to a scenario's sums, joint by joint."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = distance(take.pred - take.truth)[take.counted]
        gap = np.diff(take.frames)
        near = gap < VELOCITY_GAP
        both = take.counted[1:] & take.counted[:-1] & near[:, None]
        moved = distance(np.diff(take.truth, axis=0) - np.diff(take.pred, axis=0)) * (FRAME_RATE / gap)[:, None]
        sums.position = add_in_order(sums.position, error)
        sums.velocity = add_in_order(sums.velocity, moved[both])
    sums.joints += int(error.size)
    sums.velocities += int(both.sum())
    sums.takes += 1
    sums.frames += int(take.frames.size)


def evaluate_body_official(
    pred: Mapping[str, BodyTake], truth: Mapping[str, BodyTake], *, mode: Mode = "strict"
) -> BodyResult:
    """Score body predictions by the official rules.

    Args:
        pred: Takes by uid, world metres.
        truth: Ground truth takes by uid, in file order, world metres; NaN = missing joint.
        mode: "strict" refuses what the official evaluator refuses (a missing take, frame or scenario, a wrong shape)
            and lets NaN through to the result; "lenient" scores what is there and counts the rest.

    Returns:
        Overall and per scenario: centimetres, metres a second, counts; coverage; notes.

    Raises:
        EgoposeError: Strict mode, as above; it names the take and the frame.
    """
    check_mode(mode)
    run = _Run(mode)
    sums = {name: Sums() for name in (*SCENARIOS, "other")}
    per_take: dict[str, BodyScore] = {}
    for uid, target in truth.items():
        scenario = scenario_of(target.take_name)
        if scenario is None:
            if mode == "strict":
                raise EgoposeError(
                    f"ground truth, take {uid}: take_name {target.take_name!r} shows no known scenario; expected one "
                    f"of the words {', '.join(word for words in SCENARIOS.values() for word in words)}"
                )
            scenario = "other"
        aligned = align_take(target, pred.get(uid), run)
        if aligned is None:
            continue
        accumulate(aligned, sums[scenario])
        alone = Sums()
        accumulate(aligned, alone)
        per_take[uid] = alone.score()
    run.coverage.extra_takes = sum(uid not in truth for uid in pred)
    unnamed = [uid for uid, take in pred.items() if uid in truth and not take.take_name]
    if unnamed:
        run.notes.append(f"{len(unnamed)} predicted takes have no take_name (first: {unnamed[0]}); the server wants it")
    total = Sums()
    for part in sums.values():
        total.add(part)
    scenarios = {name: part.score() for name, part in sums.items() if part.joints}
    for name, score in scenarios.items():
        if not score.velocities:
            run.notes.append(
                f"scenario {name}: no two frames give a velocity; the official division by zero is NaN here"
            )
    return BodyResult("body.official", mode, total.score(), scenarios, per_take, run.coverage, run.notes)


def check_mode(mode: str) -> None:
    """Refuse an unknown mode.

    Raises:
        EgoposeError: Neither strict nor lenient.
    """
    if mode not in ("strict", "lenient"):
        raise EgoposeError(f"mode is {mode!r}; expected 'strict' or 'lenient'")


__all__ = ["N_BODY", "SCENARIOS", "Aligned", "Sums", "evaluate_body_official", "kept_frames", "scenario_of"]
