"""Cameras: checks at construction, other images of the same lens, and the real calibrations."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egopose import rigid
from egopose.camera import Camera
from egopose.errors import EgoposeError

GOPRO = [0.036902, 0.057131, -0.057154, 0.018458]
GOPRO_K = np.array([[1761.275757, 0, 1920.0], [0, 1761.275757, 1080.0], [0, 0, 1]])
BROWN = [0.1, -0.2, 0.001, -0.002, 0.1, 0.12, -0.1, 0.05, 0.001, -0.002, 0.003, 0.0004]
ARIA = [1220.01943882295, 1461.091249679011, 1447.087207987354, 0.411035882200732, -0.456468282322496]
ARIA += [0.038303075146701, 1.298336637403988, -1.770471163632234, 0.654993502244781, -7.9203062637e-05]
ARIA += [4.4207001233e-05, -0.000587384169463, 0.00056439365081, 0.000515794638327, 0.000235027249453]
K = np.array([[911.0, 0, 643.25], [0, 905.5, 355.5], [0, 0, 1]])
R = cv2.Rodrigues(np.array([0.3, -0.7, 0.2]))[0]
T_VEC = np.array([0.2, -0.1, 3.0])


def gopro(**keywords):
    return Camera.from_opencv(GOPRO_K, GOPRO, R, T_VEC, (3840, 2160), fisheye=True, name="cam01", **keywords)


def cameras():
    pose = rigid.invert(rigid.make_transform(R, T_VEC))
    return {
        "pinhole": Camera.from_opencv(K, None, R, T_VEC, (1280, 720)),
        "brown": Camera.from_opencv(K, BROWN, R, T_VEC, (1280, 720), name="b"),
        "tilted": Camera.from_opencv(K, [*BROWN, 0.04, 0.0], R, T_VEC, (1280, 720), name="t"),
        "tilted_y": Camera.from_opencv(K, [*BROWN, 0.0, -0.03], R, T_VEC, (1280, 720), name="t"),
        "gopro": gopro(),
        "aria": Camera.fisheye624(ARIA, (2880, 2880), pose, name="rgb", max_angle=1.0),
    }


CAMERAS = cameras()


def world_points(camera, n=400, seed=3):
    """World points on rays through pixels all over the image (those that have one)."""
    rng = np.random.default_rng(seed)
    uv = rng.uniform(-0.5, np.array(camera.size) - 0.5, (n, 2))
    origin, rays = camera.rays_world(uv)
    kept = np.isfinite(rays).all(-1)
    assert kept.mean() > 0.5
    return uv[kept], origin + rays[kept] * rng.uniform(0.5, 5, (kept.sum(), 1))


# Construction


@pytest.mark.parametrize("count", [0, 4, 5, 8, 12, 14])
def test_from_opencv_projects_like_opencv(count):
    dist = np.array([*BROWN, 0.02, -0.01][:count]) if count else None
    camera = Camera.from_opencv(K, dist, R, T_VEC, (1280, 720))
    points = np.random.default_rng(0).normal(0, 0.6, (5, 7, 3))
    truth = cv2.projectPoints(points.reshape(-1, 3), cv2.Rodrigues(R)[0], T_VEC, K, dist)[0].reshape(5, 7, 2)
    np.testing.assert_allclose(camera.project(points), truth, rtol=1e-11)
    assert np.array_equal(camera.K, K)
    assert np.allclose(camera.T_camera_world[:3], np.c_[R, T_VEC], atol=1e-15)
    assert camera.dist.tolist() == ([0.0] * 4 if dist is None else dist.tolist())


def test_from_opencv_fisheye_projects_like_opencv():
    points = np.random.default_rng(0).normal(0, 0.6, (200, 3))
    rotation = cv2.Rodrigues(R)[0]
    truth = cv2.fisheye.projectPoints(points[:, None], rotation, T_VEC, GOPRO_K, np.array(GOPRO))[0][:, 0]
    np.testing.assert_allclose(gopro().project(points), truth, rtol=1e-11)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3)])
def test_rodrigues_and_column_vectors(shape):
    vector = np.array([0.3, -0.7, 0.2]).reshape(shape)
    camera = Camera.from_opencv(K.tolist(), [0, 0, 0, 0], vector, T_VEC.reshape(3, 1), (1280, 720))
    assert np.allclose(camera.T_camera_world[:3, :3], R, atol=1e-15)
    assert camera.model == "pinhole"  # zeros are no distortion


def test_a_nearly_orthonormal_rotation_is_cleaned():
    camera = Camera.from_opencv(K, None, R + 2e-5, T_VEC, (1280, 720))
    r = camera.T_world_camera[:3, :3]
    assert np.abs(r @ r.T - np.eye(3)).max() < 4e-15
    assert np.linalg.det(r) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"R": R * 1.01}, "not orthonormal.*0.0201"),
        ({"R": R @ np.diag([1, 1, -1])}, "reflection"),
        ({"R": np.full((3, 3), np.nan)}, "NaN"),
        ({"R": [np.nan, 0, 0]}, "NaN"),
        ({"R": np.eye(4)}, r"\(4, 4\)"),
        ({"t": [0, np.inf, 0]}, "translation holds NaN or infinity"),
        ({"t": [0, 1]}, "2 numbers"),
        ({"K": np.where(np.eye(3) > 0, np.nan, K)}, "NaN"),
        ({"K": K @ np.diag([-1, 1, 1])}, "expected positive"),
        ({"K": K.T}, "expected \\[\\[fx"),
        ({"K": K + 3 * np.eye(3, k=1) * [[1], [0], [0]]}, "skew of 3"),
        ({"K": np.eye(4)}, "16 numbers"),
        ({"dist": [0.1, np.nan, 0, 0]}, "NaN or infinity.*parameter 5"),
        ({"dist": [0.1, 0.2, 0.3]}, "3 coefficients"),
        ({"dist": [0.1] * 5, "fisheye": True}, "5 fisheye"),
        ({"dist": "lens"}, "expected numbers"),
        ({"size": (0, 720)}, "positive"),
        ({"size": (1280.5, 720)}, "whole"),
        ({"size": 1280}, "width, height"),
        ({"size": (1280, 720, 3)}, "width, height"),
        ({"name": ""}, "non-empty"),
        ({"max_angle": -1.0}, "max_angle"),
        ({"image_space": "rectified"}, "image_space"),
    ],
)
def test_bad_calibrations_are_refused(change, words):
    arguments = {"K": K, "dist": None, "R": R, "t": T_VEC, "size": (1280, 720), "name": "left", **change}
    with pytest.raises(EgoposeError, match=words):
        Camera.from_opencv(**arguments)


def test_unknown_models_and_counts_are_refused():
    with pytest.raises(EgoposeError, match="expected one of pinhole, brown_conrady"):
        Camera("fisheye", (10, 10), [1, 1, 0, 0], np.eye(4))
    with pytest.raises(EgoposeError, match=r"17 parameters.*12 coefficients"):
        Camera("fisheye624", (10, 10), np.ones(17), np.eye(4))
    with pytest.raises(EgoposeError, match="last row"):
        Camera("pinhole", (10, 10), [1, 1, 0, 0], np.ones((4, 4)))


def test_points_of_a_wrong_shape_are_refused():
    with pytest.raises(EgoposeError, match=r"\(5, 2\).*\(\.\.\., 3\)"):
        gopro().project(np.zeros((5, 2)))
    with pytest.raises(EgoposeError, match="frame is 'lens'"):
        gopro().project(np.zeros(3), frame="lens")
    with pytest.raises(EgoposeError, match="not numbers"):
        gopro().unproject([["a", "b"]])


# Projecting


@pytest.mark.parametrize("name", CAMERAS)
def test_unproject_is_the_inverse_over_the_whole_image(name):
    camera = CAMERAS[name]
    uv, points = world_points(camera)
    np.testing.assert_allclose(camera.project(points), uv, rtol=0, atol=1e-8)
    assert camera.visible(points).all()
    local = rigid.transform_points(camera.T_camera_world, points)
    np.testing.assert_allclose(camera.project(local, frame="camera"), uv, rtol=0, atol=1e-8)
    assert np.abs(np.linalg.norm(camera.unproject(uv), axis=-1) - 1).max() < 1e-14


def test_shapes_dtypes_and_missing_points():
    camera = CAMERAS["brown"]
    points = np.zeros((2, 3, 4, 3), dtype=np.float32)
    points[0, 0, 0] = np.nan
    uv = camera.project(points)
    assert uv.shape == (2, 3, 4, 2)
    assert uv.dtype == np.float64
    assert np.isnan(uv[0, 0, 0]).all()
    assert np.isfinite(uv[1]).all()
    assert not camera.visible(points)[0, 0, 0]
    assert camera.project([0, 0, 0]).shape == (2,)
    assert camera.project(np.zeros((0, 3))).shape == (0, 2)
    assert camera.unproject(np.zeros((4, 0, 2))).shape == (4, 0, 3)
    with pytest.raises(ValueError, match="read-only"):
        camera.params[0] = 1.0


def test_visible_means_in_the_image_and_in_front():
    camera = Camera.pinhole(100, None, (101, 51))
    assert (camera.K[0, 2], camera.K[1, 2]) == (50, 25)
    pixels = np.array([[-0.5, -0.5], [100.5, 50.5], [100.51, 0], [0, -0.51]])
    points = np.c_[(pixels - [50, 25]) / 100, np.ones(4)]
    assert camera.visible(points).tolist() == [True, True, False, False]
    assert not camera.visible(-points).any()


# Other images of the same lens


@pytest.mark.parametrize("name", CAMERAS)
def test_a_scaled_image_sees_the_same_points(name):
    camera = CAMERAS[name]
    uv, points = world_points(camera)
    other = camera.scaled((camera.size[0] // 2, camera.size[1] * 3))
    expected = (uv + 0.5) * [other.size[0] / camera.size[0], other.size[1] / camera.size[1]] - 0.5
    np.testing.assert_allclose(other.project(points), expected, atol=1e-7)


@pytest.mark.parametrize("name", CAMERAS)
def test_a_cropped_image_sees_the_same_points(name):
    camera = CAMERAS[name]
    uv, points = world_points(camera)
    other = camera.cropped(33, -7, 500, 300)
    assert other.size == (500, 300)
    np.testing.assert_allclose(other.project(points), uv - [33, -7], atol=1e-7)


@pytest.mark.parametrize("k", [-1, 0, 1, 2, 3, 5])
@pytest.mark.parametrize("name", CAMERAS)
def test_a_turned_image_sees_the_same_points(name, k):
    """np.rot90 of an image that holds pixel numbers says where each pixel goes."""
    camera = CAMERAS[name]
    uv, points = world_points(camera)
    other = camera.rotated90(k)
    w, h = camera.size
    assert other.size == ((w, h) if k % 2 == 0 else (h, w))
    corners = np.arange(6).reshape(2, 3)  # 3 wide, 2 high: numpy's own rule on a small image
    turned = np.rot90(corners, k)
    rows, columns = np.nonzero(corners >= 0)
    moved = [tuple(np.argwhere(turned == corners[r, c])[0]) for r, c in zip(rows, columns)]
    rule = {
        0: lambda u, v, w, h: (u, v),
        1: lambda u, v, w, h: (v, w - 1 - u),
        2: lambda u, v, w, h: (w - 1 - u, h - 1 - v),
        3: lambda u, v, w, h: (h - 1 - v, u),
    }[k % 4]
    assert [(v, u) for u, v in (rule(c, r, 3, 2) for r, c in zip(rows, columns))] == moved
    expected = np.stack(rule(uv[:, 0], uv[:, 1], w, h), -1)
    np.testing.assert_allclose(other.project(points), expected, atol=1e-7)
    assert np.allclose(other.center_world, camera.center_world)


def test_turning_a_doubly_tilted_sensor():
    camera = Camera.from_opencv(K, [*BROWN, 0.04, -0.03], R, T_VEC, (1280, 720), name="t")
    uv, points = world_points(camera)
    np.testing.assert_allclose(camera.rotated90(2).project(points), [1279, 719] - uv, atol=1e-7)
    with pytest.raises(EgoposeError, match="tilted about both axes"):
        camera.rotated90(1)
    with pytest.raises(EgoposeError, match="quarter turns"):
        camera.rotated90(0.5)


def test_fisheye624_turns_by_the_rule_of_its_makers():
    """90 degrees clockwise: f, H-1-cv, cu, k*, (-p1, p0), (-s2, -s3, s0, s1)."""
    camera = CAMERAS["aria"]
    p, q = camera.params, camera.rotated90(-1).params
    assert q[2:4].tolist() == [2879 - p[3], p[2]]
    assert q[4:10].tolist() == p[4:10].tolist()
    assert q[10:].tolist() == [-p[11], p[10], -p[14], -p[15], p[12], p[13]]


def test_aria_frames_are_cropped_and_halved():
    """2880 x 2880 sensor to the 1408 x 1408 video: c' = (c - 32.5) / 2, f' = f / 2."""
    camera = CAMERAS["aria"]
    small = camera.cropped(32, 32, 2816, 2816).scaled((1408, 1408))
    np.testing.assert_allclose(small.params[2:4], (camera.params[2:4] - 32.5) / 2, rtol=1e-14)
    assert small.params[:2].tolist() == (camera.params[:2] / 2).tolist()


def test_moved_and_renamed():
    T = rigid.make_transform(np.eye(3), [1.0, 2.0, 3.0])
    camera = gopro().moved(T)
    assert np.array_equal(camera.T_world_camera, T)
    assert camera.renamed("x").name == "x"
    assert camera.moved(gopro().T_world_camera) == gopro()


# Undistorted images


def test_undistorted_gopro_is_the_published_camera():
    """The balance of 0.8 on the raw calibration gives the focal length that Ego-Exo4D publishes."""
    camera = gopro().undistorted(balance=0.8)
    assert camera.K[0, 0] == pytest.approx(1237.12, abs=0.2)
    assert camera.image_space == "undistorted"
    assert camera.name == "cam01"
    assert np.array_equal(camera.T_world_camera, gopro().T_world_camera)


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("size", [None, (1920, 1080), (1000, 900)])
@pytest.mark.parametrize("fov_scale", [1.0, 1.5])
def test_fisheye_rule_equals_opencv(balance, size, fov_scale):
    K = np.array([[1761.3, 0, 1900.0], [0, 1700.0, 1100.0], [0, 0, 1]])
    camera = Camera.from_opencv(K, GOPRO, np.eye(3), np.zeros(3), (3840, 2160), fisheye=True)
    truth = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
        K, np.array(GOPRO), (3840, 2160), np.eye(3), balance=balance, new_size=size or (3840, 2160), fov_scale=fov_scale
    )
    # OpenCV stops its inverse at 1e-8
    np.testing.assert_allclose(
        camera.undistorted(size, balance=balance, fov_scale=fov_scale).K, truth, rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("size", [None, (640, 400)])
@pytest.mark.parametrize("dist", [BROWN[:5], BROWN[:8], [-0.28, 0.09, 0.001, -0.0007]])
def test_perspective_rule_equals_opencv(alpha, size, dist):
    """OpenCV undistorts in float32 with 5 rounds of its fixed point: 1e-3 of the focal length."""
    camera = Camera.from_opencv(K, dist, np.eye(3), np.zeros(3), (1280, 720))
    truth, _ = cv2.getOptimalNewCameraMatrix(K, np.array(dist), (1280, 720), alpha, size or (1280, 720))
    np.testing.assert_allclose(camera.undistorted(size, alpha=alpha).K, truth, rtol=2e-3, atol=1e-9)


def test_undistorted_maps_agree_with_opencv():
    """Where OpenCV's remap reads, our two cameras agree: same world point, both pixels."""
    camera = gopro()
    flat = camera.undistorted((960, 540), balance=0.8)
    u, v = np.meshgrid(np.arange(0, 960, 60.0), np.arange(0, 540, 60.0))
    uv = np.stack([u, v], -1)
    mx, my = cv2.fisheye.initUndistortRectifyMap(GOPRO_K, np.array(GOPRO), np.eye(3), flat.K, (960, 540), cv2.CV_32FC1)
    source = np.stack([mx[::60, ::60], my[::60, ::60]], -1)
    origin, rays = flat.rays_world(uv)
    np.testing.assert_allclose(camera.project(origin + rays), source, atol=1e-3)  # OpenCV's maps are float32


