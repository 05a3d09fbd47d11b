"""The default backend: BlazePose for the body, the MediaPipe hand landmark net on crops from the wrists.

The nets are described by Bazarevsky et al. (BlazePose, 2020) and Zhang et al. (MediaPipe Hands, 2020): a detector finds
the hip centre and a point that gives body size and tilt; a landmark net works on the rotated square around them and
predicts the next frame's square itself, so the detector runs only when a person is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.detect.base import Detection2D
from egopose.detect.coco_points import coco_shift
from egopose.detect.weights import weight_path
from egopose.errors import import_cv2, require
from egopose.skeleton import BLAZEPOSE33, BODY17, BODY17_HANDS, HAND21

Image = NDArray[np.uint8]
Array = NDArray[np.float64]

_FOUND = 0.5
_SAME_PERSON = 0.4
_TWIN = 0.06


@dataclass(frozen=True)
class Square:
    """A rotated square region: centre and side in pixels, rotation in radians (image axes, clockwise on screen)."""

    u: float
    v: float
    side: float
    angle: float = 0.0

    def to_image(self, points: Array, size: int) -> Array:
        """Points (N, 2) in a ``size`` x ``size`` crop to image pixels."""
        local = (points / size - 0.5) * self.side
        c, s = math.cos(self.angle), math.sin(self.angle)
        return np.stack([self.u + c * local[:, 0] - s * local[:, 1], self.v + s * local[:, 0] + c * local[:, 1]], -1)

    def crop(self, image: Image, size: int) -> NDArray[np.float32]:
        """The region resampled to (size, size, 3) float32 in [0, 1], black outside the image."""
        cv2 = import_cv2()
        source = self.to_image(np.array([[0.0, 0.0], [size, 0.0], [0.0, size]]), size).astype(np.float32)
        matrix = cv2.getAffineTransform(source, np.array([[0, 0], [size, 0], [0, size]], dtype=np.float32))
        shrink = self.side / size
        if shrink > 2:
            # bilinear sampling skips pixels at strong reduction: average first
            k = int(shrink)
            small = cv2.resize(image, None, fx=1 / k, fy=1 / k, interpolation=cv2.INTER_AREA)
            scale = np.array([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]])
            matrix = matrix.copy()
            matrix[:, 2] += matrix[:, :2] @ ((scale - 1) / 2)
            matrix[:, :2] = matrix[:, :2] * scale
            image = small
        return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR).astype(np.float32) / 255.0


class _Net:
    """A .tflite file behind a call: image in, list of outputs."""

    def __init__(self, name: str, threads: int) -> None:
        litert = require("ai_edge_litert.interpreter", "detect")
        self._interpreter = litert.Interpreter(model_path=str(weight_path(name)), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [o["index"] for o in self._interpreter.get_output_details()]

    def __call__(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self._interpreter.set_tensor(self._input, image[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -80.0, 80.0)))


def _anchors() -> Array:
    """Centres of the detector's 2254 anchors in [0, 1]: two per cell at stride 8 and 16, six at stride 32."""
    rows = []
    for stride, repeats in ((8, 2), (16, 2), (32, 6)):
        n = 224 // stride
        centre = (np.arange(n) + 0.5) / n
        v, u = np.meshgrid(centre, centre, indexing="ij")
        rows.append(np.repeat(np.stack([u.ravel(), v.ravel()], -1), repeats, axis=0))
    return np.concatenate(rows)


