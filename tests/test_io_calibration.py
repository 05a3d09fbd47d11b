"""Calibrations: each file gives the camera that its own program would have, checked by OpenCV's projection."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import egopose
from egopose import rigid
from egopose.camera import Camera, Rig
from egopose.errors import EgoposeError, EgoposeWarning
from tests.io_cases import EXAMPLES, OPTIONS, camera_pose, gopro_csv, ring

RING = ("anipose-toml", "native-rig", "opencv", "panoptic-json", "qualisys", "stereo-dat")
POINTS = np.random.default_rng(3).uniform([-0.5, -0.5, 0.5], [0.5, 0.5, 1.8], (40, 3))


def _cv2_pixels(camera: Camera, points: np.ndarray) -> np.ndarray:
    """The oracle: OpenCV projects with the numbers that went into the file."""
    T = camera.T_camera_world
    rotation, _ = cv2.Rodrigues(T[:3, :3])
    if camera.model == "kannala_brandt":
        uv, _ = cv2.fisheye.projectPoints(points[:, None], rotation, T[:3, 3], camera.K, camera.dist)
    else:
        uv, _ = cv2.projectPoints(points, rotation, T[:3, 3], camera.K, camera.dist)
    return uv.reshape(-1, 2)


@pytest.mark.parametrize("name", RING)
def test_every_reader_gives_the_same_cameras(name: str, tmp_path: Path) -> None:
    rig = egopose.load(EXAMPLES[name](tmp_path), **OPTIONS.get(name, {}))
    truth = ring(2 if name == "stereo-dat" else 3)
    assert len(rig) == len(truth)
    for camera, expected in zip(rig, truth):
        assert camera.size == expected.size
        np.testing.assert_allclose(camera.project(POINTS), _cv2_pixels(expected, POINTS), atol=2e-9 * 1280)


def test_gopro_calibs_by_cv2_fisheye(tmp_path: Path) -> None:
    rig = egopose.load(EXAMPLES["ego-exo4d-gopro-calibs"](tmp_path))
    assert rig.image_space == "raw"
    assert rig.names == ["cam01", "cam02", "cam03"]
    for camera, expected in zip(rig, ring(fisheye=True)):
        np.testing.assert_allclose(camera.project(POINTS), _cv2_pixels(expected, POINTS), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_toml_round_trip(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("toml") / "x.toml"
    cameras = []
    for i, count in enumerate(rng.choice([0, 4, 5, 8, 12, 14], 3)):
        R = rigid.rotation_from_vector(rng.normal(size=3) * rng.choice([1e-9, 1, 3]))
        K = np.array([[rng.uniform(100, 3000), 0, 300], [0, 800.5, 200], [0, 0, 1]])
        fisheye = bool(rng.random() < 0.3)
        dist = rng.normal(0, 0.05, 4 if fisheye else count)
        name = ["a", 'quo"te \\ \n', "cam é"][i]
        space = "undistorted" if count == 0 and not fisheye and rng.random() < 0.5 else "raw"
        cameras.append(
            Camera.from_opencv(
                K, dist, R, rng.normal(size=3), (640, 480), fisheye=fisheye, name=name, image_space=space
            )
        )
    if len({camera.image_space for camera in cameras}) > 1:
        cameras = [c for c in cameras if c.image_space == "undistorted"]
    rig = Rig(cameras)
    egopose.save(rig, path)
    back = egopose.load(path)
    assert back.names == rig.names
    for a, b in zip(back, rig):
        assert (a.model, a.size, a.image_space) == (b.model, b.size, b.image_space)
        np.testing.assert_array_equal(a.params, b.params)
        np.testing.assert_allclose(a.T_world_camera, b.T_world_camera, atol=1e-13)


def test_toml_refuses_a_model_it_cannot_hold(tmp_path: Path) -> None:
    params = np.r_[600.0, 320, 240, np.zeros(12)]
    rig = Rig([Camera.fisheye624(params, (640, 480), name="aria")])
    with pytest.raises(EgoposeError, match=r"model 'fisheye624' is not one of OpenCV's; write the native .json"):
        egopose.save(rig, tmp_path / "x.toml")
    assert not list(tmp_path.iterdir())


def test_opencv_xml_and_one_camera_without_pose(tmp_path: Path) -> None:
    storage = cv2.FileStorage(str(tmp_path / "cam.xml"), cv2.FILE_STORAGE_WRITE)
    expected = ring()["cam01"]
    for name, value in (("image_width", 1280), ("image_height", 720)):
        storage.write(name, value)
    storage.write("camera_matrix", expected.K)
    storage.write("distortion_coefficients", expected.dist[:, None])
    storage.release()
    camera = egopose.load(tmp_path / "cam.xml").cameras[0]
    np.testing.assert_array_equal(camera.params, expected.params)
    np.testing.assert_array_equal(camera.T_world_camera, np.eye(4))


def test_easymocap_pair_of_files(tmp_path: Path) -> None:
    intri = cv2.FileStorage(str(tmp_path / "intri.yml"), cv2.FILE_STORAGE_WRITE)
    extri = cv2.FileStorage(str(tmp_path / "extri.yml"), cv2.FILE_STORAGE_WRITE)
    for camera in ring():
        T = camera.T_camera_world
        intri.write(f"K_{camera.name}", camera.K)
        intri.write(f"dist_{camera.name}", camera.dist[None])
        extri.write(f"R_{camera.name}", cv2.Rodrigues(T[:3, :3])[0])
        extri.write(f"Rot_{camera.name}", T[:3, :3])
        extri.write(f"T_{camera.name}", T[:3, 3:])
    intri.release()
    extri.release()
    with pytest.raises(EgoposeError, match="the image size is not stored; give size="):
        egopose.load(tmp_path)
    rig = egopose.load(tmp_path, size="1280x720")
    for camera, expected in zip(rig, ring()):
        np.testing.assert_allclose(camera.project(POINTS), _cv2_pixels(expected, POINTS), atol=1e-8)


def test_stereo_sample_of_opencv(tmp_path: Path) -> None:
    storage = cv2.FileStorage(str(tmp_path / "stereo.yml"), cv2.FILE_STORAGE_WRITE)
    R = rigid.rotation_from_vector([0.0, 0.3, 0.0])
    t = np.array([-0.4, 0.01, 0.02])
    for name, value in (("M1", ring()["cam01"].K), ("D1", np.zeros((1, 5))), ("M2", ring()["cam02"].K),
                        ("D2", np.zeros((1, 5))), ("R", R), ("T", t[:, None])):  # fmt: skip
        storage.write(name, value)
    storage.release()
    rig = egopose.load(tmp_path / "stereo.yml", size=(640, 480))
    np.testing.assert_allclose(rig.cameras[1].T_camera_world[:3], np.c_[R, t], atol=1e-12)
    np.testing.assert_array_equal(rig.cameras[0].T_world_camera, np.eye(4))


def test_kalibr_chain_and_ros(tmp_path: Path) -> None:
    T = np.eye(4)
    T[:3, 3] = [-0.1, 0, 0]
    text = f"""
