"""``evaluate pose``: frames by number, joints by name, metrics against plain numpy, coverage, error bars; the verbs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import egopose
from egopose.cli import main
from egopose.commands.pose_scores import calibration, pair_up, pose_table, run_evaluate_pose, score_pairs
from egopose.errors import EgoposeError
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import BODY17, BODY17_HANDS, HAND21
from tests.test_protocols_body import random_files as body_files
from tests.test_protocols_hand import random_files as hand_files


def sequence(frames: Any, xyz: np.ndarray, skeleton: Any = BODY17, fps: float = 30.0, **more: Any) -> PoseSequence:
    frames = np.asarray(frames, dtype=np.int64)
    return PoseSequence(skeleton, frames, frames / fps, xyz.astype(np.float32), **more)


def noisy(seed: int = 0, n: int = 60, late: int = 5) -> tuple[PoseSequence, PoseSequence]:
    """A reference of 17 joints and a prediction of 59 with other frames, missing joints and honest error bars."""
    rng = np.random.default_rng(seed)
    truth = np.cumsum(rng.normal(0, 0.01, (n, 17, 3)), 0) + rng.normal(0, 0.5, (17, 3))
    sigma = rng.uniform(0.01, 0.05, (n, 59)).astype(np.float32)
    guess = np.full((n, 59, 3), np.nan)
    columns = BODY17_HANDS.indices(BODY17.joints)
    guess[:, columns] = truth + rng.normal(size=truth.shape) * sigma[:, columns, None]
    hidden = rng.random((n, 59)) < 0.1
    guess[hidden] = np.nan
    status = np.where(np.isnan(guess[..., 0]), JointStatus.MISSING, JointStatus.OK).astype(np.uint8)
    status[(status == JointStatus.OK) & (rng.random(status.shape) < 0.2)] = JointStatus.TWO_VIEWS
    truth[rng.random((n, 17)) < 0.05] = np.nan
    pred = sequence(np.arange(late, n + late), guess, BODY17_HANDS, sigma=sigma, status=status)
    return pred, sequence(np.arange(n), truth)


def test_metrics_are_those_of_plain_numpy(tmp_path: Path) -> None:
    pred, gt = noisy()
    egopose.save(pred, tmp_path / "p.npz")
    egopose.save(gt, tmp_path / "g.npz")
    result = run_evaluate_pose(tmp_path / "p.npz", tmp_path / "g.npz", root="nose")
    assert result["joints"] == list(BODY17.joints)
    a = pred.xyz[:-5, BODY17_HANDS.indices(BODY17.joints)].astype(float)
    b = gt.xyz[5:].astype(float)
    error = np.linalg.norm(a - b, axis=-1)
    seen = np.isfinite(error)
    got = result["metrics"]
    assert got["mpjpe_mm"] == pytest.approx(1000 * error[seen].mean(), rel=1e-9)
    assert got["mpjpe_macro_mm"] == pytest.approx(1000 * np.nanmean(np.nanmean(error, 1)), rel=1e-9)
    assert got["pck_50mm"] == pytest.approx((error[seen] < 0.05).mean(), abs=1e-9)
    moved = np.linalg.norm(np.diff(a, axis=0) - np.diff(b, axis=0), axis=-1) * 30
    assert got["mpjve_m_s"] == pytest.approx(np.nanmean(moved), rel=1e-9)
    bent = np.linalg.norm(np.diff(a, 2, axis=0) - np.diff(b, 2, axis=0), axis=-1) * 900
    assert got["accel_error_m_s2"] == pytest.approx(np.nanmean(bent), rel=1e-9)
    relative = np.linalg.norm((a - a[:, :1]) - (b - b[:, :1]), axis=-1)
    assert got["root_mpjpe_mm"] == pytest.approx(1000 * relative[np.isfinite(relative)].mean(), rel=1e-9)
    assert got["pa_mpjpe_mm"] <= got["pa_mpjpe_rigid_mm"] * 1.01
    assert result["per_joint_mm"]["left_wrist"] == pytest.approx(
        1000 * np.nanmean(error[:, BODY17.index("left_wrist")]), rel=1e-9
    )
    cover = result["coverage"]
    assert (cover["missing_frames"], cover["extra_frames"], cover["frames_scored"]) == (5, 5, 55)
    assert cover["joints_scored"] == seen.sum()
    assert cover["joints_expected"] == np.isfinite(b[..., 0]).sum()
    assert set(cover["by_status"]) == {"ok", "two_views", "missing"}
    assert sum(row["joints"] for row in cover["by_status"].values()) == cover["joints_expected"]
    assert cover["by_status"]["missing"]["share"] == pytest.approx(1 - cover["share"])
    json.dumps(result)
    assert "two_views" in pose_table(result)


def test_honest_error_bars_are_calibrated_and_boasting_ones_are_not() -> None:
    pred, gt = noisy(n=400, late=0)
    pairs = [pair_up(pred, gt, BODY17.joints, "x")]
    bars = calibration(pairs)
    assert bars is not None
    assert bars["coverage_50"] == pytest.approx(0.5, abs=0.02)
    assert bars["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert bars["rms_error_over_sigma"] == pytest.approx(1, abs=0.03)
    assert pred.sigma is not None
    boast = pred.replace(sigma=pred.sigma / 3)
    worse = calibration([pair_up(boast, gt, BODY17.joints, "x")])
    assert worse is not None
    assert worse["coverage_90"] < 0.5
    assert worse["nll_nats_per_axis"] > bars["nll_nats_per_axis"]
    eye = np.einsum("tj,ab->tjab", pred.sigma**2, np.eye(3))
    same = calibration([pair_up(pred.replace(sigma=None, covariance=eye), gt, BODY17.joints, "x")])
    assert same is not None
    assert same["coverage_50"] == pytest.approx(bars["coverage_50"], abs=1e-3)
    assert calibration([pair_up(gt, gt, BODY17.joints, "x")]) is None


def test_motion_does_not_cross_a_gap() -> None:
    frames = np.r_[0:20:2, 100:120:2]
    truth = np.zeros((20, 17, 3))
    guess = truth.copy()
    guess[10:] += 5.0  # a jump at the gap only
    result = score_pairs([pair_up(sequence(frames, guess), sequence(frames, truth), BODY17.joints, "x")], BODY17.joints)
    assert result["metrics"]["mpjve_m_s"] == 0
    assert result["metrics"]["accel_error_m_s2"] == 0
    guess = np.zeros((20, 17, 3))
    guess[:, :, 0] = 0.02 * frames[:, None] / 2  # 0.02 m a step of 1/15 s
    result = score_pairs([pair_up(sequence(frames, guess), sequence(frames, truth), BODY17.joints, "x")], BODY17.joints)
    assert result["metrics"]["mpjve_m_s"] == pytest.approx(0.3, rel=1e-5)


def test_one_frame_has_no_motion() -> None:
    one = sequence([3], np.ones((1, 17, 3)))
    result = score_pairs([pair_up(one, one, BODY17.joints, "x")], BODY17.joints)
    assert math.isnan(result["metrics"]["mpjve_m_s"])
    assert result["metrics"]["mpjpe_mm"] == 0


def test_refusals(tmp_path: Path) -> None:
    pred, gt = noisy()
    for name, obj in (("p", pred), ("g", gt)):
        egopose.save(obj, tmp_path / f"{name}.npz")
    egopose.save(gt.replace(frames=gt.frames + 1000, space="camera:a"), tmp_path / "late.npz")
    egopose.save(sequence(np.arange(60), np.zeros((60, 21, 3)), HAND21), tmp_path / "hand.npz")
    with pytest.raises(EgoposeError, match="no frame number is in both"):
        run_evaluate_pose(tmp_path / "p.npz", tmp_path / "late.npz")
    with pytest.raises(EgoposeError, match="no joint name is in both"):
        run_evaluate_pose(tmp_path / "g.npz", tmp_path / "hand.npz")
    with pytest.raises(EgoposeError, match="'left_hand_wrist' is not in both"):
        run_evaluate_pose(tmp_path / "p.npz", tmp_path / "g.npz", joints=("left_hand_wrist",))
    with pytest.raises(EgoposeError, match="root joint"):
        run_evaluate_pose(tmp_path / "p.npz", tmp_path / "g.npz", joints=("nose",), root="left_hip")
    egopose.save(gt.replace(space="camera:a"), tmp_path / "camera.npz")
    assert "only aligned" in run_evaluate_pose(tmp_path / "p.npz", tmp_path / "camera.npz")["notes"][0]


def write(path: Path, document: Any) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def test_the_verbs_print_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pred, truth = body_files(4)
    files = [write(tmp_path / "p.json", pred), write(tmp_path / "t.json", truth)]
    assert main(["evaluate", "body", *files, "--json", "--out", str(tmp_path / "r.json")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "r.json").read_text())
    assert {"mpjpe_cm", "mpjve_m_s", "scenarios", "counts", "coverage", "protocol", "mode", "versions"} <= set(result)
    assert all({"mpjpe_cm", "mpjve_m_s"} <= set(row) for row in result["scenarios"].values())
    assert main(["evaluate", "body", *files]) == 0
    assert f"{result['mpjpe_cm']:.2f}" in capsys.readouterr().out
    assert main(["evaluate", "body", *files, "--protocol", "baseline", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"] == "body.baseline"
    pred, truth = hand_files(4)
    files = [write(tmp_path / "p.json", pred), write(tmp_path / "t.json", truth)]
    assert main(["evaluate", "hand", *files, "--json", "--offset"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"mpjpe_mm", "pa_mpjpe_mm", "hands", "coverage"} <= set(result)
    a, b = noisy()
    egopose.save(a, tmp_path / "a.npz")
    egopose.save(b, tmp_path / "b.npz")
    assert main(["evaluate", "pose", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), "--json", "--root", "nose"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["n_mpjpe_mm"] > 0


def test_numbers_that_are_none_are_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pred, truth = body_files(9, poison=True)
    files = [write(tmp_path / "p.json", pred), write(tmp_path / "t.json", truth)]
    assert main(["evaluate", "body", *files, "--json"]) == 0
    text = capsys.readouterr().out
    assert "NaN" not in text.replace("is NaN", "")
    assert json.loads(text)["mpjpe_cm"] is None
    assert main(["evaluate", "body", *files, "--json", "--mode", "lenient"]) == 0
    assert json.loads(capsys.readouterr().out)["mpjpe_cm"] > 0


def test_refused_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pred, truth = body_files(4)
    del pred["uid1"]
    files = [write(tmp_path / "p.json", pred), write(tmp_path / "t.json", truth)]
    assert main(["evaluate", "body", *files, "--out", str(tmp_path / "r.json")]) == 1
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert "uid1" in error
    assert not (tmp_path / "r.json").exists()


def test_camera_poses_of_the_baseline(tmp_path: Path) -> None:
    from egopose.commands.evaluate import run_evaluate_body
    from egopose.io.ego_exo4d_headposes import read_head_extrinsics

    pred, truth = body_files(4)
    files = [write(tmp_path / "p.json", pred), write(tmp_path / "t.json", truth)]
    for uid, take in truth.items():
        poses = {key: np.eye(4)[:3].tolist() for key in take["body"]}
        write(tmp_path / f"{uid}.json", {"metadata": {"take_uid": uid}, "aria01": {"camera_extrinsics": poses}})
    plain = run_evaluate_body(*files, protocol="baseline")
    posed = run_evaluate_body(*files, protocol="baseline", camera_poses=tmp_path)
    assert posed.overall == plain.overall
    with pytest.raises(EgoposeError, match="protocol baseline"):
        run_evaluate_body(*files, camera_poses=tmp_path)
    with pytest.raises(EgoposeError, match="no such folder"):
        run_evaluate_body(*files, protocol="baseline", camera_poses=tmp_path / "none")
    with pytest.raises(EgoposeError, match="'aria'"):
        read_head_extrinsics(write(tmp_path / "x.json", {"cam01": {}}))
