"""3D joints in every format: round trips, units, axes, and what must be refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ezc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import egopose
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.io.c3d_parse import parse_c3d
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import BODY17, BODY17_HANDS, HAND21, HANDS42
from tests.io_cases import FRAMES, annotation, body_pose, hands_pose
from tests.test_io_native import poses, same

SETTINGS = settings(max_examples=20, deadline=None)
Factory = pytest.TempPathFactory


def _check(back: PoseSequence, pose: PoseSequence, *names: str) -> None:
    assert back.skeleton.joints == pose.skeleton.joints
    for name in ("frames", "times_s", "xyz", *names):
        assert same(getattr(back, name), getattr(pose, name)), name


@SETTINGS
@given(pose=poses())
def test_csv_keeps_numbers_error_bars_and_status(pose: PoseSequence, tmp_path_factory: Factory) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    egopose.save(pose, path)
    back = egopose.load(path, space=pose.space)
    _check(back, pose, "sigma", "status")
    if pose.covariance is not None:
        # the six stored entries are those of the upper triangle
        np.testing.assert_array_equal(np.triu(back.covariance), np.triu(pose.covariance))
    assert back.space == pose.space


@SETTINGS
@given(pose=poses())
def test_parquet_keeps_everything(pose: PoseSequence, tmp_path_factory: Factory) -> None:
    path = tmp_path_factory.mktemp("parquet") / "x.parquet"
    egopose.save(pose, path)
    back = egopose.load(path)
    _check(back, pose, "sigma", "status")
    assert back.skeleton == pose.skeleton
    assert back.space == pose.space
    assert dict(back.provenance) == dict(pose.provenance)


@SETTINGS
@given(pose=poses(), up=st.sampled_from(["y", "z"]), unit=st.sampled_from(["m", "mm"]))
def test_trc_comes_back(pose: PoseSequence, up: str, unit: str, tmp_path_factory: Factory) -> None:
    path = tmp_path_factory.mktemp("trc") / "x.trc"
    egopose.save(pose, path, up=up, unit=unit)
    _check(egopose.load(path, up=up), pose)


@SETTINGS
@given(pose=poses(), up=st.sampled_from(["y", "z"]))
def test_c3d_comes_back_to_its_own_precision(pose: PoseSequence, up: str, tmp_path_factory: Factory) -> None:
    path = tmp_path_factory.mktemp("c3d") / "x.c3d"
    T = pose.n_frames + 1
    rng = np.random.default_rng(0)
    xyz = np.concatenate([pose.xyz, rng.normal(size=(1, pose.n_joints, 3))])
    pose = PoseSequence(pose.skeleton, np.arange(7, 7 + T), np.arange(7, 7 + T) / 25, xyz)
    egopose.save(pose, path, up=up)
    back = egopose.load(path, up=up)
    np.testing.assert_array_equal(back.frames, pose.frames)
    np.testing.assert_allclose(back.times_s, pose.times_s, rtol=1e-6)
    np.testing.assert_allclose(back.xyz, pose.xyz, rtol=3e-7, atol=1e-9)
    assert len(back.skeleton.joints) == len(pose.skeleton.joints)


def test_trc_axes_and_units_as_opensim_reads_them(tmp_path: Path) -> None:
    """World (X, Y, Z) are the columns (Z, X, Y): a point one metre up stands in column Y."""
    xyz = np.zeros((1, 17, 3), np.float32)
    xyz[0, BODY17.index("nose")] = [1, 2, 3]
    egopose.save(PoseSequence(BODY17, [5], [0.5], xyz), tmp_path / "x.trc", unit="mm")
    lines = (tmp_path / "x.trc").read_text().splitlines()
    assert lines[0].split("\t")[:3] == ["PathFileType", "4", "(X/Y/Z)"]
    assert dict(zip(lines[1].split("\t"), lines[2].split("\t")))["Units"] == "mm"
    assert lines[3].split("\t")[2] == "nose"
    first = lines[5].split("\t")
    assert (first[0], float(first[1])) == ("5", 0.5)
    assert [float(cell) for cell in first[2:5]] == [2000, 3000, 1000]


def test_trc_of_other_programs(tmp_path: Path) -> None:
    """Their marker names, a blank line after the header, trailing tabs, empty cells."""
    text = (
        "PathFileType\t4\t(X/Y/Z)\tx.trc\n"
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n"
        "60\t60\t2\t3\tmm\t60\t0\t2\n"
        "Frame#\tTime\tRBigToe\t\t\tHip\t\t\tC7\t\t\t\n\t\tX1\tY1\tZ1\tX2\tY2\tZ2\tX3\tY3\tZ3\n\n"
        "1\t0.0\t10\t20\t30\t\t\t\t1\t2\t3\t\n2\t0.1\t1\t2\t3\t4\t5\t6\t7\t8\t9\n"
    )
    (tmp_path / "x.trc").write_text(text)
    pose = egopose.load(tmp_path / "x.trc")
    assert pose.skeleton.joints == ("right_big_toe", "mid_hip", "C7")
    np.testing.assert_allclose(pose.xyz[0, 0], [0.03, 0.01, 0.02])
    assert pose.status[0, 1] == JointStatus.MISSING


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("mm", "furlong"), "unit 'furlong'; expected m, cm or mm"),
        (("\t3\tmm", "\t4\tmm"), "NumMarkers is 4 but line 4 names 3"),
        (("7\t8\t9", "7\t8"), "line 7 has 10 cells; expected 11"),
        (("\t4\t5\t6", "\tx\t5\t6"), "expected numbers"),
        (("2\t0.1", "2.5\t0.1"), "column Frame# holds something other"),
        (("2\t0.1", "1\t0.1"), "frame numbers must increase"),
    ],
)
def test_broken_trc(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    text = (
        "PathFileType\t4\t(X/Y/Z)\tx.trc\nDataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\n60\t60\t2\t3\tmm\n"
        "Frame#\tTime\tA\t\t\tB\t\t\tC\t\t\n\t\tX1\n1\t0.0\t10\t20\t30\t1\t1\t1\t1\t2\t3\n"
        "2\t0.1\t1\t2\t3\t4\t5\t6\t7\t8\t9\n"
    )
    assert change[0] in text
    (tmp_path / "x.trc").write_text(text.replace(*change))
    with pytest.raises(EgoposeError, match=message):
        egopose.load(tmp_path / "x.trc")


def test_c3d_as_the_library_sees_it(tmp_path: Path) -> None:
    pose = body_pose().select(frames=[3, 6]).replace(frames=[3, 4], times_s=[3 / 50, 4 / 50])
    egopose.save(pose, tmp_path / "x.c3d")
    raw = ezc3d.c3d(str(tmp_path / "x.c3d"))
    assert raw["parameters"]["POINT"]["UNITS"]["value"] == ["mm"]
    assert raw["parameters"]["POINT"]["LABELS"]["value"] == list(BODY17.joints)
    assert raw["parameters"]["POINT"]["RATE"]["value"][0] == pytest.approx(50)
    np.testing.assert_allclose(raw["data"]["points"][:3, 1, 0], 1000 * pose.xyz[0, 1], rtol=1e-6)
    assert np.isnan(raw["data"]["points"][:3, BODY17.index("nose"), 1]).all()
    assert raw["data"]["meta_points"]["residuals"][0, BODY17.index("nose"), 1] == -1


def test_our_parser_reads_what_the_library_reads(tmp_path: Path) -> None:
    """Analog channels, integer storage by hand, a first frame of its own."""
    rng = np.random.default_rng(4)
    content = ezc3d.c3d()
    content["parameters"]["POINT"]["RATE"]["value"] = [120.0]
    content["parameters"]["POINT"]["UNITS"]["value"] = ["m"]
    content["parameters"]["POINT"]["LABELS"]["value"] = ["RBigToe", "C7", "LHEE"]
    points = np.ones((4, 3, 20))
    points[:3] = rng.normal(size=(3, 3, 20))
    content["data"]["points"] = points
    content["parameters"]["ANALOG"]["RATE"]["value"] = [480.0]
    content["parameters"]["ANALOG"]["LABELS"]["value"] = ["a", "b"]
    content["data"]["analogs"] = rng.normal(size=(1, 2, 80))
    content["header"]["points"]["first_frame"], content["header"]["points"]["last_frame"] = 11, 30
    content.write(str(tmp_path / "x.c3d"))
    again = ezc3d.c3d(str(tmp_path / "x.c3d"))
    parsed = parse_c3d(tmp_path / "x.c3d")
    np.testing.assert_array_equal(parsed.xyz, np.moveaxis(again["data"]["points"][:3], 0, -1).swapaxes(0, 1))
    assert (parsed.first_frame, parsed.rate_hz, parsed.unit) == (11, 120, "m")
    pose = egopose.load(tmp_path / "x.c3d")
    assert pose.skeleton.joints == ("right_big_toe", "C7", "LHEE")
    np.testing.assert_allclose(pose.times_s, np.arange(11, 31) / 120)


def test_c3d_wants_consecutive_frames(tmp_path: Path) -> None:
    with pytest.raises(EgoposeError, match="consecutive frames at a fixed rate; frame 6 follows 3"):
        egopose.save(body_pose(), tmp_path / "x.c3d")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("frame,", "fram,"), "column 'frame' is missing"),
        (("3,0.1,left_eye", "3,0.1,nose"), "row 3 repeats the frame and joint"),
        (("3,0.1,left_eye", "3.5,0.1,left_eye"), "row 3, column 'frame': '3.5' is not a whole number"),
        ((",ok", ",fine"), "status 'fine' is unknown"),
    ],
)
def test_broken_pose_csv(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    egopose.save(body_pose(), tmp_path / "x.csv")
    text = (tmp_path / "x.csv").read_text()
    assert change[0] in text
    (tmp_path / "x.csv").write_text(text.replace(*change, 1))
    with pytest.raises(EgoposeError, match=message):
        egopose.load(tmp_path / "x.csv", format="pose-csv")


def test_csv_cut_inside_a_row(tmp_path: Path) -> None:
    egopose.save(body_pose(), tmp_path / "x.csv")
    text = (tmp_path / "x.csv").read_text()
    (tmp_path / "x.csv").write_text(text[: len(text) // 2])
    with pytest.raises(EgoposeError, match="cells, the header 7; the file may be truncated"):
        egopose.load(tmp_path / "x.csv")


def test_csv_without_times_needs_a_rate(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("frame,joint,x_m,y_m,z_m\n4,nose,1,2,3\n2,nose,,,\n")
    with pytest.raises(EgoposeError, match="has no column 'time_s'; give fps="):
        egopose.load(tmp_path / "x.csv")
    pose = egopose.load(tmp_path / "x.csv", fps=10)
    np.testing.assert_allclose(pose.times_s, [0.2, 0.4])
    assert not pose.valid[0, 0]
    assert pose.skeleton.joints == ("nose",)
    assert egopose.load(tmp_path / "x.csv", fps=10, skeleton="body17").skeleton == BODY17


# Ego-Exo4D ---------------------------------------------------------------------------------------------------------


def test_annotation_normal_oddities(tmp_path: Path) -> None:
    """Unsorted keys, an empty list, a bare NaN, an absent joint: all normal."""
    path = tmp_path / "take-uid.json"
    path.write_text(json.dumps(annotation()))
    assert "NaN" in path.read_text()
    pose = egopose.load(path)
    assert pose.skeleton == BODY17
    assert pose.space == "world"
    assert pose.provenance["take_uid"] == "take-uid"
    np.testing.assert_array_equal(pose.frames, [3, 6, 9, 12, 15])
    np.testing.assert_allclose(pose.times_s, pose.frames / 30)
    truth = body_pose()
    kept = [0, 1, 2, 4]
    expected = truth.xyz.copy()
    expected[0, BODY17.index("left_knee")] = np.nan
    np.testing.assert_array_equal(pose.xyz[kept], expected)
    assert np.isnan(pose.xyz[3]).all()
    # num_views_for_3d was 2, 3, 4 in turn
    assert pose.status[0, 0] == JointStatus.TWO_VIEWS
    assert pose.status[0, 1] == JointStatus.OK
    assert pose.status[3, 0] == JointStatus.MISSING
    robust = egopose.load(path, min_views=3)
    assert not robust.valid[0, 0]
    assert robust.valid[0, 1]


def test_hand_annotation(tmp_path: Path) -> None:
    point = {"x": 0.1, "y": 0.2, "z": 0.3, "num_views_for_3d": 3}
    joints = {"left_wrist": point, "right_index_4": point}
    (tmp_path / "h.json").write_text(json.dumps({"7": [{"annotation3D": joints, "annotation2D": {}}], "5": [{}]}))
    pose = egopose.load(tmp_path / "h.json")
    assert pose.skeleton == HANDS42
    np.testing.assert_array_equal(pose.frames, [5, 7])
    assert set(np.array(HANDS42.joints)[pose.valid[1]]) == {"left_hand_wrist", "right_hand_index_4"}
    assert egopose.load(tmp_path / "h.json", part="2d").n_views == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"3": [{"annotation3D": {"tail": {"x": 1, "y": 2, "z": 3}}}]},
            "joint 'tail' is no body joint and no hand joint",
        ),
        (
            {"3": [{"annotation3D": {"nose": {"x": "a", "y": 2, "z": 3}}}]},
            "frame 3, nose: .* is not an array of numbers",
        ),
        ({"x3": [{"annotation3D": {}}]}, "key 'x3'; expected frame numbers"),
        ({"3": {"annotation3D": {}}}, "frame 3: is .*; expected a list"),
        ({"3": [{"annotation3D": []}], "03": [{"annotation3D": {}}]}, "stands twice"),
    ],
)
def test_broken_annotation(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(EgoposeError, match=message):
        egopose.load(tmp_path / "x.json")


@pytest.mark.parametrize("kind", ["body", "hand"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_submissions_come_back(kind: str, seed: int, tmp_path_factory: Factory) -> None:
    path = tmp_path_factory.mktemp("sub") / "pred.json"
    make = body_pose if kind == "body" else hands_pose
    takes = {f"uid-{i}": make(4 - i, seed + i) for i in range(2)}
    if kind == "body":
        takes = {uid: pose.replace(xyz=np.nan_to_num(pose.xyz), status=None) for uid, pose in takes.items()}
        names = {"uid-0": "takes/a_cooking", "uid-1": "takes/b_dance"}
        egopose.save(takes, path, format="ego-exo4d-body", take_names=names)
    else:
        egopose.save(takes, path, format="ego-exo4d-hand")
    back = egopose.load(path)
    assert list(back) == list(takes)
    for uid, pose in takes.items():
        _check(back[uid], pose)
        assert back[uid].space == pose.space
    one = egopose.load(path, take="uid-1")
    _check(one, takes["uid-1"])
    if kind == "body":
        assert egopose.load(path, take="b_dance").n_frames == one.n_frames
        assert back["uid-0"].provenance["take_name"] == "takes/a_cooking"
        egopose.save(back, path, format="ego-exo4d-body")
        egopose.save(one, path, format="ego-exo4d-body")
        assert list(json.loads(path.read_text())) == ["uid-1"]


def test_submission_layout(tmp_path: Path) -> None:
    """The files have the layout of the official evaluators."""
    pose = body_pose(missing=False)
    egopose.save({"u": pose}, tmp_path / "b.json", format="ego-exo4d-body", take_names={"u": "takes/n"})
    content = json.loads((tmp_path / "b.json").read_text())
    assert set(content["u"]) == {"take_name", "body"}
    np.testing.assert_array_equal(np.array(content["u"]["body"]["6"], dtype=np.float32), pose.xyz[1])
    egopose.save({"u": hands_pose()}, tmp_path / "h.json", format="ego-exo4d-hand")
    content = json.loads((tmp_path / "h.json").read_text())
    assert list(content["u"]) == [str(f) for f in FRAMES]
    assert content["u"]["6"]["left_hand_3d"] == []
    right = HANDS42.indices([f"right_hand_{j}" for j in HAND21.joints])
    np.testing.assert_array_equal(
        np.array(content["u"]["6"]["right_hand_3d"], dtype=np.float32), hands_pose().xyz[1, right]
    )


def test_submissions_refuse_what_the_evaluator_would_not_score(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    full = body_pose(missing=False)
    with pytest.raises(EgoposeError, match="take u: has no take_name"):
        egopose.save({"u": full}, path, format="ego-exo4d-body")
    with pytest.raises(EgoposeError, match="1 joints are missing, the first is nose in frame 6"):
        egopose.save({"u": body_pose()}, path, format="ego-exo4d-body", take_names={"u": "n"})
    with pytest.raises(EgoposeError, match="joints are in 'camera:aria'; this file wants them in 'world'"):
        egopose.save({"u": full.replace(space="camera:aria")}, path, format="ego-exo4d-body", take_names={"u": "n"})
    five = full.select(joints=BODY17.joints[:5])
    with pytest.raises(EgoposeError, match=r"has 5 joints and lacks .*wants the 17 joints"):
        egopose.save({"u": five}, path, format="ego-exo4d-body", take_names={"u": "n"})
    part = hands_pose()
    xyz = part.xyz.copy()
    xyz[0, 3] = np.nan
    with pytest.raises(EgoposeError, match="frame 3: the left hand has 20 of 21 joints"):
        egopose.save({"u": part.replace(xyz=xyz, status=None)}, path, format="ego-exo4d-hand")
    with pytest.raises(EgoposeError, match=r"does not say its take \(provenance take_uid\)"):
        egopose.save(full, path, format="ego-exo4d-body")
    with pytest.raises(EgoposeError, match="written here as 'ego-exo4d-body' and 'ego-exo4d-hand'; give format="):
        egopose.save({"u": full}, path)
    assert not path.exists()


def test_full_set_of_59_gives_body_and_hands(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    pose = PoseSequence(BODY17_HANDS, [3, 6], [0.1, 0.2], rng.normal(size=(2, 59, 3)))
    egopose.save({"u": pose}, tmp_path / "b.json", format="ego-exo4d-body", take_names={"u": "n"})
    np.testing.assert_array_equal(egopose.load(tmp_path / "b.json", take="u").xyz, pose.xyz[:, :17])


def test_hand_ground_truth_flags(tmp_path: Path) -> None:
    points = np.arange(63.0).reshape(21, 3).tolist()
    frame = {"right_hand_3d": points, "right_hand_valid_3d": [False] + [True] * 20, "left_hand_3d": [],
             "metadata": {"take_name": "t"}}  # fmt: skip
    (tmp_path / "gt.json").write_text(json.dumps({"u": {"30": frame, "9": frame}}))
    pose = egopose.load(tmp_path / "gt.json", take="u")
    np.testing.assert_array_equal(pose.frames, [9, 30])
    assert pose.valid.sum() == 42
    assert egopose.load(tmp_path / "gt.json", take="t", only_valid=True).valid.sum() == 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"u": {"take_name": "n", "body": {"3": [[1, 2, 3]] * 5}}}, "take u, frame 3: is 5x3; expected 17x3"),
        ({"u": {"take_name": "n", "body": []}}, "take u has no object 'body'"),
        ({"u": {"7": {"left_hand_3d": [[0, 0, 0]] * 20}}}, "frame 7, left hand: is 20x3; expected 21x3"),
    ],
)
def test_broken_submission(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(EgoposeError, match=message):
        egopose.load(tmp_path / "x.json")


def test_several_people_in_an_annotation_are_told(tmp_path: Path) -> None:
    entry = {"annotation3D": {"nose": {"x": 1, "y": 2, "z": 3}}}
    (tmp_path / "x.json").write_text(json.dumps({"3": [entry, entry]}))
    with pytest.warns(EgoposeWarning, match="1 frames hold several people"):
        assert egopose.load(tmp_path / "x.json").valid.sum() == 1