def test_undistorted_to_a_given_matrix_and_refusals():
    flat = CAMERAS["aria"].undistorted((512, 512), K=[[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]])
    assert flat.params.tolist() == [150, 150, 255.5, 255.5]
    assert flat.size == (512, 512)
    assert CAMERAS["pinhole"].undistorted((640, 360)).K[0, 0] == 455.5
    with pytest.raises(EgoposeError, match="outside the valid range of the fisheye624 model"):
        Camera.fisheye624(ARIA, (2880, 2880), max_angle=0.6).undistorted()
    with pytest.raises(EgoposeError, match="outside the valid range of the brown_conrady model"):
        Camera.from_opencv(K, [-0.9, 0, 0, 0], np.eye(3), np.zeros(3), (1280, 720)).undistorted()
    for bad in ({"balance": 1.5}, {"alpha": -1.0}, {"fov_scale": 0.0}, {"K": np.eye(2)}):
        with pytest.raises(EgoposeError):
            gopro().undistorted(**bad)


def test_aria_mask_is_a_disc():
    """With the 1.0 rad of the RGB camera, the 512 px image of f 150 is filled within 150 tan 1 = 233.6 px."""
    camera = CAMERAS["aria"].cropped(32, 32, 2816, 2816).scaled((1408, 1408))
    flat = camera.undistorted((512, 512), K=[[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]])
    v, u = np.mgrid[0:512, 0:512].astype(float)
    origin, rays = flat.rays_world(np.stack([u, v], -1))
    seen = np.isfinite(camera.project(origin + rays)).all(-1)
    radius = np.hypot(u - 255.5, v - 255.5)
    assert 150 * math.tan(1.0) == pytest.approx(233.6, abs=0.05)
    assert np.array_equal(seen, radius <= 150 * math.tan(1.0))
    # the sensor ends a few pixels inside that cone: the disc is cut at its four sides and nowhere else
    filled = camera.visible(origin + rays)
    assert not (filled & ~seen).any()
    assert 0 < (seen & ~filled).mean() < 0.015
    assert filled[radius < 215].all()


