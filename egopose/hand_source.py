"""Where the hands of a prediction come from besides the network: nothing, MediaPipe's nets, a file, or the caller."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.clip import Clip
from egopose.clip_steps import Steps
from egopose.errors import EgoposeError
from egopose.hands import SIDES, HandEstimates, lift_found
from egopose.lift import adult_hand, rough_distance
from egopose.model.numeric import Said
from egopose.model.session import StepInput
from egopose.skeleton import BODY17_HANDS

if TYPE_CHECKING:
    from egopose.detect.palm import FoundHand

Hands = Literal["mediapipe"] | str | os.PathLike[str] | HandEstimates | None
"""``"mediapipe"``, a file (see :mod:`egopose.hand_files`), estimates, or None."""

SMALLEST, LARGEST = 0.8, 1.25
"""Hand sizes next to the average adult's that a network's bone lengths may ask for."""


class HandSource:
    """No other source; the base of the others.

    Attributes:
        watches: Whether it wants to see each frame.
        notes: For provenance; None without a source.
    """

    watches = False
    notes: Mapping[str, Any] | None = None

    def needs_camera(self, clip: Clip) -> bool:
        """Whether the clip's camera must be there and fit its images."""
        return False

    def start(self, steps: Steps, camera: Camera | None) -> None:
        """Told once the clip is laid out."""

    def follow(self, camera: Camera | None) -> None:
        """Told before a stream."""

    def watch(self, step: StepInput) -> StepInput:
        """Shown each step in order; gives it back with where the hands are, for the network's crops."""
        return step

    def finish(self, said: Said, trained: frozenset[str]) -> HandEstimates | None:
        """Hands of the steps that the network has finished, as many as ``said`` has."""
        return None


class _Given(HandSource):
    def __init__(self, hands: HandEstimates) -> None:
        self._hands = hands
        self.notes = dict(hands.source) or {"hands": "given"}

    def start(self, steps: Steps, camera: Camera | None) -> None:
        if self._hands.n_frames != steps.times_s.size:
            raise EgoposeError(
                f"hands: {self._hands.n_frames} frames, but the clip has {steps.times_s.size}; expected one entry per "
                "frame"
            )

    def finish(self, said: Said, trained: frozenset[str]) -> HandEstimates:
        return self._hands


class _File(HandSource):
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._hands: HandEstimates | None = None

    def needs_camera(self, clip: Clip) -> bool:
        return clip.camera is not None and clip.frames is not None

    def start(self, steps: Steps, camera: Camera | None) -> None:
        from egopose.hand_files import load_hands

        self._hands = load_hands(self._path, steps.times_s.size, camera)
        self.notes = self._hands.source

    def finish(self, said: Said, trained: frozenset[str]) -> HandEstimates | None:
        return self._hands


class _MediaPipe(HandSource):
    watches = True

    def __init__(self) -> None:
        self.notes = {"hands": "mediapipe", "nets": "palm_detection_full, hand_landmark_full (0.10.21)"}
        self._found: deque[Mapping[str, Any]] = deque()

    def needs_camera(self, clip: Clip) -> bool:
        if clip.frames is None:
            raise EgoposeError("hands='mediapipe' looks at images; give the clip's frames and camera")
        return True

    def start(self, steps: Steps, camera: Camera | None) -> None:
        self.follow(steps.camera)

    def follow(self, camera: Camera | None) -> None:
        from egopose.detect.palm import HandNets, HandTracker

        assert camera is not None
        self._tracker = HandTracker(HandNets(), camera)
        self._size = tuple(camera.size)

    def watch(self, step: StepInput) -> StepInput:
        if step.frame is None:
            self._found.append({})
            return step
        frame = np.asarray(step.frame)
        if frame.dtype != np.uint8 or frame.shape != (self._size[1], self._size[0], 3):
            raise EgoposeError(
                f"image has shape {frame.shape} and type {frame.dtype}; expected ({self._size[1]}, {self._size[0]}, 3) "
                "uint8 RGB, the size the camera is calibrated for"
            )
        found = self._tracker.update(frame, step.T_world_camera)
        self._found.append(found)
        left, right = (_centre(found.get(side)) for side in SIDES)
        return replace(step, hand_centres=(left, right))

    def finish(self, said: Said, trained: frozenset[str]) -> HandEstimates:
        n = said.xyz.shape[0]
        if len(self._found) < n:
            raise EgoposeError(f"clip: {len(self._found)} frames came of {n} that were announced")
        frames: list[Mapping[str, Any]] = [self._found.popleft() for _ in range(n)]
        if n > 1:
            from egopose.detect.palm import settle_sides

            frames = list(settle_sides(frames))
        size = hand_size(said.bones) if "hands" in trained else 1.0
        return lift_found(frames, template=adult_hand() * size, source=self.notes)


def _centre(hand: FoundHand | None) -> NDArray[np.float64] | None:
    """Middle of a hand, metres in camera axes."""
    if hand is None:
        return None
    ray = hand.rays.mean(axis=0)
    return np.asarray(ray / np.linalg.norm(ray) * rough_distance(hand.points, hand.depth, hand.view.focal))


def hand_size(bones: NDArray[np.floating]) -> float:
    """The wearer's hand size next to an average adult's, from bone lengths (T, B) that the network says.

    The network learned lengths of the packaged body, so they are compared with that body's average hand.
    """
    from egopose.body import SOURCES, load_body

    body = load_body().shaped()
    hand = [k for k, (a, b) in enumerate(BODY17_HANDS.bones) if "_hand_" in BODY17_HANDS.joints[a]
            and "_hand_" in BODY17_HANDS.joints[b]]  # fmt: skip
    pairs = [BODY17_HANDS.bones[k] for k in hand]
    average = sum(float(np.linalg.norm(body.at(SOURCES[a]) - body.at(SOURCES[b]))) for a, b in pairs)
    size = float(np.median(bones[:, hand].sum(axis=1))) / average
    return float(np.clip(size, SMALLEST, LARGEST))


def open_hands(hands: Hands) -> HandSource:
    """The source that a caller asked for.

    Raises:
        EgoposeError: Neither "mediapipe", a file nor estimates. That its nets are not fetched is said by ``start`` and
            ``follow``.
    """
    if hands is None:
        return HandSource()
    if isinstance(hands, HandEstimates):
        return _Given(hands)
    if isinstance(hands, str) and hands == "mediapipe":
        return _MediaPipe()
    if isinstance(hands, str | os.PathLike):
        return _File(hands)
    raise EgoposeError(f"hands is a {type(hands).__name__}; expected 'mediapipe', a file, or HandEstimates")
