"""What fuzzing found: each case once crashed a reader, filled the memory, or was read as something that it is not."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import egopose
from egopose.config import read_yaml
from egopose.errors import LONGEST_MESSAGE, EgoposeError
from egopose.io.ego_exo4d_annotation_arrays import read_annotation_arrays
from egopose.io.ego_exo4d_files import read_body_file, read_hand_file
from egopose.npz import ALWAYS_BYTES, array_from, map_npy, read_npz
from tests.io_cases import EXAMPLES, annotation, body_pose, ring


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(shape: str, descr: str = "'<f8'") -> bytes:
    """The front of an ``.npy`` file that claims anything."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


# arrays


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header("(999999999999,)") + bytes(8), "8 bytes for shape"),
        (header("(-1,)") + bytes(8), "8 bytes for shape"),
        (header("(4294967296, 4294967296, 16)"), "0 bytes for shape"),
        (header("(1,)", "'|O'") + bytes(8), "type object"),
        (header("(1,)", "'<M8[ns]'") + bytes(8), "type datetime64"),
        (header("(0,)", "'<U0'"), "holds values of type"),
        (header("(1,)", "'<U1'") + b"\xff\xff\xff\x7f", "text that is none"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 5000) + b"1" * 5000, "header cannot be read"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 400) + b"[" * 400, "header cannot be read"),
        (b"\x93NUMPY\x09\x09" + bytes(100), "version"),
        (b"", "header cannot be read"),
    ],
)
def test_arrays_that_lie(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(EgoposeError, match=message) as caught:
        array_from(data, "x.npz: a")
    assert "\n" not in str(caught.value)
    (tmp_path / "x.npy").write_bytes(data)
    if "U" not in message and "text" not in message and "datetime" not in message and "values" not in message:
        with pytest.raises(EgoposeError):
            map_npy(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "value", [np.arange(6.0).reshape(2, 3), np.array(["a", "long"]), np.array(3), np.zeros((0, 4))]
)
def test_arrays_come_back(value: np.ndarray, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=value, b=np.asfortranarray(np.ones((2, 3))))
    found = read_npz(tmp_path / "x.npz")
    np.testing.assert_array_equal(found["a"], value)
    assert found["a"].dtype == value.dtype
    assert found["a"].flags.writeable
    np.testing.assert_array_equal(found["b"], np.ones((2, 3)))


def bomb(path: Path, name: str) -> None:
    """Half a megabyte that unpacks to more than is read from any small file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as stream:
        stream.write(header(f"({(ALWAYS_BYTES + (16 << 20)) // 8},)"))
        for _ in range((ALWAYS_BYTES >> 20) + 16):
            stream.write(bytes(1 << 20))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    import tracemalloc

    from egopose.smpl import read_parameters
    from egopose.train.windows import load_motion

    path = tmp_path / "x.npz"
    bomb(path, "joints.npy")
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    for read in (
        read_npz,
        load_motion,
        lambda p: read_parameters(p, "smplh"),
        lambda p: egopose.load(p, format="native"),
    ):
        with pytest.raises(EgoposeError, match="unpacks to"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_member_longer_than_it_says_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(100))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    place = data.index(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 200)
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(EgoposeError, match="truncated or damaged"):
        read_npz(tmp_path / "x.npz")


def motion(**changes: Any) -> dict[str, np.ndarray]:
    from egopose.skeleton import BODY17

    arrays: dict[str, Any] = {
        "joints": np.zeros((4, 17, 3), np.float32), "joint_names": np.array(BODY17.joints),
        "head_rot": np.tile(np.eye(3), (4, 1, 1)), "head_pos": np.zeros((4, 3)), "clip_ptr": np.array([0, 4]),
        "clip_name": np.array(["c"]), "subject": np.array(["s"]), "tier": np.array(["A"]), "fps": np.array(30.0),
    }  # fmt: skip
    return {**arrays, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"joints": np.zeros((4, 3, 17), np.float32)},
        {"joints": np.zeros((4, 17, 3), np.int64)},
        {"joints": np.full((4, 17, 3), np.inf, np.float32)},
        {"fps": np.array([30.0, 30.0])},
        {"fps": np.array(np.nan)},
        {"clip_ptr": np.array(4)},
        {"clip_ptr": np.array([-4, 4])},
        {"clip_ptr": np.array([0, 2])},
        {"head_rot": np.zeros((4, 3, 3))},
        {"head_rot": np.full((4, 3, 3), np.nan)},
        {"head_rot": np.tile(np.eye(3) * [1, 1, -1], (4, 1, 1))},
        {"head_pos": np.full((4, 3), np.inf)},
        {"clip_name": np.array([3])},
    ],
)
def test_motion_that_does_not_fit_together(changes: dict[str, np.ndarray], tmp_path: Path) -> None:
    from egopose.train.windows import load_motion

    np.savez(tmp_path / "m.npz", **motion())
    assert len(load_motion(tmp_path / "m.npz")) == 1
    np.savez(tmp_path / "m.npz", **motion(**changes))
    with pytest.raises(EgoposeError):
        load_motion(tmp_path / "m.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mocap_framerate": np.array([1.0, 2.0])}, "frame rate is nan"),
        ({"mocap_framerate": np.array(-1.0)}, "frame rate is -1"),
        ({"poses": np.array(["x"])}, "expected numbers"),
        ({"poses": np.zeros(156)}, "poses have shape"),
    ],
)
def test_smpl_parameters(changes: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    from egopose.smpl import read_parameters

    arrays = {"poses": np.zeros((3, 156)), "trans": np.zeros((3, 3)), "mocap_framerate": np.array(120.0)}
    np.savez(tmp_path / "p.npz", **{**arrays, **changes})
    with pytest.raises(EgoposeError, match=message):
        read_parameters(tmp_path / "p.npz", "smplh")


# YAML


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 2024-99-99\n", "not valid YAML"),
        ("a: &a\n  b: *a\n", "inside itself"),
        ("[" * 3000, "nested deeper|nesting depth"),
        ("- " * 3000 + "1", "nested deeper|nesting depth"),
        ("{a: " * 1500, "nested deeper|nesting depth"),
        ("!!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("? [1, 2]\n: 3\n", "not valid YAML"),
        ("<<: 5\n", "not valid YAML"),
    ],
)
def test_yaml_that_is_hostile(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(EgoposeError, match=message) as caught:
        read_yaml(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(EgoposeError):
        egopose.load(tmp_path / "x.yaml", format="opencv")


def test_aliases_that_grow_without_end(tmp_path: Path) -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for last, name in zip("abcdefgh", "bcdefghi"):
        text += f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n"
    (tmp_path / "x.yaml").write_text(text)
    for read in (read_yaml, lambda p: egopose.load(p, format="opencv")):
        with pytest.raises(EgoposeError, match="aliases stand for"):
            read(tmp_path / "x.yaml")


# the two readers of large JSON files agree


def agree(read: Callable[..., Any], path: Path) -> None:
    results = []
    for scanner in (False, True):
        try:
            results.append(read(path, scanner=scanner, cache=False))
        except EgoposeError:
            results.append(None)
    a, b = results
    assert (a is None) == (b is None)
    if isinstance(a, dict):
        for uid in a:
            assert a[uid].defects == b[uid].defects
            np.testing.assert_array_equal(a[uid].xyz, b[uid].xyz)


@pytest.mark.parametrize("value", [{"a": 1}, {}, [1], [1, 2, 3], [], "x", True, None, 1e400, 10**400])
@pytest.mark.parametrize("place", ["3d", "views", "2d", "joint", "joint 2d", "frame", "list"])
def test_both_readers_of_annotations_agree(place: str, value: Any, tmp_path: Path) -> None:
    content = annotation()
    person = content["6"][0]
    if place == "3d":
        person["annotation3D"]["left-wrist"]["y"] = value
    elif place == "views":
        person["annotation3D"]["left-wrist"]["num_views_for_3d"] = value
    elif place == "2d":
        person["annotation2D"]["cam01"]["left-wrist"]["x"] = value
    elif place == "joint 2d":
        person["annotation2D"]["cam01"]["left-wrist"] = value
    elif place == "joint":
        person["annotation3D"]["left-wrist"] = value
    elif place == "frame":
        content["6"] = [value]
    else:
        content["6"] = [[value]]
    (tmp_path / "a.json").write_text(json.dumps(content))
    agree(read_annotation_arrays, tmp_path / "a.json")


@pytest.mark.parametrize("value", [[1.5], [], {}, 3, None, "x", [{}], [[0.0] * 3] * 21])
def test_both_readers_of_hands_and_bodies_agree(value: Any, tmp_path: Path) -> None:
    for name, read in (("ego-exo4d-hand", read_hand_file), ("ego-exo4d-body", read_body_file)):
        path = EXAMPLES[name](tmp_path)
        content = json.loads(path.read_text())
        take = content["u2"]["body"] if "body" in content["u2"] else content["u2"]
        take["6"] = value
        path.write_text(json.dumps(content))
        agree(read, path)


# numbers at the end of their range


@pytest.mark.parametrize("value", ["1e308", "-1e308", "1e200", "1e39", "5e-324"])
@pytest.mark.parametrize(
    "name", ["aria-trajectory", "ego-exo4d-gopro-calibs", "native-rig", "panoptic-json", "anipose-toml"]
)
def test_numbers_at_the_end_of_their_range_warn_of_nothing(name: str, value: str, tmp_path: Path) -> None:
    import re

    path = EXAMPLES[name](tmp_path)
    text = path.read_text()
    hits = list(re.finditer(r"-?\d+\.\d+", text)) or list(re.finditer(r"-?\d+", text))
    for hit in hits[:: max(1, len(hits) // 24)]:
        path.write_text(text[: hit.start()] + value + text[hit.end() :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", egopose.errors.EgoposeWarning)
            with contextlib.suppress(EgoposeError):
                egopose.load(path, format=name)


def test_a_lens_with_impossible_numbers_is_refused() -> None:
    camera = ring()["cam01"].to_dict()
    camera["coefficients"][0] = 1e200
    with pytest.raises(EgoposeError, match="no lens has such a number"):
        egopose.Camera.from_dict(camera)
    camera = ring()["cam01"].to_dict()
    for key, value in (("intrinsics", [10**400, 1, 1, 1]), ("size", [10**9, 2]), ("coefficients", [10**400])):
        with pytest.raises(EgoposeError):
            egopose.Camera.from_dict({**camera, key: value})
    camera["T_world_camera"][0][0] = 10**400
    with pytest.raises(EgoposeError):
        egopose.Camera.from_dict(camera)


def test_error_bars_without_end_are_not_known_and_negative_ones_are_refused() -> None:
    pose = body_pose()
    sigma = np.full(pose.xyz.shape[:2], 0.01, np.float32)
    sigma[0, 0] = np.inf
    covariance = np.tile(np.eye(3, dtype=np.float32), (*sigma.shape, 1, 1))
    covariance[0, 0, 1, 1] = np.inf
    found = pose.replace(sigma=sigma, covariance=covariance)
    assert np.isnan(found.sigma[0, 0])
    assert np.isnan(found.covariance[0, 0, 1, 1])
    sigma[0, 0] = -np.inf
    covariance[0, 0, 1, 1] = -1
    for name, value in (("sigma", sigma), ("covariance", covariance)):
        with pytest.raises(EgoposeError, match=f"a {name} is negative"):
            pose.replace(**{name: value})


def test_a_principal_point_at_the_end_of_its_range(tmp_path: Path) -> None:
    path = EXAMPLES["ego-exo4d-camera-pose"](tmp_path)
    content = json.loads(path.read_text())
    for value in (1e308, 1e39, -1e308):
        content["cam01"]["camera_intrinsics"][0][2] = value
        path.write_text(json.dumps(content))
        with pytest.raises(EgoposeError):
            egopose.load(path)


def test_pixels_beyond_any_image_do_not_decide_what_joints_these_are(tmp_path: Path) -> None:
    path = EXAMPLES["openpose"](tmp_path)
    file = next(path.rglob("*.json"))
    content = json.loads(file.read_text())
    for value in (1e308, -1e200, 1e30):
        content["people"][0]["pose_keypoints_2d"][24] = value
        file.write_text(json.dumps(content))
        assert egopose.load(path).skeleton.name == "openpose_body25"


def test_scores_without_end_choose_no_person(tmp_path: Path) -> None:
    path = EXAMPLES["coco-keypoints"](tmp_path)
    content = json.loads(path.read_text())
    for one, other in ((float("inf"), -float("inf")), (1e308, 1e308)):
        content[0].pop("score", None)
        content[0]["keypoints"][2], content[0]["keypoints"][5] = one, other
        path.write_text(json.dumps(content))
        with contextlib.suppress(EgoposeError):
            assert np.isfinite(egopose.load(path).score).all()


def test_a_head_beyond_the_planets_is_damage() -> None:
    with pytest.raises(EgoposeError, match="at most 1e\\+09 is read"):
        egopose.Trajectory([0.0], [[[1, 0, 0, 1e308], [0, 1, 0, 0], [0, 0, 1, 0]]])


# others


def test_c3d_parameters_of_another_type(tmp_path: Path) -> None:
    path = EXAMPLES["c3d"](tmp_path)
    data = path.read_bytes()
    for name, kinds, message in (
        (b"RATE", (0xFF,), "the rate is nan"),
        (b"LABELS", (1, 2, 4), "holds numbers|damaged"),
    ):
        for kind in kinds:
            at = data.index(name) + len(name) + 2
            path.write_bytes(data[:at] + bytes([kind]) + data[at + 1 :])
            with pytest.raises(EgoposeError, match=message):
                egopose.load(path)


def test_messages_stay_short(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"a" * 500_000: 1}))
    for name in ("ego-exo4d-body", "panoptic-json", "ego-exo4d-camera-pose"):
        with pytest.raises(EgoposeError) as caught:
            egopose.load(tmp_path / "x.json", format=name)
        assert len(str(caught.value)) <= LONGEST_MESSAGE
    assert str(EgoposeError("short")) == "short"


def test_the_kind_of_a_native_file_must_be_text(tmp_path: Path) -> None:
    from egopose.io.native import write_container

    write_container(tmp_path / "x.npz", {"format": ["egopose-pose"], "schema": 1}, {}, compress=False)
    with pytest.raises(EgoposeError, match="holds"):
        egopose.load(tmp_path / "x.npz")


def test_undistorted_cameras_from_a_list(tmp_path: Path) -> None:
    from egopose.ego_exo4d.cameras import read_undistorted

    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(EgoposeError, match="expected an object"):
        read_undistorted(tmp_path / "x.json")


@pytest.mark.parametrize("change", ["short", "shape", "type", "names", "absent", "crc"])
def test_a_kept_copy_that_was_tampered_with_is_made_again(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from egopose.io.columnar_cache import cache_path

    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))
    for name, kind, read in (
        ("ego-exo4d-annotation", "annotation1", read_annotation_arrays),
        ("ego-exo4d-body", "body1", read_body_file),
        ("ego-exo4d-hand", "hand1", read_hand_file),
    ):
        path = EXAMPLES[name](tmp_path)
        read(path, cache=True)
        place = cache_path(path, kind)
        with np.load(place) as archive:
            arrays = dict(archive)
        if change == "short":
            arrays["frames"] = arrays["frames"][:1]
        elif change == "shape":
            arrays["xyz"] = arrays["xyz"].reshape(-1)
        elif change == "type":
            arrays["xyz"] = np.zeros(arrays["xyz"].shape, np.int64)
        elif change == "names":
            key = "joints" if "joints" in arrays else "about"
            arrays[key] = np.frombuffer(b"[1, 2]", np.uint8)
        elif change == "absent":
            del arrays["xyz"]
        np.savez(place, **arrays)
        if change == "crc":
            place.write_bytes(place.read_bytes()[:-30])
        found, wanted = read(path, cache=True), read(path, cache=False)
        for uid in wanted if isinstance(wanted, dict) else (None,):
            a, b = (found, wanted) if uid is None else (found[uid], wanted[uid])
            np.testing.assert_array_equal(a.frames, b.frames)
            np.testing.assert_array_equal(a.xyz, b.xyz)


@pytest.mark.parametrize(
    "changes",
    [
        {"score": np.ones((3, 16), np.float32)}, {"frames": np.array([2, 1, 0])}, {"frames": np.array([0, 1, 1])},
        {"size": np.array([0, 4])}, {"fps": np.array(0.0)}, {"fps": np.array([30.0])}, {"notes": np.array([1])},
        {"frames": np.zeros((0,), np.int64)}, {"skeleton": np.array("nobody")},
    ],
)  # fmt: skip
def test_kept_detections_that_do_not_fit_are_made_again(changes: dict[str, np.ndarray], tmp_path: Path) -> None:
    from egopose.detect.run import _usable

    arrays: dict[str, Any] = {
        "uv_px": np.zeros((3, 17, 2), np.float32), "score": np.ones((3, 17), np.float32), "frames": np.arange(3),
        "fps": 30.0, "size": np.array([64, 48]), "skeleton": "body17", "notes": np.array(["dark"]),
    }  # fmt: skip
    np.savez_compressed(tmp_path / "v.npz", **arrays)
    assert _usable(tmp_path / "v.npz")
    np.savez_compressed(tmp_path / "v.npz", **{**arrays, **changes})
    assert not _usable(tmp_path / "v.npz")


@pytest.mark.parametrize(
    "change", [{"graphs": 3}, {"notes": []}, {"sigma_factor": [1]}, {"config": 5}, {"config": None}]
)
def test_damaged_descriptions_of_exported_networks(change: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from egopose.model import onnx

    (tmp_path / onnx.MANIFEST).write_text(json.dumps({"format": onnx.FORMAT, "version": onnx.VERSION, "graphs": {},
        "notes": {}, "weights_sha256": "", "config": {}, "sigma_factor": [[[1.0] * 3] * 59] * 5,
        **change}))  # fmt: skip
    with pytest.raises(EgoposeError):
        onnx.OnnxEngine(tmp_path)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from egopose.files import sha256_file
    from egopose.model import onnx

    graphs = {}
    for name in onnx.GRAPHS:
        (tmp_path / f"{name}.onnx").write_bytes(b"no network")
        graphs[name] = sha256_file(tmp_path / f"{name}.onnx")
    (tmp_path / onnx.MANIFEST).write_text(json.dumps({"format": onnx.FORMAT, "version": onnx.VERSION, "graphs": graphs,
        "notes": {}, "weights_sha256": "", "config": {}, "sigma_factor": [[[1.0] * 3] * 59] * 5}))  # fmt: skip
    with pytest.raises(EgoposeError, match="not a network"):
        onnx.OnnxEngine(tmp_path)


# the long run of a million inputs


def test_a_network_of_no_heads_is_refused() -> None:
    from egopose.config import convert_config
    from egopose.model.config import ModelConfig

    with pytest.raises(EgoposeError, match="must be positive"):
        convert_config(ModelConfig, {"heads": 0})
    for key in ("decoder_layers", "temporal_layers", "dim", "vit_depth", "ring"):
        with pytest.raises(EgoposeError, match=f"model.{key} is .*at most"):
            convert_config(ModelConfig, {key: 2**62})
    with pytest.raises(EgoposeError, match="encoder_width"):
        convert_config(ModelConfig, {"encoder_width": 1e300})
    with pytest.raises(EgoposeError, match="no text"):
        convert_config(ModelConfig, {"name": "nano", "\ud800": 1})


def test_a_status_that_is_no_number_is_refused() -> None:
    pose = body_pose()
    status = np.full(pose.valid.shape, np.nan)
    with pytest.raises(EgoposeError, match="no whole number"):
        pose.replace(status=status)


@pytest.mark.parametrize("sizes", [[[1280]], [[-1280, 720]], [[0, 720]]])
def test_image_sizes_are_two_positive_numbers(tmp_path: Path, sizes: list[list[int]]) -> None:
    path = tmp_path / "seen.npz"
    seen = egopose.Observations2D(
        egopose.BODY17, ("a",), np.arange(2), np.zeros((1, 2, 17, 2), np.float32), sizes=((1280, 720),)
    )
    egopose.save(seen, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(members["egopose.json"])
    members["egopose.json"] = json.dumps({**meta, "sizes": sizes}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(EgoposeError, match="size"):
        egopose.load(path)


def test_several_arrays_are_not_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", a=np.zeros(3))
    (tmp_path / "images.npz").rename(tmp_path / "images.npy")
    with pytest.raises(EgoposeError, match="several arrays"):
        map_npy(tmp_path / "images.npy")


def test_a_camera_without_name_is_no_camera(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from egopose.ego_exo4d.take import Take

    info = {"capture": {"cameras": [{"is_ego": False}, {"cam_id": "cam01", "is_ego": False}, {"cam_id": 3}]}}
    assert Take._cameras(SimpleNamespace(info=info), False) == ["cam01"]  # type: ignore[arg-type]


def test_numbers_beyond_single_precision_are_none() -> None:
    from egopose.ego_exo4d.index_batch import single

    kept = single(np.array([1.5, 1e300, -1e300, np.nan]))
    np.testing.assert_array_equal(kept, np.float32([1.5, np.nan, np.nan, np.nan]))


def test_a_body_of_text_is_refused(tmp_path: Path) -> None:
    from importlib.resources import files

    from egopose.body import load_body

    with files("egopose").joinpath("assets/body.npz").open("rb") as stream:
        arrays = dict(np.load(stream, allow_pickle=False))
    for key, wrong in (
        ("bones", np.array(["pelvis"])), ("weights", arrays["weights"][:, 0]),
        ("triangles", arrays["triangles"] + 60000), ("parents", arrays["parents"][::-1]),
        ("weights", 0 * arrays["weights"]), ("mark_counts", arrays["mark_counts"] + 1),
        ("vertices", np.nan * arrays["vertices"]),
    ):  # fmt: skip
        np.savez(tmp_path / "body.npz", **{**arrays, key: wrong})
        with pytest.raises(EgoposeError, match=str(tmp_path / "body.npz")):
            load_body(tmp_path / "body.npz")


def test_a_regressor_of_one_axis_is_refused(tmp_path: Path) -> None:
    from egopose import smpl

    keys = (*smpl._KEYS["common"], *smpl._KEYS["smpl"])
    np.savez(tmp_path / "model.npz", **{key: np.zeros(24) for key in keys})
    with pytest.raises(EgoposeError, match="J_regressor has shape"):
        smpl.read_model_file(tmp_path / "model.npz", "smpl")


def test_columns_that_do_not_belong_together_are_refused() -> None:
    from egopose.ego_exo4d.index import _check_columns

    good = {
        "frames": np.arange(3), "xyz": np.zeros((3, 17, 3), np.float32), "views_3d": np.zeros((3, 17), np.int8),
        "uv": np.zeros((6, 17, 2), np.float32), "placement": np.zeros((6, 17), np.uint8),
    }  # fmt: skip
    _check_columns(good, 17, Path("segment"))
    for key, wrong in (
        ("xyz", good["xyz"][:0]),
        ("frames", np.array(["a", "b", "c"])),
        ("placement", np.zeros((1, 1))),
    ):
        with pytest.raises(EgoposeError, match=key):
            _check_columns({**good, key: wrong}, 17, Path("segment"))


def test_a_frame_far_beyond_all_others_is_refused() -> None:
    from egopose.detect.run import _join

    view = {
        "fps": 30.0, "skeleton": "body17", "frames": np.array([0, 2**31 - 1]),
        "uv_px": np.zeros((2, 17, 2), np.float32), "score": np.zeros((2, 17), np.float32),
    }  # fmt: skip
    with pytest.raises(EgoposeError, match="2147483647"):
        _join({"a": view}, "blazepose", {}, [])


@pytest.mark.parametrize(
    "info",
    [
        {"take_uid": "u", "take_name": "../../etc"},
        {"take_uid": "u" * 5000, "take_name": "a"},
        {"take_uid": "u", "take_name": "a", "root_dir": "/etc"},
        {"take_uid": "u", "take_name": "a", "capture": {"capture_name": ".."}},
    ],
)
def test_names_that_lead_out_of_the_dataset(info: dict[str, Any], tmp_path: Path) -> None:
    from egopose.ego_exo4d import EgoExo4D

    (tmp_path / "takes.json").write_text(json.dumps([info]))
    with pytest.raises(EgoposeError, match="is no name"):
        EgoExo4D(tmp_path)


def test_splits_that_are_none(tmp_path: Path) -> None:
    from egopose.ego_exo4d import EgoExo4D

    (tmp_path / "takes.json").write_text(json.dumps([{"take_uid": "u", "take_name": "a"}]))
    (tmp_path / "splits.json").write_text(
        json.dumps({"take_uid_to_split": {"u": "a" * 900}, "take_uid_to_benchmark": {"u": None}})
    )
    take = EgoExo4D(tmp_path)["u"]
    assert take.split is None
    assert take.benchmarks == ()