# Comparison and files


@pytest.mark.parametrize("name", CAMERAS)
def test_files_and_pickles_give_the_equal_camera(name):
    camera = CAMERAS[name]
    again = Camera.from_dict(json.loads(json.dumps(camera.to_dict())))
    assert again == camera
    assert hash(again) == hash(camera)
    camera.project(np.zeros(3))  # fills the cache, which takes no part
    assert pickle.loads(pickle.dumps(camera)) == camera
    assert camera != camera.scaled((10, 10))
    assert camera != camera.renamed("other")
    assert camera != "camera"
    assert camera.model in repr(camera)


def test_from_dict_says_what_is_missing():
    good = gopro().to_dict()
    with pytest.raises(EgoposeError, match=r"file\.json: not a camera.*size"):
        Camera.from_dict({k: v for k, v in good.items() if k != "size"}, "file.json")
    with pytest.raises(EgoposeError, match="not a camera"):
        Camera.from_dict([1, 2], "file.json")  # type: ignore[arg-type]
    with pytest.raises(EgoposeError, match=r"3 coefficients|7 parameters"):
        Camera.from_dict({**good, "coefficients": [1, 2, 3]})


def test_importing_cameras_loads_no_compiler():
    code = "import egopose.camera, sys; egopose.camera.Camera.pinhole(9, None, (9, 9)); egopose.camera.Rig; "
    code += "sys.exit(any(m in sys.modules for m in ('numba', 'torch', 'cv2', 'scipy')))"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.integers(0, 3), st.integers(0, 60), st.integers(0, 60), st.floats(0.2, 3.0), st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_chains_of_image_changes_follow_the_pixel(k, x0, y0, factor, seed):
    """Crop, scale and turn in a row: the same world point lands on the pixel moved by hand."""
    camera = CAMERAS["gopro"]
    uv, points = world_points(camera, 20, seed)
    w, h = camera.size
    small = camera.cropped(x0, y0, w - 100, h - 100)
    size = (max(1, int(factor * (w - 100))), max(1, int(factor * (h - 100))))
    uv = (uv - [x0, y0] + 0.5) * [size[0] / (w - 100), size[1] / (h - 100)] - 0.5
    turned = small.scaled(size).rotated90(k)
    for i in range(k):
        uv = np.stack([uv[:, 1], size[i % 2] - 1 - uv[:, 0]], -1)
    np.testing.assert_allclose(turned.project(points), uv, atol=1e-6)


