"""Body protocols against the plain reading of the rules, on files that meet every rule."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egopose.errors import EgoposeError
from egopose.io.ego_exo4d_files import read_body_file, walk_body
from egopose.metrics.protocols import evaluate_body_baseline, evaluate_body_official, kept_frames, scenario_of
from egopose.skeleton import BODY17
from tests import protocol_oracles as oracle

WORDS = ("Basketball", "bike", "cooking", "dance", "soccer", "cpr", "covid", "bouldering", "piano", "guitar")


def frame_numbers(rng: np.random.Generator) -> list[int]:
    """Runs of every interesting length with every interesting gap between them."""
    frames: list[int] = []
    at = int(rng.integers(0, 5))
    for _ in range(int(rng.integers(1, 5))):
        if rng.random() < 0.5:
            run = [at + i for i in range(int(rng.integers(115, 123)))]
        else:
            run = [at + 3 * i for i in range(int(rng.integers(37, 44)))]
        frames += run
        at = run[-1] + int(rng.choice([3, 4, 5, 9, 10, 11, 40]))
    return frames


def random_files(seed: int, takes: int = 4, *, poison: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ground truth and prediction as the files hold them: unsorted keys, NaN in x, extra takes and frames."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {}
    pred: dict[str, Any] = {}
    for k in range(takes):
        frames = frame_numbers(rng)
        target = rng.normal(0, 1, (len(frames), 17, 3)) + rng.normal(0, 3, 3)
        guess = target + rng.normal(0, 0.2, target.shape)
        hidden = rng.random(target.shape[:2]) < 0.15
        target[hidden] = np.nan
        only_x = rng.random(target.shape[:2]) < 0.02
        target[only_x, 0] = np.nan
        if poison and k == takes - 1:
            t, j = len(frames) // 2, 5
            guess[t, j] = 1.0
            target[t, j] = (1.0, np.nan, 1.0) if rng.random() < 0.5 else (1.0, 1.0, np.nan)
            guess[t + 1, 6, int(rng.integers(3))] = np.nan
            target[t + 1, 6] = 0.5
        order = rng.permutation(len(frames))
        name = f"takes/site_{rng.choice(WORDS)}_{k}"
        truth[f"uid{k}"] = {"take_name": name, "body": {str(frames[i]): target[i].tolist() for i in order}}
        body = {str(frames[i]): guess[i].tolist() for i in rng.permutation(len(frames))}
        body[str(frames[-1] + 500)] = guess[0].tolist()
        pred[f"uid{k}"] = {"take_name": name, "body": body}
    pred["another"] = {"take_name": "takes/x_bike", "body": {}}
    return pred, truth


def through_files(tmp_path: Path, *documents: dict[str, Any]) -> list[Any]:
    """Write with bare NaN tokens, as the files have them, and read back."""
    out = []
    for i, document in enumerate(documents):
        path = tmp_path / f"{i}.json"
        path.write_text(json.dumps(document))
        out.append(read_body_file(path))
    return out


def close(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or (abs(a - b) <= 1e-12 * max(1, abs(b)) and f"{a:.2f}" == f"{b:.2f}")


@pytest.mark.parametrize("seed", range(25))
def test_official_equals_the_plain_reading(seed: int, tmp_path: Path) -> None:
    documents = random_files(seed, poison=seed % 5 == 4)
    want = oracle.body_official(*documents)
    got = evaluate_body_official(*through_files(tmp_path, *documents))
    rows = {"overall": (got.overall, want["overall"])}
    assert list(got.scenarios) == list(want["scenarios"])
    rows |= {name: (got.scenarios[name], want["scenarios"][name]) for name in got.scenarios}
    for score, row in rows.values():
        assert (score.joints, score.velocities) == row[2:]
        assert close(score.mpjpe_cm, row[0])
        assert close(score.mpjve_m_s, row[1])
    if seed % 5 != 4 and got.overall.joints:
        # the sums run in the official order: not one bit differs
        assert got.overall.mpjpe_cm == want["overall"][0]


def test_the_random_files_meet_the_rules() -> None:
    """The files are worth testing with: some clips are dropped, some velocities cross a dropped clip."""
    dropped = kept = nan = 0
    for seed in range(25):
        pred, truth = random_files(seed, poison=seed % 5 == 4)
        result = evaluate_body_official(walk_body(pred, "p"), walk_body(truth, "t"))
        dropped += result.coverage.frames_in_short_clips
        kept += result.coverage.frames_expected
        nan += math.isnan(result.overall.mpjpe_cm)
    assert dropped > 1000
    assert kept > 3000
    assert nan >= 3


@pytest.mark.parametrize(
    ("count", "stride", "kept"), [(117, 1, 0), (118, 1, 118), (39, 3, 0), (40, 3, 40), (119, 1, 119), (120, 1, 120)]
)
def test_run_lengths(count: int, stride: int, kept: int) -> None:
    frames = np.arange(count, dtype=np.int64) * stride + 7
    assert kept_frames(frames).sum() == kept


def test_gap_of_four_splits_a_run_and_three_does_not() -> None:
    for gap, kept in ((3, 119), (4, 0)):
        frames = np.concatenate([np.arange(60), 59 + gap + np.arange(59)])
        assert kept_frames(frames).sum() == kept


def _take(frames: list[int], points: np.ndarray, name: str = "takes/a_dance_1") -> dict[str, Any]:
    return {"u": {"take_name": name, "body": {str(f): p.tolist() for f, p in zip(frames, points)}}}


@pytest.mark.parametrize(("gap", "crosses"), [(3, True), (4, True), (9, True), (10, False), (11, False)])
def test_velocity_looks_at_the_gap_only(gap: int, crosses: bool) -> None:
    first = list(range(0, 120, 3))
    second = [first[-1] + gap + 3 * i for i in range(40)]
    frames = first + second
    target = np.zeros((80, 17, 3))
    guess = np.zeros((80, 17, 3))
    guess[40:, :, 0] = 0.3  # one jump, at the gap
    result = evaluate_body_official(walk_body(_take(frames, guess), "p"), walk_body(_take(frames, target), "t"))
    assert result.overall.velocities == (79 if crosses else 78) * 17
    assert result.overall.mpjve_m_s == pytest.approx(
        (0.3 * 30 / gap * 17 if crosses else 0) / result.overall.velocities
    )


def test_only_x_says_missing_and_the_rest_poisons() -> None:
    frames = list(range(0, 150, 3))
    clean = np.zeros((50, 17, 3))
    for axis, poisoned in ((0, False), (1, True), (2, True)):
        target = clean.copy()
        target[5, 3, axis] = np.nan
        files = walk_body(_take(frames, clean), "p"), walk_body(_take(frames, target), "t")
        result = evaluate_body_official(*files)
        assert math.isnan(result.overall.mpjpe_cm) == poisoned
        assert result.overall.joints == 50 * 17 - (not poisoned)
        lenient = evaluate_body_official(*files, mode="lenient")
        assert lenient.overall.mpjpe_cm == 0
        assert lenient.overall.joints == 50 * 17 - 1
        assert lenient.coverage.nonfinite_truth == poisoned
    guess = clean.copy()
    guess[5, 3, 1] = np.nan
    files = walk_body(_take(frames, guess), "p"), walk_body(_take(frames, clean), "t")
    strict = evaluate_body_official(*files)
    assert math.isnan(strict.overall.mpjpe_cm)
    assert math.isnan(strict.overall.mpjve_m_s)
    assert any("frame 15" in note and BODY17.joints[3] in note for note in strict.notes)
    lenient = evaluate_body_official(*files, mode="lenient")
    assert lenient.overall.mpjpe_cm == 0
    assert lenient.coverage.nonfinite_predictions == 1


def test_failures_of_the_official_script() -> None:
    frames = list(range(0, 150, 3))
    points = np.zeros((50, 17, 3))
    truth = walk_body(_take(frames, points), "t")
    with pytest.raises(EgoposeError, match=r"take u .*missing"):
        evaluate_body_official({}, truth)
    short = walk_body(_take(frames[:-2], points), "p")
    with pytest.raises(EgoposeError, match="take u, frame 144 is missing"):
        evaluate_body_official(short, truth)
    lenient = evaluate_body_official(short, truth, mode="lenient")
    assert lenient.coverage.missing_frames == 2
    assert lenient.coverage.share == pytest.approx(48 / 50)
    document = _take(frames, points)
    document["u"]["body"]["9"] = points[0, :16].tolist()
    with pytest.raises(EgoposeError, match="frame 9: is 16x3"):
        evaluate_body_official(walk_body(document, "p"), truth)
    assert evaluate_body_official(walk_body(document, "p"), truth, mode="lenient").coverage.malformed_frames == 1
    with pytest.raises(EgoposeError, match="no known scenario"):
        evaluate_body_official(truth, walk_body(_take(frames, points, "takes/chess"), "t"))
    odd = walk_body(_take(frames, points, "takes/chess"), "t")
    assert list(evaluate_body_official(truth, odd, mode="lenient").scenarios) == ["other"]
    with pytest.raises(EgoposeError, match="mode"):
        evaluate_body_official(truth, truth, mode="kind")  # type: ignore[arg-type]


def test_a_frame_missing_from_a_dropped_clip_is_not_asked_for() -> None:
    frames = [*range(0, 120, 3), 500, 503]
    points = np.zeros((42, 17, 3))
    result = evaluate_body_official(walk_body(_take(frames[:40], points), "p"), walk_body(_take(frames, points), "t"))
    assert result.coverage.frames_in_short_clips == 2
    assert result.overall.joints == 40 * 17


def test_no_velocity_is_nan_with_a_note() -> None:
    frames = list(range(0, 120, 3))
    target = np.full((40, 17, 3), np.nan)
    target[::2] = 0.0
    result = evaluate_body_official(
        walk_body(_take(frames, np.zeros((40, 17, 3))), "p"), walk_body(_take(frames, target), "t")
    )
    assert math.isnan(result.overall.mpjve_m_s)
    assert any("division by zero" in note for note in result.notes)


@pytest.mark.parametrize(
    ("name", "scenario"),
    [("takes/unc_Basketball_bike", "basketball"), ("CPR_dance", "dance"), ("x_covid", "health"), ("violin", "music"),
     ("soccer_music", "soccer"), ("chess", None), (None, None)],
)  # fmt: skip
def test_first_scenario_wins(name: str | None, scenario: str | None) -> None:
    assert scenario_of(name) == scenario


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("with_cameras", [False, True])
def test_baseline_equals_the_plain_reading(seed: int, with_cameras: bool) -> None:
    pred, truth = random_files(100 + seed, poison=seed % 2 == 1)
    pred["uid0"]["body"][next(iter(truth["uid0"]["body"]))][4][1] = math.nan  # forgiven here
    rng = np.random.default_rng(seed)
    cameras: dict[str, dict[int, Any]] | None = None
    if with_cameras:
        cameras = {}
        for uid, take in truth.items():
            cameras[uid] = {}
            for key in take["body"]:
                if rng.random() < 0.05:
                    continue  # the files have gaps
                q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
                q *= np.sign(np.linalg.det(q))
                cameras[uid][int(key)] = np.concatenate([q, rng.normal(size=(3, 1))], 1)
    want = oracle.body_baseline(pred, truth, cameras)
    got = evaluate_body_baseline(walk_body(pred, "p"), walk_body(truth, "t"), camera_poses=cameras)
    assert close(got.overall.mpjpe_cm, want[0])
    assert close(got.overall.mpjve_m_s, want[1])


def test_baseline_position_does_not_depend_on_the_frame_but_velocity_does() -> None:
    pred, truth = random_files(3)
    rng = np.random.default_rng(0)
    cameras: dict[str, dict[int, Any]] = {}
    for uid, take in truth.items():
        cameras[uid] = {}
        for key in take["body"]:
            q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
            cameras[uid][int(key)] = np.concatenate([q * np.sign(np.linalg.det(q)), rng.normal(size=(3, 1))], 1)
    files = walk_body(pred, "p"), walk_body(truth, "t")
    world, camera = evaluate_body_baseline(*files), evaluate_body_baseline(*files, camera_poses=cameras)
    assert world.overall.mpjpe_cm == pytest.approx(camera.overall.mpjpe_cm, abs=1e-9)
    assert abs(world.overall.mpjve_m_s - camera.overall.mpjve_m_s) > 1e-3
    assert any("world frame" in note for note in world.notes)


def test_baseline_leaves_out_bouldering_and_unseen_takes_when_told() -> None:
    frames = list(range(0, 30, 3))
    points = np.zeros((10, 17, 3))
    truth = {
        "a": {"take_name": "takes/x_bouldering", "body": {str(f): points[0].tolist() for f in frames}},
        "b": {"take_name": "takes/x_dance", "body": {str(f): (points[0] + 1).tolist() for f in frames}},
        "c": {"take_name": "takes/x_dance", "body": {str(f): (points[0] + np.nan).tolist() for f in frames}},
    }
    pred = {uid: {**take, "body": {k: points[0].tolist() for k in take["body"]}} for uid, take in truth.items()}
    files = walk_body(pred, "p"), walk_body(truth, "t")
    assert evaluate_body_baseline(*files).overall.mpjpe_cm == pytest.approx(math.sqrt(3) * 50)
    result = evaluate_body_baseline(*files, without_bouldering=True)
    assert result.overall.mpjpe_cm == pytest.approx(math.sqrt(3) * 100)
    assert result.overall.takes == 1
