"""Hands in first-person video: a palm detector finds them, a landmark net follows them, through any lens.

The nets are those of MediaPipe Hands (Zhang et al., 2020), brought by ``egopose weights fetch``. They were trained on
ordinary pictures, so every picture they get is a virtual pinhole view. What they say: 21 joints in the view with
relative depth, presence, and which hand it is. The net's own metric hand is not used: on triangulated real hands its
shape was worse than points and depths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.detect.views import View, search_views
from egopose.skeleton import HAND21

Image = NDArray[np.uint8]
Array = NDArray[np.float64]

PALM_PX, HAND_PX = 192, 224
FOUND, PRESENT = 0.3, 0.5
"""Least score of a palm, least presence of a hand."""

DEPTH_GAIN = 2.6
"""The landmark net's depths are this much too small next to its points: measured against triangulated real hands."""

SAME_HAND = 0.35
"""Two hands whose joints are closer than this, in half sides of their view, are one."""

PLACE = 2.0
"""Log odds that a hand is a right one per unit of its direction to the right."""

_PALM = HAND21.indices([j for j in HAND21.joints if not j.endswith(("_3", "_4")) or j == "thumb_3"])
_WRIST, _MIDDLE = HAND21.index("wrist"), HAND21.index("middle_1")
_ROW = HAND21.indices(["index_1", "middle_1", "ring_1"])


@dataclass(frozen=True, eq=False)
class FoundHand:
    """A hand in one frame, as the landmark net sees it.

    Attributes:
        view: The view it was seen in.
        points: (21, 2) in half sides of the view.
        depth: (21,) relative depth, larger is farther, in half sides.
        presence: In [0, 1].
        right: Probability that it is a right hand, of this frame alone.
        track: Number of the track it belongs to.
    """

    view: View
    points: Array
    depth: Array
    presence: float
    right: float
    track: int = -1

    @property
    def log_odds(self) -> float:
        """Evidence that it is a right hand, of this frame alone."""
        p = float(np.clip(self.right, 0.02, 0.98))
        return math.log(p / (1 - p))

    @property
    def place(self) -> float:
        """Evidence from where it is: a wearer's right hand is mostly to the right."""
        return PLACE * float(self.rays[:, 0].mean())

    @property
    def rays(self) -> Array:
        """(21, 3) unit rays in camera axes."""
        return self.view.rays(self.points)


class Nets(Protocol):
    """The two nets as calls on pictures; see :class:`HandNets`."""

    def palms(self, picture: NDArray[np.float32]) -> list[tuple[float, Array]]: ...

    def hand(self, picture: NDArray[np.float32]) -> tuple[Array, Array, float, float]: ...


def palm_anchors() -> Array:
    """Centres (2016, 2) of the palm detector's anchors in [0, 1]: two per cell at stride 8, six at stride 16."""
    rows = []
    for stride, repeats in ((8, 2), (16, 6)):
        n = PALM_PX // stride
        centre = (np.arange(n) + 0.5) / n
        v, u = np.meshgrid(centre, centre, indexing="ij")
        rows.append(np.repeat(np.stack([u.ravel(), v.ravel()], -1), repeats, axis=0))
    return np.concatenate(rows)