@pytest.mark.shared
def test_real_aria_calibration(shared_data):
    """All cameras of a real device: every pixel in the valid disc has a ray that comes back; COLMAP agrees."""
    import pycolmap

    lines = (shared_data / "aria_mps_sample" / "online_calibration_head.jsonl").read_text().splitlines()
    found = 0
    for record in map(json.loads, lines):
        for calibration in record["CameraCalibrations"]:
            size = (2880, 2880) if "rgb" in calibration["Label"] else (640, 480)
            w, xyz = calibration["T_Device_Camera"]["UnitQuaternion"]
            pose = rigid.make_transform(
                rigid.quaternion_to_matrix([*xyz, w]), calibration["T_Device_Camera"]["Translation"]
            )
            values = calibration["Projection"]["Params"]
            camera = Camera.fisheye624(values, size, pose, name=calibration["Label"])
            assert camera.valid_angle > 1.0
            u, v = np.meshgrid(np.linspace(-0.5, size[0] - 0.5, 60), np.linspace(-0.5, size[1] - 0.5, 60))
            uv = np.stack([u, v], -1).reshape(-1, 2)
            rays = camera.unproject(uv)
            fine = np.isfinite(rays).all(-1)
            assert fine.mean() > 0.75
            assert np.abs(camera.project(rays[fine], frame="camera") - uv[fine]).max() < 1e-8
            other = pycolmap.Camera(
                model="RAD_TAN_THIN_PRISM_FISHEYE", width=size[0], height=size[1], params=[values[0], *values]
            )
            assert np.abs(other.img_from_cam(rays[fine]) - uv[fine]).max() < 1e-8
            found += 1
    assert found == 9
