"""The search for hands over a stretch of frames: the best track is the best of all, and looks end where hands are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from egopose import rigid
from egopose.camera import Camera
from egopose.model.config import ModelConfig
from egopose.model.headmotion import HEAD_FEATURES, HeadMotion
from egopose.model.numeric import FrameArrays, StepArrays
from egopose.model.rays import Fit
from egopose.model.search import (
    AIMS,
    APPEAR,
    CROP,
    FINDER,
    FLICKER,
    JUMP,
    PRIOR,
    REAIMS,
    SETTLED_M,
    SPEED_M_S,
    STILL_M,
    SURE,
    HandSearch,
    Moment,
    Place,
    best_track,
)
from egopose.model.session import StepInput
from egopose.model.track import DISTANCE_UNIT_M, FrameReader

CAMERA = Camera.pinhole(100.0, None, (128, 128))
CONFIG = ModelConfig(image_px=64, hand_px=32)
FRAME = np.zeros((128, 128, 3), np.uint8)


def place(score: float, *where: float) -> Place:
    return Place(score, np.array(where), np.array(where), 0.0)


def plain_score(moments: Sequence[Moment], hand: int, track: Sequence[int]) -> float:
    """What a track is worth, place by place."""
    total = sum(moment.places[hand][at - 1].score for moment, at in zip(moments, track, strict=True) if at)
    for i in range(1, len(moments)):
        a, b = track[i - 1], track[i]
        if bool(a) != bool(b):
            total -= APPEAR
        elif a and b:
            old, new = moments[i - 1], moments[i]
            was, now = old.places[hand][a - 1].seen, new.places[hand][b - 1].seen
            if old.T_world_camera is not None and new.T_world_camera is not None:
                was = rigid.transform_points(old.T_world_camera, was)
                now = rigid.transform_points(new.T_world_camera, now)
            far = float(np.linalg.norm(was - now)) / (STILL_M + SPEED_M_S * (new.time_s - old.time_s))
            total -= min(far**2, JUMP)
    return total


@pytest.mark.parametrize("seed", range(12))
def test_the_track_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    moments = []
    for i in range(5):
        turn = rigid.make_transform(
            rigid.rotation_from_vector(0.3 * rng.standard_normal(3)), 0.1 * rng.standard_normal(3)
        )
        sides = tuple(
            [place(4 * rng.standard_normal(), *(0.15 * rng.standard_normal(3))) for _ in range(rng.integers(0, 4))]
            for _ in range(2)
        )
        moments.append(Moment(i / 30, None if seed % 3 == 0 and i == 1 else turn, sides))  # type: ignore[arg-type]
    for hand in range(2):
        found = best_track(moments, hand)
        every = product(*(range(len(m.places[hand]) + 1) for m in moments))
        best = max(plain_score(moments, hand, track) for track in every)
        assert plain_score(moments, hand, found) == pytest.approx(best, abs=1e-9)


def test_no_frames_no_track() -> None:
    assert best_track([], 0) == []


class Shown:
    """An engine for which hands are where ``hands`` says, and shown by crops that :func:`shows` them."""

    def __init__(self, hands: Sequence[Sequence[np.ndarray | None]], named: Sequence[dict[int, list]]) -> None:  # type: ignore[type-arg]
        """Hands of each frame, and the places and logits that the finder names there."""
        self.config, self.hands, self.named = CONFIG, hands, named
        self.aims: list[tuple[int, int, np.ndarray]] = []

    def see(self, image: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fit, side = Fit(CAMERA.size, CONFIG.image_px), CONFIG.image_px // CONFIG.fine_stride
        heat = np.full((len(image), 2, 4, side, side), -9.0, dtype=np.float32)
        for i, sides in enumerate(self.named):
            for hand, places in sides.items():
                for logit, at in places:
                    uv = fit.to_square(CAMERA.project(at[None], frame="camera"))[0]
                    cell = (uv + 0.5) * side / fit.side - 0.5
                    row, column = round(float(cell[1])), round(float(cell[0]))
                    distance = np.log(np.linalg.norm(at) / DISTANCE_UNIT_M)
                    heat[i, hand, :, row, column] = logit, cell[0] - column, cell[1] - row, distance
        return np.zeros((len(image), 4, CONFIG.dim), np.float32), heat

    def encode(self, frame: FrameArrays) -> StepArrays:
        n = len(frame.head)
        wrist, logit = np.zeros((n, 2, 3), np.float32), np.full((n, 2), -5.0, np.float32)
        assert frame.hand_axes is not None
        assert frame.hand_distance is not None
        assert frame.hand_known is not None
        for k in range(n):
            i = int(frame.head[k, 0])
            for hand in range(2):
                aim = frame.hand_axes[k, hand, :, 2].astype(float) * float(frame.hand_distance[k, hand])
                there = self.hands[i][hand]
                wrist[k, hand] = aim
                if frame.hand_known[k, hand]:
                    self.aims.append((i, hand, aim))
                    if there is not None and shows(aim, there):
                        wrist[k, hand], logit[k, hand] = there, 5.0
        return StepArrays(
            token=frame.head[:, :4], up=np.zeros((n, 3), np.float32), up_known=frame.head_known,
            height=np.zeros(n, np.float32), hand_query=np.zeros((n, 2, 4), np.float32), hand_wrist=wrist,
            hand_offsets=np.zeros((n, 2, 20, 3), np.float32), hand_logit=logit, hand_known=frame.hand_known,
        )  # fmt: skip


FURTHER = float(np.mean([factor for _, _, factor in AIMS]))
"""How much further than the hand the last looks are aimed."""


def shows(aim: np.ndarray, there: np.ndarray) -> bool:
    """Whether a crop that is aimed somewhere has a hand in it, neither too small nor cut off."""
    ratio = np.linalg.norm(aim) / np.linalg.norm(there)
    return bool(0.75 < ratio < 1.6 and np.linalg.norm(aim / ratio - there) < 0.12)


LEFT, RIGHT = np.array([-0.12, 0.05, 0.4]), np.array([0.14, 0.0, 0.45])


def search(
    engine: Shown, n: int, *, whole: HandSearch | None = None, start: int = 0, **given: np.ndarray
) -> StepArrays:  # fmt: skip
    """A stretch of n frames, 30 a second, from frame ``start`` on; ``given`` hands are known in all of them."""
    whole = whole or HandSearch(engine, FrameReader(CAMERA, CONFIG))  # type: ignore[arg-type]
    steps = [
        StepInput((start + i) / 30, FRAME, np.eye(4), hand_centres=(given.get("left"), given.get("right")))
        for i in range(n)
    ]
    head = np.zeros((n, HEAD_FEATURES), np.float32)
    head[:, 0] = np.arange(n)
    return whole.encode(steps, HeadMotion(head, np.ones(n, bool)))


def last_aims(engine: Shown, frame: int, hand: int) -> np.ndarray:
    return np.array([aim for i, h, aim in engine.aims if (i, h) == (frame, hand)][-3:])


def test_a_hand_is_found_where_the_finder_is_less_sure() -> None:
    wrong = np.array([0.1, -0.2, 0.5])
    engine = Shown([[LEFT, RIGHT]] * 3, [{0: [(1.0, LEFT)], 1: [(2.0, wrong), (0.0, RIGHT)]}] * 3)
    step = search(engine, 3)
    np.testing.assert_allclose(step.hand_wrist, np.tile([LEFT, RIGHT], (3, 1, 1)), atol=1e-5)
    assert step.hand_known is not None
    assert step.hand_known.all()
    # looked at from several sides, two centimetres off at most, as if it were ever further away
    aims = last_aims(engine, 1, 1)
    further = np.linalg.norm(aims, axis=1) / np.linalg.norm(RIGHT)
    far = np.linalg.norm(aims / further[:, None] - RIGHT, axis=1)
    assert far.min() < 1e-5
    assert 0.005 < far.max() < 0.02
    assert further[0] == pytest.approx(1, abs=1e-4)
    assert (np.diff(further) > 0.1).all()
    np.testing.assert_allclose((aims / further[:, None]).mean(axis=0), RIGHT, atol=2e-3)


def test_hands_that_touch_are_both_kept() -> None:
    beside = LEFT + np.array([0.03, 0.0, 0.02])
    engine = Shown([[LEFT, beside]] * 2, [{0: [(1.0, LEFT)], 1: [(1.0, beside)]}] * 2)
    step = search(engine, 2)
    assert step.hand_known is not None
    assert step.hand_known.all()
    np.testing.assert_allclose(step.hand_wrist, np.tile([LEFT, beside], (2, 1, 1)), atol=1e-5)


class Nearing(Shown):
    """Each look sees a hand halfway between where it is looked for and where it is."""

    def encode(self, frame: FrameArrays) -> StepArrays:
        step = super().encode(frame)
        aims = frame.hand_axes[..., 2] * frame.hand_distance[..., None]  # type: ignore[index]
        for k in range(len(frame.head)):
            there = self.hands[int(frame.head[k, 0])][0]
            step.hand_wrist[k, 0] = (aims[k, 0] + there) / 2  # type: ignore[index]
            step.hand_logit[k, 0] = 5.0  # type: ignore[index]
        return step


def test_a_hand_taken_for_a_distant_one_is_followed_until_it_is_where_it_is_looked_for() -> None:
    engine = Nearing([[LEFT, None]], [{0: [(2.0, 1.8 * LEFT)]}])
    step = search(engine, 1)
    looks = np.array([aim for _, hand, aim in engine.aims if hand == 0])
    far = np.linalg.norm(looks - LEFT, axis=1)
    # looked at once where it was named, then half as far off each time until the last step is under a centimetre
    followed = len(looks) - 3
    start = np.linalg.norm(0.8 * LEFT)
    np.testing.assert_allclose(far[:followed], start / 2.0 ** np.arange(followed), rtol=1e-4)
    assert far[followed - 1] / 2 <= SETTLED_M < far[followed - 2] / 2
    assert followed - 1 < REAIMS
    assert step.hand_wrist is not None
    # each last look sees it halfway to its own aim
    np.testing.assert_allclose(step.hand_wrist[0, 0], LEFT * (1 + FURTHER) / 2, atol=0.01)


def test_a_hand_seen_where_it_is_looked_for_is_looked_at_no_more_than_needed() -> None:
    engine = Shown([[LEFT, None]], [{0: [(2.0, LEFT)]}])
    search(engine, 1)
    # one look that finds it, three last ones
    assert len(engine.aims) == 4


def test_a_finder_beyond_all_numbers_breaks_nothing() -> None:
    engine = Shown([[LEFT, None]] * 2, [{0: [(90.0, LEFT)], 1: [(-90.0, RIGHT)]}] * 2)
    step = search(engine, 2)
    assert step.hand_known is not None
    assert step.hand_known.tolist() == [[True, False]] * 2
    np.testing.assert_allclose(step.hand_wrist[:, 0], [LEFT, LEFT], atol=1e-5)


def test_a_place_that_shows_no_hand_is_given_up() -> None:
    engine = Shown([[LEFT, None]] * 2, [{0: [(1.0, LEFT)], 1: [(0.5, RIGHT)]}] * 2)
    step = search(engine, 2)
    assert step.hand_known is not None
    assert step.hand_known.tolist() == [[True, False]] * 2


def test_what_the_finder_is_sure_of_is_given_up_where_looks_show_no_hand() -> None:
    # a table's edge: places that score well by the finder alone
    sure = 3.0
    assert FINDER * sure + PRIOR - CROP * 5.0 > 1.0
    engine = Shown([[None, RIGHT]] * 4, [{0: [(sure, LEFT)], 1: [(sure, RIGHT)]}] * 4)
    step = search(engine, 4)
    assert step.hand_known is not None
    assert step.hand_known.tolist() == [[False, True]] * 4


class Blinking(Shown):
    """The look at the left hand of frame 2 is less sure."""

    doubt = -0.5

    def encode(self, frame: FrameArrays) -> StepArrays:
        step = super().encode(frame)
        assert step.hand_logit is not None
        step.hand_logit[frame.head[:, 0] == 2, 0] = self.doubt
        return step


def test_a_track_is_kept_or_given_up_as_a_whole() -> None:
    engine = Blinking([[LEFT, None]] * 5, [{0: [(3.0, LEFT)]}] * 5)
    step = search(engine, 5)
    assert step.hand_known is not None
    assert step.hand_known[:, 0].all()
    # a look that is sure of the contrary costs more than a track that ends and begins again
    engine.doubt = SURE - 2 * FLICKER - 0.1
    step = search(engine, 5)
    assert step.hand_known is not None
    assert step.hand_known[:, 0].tolist() == [True, True, False, True, True]


def test_a_lost_hand_is_continued_from_its_neighbours() -> None:
    named = [{0: [(1.0, LEFT)]}, {}, {}, {0: [(1.0, LEFT)]}, {}]
    hands = [[LEFT, None]] * 4 + [[None, None]]
    engine = Shown(hands, named)
    step = search(engine, 5)
    assert step.hand_known is not None
    assert step.hand_known[:, 0].tolist() == [True, True, True, True, False]
    assert not step.hand_known[:, 1].any()


def test_a_hand_is_continued_from_the_stretch_before() -> None:
    engine = Shown([[LEFT, None]] * 2, [{0: [(1.0, LEFT)]}, {0: [(1.0, LEFT)]}])
    whole = HandSearch(engine, FrameReader(CAMERA, CONFIG))  # type: ignore[arg-type]
    known = []
    for start in (0, 2):
        step = search(engine, 2, whole=whole, start=start)
        assert step.hand_known is not None
        known.append(step.hand_known[:, 0].tolist())
        engine.named = [{}, {}]
    assert known == [[True, True], [True, True]]


def test_a_hand_that_something_else_found_stays_there() -> None:
    there = np.array([0.0, 0.1, 0.6])
    engine = Shown([[None, None]] * 2, [{0: [(3.0, LEFT)]}] * 2)
    step = search(engine, 2, left=there)
    assert step.hand_known is not None
    assert step.hand_known[:, 0].all()
    np.testing.assert_allclose(last_aims(engine, 0, 0), np.tile(there, (3, 1)), atol=1e-5)


def test_a_frame_without_an_image_has_no_hands() -> None:
    engine = Shown([[LEFT, RIGHT]] * 2, [])
    whole = HandSearch(engine, FrameReader(CAMERA, CONFIG))  # type: ignore[arg-type]
    step = whole.encode(
        [StepInput(0.0, None), StepInput(0.1, None)],
        HeadMotion(np.zeros((2, HEAD_FEATURES), np.float32), np.zeros(2, bool)),
    )
    assert step.hand_known is not None
    assert not step.hand_known.any()
    assert len(step.token) == 2


def test_the_track_goes_on_from_stretch_to_stretch() -> None:
    wrong = np.array([-0.3, -0.2, 0.5])
    # in the second stretch both places are alike but for where the hand was
    engine = Shown([[LEFT, None]], [{0: [(1.0, LEFT)]}])
    other = Shown([[LEFT, None]], [{0: [(1.5, wrong), (1.0, LEFT)]}])
    other.encode = engine.encode = lambda frame: everywhere(frame)  # type: ignore[method-assign]
    reader = FrameReader(CAMERA, CONFIG)
    whole = HandSearch(engine, reader)  # type: ignore[arg-type]
    search(engine, 1, whole=whole)
    whole.engine = other  # type: ignore[assignment]
    after, alone = search(other, 1, whole=whole, start=1), search(other, 1, start=1)
    assert after.hand_wrist is not None
    assert alone.hand_wrist is not None
    np.testing.assert_allclose(after.hand_wrist[0, 0] / FURTHER, LEFT, atol=0.03)
    np.testing.assert_allclose(alone.hand_wrist[0, 0] / FURTHER, wrong, atol=0.03)


def everywhere(frame: FrameArrays) -> StepArrays:
    """Every crop shows a hand in its middle."""
    n = len(frame.head)
    assert frame.hand_axes is not None
    assert frame.hand_distance is not None
    return StepArrays(
        token=frame.head[:, :4], up=np.zeros((n, 3), np.float32), up_known=frame.head_known,
        height=np.zeros(n, np.float32), hand_query=np.zeros((n, 2, 4), np.float32),
        hand_wrist=frame.hand_axes[..., 2] * frame.hand_distance[..., None],
        hand_offsets=np.zeros((n, 2, 20, 3), np.float32), hand_logit=np.full((n, 2), 5.0, np.float32),
        hand_known=frame.hand_known,
    )  # fmt: skip