class HandNets:
    """The palm detector and the hand landmark net.

    Raises:
        MissingExtra: The extra ``[detect]`` is not installed.
        EgoposeError: The weights are not fetched.
    """

    def __init__(self, threads: int = 1) -> None:
        from egopose.detect.blazepose import _Net

        self._palm = _Net("palm_detection_full.tflite", threads)
        self._hand = _Net("hand_landmark_full.tflite", threads)
        self._anchors = palm_anchors()

    def palms(self, picture: NDArray[np.float32]) -> list[tuple[float, Array]]:
        """Palms in a (192, 192, 3) picture, best first.

        Returns:
            Score and (9, 2) points in half sides: the box's middle, its half size, then the wrist, four knuckles and
            two thumb joints.
        """
        boxes, logits = self._palm(picture)
        score = 1 / (1 + np.exp(-np.clip(logits[0, :, 0].astype(np.float64), -80, 80)))
        keep = np.flatnonzero(score > FOUND)
        raw = boxes[0, keep].astype(np.float64) / PALM_PX
        shift = self._anchors[keep]
        values = np.concatenate([raw.reshape(len(keep), 9, 2)], axis=1)
        values[:, 0] += shift
        values[:, 2:] += shift[:, None]
        points = np.where(np.arange(9)[:, None] == 1, values, 2 * values - 1)
        found = []
        left = list(np.argsort(-score[keep]))
        while left:
            first = left[0]
            # boxes on one palm vote with their scores: steadier than the best box alone
            same = [i for i in left if i == first or _overlap(points[first], points[i]) > 0.3]
            left = [i for i in left if i not in same]
            weight = score[keep][same]
            mean = (points[same] * weight[:, None, None]).sum(0) / weight.sum()
            found.append((float(weight.max()), mean))
        return found

    def hand(self, picture: NDArray[np.float32]) -> tuple[Array, Array, float, float]:
        """A hand in a (224, 224, 3) picture.

        Returns:
            Joints (21, 2) and relative depths (21,) in half sides, presence, probability of a right hand.
        """
        out, presence, handed, _ = self._hand(picture)
        values = out.reshape(21, 3).astype(np.float64) / (HAND_PX / 2)
        # MediaPipe calls this score "left", for pictures as a mirror shows them; unmirrored it is that of a right hand
        right = float(np.ravel(handed)[0])
        return values[:, :2] - 1, DEPTH_GAIN * values[:, 2], float(np.ravel(presence)[0]), right


def _overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes given by middle and half size."""
    lo, hi = np.maximum(a[0] - a[1], b[0] - b[1]), np.minimum(a[0] + a[1], b[0] + b[1])
    inner = np.maximum(hi - lo, 0).prod()
    union = 4 * (np.abs(a[1]).prod() + np.abs(b[1]).prod()) - inner
    return float(inner / union) if union > 0 else 0.0


def view_of_palm(seen: View, palm: Array) -> View:
    """The view for the landmark net from a palm (9, 2) that was found in another view."""
    rays = seen.rays(palm[[0, 2, 4]])
    middle, wrist, knuckle = rays
    up = knuckle - wrist
    edge = seen.rays(palm[0] + np.array([[palm[1].max(), 0.0]]))[0]
    half = math.tan(math.acos(float(np.clip(middle @ edge, -1, 1))))
    first = View.aimed(middle, up, 1.0)
    # the hand reaches further towards the fingers: half a box up, then wide enough for all of it
    centre = first.rays(np.array([[0.0, -half]]))[0]
    return View.aimed(centre, first.R_camera_view @ np.array([0.0, -1.0, 0.0]), 1 / min(2.6 * half, 2.0))


def view_of_hand(rays: Array) -> View | None:
    """The view for the landmark net from a hand's joints (21, 3) rays: along the palm, twice its extent."""
    middle = rays.mean(axis=0)
    knuckles = rays[_ROW]
    up = (knuckles[0] + 2 * knuckles[1] + knuckles[2]) / 4 - rays[_WRIST]
    first = View.aimed(middle, up, 1.0)
    flat = first.points(rays[_PALM])
    if not np.isfinite(flat).all():
        return None
    lo, hi = flat.min(axis=0), flat.max(axis=0)
    half = float((hi - lo).max())
    if not 1e-3 < half < 1.5:
        return None
    centre = (lo + hi) / 2 - np.array([0.0, 0.1 * half])
    ray = first.rays(centre[None])[0]
    return View.aimed(ray, first.R_camera_view @ np.array([0.0, -1.0, 0.0]), 1 / half)


@dataclass
class _Track:
    number: int
    rays: Array
    evidence: float = 0.0
    """Sum of log odds that it is a right hand; old frames fade."""
    age: int = 0


