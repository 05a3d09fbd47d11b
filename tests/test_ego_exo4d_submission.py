"""From takes to both submission files and both official scores, on the stand-in."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from egopose import EgoposeError, Predictor, load
from egopose.commands.evaluate import run_evaluate_body, run_evaluate_hand
from egopose.ego_exo4d import EgoExo4D, make_standin, write_submission
from egopose.pose import PoseSequence
from egopose.rigid import invert
from egopose.skeleton import HANDS42


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EgoExo4D:
    folder = tmp_path_factory.mktemp("ego")
    make_standin(folder / "data", takes=6, seed=2, seconds=4.5)
    return EgoExo4D(folder / "data", cache=folder / "cache")


def exact(data: EgoExo4D, split: str) -> dict[str, PoseSequence]:
    return {take.uid: load(data.root / "truth" / f"{take.uid}.npz") for take in data.select(split=split)}


def shifted(poses: dict[str, PoseSequence], by_m: float) -> dict[str, PoseSequence]:
    return {uid: pose.replace(xyz=pose.xyz + np.float32([by_m, 0, 0])) for uid, pose in poses.items()}


def test_body_submission_of_the_test_split(data: EgoExo4D, tmp_path: Path) -> None:
    poses = shifted(exact(data, "test"), 0.05)
    index = data.root / "lists" / "body_test_frames.json"
    result = write_submission(data, "body", poses, tmp_path / "body.zip", index=index)
    assert result["zip"]
    assert "15376" in result["where"]
    with zipfile.ZipFile(tmp_path / "body.zip") as archive:
        document = json.loads(archive.read("body.json"))
    assert {entry["take_name"] for entry in document.values()} == {f"takes/{t.name}" for t in data.select(split="test")}
    scores = run_evaluate_body(tmp_path / "body.json", data.root / "truth" / "body_test.json").to_dict()
    assert scores["mpjpe_cm"] == pytest.approx(5.0, abs=1e-4)
    assert scores["mpjve_m_s"] == pytest.approx(0.0, abs=1e-4)


def test_hand_submission_of_the_test_split(data: EgoExo4D, tmp_path: Path) -> None:
    index = data.root / "lists" / "ego_pose_gt_anno_test_public.json"
    poses = {}
    for uid, pose in exact(data, "test").items():
        # head poses have gaps: the rest of the frames is asked for
        frames, _ = data[uid].head_poses(policy="interpolate")
        poses[uid] = pose.to_skeleton(HANDS42).select(frames=frames)
    result = write_submission(data, "hand", poses, tmp_path / "hand.zip", index=index)
    assert result["zip"], result["report"]
    scores = run_evaluate_hand(tmp_path / "hand.json", data.root / "truth" / "hand_test.json").to_dict()
    # frames in a gap carry the error of the interpolated pose
    assert scores["mpjpe_mm"] < 1.0
    assert scores["pa_mpjpe_mm"] < 0.05


def test_frames_of_reference_are_held(data: EgoExo4D, tmp_path: Path) -> None:
    # trap 2: body in the world, hands in the landscape head camera
    uid, pose = next(iter(exact(data, "test").items()))
    frames, T = data[uid].head_poses(policy="skip")
    camera = pose.select(frames=frames).transformed(invert(T), "camera:aria")
    with pytest.raises(EgoposeError, match="wants the world"):
        write_submission(data, "body", {uid: camera}, tmp_path / "a.zip")
    with pytest.raises(EgoposeError, match="head camera"):
        write_submission(data, "hand", {uid: camera.replace(space="head")}, tmp_path / "a.zip")
    with pytest.raises(EgoposeError, match=r"\.zip"):
        write_submission(data, "body", {uid: pose}, tmp_path / "a.json")
    # camera coordinates that claim to be the world are noticed and not packed
    liar = write_submission(data, "body", {uid: camera.replace(space="world")}, tmp_path / "b.zip")
    assert liar["zip"] is None
    assert not (tmp_path / "b.zip").exists()
    # portrait coordinates are noticed against the boxes
    turn = np.float32([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    every = {}
    for key, whole in exact(data, "test").items():
        numbers, T = data[key].head_poses(policy="interpolate")
        landscape = whole.select(frames=numbers).transformed(invert(T), "camera:aria")
        every[key] = landscape.replace(xyz=landscape.xyz @ turn.T)
    index = data.root / "lists" / "ego_pose_gt_anno_test_public.json"
    turned = write_submission(data, "hand", every, tmp_path / "c.zip", index=index)
    assert turned["zip"] is None
    assert any(f["code"] == "portrait" for f in turned["report"]["findings"])


def test_traps_of_the_evaluators(data: EgoExo4D, tmp_path: Path) -> None:
    split = "test"
    truth_file = data.root / "truth" / f"body_{split}.json"
    truth = json.loads(truth_file.read_text())
    first, second = sorted(truth)
    # trap 8: a joint whose x is NaN is missing
    for frame in truth[first]["body"].values():
        frame[0][0] = float("nan")
    # trap 1: a run shorter than 120 frames is dropped by the official evaluator, not by the baseline's
    keep = sorted(truth[second]["body"], key=int)[:39]
    truth[second]["body"] = {k: truth[second]["body"][k] for k in keep}
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    prediction = json.loads(truth_file.read_text())
    for uid, by in ((first, 0.02), (second, 0.30)):
        for frame in prediction[uid]["body"].values():
            for joint in frame:
                joint[1] += by
    (tmp_path / "pred.json").write_text(json.dumps(prediction))
    official = run_evaluate_body(tmp_path / "pred.json", tmp_path / "gt.json").to_dict()
    assert official["mpjpe_cm"] == pytest.approx(2.0, abs=1e-6)
    poses = data.root / "annotations" / "ego_pose" / split / "camera_pose"
    baseline = run_evaluate_body(
        tmp_path / "pred.json", tmp_path / "gt.json", protocol="baseline", camera_poses=poses
    ).to_dict()
    assert baseline["mpjpe_cm"] == pytest.approx((2.0 + 30.0) / 2, abs=1e-3)
    # trap 7: a mirrored hand is not forgiven, a scaled one is by the aligned score
    hands = json.loads((data.root / "truth" / f"hand_{split}.json").read_text())
    for name, factor in (("mirrored", [-1.0, 1.0, 1.0]), ("scaled", [1.2, 1.2, 1.2])):
        prediction = {
            uid: {
                frame: {
                    f"{side}_hand_3d": (np.nan_to_num(np.array(entry[f"{side}_hand_3d"])) * factor).tolist()
                    if entry[f"{side}_hand_3d"] else []
                    for side in ("left", "right")
                }
                for frame, entry in take.items()
            }
            for uid, take in hands.items()
        }  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(prediction))
    gt = data.root / "truth" / f"hand_{split}.json"
    mirrored, scaled = (run_evaluate_hand(tmp_path / f"{n}.json", gt).to_dict() for n in ("mirrored", "scaled"))
    assert mirrored["pa_mpjpe_mm"] > 5
    assert scaled["pa_mpjpe_mm"] < 0.05 < 5 < scaled["mpjpe_mm"]


def test_prediction_of_the_test_split_is_accepted_and_scored(data: EgoExo4D, tmp_path: Path) -> None:
    """From head poses with gaps to a body submission and its official score, with the shipped weights."""
    predictor = Predictor.from_pretrained("nano", device="cpu")
    poses = {take.uid: predictor.predict(take.clip("body")) for take in data.select(split="test")}
    index = data.root / "lists" / "body_test_frames.json"
    result = write_submission(data, "body", poses, tmp_path / "body.zip", index=index)
    assert result["zip"], result["report"]
    scores = run_evaluate_body(tmp_path / "body.json", data.root / "truth" / "body_test.json").to_dict()
    # a standing guess below the head is some 20 cm off; anything in another frame of reference is metres off
    assert scores["mpjpe_cm"] < 25
    assert scores["coverage"]["share"] == 1.0
