"""2D keypoints in every format, and whether they fit a rig."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import egopose
from egopose.camera import Rig
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.io import align_views, check_sizes, match_names
from egopose.io.openpose import COCO18
from egopose.observations import Observations2D
from egopose.skeleton import BODY17, BODY25, BODY25B, HALPE26, HANDS42, HOLISTIC75, SKELETONS
from tests.io_cases import EXAMPLES, FRAMES, annotation, observations, openpose_people, ring
from tests.test_io_native import same

FIGURE = {
    "nose": (0, -70), "left_eye": (4, -74), "right_eye": (-4, -74), "left_ear": (9, -72), "right_ear": (-9, -72),
    "neck": (0, -52), "head": (0, -90), "left_shoulder": (20, -50), "right_shoulder": (-20, -50),
    "left_elbow": (30, -20), "right_elbow": (-30, -20), "left_wrist": (34, 5), "right_wrist": (-34, 5),
    "mid_hip": (0, 0), "left_hip": (11, 0), "right_hip": (-11, 0), "left_knee": (12, 45), "right_knee": (-12, 45),
    "left_ankle": (12, 90), "right_ankle": (-12, 90), "left_big_toe": (16, 98), "right_big_toe": (-16, 98),
    "left_small_toe": (20, 97), "right_small_toe": (-20, 97), "left_heel": (10, 96), "right_heel": (-10, 96),
}  # fmt: skip
"""A standing figure in pixels around its hips."""


def person(joints: tuple[str, ...], at: tuple[float, float] = (300, 200), score: float = 0.8) -> np.ndarray:
    """(J, 3) of x, y, score."""
    return np.array([(FIGURE[j][0] + at[0], FIGURE[j][1] + at[1], score) for j in joints])


def write(folder: Path, frames: dict[int, Any]) -> Path:
    """An OpenPose folder of one view."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, content in frames.items():
        (folder / f"clip2_{frame:012d}_keypoints.json").write_text(json.dumps(content))
    return folder