@dataclass
class HandTracker:
    """Follows up to two hands through a clip; frames come in order.

    Attributes:
        nets: The nets.
        camera: The lens.
        search_every: Frames between searches while one hand is followed; with none, every second frame is searched.
    """

    nets: Nets
    camera: Camera
    search_every: int = 4
    _tracks: list[_Track] = field(default_factory=list)
    _pose: Array | None = None
    _count: int = 0
    _turn: int = 0
    _born: int = -1

    def __post_init__(self) -> None:
        self._views = search_views(self.camera)

    def update(self, frame: Image, T_world_camera: Array | None = None) -> dict[str, FoundHand]:
        """Hands of the next frame by side.

        Args:
            frame: (H, W, 3) uint8 RGB of the camera's size.
            T_world_camera: (4, 4) head pose when it is known: a hand is then looked for where it stays as the head
                turns.

        Returns:
            "left" and "right" where such a hand is seen.
        """
        turn = None
        if self._pose is not None and T_world_camera is not None:
            turn = T_world_camera[:3, :3].T @ self._pose[:3, :3]
        self._pose = T_world_camera
        kept: list[tuple[_Track, FoundHand]] = []
        for track in self._tracks:
            view = view_of_hand(track.rays if turn is None else track.rays @ turn.T)
            found = None if view is None else self._look(frame, view)
            if found is not None:
                self._keep(kept, track, found)
        period = self.search_every if kept else 2
        if len(kept) < 2 and self._count % period == 0:
            self._search(frame, kept)
        self._count += 1
        self._tracks = [track for track, _ in kept]
        return self._sides(kept)

    def _look(self, frame: Image, view: View) -> FoundHand | None:
        points, depth, presence, right = self.nets.hand(view.image(frame, self.camera, HAND_PX))
        if presence < PRESENT:
            return None
        return FoundHand(view, points, depth, presence, right)

    def _keep(self, kept: list[tuple[_Track, FoundHand]], track: _Track, found: FoundHand) -> None:
        for i, (other, hand) in enumerate(kept):
            apart = found.view.points(hand.rays) - found.points
            if np.nanmean(np.linalg.norm(apart, axis=1)) < SAME_HAND:
                if track.age > other.age:
                    kept.pop(i)
                    break
                return
        track.rays, track.age = found.rays, track.age + 1
        # a track may jump from one hand to the other
        track.evidence = 0.95 * track.evidence + found.log_odds
        kept.append((track, replace(found, track=track.number)))

    def _search(self, frame: Image, kept: list[tuple[_Track, FoundHand]]) -> None:
        views = [self._views[0], self._views[1 + self._turn % (len(self._views) - 1)]]
        self._turn += 1
        for view in views:
            for _, palm in self.nets.palms(view.image(frame, self.camera, PALM_PX)):
                if len(kept) == 2:
                    return
                target = view_of_palm(view, palm)
                if any(self._covers(hand, target) for _, hand in kept):
                    continue
                rough = self._look(frame, target)
                if rough is None:
                    continue
                # the palm's view is rough: look again from the hand's own
                better = view_of_hand(rough.rays)
                found = None if better is None else self._look(frame, better)
                if found is not None:
                    self._born += 1
                    self._keep(kept, _Track(self._born, found.rays), found)

    @staticmethod
    def _covers(hand: FoundHand, target: View) -> bool:
        at = hand.view.points(target.R_camera_view[None, :, 2])[0]
        return bool(np.isfinite(at).all() and np.linalg.norm(at) < 0.5)

    @staticmethod
    def _sides(kept: list[tuple[_Track, FoundHand]]) -> dict[str, FoundHand]:
        return name_sides([(hand, track.evidence + hand.place) for track, hand in kept])


def name_sides(hands: list[tuple[FoundHand, float]]) -> dict[str, FoundHand]:
    """Up to two hands of one frame by side, given the evidence for each that it is a right one."""
    if len(hands) < 2:
        return {"right" if evidence > 0 else "left": hand for hand, evidence in hands}
    # two hands of one person are a left and a right one: the more likely assignment
    (first, a), (second, b) = hands
    return {"right": first, "left": second} if a >= b else {"right": second, "left": first}


def settle_sides(frames: Sequence[Mapping[str, FoundHand]]) -> list[dict[str, FoundHand]]:
    """Sides named again with all frames of each track: its first frames know little."""
    total: dict[int, float] = {}
    for found in frames:
        for hand in found.values():
            total[hand.track] = total.get(hand.track, 0.0) + hand.log_odds + hand.place
    return [name_sides([(hand, total[hand.track]) for hand in found.values()]) for found in frames]
