"""The dataset object, its index and the stand-in.

Traps of the real dataset that are hit here and in the sibling files ``test_ego_exo4d_hand.py`` (H),
``test_ego_exo4d_aria.py`` (A) and ``test_ego_exo4d_submission.py`` (S):

1. the deleted body evaluator is micro over joints and drops short runs, the baseline's is macro over takes (S)
2. body submissions are world, hand submissions the landscape camera frame (S)
3. camera_pose intrinsics belong to undistorted images, its distortion to raw ones
4. camera_pose is keyed by camera, not by frame
5. all 2D annotations are in undistorted pixels
6. manual annotation is every third frame; the rate is inferred from the keys
7. hand scores align with scale and without reflection (S)
8. annotations hold bare NaN; a body joint is missing when its x is (S)
9. the ego mask is a disc of 233.6 px (A, H)
10. the challenge moved: the body track goes to CodaBench (S)
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from egopose import EgoposeError, load
from egopose.ego_exo4d import EgoExo4D, make_standin
from egopose.ego_exo4d.cameras import official_undistorted, true_size
from egopose.ego_exo4d.standin_world import BAD, MISSING, PORTRAIT
from egopose.metrics.protocols.body import scenario_of
from egopose.skeleton import BODY17
from egopose.triangulate import triangulate


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ego") / "data"
    make_standin(folder, takes=4, seed=3, seconds=4.0)
    return folder


@pytest.fixture
def data(root: Path, tmp_path: Path) -> EgoExo4D:
    return EgoExo4D(root, cache=tmp_path / "cache")


def test_takes_splits_and_selection(data: EgoExo4D) -> None:
    assert len(data) == 4
    assert [take.split for take in data] == ["train", "val", "test", "train"]
    take = data["takes/standin_cooking_01_1"]
    assert take is data[take.uid] is data[take.name]
    assert [t.scenario for t in data] == ["cooking", "music", "basketball", "bouldering"]
    assert [t.name for t in data.select(split="train", bouldering=False)] == ["standin_cooking_01_1"]
    assert len(data.select(kind="body")) == 3
    assert len(data.select(benchmark="ego_pose")) == 4
    assert data.select(benchmark="keystep") == []
    assert len(data.captures) == 2
    assert all(scenario_of(take.name) is not None for take in data)
    with pytest.raises(EgoposeError, match="no take"):
        data["nowhere"]
    with pytest.raises(EgoposeError, match="split"):
        data.select(split="training")


def test_standin_is_reproducible_and_refuses_a_full_folder(root: Path, tmp_path: Path) -> None:
    make_standin(tmp_path / "again", takes=1, seed=3, seconds=4.0)
    for path in (tmp_path / "again" / "annotations").rglob("*.json"):
        if path.name != "splits.json":
            assert path.read_bytes() == (root / path.relative_to(tmp_path / "again")).read_bytes()
    with pytest.raises(EgoposeError, match="not empty"):
        make_standin(root)


def test_defects_are_in_the_files(root: Path) -> None:
    text = "".join(path.read_text() for path in root.glob("annotations/ego_pose/*/*/*/*.json"))
    assert "NaN" in text
    documents = [json.loads(path.read_text()) for path in root.glob("annotations/ego_pose/*/*/*/*.json")]
    assert any(value == [] for d in documents for value in d.values())
    assert any(value and value[0]["annotation3D"] == {} for d in documents for value in d.values())
    assert any(value and value[0]["annotation2D"] == {} for d in documents for value in d.values())
    assert all(list(d) != sorted(d, key=int) for d in documents)
    assert not list(root.glob("annotations/ego_pose/test/body"))
    assert not list(root.glob("annotations/ego_pose/test/hand"))


# cameras


def test_cameras_portrait_bad_and_missing(data: EgoExo4D) -> None:
    take = data["standin_cooking_01_1"]
    cameras = take.exo_cameras
    assert set(cameras) == set(take.exo_names) == {f"cam0{i}" for i in range(1, 8)}
    assert cameras[PORTRAIT].portrait
    assert cameras[PORTRAIT].raw.size == cameras[PORTRAIT].undistorted.size == (2160, 3840)
    assert cameras["cam01"].raw.size == (3840, 2160)
    assert cameras[BAD].quality == 0
    assert "bad" in cameras[BAD].problem
    assert cameras[MISSING].problem == "no calibration"
    assert cameras["cam01"].problem is None
    assert take.rig("raw").names == ["cam01", "cam02", "cam03", PORTRAIT, "cam07"]
    assert BAD in take.rig("undistorted", keep_bad=True).names
    assert {c.image_space for c in take.rig("raw").cameras} == {"raw"}
    assert {c.image_space for c in take.rig("undistorted").cameras} == {"undistorted"}
    with pytest.raises(EgoposeError, match="raw"):
        take.rig("fisheye")


def test_undistorted_intrinsics_follow_from_the_raw_ones(data: EgoExo4D) -> None:
    # trap 3 and 4: camera_pose holds other intrinsics than gopro_calibs.csv, by OpenCV's rule
    for exo in data["standin_cooking_01_1"].exo_cameras.values():
        if exo.raw is None:
            continue
        own = official_undistorted(exo.raw)
        np.testing.assert_allclose(own.K, exo.undistorted.K, rtol=1e-6)
        theirs = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
            exo.raw.K, exo.raw.dist, exo.raw.size, np.eye(3), balance=0.8
        )
        np.testing.assert_allclose(own.K[[0, 1], [0, 1]], theirs[[0, 1], [0, 1]], rtol=1e-6)
        assert 1000 < own.K[0, 0] < 1300 < exo.raw.K[0, 0]
        np.testing.assert_allclose(exo.raw.T_world_camera, exo.undistorted.T_world_camera, atol=1e-6)


def test_a_portrait_recording_with_the_landscape_size_stated(data: EgoExo4D) -> None:
    camera = data["standin_cooking_01_1"].exo_cameras[PORTRAIT].raw
    from dataclasses import replace

    assert true_size(replace(camera, size=(3840, 2160))).size == (2160, 3840)
    assert true_size(camera).size == (2160, 3840)


def test_2d_lives_in_undistorted_pixels(data: EgoExo4D, root: Path) -> None:
    # trap 5: the 3D joints reproject onto the 2D with the undistorted cameras and not with the raw ones
    take = data["standin_cooking_01_1"]
    pose, seen = take.joints_3d("body", "automatic"), take.joints_2d("body", "automatic")
    assert seen.undistorted
    errors = {}
    for kind in ("raw", "undistorted"):
        camera = take.rig(kind)["cam01"]
        uv = seen.uv_px[seen.views.index("cam01")]
        errors[kind] = np.nanmedian(np.linalg.norm(camera.project(pose.xyz.astype(np.float64)) - uv, axis=-1))
    assert errors["undistorted"] < 0.01
    assert errors["raw"] > 50
    with pytest.raises(EgoposeError, match="undistorted"):
        triangulate(take.rig("raw"), seen)


def test_labels_from_the_clicks_are_near_the_truth(data: EgoExo4D, root: Path) -> None:
    take = data["standin_cooking_01_1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pose = triangulate(take.rig("undistorted"), take.joints_2d("body", "automatic"))
    truth = load(root / "truth" / f"{take.uid}.npz").select(frames=pose.frames).to_skeleton(BODY17)
    assert np.nanmedian(np.linalg.norm(pose.xyz - truth.xyz, axis=-1)) < 0.02


def test_other_sites_name_their_cameras_otherwise(root: Path, tmp_path: Path) -> None:
    # gp01 instead of cam01, and the head camera is the first key with "aria" in it
    for path in root.rglob("*"):
        if path.suffix in (".json", ".csv", ".jsonl") and "truth" not in path.parts:
            text = path.read_text().replace("cam0", "gp0").replace("aria01", "aria02")
            target = tmp_path / "data" / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    take = EgoExo4D(tmp_path / "data", cache=tmp_path / "cache")["standin_cooking_01_1"]
    here = EgoExo4D(root, cache=tmp_path / "other")["standin_cooking_01_1"]
    assert take.rig("raw").names == [name.replace("cam", "gp") for name in here.rig("raw").names]
    assert take.aria_name == "aria02"
    np.testing.assert_array_equal(take.head_poses(policy="skip")[1], here.head_poses(policy="skip")[1])
    np.testing.assert_array_equal(take.frame_times_ns(), here.frame_times_ns())
    ours, theirs = take.joints_2d("hand"), here.joints_2d("hand")
    assert set(ours.views) == {name.replace("cam", "gp").replace("aria01", "aria02") for name in theirs.views}
    assert ours.sizes[ours.views.index("aria02")] == (512, 512)


# head poses and clocks


def test_head_poses_gaps_and_policies(data: EgoExo4D) -> None:
    take = data["standin_cooking_01_1"]
    assert take.head_gaps() == [(40, 40), (60, 62)]
    with pytest.raises(EgoposeError, match="4 frames have no head pose, the first is 40"):
        take.head_poses()
    frames, T = take.head_poses(policy="skip")
    assert frames.size == 116
    assert not np.isin([40, 60, 61, 62], frames).any()
    every, filled = take.head_poses(policy="interpolate")
    assert every.size == 120
    np.testing.assert_array_equal(filled[frames], T)
    path = take.head_trajectory()
    exact = path.at(every / 30.0)
    assert np.abs(filled[:, :3, 3] - exact[:, :3, 3]).max() < 1e-2
    with pytest.raises(EgoposeError, match="gap"):
        take.head_poses(policy="interpolate", max_gap_s=0.05)
    with pytest.raises(EgoposeError, match="nothing is made up outside"):
        take.head_poses([119, 120], policy="interpolate")
    with pytest.raises(EgoposeError, match="policy"):
        take.head_poses(policy="guess")


def test_landscape_camera_points_its_x_axis_to_the_ground(data: EgoExo4D) -> None:
    _, T = data["standin_piano_01_2"].head_poses(policy="skip")
    # x of the camera in the world, z component: down
    assert T[:, 2, 0].max() < -0.5
    clip = data["standin_piano_01_2"].clip("body")
    # the clip is upright: its y axis points down and its z forward and a little down
    assert clip.trajectory.T_world_camera[:, 2, 1].max() < -0.5
    assert clip.camera.size == (1408, 1408)
    with pytest.raises(EgoposeError, match="takes"):
        data["standin_piano_01_2"].clip("hand")


def test_closed_loop_and_time_sync_agree_with_camera_pose(data: EgoExo4D) -> None:
    for name in ("standin_cooking_01_1", "standin_piano_01_2"):
        take = data[name]
        times = take.frame_times_ns()
        assert times.size == 120
        np.testing.assert_allclose(np.diff(times), 1e9 / 30, atol=2)
        frames, T = take.head_poses(policy="skip")
        path = take.head_trajectory().at((times[frames] - times[0]) * 1e-9)
        assert np.abs(path[:, :3, 3] - T[:, :3, 3]).max() < 1e-5
        assert np.abs(path[:, :3, :3] - T[:, :3, :3]).max() < 1e-5


def test_time_sync_that_is_too_short(data: EgoExo4D) -> None:
    take = data["standin_cooking_01_1"]
    short = type(take)(data, {**take.info, "timesync_end_idx": 10**6}, take.split, take.benchmarks)
    with pytest.raises(EgoposeError, match="rows"):
        short.frame_times_ns()


# annotations and index


def plain_reading(path: Path, names: dict[str, str], skeleton) -> dict[int, dict[str, tuple]]:
    """Joints of a file by the plainest code: json and loops."""
    result = {}
    for key, value in json.loads(path.read_text()).items():
        joints = {}
        for joint, p in (value[0]["annotation3D"] if value else {}).items():
            if all(np.isfinite(p[a]) for a in "xyz"):
                joints[names[joint]] = (p["x"], p["y"], p["z"], p["num_views_for_3d"])
        result[int(key)] = joints
    return result


@pytest.mark.parametrize("kind", ["body", "hand"])
@pytest.mark.parametrize("source", ["manual", "automatic"])
def test_annotations_equal_a_plain_reading(data: EgoExo4D, root: Path, kind: str, source: str) -> None:
    from egopose.io.ego_exo4d_annotation import BODY_NAMES, HAND_NAMES

    take = data["standin_piano_01_2"]
    raw = take.raw_annotation(kind, source)
    folder = {"manual": "annotation", "automatic": "automatic"}[source]
    path = root / "annotations" / "ego_pose" / "val" / kind / folder / f"{take.uid}.json"
    truth = plain_reading(path, BODY_NAMES if kind == "body" else HAND_NAMES, raw.skeleton)
    assert raw.frames.tolist() == sorted(truth)
    for t, frame in enumerate(raw.frames.tolist()):
        known = {raw.skeleton.joints[j] for j in np.flatnonzero(np.isfinite(raw.xyz[t]).all(-1))}
        assert known == set(truth[frame])
        for joint, (x, y, z, views) in truth[frame].items():
            j = raw.skeleton.index(joint)
            assert raw.xyz[t, j].tolist() == np.float32([x, y, z]).tolist()
            assert raw.num_views[t, j] == views
    # trap 6: the rate comes from the keys
    assert raw.step == (3 if source == "manual" else 1)


def test_min_views_and_clicked_only(data: EgoExo4D) -> None:
    take = data["standin_piano_01_2"]
    every, three = take.joints_3d("hand"), take.joints_3d("hand", min_views=3)
    views = take.raw_annotation("hand").num_views
    assert (every.valid & (views < 3)).any()
    np.testing.assert_array_equal(three.valid, every.valid & (views >= 3))
    clicked = take.joints_2d("hand", clicked_only=True)
    assert 0 < clicked.seen.sum() < take.joints_2d("hand").seen.sum()
    assert set(np.unique(clicked.score)) == {0.0, 1.0}
    assert take.joints_2d("hand").sizes[take.joints_2d("hand").views.index("aria01")] == (512, 512)


def test_missing_annotations_name_the_download_part(data: EgoExo4D, root: Path, tmp_path: Path) -> None:
    test_take = data["standin_basketball_02_1"]
    with pytest.raises(EgoposeError, match="test split has no published"):
        test_take.joints_3d("body")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "takes.json").write_text((root / "takes.json").read_text())
    take = EgoExo4D(bare, cache=tmp_path / "c")["standin_cooking_01_1"]
    for call, part in (
        (lambda: take.joints_3d("body"), "annotations"),
        (lambda: take.joints_3d("body", "automatic"), "ego_pose_pseudo_gt"),
        (lambda: take.rig("raw"), "take_trajectory"),
        (lambda: take.rig("undistorted"), "annotations"),
        (take.head_poses, "annotations"),
        (take.frame_times_ns, "captures"),
        (lambda: take.video("cam01"), "takes"),
    ):
        with pytest.raises(EgoposeError, match=f"--parts {part}"):
            call()


def test_each_file_is_parsed_once(root: Path, tmp_path: Path) -> None:
    first = EgoExo4D(root, cache=tmp_path / "cache")
    assert first.update() == 12
    assert first.update() == 0
    again = EgoExo4D(root, cache=tmp_path / "cache")
    assert again.update() == 0
    for take in again.select(kind="hand", source="automatic"):
        mine, fresh = again.index("hand", "automatic")[take.uid], first.index("hand", "automatic")[take.uid]
        np.testing.assert_array_equal(mine.xyz, fresh.xyz)
        np.testing.assert_array_equal(mine.uv_px, fresh.uv_px)
    assert again.index("hand", "automatic").parsed == 0


def test_a_changed_file_is_noticed_and_a_touched_one_is_not_read_again(root: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    data = EgoExo4D(copy, cache=tmp_path / "cache")
    data.update()
    take = data["standin_cooking_01_1"]
    before = np.array(data.index("body", "manual")[take.uid].xyz)
    path = data.index("body", "manual").files[take.uid]
    os.utime(path, ns=(1, 1))
    touched = EgoExo4D(copy, cache=tmp_path / "cache")
    np.testing.assert_array_equal(touched.index("body", "manual")[take.uid].xyz, before)
    assert touched.update() == 0
    document = json.loads(path.read_text())
    key = next(k for k in document if document[k] and document[k][0]["annotation3D"].get("nose"))
    document[key][0]["annotation3D"]["nose"].update(x=1.25, y=1.0, z=1.0)
    path.write_text(json.dumps(document))
    changed = EgoExo4D(copy, cache=tmp_path / "cache").index("body", "manual")
    raw = changed[take.uid]
    assert changed.parsed == 1
    assert raw.xyz[np.searchsorted(raw.frames, int(key)), BODY17.index("nose"), 0] == 1.25
    # a file that went away leaves the table, a broken one is refused without stopping the rest
    other = data["standin_piano_01_2"].uid
    data.index("body", "manual").files[other].write_text("{")
    path.unlink()
    last = EgoExo4D(copy, cache=tmp_path / "cache").index("body", "manual")
    last.update()
    assert set(last.refused) == {other}
    assert take.uid not in last._load()
    with pytest.raises(EgoposeError, match="JSON"):
        last[other]
    assert last[data["standin_bouldering_02_2"].uid].frames.size


def test_a_damaged_table_or_segment(root: Path, tmp_path: Path) -> None:
    data = EgoExo4D(root, cache=tmp_path / "cache")
    data.update()
    folder = data.index("body", "manual").folder
    (folder / "table.json").write_text("{}")
    assert EgoExo4D(root, cache=tmp_path / "cache").index("body", "manual").update()
    next(folder.glob("segment-*/xyz.npy")).write_bytes(b"nonsense")
    index = EgoExo4D(root, cache=tmp_path / "cache").index("body", "manual")
    with pytest.raises(EgoposeError, match="damaged"):
        index[next(iter(index))]


def test_old_takes_json_is_named(root: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    takes = json.loads((copy / "takes.json").read_text())
    gone = takes.pop(2)["take_uid"]
    (copy / "takes.json").write_text(json.dumps(takes))
    data = EgoExo4D(copy, cache=tmp_path / "c")
    assert data.release()[0] == "v1"
    with pytest.raises(EgoposeError, match="V2"):
        data[gone]
    assert EgoExo4D(root, cache=tmp_path / "c").release()[0] == "unknown"


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(EgoposeError, match="egoexo"):
        EgoExo4D(tmp_path)
    (tmp_path / "takes.json").write_text("{}")
    with pytest.raises(EgoposeError, match="no list of takes"):
        EgoExo4D(tmp_path)