cam0:
  camera_model: pinhole
  intrinsics: [461.6, 460.3, 362.6, 246.6]
  distortion_model: equidistant
  distortion_coeffs: [0.1, 0.01, -0.02, 0.003]
  resolution: [752, 480]
cam1:
  T_cn_cnm1: {T.tolist()}
  camera_model: pinhole
  intrinsics: [460.0, 459.0, 370.0, 250.0]
  distortion_model: radtan
  distortion_coeffs: [-0.28, 0.07, 0.0002, 0.00001]
  resolution: [752, 480]
cam2:
  T_cn_cnm1: {T.tolist()}
  camera_model: pinhole
  intrinsics: [460.0, 459.0, 370.0, 250.0]
  distortion_coeffs: [0, 0, 0, 0]
  resolution: [752, 480]
"""
    (tmp_path / "chain.yaml").write_text(text)
    rig = egopose.load(tmp_path / "chain.yaml")
    assert [camera.model for camera in rig] == ["kannala_brandt", "brown_conrady", "pinhole"]
    np.testing.assert_allclose(rig["cam2"].center_world, [0.2, 0, 0], atol=1e-12)
    ros = """
image_width: 640
image_height: 480
camera_name: head
camera_matrix: {rows: 3, cols: 3, data: [500, 0, 320, 0, 501, 240, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0.001, 0.002, 0]}
"""
    (tmp_path / "ros.yaml").write_text(ros)
    camera = egopose.load(tmp_path / "ros.yaml").cameras[0]
    assert (camera.name, camera.model, camera.size) == ("head", "brown_conrady", (640, 480))


# Ego-Exo4D and Aria --------------------------------------------------------------------------------------------------


def test_gopro_quality_and_spans(tmp_path: Path) -> None:
    path = tmp_path / "gopro_calibs.csv"
    path.write_text(gopro_csv(ring(fisheye=True), quality={"cam02": 0}))
    with pytest.warns(EgoposeWarning, match="left out cam02: calibration quality below 1"):
        assert egopose.load(path).names == ["cam01", "cam03"]
    assert egopose.load(path, min_quality=-1).names == ["cam01", "cam02", "cam03"]
    lines = gopro_csv(ring(fisheye=True)).splitlines()
    doubled = [lines[0], lines[1].replace("-1,-1,1", "0,99,1"), lines[1].replace("-1,-1,1", "100,200,1"), lines[2]]
    path.write_text("\n".join(doubled))
    with pytest.raises(EgoposeError, match=r"camera 'cam01' has several calibrations .* give frame="):
        egopose.load(path)
    assert egopose.load(path, frame=150).names == ["cam01", "cam02"]


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("KANNALABRANDTK3", "PINHOLE", "camera model 'PINHOLE'; expected 'KANNALABRANDTK3'"),
        ("qw_world_cam", "qq", "column 'qw_world_cam' is missing"),
        (r"(?m)^(cam02,graph),[^,]*", r"\1,nan", "row 3, camera 'cam02': holds NaN"),
        (r"(?m)^(cam02,graph,[^,]*,[^,]*,[^,]*),[^,]*", r"\1,9", "the quaternion has length"),
        (r"(?m)^cam02", "cam01", "camera 'cam01' has several calibrations"),
        (r",1280,720,", ",1280.5,720,", "expected the image width and height in whole pixels"),
    ],
)
def test_broken_gopro_calibs(pattern: str, replacement: str, message: str, tmp_path: Path) -> None:
    text, count = re.subn(pattern, replacement, gopro_csv(ring(fisheye=True)))
    assert count
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(EgoposeError, match=message):
        egopose.load(tmp_path / "x.csv", format="ego-exo4d-gopro-calibs")


def test_camera_pose_is_undistorted_and_keeps_gaps(tmp_path: Path) -> None:
    path = tmp_path / "take.json"
    path.write_text(json.dumps(camera_pose(ring(), 6, skip=(3,))))
    rig = egopose.load(path)
    assert rig.image_space == "undistorted"
    assert {camera.model for camera in rig} == {"pinhole"}
    assert {camera.size for camera in rig} == {(3840, 2160)}
    np.testing.assert_allclose(rig["cam02"].T_camera_world, ring()["cam02"].T_camera_world, atol=1e-12)
    ego = egopose.load(path, part="ego_camera").cameras[0]
    assert (ego.name, ego.size) == ("aria01", (512, 512))
    trajectory = egopose.load(path, part="trajectory")
    np.testing.assert_allclose(trajectory.times_s * 30, [0, 1, 2, 4, 5])
    expected = rigid.make_transform(rigid.rotation_from_vector([0.4, 0.2, 0.3]), [0.04, 0.2, 1.6])
    np.testing.assert_allclose(trajectory.T_world_camera[3], expected, atol=1e-12)
    with pytest.raises(EgoposeError, match="no head camera 'aria07'"):
        egopose.load(path, part="trajectory", camera="aria07")


def test_aria_camera_in_the_device_frame(tmp_path: Path) -> None:
    path = EXAMPLES["aria-online-calibration"](tmp_path)
    rig = egopose.load(path)
    assert [camera.size for camera in rig] == [(640, 480), (2880, 2880)]
    assert {camera.model for camera in rig} == {"fisheye624"}
    np.testing.assert_allclose(rig["camera-rgb"].center_world, [0.01, -0.02, 0.03], atol=1e-12)
    assert egopose.load(path, time_us=1900) == egopose.load(path, record=1)
    device = EXAMPLES["aria-trajectory"](tmp_path)
    head = egopose.load(device, calibration=str(path), camera="camera-rgb")
    with pytest.warns(EgoposeWarning, match="poses of the device, not of a camera"):
        bare = egopose.load(device)
    expected = bare.T_world_camera @ rig["camera-rgb"].T_world_camera
    np.testing.assert_allclose(head.T_world_camera, expected, atol=1e-12)
    assert egopose.load(device, T_device_camera=np.eye(4), start_us=1000).times_s[1] == 0


# Bad calibrations ----------------------------------------------------------------------------------------------------


def _break(content: dict[str, Any], key: str, value: Any) -> None:
    content["cameras"][1][key] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("K", [[float("nan"), 0, 1], [0, 1, 1], [0, 0, 1]], r"camera 'cam02': K: holds NaN or infinity"),
        ("K", [[900, 5, 640], [0, 900, 360], [0, 0, 1]], r"camera 'cam02': the camera matrix has a skew of 5"),
        ("K", [[900, 0], [0, 900]], r"K: has shape \(2, 2\); expected \(3, 3\)"),
        ("K", [[0, 0, 640], [0, 900, 360], [0, 0, 1]], "focal lengths are 0 and 900; expected positive"),
        ("R", [[1, 0, 0], [0, 1, 0.1], [0, 0, 1]], "camera 'cam02': the rotation is not orthonormal"),
        ("R", [[1, 0, 0], [0, 1, 0], [0, 0, -1]], "the rotation is a reflection"),
        ("t", [[1], [2]], "camera 'cam02'.*translation: has shape"),
        ("t", "far", "is not an array of numbers"),
        ("distCoef", [1, 2, 3], "3 coefficients; expected 4, 5, 8, 12 or 14"),
        ("resolution", [0, 720], "expected the image width and height in whole pixels"),
        ("name", "cam01", "'cam01' stands twice|two cameras are named 'cam01'"),
    ],
)
def test_a_bad_camera_is_named(key: str, value: Any, message: str, tmp_path: Path) -> None:
    path = EXAMPLES["panoptic-json"](tmp_path)
    content = json.loads(path.read_text())
    _break(content, key, value)
    path.write_text(json.dumps(content))
    with pytest.raises(EgoposeError, match=message) as caught:
        egopose.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("unit", ["mm", "cm"])
def test_a_rig_in_another_unit_is_noticed(unit: str, tmp_path: Path) -> None:
    scale = {"mm": 1000.0, "cm": 100.0}[unit]
    T = [camera.T_world_camera.copy() for camera in ring()]
    for pose in T:
        pose[:3, 3] *= scale
    egopose.save(Rig([c.moved(pose) for c, pose in zip(ring(), T)]), tmp_path / "x.toml")
    with pytest.warns(EgoposeWarning, match=r"the cameras are a median of 5\d+.* apart .*metres are expected"):
        egopose.load(tmp_path / "x.toml")
    rig = egopose.load(tmp_path / "x.toml", unit=unit)
    np.testing.assert_allclose(rig["cam01"].center_world, ring()["cam01"].center_world, atol=1e-12)


def test_no_camera_and_unplaced_cameras(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"cameras": [], "distCoef": 0}))
    with pytest.raises(EgoposeError, match="no camera of type None"):
        egopose.load(tmp_path / "x.json", format="panoptic-json")
    text = re.sub(
        r"(?ms)^rotation.*?$\n^translation.*?$\n", "", EXAMPLES["anipose-toml"](tmp_path).read_text(), count=1
    )
    (tmp_path / "y.toml").write_text(text)
    with pytest.warns(EgoposeWarning, match="was not placed"):
        assert egopose.load(tmp_path / "y.toml").names == ["cam02", "cam03"]
    (tmp_path / "z.toml").write_text("[a]\nmatrix = 3\ndistortions = 4\n")
    with pytest.warns(EgoposeWarning), pytest.raises(EgoposeError, match="no camera is left"):
        egopose.load(tmp_path / "z.toml")


def test_raw_and_undistorted_do_not_share_a_file(tmp_path: Path) -> None:
    egopose.save(ring(2), tmp_path / "x.toml")
    text = (tmp_path / "x.toml").read_text()
    (tmp_path / "x.toml").write_text(text.replace("fisheye = false", 'fisheye = false\nimage_space = "undistorted"', 1))
    with pytest.raises(EgoposeError, match="raw and undistorted cameras together"):
        egopose.load(tmp_path / "x.toml")


@pytest.mark.shared
def test_real_calibrations(shared_data: Path) -> None:
    """Every real calibration file reads; Qualisys and the TOML derived from it are the same cameras."""
    toml = egopose.load(shared_data / "pose2sim_single/calibration/Calib_qualisys.toml")
    qca = egopose.load(shared_data / "pose2sim_single/calibration/Calib.qca.txt")
    for a, b in zip(toml, qca):
        assert a.size == b.size == (1088, 1920)
        np.testing.assert_allclose(a.params, b.params, rtol=1e-12)
        np.testing.assert_allclose(a.T_world_camera, b.T_world_camera, atol=1e-12)
    sizes = {
        "caliscope_charuco4/camera_array.toml": (4, (1280, 720)),
        "pyxy3d_holistic4/config.toml": (4, (1280, 720)),
    }
    for name, (count, size) in sizes.items():
        rig = egopose.load(shared_data / name)
        assert rig.names == [f"cam_{i}" for i in range(count)]
        assert {camera.size for camera in rig} == {size}
    panoptic = egopose.load(shared_data / "panoptic_160906_band1/calibration_160906_band1.json")
    assert len(panoptic) == 520
    hd = egopose.load(shared_data / "panoptic_160906_band1/calibration_160906_band1.json", type="hd")
    assert len(hd) == 31
    assert 1 < np.median(hd.baselines()) < 6
    with pytest.warns(EgoposeWarning, match="board's square"):
        hand = egopose.load(shared_data / "handpose3d_2cam/camera_parameters", size=(720, 720))
    assert hand.names == ["cam0", "cam1"]
    aria = egopose.load(shared_data / "aria_mps_sample/online_calibration_head.jsonl", record=2)
    assert "camera-rgb" in aria.names
    with pytest.warns(EgoposeWarning, match="device"):
        assert len(egopose.load(shared_data / "adt_skeleton/aria_trajectory.csv")) == 6
    hands = egopose.load(shared_data / "aria_mps_sample/hand_tracking_results_v2.csv")
    assert hands.n_frames == 8
    wrist = hands.xyz[0, hands.skeleton.index("left_hand_wrist")]
    np.testing.assert_allclose(wrist, [0.187311, -0.188174, 0.247045], atol=1e-6)
