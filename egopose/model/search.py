"""Where the hands are in a stretch of frames, decided together: the offline run sees what comes after.

The hand finder names places where a hand may be, a look at each says whether it is, and the track of each hand that
explains the stretch best decides (Viterbi, 1967). Where the track is lost it is continued from its neighbours on both
sides. The hands are then looked at anew where they were seen until a look meets its hand; what these looks still take
for a hand is looked at several times, aimed slightly beside it and closer up, and what the looks say is averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.model.headmotion import HeadMotion
from egopose.model.imu import IMU_FEATURES
from egopose.model.numeric import FrameArrays, StepArrays, concatenate, take
from egopose.model.track import FrameReader, cut_crops, heat_peaks, see_frames, seen_centres

if TYPE_CHECKING:
    from egopose.model.engine import Engine
    from egopose.model.session import StepInput

Array = NDArray[np.float64]

MOST, LEAST = 3, 0.1
"""Places of the hand finder that are looked at for each hand, and the least probability of one."""

FINDER, CROP, PRIOR = 1.5, 0.45, 1.0
"""Score of a place from the log-odds of finder and crop: a logistic regression on clips trained on, which has -0.5
where this has 1: a hand that is missed costs more than a look at none."""

CERTAIN = 1e3
"""Score of a hand that something else has found."""

STILL_M, SPEED_M_S = 0.05, 2.0
"""How far a hand seems to move between frames, without and with time."""

JUMP, APPEAR = 8.0, 0.5
"""Most that a jump of a hand costs, and what it costs to appear or to go, in log-odds."""

FILLS = 4
"""How often a lost track is continued by one frame on either side."""

REAIMS, SETTLED_M = 6, 0.01
"""Most looks that follow a hand to where it was seen before the last ones, and how close to its aim a hand is seen that
needs none: near hands are at first taken for distant ones."""

SURE, FLICKER = 1.0, 3.0
"""Log-odds of the look that meets a hand below which it rather is none, and what it costs such a track to begin or to
end: a table or a foot that the finder takes for a hand does not look like one from near."""

AIMS = ((0.0, 0.0, 1.0), (0.01, 0.006, 1.2), (-0.01, -0.006, 1.45))
"""Aims of the last looks: right and down in metres, and factor of the distance. Crops sized for one further away show a
hand larger, if not always all of it; they are read as well as others, and err otherwise."""


@dataclass(frozen=True)
class Place:
    """Where a hand may be in a frame.

    Attributes:
        score: Log-odds that it is there, of what finder and crop say together.
        aim: (3,) where the look was aimed, camera axes.
        seen: (3,) where the look shows the hand, camera axes.
        logit: Log-odds of the look alone.
    """

    score: float
    aim: Array
    seen: Array
    logit: float


Look = tuple[int, list[Array | None]]
"""Number of a frame in its stretch, and where its left and right crop are aimed, camera axes."""


@dataclass(frozen=True)
class Moment:
    """What is known of a frame: time, head pose or None, and where each hand may be."""

    time_s: float
    T_world_camera: Array | None
    places: tuple[list[Place], list[Place]]

    def seen_from(self, other: Moment, hand: int) -> Array:
        """This frame's places (n, 3) of a hand in the other frame's camera axes, as if they rested in the world."""
        points = np.array([place.seen for place in self.places[hand]]).reshape(-1, 3)
        if self.T_world_camera is None or other.T_world_camera is None:
            return points
        return rigid.transform_points(rigid.invert(other.T_world_camera) @ self.T_world_camera, points)


def _scores(moment: Moment, hand: int) -> Array:
    """(n + 1,) of all places of a hand; that a crop shows the other hand is in its score."""
    return np.array([0.0, *(place.score for place in moment.places[hand])])


def _passage(before: Moment, after: Moment, hand: int, appear: float) -> Array:
    """(n + 1, m + 1) cost of passing from each place of a hand to each of the next frame."""
    old = before.seen_from(after, hand)
    new = np.array([place.seen for place in after.places[hand]]).reshape(-1, 3)
    cost = np.full((len(old) + 1, len(new) + 1), appear)
    cost[0, 0] = 0.0
    far = np.linalg.norm(old[:, None] - new[None], axis=-1)
    far = far / (STILL_M + SPEED_M_S * abs(after.time_s - before.time_s))
    cost[1:, 1:] = np.minimum(far**2, JUMP)
    return cost


def best_track(moments: Sequence[Moment], hand: int, appear: float = APPEAR) -> list[int]:
    """The places of a hand that explain a stretch of frames best, as numbers in each frame's list from 1; 0 is nowhere.

    The two hands do not look at each other: where they cross, one may well be before the other.
    """
    if not moments:
        return []
    total = _scores(moments[0], hand)
    came: list[NDArray[np.int64]] = []
    for old, new in zip(moments[:-1], moments[1:], strict=True):
        whole = total[:, None] - _passage(old, new, hand, appear)
        came.append(whole.argmax(axis=0))
        total = whole.max(axis=0) + _scores(new, hand)
    track = [int(total.argmax())]
    for step in came[::-1]:
        track.append(int(step[track[-1]]))
    return track[::-1]


class HandSearch:
    """Encodes stretches of frames one after another."""

    def __init__(self, engine: Engine, reader: FrameReader) -> None:
        """Start without a track."""
        self.engine, self.reader = engine, reader
        self._before: Moment | None = None

    def encode(self, steps: Sequence[StepInput], motion: HeadMotion) -> StepArrays:
        """All of a stretch of frames before time enters.

        Args:
            steps: The frames; what each ``hand_centres`` names is certain.
            motion: Head-motion features of these frames.
        """
        stretch = _Stretch(self.engine, self.reader, steps, motion)
        moments = [
            Moment(step.time_s, step.T_world_camera, places)
            for step, places in zip(steps, stretch.places(), strict=True)
        ]
        # the frame before these, in which all is decided
        frames = moments if self._before is None else [self._before, *moments]
        tracks = [best_track(frames, hand) for hand in range(2)]
        for _ in range(FILLS):
            rows = self._continued(stretch, frames, tracks)
            if not rows:
                break
            for (i, aims), shown in zip(rows, stretch.look(rows), strict=True):
                for hand, aim in enumerate(aims):
                    if aim is not None:
                        logit, seen = shown[hand]
                        moments[i].places[hand].append(Place(CROP * logit, aim, seen, logit))
            tracks = [best_track(frames, hand) for hand in range(2)]
        chosen = [_chosen(moment, pair) for moment, *pair in zip(frames, *tracks, strict=True)][-len(steps) :]
        for _ in range(REAIMS):
            before, chosen = chosen, stretch.again(chosen)
            if chosen is before:
                break
        chosen = self._kept(steps, chosen)
        left, right = ([] if place is None else [replace(place, score=CERTAIN)] for place in chosen[-1])
        self._before = Moment(steps[-1].time_s, steps[-1].T_world_camera, (left, right))
        return stretch.final(chosen)

    def _kept(self, steps: Sequence[StepInput], chosen: Sequence[list[Place | None]]) -> list[list[Place | None]]:
        """The places that still look like hands, track by track."""
        moments = []
        for step, places in zip(steps, chosen, strict=True):
            left, right = (
                [] if place is None
                else [place if place.score >= CERTAIN else replace(place, score=place.logit - SURE)]
                for place in places
            )  # fmt: skip
            moments.append(Moment(step.time_s, step.T_world_camera, (left, right)))
        frames = moments if self._before is None else [self._before, *moments]
        tracks = [best_track(frames, hand, FLICKER)[-len(moments) :] for hand in range(2)]
        return [
            [place if at else None for place, at in zip(places, pair, strict=True)]
            for places, *pair in zip(chosen, *tracks, strict=True)
        ]

    def _continued(self, stretch: _Stretch, frames: Sequence[Moment], tracks: Sequence[Sequence[int]]) -> list[Look]:
        """Steps in which a hand is lost that a frame beside has, and where it would be if it had rested."""
        rows = []
        first = len(frames) - len(stretch.steps)
        for i, step in enumerate(stretch.steps):
            aims: list[Array | None] = [None, None]
            for hand in range(2):
                mine = frames[first + i].places[hand]
                if step.frame is None or tracks[hand][first + i] or any(place.score >= CERTAIN for place in mine):
                    continue
                for j in (first + i - 1, first + i + 1):
                    if 0 <= j < len(frames) and tracks[hand][j]:
                        aim = frames[j].seen_from(frames[first + i], hand)[tracks[hand][j] - 1]
                        new = all(np.linalg.norm(aim - place.aim) > STILL_M for place in mine)
                        if new and self.reader.in_reach(aim):
                            aims[hand] = aim
                            break
            if any(aim is not None for aim in aims):
                rows.append((i, aims))
        return rows


def _log_odds(probability: float) -> float:
    p = min(max(probability, 1e-6), 1 - 1e-6)
    return float(np.log(p / (1 - p)))


def _chosen(moment: Moment, pair: Sequence[int]) -> list[Place | None]:
    return [places[at - 1] if at else None for places, at in zip(moment.places, pair, strict=True)]


class _Stretch:
    """A stretch of frames with its images encoded, to look at again and again."""

    def __init__(self, engine: Engine, reader: FrameReader, steps: Sequence[StepInput], motion: HeadMotion) -> None:
        self.engine, self.reader, self.steps = engine, reader, steps
        imu = [np.zeros(IMU_FEATURES, np.float32) if step.imu is None else step.imu for step in steps]
        tokens, self.maps = see_frames(engine, reader, [step.frame for step in steps])
        self.arrays = FrameArrays(
            head=motion.features, head_known=motion.known, imu=np.stack(imu).astype(np.float32),
            imu_known=np.array([step.imu is not None for step in steps]), image_tokens=tokens,
            image_known=np.array([step.frame is not None for step in steps]),
        )  # fmt: skip

    def places(self) -> list[tuple[list[Place], list[Place]]]:
        """What the finder names in each frame, after a look at it."""
        named: list[list[list[tuple[float, Array]]]] = []
        for step, heat in zip(self.steps, self.maps, strict=True):
            if heat is None:
                named.append([[], []])
                continue
            found = heat_peaks(heat, self.reader.camera, self.reader.fit, most=MOST)
            hands = []
            for hand, given in enumerate(step.hand_centres):
                if given is not None:
                    hands.append([(CERTAIN, given)] if self.reader.in_reach(given) else [])
                else:
                    hands.append([
                        (FINDER * _log_odds(p) + PRIOR, place)
                        for p, place in found[hand] if p >= LEAST and self.reader.in_reach(place)
                    ])  # fmt: skip
            named.append(hands)
        rows: list[Look] = []
        for i, hands in enumerate(named):
            for k in range(max(len(hand) for hand in hands)):
                rows.append((i, [hand[k][1] if k < len(hand) else None for hand in hands]))
        out: list[tuple[list[Place], list[Place]]] = [([], []) for _ in self.steps]
        for (i, aims), shown in zip(rows, self.look(rows), strict=True):
            for hand, aim in enumerate(aims):
                if aim is not None:
                    score = named[i][hand][len(out[i][hand])][0]
                    logit, seen = shown[hand]
                    certain = score >= CERTAIN
                    said = score + (0 if certain else CROP * logit)
                    out[i][hand].append(Place(said, aim, aim if certain else seen, logit))
        return out

    def look(self, rows: Sequence[Look]) -> list[list[tuple[float, Array]]]:
        """For each row (frame, aims of both hands): log-odds that it shows the hand and where, for each hand."""
        if not rows:
            return []
        encoded = self._encode(rows)
        assert encoded.hand_logit is not None
        centres = seen_centres(encoded)
        return [[(float(encoded.hand_logit[k, hand]), centres[k, hand]) for hand in range(2)] for k in range(len(rows))]

    def _encode(self, rows: Sequence[Look]) -> StepArrays:
        at = [i for i, _ in rows]
        config, blank = self.engine.config, np.zeros((1, 1, 3), np.uint8)
        crops = []
        for i, aims in rows:
            frame = self.steps[i].frame
            crops.append(
                cut_crops(
                    blank if frame is None else frame, self.reader.camera, aims, config.hand_px, self.reader.hand_cells
                )[1]
            )
        hands = {name: np.stack([getattr(crop, name) for crop in crops]) for name in vars(crops[0])}
        sensors: dict[str, Any] = {k: v[at] for k, v in self.arrays._asdict().items() if v is not None}
        return self.engine.encode(FrameArrays(**{**sensors, **hands}))

    def again(self, chosen: list[list[Place | None]]) -> list[list[Place | None]]:
        """The places with what another look, aimed where the last one saw each hand, shows.

        Frames whose hands were seen where they were looked for are left as they are; the same list comes back when
        all were.
        """
        rows: list[Look] = []
        for i, places in enumerate(chosen):
            aims = [self._aim(place, np.zeros(3), 1.0) for place in places]
            if any(_apart(aim, place) > SETTLED_M for aim, place in zip(aims, places, strict=True)):
                rows.append((i, aims))
        if not rows:
            return chosen
        out = [list(places) for places in chosen]
        for (i, aims), shown in zip(rows, self.look(rows), strict=True):
            for hand, aim in enumerate(aims):
                place = chosen[i][hand]
                if place is not None and aim is not None and place.score < CERTAIN:
                    logit, seen = shown[hand]
                    out[i][hand] = replace(place, aim=aim, seen=seen, logit=logit)
        return out

    def final(self, chosen: Sequence[list[Place | None]]) -> StepArrays:
        """Last looks at the hands where they were seen, averaged."""
        rows: list[Look] = []
        looks = []
        for i, places in enumerate(chosen):
            first = len(rows)
            for right, down, factor in AIMS if any(places) else AIMS[:1]:
                rows.append((i, [self._aim(place, np.array([right, down, 0.0]), factor) for place in places]))
            looks.append(slice(first, len(rows)))
        encoded = self._encode(rows)
        return concatenate([_mean(take(encoded, at)) for at in looks])

    def _aim(self, place: Place | None, shift: Array, factor: float) -> Array | None:
        if place is None:
            return None
        if place.score >= CERTAIN:
            return place.aim
        aim = (place.seen + shift) * factor
        if self.reader.in_reach(aim):
            return aim
        return place.seen if self.reader.in_reach(place.seen) else place.aim


def _apart(aim: Array | None, place: Place | None) -> float:
    """From where a hand was looked for to where it would be next."""
    return 0.0 if aim is None or place is None else float(np.linalg.norm(aim - place.aim))


def _mean(record: StepArrays) -> StepArrays:
    """One step of several readings of the same frame."""
    parts: list[Any] = [
        value if value is None else value[:1] if value.dtype == bool
        else value.mean(axis=0, keepdims=True, dtype=np.float64).astype(value.dtype) for value in record
    ]  # fmt: skip
    return StepArrays(*parts)