class BlazePose:
    """Body and hands with the nets that ``egopose weights fetch`` brings.

    Args:
        hands: Also run the hand net on crops from the wrists.
        threads: Threads per net.
        high: The heavy landmark net, the mean over each crop and its mirror image, and joints moved to where COCO's
            annotators click them (:mod:`egopose.detect.coco_points`): several times slower and nearer to the truth.
            ``egopose weights fetch --high`` brings that net.

    Raises:
        MissingExtra: The extra ``[detect]`` is not installed.
        EgoposeError: The weights are not fetched.
    """

    name = "blazepose"
    version = "full-0.10.21/1"
    version_high = "heavy-0.5/2-looks/coco-1"
    skeleton = BODY17_HANDS

    def __init__(self, hands: bool = True, threads: int = 1, high: bool = False) -> None:
        self.hands, self.high = hands, high
        self._mirrors = (False, True) if high else (False,)
        if high:
            self.name, self.version = "blazepose-high", self.version_high
        self._detect = _Net("pose_detection.tflite", threads)
        self._landmarks = _Net(f"pose_landmark_{'heavy' if high else 'full'}.tflite", threads)
        self._hand = _Net("hand_landmark_full.tflite", threads) if hands else None
        self._anchors = _anchors()

    def open(self, people: int = 1) -> BlazePoseTracker:
        """A tracker for one view."""
        return BlazePoseTracker(self, people)

    def find_people(self, image: Image) -> list[tuple[float, Square]]:
        """Every person the detector finds: score and the square for the landmark net, best first."""
        h, w = image.shape[:2]
        whole = Square((w - 1) / 2, (h - 1) / 2, float(max(w, h)))
        boxes, logits = self._detect(whole.crop(image, 224) * 2.0 - 1.0)
        score = _sigmoid(logits[0, :, 0].astype(np.float64))
        keep = np.flatnonzero(score > _FOUND)
        if not keep.size:
            return []
        raw = boxes[0, keep].astype(np.float64) / 224.0
        centre = raw[:, :2] + self._anchors[keep]
        points = raw[:, 4:].reshape(len(keep), -1, 2) + self._anchors[keep][:, None]
        lo, hi = centre - raw[:, 2:4] / 2, centre + raw[:, 2:4] / 2
        found = []
        remaining = list(np.argsort(-score[keep]))
        while remaining:
            # overlapping boxes vote with their scores, which is steadier than the best box alone
            first = remaining[0]
            same = [i for i in remaining if i == first or _overlap(lo[first], hi[first], lo[i], hi[i]) > 0.3]
            remaining = [i for i in remaining if i not in same]
            weight = score[keep][same]
            mean = (points[same] * weight[:, None, None]).sum(0) / weight.sum()
            spot = whole.to_image(mean * 224, 224)
            found.append((float(weight.max()), _body_square(spot[0], spot[1])))
        return found

    def body(self, image: Image, square: Square) -> tuple[float, Array, Array, Square]:
        """The landmark net on one square: presence, (33, 2) pixels, (33,) scores, the next frame's square."""
        crop, n = square.crop(image, 256), len(self._mirrors)
        presence, points, scores = 0.0, np.zeros((39, 2)), np.zeros(33)
        for mirror in self._mirrors:
            out, sure, _, heatmaps, _ = self._landmarks(_mirrored(crop) if mirror else crop)
            values = out.reshape(39, 5).astype(np.float64)
            uv, score = _refine(values[:, :2], heatmaps[0]), _sigmoid(values[:33, 3]) * _sigmoid(values[:33, 4])
            if mirror:
                uv[:, 0] = 256 - uv[:, 0]
                uv[:33], score = uv[BLAZEPOSE33.mirror_index], score[BLAZEPOSE33.mirror_index]
            presence, points, scores = presence + float(np.ravel(sure)[0]) / n, points + uv / n, scores + score / n
        spot = square.to_image(points, 256)
        return presence, spot[:33], scores, _body_square(spot[33], spot[34])

    def hand(self, image: Image, square: Square) -> tuple[float, Array]:
        """The hand net on one square: presence and (21, 2) pixels."""
        assert self._hand is not None
        crop, n = square.crop(image, 224), len(self._mirrors)
        presence, points = 0.0, np.zeros((21, 2))
        for mirror in self._mirrors:
            out, sure, _, _ = self._hand(_mirrored(crop) if mirror else crop)
            uv = out.reshape(21, 3)[:, :2].astype(np.float64)
            if mirror:
                uv[:, 0] = 224 - uv[:, 0]
            presence, points = presence + float(np.ravel(sure)[0]) / n, points + uv / n
        return presence, square.to_image(points, 224)


