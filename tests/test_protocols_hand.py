"""Hand protocol against the plain reading of the rules, on files that meet every rule."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egopose.errors import EgoposeError
from egopose.io.ego_exo4d_files import read_hand_file, walk_hand
from egopose.metrics.protocols import evaluate_hand_official
from tests import protocol_oracles as oracle


def random_files(seed: int, takes: int = 3) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ground truth and prediction: 10 to 21 valid joints, empty hands, unsorted frames, extra everything."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {}
    pred: dict[str, Any] = {}
    for k in range(takes):
        truth[f"t{k}"], pred[f"t{k}"] = {}, {}
        frames = rng.permutation(np.arange(0, 90, 3))[: int(rng.integers(4, 12))]
        for frame in frames:
            entry: dict[str, Any] = {
                "metadata": {"take_uid": f"t{k}", "take_name": f"take_{k}", "frame_number": int(frame)}
            }
            guess_entry: dict[str, Any] = {}
            for side in ("right", "left"):
                if rng.random() < 0.3:
                    entry |= {
                        f"{side}_hand_3d": [],
                        f"{side}_hand_2d": [],
                        f"{side}_hand_bbox": [],
                        f"{side}_hand_valid_3d": [],
                    }
                    guess_entry[f"{side}_hand_3d"] = rng.normal(size=(21, 3)).tolist() if rng.random() < 0.5 else []
                    continue
                hand = rng.normal(0, 0.04, (21, 3)) + np.array([0.0, 0.1, 0.4])
                guess = hand * rng.uniform(0.8, 1.2) + rng.normal(0, 0.01, hand.shape)
                kind = rng.random()
                if kind < 0.1:
                    guess[:, 0] *= -1  # a mirrored hand is not forgiven
                elif kind < 0.2:
                    guess[:, 2] = 0.3  # a flat one is fine
                valid = np.zeros(21, dtype=bool)
                valid[rng.permutation(21)[: int(rng.integers(10, 22))]] = True
                stored = np.where(valid[:, None], hand, np.nan)
                stored[0] = hand[0]
                guess[~valid] = np.nan if rng.random() < 0.3 else guess[~valid]
                entry |= {
                    f"{side}_hand_3d": stored.tolist(), f"{side}_hand_2d": rng.uniform(0, 512, (21, 2)).tolist(),
                    f"{side}_hand_bbox": [1.0, 2.0, 3.0, 4.0], f"{side}_hand_valid_3d": valid.tolist(),
                }  # fmt: skip
                guess_entry[f"{side}_hand_3d"] = guess.tolist()
            truth[f"t{k}"][str(frame)] = entry
            pred[f"t{k}"][str(frame)] = guess_entry
        pred[f"t{k}"]["9999"] = {"left_hand_3d": [], "right_hand_3d": []}
    pred["other"] = {}
    return pred, truth


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("seed", range(15))
def test_official_equals_the_plain_reading(seed: int, offset: bool, tmp_path: Path) -> None:
    pred, truth = random_files(seed)
    want = oracle.hand_official(pred, truth, offset)
    files = []
    for name, document in (("p", pred), ("t", truth)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        files.append(read_hand_file(path))
    got = evaluate_hand_official(*files, offset=offset)
    assert got.overall.hands == want[2]
    for ours, theirs in ((got.overall.mpjpe_mm, want[0]), (got.overall.pa_mpjpe_mm, want[1])):
        assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-11)
        assert f"{ours:.2f}" == f"{theirs:.2f}"
    assert got.coverage.share == 1


def _one(points: Any, valid: list[bool] | None = None, **more: Any) -> dict[str, Any]:
    entry = {"left_hand_3d": points, "right_hand_3d": [], "left_hand_valid_3d": valid or [True] * 21, **more}
    return {"u": {"3": entry}}


def _hand(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.04, (21, 3)) + np.array([0, 0, 0.4])


def test_mirrored_hand_is_not_forgiven_and_similarity_is() -> None:
    hand = _hand()
    truth = walk_hand(_one(hand.tolist()), "t")
    turned = 1.7 * hand @ np.linalg.qr(_hand(1)[:3])[0] + 1
    if np.linalg.det(np.linalg.qr(_hand(1)[:3])[0]) < 0:
        turned = 1.7 * hand @ -np.linalg.qr(_hand(1)[:3])[0] + 1
    fine = evaluate_hand_official(walk_hand(_one(turned.tolist()), "p"), truth)
    assert fine.overall.pa_mpjpe_mm < 1e-9
    assert fine.overall.mpjpe_mm > 100
    mirrored = hand * [-1, 1, 1]
    assert evaluate_hand_official(walk_hand(_one(mirrored.tolist()), "p"), truth).overall.pa_mpjpe_mm > 5


def test_offset_makes_relative_hands_absolute() -> None:
    hand = _hand()
    truth = walk_hand(_one(hand.tolist()), "t")
    relative = walk_hand(_one((hand - hand[0]).tolist()), "p")
    assert evaluate_hand_official(relative, truth, offset=True).overall.mpjpe_mm < 1e-9
    plain = evaluate_hand_official(relative, truth)
    assert plain.overall.mpjpe_mm > 300
    assert any("--offset" in note for note in plain.notes)


@pytest.mark.parametrize(
    ("pred", "match"),
    [
        ({}, "take u is missing"),
        ({"u": {}}, "frame 3, left hand: is missing"),
        ({"u": {"3": {"left_hand_3d": [], "right_hand_3d": []}}}, "frame 3, left hand: is missing"),
        (_one([[0.0, 0.0, 0.0]] * 20), "frame 3, left hand: is 20x3"),
        (_one([[1.0, 2.0, 3.0]] * 21), "one point"),
        (_one([[math.nan, 2.0, 3.0]] * 21), "NaN or infinite at a valid joint"),
    ],
)
def test_failures_of_the_official_script(pred: dict[str, Any], match: str) -> None:
    truth = walk_hand(_one(_hand().tolist()), "t")
    with pytest.raises(EgoposeError, match=match):
        evaluate_hand_official(walk_hand(pred, "p"), truth)
    lenient = evaluate_hand_official(walk_hand(pred, "p"), truth, mode="lenient")
    if "one point" in match:
        # defined: the prediction collapses on the centre of the hand
        hand = _hand() * 1000
        assert lenient.overall.pa_mpjpe_mm == pytest.approx(np.linalg.norm(hand - hand.mean(0), axis=1).mean())
        assert lenient.coverage.flat_predictions == 1
    else:
        assert lenient.overall.hands == 0
        assert lenient.coverage.share == 0
        assert math.isnan(lenient.overall.mpjpe_mm)


def test_number_flags_are_refused_not_used_as_indices() -> None:
    hand = _hand().tolist()
    truth = walk_hand(_one(hand, [1, 0] * 10 + [1]), "t")  # type: ignore[arg-type]
    with pytest.raises(EgoposeError, match="true or false"):
        evaluate_hand_official(walk_hand(_one(hand), "p"), truth)


def test_nan_at_an_invalid_joint_is_no_matter() -> None:
    hand = _hand()
    valid = [True] * 12 + [False] * 9
    guess = hand.copy()
    guess[12:] = np.nan
    result = evaluate_hand_official(walk_hand(_one(guess.tolist()), "p"), walk_hand(_one(hand.tolist(), valid), "t"))
    assert result.overall.mpjpe_mm == 0
    assert result.coverage.joints_scored == 12


def test_lenient_leaves_bad_joints_out() -> None:
    hand = _hand()
    guess = hand.copy()
    guess[4, 1] = np.inf
    result = evaluate_hand_official(
        walk_hand(_one(guess.tolist()), "p"), walk_hand(_one(hand.tolist()), "t"), mode="lenient"
    )
    assert result.overall.mpjpe_mm == 0
    assert (result.coverage.nonfinite_predictions, result.coverage.joints_scored) == (1, 20)
