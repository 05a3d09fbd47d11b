"""Decoders, the plug-in protocol, weights, and the default nets on a real video where they are at hand."""

from __future__ import annotations

import zipfile
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
    with pytest.raises(EgoposeError, match="no detector is named 'magic'; there are: blazepose, onnx"):
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
    assert set(weights.missing()) == set(weights.FILES)
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