def _mirrored(crop: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(crop[:, ::-1])


def _overlap(lo_a: Array, hi_a: Array, lo_b: Array, hi_b: Array) -> float:
    inner = np.maximum(np.minimum(hi_a, hi_b) - np.maximum(lo_a, lo_b), 0).prod()
    union = (hi_a - lo_a).prod() + (hi_b - lo_b).prod() - inner
    return float(inner / union) if union > 0 else 0.0


def _body_square(centre: Array, top: Array) -> Square:
    """The square from the hip centre and the point that marks size and the way up."""
    d = top - centre
    return Square(float(centre[0]), float(centre[1]), 2.5 * float(np.hypot(*d)), math.atan2(d[1], d[0]) + math.pi / 2)


def _refine(uv: Array, heatmaps: NDArray[np.float32]) -> Array:
    """Move each landmark to the centre of mass of its heatmap near by, where the map is sure."""
    h, w, _ = heatmaps.shape
    result = uv.copy()
    for j in range(len(uv)):
        u, v = int(uv[j, 0] * w / 256), int(uv[j, 1] * h / 256)
        if not (0 <= u < w and 0 <= v < h):
            continue
        u0, u1, v0, v1 = max(u - 3, 0), min(u + 4, w), max(v - 3, 0), min(v + 4, h)
        patch = _sigmoid(heatmaps[v0:v1, u0:u1, j].astype(np.float64))
        if patch.max() >= 0.5:
            total = patch.sum()
            result[j, 0] = (patch.sum(0) @ np.arange(u0, u1)) / total * 256 / w
            result[j, 1] = (patch.sum(1) @ np.arange(v0, v1)) / total * 256 / h
    return result


def _hand_square_from_body(uv: Array, side: str) -> Square:
    """A first square for the hand from the body's wrist and knuckles."""
    wrist, pinky, index = (uv[BLAZEPOSE33.index(f"{side}_{part}")] for part in ("wrist", "pinky", "index"))
    middle = (2 * index + pinky) / 3
    d = middle - wrist
    length = float(np.hypot(*d)) + 1e-9
    centre = middle + 0.15 * d
    return Square(float(centre[0]), float(centre[1]), 3.2 * length, math.atan2(d[1], d[0]) + math.pi / 2)


def _hand_square_from_hand(uv: Array) -> Square:
    """The square around a hand that is already found: upright along the palm, two times its extent."""
    knuckles = uv[HAND21.indices(["index_1", "middle_1", "ring_1"])]
    wrist = uv[HAND21.index("wrist")]
    d = (knuckles[0] + 2 * knuckles[1] + knuckles[2]) / 4 - wrist
    angle = math.atan2(d[1], d[0]) + math.pi / 2
    c, s = math.cos(angle), math.sin(angle)
    palm = uv[HAND21.indices([j for j in HAND21.joints if not j.endswith(("_3", "_4")) or j.startswith("thumb_3")])]
    local = np.stack([c * palm[:, 0] + s * palm[:, 1], -s * palm[:, 0] + c * palm[:, 1]], -1)
    lo, hi = local.min(0), local.max(0)
    side = float((hi - lo).max())
    mid = (lo + hi) / 2 - [0, 0.1 * side]
    return Square(float(c * mid[0] - s * mid[1]), float(s * mid[0] + c * mid[1]), 2.0 * side, angle)


class BlazePoseTracker:
    """Follows up to ``people`` persons of one view; keeps their order."""

    def __init__(self, nets: BlazePose, people: int) -> None:
        self._nets = nets
        self._squares: list[Square | None] = [None] * people
        self._hands: list[dict[str, Square | None]] = [{"left": None, "right": None} for _ in range(people)]
        self._since_search = 0

    def update(self, image: Image) -> list[Detection2D]:
        """People in the next frame; see :class:`egopose.detect.base.Tracker`."""
        found: list[Detection2D | None] = [
            None if square is None else self._follow(image, i, square) for i, square in enumerate(self._squares)
        ]
        self._drop_twins(found)
        self._since_search += 1
        lost = [i for i, detection in enumerate(found) if detection is None]
        # someone is always looked for; a second person only now and then, the detector costs as much as a body
        if lost and (len(lost) == len(found) or self._since_search >= 10):
            self._since_search = 0
            known = [square for square in self._squares if square is not None]
            for _, square in self._nets.find_people(image):
                if not lost:
                    break
                if any(math.hypot(square.u - k.u, square.v - k.v) < _SAME_PERSON * k.side / 2 for k in known):
                    continue
                i = lost[0]
                # the detector's square is rough: the landmark net's own square is the one to read joints from
                presence, _, _, better = self._nets.body(image, square)
                found[i] = self._follow(image, i, better) if presence >= _FOUND else None
                if found[i] is not None:
                    lost.pop(0)
                    known.append(square)
        return [self._nothing() if detection is None else detection for detection in found]

    def _drop_twins(self, found: list[Detection2D | None]) -> None:
        """Two trackers that ended on one person: the surer one stays."""
        for i in range(len(found)):
            for k in range(i):
                a, b = self._squares[i], self._squares[k]
                one, other = found[i], found[k]
                if a is None or b is None or one is None or other is None:
                    continue
                if math.hypot(a.u - b.u, a.v - b.v) < _TWIN * max(a.side, b.side) and 0.6 < a.side / b.side < 1.6:
                    gone = i if one.person_score <= other.person_score else k
                    found[gone], self._squares[gone] = None, None
                    self._hands[gone] = {"left": None, "right": None}

    def _nothing(self) -> Detection2D:
        n = BODY17_HANDS.n_joints
        return Detection2D(np.full((n, 2), np.nan, np.float32), np.zeros(n, np.float32), 0.0)

    def _follow(self, image: Image, person: int, square: Square) -> Detection2D | None:
        self._squares[person] = None
        if not 8.0 < square.side < 20.0 * max(image.shape):
            return None
        presence, uv, score, following = self._nets.body(image, square)
        if presence < _FOUND:
            self._hands[person] = {"left": None, "right": None}
            return None
        self._squares[person] = following
        full_uv = np.full((BODY17_HANDS.n_joints, 2), np.nan)
        full_score = np.zeros(BODY17_HANDS.n_joints)
        body = BODY17_HANDS.indices(BODY17.joints)
        source = BLAZEPOSE33.map_to(BODY17)
        full_uv[body], full_score[body] = uv[source], score[source]
        if self._nets.high:
            full_uv[body] += coco_shift(uv, score, square.angle)
        if self._nets.hands:
            for side in ("left", "right"):
                hand, sure = self._hand(image, person, side, uv, score)
                if hand is not None:
                    where = BODY17_HANDS.indices([f"{side}_hand_{joint}" for joint in HAND21.joints])
                    full_uv[where], full_score[where] = hand, sure
        h, w = image.shape[:2]
        outside = ~((full_uv >= -0.5) & (full_uv <= [w - 0.5, h - 0.5])).all(-1)
        full_uv[outside], full_score[outside] = np.nan, 0.0
        return Detection2D(full_uv.astype(np.float32), full_score.astype(np.float32), presence)

    def _hand(self, image: Image, person: int, side: str, uv: Array, score: Array) -> tuple[Array | None, float]:
        """One hand: from its last place while it stays at the body's wrist, else from the body."""
        wrist = uv[BLAZEPOSE33.index(f"{side}_wrist")]
        from_body = _hand_square_from_body(uv, side)
        last = self._hands[person][side]
        self._hands[person][side] = None
        candidates = [last] if last is not None else []
        if score[BLAZEPOSE33.index(f"{side}_wrist")] > 0.2:
            candidates.append(from_body)
        for square in candidates:
            if square.side < 8 or math.hypot(square.u - wrist[0], square.v - wrist[1]) > 1.5 * square.side:
                continue
            presence, points = self._nets.hand(image, square)
            if square is from_body and presence > 0.3:
                # the body's crop is rough: look again at the hand's own square
                presence, points = self._nets.hand(image, _hand_square_from_hand(points))
            if presence >= _FOUND:
                self._hands[person][side] = _hand_square_from_hand(points)
                return points, presence
        return None, 0.0