@st.composite
def keypoints(draw: st.DrawFn) -> Observations2D:
    """Any observations: any skeleton, unseen joints, scores or none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    skeleton = draw(st.sampled_from(list(SKELETONS.values())))
    V, T, J = draw(st.integers(1, 3)), draw(st.integers(1, 4)), skeleton.n_joints
    uv = rng.normal(500, 300, (V, T, J, 2)).astype(np.float32)
    uv[rng.random((V, T, J)) < 0.2] = np.nan
    score = rng.random((V, T, J)).astype(np.float32) if draw(st.booleans()) else None
    views = tuple(draw(st.lists(st.text("abc 01é_", min_size=1, max_size=6), min_size=V, max_size=V, unique=True)))
    frames = np.cumsum(rng.integers(1, 9, T)) - 3
    return Observations2D(skeleton, views, frames, uv, score)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
@settings(max_examples=20, deadline=None)
@given(seen=keypoints())
def test_tables_come_back(suffix: str, seen: Observations2D, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("t") / f"x{suffix}"
    egopose.save(seen, path)
    back = egopose.load(path)
    assert back.views == seen.views
    # a csv holds joint names only: a left hand has those of any hand
    assert back.skeleton.joints == seen.skeleton.joints
    assert suffix == ".csv" or back.skeleton == seen.skeleton
    np.testing.assert_array_equal(back.frames, seen.frames)
    assert same(back.uv_px, seen.uv_px)
    assert same(back.score, seen.score)


# OpenPose ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skeleton", [BODY17, COCO18, BODY25, BODY25B, HALPE26])
def test_openpose_tells_the_joint_set(skeleton: Any, tmp_path: Path) -> None:
    points = person(skeleton.joints)
    rng = np.random.default_rng(1)
    frames = {t: openpose_people(points + np.c_[rng.normal(0, 1, (len(points), 2)), np.zeros(len(points))])
              for t in range(5)}  # fmt: skip
    seen = egopose.load(write(tmp_path / "cam3_json", frames))
    assert seen.skeleton.name == skeleton.name
    assert seen.views == ("cam3",)
    assert seen.score is not None
    np.testing.assert_allclose(seen.score, 0.8, rtol=1e-6)


def test_openpose_25_joints_that_do_not_tell(tmp_path: Path) -> None:
    blob = openpose_people(np.c_[np.random.default_rng(0).normal(300, 50, (25, 2)), np.full(25, 0.5)])
    folder = write(tmp_path / "a", {0: blob})
    try:
        loaded = egopose.load(folder)
    except EgoposeError as error:
        message = str(error)
        assert "give skeleton=" in message
    else:
        assert loaded.skeleton in (BODY25, BODY25B)
    assert egopose.load(folder, skeleton="openpose_body25").skeleton == BODY25
    with pytest.raises(EgoposeError, match="people have 25 joints, skeleton 'body17' has 17"):
        egopose.load(folder, skeleton="body17")


def test_openpose_oddities(tmp_path: Path) -> None:
    """Empty people, {}, a joint at (0, 0), frames in only one view, several people."""
    points = person(BODY17.joints)
    points[0] = 0
    crowd = {
        "people": [
            *openpose_people(points * [1, 1, 0.5])["people"],
            *openpose_people(points + np.array([9, 0, 0]))["people"],
        ]
    }
    write(tmp_path / "pose" / "cam1_json", {4: openpose_people(points), 5: {"people": []}, 6: {}})
    write(tmp_path / "pose" / "cam2_json", {5: crowd})
    with pytest.warns(EgoposeWarning, match=r"several people are seen by cam2 in 1 of 3 frames; person='best'"):
        seen = egopose.load(tmp_path / "pose", fps=50)
    assert seen.views == ("cam1", "cam2")
    assert seen.fps == 50
    np.testing.assert_array_equal(seen.frames, [4, 5, 6])
    assert seen.seen[:, :, 1].tolist() == [[True, False, False], [False, True, False]]
    assert not seen.seen[0, 0, 0]
    assert seen.uv_px[1, 1, 1, 0] == pytest.approx(FIGURE["left_eye"][0] + 309)
    with pytest.warns(EgoposeWarning):
        first = egopose.load(tmp_path / "pose", person="first")
    assert first.uv_px[1, 1, 1, 0] == pytest.approx(FIGURE["left_eye"][0] + 300)
    with pytest.warns(EgoposeWarning):
        second = egopose.load(tmp_path / "pose", person=1)
    assert second.seen.any(axis=(1, 2)).tolist() == [False, True]
    with pytest.raises(EgoposeError, match="no person in any file"):
        egopose.load(tmp_path / "pose", person=5)
    with pytest.raises(EgoposeError, match="person is 'tallest'; expected best, first, largest"):
        egopose.load(tmp_path / "pose", person="tallest")


def test_openpose_hands(tmp_path: Path) -> None:
    hand = np.c_[np.arange(21.0) + 100, np.arange(21.0) + 200, np.full(21, 0.7)]
    content = openpose_people(person(BODY25.joints), hand_left_keypoints_2d=hand.ravel().tolist())
    seen = egopose.load(write(tmp_path / "c", {0: content, 1: content}))
    assert seen.skeleton.joints == (*BODY25.joints, *HANDS42.joints)
    tip = seen.skeleton.index("left_hand_index_4")
    np.testing.assert_allclose(seen.uv_px[0, 0, tip], [108, 208])
    assert not seen.seen[0, 0, seen.skeleton.index("right_hand_wrist")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON at line 1"),
        ('{"people": [{"pose_keypoints_2d": [1, 2]}]}', "pose_keypoints_2d has 2 numbers; expected x, y, score"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, "x"]}]}', "is not an array of numbers"),
        ('{"people": {"a": 1}}', "expected a list"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', "people have 1 joints; known counts"),
        ('{"people": []}', "no person in any file"),
    ],
)
def test_broken_openpose(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x_0001.json").write_text(content)
    with pytest.raises(EgoposeError, match=message):
        egopose.load(tmp_path, format="openpose")


def test_openpose_frame_numbers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("x_1.json", "y_01.json"):
        (tmp_path / "a" / name).write_text(json.dumps(openpose_people(person(BODY17.joints))))
    with pytest.raises(EgoposeError, match="two files have frame number 1"):
        egopose.load(tmp_path / "a")
    (tmp_path / "a" / "x_1.json").rename(tmp_path / "a" / "x.json")
    with pytest.raises(EgoposeError, match=r"x.json: no frame number in the file name"):
        egopose.load(tmp_path / "a")


# COCO, annotation, caliscope -----------------------------------------------------------------------------------------


def test_coco_results(tmp_path: Path) -> None:
    truth = observations()
    seen = egopose.load(EXAMPLES["coco-keypoints"](tmp_path))
    assert seen.views == truth.views
    np.testing.assert_array_equal(seen.frames, truth.frames)
    np.testing.assert_array_equal(seen.uv_px, truth.uv_px)
    np.testing.assert_allclose(seen.score, truth.score)


def test_coco_annotations_by_name_and_pattern(tmp_path: Path) -> None:
    points = [[1, 2, 2], [3, 4, 1], [0, 0, 0]]
    content = {
        "images": [{"id": 9, "file_name": "left-7.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "keypoints": ["nose", "left_eye", "tail"]}],
        "annotations": [{"image_id": 9, "keypoints": sum(points, []), "area": 5}],  # noqa: RUF017
    }
    (tmp_path / "x.json").write_text(json.dumps(content))
    seen = egopose.load(tmp_path / "x.json", pattern=r"(?P<view>\w+)-(?P<frame>\d+)")
    assert (seen.views, seen.frames.tolist(), seen.sizes) == (("left",), [7], ((64, 48),))
    assert seen.skeleton.joints == ("nose", "left_eye", "tail")
    np.testing.assert_array_equal(seen.score[0, 0], [1, 0.5, 0])
    assert not seen.seen[0, 0, 2]
    with pytest.raises(EgoposeError, match="lacks the groups"):
        egopose.load(tmp_path / "x.json", pattern="x")
    with pytest.raises(EgoposeError, match="does not match pattern"):
        egopose.load(tmp_path / "x.json", pattern=r"(?P<view>\d+)/(?P<frame>\d+)")


def test_coco_takes_the_best_person(tmp_path: Path) -> None:
    entry = {"image_id": 5, "category_id": 1, "keypoints": person(BODY17.joints).ravel().tolist(), "score": 0.4}
    other = {**entry, "keypoints": person(BODY17.joints, (0, 0)).ravel().tolist(), "score": 0.9}
    (tmp_path / "x.json").write_text(json.dumps([entry, other, entry]))
    with pytest.warns(EgoposeWarning, match="1 images hold several people"):
        seen = egopose.load(tmp_path / "x.json", view="cam9")
    assert seen.views == ("cam9",)
    np.testing.assert_allclose(seen.uv_px[0, 0, 0], FIGURE["nose"])


def test_annotation_2d_is_undistorted(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(annotation()))
    seen = egopose.load(tmp_path / "t.json", part="2d")
    assert seen.undistorted
    assert seen.views == ("cam01", "cam02", "cam03")
    truth = observations()
    rows = np.searchsorted(seen.frames, FRAMES)
    np.testing.assert_array_equal(seen.uv_px[:, rows], truth.uv_px)
    assert set(np.unique(seen.score)) == {0, 0.5, 1}
    clicked = egopose.load(tmp_path / "t.json", part="2d", manual_only=True)
    assert set(np.unique(clicked.score)) == {0, 1}
    assert clicked.seen.sum() < seen.seen.sum()


def test_caliscope_points(tmp_path: Path) -> None:
    seen = egopose.load(EXAMPLES["caliscope-xy"](tmp_path))
    truth = observations().to_skeleton(HOLISTIC75)
    assert seen.views == ("cam_0", "cam_1", "cam_2")
    np.testing.assert_array_equal(seen.uv_px, truth.uv_px)
    pose = egopose.load(EXAMPLES["caliscope-xyz"](tmp_path), fps=10)
    assert pose.skeleton.joints == ("point_0", "point_3", "point_4")
    np.testing.assert_allclose(pose.times_s, [0.5, 0.6])


# Against a rig -------------------------------------------------------------------------------------------------------


def test_names_are_matched_without_case_zeros_and_separators() -> None:
    assert match_names(ring(), ["Cam_1", "cam02.mp4", "CAM3_json"]) == {
        "Cam_1": "cam01", "cam02.mp4": "cam02", "CAM3_json": "cam03"
    }  # fmt: skip
    assert match_names(ring(), ["left"], {"left": "cam02"}) == {"left": "cam02"}
    with pytest.raises(
        EgoposeError, match="2D from cam04 has no camera in the calibration, which has cam01, cam02, cam03"
    ):
        match_names(ring(), ["cam01", "cam04"])
    with pytest.raises(EgoposeError, match="views cam1 and cam01 are both camera 'cam01'"):
        match_names(ring(), ["cam1", "cam01"])


def test_views_without_a_camera(tmp_path: Path) -> None:
    seen = observations().replace(views=("cam1", "cam2", "cam9"))
    with pytest.raises(EgoposeError, match="2D from cam9 has no camera"):
        align_views(ring(), seen)
    with pytest.warns(EgoposeWarning, match="2D from cam9 was left out"):
        assert align_views(ring(), seen, drop=True).views == ("cam01", "cam02")


def test_raw_and_undistorted_refuse_each_other() -> None:
    with pytest.raises(EgoposeError, match=r"keypoints are in undistorted pixels, the cameras are calibrated for raw"):
        align_views(ring(), observations().replace(undistorted=True))
    flat = Rig([camera.undistorted() for camera in ring()])
    with pytest.raises(EgoposeError, match=r"keypoints are in raw pixels, the cameras are calibrated for undistorted"):
        align_views(flat, observations())
    assert align_views(flat, observations().replace(undistorted=True)).undistorted


def test_a_size_that_differs_is_named_with_both_sizes() -> None:
    with pytest.warns(EgoposeWarning, match="cam02 is 1080 x 1920, calibrated at 1280 x 720; pixels may be scaled"):
        assert check_sizes(ring(), {"cam01": (1280, 720), "cam02": (1080, 1920), "cam03": None}) == ["cam02"]
    with pytest.warns(EgoposeWarning, match="images are turned"):
        check_sizes(ring(), {"cam01": (720, 1280)})
    assert check_sizes(ring(), {"cam01": (1280, 720)}) == []


@pytest.mark.shared
def test_real_keypoints(shared_data: Path) -> None:
    """Real detections read, project close to their rigs' cameras by name, and carry what their READMEs say."""
    with pytest.warns(EgoposeWarning, match="several people are seen by cam01"):
        pose = egopose.load(shared_data / "pose2sim_single/pose", fps=60)
    single = egopose.load(shared_data / "pose2sim_single/pose-associated", fps=60)
    for seen in (pose, single):
        assert seen.skeleton == BODY25B
        assert seen.views == ("cam01", "cam02", "cam03", "cam04")
        assert seen.n_frames == 100
    rig = egopose.load(shared_data / "pose2sim_single/calibration/Calib_qualisys.toml")
    assert align_views(rig, single).views == ("cam_01", "cam_02", "cam_03", "cam_04")
    trc = egopose.load(shared_data / "pose2sim_single/pose-3d/S00_P00_T01_BalancingTrial_0-100.trc")
    # the stored 3D projects onto the detections: axes, units and names are right (13 px is the peer's own error)
    matched = single.to_skeleton(trc.skeleton)
    off = np.linalg.norm(rig.project(trc.xyz) - matched.uv_px, axis=-1)
    assert np.nanmedian(off) < 20
    holistic = egopose.load(shared_data / "pyxy3d_holistic4/xy_HOLISTIC.csv", fps=24)
    assert (holistic.skeleton, holistic.n_views, holistic.n_frames) == (HOLISTIC75, 4, 267)
    xyz = egopose.load(shared_data / "pyxy3d_holistic4/xyz_HOLISTIC.csv", fps=24)
    body = HOLISTIC75.indices(BODY17.joints)
    rig = egopose.load(shared_data / "pyxy3d_holistic4/config.toml")
    rows = np.searchsorted(holistic.frames, xyz.frames)
    off = np.linalg.norm(rig.project(xyz.xyz[:, body]) - holistic.uv_px[:, rows][:, :, body], axis=-1)
    assert np.nanmedian(off) < 20
    board = egopose.load(shared_data / "caliscope_charuco4/xy_CHARUCO.csv")
    points = egopose.load(shared_data / "caliscope_charuco4/xyz_CHARUCO.csv")
    rig = egopose.load(shared_data / "caliscope_charuco4/camera_array.toml")
    rows = np.searchsorted(board.frames, points.frames)
    columns = board.skeleton.indices(points.skeleton.joints)
    off = np.linalg.norm(rig.project(points.xyz) - board.uv_px[:, rows][:, :, columns], axis=-1)
    assert np.nanmedian(off) < 2
